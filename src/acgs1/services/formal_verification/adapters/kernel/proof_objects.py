"""cvc5's proof objects, made beside a verdict for whoever does not want to believe the solver."""

import acgs1_kernel as kernel

from acgs1.services.formal_verification.adapters.kernel.checkable import (
    UnfitProof,
    UnreadableScript,
    checkable,
    checker_input,
)

MAX_PROOF_BYTES = 16 * 1024 * 1024
"""A longer proof is not kept."""

# Every rewrite by a rule with a name, so that a checker need not believe any; cvc5 goes over its own proof as well.
_OPTIONS = """(set-option :produce-proofs true)
(set-option :proof-format-mode cpc)
(set-option :proof-granularity dsl-rewrite)
(set-option :check-proofs true)
"""


class NoProof(Exception):
    """There is no proof object of a script; the message is the reason."""


def proof_object(script: str, timeout_ms: int) -> str:
    """cvc5's proof, in the format CPC, that no model satisfies `script` in its `checkable` form; cvc5 has checked it itself.

    Raises NoProof. A proof that cvc5's own check does not accept ends the process, as every internal error of cvc5 does.
    """
    try:
        answer = kernel.solve(f"{_OPTIONS}{checkable(script)}(get-proof)\n", timeout_ms)
    except UnreadableScript as error:
        raise NoProof(f"the script cannot be put in the form for checkers: {error}") from None
    except kernel.KernelError as error:
        raise NoProof(f"the solver failed: {error}") from None
    verdict, _, proof = (part.strip() for part in answer.partition("\n"))
    if verdict != "unsat":
        raise NoProof(f"cvc5 answers `{verdict}` when asked for a proof within {timeout_ms} ms")
    if len(proof) > MAX_PROOF_BYTES:
        raise NoProof(f"the proof has {len(proof)} bytes; one of more than {MAX_PROOF_BYTES} is not kept")
    steps = proof.removeprefix("(").removesuffix(")").strip() + "\n"
    try:
        checker_input(script, steps)
    except UnfitProof as error:
        raise NoProof(f"what cvc5 printed is no proof of the script: {error}") from None
    return steps
