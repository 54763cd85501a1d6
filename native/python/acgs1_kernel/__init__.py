"""Cedar decisions and symbolic proofs, one Cedar version for both. The types are in `__init__.pyi`."""

import importlib.util
from pathlib import Path

from acgs1_kernel._native import (
    CEDAR_LANG_VERSION,
    CEDAR_SDK_VERSION,
    KINDS,
    SOURCE_SHA256,
    SYMCC_VERSION,
    CedarParseError,
    CedarValidationError,
    CheckResult,
    Counterexample,
    Decision,
    Diagnostic,
    Engine,
    EntityError,
    KernelError,
    PolicyInfo,
    Prover,
    ProverError,
    Replay,
    RequestError,
    abstraction,
    check_schema,
    format_policies,
    open_cvc5,
    parse_policies,
    policies_from_json,
    policies_to_json,
    request_envs,
    schema_from_json,
    schema_to_json,
    solve,
    to_z3,
    validate_policies,
)

__all__ = [
    "CEDAR_LANG_VERSION",
    "CEDAR_SDK_VERSION",
    "KINDS",
    "SOURCE_SHA256",
    "SYMCC_VERSION",
    "CedarParseError",
    "CedarValidationError",
    "CheckResult",
    "Counterexample",
    "Decision",
    "Diagnostic",
    "Engine",
    "EntityError",
    "KernelError",
    "PolicyInfo",
    "Prover",
    "ProverError",
    "Replay",
    "RequestError",
    "abstraction",
    "check_schema",
    "cvc5_paths",
    "format_policies",
    "load_cvc5",
    "parse_policies",
    "policies_from_json",
    "policies_to_json",
    "request_envs",
    "schema_from_json",
    "schema_to_json",
    "solve",
    "to_z3",
    "validate_policies",
]


def cvc5_paths() -> tuple[str, str]:
    spec = importlib.util.find_spec("cvc5")
    if spec is None or spec.origin is None:
        raise ProverError("the package `cvc5` is not installed; expected it beside acgs1_kernel (pip install cvc5)")
    libraries = Path(spec.origin).parent.parent / "cvc5.libs"
    core = sorted(libraries.glob("libcvc5-*.so*"))
    parser = sorted(libraries.glob("libcvc5parser-*.so*"))
    if len(core) != 1 or len(parser) != 1:
        raise ProverError(
            f"`{libraries}` has {len(core)} libcvc5 and {len(parser)} libcvc5parser; expected one of each, "
            "as in the cvc5 wheel for Linux"
        )
    return str(core[0]), str(parser[0])


def load_cvc5(cvc5_path: str | None = None, parser_path: str | None = None) -> None:
    if (cvc5_path is None) != (parser_path is None):
        raise ProverError("expected both `cvc5_path` and `parser_path`, or neither")
    if cvc5_path is None or parser_path is None:
        cvc5_path, parser_path = cvc5_paths()
    open_cvc5(cvc5_path, parser_path)
