//! Schema and policy texts: parsing with all findings, identity, validation, conversions.
use std::collections::{BTreeMap, HashMap};

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, ValidationWarning, Validator,
};
use cedar_policy_core::ast;
use miette::Diagnostic as Report;
use pyo3::prelude::*;

use crate::diagnostics::{chain, Diagnostic, Source};
use crate::errors::{Fail, Res};

/// Largest schema text, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 4 << 20;
/// Largest policy text, in bytes.
pub const MAX_POLICIES_BYTES: usize = 16 << 20;

/// What one policy says, for people and tools.
#[pyclass(frozen, get_all, module = "acgs1_kernel")]
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    pub id: String,
    /// `permit` or `forbid`
    pub effect: String,
    pub annotations: BTreeMap<String, String>,
    /// The policy's own source text, annotations included.
    pub text: String,
    /// The scope as written, such as `principal is Agent`.
    pub principal: String,
    pub action: String,
    pub resource: String,
    /// 1-based position of the policy's first character.
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
}

#[pymethods]
impl PolicyInfo {
    fn __repr__(&self) -> String {
        format!("PolicyInfo(id={:?}, effect={:?}, line={})", self.id, self.effect, self.line)
    }
}

/// Policies whose ids are final.
pub struct Parsed {
    pub set: PolicySet,
    /// In the order of the text.
    pub infos: Vec<PolicyInfo>,
}

fn limited(source: Source<'_>, limit: usize) -> Res<()> {
    if source.text.len() > limit {
        let message = format!("the text has {} bytes; the limit is {limit}", source.text.len());
        return Err(Fail::Parse(vec![source.at(None, message, None, None)]));
    }
    Ok(())
}

/// A schema in Cedar's schema syntax.
pub fn parse_schema(source: Source<'_>) -> Res<Schema> {
    limited(source, MAX_SCHEMA_BYTES)?;
    match Schema::from_cedarschema_str(source.text) {
        Ok((schema, _warnings)) => Ok(schema),
        Err(error) => Err(Fail::Parse(source.reports([(&error as &dyn Report, None)]))),
    }
}

fn span(loc: Option<&cedar_policy_core::parser::Loc>) -> Option<(usize, usize)> {
    loc.map(|l| (l.start(), l.end()))
}

fn position_in_text(id: &str) -> usize {
    id.strip_prefix("policy").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
}

/// Policies with their ids: the `@id` annotation where there is one, else `policyN` by position (from 0).
/// Templates and ids that occur twice are findings.
pub fn parse_policies(source: Source<'_>) -> Res<Parsed> {
    limited(source, MAX_POLICIES_BYTES)?;
    let raw: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            let errors: cedar_policy::ParseErrors = errors;
            return Err(Fail::Parse(source.reports([(&errors as &dyn Report, None)])));
        }
    };
    let mut findings = Vec::new();
    for template in raw.templates() {
        let inner: &ast::Template = template.as_ref();
        findings.push(source.at(
            span(inner.loc()),
            "this is a template (it has a slot such as `?principal`); only policies can be loaded".into(),
            Some("write the entity in place of the slot, one policy per entity".into()),
            None,
        ));
    }
    let mut policies: Vec<&Policy> = raw.policies().collect();
    policies.sort_by_key(|p| position_in_text(p.id().as_ref()));
    let mut set = PolicySet::new();
    let mut infos: Vec<PolicyInfo> = Vec::with_capacity(policies.len());
    let mut lines: HashMap<String, usize> = HashMap::new();
    for policy in policies {
        let inner: &ast::Policy = policy.as_ref();
        let place = span(inner.loc());
        let id = match policy.annotation("id") {
            Some("") => {
                let message = "`@id` has no value".to_string();
                let help = Some("write `@id(\"some-name\")`".to_string());
                findings.push(source.at(place, message, help, None));
                continue;
            }
            Some(id) => id.to_string(),
            None => policy.id().to_string(),
        };
        let at = source.at(place, String::new(), None, None);
        if let Some(first) = lines.insert(id.clone(), at.line) {
            let message = format!("policy id `{id}` is taken by the policy at line {first}");
            findings.push(source.at(place, message, Some("ids must be unique".into()), Some(id)));
            continue;
        }
        let renamed = policy.new_id(PolicyId::new(&id));
        infos.push(PolicyInfo {
            effect: effect_word(policy.effect()).into(),
            annotations: policy.annotations().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            text: place
                .and_then(|(a, b)| source.text.get(a..b))
                .map_or_else(|| policy.to_string(), str::to_string),
            principal: inner.template().principal_constraint().to_string(),
            action: inner.template().action_constraint().to_string(),
            resource: inner.template().resource_constraint().to_string(),
            line: at.line,
            column: at.column,
            end_line: at.end_line,
            id,
        });
        set.add(renamed).map_err(Fail::other)?;
    }
    if findings.is_empty() {
        Ok(Parsed { set, infos })
    } else {
        findings.sort_by_key(|d| (d.line, d.column));
        Err(Fail::Parse(findings))
    }
}

pub fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

/// Strict validation. Ok: the warnings. A policy that no request environment can match is an error, because a rule that
/// never fires looks like protection and is none.
pub fn validate(schema: &Schema, parsed: &Parsed, source: Source<'_>, impossible_is_error: bool) -> Res<Vec<Diagnostic>> {
    let result = Validator::new(schema.clone()).validate(&parsed.set, ValidationMode::Strict);
    let mut errors: Vec<(&dyn Report, Option<String>)> =
        result.validation_errors().map(|e| (e as &dyn Report, Some(e.policy_id().to_string()))).collect();
    let mut warnings: Vec<(&dyn Report, Option<String>)> = Vec::new();
    for w in result.validation_warnings() {
        let fatal = impossible_is_error
            && matches!(w, ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_));
        let entry = (w as &dyn Report, Some(w.policy_id().to_string()));
        if fatal {
            errors.push(entry);
        } else {
            warnings.push(entry);
        }
    }
    if errors.is_empty() {
        Ok(source.reports(warnings))
    } else {
        Err(Fail::Validation(source.reports(errors)))
    }
}

/// Raises unless the text is a schema.
#[pyfunction]
#[pyo3(signature = (schema, source = "schema"))]
fn check_schema(py: Python<'_>, schema: &str, source: &str) -> PyResult<()> {
    py.detach(|| parse_schema(Source { name: source, text: schema }).map(|_| ())).map_err(PyErr::from)
}

#[pyfunction(name = "parse_policies")]
#[pyo3(signature = (text, source = "policies"))]
fn py_parse_policies(py: Python<'_>, text: &str, source: &str) -> PyResult<Vec<PolicyInfo>> {
    py.detach(|| parse_policies(Source { name: source, text }).map(|p| p.infos)).map_err(PyErr::from)
}

#[pyfunction]
#[pyo3(signature = (schema, policies, source = "policies", schema_source = "schema"))]
fn validate_policies(
    py: Python<'_>,
    schema: &str,
    policies: &str,
    source: &str,
    schema_source: &str,
) -> PyResult<Vec<Diagnostic>> {
    py.detach(|| {
        let schema = parse_schema(Source { name: schema_source, text: schema })?;
        let text = Source { name: source, text: policies };
        validate(&schema, &parse_policies(text)?, text, true)
    })
    .map_err(PyErr::from)
}

#[pyfunction]
fn format_policies(py: Python<'_>, text: &str) -> PyResult<String> {
    py.detach(|| {
        parse_policies(Source { name: "policies", text })?;
        let config = cedar_policy_formatter::Config { line_width: 100, indent_width: 4 };
        cedar_policy_formatter::policies_str_to_pretty(text, &config).map_err(Fail::other)
    })
    .map_err(PyErr::from)
}

#[pyfunction]
fn policies_to_json(py: Python<'_>, text: &str) -> PyResult<String> {
    py.detach(|| -> Res<String> {
        let parsed = parse_policies(Source { name: "policies", text })?;
        Ok(parsed.set.to_json().map_err(|e| Fail::Other(chain(&e)))?.to_string())
    })
    .map_err(PyErr::from)
}

/// Cedar text of policies in Cedar's JSON form. Each policy keeps its id: as `@id`, unless its key is the `policyN` of its
/// position.
#[pyfunction]
fn policies_from_json(py: Python<'_>, json: &str) -> PyResult<String> {
    py.detach(|| -> Res<String> {
        let source = Source { name: "json", text: json };
        let bad = |message: String| Fail::Parse(vec![source.at(None, message, None, None)]);
        let mut value: serde_json::Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        let policies = value
            .get_mut("staticPolicies")
            .and_then(serde_json::Value::as_object_mut)
            .ok_or_else(|| bad("expected an object with the member `staticPolicies`".into()))?;
        for (position, (id, policy)) in policies.iter_mut().enumerate() {
            let policy = policy
                .as_object_mut()
                .ok_or_else(|| bad(format!("policy `{id}`: expected an object")))?;
            let annotations = policy
                .entry("annotations")
                .or_insert_with(|| serde_json::json!({}))
                .as_object_mut()
                .ok_or_else(|| bad(format!("policy `{id}`: expected `annotations` to be an object")))?;
            match annotations.get("id") {
                Some(serde_json::Value::String(s)) if s == id => {}
                Some(other) => {
                    return Err(bad(format!("policy `{id}` has the different `@id` {other}")));
                }
                None if *id == format!("policy{position}") => {}
                None => {
                    annotations.insert("id".into(), serde_json::Value::String(id.clone()));
                }
            }
        }
        let order: Vec<String> = policies.keys().cloned().collect();
        let set = PolicySet::from_json_value(value).map_err(|e| bad(chain(&e)))?;
        if set.num_of_templates() > 0 {
            return Err(bad("templates cannot be loaded; expected static policies only".into()));
        }
        let mut out = String::new();
        for id in order {
            let policy = set
                .policy(&PolicyId::new(&id))
                .ok_or_else(|| bad(format!("policy `{id}` was lost in conversion")))?;
            out.push_str(&policy.to_cedar().ok_or_else(|| bad(format!("policy `{id}` is not static")))?);
            out.push('\n');
        }
        parse_policies(Source { name: "policies", text: &out })?;
        Ok(out)
    })
    .map_err(PyErr::from)
}

#[pyfunction]
fn schema_to_json(py: Python<'_>, schema: &str) -> PyResult<String> {
    py.detach(|| -> Res<String> {
        let source = Source { name: "schema", text: schema };
        parse_schema(source)?;
        let (fragment, _) = SchemaFragment::from_cedarschema_str(schema)
            .map_err(|e| Fail::Parse(source.reports([(&e as &dyn Report, None)])))?;
        fragment.to_json_string().map_err(|e| Fail::Other(chain(&e)))
    })
    .map_err(PyErr::from)
}

#[pyfunction]
fn schema_from_json(py: Python<'_>, json: &str) -> PyResult<String> {
    py.detach(|| -> Res<String> {
        let source = Source { name: "json", text: json };
        let fragment = SchemaFragment::from_json_str(json)
            .map_err(|e| Fail::Parse(source.reports([(&e as &dyn Report, None)])))?;
        let text = fragment.to_cedarschema().map_err(|e| Fail::Other(chain(&e)))?;
        parse_schema(Source { name: "schema", text: &text })?;
        Ok(text)
    })
    .map_err(PyErr::from)
}

/// A request environment in words: principal type, action uid, resource type.
pub type EnvKey = (String, String, String);

pub fn env_key(env: &cedar_policy::RequestEnv) -> EnvKey {
    (env.principal().to_string(), env.action().to_string(), env.resource().to_string())
}

#[pyfunction]
fn request_envs(py: Python<'_>, schema: &str) -> PyResult<Vec<EnvKey>> {
    py.detach(|| -> Res<Vec<EnvKey>> {
        let schema = parse_schema(Source { name: "schema", text: schema })?;
        let mut keys: Vec<EnvKey> = schema.request_envs().map(|e| env_key(&e)).collect();
        keys.sort();
        Ok(keys)
    })
    .map_err(PyErr::from)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Diagnostic>()?;
    m.add_class::<PolicyInfo>()?;
    m.add_function(wrap_pyfunction!(check_schema, m)?)?;
    m.add_function(wrap_pyfunction!(py_parse_policies, m)?)?;
    m.add_function(wrap_pyfunction!(validate_policies, m)?)?;
    m.add_function(wrap_pyfunction!(format_policies, m)?)?;
    m.add_function(wrap_pyfunction!(policies_to_json, m)?)?;
    m.add_function(wrap_pyfunction!(policies_from_json, m)?)?;
    m.add_function(wrap_pyfunction!(schema_to_json, m)?)?;
    m.add_function(wrap_pyfunction!(schema_from_json, m)?)?;
    m.add_function(wrap_pyfunction!(request_envs, m)?)
}
