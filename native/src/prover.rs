//! Proof obligations about policies, for every request and every entity store that a schema admits.
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, RequestEnv, Validator};
use cedar_policy_symcc::err::Error as SymError;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env, ResetMode};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::assume;
use crate::compile::{hex, policy_hash, sha256, unsupported, Compiler, Hash32, Lru};
use crate::diagnostics::{chain, Source};
use crate::errors::{Fail, Res};
use crate::kinds::Kind;
use crate::model::{conforms, render, replay_policy, replay_set, Counterexample, Replay};
use crate::policies::{env_key, parse_policies, parse_schema, validate, EnvKey};
use crate::slicing::Slicer;
use crate::solve::{ensure_loaded, Cvc5Solver, Log};

/// The verdict on one obligation in one request environment.
#[pyclass(frozen, get_all, module = "acgs1_kernel")]
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub kind: String,
    /// Principal type, action uid, resource type.
    pub env: EnvKey,
    /// The policy of `a` that the obligation is about; None for obligations about sets.
    pub policy_id: Option<String>,
    pub policy_id_b: Option<String>,
    /// `proved`, `refuted` or `unknown`.
    pub verdict: String,
    /// Why the verdict is `unknown`.
    pub reason: Option<String>,
    pub counterexample: Option<Counterexample>,
    /// What the concrete evaluator says about `a` and `b` on the counterexample.
    pub replay: BTreeMap<String, Replay>,
    /// The script put to the solver, if asked for and if there was one.
    pub smtlib: Option<String>,
    pub smtlib_sha256: Option<String>,
    /// Decided by simplification, without a solver.
    pub trivial: bool,
    /// The solver refuted the script's Boolean abstraction, which is a weaker statement, and not the script itself.
    pub abstracted: bool,
    pub compile_ms: f64,
    pub solve_ms: f64,
}

#[pymethods]
impl CheckResult {
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let d = PyDict::new(py);
        d.set_item("kind", &self.kind)?;
        d.set_item("env", &self.env)?;
        d.set_item("policy_id", &self.policy_id)?;
        d.set_item("policy_id_b", &self.policy_id_b)?;
        d.set_item("verdict", &self.verdict)?;
        d.set_item("reason", &self.reason)?;
        let cex = self.counterexample.clone().map(|c| Bound::new(py, c)).transpose()?;
        d.set_item("counterexample", cex.map(|c| c.call_method0("to_dict")).transpose()?)?;
        let replay = PyDict::new(py);
        for (side, r) in &self.replay {
            replay.set_item(side, Bound::new(py, r.clone())?.call_method0("to_dict")?)?;
        }
        d.set_item("replay", replay)?;
        d.set_item("smtlib", &self.smtlib)?;
        d.set_item("smtlib_sha256", &self.smtlib_sha256)?;
        d.set_item("trivial", self.trivial)?;
        d.set_item("abstracted", self.abstracted)?;
        d.set_item("compile_ms", self.compile_ms)?;
        d.set_item("solve_ms", self.solve_ms)?;
        Ok(d)
    }

    fn __repr__(&self) -> String {
        format!(
            "CheckResult({} {} {}, {}{}{})",
            self.env.0,
            self.env.1,
            self.env.2,
            self.kind,
            self.policy_id.as_ref().map(|p| format!(" of {p:?}")).unwrap_or_default(),
            format_args!(
                ": {}",
                self.reason.as_ref().map_or_else(|| self.verdict.clone(), |r| format!("{} ({r})", self.verdict))
            )
        )
    }
}

/// Policies remembered as valid; 32 bytes each.
const VALIDATED: usize = 32_768;

/// A policy text, parsed and validated.
struct Text {
    hash: Hash32,
    set: PolicySet,
}

impl Text {
    /// Identity of a set that came out of bounding this text's: the text's own, unless assumptions changed it.
    fn key(&self, set: &PolicySet) -> Option<Hash32> {
        std::ptr::eq(set, &self.set).then_some(self.hash)
    }
}

/// What one obligation is about: the texts' own policies, for replay, and the ones with assumptions, for the proof.
enum Subject<'p> {
    Sets { a: &'p Text, b: Option<&'p Text> },
    Policies { a: &'p Policy, b: Option<&'p Policy> },
}

/// A check without its subject and environment.
struct Question<'q> {
    kind: Kind,
    name: &'q str,
    assume: &'q assume::Assumptions,
    want_model: bool,
    dry: bool,
    keep_script: bool,
}

/// Proves about one schema; safe to share between threads, which then share the cache.
#[pyclass(frozen, module = "acgs1_kernel")]
pub struct Prover {
    envs: Vec<(EnvKey, RequestEnv)>,
    timeout_ms: u64,
    compiler: Compiler,
    texts: Lru<Hash32, Arc<Text>>,
    validator: Arc<Validator>,
    /// Policies that passed strict validation.
    valid: Lru<Hash32, ()>,
}

/// Nothing in the solver ever waits, so a future is ready when it is first polled.
fn ready<F: Future>(future: F) -> Result<F::Output, NoOutcome> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Ok(output),
        std::task::Poll::Pending => Err(NoOutcome::Pending),
    }
}

/// Why a check has no outcome.
enum NoOutcome {
    /// The solver waited for something, which this one never does.
    Pending,
    Symbolic(Box<SymError>),
}

/// Whether the property holds; with a model where it does not and one was asked for.
enum Outcome {
    Holds,
    Fails(Option<Box<Env>>),
}

type Asked = Result<Outcome, NoOutcome>;

fn outcome(found: Result<cedar_policy_symcc::err::Result<Option<Env>>, NoOutcome>) -> Asked {
    match found? {
        Ok(None) => Ok(Outcome::Holds),
        Ok(Some(env)) => Ok(Outcome::Fails(Some(Box::new(env)))),
        Err(e) => Err(NoOutcome::Symbolic(Box::new(e))),
    }
}

fn flag(found: Result<cedar_policy_symcc::err::Result<bool>, NoOutcome>) -> Asked {
    match found? {
        Ok(true) => Ok(Outcome::Holds),
        Ok(false) => Ok(Outcome::Fails(None)),
        Err(e) => Err(NoOutcome::Symbolic(Box::new(e))),
    }
}

/// One of the symbolic compiler's two forms of a check: with a model, or only whether it holds.
macro_rules! ask {
    ($c:expr, $model:expr, $plain:ident, $with:ident, $($arg:expr),+) => {
        if $model { outcome(ready($c.$with($($arg),+))) } else { flag(ready($c.$plain($($arg),+))) }
    };
}

fn ask_sets(
    c: &mut CedarSymCompiler<Cvc5Solver>,
    kind: Kind,
    model: bool,
    a: &CompiledPolicySet,
    b: Option<&CompiledPolicySet>,
) -> Option<Asked> {
    Some(match (kind, b) {
        (Kind::AlwaysAllows, _) => {
            ask!(c, model, check_always_allows_opt, check_always_allows_with_counterexample_opt, a)
        }
        (Kind::AlwaysDenies, _) => {
            ask!(c, model, check_always_denies_opt, check_always_denies_with_counterexample_opt, a)
        }
        (Kind::Implies, Some(b)) => {
            ask!(c, model, check_implies_opt, check_implies_with_counterexample_opt, a, b)
        }
        (Kind::Equivalent, Some(b)) => {
            ask!(c, model, check_equivalent_opt, check_equivalent_with_counterexample_opt, a, b)
        }
        (Kind::Disjoint, Some(b)) => {
            ask!(c, model, check_disjoint_opt, check_disjoint_with_counterexample_opt, a, b)
        }
        _ => return None,
    })
}

fn ask_policies(
    c: &mut CedarSymCompiler<Cvc5Solver>,
    kind: Kind,
    model: bool,
    a: &CompiledPolicy,
    b: Option<&CompiledPolicy>,
) -> Option<Asked> {
    Some(match (kind, b) {
        (Kind::NeverErrors, _) => {
            ask!(c, model, check_never_errors_opt, check_never_errors_with_counterexample_opt, a)
        }
        (Kind::NeverMatches, _) => {
            ask!(c, model, check_never_matches_opt, check_never_matches_with_counterexample_opt, a)
        }
        (Kind::AlwaysMatches, _) => {
            ask!(c, model, check_always_matches_opt, check_always_matches_with_counterexample_opt, a)
        }
        (Kind::MatchesImplies, Some(b)) => {
            ask!(c, model, check_matches_implies_opt, check_matches_implies_with_counterexample_opt, a, b)
        }
        (Kind::MatchesDisjoint, Some(b)) => {
            ask!(c, model, check_matches_disjoint_opt, check_matches_disjoint_with_counterexample_opt, a, b)
        }
        (Kind::MatchesEquivalent, Some(b)) => {
            ask!(c, model, check_matches_equivalent_opt, check_matches_equivalent_with_counterexample_opt, a, b)
        }
        _ => return None,
    })
}

impl Prover {
    fn text(&self, text: &str, name: &str) -> Res<Arc<Text>> {
        let key = sha256(text.as_bytes());
        if let Some(found) = self.texts.get(&key) {
            return Ok(found);
        }
        let source = Source { name, text };
        let parsed = parse_policies(source)?;
        // A policy is valid or not by itself, so only those that were not seen yet are validated.
        let mut fresh = PolicySet::new();
        let mut hashes = Vec::new();
        for policy in parsed.set.policies() {
            let hash = policy_hash(policy);
            if self.valid.get(&hash).is_none() {
                hashes.push(hash);
                fresh.add(policy.clone()).map_err(|e| Fail::Prover(chain(&e)))?;
            }
        }
        // An impossible policy is no error here: that it never matches may be the very thing to prove.
        validate(&self.validator, &fresh, source, false)?;
        for hash in hashes {
            self.valid.put(hash, ());
        }
        let text = Arc::new(Text { hash: key, set: parsed.set });
        self.texts.put(key, text.clone());
        Ok(text)
    }

    fn environments(&self, only: Option<&EnvKey>) -> Res<Vec<(usize, &EnvKey, &RequestEnv)>> {
        let chosen: Vec<_> = self
            .envs
            .iter()
            .enumerate()
            .filter(|(_, (key, _))| only.is_none_or(|o| o == key))
            .map(|(i, (key, env))| (i, key, env))
            .collect();
        match only {
            Some(o) if chosen.is_empty() => Err(Fail::Prover(format!(
                "(`{}`, `{}`, `{}`) is not a request environment of the schema; see `Prover.envs`",
                o.0, o.1, o.2
            ))),
            _ => Ok(chosen),
        }
    }

    /// The asked property of the compiled subject, and the milliseconds of compilation.
    fn attempt(
        &self,
        question: &Question<'_>,
        subject: &Subject<'_>,
        index: usize,
        env: &RequestEnv,
        log: &Log,
    ) -> (f64, Result<Asked, String>) {
        let started = Instant::now();
        let solver = Cvc5Solver::new(self.timeout_ms, question.dry, log.clone());
        let elapsed = |t: Instant| t.elapsed().as_secs_f64() * 1e3;
        let mut c = match CedarSymCompiler::new(solver) {
            Ok(c) => c.with_reset_mode(ResetMode::Comment),
            Err(e) => return (elapsed(started), Err(unsupported(&e))),
        };
        let model = question.want_model;
        match subject {
            Subject::Sets { a, b } => {
                let (kind, left, right) = match question.assume.on_sets(question.kind, &a.set, b.map(|b| &b.set)) {
                    Ok(v) => v,
                    Err(e) => return (elapsed(started), Err(e)),
                };
                let key = |set: &PolicySet| a.key(set).or_else(|| b.and_then(|b| b.key(set)));
                let left = self.compiler.set(&left, key(&left), index, env);
                let right = right.map(|r| self.compiler.set(&r, key(&r), index, env)).transpose();
                let ms = elapsed(started);
                let asked = match (left, right) {
                    (Ok(l), Ok(r)) => ask_sets(&mut c, kind, model, &l, r.as_deref())
                        .ok_or_else(|| "the check needs a second policy set".to_string()),
                    (Err(e), _) | (_, Err(e)) => Err(e),
                };
                (ms, asked)
            }
            Subject::Policies { a, b } => {
                let (kind, left, right) = match question.assume.on_policies(question.kind, a, *b) {
                    Ok(v) => v,
                    Err(e) => return (elapsed(started), Err(e)),
                };
                let left = self.compiler.policy(&left, index, env);
                let right = right.map(|r| self.compiler.policy(&r, index, env)).transpose();
                let ms = elapsed(started);
                let asked = match (left, right) {
                    (Ok(l), Ok(r)) => ask_policies(&mut c, kind, model, &l, r.as_deref())
                        .ok_or_else(|| "the check needs a second policy".to_string()),
                    (Err(e), _) | (_, Err(e)) => Err(e),
                };
                (ms, asked)
            }
        }
    }

    fn one(
        &self,
        question: &Question<'_>,
        subject: &Subject<'_>,
        index: usize,
        key: &EnvKey,
        env: &RequestEnv,
    ) -> CheckResult {
        let log: Log = Arc::new(Mutex::new(Vec::new()));
        let (compile_ms, asked) = self.attempt(question, subject, index, env, &log);
        let queries = log.lock().map(|mut l| std::mem::take(&mut *l)).unwrap_or_default();
        let (policy_id, policy_id_b) = match subject {
            Subject::Sets { .. } => (None, None),
            Subject::Policies { a, b } => (Some(a.id().to_string()), b.map(|b| b.id().to_string())),
        };
        let script =
            (!queries.is_empty()).then(|| queries.iter().map(|q| q.script.as_str()).collect::<Vec<_>>().join("\n"));
        let mut result = CheckResult {
            kind: question.name.to_string(),
            env: key.clone(),
            policy_id,
            policy_id_b,
            verdict: "unknown".into(),
            reason: None,
            counterexample: None,
            replay: BTreeMap::new(),
            smtlib_sha256: script.as_ref().map(|s| hex(&sha256(s.as_bytes()))),
            smtlib: script.filter(|_| question.keep_script),
            trivial: queries.is_empty() && asked.is_ok(),
            abstracted: !queries.is_empty() && queries.iter().all(|q| q.abstracted),
            compile_ms,
            solve_ms: queries.iter().map(|q| q.millis).sum(),
        };
        match asked {
            Err(reason) => result.reason = Some(reason),
            Ok(Err(NoOutcome::Pending)) => result.reason = Some("the solver did not answer".into()),
            Ok(Err(NoOutcome::Symbolic(error))) => {
                result.reason = Some(match *error {
                    SymError::SolverUnknown => queries
                        .iter()
                        .find_map(|q| q.unknown.clone())
                        .unwrap_or_else(|| "the solver gave no reason".into()),
                    SymError::SolverError(e) => format!("solver: {}", chain(&e)),
                    other => unsupported(&other),
                });
            }
            Ok(Ok(Outcome::Holds)) => result.verdict = "proved".into(),
            Ok(Ok(Outcome::Fails(None))) => result.verdict = "refuted".into(),
            Ok(Ok(Outcome::Fails(Some(model)))) => match self.confirm(question, subject, &model, &mut result) {
                Ok(()) => result.verdict = "refuted".into(),
                Err(reason) => result.reason = Some(reason),
            },
        }
        result
    }

    /// A counterexample counts only if the concrete evaluator agrees with it.
    fn confirm(
        &self,
        question: &Question<'_>,
        subject: &Subject<'_>,
        model: &Env,
        result: &mut CheckResult,
    ) -> Result<(), String> {
        result.counterexample = Some(render(model)?);
        let (a, b) = match subject {
            Subject::Sets { a, b } => (replay_set(model, &a.set), b.map(|b| replay_set(model, &b.set))),
            Subject::Policies { a, b } => (replay_policy(model, a), b.map(|b| replay_policy(model, b))),
        };
        let agrees = question.kind.refuted_by(&a, b.as_ref());
        result.replay.insert("a".into(), a);
        if let Some(b) = b {
            result.replay.insert("b".into(), b);
        }
        conforms(model, self.validator.schema())?;
        question.assume.hold_on(model)?;
        if agrees {
            Ok(())
        } else {
            Err("replay contradicts solver".into())
        }
    }

    fn pick<'p>(set: &'p PolicySet, id: &str) -> Res<&'p Policy> {
        set.policy(&PolicyId::new(id)).ok_or_else(|| Fail::Prover(format!("there is no policy `{id}`")))
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method, one to one")]
    fn run(
        &self,
        kind_name: &str,
        a: &str,
        b: Option<&str>,
        env: Option<&EnvKey>,
        policy_id: Option<&str>,
        policy_id_b: Option<&str>,
        assume: &[String],
        flags: (bool, bool, bool),
    ) -> Res<Vec<CheckResult>> {
        let kind = Kind::parse(kind_name)?;
        let left = self.text(a, "a")?;
        let right = b.map(|b| self.text(b, "b")).transpose()?;
        if kind.needs_b() && right.is_none() {
            return Err(Fail::Prover(format!("`{kind_name}` compares two policy sets; `b` is missing")));
        }
        if !kind.needs_b() && !kind.over_pairs() && right.is_some() {
            return Err(Fail::Prover(format!("`{kind_name}` is about one policy set; `b` has no meaning")));
        }
        let assumptions = assume::Assumptions::parse(assume)?;
        let question = Question {
            kind,
            name: kind_name,
            assume: &assumptions,
            want_model: flags.0,
            dry: flags.1,
            keep_script: flags.2,
        };
        let mut subjects = Vec::new();
        if kind.over_sets() {
            subjects.push(Subject::Sets { a: &left, b: right.as_deref() });
        } else {
            let firsts: Vec<&Policy> = match policy_id {
                Some(id) => vec![Self::pick(&left.set, id)?],
                None => sorted(&left.set),
            };
            if kind.over_pairs() {
                let other = right.as_ref().map_or(&left.set, |r| &r.set);
                let seconds: Vec<&Policy> = match policy_id_b {
                    Some(id) => vec![Self::pick(other, id)?],
                    None => sorted(other),
                };
                let all = policy_id.is_none() || policy_id_b.is_none();
                for a in firsts {
                    for b in &seconds {
                        if right.is_none() && a.id() == b.id() && all {
                            continue;
                        }
                        // Unasked pairs: shadowing is between equal effects, a conflict is a permit against a forbid.
                        let sensible = if kind == Kind::MatchesDisjoint {
                            a.effect() == Effect::Permit && b.effect() == Effect::Forbid
                        } else {
                            a.effect() == b.effect()
                        };
                        if sensible || !all {
                            subjects.push(Subject::Policies { a, b: Some(b) });
                        }
                    }
                }
            } else {
                subjects.extend(firsts.into_iter().map(|a| Subject::Policies { a, b: None }));
            }
        }
        let mut out = Vec::new();
        for (index, key, env) in self.environments(env)? {
            for subject in &subjects {
                out.push(self.one(&question, subject, index, key, env));
            }
        }
        Ok(out)
    }
}

fn sorted(set: &PolicySet) -> Vec<&Policy> {
    let mut all: Vec<&Policy> = set.policies().collect();
    all.sort_by(|a, b| a.id().cmp(b.id()));
    all
}

#[pymethods]
impl Prover {
    #[new]
    #[pyo3(signature = (schema, solver_timeout_ms = 5000, cache_size = 1024))]
    fn new(py: Python<'_>, schema: &str, solver_timeout_ms: u64, cache_size: usize) -> PyResult<Self> {
        py.detach(|| -> Res<Self> {
            let validator = parse_schema(Source { name: "schema", text: schema })?;
            let mut envs: Vec<(EnvKey, RequestEnv)> =
                validator.schema().request_envs().map(|env| (env_key(&env), env)).collect();
            // The library yields them in random order.
            envs.sort_by(|a, b| a.0.cmp(&b.0));
            let slicer = Slicer::new(validator.schema())?;
            Ok(Prover {
                compiler: Compiler::new(validator.clone(), slicer, cache_size),
                texts: Lru::new(cache_size),
                validator,
                valid: Lru::new(VALIDATED),
                timeout_ms: solver_timeout_ms,
                envs,
            })
        })
        .map_err(PyErr::from)
    }

    /// The request environments, sorted.
    #[getter]
    fn envs(&self) -> Vec<EnvKey> {
        self.envs.iter().map(|(key, _)| key.clone()).collect()
    }

    /// Compiled policies and policy sets held in the cache.
    #[getter]
    fn cached(&self) -> usize {
        self.compiler.cached()
    }

    #[getter]
    fn solver_timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    #[expect(clippy::too_many_arguments, reason = "a keyword interface")]
    #[pyo3(signature = (kind, a, b = None, *, env = None, policy_id = None, policy_id_b = None, assume = Vec::new(),
                        want_model = true, dry = false, smtlib = false))]
    fn check(
        &self,
        py: Python<'_>,
        kind: &str,
        a: &str,
        b: Option<&str>,
        env: Option<EnvKey>,
        policy_id: Option<&str>,
        policy_id_b: Option<&str>,
        assume: Vec<String>,
        want_model: bool,
        dry: bool,
        smtlib: bool,
    ) -> PyResult<Vec<CheckResult>> {
        if !dry {
            ensure_loaded(py)?;
        }
        let flags = (want_model, dry, smtlib);
        py.detach(|| self.run(kind, a, b, env.as_ref(), policy_id, policy_id_b, &assume, flags)).map_err(PyErr::from)
    }

    #[expect(clippy::too_many_arguments, reason = "a keyword interface")]
    #[pyo3(signature = (kind, a, b = None, *, env, policy_id = None, policy_id_b = None, assume = Vec::new(),
                        want_model = true, dry = false, smtlib = false))]
    fn check_one(
        &self,
        py: Python<'_>,
        kind: &str,
        a: &str,
        b: Option<&str>,
        env: EnvKey,
        policy_id: Option<&str>,
        policy_id_b: Option<&str>,
        assume: Vec<String>,
        want_model: bool,
        dry: bool,
        smtlib: bool,
    ) -> PyResult<CheckResult> {
        let mut all = self.check(py, kind, a, b, Some(env), policy_id, policy_id_b, assume, want_model, dry, smtlib)?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(Fail::Prover("there is no policy to check".into()).into()),
            (Some(_), false) => {
                Err(Fail::Prover("more than one obligation; name the policies with `policy_id`".into()).into())
            }
        }
    }

    fn __repr__(&self) -> String {
        format!("Prover({} request environments, {} ms)", self.envs.len(), self.timeout_ms)
    }
}
