//! The decision point's engine: one immutable policy set, many decisions.
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision as CedarDecision, Effect, PolicySet, Validator};
use cedar_policy_core::ast::{Context, Entity, EntityUID, EntityUIDEntry, Expr, Literal, Request, SlotEnv, ValueKind};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::ValidatorSchema;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::diagnostics::{chain, Source};
use crate::errors::{Fail, Res};
use crate::json::{split_uid, Builder, Fields, Misfit, Path, Types};
use crate::policies::{parse_policies, parse_schema, validate, Parsed};
use crate::raw::{self, Raw};
use crate::slicing::{ActionIndex, Slicer};
use crate::store::{self, Base};

/// The answer to one request.
#[pyclass(frozen, get_all, eq, module = "acgs1_kernel")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// True only if Cedar says Allow and no policy failed to evaluate.
    pub allowed: bool,
    /// Ids of the policies that determined the answer; empty if none matched or if a failure did.
    pub reasons: Vec<String>,
    /// What failed to evaluate, one message per policy.
    pub errors: Vec<String>,
    /// Ids of the policies that failed to evaluate.
    pub errored: Vec<String>,
    /// Ids of the guards that fired.
    pub guard: Vec<String>,
}

#[pymethods]
impl Decision {
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let d = PyDict::new(py);
        d.set_item("allowed", self.allowed)?;
        d.set_item("reasons", &self.reasons)?;
        d.set_item("errors", &self.errors)?;
        d.set_item("errored", &self.errored)?;
        d.set_item("guard", &self.guard)?;
        Ok(d)
    }

    fn __repr__(&self) -> String {
        format!(
            "Decision(allowed={}, reasons={:?}, errors={:?}, guard={:?})",
            if self.allowed { "True" } else { "False" },
            self.reasons,
            self.errors,
            self.guard
        )
    }
}

/// A policy, ready to evaluate.
struct Rule {
    id: String,
    effect: Effect,
    condition: Expr,
    guard: bool,
}

/// What can matter in one request environment.
struct Slice {
    rules: Vec<Arc<Rule>>,
    /// Entities of the base store that the rules name literally, with all that these refer to.
    named: Vec<Arc<Entity>>,
}

struct Action {
    uid: EntityUID,
    context: Fields,
    /// By principal type and resource type.
    slices: HashMap<String, HashMap<String, Slice>>,
}

/// Built once, then read only; threads may share one.
#[pyclass(frozen, module = "acgs1_kernel")]
pub struct Engine {
    types: Types,
    /// By action type, then id.
    actions: HashMap<String, HashMap<String, Action>>,
    base: Base,
    size: usize,
    /// For `authorize_reference`.
    validator: Arc<Validator>,
    whole: PolicySet,
    guard_ids: HashSet<String>,
}

/// Cedar's own `Extensions` live for the whole process.
fn extensions() -> &'static Extensions<'static> {
    Extensions::all_available()
}

/// The truth of a condition; anything else is a failure to evaluate.
pub fn truth(evaluator: &Evaluator<'_>, condition: &Expr, slots: &SlotEnv) -> Result<bool, String> {
    match evaluator.interpret(condition, slots) {
        Ok(value) => match value.value_kind() {
            ValueKind::Lit(Literal::Bool(b)) => Ok(*b),
            other => Err(format!("expected a Bool, got `{other}`")),
        },
        Err(e) => Err(chain(&e)),
    }
}

fn request_fail(m: Misfit) -> Fail {
    Fail::Request(m.path, m.message)
}

fn entity_fail(m: Misfit) -> Fail {
    Fail::Entity(m.path, m.message)
}

fn check_guards(guards: &Parsed, policies: &Parsed, source: Source<'_>) -> Res<()> {
    let mut findings = Vec::new();
    for info in &guards.infos {
        let (problem, help) = if info.effect != "forbid" {
            ("a guard must be a `forbid` policy", "a guard can only take permission away")
        } else if policies.infos.iter().any(|p| p.id == info.id) {
            ("the id is also the id of a policy", "ids of guards and policies must differ")
        } else {
            continue;
        };
        let mut finding =
            source.at(None, format!("guard `{}`: {problem}", info.id), Some(help.into()), Some(info.id.clone()));
        finding.line = info.line;
        finding.column = info.column;
        finding.end_line = info.line;
        finding.end_column = info.column + info.effect.len();
        finding.snippet = source.text.lines().nth(info.line - 1).unwrap_or_default().to_string();
        findings.push(finding);
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(Fail::Validation(findings))
    }
}

impl Engine {
    fn build(schema_text: &str, policy_text: &str, guard_text: &str, entities: &[u8]) -> Res<Self> {
        let validator = parse_schema(Source { name: "schema", text: schema_text })?;
        let schema = validator.schema();
        let policy_source = Source { name: "policies", text: policy_text };
        let guard_source = Source { name: "guards", text: guard_text };
        let policies = parse_policies(policy_source)?;
        let guards = parse_policies(guard_source)?;
        check_guards(&guards, &policies, guard_source)?;
        validate(&validator, &policies.set, policy_source, true)?;
        validate(&validator, &guards.set, guard_source, true)?;
        let core: &ValidatorSchema = schema.as_ref();
        let types = Types::new(core).map_err(Fail::Other)?;

        let mut whole = policies.set;
        let guard_ids: HashSet<String> = guards.infos.iter().map(|g| g.id.clone()).collect();
        for guard in guards.set.policies() {
            whole.add(guard.clone()).map_err(|e| Fail::Other(chain(&e)))?;
        }
        let given = raw::from_json(entities).map_err(|m| Fail::Entity("entities".into(), m))?;
        let base = Base::new(core, &types, given)?;

        let mut rules: HashMap<String, (Arc<Rule>, Vec<EntityUID>)> = HashMap::new();
        for policy in whole.policies() {
            let inner: &cedar_policy_core::ast::Policy = policy.as_ref();
            let id = policy.id().to_string();
            let rule = Rule {
                effect: policy.effect(),
                condition: inner.condition(),
                guard: guard_ids.contains(&id),
                id: id.clone(),
            };
            let literals = policy.entity_literals().into_iter().map(|u| u.as_ref().clone()).collect();
            rules.insert(id, (Arc::new(rule), literals));
        }
        let slicer = Slicer::new(schema)?;
        let index = ActionIndex::new(&whole);
        let mut actions: HashMap<String, HashMap<String, Action>> = HashMap::new();
        for env in schema.request_envs() {
            let uid: &EntityUID = env.action().as_ref();
            let by_id = actions.entry(uid.entity_type().to_string()).or_default();
            let eid: &str = uid.eid().as_ref();
            if !by_id.contains_key(eid) {
                let context = Types::context(core, uid).map_err(Fail::Other)?;
                by_id.insert(eid.to_string(), Action { uid: uid.clone(), context, slices: HashMap::new() });
            }
            let Some(action) = by_id.get_mut(eid) else { continue };
            let mut slice_rules = Vec::new();
            let mut literals = Vec::new();
            for policy in index.candidates(&slicer, env.action()) {
                if !slicer.can_match(policy, &env) {
                    continue;
                }
                if let Some((rule, named)) = rules.get(&policy.id().to_string()) {
                    slice_rules.push(rule.clone());
                    literals.extend(named.iter().cloned());
                }
            }
            slice_rules.sort_by(|a, b| a.id.cmp(&b.id));
            let named = base.closure(literals.iter());
            action
                .slices
                .entry(env.principal().to_string())
                .or_default()
                .insert(env.resource().to_string(), Slice { rules: slice_rules, named });
        }
        Ok(Engine { types, actions, base, size: whole.num_of_policies(), validator, whole, guard_ids })
    }

    fn action(&self, ty: &str, id: &str) -> Res<&Action> {
        self.actions.get(ty).and_then(|m| m.get(id)).ok_or_else(|| {
            Fail::Request(
                "action".into(),
                format!("`{ty}::\"{id}\"` is not an action of the schema that applies to anything"),
            )
        })
    }

    fn slice<'a>(&'a self, action: &'a Action, principal: &str, resource: &str) -> Res<&'a Slice> {
        action.slices.get(principal).and_then(|m| m.get(resource)).ok_or_else(|| {
            let mut pairs: Vec<String> = action
                .slices
                .iter()
                .flat_map(|(p, m)| m.keys().map(move |r| format!("`{p}` on `{r}`")))
                .collect();
            pairs.sort();
            Fail::Request(
                "action".into(),
                format!(
                    "`{}` does not apply to principal type `{principal}` on resource type `{resource}`; it applies to {}",
                    action.uid,
                    pairs.join(", ")
                ),
            )
        })
    }

    fn request(&self, who: &Who, context: Raw) -> Res<(Request, Vec<Arc<EntityUID>>, &Slice)> {
        let action = self.action(&who.action.0, &who.action.1)?;
        let principal =
            self.types.uid(&who.principal.0, &who.principal.1, &Path::Root("principal")).map_err(request_fail)?;
        let resource =
            self.types.uid(&who.resource.0, &who.resource.1, &Path::Root("resource")).map_err(request_fail)?;
        let slice = self.slice(action, &who.principal.0, &who.resource.0)?;
        let mut builder = Builder::new(&self.types);
        let Raw::Map(pairs) = context else {
            return Err(Fail::Request("context".into(), format!("expected a record, got {}", context.kind())));
        };
        let record = builder.record(&action.context, pairs, &Path::Root("context")).map_err(request_fail)?;
        let request = Request::new_unchecked(
            EntityUIDEntry::known(principal, None),
            EntityUIDEntry::known(action.uid.clone(), None),
            EntityUIDEntry::known(resource, None),
            Some(Context::Value(Arc::new(record))),
        );
        Ok((request, builder.refs, slice))
    }

    /// The store for one request: the base itself if the request brings nothing, else the few entities it needs.
    fn assemble(
        &self,
        request: &Request,
        context_refs: &[Arc<EntityUID>],
        slice: &Slice,
        entities: Raw,
    ) -> Res<Entities> {
        let Raw::List(items) = entities else {
            return Err(Fail::Entity("entities".into(), format!("expected a list, got {}", entities.kind())));
        };
        let mut builder = Builder::new(&self.types);
        let mut given = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            if self.base.is_schema_action(&item) {
                continue;
            }
            let root = Path::Root("entities");
            given.push(builder.entity(item, &Path::Index(&root, i)).map_err(entity_fail)?);
        }
        let roots = [request.principal(), request.action(), request.resource()];
        let roots = roots
            .into_iter()
            .filter_map(|e| e.uid())
            .chain(context_refs.iter().map(Arc::as_ref))
            .chain(builder.refs.iter().map(Arc::as_ref));
        store::assemble(&self.base, given, roots, &slice.named)
    }

    fn evaluate(&self, slice: &Slice, request: Request, entities: &Entities) -> Decision {
        let evaluator = Evaluator::new(request, entities, extensions());
        let slots = SlotEnv::new();
        let (mut permits, mut forbids) = (Vec::new(), Vec::new());
        let (mut errors, mut errored, mut guard) = (Vec::new(), Vec::new(), Vec::new());
        for rule in &slice.rules {
            let matched = truth(&evaluator, &rule.condition, &slots);
            match matched {
                Ok(false) => {}
                Ok(true) => {
                    if rule.guard {
                        guard.push(rule.id.clone());
                    }
                    match rule.effect {
                        Effect::Permit => permits.push(rule.id.clone()),
                        Effect::Forbid => forbids.push(rule.id.clone()),
                    }
                }
                Err(e) => {
                    errors.push(format!("policy `{}`: {e}", rule.id));
                    errored.push(rule.id.clone());
                }
            }
        }
        let (allowed, reasons) = if !forbids.is_empty() {
            (false, forbids)
        } else if !errors.is_empty() {
            // INVARIANT: a policy that cannot be evaluated denies; it might have been the forbid that mattered.
            (false, Vec::new())
        } else {
            (!permits.is_empty(), permits)
        };
        Decision { allowed, reasons, errors, errored, guard }
    }

    fn decide(&self, who: &Who, context: Raw, entities: Option<Raw>) -> Res<Decision> {
        let (request, refs, slice) = self.request(who, context)?;
        match entities {
            None => Ok(self.evaluate(slice, request, &self.base.entities)),
            Some(given) => {
                let store = self.assemble(&request, &refs, slice, given)?;
                Ok(self.evaluate(slice, request, &store))
            }
        }
    }

    /// The same question to Cedar's own authorizer with every policy and every entity; slow.
    fn reference(&self, who: &Who, context: &str, entities: &str) -> Res<Decision> {
        let uid = |pair: &(String, String), what: &str| -> Res<cedar_policy::EntityUid> {
            Ok(cedar_policy::EntityUid::from_type_name_and_id(
                pair.0.parse().map_err(|e: cedar_policy::ParseErrors| Fail::Request(what.into(), chain(&e)))?,
                cedar_policy::EntityId::new(&pair.1),
            ))
        };
        let action = uid(&who.action, "action")?;
        let context = cedar_policy::Context::from_json_str(context, Some((self.validator.schema(), &action)))
            .map_err(|e| Fail::Request("context".into(), chain(&e)))?;
        let request = cedar_policy::Request::new(
            uid(&who.principal, "principal")?,
            action,
            uid(&who.resource, "resource")?,
            context,
            Some(self.validator.schema()),
        )
        .map_err(|e| Fail::Request(String::new(), chain(&e)))?;
        let store = cedar_policy::Entities::from(self.base.entities.clone())
            .add_entities_from_json_str(entities, Some(self.validator.schema()))
            .map_err(|e| Fail::Entity(String::new(), chain(&e)))?;
        let response = Authorizer::new().is_authorized(&request, &self.whole, &store);
        let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        let mut errors: Vec<(String, String)> = response
            .diagnostics()
            .errors()
            .map(|e| match e {
                cedar_policy::AuthorizationError::PolicyEvaluationError(p) => {
                    (p.policy_id().to_string(), format!("policy `{}`: {}", p.policy_id(), chain(p.inner())))
                }
            })
            .collect();
        errors.sort();
        let denied_by_forbid = response.decision() == CedarDecision::Deny;
        let guard = if denied_by_forbid {
            reasons.iter().filter(|r| self.guard_ids.contains(*r)).cloned().collect()
        } else {
            Vec::new()
        };
        if !errors.is_empty() && response.decision() == CedarDecision::Allow {
            reasons.clear();
        }
        Ok(Decision {
            allowed: response.decision() == CedarDecision::Allow && errors.is_empty(),
            reasons,
            errored: errors.iter().map(|(id, _)| id.clone()).collect(),
            errors: errors.into_iter().map(|(_, m)| m).collect(),
            guard,
        })
    }
}

/// Type and id of the three entities of a request.
struct Who {
    principal: (String, String),
    action: (String, String),
    resource: (String, String),
}

impl Who {
    fn new(principal: &Bound<'_, PyAny>, action: &Bound<'_, PyAny>, resource: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Who {
            principal: uid_parts(principal, "principal")?,
            action: uid_parts(action, "action")?,
            resource: uid_parts(resource, "resource")?,
        })
    }
}

fn uid_parts(value: &Bound<'_, PyAny>, what: &str) -> PyResult<(String, String)> {
    if let Ok(pair) = value.cast::<PyTuple>() {
        if pair.len() == 2 {
            if let (Ok(ty), Ok(id)) = (pair.get_item(0)?.cast::<PyString>(), pair.get_item(1)?.cast::<PyString>()) {
                return Ok((ty.to_str()?.to_string(), id.to_str()?.to_string()));
            }
        }
    }
    if let Ok(text) = value.cast::<PyString>() {
        if let Some((ty, id)) = split_uid(text.to_str()?) {
            return Ok((ty.to_string(), id.to_string()));
        }
    }
    Err(Fail::Request(what.into(), "expected a pair (type, id) or a text such as `Type::\"id\"`".into()).into())
}

fn raw_or_empty(value: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<Raw>> {
    match value {
        None => Ok(None),
        Some(v) if v.is_none() => Ok(None),
        Some(v) => match raw::from_python(v)? {
            Ok(raw) => Ok(Some(raw)),
            Err(m) if what == "context" => Err(Fail::Request(what.into(), m).into()),
            Err(m) => Err(Fail::Entity(what.into(), m).into()),
        },
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (schema, policies, guards = "", entities = "[]"))]
    fn new(py: Python<'_>, schema: &str, policies: &str, guards: &str, entities: &str) -> PyResult<Self> {
        py.detach(|| Engine::build(schema, policies, guards, entities.as_bytes())).map_err(PyErr::from)
    }

    /// The GIL is kept: a decision takes microseconds, less than giving it up and taking it back under load.
    #[pyo3(signature = (principal, action, resource, context = None, entities = None))]
    fn authorize(
        &self,
        principal: &Bound<'_, PyAny>,
        action: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
        entities: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let who = Who::new(principal, action, resource)?;
        let context = raw_or_empty(context, "context")?.unwrap_or_else(|| Raw::Map(Vec::new()));
        let entities = raw_or_empty(entities, "entities")?;
        self.decide(&who, context, entities).map_err(PyErr::from)
    }

    /// Cedar's own authorizer over the whole set, through Cedar's own JSON layer; for tests.
    #[pyo3(signature = (principal, action, resource, context = "{}", entities = "[]"))]
    fn authorize_reference(
        &self,
        py: Python<'_>,
        principal: &Bound<'_, PyAny>,
        action: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        context: &str,
        entities: &str,
    ) -> PyResult<Decision> {
        let who = Who::new(principal, action, resource)?;
        py.detach(|| self.reference(&who, context, entities)).map_err(PyErr::from)
    }

    /// The actions that a request can name, as Cedar writes them, sorted.
    fn actions(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.actions.values().flat_map(|m| m.values().map(|a| a.uid.to_string())).collect();
        all.into_iter().collect()
    }

    fn __len__(&self) -> usize {
        self.size
    }

    fn __repr__(&self) -> String {
        format!("Engine({} policies, {} guards)", self.size - self.guard_ids.len(), self.guard_ids.len())
    }
}

/// Cedar types that name nothing of the schema; a plain store.
pub const NO_SCHEMA: Option<&NoEntitiesSchema> = None;
pub const CLOSED: TCComputation = TCComputation::AssumeAlreadyComputed;
