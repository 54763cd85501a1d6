//! The exceptions that Python sees.
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::diagnostics::Diagnostic;

create_exception!(acgs1_kernel, KernelError, PyException, "Base of all errors of this package.");
create_exception!(acgs1_kernel, CedarParseError, KernelError, "A text is not Cedar; see `diagnostics`.");
create_exception!(
    acgs1_kernel,
    CedarValidationError,
    KernelError,
    "A text is Cedar but does not fit its schema, or can never match; see `diagnostics`."
);
create_exception!(acgs1_kernel, EntityError, KernelError, "An entity does not fit the schema; see `path`.");
create_exception!(acgs1_kernel, RequestError, KernelError, "A request does not fit the schema; see `path`.");
create_exception!(acgs1_kernel, ProverError, KernelError, "A proof could not be attempted.");

/// What can go wrong, without a Python interpreter.
#[derive(Debug, Clone)]
pub enum Fail {
    Parse(Vec<Diagnostic>),
    Validation(Vec<Diagnostic>),
    /// Path of the offending attribute (may be empty) and message.
    Entity(String, String),
    Request(String, String),
    Prover(String),
    Other(String),
}

pub type Res<T> = Result<T, Fail>;

impl Fail {
    pub fn other(error: impl std::fmt::Display) -> Self {
        Fail::Other(error.to_string())
    }

    pub fn prover(error: impl std::fmt::Display) -> Self {
        Fail::Prover(error.to_string())
    }
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::render).collect::<Vec<_>>().join("\n")
}

fn located(path: &str, message: &str) -> String {
    if path.is_empty() {
        message.to_string()
    } else {
        format!("{path}: {message}")
    }
}

/// An exception whose extra attribute is set. Setting it can only fail if the interpreter is out of memory; then that is
/// the error to raise.
fn with_attribute<T>(error: PyErr, name: &str, value: T) -> PyErr
where
    T: for<'py> IntoPyObject<'py>,
{
    Python::attach(|py| match error.value(py).setattr(name, value) {
        Ok(()) => error,
        Err(other) => other,
    })
}

impl From<Fail> for PyErr {
    fn from(fail: Fail) -> PyErr {
        match fail {
            Fail::Parse(d) => with_attribute(CedarParseError::new_err(rendered(&d)), "diagnostics", d),
            Fail::Validation(d) => with_attribute(CedarValidationError::new_err(rendered(&d)), "diagnostics", d),
            Fail::Entity(path, m) => with_attribute(EntityError::new_err(located(&path, &m)), "path", path),
            Fail::Request(path, m) => with_attribute(RequestError::new_err(located(&path, &m)), "path", path),
            Fail::Prover(m) => ProverError::new_err(m),
            Fail::Other(m) => KernelError::new_err(m),
        }
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("KernelError", py.get_type::<KernelError>())?;
    m.add("CedarParseError", py.get_type::<CedarParseError>())?;
    m.add("CedarValidationError", py.get_type::<CedarValidationError>())?;
    m.add("EntityError", py.get_type::<EntityError>())?;
    m.add("RequestError", py.get_type::<RequestError>())?;
    m.add("ProverError", py.get_type::<ProverError>())
}
