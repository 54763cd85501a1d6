//! Counterexamples: rendering, and replay in the concrete evaluator.
use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Decision, Entities, Policy, PolicySet, Request, Schema};
use cedar_policy_core::ast::SlotEnv;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_symcc::Env;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::diagnostics::chain;
use crate::engine::truth;

/// A request and the entities around it for which a property fails.
#[pyclass(frozen, get_all, eq, module = "acgs1_kernel")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// `Type::"id"`
    pub principal: String,
    pub action: String,
    pub resource: String,
    /// A JSON object.
    pub context: String,
    /// A JSON list, sorted by uid; the schema's actions are left out.
    pub entities: String,
}

#[pymethods]
impl Counterexample {
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let d = PyDict::new(py);
        d.set_item("principal", &self.principal)?;
        d.set_item("action", &self.action)?;
        d.set_item("resource", &self.resource)?;
        d.set_item("context", &self.context)?;
        d.set_item("entities", &self.entities)?;
        Ok(d)
    }

    fn __repr__(&self) -> String {
        format!(
            "Counterexample({} {} {} context={} entities={})",
            self.principal, self.action, self.resource, self.context, self.entities
        )
    }
}

/// What the concrete evaluator says about one side of a check.
#[pyclass(frozen, get_all, eq, module = "acgs1_kernel")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// For a policy set: does it allow, in Cedar's own semantics (a policy that fails is skipped)?
    pub allowed: Option<bool>,
    /// For a single policy: does it match? A policy that fails does not match.
    pub matched: Option<bool>,
    /// Ids of the determining policies.
    pub reasons: Vec<String>,
    pub errors: Vec<String>,
}

#[pymethods]
impl Replay {
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let d = PyDict::new(py);
        d.set_item("allowed", self.allowed)?;
        d.set_item("matched", self.matched)?;
        d.set_item("reasons", &self.reasons)?;
        d.set_item("errors", &self.errors)?;
        Ok(d)
    }

    fn __repr__(&self) -> String {
        format!(
            "Replay(allowed={:?}, matched={:?}, reasons={:?}, errors={:?})",
            self.allowed, self.matched, self.reasons, self.errors
        )
    }
}

pub fn render(env: &Env) -> Result<Counterexample, String> {
    let request = &env.request;
    let name = |uid: Option<&cedar_policy::EntityUid>, what: &str| {
        uid.map(ToString::to_string).ok_or_else(|| format!("the model has no {what}"))
    };
    let context = match request.context() {
        Some(c) => c.to_json_value().map_err(|e| chain(&e))?.to_string(),
        None => return Err("the model has no context".into()),
    };
    let serde_json::Value::Array(list) = env.entities.to_json_value().map_err(|e| chain(&e))? else {
        return Err("the model's entities are not a list".into());
    };
    let mut sorted: BTreeMap<(String, String), serde_json::Value> = BTreeMap::new();
    for entity in list {
        let part =
            |key: &str| entity.pointer(&format!("/uid/{key}")).and_then(|v| v.as_str()).unwrap_or_default().to_string();
        let key = (part("type"), part("id"));
        if key.0 != "Action" && !key.0.ends_with("::Action") {
            sorted.insert(key, entity);
        }
    }
    Ok(Counterexample {
        principal: name(request.principal(), "principal")?,
        action: name(request.action(), "action")?,
        resource: name(request.resource(), "resource")?,
        context,
        entities: serde_json::Value::Array(sorted.into_values().collect()).to_string(),
    })
}

/// Does the counterexample fit the schema, as the evaluator's own checks see it?
pub fn conforms(env: &Env, schema: &Schema) -> Result<(), String> {
    let request = &env.request;
    let (Some(principal), Some(action), Some(resource), Some(context)) =
        (request.principal(), request.action(), request.resource(), request.context())
    else {
        return Err("the model's request is not complete".into());
    };
    Request::new(principal.clone(), action.clone(), resource.clone(), context.clone(), Some(schema))
        .map_err(|e| format!("the model's request does not fit the schema: {}", chain(&e)))?;
    Entities::from_entities(env.entities.iter().cloned(), Some(schema))
        .map_err(|e| format!("the model's entities do not fit the schema: {}", chain(&e)))?;
    Ok(())
}

pub fn replay_set(env: &Env, set: &PolicySet) -> Replay {
    let response = Authorizer::new().is_authorized(&env.request, set, &env.entities);
    let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let mut errors: Vec<String> = response.diagnostics().errors().map(|e| chain(e)).collect();
    reasons.sort();
    errors.sort();
    Replay { allowed: Some(response.decision() == Decision::Allow), matched: None, reasons, errors }
}

pub fn replay_policy(env: &Env, policy: &Policy) -> Replay {
    let inner: &cedar_policy_core::ast::Policy = policy.as_ref();
    let request: &cedar_policy_core::ast::Request = env.request.as_ref();
    let evaluator = Evaluator::new(request.clone(), env.entities.as_ref(), Extensions::all_available());
    let (matched, errors) = match truth(&evaluator, &inner.condition(), &SlotEnv::new()) {
        Ok(v) => (v, Vec::new()),
        Err(e) => (false, vec![e]),
    };
    let reasons = if matched { vec![policy.id().to_string()] } else { Vec::new() };
    Replay { allowed: None, matched: Some(matched), reasons, errors }
}
