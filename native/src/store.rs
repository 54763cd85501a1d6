//! The entity stores: the base store of an engine, and the small one of a request.
//!
//! A request's store is put together from shared parts of the base (reference counts, no copies) and what the request
//! brought. It holds everything an evaluation can reach: the principal, the action, the resource, the entities that the
//! context, the request's entities and the policies refer to, and what these refer to in turn. Ancestors need no entry of
//! their own to be found by `in`: each entity carries all of its ancestors.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{Entity, EntityUID};
use cedar_policy_core::entities::{Entities, Schema as _};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::{CoreSchema, ValidatorSchema};

use crate::diagnostics::chain;
use crate::engine::{CLOSED, NO_SCHEMA};
use crate::errors::{Fail, Res};
use crate::json::{refs_of, Builder, GivenEntity, Path, Types};
use crate::raw::Raw;

pub struct Base {
    /// Everything, for requests that bring nothing of their own.
    pub entities: Entities,
    by_uid: HashMap<EntityUID, Arc<Entity>>,
    /// What each entity's attributes and tags refer to.
    refs: HashMap<EntityUID, Vec<EntityUID>>,
    /// Ancestors that are not in the base themselves: a request may bring them, with ancestors of their own.
    dangling: HashSet<EntityUID>,
    actions: HashSet<(String, String)>,
}

fn fail(uid: &EntityUID, message: &str) -> Fail {
    Fail::Entity(uid.to_string(), message.to_string())
}

impl Base {
    /// The schema's actions and the given entities, typed and transitively closed.
    pub fn new(schema: &ValidatorSchema, types: &Types, given: Raw) -> Res<Self> {
        let Raw::List(items) = given else {
            return Err(Fail::Entity("entities".into(), format!("expected a list, got {}", given.kind())));
        };
        let core = CoreSchema::new(schema);
        let mut base = Base {
            entities: Entities::new(),
            by_uid: HashMap::new(),
            refs: HashMap::new(),
            dangling: HashSet::new(),
            actions: HashSet::new(),
        };
        for action in core.action_entities() {
            let uid = action.uid();
            let eid: &str = uid.eid().as_ref();
            base.actions.insert((uid.entity_type().to_string(), eid.to_string()));
            base.by_uid.insert(uid.clone(), action);
        }
        let mut builder = Builder::new(types);
        let mut typed = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            if base.is_schema_action(&item) {
                continue;
            }
            let root = Path::Root("entities");
            let entity = builder.entity(item, &Path::Index(&root, i)).map_err(|m| Fail::Entity(m.path, m.message))?;
            typed.push(entity);
        }
        let closed = close(&base, typed)?;
        for entity in closed {
            let mut refs = Vec::new();
            for (_, value) in entity.attrs().chain(entity.tags()) {
                refs_of(value, &mut refs);
            }
            base.refs.insert(entity.uid().clone(), refs);
            base.by_uid.insert(entity.uid().clone(), Arc::new(entity));
        }
        for entity in base.by_uid.values() {
            for ancestor in entity.ancestors() {
                if !base.by_uid.contains_key(ancestor) {
                    base.dangling.insert(ancestor.clone());
                }
            }
        }
        base.entities = plain(base.by_uid.values().cloned())?;
        Ok(base)
    }

    /// Is this an entry for one of the schema's actions? They come from the schema, so an entry says nothing new.
    pub fn is_schema_action(&self, item: &Raw) -> bool {
        let Some(uid) = item.get("uid") else { return false };
        let inner = uid.get("__entity").unwrap_or(uid);
        match (inner.get("type"), inner.get("id")) {
            (Some(Raw::Str(ty)), Some(Raw::Str(id))) if ty == "Action" || ty.ends_with("::Action") => {
                self.actions.contains(&(ty.to_string(), id.to_string()))
            }
            _ => false,
        }
    }

    /// The entities of the base among the roots, and all that they refer to.
    pub fn closure<'a>(&'a self, roots: impl Iterator<Item = &'a EntityUID>) -> Vec<Arc<Entity>> {
        let mut seen = HashSet::new();
        let mut todo: Vec<&EntityUID> = roots.collect();
        let mut out = Vec::new();
        while let Some(uid) = todo.pop() {
            if let Some(entity) = self.by_uid.get(uid) {
                if seen.insert(uid) {
                    out.push(entity.clone());
                    todo.extend(self.refs.get(uid).into_iter().flatten());
                }
            }
        }
        out
    }
}

fn plain(entities: impl Iterator<Item = Arc<Entity>>) -> Res<Entities> {
    Entities::new()
        .add_entities(entities, NO_SCHEMA, CLOSED, Extensions::all_available())
        .map_err(|e| Fail::Entity(String::new(), chain(&e)))
}

/// Given entities with all of their ancestors. An entity given twice, and a cycle, are errors.
fn close(base: &Base, given: Vec<GivenEntity>) -> Res<Vec<Entity>> {
    let mut parents: HashMap<&EntityUID, &HashSet<EntityUID>> = HashMap::with_capacity(given.len());
    for entity in &given {
        if parents.insert(&entity.uid, &entity.parents).is_some() {
            return Err(fail(&entity.uid, "given twice"));
        }
    }
    let mut indirect: Vec<HashSet<EntityUID>> = Vec::with_capacity(given.len());
    for entity in &given {
        if entity.parents.is_empty() {
            indirect.push(HashSet::new());
            continue;
        }
        let mut all: HashSet<EntityUID> = HashSet::new();
        let mut todo: Vec<&EntityUID> = entity.parents.iter().collect();
        while let Some(uid) = todo.pop() {
            if uid == &entity.uid {
                return Err(fail(&entity.uid, "is its own ancestor; the hierarchy must have no cycle"));
            }
            if !all.insert(uid.clone()) {
                continue;
            }
            if let Some(direct) = parents.get(uid) {
                todo.extend(direct.iter());
            } else if let Some(known) = base.by_uid.get(uid) {
                todo.extend(known.ancestors());
            }
        }
        for parent in &entity.parents {
            all.remove(parent);
        }
        indirect.push(all);
    }
    Ok(given
        .into_iter()
        .zip(indirect)
        .map(|(e, above)| Entity::new_with_attr_partial_value(e.uid, e.attrs, above, e.parents, e.tags))
        .collect())
}

/// The store of one request.
pub fn assemble<'a>(
    base: &'a Base,
    given: Vec<GivenEntity>,
    roots: impl Iterator<Item = &'a EntityUID>,
    named: &[Arc<Entity>],
) -> Res<Entities> {
    let own: Vec<Entity> = close(base, given)?;
    let mut parts: Vec<Arc<Entity>> = base.closure(roots);
    parts.extend(named.iter().cloned());
    if own.iter().any(|e| base.dangling.contains(e.uid())) {
        let above: HashMap<&EntityUID, &Entity> = own.iter().map(|e| (e.uid(), e)).collect();
        for part in &mut parts {
            let more: Vec<EntityUID> =
                part.ancestors().filter_map(|a| above.get(a)).flat_map(|e| e.ancestors().cloned()).collect();
            if more.iter().any(|a| a == part.uid()) {
                return Err(fail(part.uid(), "is its own ancestor; the hierarchy must have no cycle"));
            }
            if !more.is_empty() {
                let mut wider = Entity::clone(part);
                for ancestor in more {
                    wider.add_indirect_ancestor(ancestor);
                }
                *part = Arc::new(wider);
            }
        }
    }
    for entity in own {
        match base.by_uid.get(entity.uid()) {
            None => parts.push(Arc::new(entity)),
            Some(known) if known.deep_eq(&entity) => {}
            Some(_) => {
                return Err(fail(
                    entity.uid(),
                    "differs from the engine's own entity of this name; a request may add entities, not redefine them",
                ));
            }
        }
    }
    plain(parts.into_iter())
}
