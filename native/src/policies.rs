//! Schema and policy texts: parsing with all findings, identity, validation, conversions.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, ValidationWarning, Validator,
};
use cedar_policy_core::ast;
use miette::Diagnostic as Report;
use pyo3::prelude::*;

use crate::compile::Lru;
use crate::diagnostics::{chain, Diagnostic, Lines, Source};
use crate::errors::{Fail, Res};

/// Largest schema text, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 4 << 20;
/// Largest policy text, in bytes.
pub const MAX_POLICIES_BYTES: usize = 16 << 20;

/// Deepest nesting of brackets in a text.
pub const MAX_NESTING: usize = 100;
/// Most `if`s in one policy, and the deepest expression, where `a || b || c` is two deep.
pub const MAX_DEPTH: usize = 1000;

/// Schemas that were parsed lately, by their text: nearly every call comes with one that was there before. Long ones are not kept.
static SCHEMAS: LazyLock<Lru<String, Arc<Validator>>> = LazyLock::new(|| Lru::new(8));
const MAX_KEPT_SCHEMA_BYTES: usize = 64 << 10;

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

/// A text within its size and depth limits.
pub fn limited(source: Source<'_>, limit: usize) -> Res<()> {
    if source.text.len() > limit {
        let message = format!("the text has {} bytes; the limit is {limit}", source.text.len());
        return Err(Fail::Parse(vec![source.at(None, message, None, None)]));
    }
    match too_deep(source.text) {
        None => Ok(()),
        Some((offset, message)) => Err(Fail::Parse(vec![source.at(Some((offset, offset + 1)), message, None, None)])),
    }
}

/// Where a text nests so deeply that a recursive parser would run out of stack. Strings and comments do not count.
fn too_deep(text: &str) -> Option<(usize, String)> {
    let (mut depth, mut ifs) = (0usize, 0usize);
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if word == "if" {
            ifs += 1;
            if ifs > MAX_DEPTH {
                return Some((offset, format!("more than {MAX_DEPTH} `if` in one policy; split it")));
            }
        }
        word.clear();
        match c {
            '"' => {
                while let Some((_, c)) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => {
                            chars.next();
                        }
                        _ => {}
                    }
                }
            }
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '[' | '{' | '<' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Some((offset, format!("brackets are nested deeper than {MAX_NESTING} levels")));
                }
            }
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            ';' => (depth, ifs) = (0, 0),
            _ => {}
        }
    }
    None
}

/// The most counted expressions on one way from the root to a leaf; without recursion, because it may be deep.
pub fn depth(expression: &ast::Expr, counts: impl Fn(&ast::Expr) -> bool) -> usize {
    use ast::ExprKind as K;
    let mut deepest = 0;
    let mut todo = vec![(expression, 0usize)];
    while let Some((expr, above)) = todo.pop() {
        let level = above + usize::from(counts(expr));
        deepest = deepest.max(level);
        match expr.expr_kind() {
            K::If { test_expr, then_expr, else_expr } => {
                todo.extend([(&**test_expr, level), (&**then_expr, level), (&**else_expr, level)]);
            }
            K::And { left, right } | K::Or { left, right } => todo.extend([(&**left, level), (&**right, level)]),
            K::BinaryApp { arg1, arg2, .. } => todo.extend([(&**arg1, level), (&**arg2, level)]),
            K::UnaryApp { arg, .. } => todo.push((arg, level)),
            K::GetAttr { expr, .. }
            | K::HasAttr { expr, .. }
            | K::Like { expr, .. }
            | K::Is { expr, .. }
            | K::ExtHasAttr { expr, .. } => {
                todo.push((expr, level));
            }
            K::ExtensionFunctionApp { args, .. } => todo.extend(args.iter().map(|a| (a, level))),
            K::Set(items) => todo.extend(items.iter().map(|a| (a, level))),
            K::Record(pairs) => todo.extend(pairs.values().map(|a| (a, level))),
            K::Lit(_) | K::Var(_) | K::Slot(_) | K::Unknown(_) => {}
        }
    }
    deepest
}

/// A schema in Cedar's schema syntax, and its validator.
pub fn parse_schema(source: Source<'_>) -> Res<Arc<Validator>> {
    limited(source, MAX_SCHEMA_BYTES)?;
    let text = source.text.to_string();
    if let Some(known) = SCHEMAS.get(&text) {
        return Ok(known);
    }
    match Schema::from_cedarschema_str(source.text) {
        Ok((schema, _warnings)) => {
            let validator = Arc::new(Validator::new(schema));
            if text.len() <= MAX_KEPT_SCHEMA_BYTES {
                SCHEMAS.put(text, validator.clone());
            }
            Ok(validator)
        }
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
    let lines = Lines::new(source.text);
    let mut taken: HashMap<String, usize> = HashMap::new();
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
        let (start, end) = place.unwrap_or((0, 0));
        let (line, column) = lines.position(start);
        if let Some(first) = taken.insert(id.clone(), line) {
            let message = format!("policy id `{id}` is taken by the policy at line {first}");
            findings.push(source.at(place, message, Some("ids must be unique".into()), Some(id)));
            continue;
        }
        if inner.non_scope_constraints().is_some_and(|c| depth(c, |_| true) > MAX_DEPTH) {
            let message = format!("the condition is deeper than {MAX_DEPTH} operators; split the policy");
            findings.push(source.at(place, message, None, Some(id)));
            continue;
        }
        let renamed = policy.new_id(PolicyId::new(&id));
        infos.push(PolicyInfo {
            effect: effect_word(policy.effect()).into(),
            annotations: policy.annotations().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            text: place.and_then(|(a, b)| source.text.get(a..b)).map_or_else(|| policy.to_string(), str::to_string),
            principal: inner.template().principal_constraint().to_string(),
            action: inner.template().action_constraint().to_string(),
            resource: inner.template().resource_constraint().to_string(),
            line,
            column,
            end_line: lines.position(end).0,
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
pub fn validate(
    validator: &Validator,
    set: &PolicySet,
    source: Source<'_>,
    impossible_is_error: bool,
) -> Res<Vec<Diagnostic>> {
    let result = validator.validate(set, ValidationMode::Strict);
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
        let validator = parse_schema(Source { name: schema_source, text: schema })?;
        let text = Source { name: source, text: policies };
        validate(&validator, &parse_policies(text)?.set, text, true)
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
        let mut value: serde_json::Value = serde_json::from_str(json).map_err(|e| {
            let before: usize = json.split_inclusive('\n').take(e.line().saturating_sub(1)).map(str::len).sum();
            let offset = before + e.column().saturating_sub(1);
            Fail::Parse(vec![source.at(Some((offset, offset + 1)), e.to_string(), None, None)])
        })?;
        let policies = value
            .get_mut("staticPolicies")
            .and_then(serde_json::Value::as_object_mut)
            .ok_or_else(|| bad("expected an object with the member `staticPolicies`".into()))?;
        for (position, (id, policy)) in policies.iter_mut().enumerate() {
            let policy = policy.as_object_mut().ok_or_else(|| bad(format!("policy `{id}`: expected an object")))?;
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
            let policy =
                set.policy(&PolicyId::new(&id)).ok_or_else(|| bad(format!("policy `{id}` was lost in conversion")))?;
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
        let validator = parse_schema(Source { name: "schema", text: schema })?;
        let mut keys: Vec<EnvKey> = validator.schema().request_envs().map(|e| env_key(&e)).collect();
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
