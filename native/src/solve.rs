//! cvc5 through its C API, opened with dlopen out of the PyPI wheel (`cvc5.libs/`).
//!
//! A time limit is soft (`tlimit-per`), and memory is not isolated: run proofs in a process that may be killed. Scripts come
//! from this package's own encoder or from a caller whom the process trusts; SMT-LIB can name files.
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver, SolverError};
use pyo3::prelude::*;

use crate::abstraction::{abstraction, LOGIC};
use crate::decode::{self, Answer};
use crate::errors::{Fail, Res};

type Handle = *mut c_void;

/// The entry points used, of `libcvc5` and `libcvc5parser` 1.4.2 (cvc5/c/cvc5.h, cvc5/c/cvc5_parser.h).
struct Cvc5 {
    term_manager_new: unsafe extern "C" fn() -> Handle,
    term_manager_release: unsafe extern "C" fn(Handle),
    term_manager_delete: unsafe extern "C" fn(Handle),
    solver_new: unsafe extern "C" fn(Handle) -> Handle,
    solver_delete: unsafe extern "C" fn(Handle),
    set_option: unsafe extern "C" fn(Handle, *const c_char, *const c_char),
    parser_new: unsafe extern "C" fn(Handle, Handle) -> Handle,
    parser_release: unsafe extern "C" fn(Handle),
    parser_delete: unsafe extern "C" fn(Handle),
    parser_symbols: unsafe extern "C" fn(Handle) -> Handle,
    parser_set_input: unsafe extern "C" fn(Handle, c_int, *const c_char, *const c_char),
    parser_next_command: unsafe extern "C" fn(Handle, *mut *const c_char) -> Handle,
    command_invoke: unsafe extern "C" fn(Handle, Handle, Handle) -> *const c_char,
    _libraries: (libloading::Library, libloading::Library),
}

static CVC5: OnceLock<Cvc5> = OnceLock::new();

/// Limit of a query about an abstraction; one that is worth asking takes milliseconds.
const ABSTRACTION_MS: u64 = 500;
/// After so many a solver is replaced: its terms live as long as it does.
const ABSTRACTIONS_PER_SOLVER: u32 = 64;

/// `CVC5_INPUT_LANGUAGE_SMT_LIB_2_6`
const SMT_LIB_2_6: c_int = 0;

impl Cvc5 {
    fn open(cvc5: &str, parser: &str) -> Result<Self, libloading::Error> {
        // SAFETY: loading runs the initialisers of the two libraries, which the caller names and trusts. The types of
        // the symbols are those of the header files of the version named above; symbols outlive no library, because the
        // struct owns both.
        unsafe {
            let core = libloading::Library::new(cvc5)?;
            let front = libloading::Library::new(parser)?;
            Ok(Cvc5 {
                term_manager_new: *core.get(b"cvc5_term_manager_new\0")?,
                term_manager_release: *core.get(b"cvc5_term_manager_release\0")?,
                term_manager_delete: *core.get(b"cvc5_term_manager_delete\0")?,
                solver_new: *core.get(b"cvc5_new\0")?,
                solver_delete: *core.get(b"cvc5_delete\0")?,
                set_option: *core.get(b"cvc5_set_option\0")?,
                parser_new: *front.get(b"cvc5_parser_new\0")?,
                parser_release: *front.get(b"cvc5_parser_release\0")?,
                parser_delete: *front.get(b"cvc5_parser_delete\0")?,
                parser_symbols: *front.get(b"cvc5_parser_get_sm\0")?,
                parser_set_input: *front.get(b"cvc5_parser_set_str_input\0")?,
                parser_next_command: *front.get(b"cvc5_parser_next_command\0")?,
                command_invoke: *front.get(b"cvc5_cmd_invoke\0")?,
                _libraries: (core, front),
            })
        }
    }
}

/// One solver with its parser; commands run in the order given.
struct Session<'l> {
    lib: &'l Cvc5,
    terms: Handle,
    solver: Handle,
    parser: Handle,
}

impl<'l> Session<'l> {
    fn new(lib: &'l Cvc5, timeout_ms: u64) -> Result<Self, String> {
        let limit = CString::new(timeout_ms.to_string()).map_err(|e| e.to_string())?;
        // SAFETY: the constructors take the handles made just before; a null symbol manager means "make one"; the
        // strings live across the call, which copies them. `tlimit-per` is an option of this version, so the call does
        // not take the library's abort path.
        unsafe {
            let terms = (lib.term_manager_new)();
            let solver = (lib.solver_new)(terms);
            (lib.set_option)(solver, c"tlimit-per".as_ptr(), limit.as_ptr());
            let parser = (lib.parser_new)(solver, std::ptr::null_mut());
            Ok(Session { lib, terms, solver, parser })
        }
    }

    /// Runs commands; the output is everything they printed.
    fn feed(&mut self, script: &str) -> Result<String, String> {
        let text = CString::new(script).map_err(|_| "the script contains a NUL character".to_string())?;
        let mut out = String::new();
        // SAFETY: `parser` and `solver` are live until drop; `text` outlives the loop that reads it. The parser returns
        // either a message, or a command, or null at the end; strings it returns are valid until the next call and are
        // copied at once.
        unsafe {
            let symbols = (self.lib.parser_symbols)(self.parser);
            (self.lib.parser_set_input)(self.parser, SMT_LIB_2_6, text.as_ptr(), c"script".as_ptr());
            loop {
                let mut message: *const c_char = std::ptr::null();
                let command = (self.lib.parser_next_command)(self.parser, &mut message);
                if !message.is_null() {
                    return Err(CStr::from_ptr(message).to_string_lossy().into_owned());
                }
                if command.is_null() {
                    return Ok(out);
                }
                let printed = (self.lib.command_invoke)(command, self.solver, symbols);
                if !printed.is_null() {
                    out.push_str(&CStr::from_ptr(printed).to_string_lossy());
                }
            }
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: each handle was made by `new` and is deleted once, in the reverse order of creation. Without the two
        // releases the library keeps about 1 MB per query alive.
        unsafe {
            (self.lib.parser_release)(self.parser);
            (self.lib.parser_delete)(self.parser);
            (self.lib.solver_delete)(self.solver);
            (self.lib.term_manager_release)(self.terms);
            (self.lib.term_manager_delete)(self.terms);
        }
    }
}

fn library() -> Result<&'static Cvc5, String> {
    CVC5.get().ok_or_else(|| "cvc5 is not loaded; call `acgs1_kernel.load_cvc5()`".to_string())
}

/// A query that was put to the solver: the script, which ends in `(check-sat)`, and the milliseconds it took.
pub struct Query {
    pub script: String,
    pub millis: f64,
    /// Why the solver did not know.
    pub unknown: Option<String>,
    /// The script's Boolean abstraction is unsatisfiable, and so is the script, which was not asked about itself.
    pub abstracted: bool,
}

pub type Log = Arc<Mutex<Vec<Query>>>;

/// The solver that the symbolic compiler drives.
pub struct Cvc5Solver {
    script: Vec<u8>,
    timeout_ms: u64,
    /// Collect the script, do not solve.
    dry: bool,
    log: Log,
}

impl Cvc5Solver {
    pub fn new(timeout_ms: u64, dry: bool, log: Log) -> Self {
        Cvc5Solver { script: Vec::new(), timeout_ms, dry, log }
    }

    fn ask(&mut self, want_model: bool) -> Result<DecisionWithModel, SolverError> {
        let mut script =
            String::from_utf8(std::mem::take(&mut self.script)).map_err(|e| SolverError::Solver(e.to_string()))?;
        script.push_str("(check-sat)\n");
        let started = Instant::now();
        let abstracted = !self.dry && unsatisfiable_in_abstraction(&script, self.timeout_ms);
        let answer = if self.dry {
            Ok(Answer::Unknown("dry run".into()))
        } else if abstracted {
            Ok(Answer::Unsat)
        } else {
            query(&script, self.timeout_ms, want_model)
        };
        let millis = started.elapsed().as_secs_f64() * 1e3;
        let unknown = match &answer {
            Ok(Answer::Unknown(why)) => Some(why.clone()),
            _ => None,
        };
        match self.log.lock() {
            Ok(mut log) => log.push(Query { script, millis, unknown, abstracted }),
            Err(_) => return Err(SolverError::SolverMarkedFailed),
        }
        match answer.map_err(SolverError::Solver)? {
            Answer::Unsat => Ok(DecisionWithModel::Unsat),
            Answer::Sat(model) => Ok(DecisionWithModel::Sat { model }),
            Answer::Unknown(_) => Ok(DecisionWithModel::Unknown),
        }
    }
}

thread_local! {
    /// A solver that is kept for abstractions, since starting one takes longer than they do, and what it has answered.
    static KEPT: RefCell<Option<(Session<'static>, u32)>> = const { RefCell::new(None) };
}

/// Whether the solver refutes the script's Boolean abstraction. Whatever else it says about that, or fails at, says nothing.
fn unsatisfiable_in_abstraction(script: &str, timeout_ms: u64) -> bool {
    let Some(weaker) = abstraction(script) else { return false };
    KEPT.with_borrow_mut(|kept| {
        let (mut session, asked) = match kept.take() {
            Some(found) => found,
            None => match propositional(timeout_ms.min(ABSTRACTION_MS)) {
                Ok(session) => (session, 0),
                Err(_) => return false,
            },
        };
        // The scope takes the script's declarations with it. A solver that printed anything but its verdict is not kept.
        let answer = session.feed(&format!("(push 1)\n{weaker}")).map(|printed| decode::verdict(&printed));
        let Ok(Ok(verdict)) = answer else { return false };
        if asked < ABSTRACTIONS_PER_SOLVER && session.feed("(pop 1)\n").is_ok_and(|printed| printed.trim().is_empty()) {
            *kept = Some((session, asked + 1));
        }
        matches!(verdict, decode::Verdict::Unsat)
    })
}

fn propositional(timeout_ms: u64) -> Result<Session<'static>, String> {
    let mut session = Session::new(library()?, timeout_ms)?;
    session.feed(&format!("(set-option :incremental true)\n{LOGIC}"))?;
    Ok(session)
}

/// A script that ends in `(check-sat)`, on a fresh solver.
fn query(script: &str, timeout_ms: u64, want_model: bool) -> Result<Answer, String> {
    let mut session = Session::new(library()?, timeout_ms)?;
    let verdict = session.feed(script)?;
    match decode::verdict(&verdict)? {
        decode::Verdict::Unsat => Ok(Answer::Unsat),
        decode::Verdict::Sat if want_model => Ok(Answer::Sat(decode::model(&session.feed("(get-model)\n")?)?)),
        decode::Verdict::Sat => Ok(Answer::Sat(String::new())),
        decode::Verdict::Unknown(why) => Ok(Answer::Unknown(why)),
    }
}

impl Solver for Cvc5Solver {
    fn smtlib_input(&mut self) -> &mut (dyn tokio::io::AsyncWrite + Unpin + Send) {
        &mut self.script
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.script.extend_from_slice(b"(set-option :produce-models true)\n");
        Ok(())
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        Ok(match self.ask(false)? {
            DecisionWithModel::Sat { .. } => Decision::Sat,
            DecisionWithModel::Unsat => Decision::Unsat,
            DecisionWithModel::Unknown => Decision::Unknown,
        })
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        self.ask(true)
    }
}

/// Makes cvc5 available to this process; the first call wins, later ones do nothing.
#[pyfunction]
pub fn open_cvc5(cvc5_path: &str, parser_path: &str) -> PyResult<()> {
    if CVC5.get().is_none() {
        let lib = Cvc5::open(cvc5_path, parser_path).map_err(|e| Fail::Prover(format!("cannot load cvc5: {e}")))?;
        // Losing the race means that another thread has loaded it.
        let _ = CVC5.set(lib);
    }
    Ok(())
}

/// Loads cvc5 where the package finds it, unless that was done before.
pub fn ensure_loaded(py: Python<'_>) -> PyResult<()> {
    if CVC5.get().is_none() {
        py.import("acgs1_kernel")?.call_method0("load_cvc5")?;
    }
    Ok(())
}

/// Runs an SMT-LIB 2.6 script on a fresh solver and returns what it printed.
#[pyfunction]
#[pyo3(signature = (script, timeout_ms = 5000))]
pub fn solve(py: Python<'_>, script: &str, timeout_ms: u64) -> PyResult<String> {
    ensure_loaded(py)?;
    py.detach(|| -> Res<String> {
        let mut session = Session::new(library().map_err(Fail::Prover)?, timeout_ms).map_err(Fail::Prover)?;
        session.feed(script).map_err(Fail::Prover)
    })
    .map_err(PyErr::from)
}
