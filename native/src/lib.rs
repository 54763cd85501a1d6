//! `acgs1_kernel`: Cedar decisions and symbolic proofs in one extension, so that both have one Cedar version.
//!
//! One file per stage. Decisions: `raw` (input) → `json` (typed values) → `store` (entities) → `slicing` → `engine`.
//! Proofs: `policies` → `assume` → `compile` → `solve` → `decode` → `model` (rendering and replay) → `prover`.
mod abstraction;
mod assume;
mod compile;
mod decode;
mod diagnostics;
mod engine;
mod errors;
mod json;
mod kinds;
mod model;
mod policies;
mod prover;
mod raw;
mod sexpr;
mod slicing;
mod solve;
mod store;
mod z3;

use pyo3::prelude::*;

/// An SMT-LIB script of cvc5's dialect in z3's.
#[pyfunction]
fn to_z3(script: &str) -> PyResult<String> {
    z3::to_z3(script).map_err(|m| errors::Fail::Prover(m).into())
}

/// A propositional script that is satisfiable if `script` is; None where there is none worth asking.
#[pyfunction]
#[pyo3(name = "abstraction")]
fn boolean_abstraction(script: &str) -> Option<String> {
    abstraction::abstraction(script).map(|body| format!("{}{body}", abstraction::LOGIC))
}

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(m)?;
    policies::register(m)?;
    m.add_class::<engine::Engine>()?;
    m.add_class::<engine::Decision>()?;
    m.add_class::<prover::Prover>()?;
    m.add_class::<prover::CheckResult>()?;
    m.add_class::<model::Counterexample>()?;
    m.add_class::<model::Replay>()?;
    m.add_function(wrap_pyfunction!(solve::open_cvc5, m)?)?;
    m.add_function(wrap_pyfunction!(solve::solve, m)?)?;
    m.add_function(wrap_pyfunction!(to_z3, m)?)?;
    m.add_function(wrap_pyfunction!(boolean_abstraction, m)?)?;
    m.add("KINDS", kinds::KINDS.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    m.add("CEDAR_SDK_VERSION", cedar_policy::get_sdk_version().to_string())?;
    m.add("CEDAR_LANG_VERSION", cedar_policy::get_lang_version().to_string())?;
    m.add("SYMCC_VERSION", env!("ACGS1_KERNEL_SYMCC_VERSION"))?;
    m.add("SOURCE_SHA256", env!("ACGS1_KERNEL_SOURCE_SHA256"))
}
