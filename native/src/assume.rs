//! Assumptions: Cedar conditions that bound a proof. A request counts only if every condition is true for it.
//!
//! They are expressed in Cedar itself, so that the proof needs nothing that the symbolic compiler's own proof does not
//! cover. An assumption that fails to evaluate on a counterexample does not hold there; that never turns a failure into a
//! proof, because inside a policy set such a condition restricts less, not more.
use std::borrow::Cow;

use cedar_policy::{Expression, Policy, PolicyId, PolicySet};
use cedar_policy_symcc::Env;

use crate::diagnostics::{chain, Source};
use crate::errors::{Fail, Res};
use crate::kinds::Kind;
use crate::model::replay_policy;
use crate::policies::{limited, parse_policies};

struct Assumption {
    text: String,
    /// `permit` when the condition holds.
    permit: Policy,
    /// `forbid` unless the condition holds.
    forbid: Policy,
}

pub struct Assumptions(Vec<Assumption>);

/// What to ask instead of the original check, so that the assumptions are part of it.
pub type Bounded<'p, T> = Result<(Kind, Cow<'p, T>, Option<Cow<'p, T>>), String>;

const ID: &str = "assumption";
/// Largest assumption, in bytes.
const MAX_ASSUMPTION_BYTES: usize = 64 << 10;

fn single(text: &str) -> Res<Policy> {
    let parsed = parse_policies(Source { name: "assume", text })?;
    let mut all = parsed.set.policies();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(Fail::Prover("an assumption must be one Cedar condition".into())),
    }
}

impl Assumptions {
    pub fn parse(texts: &[String]) -> Res<Self> {
        let mut out = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let source = Source { name: "assume", text };
            limited(source, MAX_ASSUMPTION_BYTES)?;
            // Parsed alone first, so that the text cannot close the clause that it is put into.
            text.parse::<Expression>().map_err(|e: cedar_policy::ParseErrors| {
                Fail::Parse(source.reports([(&e as &dyn miette::Diagnostic, None)]))
            })?;
            let id = PolicyId::new(format!("{ID} {i}"));
            out.push(Assumption {
                text: text.clone(),
                permit: single(&format!("permit (principal, action, resource) when {{\n{text}\n}};"))?
                    .new_id(id.clone()),
                forbid: single(&format!("forbid (principal, action, resource) unless {{\n{text}\n}};"))?.new_id(id),
            });
        }
        Ok(Assumptions(out))
    }

    /// A policy that matches exactly where all assumptions hold.
    fn as_policy(&self) -> Result<Policy, String> {
        let base = "permit (principal, action, resource);"
            .parse::<Policy>()
            .map_err(|e: cedar_policy::ParseErrors| chain(&e))?;
        self.and(&base.new_id(PolicyId::new(ID)))
    }

    fn as_set(&self) -> Result<PolicySet, String> {
        PolicySet::from_policies([self.as_policy()?]).map_err(|e| chain(&e))
    }

    /// The policy, matching only where all assumptions hold.
    fn and(&self, policy: &Policy) -> Result<Policy, String> {
        let mut json = policy.to_json().map_err(|e| chain(&e))?;
        let mut conditions = Vec::new();
        for assumption in &self.0 {
            let form = assumption.permit.to_json().map_err(|e| chain(&e))?;
            match form.get("conditions").and_then(serde_json::Value::as_array) {
                Some(list) => conditions.extend(list.iter().cloned()),
                None => return Err("an assumption has no condition".into()),
            }
        }
        let own = json
            .get_mut("conditions")
            .and_then(serde_json::Value::as_array_mut)
            .ok_or_else(|| "a policy has no list of conditions".to_string())?;
        conditions.append(own);
        *own = conditions;
        Policy::from_json(Some(policy.id().clone()), json).map_err(|e| chain(&e))
    }

    /// The set, allowing nothing where an assumption is false.
    fn bounded(&self, set: &PolicySet) -> Result<PolicySet, String> {
        let mut out = set.clone();
        for assumption in &self.0 {
            out.add(assumption.forbid.clone()).map_err(|e| chain(&e))?;
        }
        Ok(out)
    }

    pub fn on_sets<'p>(&self, kind: Kind, a: &'p PolicySet, b: Option<&'p PolicySet>) -> Bounded<'p, PolicySet> {
        let (left, right) = (Cow::Borrowed(a), b.map(Cow::Borrowed));
        if self.0.is_empty() {
            return Ok((kind, left, right));
        }
        Ok(match (kind, b) {
            // "denies all that is assumed" is "disjoint from the assumptions".
            (Kind::AlwaysDenies, _) => (Kind::Disjoint, left, Some(Cow::Owned(self.as_set()?))),
            (Kind::AlwaysAllows, _) => (Kind::Implies, Cow::Owned(self.as_set()?), Some(left)),
            (Kind::Equivalent, Some(b)) => (kind, Cow::Owned(self.bounded(a)?), Some(Cow::Owned(self.bounded(b)?))),
            _ => (kind, Cow::Owned(self.bounded(a)?), right),
        })
    }

    pub fn on_policies<'p>(&self, kind: Kind, a: &'p Policy, b: Option<&'p Policy>) -> Bounded<'p, Policy> {
        let (left, right) = (Cow::Borrowed(a), b.map(Cow::Borrowed));
        if self.0.is_empty() {
            return Ok((kind, left, right));
        }
        Ok(match (kind, b) {
            (Kind::AlwaysMatches, _) => (Kind::MatchesImplies, Cow::Owned(self.as_policy()?), Some(left)),
            (Kind::MatchesEquivalent, Some(b)) => (kind, Cow::Owned(self.and(a)?), Some(Cow::Owned(self.and(b)?))),
            _ => (kind, Cow::Owned(self.and(a)?), right),
        })
    }

    /// Do all assumptions hold on a counterexample, as the concrete evaluator sees it?
    pub fn hold_on(&self, model: &Env) -> Result<(), String> {
        for assumption in &self.0 {
            let replay = replay_policy(model, &assumption.permit);
            if replay.matched != Some(true) {
                let why = replay.errors.first().map_or_else(|| "is false".to_string(), |e| format!("fails: {e}"));
                return Err(format!("on the counterexample the assumption `{}` {why}", assumption.text));
            }
        }
        Ok(())
    }
}
