"""What z3 says about a script that cvc5 answered."""

import time
from typing import Any, Final, Literal

import acgs1_kernel as kernel

_SCRIPTS_PER_CONTEXT: Final = 500
"""A context is made anew now and then, so that what it may hold back stays bounded."""


class SecondOpinion:
    """z3, with at most `timeout_ms` per query."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout = timeout_ms
        # Making one takes several times as long as most scripts do.
        self._context: Any = None
        self._answered = 0

    def on(self, script: str) -> tuple[Literal["sat", "unsat", "unknown"], float]:
        """z3's verdict on an SMT-LIB script and the milliseconds it took. Whatever z3 cannot read or decide is `unknown`."""
        # Imported on first use: 40 MB that a worker which is never asked for a second opinion does without.
        import z3

        started = time.perf_counter()
        if self._context is None or self._answered >= _SCRIPTS_PER_CONTEXT:
            self._context, self._answered = z3.Context(), 0
        try:
            # (reset) leaves nothing of the script before: no assertion, no declaration, no option (SMT-LIB 2.6, section 4.2.1).
            limited = f"(reset)\n(set-option :timeout {self._timeout})\n{kernel.to_z3(script)}"
            answer = z3.Z3_eval_smtlib2_string(self._context.ref(), limited).strip()
        except (z3.Z3Exception, kernel.KernelError):
            answer = "unknown"
        self._answered += 1
        milliseconds = (time.perf_counter() - started) * 1000
        lines = answer.splitlines()
        # INVARIANT: a script of several queries is proved only if each of them is unsatisfiable.
        if lines and all(line == "unsat" for line in lines):
            return "unsat", milliseconds
        # After anything but a proof, the next script meets a z3 that has seen none.
        self._context = None
        if "sat" in lines and not any("error" in line for line in lines):
            return "sat", milliseconds
        return "unknown", milliseconds
