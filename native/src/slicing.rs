//! Scope slicing: a policy whose scope cannot match a request environment cannot influence a decision in it.
//!
//! A scope is compared by entity *type* and by action only; what depends on the request (which principal, which ancestors)
//! is left to the evaluator. So slicing never changes a decision; tests/property/kernel checks that against the whole set.
use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Entities, EntityUid, Policy, PolicySet, PrincipalConstraint, RequestEnv, ResourceConstraint,
    Schema,
};

use crate::diagnostics::chain;
use crate::errors::{Fail, Res};

pub struct Slicer {
    actions: Entities,
}

impl Slicer {
    pub fn new(schema: &Schema) -> Res<Self> {
        Ok(Slicer { actions: schema.action_entities().map_err(|e| Fail::Other(chain(&e)))? })
    }

    /// False only if no request of this environment can match the policy's scope.
    pub fn can_match(&self, policy: &Policy, env: &RequestEnv) -> bool {
        let principal = env.principal();
        let resource = env.resource();
        let principal_fits = match policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) => uid.type_name() == principal,
            PrincipalConstraint::Is(ty) | PrincipalConstraint::IsIn(ty, _) => &ty == principal,
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        };
        let resource_fits = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => uid.type_name() == resource,
            ResourceConstraint::Is(ty) | ResourceConstraint::IsIn(ty, _) => &ty == resource,
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        };
        principal_fits && resource_fits && self.action_fits(&policy.action_constraint(), env.action())
    }

    fn action_fits(&self, constraint: &ActionConstraint, action: &EntityUid) -> bool {
        match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => uid == action,
            ActionConstraint::In(uids) => {
                uids.iter().any(|uid| uid == action || self.actions.is_ancestor_of(uid, action))
            }
        }
    }

    /// The policies that can matter in one environment.
    pub fn slice(&self, set: &PolicySet, env: &RequestEnv) -> Res<PolicySet> {
        let mut out = PolicySet::new();
        for policy in set.policies().filter(|p| self.can_match(p, env)) {
            out.add(policy.clone()).map_err(|e| Fail::Other(chain(&e)))?;
        }
        Ok(out)
    }
}

/// Index of policies by what their scope says about the action, so that a thousand policies and a thousand actions do not
/// cost a million comparisons.
pub struct ActionIndex<'p> {
    by_action: HashMap<EntityUid, Vec<&'p Policy>>,
    any: Vec<&'p Policy>,
}

impl<'p> ActionIndex<'p> {
    pub fn new(set: &'p PolicySet) -> Self {
        let mut index = ActionIndex { by_action: HashMap::new(), any: Vec::new() };
        for policy in set.policies() {
            match policy.action_constraint() {
                ActionConstraint::Any => index.any.push(policy),
                ActionConstraint::Eq(uid) => index.by_action.entry(uid).or_default().push(policy),
                ActionConstraint::In(uids) => {
                    for uid in uids {
                        index.by_action.entry(uid).or_default().push(policy);
                    }
                }
            }
        }
        index
    }

    /// The policies whose action scope admits the action, each once.
    pub fn candidates(&self, slicer: &Slicer, action: &EntityUid) -> Vec<&'p Policy> {
        let mut out: Vec<&'p Policy> = self.any.clone();
        out.extend(self.by_action.get(action).into_iter().flatten());
        if let Some(ancestors) = slicer.actions.ancestors(action) {
            for ancestor in ancestors {
                out.extend(self.by_action.get(ancestor).into_iter().flatten());
            }
        }
        let mut seen = std::collections::HashSet::new();
        out.retain(|p| seen.insert(p.id().clone()));
        out
    }
}
