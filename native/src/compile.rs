//! Symbolic compilation per request environment, with a bounded cache.
//!
//! A policy set is sliced by scope first, and the cache is keyed by the slice: changing one policy recompiles only the
//! environments in which it can matter.
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use cedar_policy::{Policy, PolicySet, RequestEnv, Validator};
use cedar_policy_core::ast;
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, SymEnv};
use sha2::{Digest, Sha256};

use crate::diagnostics::chain;
use crate::policies::depth;
use crate::slicing::Slicer;

pub type Hash32 = [u8; 32];

pub fn sha256(text: &[u8]) -> Hash32 {
    Sha256::digest(text).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A map that forgets what was not used for longest once it holds more than its bound.
pub struct Lru<K, V> {
    state: Mutex<State<K, V>>,
    bound: usize,
}

struct State<K, V> {
    clock: u64,
    /// With the clock at the last use.
    entries: HashMap<K, (u64, V)>,
}

impl<K: Eq + Hash, V: Clone> Lru<K, V> {
    pub fn new(bound: usize) -> Self {
        Lru { state: Mutex::new(State { clock: 0, entries: HashMap::new() }), bound: bound.max(1) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        let mut state = self.state.lock().ok()?;
        state.clock += 1;
        let now = state.clock;
        let (used, value) = state.entries.get_mut(key)?;
        *used = now;
        Some(value.clone())
    }

    pub fn put(&self, key: K, value: V) {
        // A poisoned lock only costs the cache.
        let Ok(mut state) = self.state.lock() else { return };
        state.clock += 1;
        let now = state.clock;
        state.entries.insert(key, (now, value));
        if state.entries.len() > self.bound {
            // Drop the older half in one pass, so that the cost per insertion stays constant on average.
            let mut uses: Vec<u64> = state.entries.values().map(|(used, _)| *used).collect();
            uses.sort_unstable();
            if let Some(middle) = uses.get(uses.len() / 2).copied() {
                state.entries.retain(|_, (used, _)| *used >= middle);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.state.lock().map(|state| state.entries.len()).unwrap_or(0)
    }
}

/// Why a policy cannot be compiled in an environment: not in the provable part of Cedar, or not well-typed there.
pub type CompileResult<T> = Result<T, String>;

/// Deepest arithmetic in a provable policy. The symbolic form of `a + b` mentions `a` twice (its value, its overflow), and the
/// library compares terms by structure: each level doubles the time, and no solver limit bounds it.
const MAX_ARITHMETIC: usize = 12;

fn is_arithmetic(expr: &ast::Expr) -> bool {
    match expr.expr_kind() {
        ast::ExprKind::BinaryApp { op, .. } => {
            matches!(op, ast::BinaryOp::Add | ast::BinaryOp::Sub | ast::BinaryOp::Mul)
        }
        ast::ExprKind::UnaryApp { op, .. } => matches!(op, ast::UnaryOp::Neg),
        ast::ExprKind::ExtensionFunctionApp { .. } => true,
        _ => false,
    }
}

fn within_limits<'p>(mut policies: impl Iterator<Item = &'p Policy>) -> CompileResult<()> {
    let found = policies.find_map(|policy| {
        let inner: &ast::Policy = policy.as_ref();
        let deep = inner.non_scope_constraints().map_or(0, |c| depth(c, is_arithmetic));
        (deep > MAX_ARITHMETIC).then(|| (policy.id(), deep))
    });
    match found {
        None => Ok(()),
        Some((id, deep)) => Err(format!(
            "unsupported: the arithmetic of policy `{id}` is nested {deep} deep; the limit for proofs is {MAX_ARITHMETIC}"
        )),
    }
}

pub struct Compiler {
    validator: Arc<Validator>,
    slicer: Slicer,
    environments: Lru<usize, SymEnv>,
    /// By the slice of policies that can matter.
    sets: Lru<(Hash32, usize), CompileResult<Arc<CompiledPolicySet>>>,
    /// By the whole text: the same results, found without slicing again.
    texts: Lru<(Hash32, usize), CompileResult<Arc<CompiledPolicySet>>>,
    policies: Lru<(Hash32, usize), CompileResult<Arc<CompiledPolicy>>>,
}

pub fn policy_hash(policy: &Policy) -> Hash32 {
    let mut hash = Sha256::new();
    hash.update(policy.id().to_string().as_bytes());
    hash.update([0]);
    hash.update(policy.to_string().as_bytes());
    hash.finalize().into()
}

/// Identity of a set: the hash over the hashes of its policies, in order of id.
fn set_hash(set: &PolicySet) -> Hash32 {
    let mut hashes: Vec<Hash32> = set.policies().map(policy_hash).collect();
    hashes.sort_unstable();
    let mut all = Sha256::new();
    for hash in hashes {
        all.update(hash);
    }
    all.finalize().into()
}

impl Compiler {
    pub fn new(validator: Arc<Validator>, slicer: Slicer, bound: usize) -> Self {
        Compiler {
            validator,
            slicer,
            environments: Lru::new(bound),
            sets: Lru::new(bound),
            texts: Lru::new(bound),
            policies: Lru::new(bound),
        }
    }

    pub fn cached(&self) -> usize {
        self.sets.len() + self.policies.len()
    }

    fn symbolic(&self, index: usize, env: &RequestEnv) -> CompileResult<SymEnv> {
        if let Some(found) = self.environments.get(&index) {
            return Ok(found);
        }
        let made = SymEnv::new(self.validator.schema(), env).map_err(|e| unsupported(&e))?;
        self.environments.put(index, made.clone());
        Ok(made)
    }

    /// `text` is the hash of the text that the set is the parse of, if it is one.
    pub fn set(
        &self,
        set: &PolicySet,
        text: Option<Hash32>,
        index: usize,
        env: &RequestEnv,
    ) -> CompileResult<Arc<CompiledPolicySet>> {
        let Some(text) = text else { return self.sliced(set, index, env) };
        if let Some(found) = self.texts.get(&(text, index)) {
            return found;
        }
        let made = self.sliced(set, index, env);
        self.texts.put((text, index), made.clone());
        made
    }

    fn sliced(&self, set: &PolicySet, index: usize, env: &RequestEnv) -> CompileResult<Arc<CompiledPolicySet>> {
        let slice = self.slicer.slice(set, env).map_err(|e| format!("{e:?}"))?;
        let key = (set_hash(&slice), index);
        if let Some(found) = self.sets.get(&key) {
            return found;
        }
        // The environment's own symbolic form, as `CompiledPolicySet::compile` would make it.
        let made = within_limits(slice.policies()).and_then(|()| self.symbolic(index, env)).and_then(|symbolic| {
            CompiledPolicySet::compile_with_custom_symenv(&slice, env, self.validator.schema(), symbolic)
                .map(Arc::new)
                .map_err(|e| unsupported(&e))
        });
        self.sets.put(key, made.clone());
        made
    }

    pub fn policy(&self, policy: &Policy, index: usize, env: &RequestEnv) -> CompileResult<Arc<CompiledPolicy>> {
        let key = (policy_hash(policy), index);
        if let Some(found) = self.policies.get(&key) {
            return found;
        }
        let made =
            within_limits(std::iter::once(policy)).and_then(|()| self.symbolic(index, env)).and_then(|symbolic| {
                CompiledPolicy::compile_with_custom_symenv(policy, env, self.validator.schema(), symbolic)
                    .map(Arc::new)
                    .map_err(|e| unsupported(&e))
            });
        self.policies.put(key, made.clone());
        made
    }
}

/// The reason of a verdict `unknown` for an error of the symbolic compiler.
pub fn unsupported(error: &cedar_policy_symcc::err::Error) -> String {
    use cedar_policy_symcc::err::Error as E;
    let mut message = chain(error);
    if let E::PolicyNotWellTyped { errs } = error {
        for e in errs {
            message.push_str(": ");
            message.push_str(&chain(e));
        }
    }
    format!("unsupported: {message}")
}
