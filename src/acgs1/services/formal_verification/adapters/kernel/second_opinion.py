"""What z3 says about a script that cvc5 answered."""

import time
from typing import Literal

import acgs1_kernel as kernel


def opinion_on(script: str, timeout_ms: int) -> tuple[Literal["sat", "unsat", "unknown"], float]:
    """z3's verdict on an SMT-LIB script and the milliseconds it took. Whatever z3 cannot read or decide is `unknown`."""
    # Imported on first use: 40 MB that a worker which is never asked for a second opinion does without.
    import z3

    started = time.perf_counter()
    context = z3.Context()
    try:
        limited = f"(set-option :timeout {timeout_ms})\n{kernel.to_z3(script)}"
        answer = z3.Z3_eval_smtlib2_string(context.ref(), limited).strip()
    except (z3.Z3Exception, kernel.KernelError):
        answer = "unknown"
    milliseconds = (time.perf_counter() - started) * 1000
    lines = answer.splitlines()
    # INVARIANT: a script of several queries is proved only if each of them is unsatisfiable.
    if lines and all(line == "unsat" for line in lines):
        return "unsat", milliseconds
    if "sat" in lines and not any("error" in line for line in lines):
        return "sat", milliseconds
    return "unknown", milliseconds
