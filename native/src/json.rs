//! From untyped input to Cedar values, directed by the schema.
//!
//! Every attribute is checked against its declared type while it is built, so nothing has to be checked afterwards. An
//! error names the path of the attribute and what was expected there.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{Eid, EntityType, EntityUID, Literal, Name, PartialValue, Value};
use cedar_policy_core::entities::{ContextSchema as _, EntityTypeDescription as _, SchemaType};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::{context_schema_for_action, EntityTypeDescription, ValidatorSchema};
use smol_str::SmolStr;

use crate::raw::Raw;

/// A Cedar type, resolved once when the engine is built.
pub enum Ty {
    Bool,
    Long,
    Str,
    Set(Box<Ty>),
    Record(Fields),
    Entity(EntityType),
    /// Name of the type (`ipaddr`) and of its constructor (`ip`).
    Extension(Name, Name),
}

pub struct Field {
    pub ty: Ty,
    pub required: bool,
}

/// The attributes of a record or an entity; closed: no others are allowed.
#[derive(Default)]
pub struct Fields(BTreeMap<SmolStr, Field>);

pub struct EntityTy {
    pub name: EntityType,
    attrs: Fields,
    tags: Option<Ty>,
    parents: Arc<HashSet<EntityType>>,
    /// The only ids that an enumerated entity type has.
    choices: Option<HashSet<SmolStr>>,
}

/// All types of a schema.
pub struct Types {
    entities: HashMap<String, EntityTy>,
    /// The schema's actions, by type and id; a value may refer to one.
    actions: HashMap<(String, String), EntityUID>,
}

/// Where in the input; rendered only for an error.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn render(&self) -> String {
        match self {
            Path::Root(name) => (*name).to_string(),
            Path::Field(parent, name) => format!("{}.{name}", parent.render()),
            Path::Index(parent, i) => format!("{}[{i}]", parent.render()),
        }
    }
}

/// A path and what is wrong there.
pub struct Misfit {
    pub path: String,
    pub message: String,
}

type Fit<T> = Result<T, Misfit>;

fn misfit<T>(path: &Path<'_>, message: impl Into<String>) -> Fit<T> {
    Err(Misfit { path: path.render(), message: message.into() })
}

fn names(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<String> = names.map(|n| format!("`{}`", n.as_ref())).collect();
    if all.is_empty() {
        "none".into()
    } else {
        all.join(", ")
    }
}

impl Ty {
    fn new(ty: &SchemaType) -> Result<Self, String> {
        Ok(match ty {
            SchemaType::Bool => Ty::Bool,
            SchemaType::Long => Ty::Long,
            SchemaType::String => Ty::Str,
            SchemaType::Set { element_ty } => Ty::Set(Box::new(Ty::new(element_ty)?)),
            SchemaType::EmptySet => return Err("a set without an element type".into()),
            SchemaType::Record { attrs, open_attrs } => {
                if *open_attrs {
                    return Err("an open record".into());
                }
                let mut fields = Fields::default();
                for (name, attr) in attrs {
                    let ty = Ty::new(attr.schema_type())?;
                    fields.0.insert(name.clone(), Field { ty, required: attr.is_required() });
                }
                Ty::Record(fields)
            }
            SchemaType::Entity { ty } => Ty::Entity(ty.clone()),
            SchemaType::Extension { name } => {
                let constructor = match name.to_string().as_str() {
                    "ipaddr" => "ip",
                    "decimal" => "decimal",
                    "datetime" => "datetime",
                    "duration" => "duration",
                    other => return Err(format!("the unknown extension type `{other}`")),
                };
                let constructor = Name::parse_unqualified_name(constructor).map_err(|e| e.to_string())?;
                Ty::Extension(name.clone(), constructor)
            }
        })
    }

    fn describe(&self) -> String {
        match self {
            Ty::Bool => "Bool".into(),
            Ty::Long => "Long".into(),
            Ty::Str => "String".into(),
            Ty::Set(element) => format!("Set<{}>", element.describe()),
            Ty::Record(_) => "a record".into(),
            Ty::Entity(ty) => format!("entity `{ty}`"),
            Ty::Extension(name, _) => name.to_string(),
        }
    }
}

impl Types {
    pub fn new(schema: &ValidatorSchema) -> Result<Self, String> {
        let mut entities = HashMap::new();
        for declared in schema.entity_types() {
            let name = declared.name();
            let description = EntityTypeDescription::new(schema, name)
                .ok_or_else(|| format!("entity type `{name}` is not declared"))?;
            if description.open_attributes() {
                return Err(format!("entity type `{name}` has open attributes; list its attributes"));
            }
            let mut attrs = Fields::default();
            for (attr, ty) in declared.attributes().iter() {
                let schema_ty =
                    description.attr_type(attr).ok_or_else(|| format!("attribute `{attr}` of `{name}` has no type"))?;
                attrs.0.insert(attr.clone(), Field { ty: Ty::new(&schema_ty)?, required: ty.is_required });
            }
            let choices = description
                .enum_entity_eids()
                .map(|eids| eids.iter().map(|e| SmolStr::new(AsRef::<str>::as_ref(e))).collect());
            entities.insert(
                name.to_string(),
                EntityTy {
                    tags: description.tag_type().as_ref().map(Ty::new).transpose()?,
                    parents: description.allowed_parent_types(),
                    name: name.clone(),
                    attrs,
                    choices,
                },
            );
        }
        let actions = schema
            .action_ids()
            .map(|action| {
                let uid = action.name();
                ((uid.entity_type().to_string(), AsRef::<str>::as_ref(uid.eid()).to_string()), uid.clone())
            })
            .collect();
        Ok(Types { entities, actions })
    }

    /// The type of an action's context.
    pub fn context(schema: &ValidatorSchema, action: &EntityUID) -> Result<Fields, String> {
        let context = context_schema_for_action(schema, action)
            .ok_or_else(|| format!("action `{action}` is not in the schema"))?;
        match Ty::new(&context.context_type())? {
            Ty::Record(fields) => Ok(fields),
            other => Err(format!("the context of `{action}` is {}, not a record", other.describe())),
        }
    }

    pub fn uid(&self, type_name: &str, id: &str, path: &Path<'_>) -> Fit<EntityUID> {
        let Some(ty) = self.entities.get(type_name) else {
            if let Some(action) = self.actions.get(&(type_name.to_string(), id.to_string())) {
                return Ok(action.clone());
            }
            let mut known: Vec<&String> = self.entities.keys().collect();
            known.sort();
            return misfit(
                path,
                format!("entity type `{type_name}` is not in the schema; it has {}", names(known.iter())),
            );
        };
        ty.uid(id, path)
    }
}

impl EntityTy {
    fn uid(&self, id: &str, path: &Path<'_>) -> Fit<EntityUID> {
        if let Some(choices) = &self.choices {
            if !choices.contains(id) {
                let mut all: Vec<&SmolStr> = choices.iter().collect();
                all.sort();
                return misfit(
                    path,
                    format!("`{}` has no entity `{id}`; it has {}", self.name, names(all.into_iter())),
                );
            }
        }
        Ok(EntityUID::from_components(self.name.clone(), Eid::new(id), None))
    }
}

/// Splits `Ns::Type::"id"`; the id must be written without escapes, else Cedar's own parser is asked.
pub fn split_uid(text: &str) -> Option<(SmolStr, SmolStr)> {
    if let Some((ty, rest)) = text.split_once("::\"") {
        if let Some(id) = rest.strip_suffix('"') {
            if !id.contains(['\\', '"']) {
                return Some((SmolStr::new(ty), SmolStr::new(id)));
            }
        }
    }
    let uid: EntityUID = text.parse().ok()?;
    Some((SmolStr::new(uid.entity_type().to_string()), SmolStr::new(AsRef::<str>::as_ref(uid.eid()))))
}

/// Builds values; remembers which entities they refer to.
pub struct Builder<'t> {
    types: &'t Types,
    pub refs: Vec<Arc<EntityUID>>,
}

/// An entity as the request gave it: typed, with direct parents only.
pub struct GivenEntity {
    pub uid: EntityUID,
    pub attrs: Vec<(SmolStr, PartialValue)>,
    pub tags: Vec<(SmolStr, PartialValue)>,
    pub parents: HashSet<EntityUID>,
}

impl<'t> Builder<'t> {
    pub fn new(types: &'t Types) -> Self {
        Builder { types, refs: Vec::new() }
    }

    pub fn value(&mut self, ty: &Ty, raw: Raw, path: &Path<'_>) -> Fit<Value> {
        match (ty, raw) {
            (Ty::Bool, Raw::Bool(v)) => Ok(Value::from(v)),
            (Ty::Long, Raw::Int(v)) => Ok(Value::from(v)),
            (Ty::Str, Raw::Str(v)) => Ok(Value::from(v)),
            (Ty::Set(element), Raw::List(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (i, item) in items.into_iter().enumerate() {
                    values.push(self.value(element, item, &Path::Index(path, i))?);
                }
                Ok(Value::set(values, None))
            }
            (Ty::Record(fields), Raw::Map(pairs)) => {
                Ok(Value::record_arc(Arc::new(self.record(fields, pairs, path)?), None))
            }
            (Ty::Entity(expected), raw @ Raw::Map(_)) => {
                let uid = self.entity_uid(&raw, path)?;
                if uid.entity_type() != expected {
                    return misfit(path, format!("expected entity `{expected}`, got entity `{}`", uid.entity_type()));
                }
                let uid = Arc::new(uid);
                self.refs.push(uid.clone());
                Ok(Value::from(Literal::EntityUID(uid)))
            }
            (Ty::Extension(name, constructor), raw) => extension(name, constructor, raw, path),
            (ty, raw) => misfit(path, format!("expected {}, got {}", ty.describe(), raw.kind())),
        }
    }

    pub fn record(
        &mut self,
        fields: &Fields,
        pairs: Vec<(SmolStr, Raw)>,
        path: &Path<'_>,
    ) -> Fit<BTreeMap<SmolStr, Value>> {
        let mut out = BTreeMap::new();
        self.fields(fields, pairs, path, |name, value| {
            out.insert(name, value);
        })?;
        Ok(out)
    }

    fn fields(
        &mut self,
        fields: &Fields,
        pairs: Vec<(SmolStr, Raw)>,
        path: &Path<'_>,
        mut put: impl FnMut(SmolStr, Value),
    ) -> Fit<()> {
        let mut required = fields.0.values().filter(|f| f.required).count();
        let mut present: Vec<SmolStr> = Vec::with_capacity(pairs.len());
        for (name, raw) in pairs {
            let Some((key, field)) = fields.0.get_key_value(&name) else {
                return misfit(
                    &Path::Field(path, &name),
                    format!("unknown attribute; the schema has {}", names(fields.0.keys())),
                );
            };
            let value = self.value(&field.ty, raw, &Path::Field(path, &name))?;
            if field.required {
                required = required.saturating_sub(1);
            }
            present.push(key.clone());
            put(key.clone(), value);
        }
        if required > 0 {
            for (name, field) in &fields.0 {
                if field.required && !present.contains(name) {
                    return misfit(
                        &Path::Field(path, name),
                        format!("missing required attribute of type {}", field.ty.describe()),
                    );
                }
            }
        }
        Ok(())
    }

    /// `{"type": .., "id": ..}`, also wrapped in `{"__entity": ..}`.
    fn entity_uid(&self, raw: &Raw, path: &Path<'_>) -> Fit<EntityUID> {
        let inner = raw.get("__entity").unwrap_or(raw);
        match (inner, inner.get("type"), inner.get("id")) {
            (Raw::Map(pairs), Some(Raw::Str(ty)), Some(Raw::Str(id))) if pairs.len() == 2 => {
                self.types.uid(ty, id, path)
            }
            _ => misfit(path, "expected an entity as {\"type\": \"..\", \"id\": \"..\"}"),
        }
    }

    pub fn entity(&mut self, raw: Raw, path: &Path<'_>) -> Fit<GivenEntity> {
        let Raw::Map(pairs) = raw else {
            return misfit(path, format!("expected an entity object, got {}", raw.kind()));
        };
        let (mut uid, mut attrs, mut tags, mut parents) = (None, Vec::new(), Vec::new(), Vec::new());
        for (key, value) in pairs {
            match (key.as_str(), value) {
                ("uid", value) => uid = Some(value),
                ("attrs", Raw::Map(v)) => attrs = v,
                ("tags", Raw::Map(v)) => tags = v,
                ("parents", Raw::List(v)) => parents = v,
                ("attrs" | "tags" | "parents", other) => {
                    let want = if key == "parents" { "a list" } else { "a record" };
                    let at = Path::Field(path, &key);
                    return misfit(&at, format!("expected {want}, got {}", other.kind()));
                }
                _ => {
                    let at = Path::Field(path, &key);
                    return misfit(&at, "unknown key; an entity has `uid`, `attrs`, `parents`, `tags`");
                }
            }
        }
        let Some(raw_uid) = uid else {
            return misfit(&Path::Field(path, "uid"), "missing");
        };
        let inner = raw_uid.get("__entity").unwrap_or(&raw_uid);
        let (Some(Raw::Str(type_name)), Some(Raw::Str(id))) = (inner.get("type"), inner.get("id")) else {
            return misfit(&Path::Field(path, "uid"), "expected an entity as {\"type\": \"..\", \"id\": \"..\"}");
        };
        let Some(ty) = self.types.entities.get(type_name.as_str()) else {
            return misfit(&Path::Field(path, "uid"), format!("entity type `{type_name}` is not in the schema"));
        };
        let uid = ty.uid(id, &Path::Field(path, "uid"))?;
        // From here on the entity's name says more than its index.
        let name = format!("{}::\"{}\"", type_name, uid.eid().escaped());
        let here = Path::Root(&name);
        let mut typed = Vec::with_capacity(attrs.len());
        self.fields(&ty.attrs, attrs, &here, |k, v| typed.push((k, PartialValue::Value(v))))?;
        let mut typed_tags = Vec::with_capacity(tags.len());
        if !tags.is_empty() {
            let Some(tag_ty) = &ty.tags else {
                return misfit(&Path::Field(&here, "tags"), format!("entity type `{type_name}` has no tags"));
            };
            for (key, raw) in tags {
                let at = Path::Field(&here, "tags");
                let value = self.value(tag_ty, raw, &Path::Field(&at, &key))?;
                typed_tags.push((key, PartialValue::Value(value)));
            }
        }
        let mut direct = HashSet::with_capacity(parents.len());
        for (i, parent) in parents.iter().enumerate() {
            let list = Path::Field(&here, "parents");
            let at = Path::Index(&list, i);
            let parent = self.entity_uid(parent, &at)?;
            if !ty.parents.contains(parent.entity_type()) {
                let mut allowed: Vec<String> = ty.parents.iter().map(ToString::to_string).collect();
                allowed.sort();
                let message = format!(
                    "`{type_name}` cannot be in `{}`; the schema allows {}",
                    parent.entity_type(),
                    names(allowed.iter())
                );
                return misfit(&at, message);
            }
            direct.insert(parent);
        }
        Ok(GivenEntity { uid, attrs: typed, tags: typed_tags, parents: direct })
    }
}

/// An extension value from its text: `"10.0.0.0/8"`, also as `{"__extn": {"fn": "ip", "arg": "10.0.0.0/8"}}`. A datetime may
/// also be an offset from another, as Cedar writes it: `{"fn": "offset", "args": [datetime, duration]}`.
fn extension(name: &Name, constructor: &Name, raw: Raw, path: &Path<'_>) -> Fit<Value> {
    let expected = || {
        let form = format!("{{\"__extn\": {{\"fn\": \"{constructor}\", \"arg\": \"..\"}}}}");
        misfit(path, format!("expected {name} as its text or as {form}"))
    };
    match raw {
        Raw::Str(text) => call(constructor, &[Value::from(text)], name, path),
        Raw::Map(_) => {
            let inner = raw.get("__extn").unwrap_or(&raw);
            match (inner.get("fn"), inner.get("arg"), inner.get("args")) {
                (Some(Raw::Str(function)), Some(Raw::Str(arg)), None) if *function == constructor.to_string() => {
                    call(constructor, &[Value::from(arg.clone())], name, path)
                }
                (Some(Raw::Str(function)), Some(_), None) => {
                    misfit(path, format!("expected `{constructor}`, got `{function}`"))
                }
                (Some(Raw::Str(function)), None, Some(Raw::List(args)))
                    if function == "offset" && constructor.to_string() == "datetime" =>
                {
                    let (Some(start), Some(by), 2) = (args.first(), args.get(1), args.len()) else {
                        return expected();
                    };
                    let start = text_call(start, "datetime", path)?;
                    let by = text_call(by, "duration", path)?;
                    call(&unqualified("offset", path)?, &[start, by], name, path)
                }
                _ => expected(),
            }
        }
        other => misfit(path, format!("expected {name} as its text, got {}", other.kind())),
    }
}

fn unqualified(name: &str, path: &Path<'_>) -> Fit<Name> {
    Name::parse_unqualified_name(name).or_else(|e| misfit(path, e.to_string()))
}

/// `{"__extn": {"fn": function, "arg": text}}`
fn text_call(raw: &Raw, function: &str, path: &Path<'_>) -> Fit<Value> {
    let inner = raw.get("__extn").unwrap_or(raw);
    match (inner.get("fn"), inner.get("arg")) {
        (Some(Raw::Str(f)), Some(Raw::Str(arg))) if f == function => {
            let constructor = unqualified(function, path)?;
            call(&constructor, &[Value::from(arg.clone())], &constructor, path)
        }
        _ => misfit(path, format!("expected a call of `{function}`")),
    }
}

fn call(function: &Name, arguments: &[Value], what: &Name, path: &Path<'_>) -> Fit<Value> {
    let built = Extensions::all_available()
        .func(function)
        .map_err(|e| e.to_string())
        .and_then(|f| f.call(arguments).map_err(|e| e.to_string()));
    match built {
        Ok(PartialValue::Value(v)) => Ok(v),
        Ok(PartialValue::Residual(_)) => misfit(path, format!("expected {what}, got an unknown")),
        Err(e) => misfit(path, format!("not a {what}: {e}")),
    }
}

/// The entities that a value refers to.
pub fn refs_of(value: &PartialValue, out: &mut Vec<EntityUID>) {
    if let PartialValue::Value(v) = value {
        out.extend(v.all_literal_uids());
    }
}
