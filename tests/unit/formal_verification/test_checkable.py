"""The form of a script that proofs are about, and what a checker is given of a proof."""

import acgs1_kernel as kernel
import pytest

from acgs1.services.formal_verification.adapters.kernel.checkable import (
    UnfitProof,
    UnreadableScript,
    checkable,
    checker_input,
)
from acgs1.services.formal_verification.adapters.kernel.proof_objects import NoProof, proof_object

SCHEMA = """
entity Agent { trust?: Long, roles: Set<String>, "odd name (;": String };
entity Account { owner: Agent, opened: datetime };
action pay appliesTo { principal: [Agent], resource: [Account], context: { amount: Long, note?: String } };
"""
ENVIRONMENT = ("Agent", 'Action::"pay"', "Account")
POLICIES = """
@id("p") permit (principal, action, resource) when {
  principal has trust && context.amount <= principal.trust && context has note && context.note like "a \\"b|;(*" &&
  ["x", "y"].containsAll(principal.roles) && resource.opened < datetime("2026-01-01") && principal["odd name (;"] == ")("
};
"""
CEILING = """
@id("c") permit (principal, action, resource) when {
  principal has trust && context.amount <= principal.trust && context has note && context.note like "a*" &&
  !principal.roles.contains("z")
};
"""


@pytest.fixture(scope="module")
def script() -> str:
    prover = kernel.Prover(SCHEMA)
    result = prover.check_one("implies", POLICIES, CEILING, env=ENVIRONMENT, smtlib=True)
    assert result.verdict == "proved"
    assert result.smtlib is not None
    return result.smtlib


def test_sorts_and_terms_share_no_name_and_nothing_is_generic(script: str):
    form = checkable(script)
    assert "(par " not in form
    assert "(_ bv" not in form
    assert "set.insert" not in form
    words = [line.replace("(", " ").split() for line in form.splitlines() if line.startswith("(declare-datatype ")]
    sorts, constructors = {each[1] for each in words}, {each[2] for each in words}
    assert sorts
    assert not sorts & constructors


def test_a_text_may_hold_brackets_and_quotes(script: str):
    form = checkable(script)
    assert '")("' in form
    assert form.count("\n") == len(form.splitlines())


def test_the_form_is_unsatisfiable_exactly_when_the_script_is(script: str):
    assert kernel.solve(checkable(script)).split()[0] == "unsat"
    open_script = "\n".join(line for line in script.splitlines() if "(assert " not in line)
    assert kernel.solve(checkable(open_script)).split()[0] == "sat"
    with pytest.raises(NoProof, match="answers `sat`"):
        proof_object(open_script, 15_000)


def test_a_proof_has_only_steps_with_named_rules_and_ends_in_false(script: str):
    proof = proof_object(script, 15_000)
    given = checker_input(script, proof)
    assert ":rule trust" not in given
    assert given.splitlines()[-1].split()[2] == "false"
    # The problem is the script's, said once.
    declared = [line.split()[1] for line in given.splitlines() if line.startswith("(declare-")]
    assert len(declared) == len(set(declared))


def test_what_a_proof_says_about_the_problem_is_ignored(script: str):
    proof = proof_object(script, 15_000)
    honest = checker_input(script, proof)
    lines = proof.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("(define t"))
    name = lines[first].split()[1]
    lines[first] = f"(define {name} () false)"
    assert checker_input(script, "\n".join(lines)) == honest


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ("(assume @a false)\n(step @b false :rule refl :premises (@a))", "does not assert"),
        (
            "(declare-rule mine () :premises () :conclusion false)\n(step @b false :rule mine)",
            "`declare-rule` is no step",
        ),
        ('(include "/etc/passwd")\n(step @b false :rule x)', "`include` is no step"),
        ("(step @b true :rule true_intro)", "does not end in `false`"),
        ("(assume-push @a true)\n(step @b false :rule x)", "does not end in `false`"),
        ("", "does not end in `false`"),
        ("(step @b false", "cannot be read"),
    ],
)
def test_a_forged_proof_never_reaches_the_checker(script: str, forged: str, why: str):
    with pytest.raises(UnfitProof, match=why):
        checker_input(script, forged)


@pytest.mark.parametrize(
    "text",
    ["(assert (forall ((x Int)) true))", "(push 1)", "(assert true", "(assert true))", '(assert "a)', "(assert @p1)"],
)
def test_a_script_that_is_not_understood_is_refused(text: str):
    with pytest.raises(UnreadableScript):
        checkable(text)
