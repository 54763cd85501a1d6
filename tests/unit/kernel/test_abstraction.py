"""The Boolean abstraction of scripts: what it may refute, and what it must leave to the solver's theories."""

import acgs1_kernel as kernel
import pytest

DECLARATIONS = """
(set-logic ALL)
(declare-datatype Option (par (X) ((none) (some (val X)))))
(declare-datatype E0 ((E0 (E0_eid String))))
(declare-datatype E1 ((E1_m0) (E1_m1)))
(declare-const b Bool)
(declare-const c Bool)
(declare-const x (_ BitVec 64))
(declare-const y (_ BitVec 64))
(declare-const small (_ BitVec 8))
(declare-const s String)
(declare-const o (Option String))
(declare-const e E0)
(declare-const m E1)
(declare-const l (Set String))
"""


def verdicts(*assertions: str) -> tuple[str, str]:
    """Of the abstraction and of the script itself, by cvc5."""
    script = DECLARATIONS + "".join(f"(assert {assertion})\n" for assertion in assertions) + "(check-sat)\n"
    weaker = kernel.abstraction(script)
    return ("sat" if weaker is None else kernel.solve(weaker).strip(), kernel.solve(script).strip())


REFUTED = {
    "a contradiction of Booleans": ["(and b (not b))"],
    "equivalence of Booleans": ["(= b c)", "b", "(not c)"],
    "bounds that exclude one another": ["(bvsle x (_ bv700 64))", "(bvslt (_ bv1000 64) x)"],
    "a bound implied by a tighter one": ["(bvsle x (_ bv3 64))", "(not (bvsle x (_ bv5 64)))"],
    "negative numbers are below zero": ["(= x (_ bv18446744073709551615 64))", "(bvsle (_ bv0 64) x)"],
    "nothing is below the least number": ["(bvslt small (_ bv128 8))"],
    "nothing is above the greatest number": ["(bvslt (_ bv127 8) small)"],
    "a number and a bound": ["(= x (_ bv9 64))", "(bvslt x (_ bv9 64))"],
    "bounds through another term": ["(bvsle x y)", "(bvsle y (_ bv3 64))", "(bvslt (_ bv3 64) x)"],
    "bounds through another term, strictly": ["(bvslt x y)", "(bvsle y (_ bv3 64))", "(bvslt (_ bv3 64) x)"],
    "two values of one string": ['(= s "a")', '(= "b" s)'],
    "two members of an enumeration": ["(= m E1_m0)", "(= m E1_m1)"],
    "entities of different ids": ['(= e (E0 "a"))', '(= e (E0 "b"))'],
    "injective constructors": ['(= (some s) (some "a"))', '(= s "b")'],
    "disjoint constructors": ["(= (some s) (as none (Option String)))"],
    "a choice on the way to a value": ["(= (ite b (as none (Option Bool)) (some c)) (some true))", "(not c)"],
    "membership in a written set": ['(set.member s (set.insert "a" "b" (as set.empty (Set String))))', '(= s "c")'],
    "an empty intersection": [
        '(= (set.inter l (set.insert "a" "b" (as set.empty (Set String)))) (as set.empty (Set String)))',
        '(set.member "b" l)',
    ],
    "a written subset": [
        '(set.subset (set.insert "a" "b" (as set.empty (Set String))) l)',
        '(not (set.member "b" l))',
    ],
}

SATISFIABLE = {
    "a Boolean": ["b"],
    "touching bounds": ["(bvsle x (_ bv3 64))", "(bvsle (_ bv3 64) x)"],
    "signed, not unsigned": ["(bvslt x (_ bv0 64))", "(bvsle x (_ bv5 64))"],
    "one value": ['(= s "a")', '(not (= s "b"))'],
    "values of different terms": ['(= s "a")', '(= (val o) "b")'],
    # 0x61 is `a`: one string in two spellings.
    "an escaped spelling": ['(= s "a")', '(= s "\\u{61}")'],
    "a set with more in it": ['(set.member "a" l)', '(set.member "b" l)'],
    "an intersection with something in it": [
        '(not (= (set.inter l (set.insert "a" "b" (as set.empty (Set String)))) (as set.empty (Set String))))',
        '(not (set.member "a" l))',
    ],
    "either branch": ["(bvsle (ite b x y) (_ bv3 64))", "(bvslt (_ bv3 64) x)"],
    "order of two terms": ["(bvslt x y)", "(bvsle (_ bv3 64) y)", "(bvsle x (_ bv3 64))"],
    "the least number": ["(= small (_ bv128 8))", "(bvslt small (_ bv0 8))"],
}

ONLY_IN_THEORY = {
    "arithmetic": ["(= (bvadd x (_ bv1 64)) x)"],
    "congruence": ["(= x y)", "(not (= (bvneg x) (bvneg y)))"],
    "patterns": ['(str.in_re s (str.to_re "a"))', '(= s "b")'],
    "transitive order": ["(bvslt x y)", "(bvslt y (bvneg x))", "(bvslt (bvneg x) x)"],
}


@pytest.mark.parametrize("assertions", REFUTED.values(), ids=REFUTED.keys())
def test_what_needs_no_theory_is_refuted_in_the_abstraction(assertions: list[str]) -> None:
    assert verdicts(*assertions) == ("unsat", "unsat")


@pytest.mark.parametrize("assertions", SATISFIABLE.values(), ids=SATISFIABLE.keys())
def test_what_is_satisfiable_is_never_refuted_in_the_abstraction(assertions: list[str]) -> None:
    assert verdicts(*assertions) == ("sat", "sat")


@pytest.mark.parametrize("assertions", ONLY_IN_THEORY.values(), ids=ONLY_IN_THEORY.keys())
def test_what_needs_a_theory_is_left_to_the_solver(assertions: list[str]) -> None:
    assert verdicts(*assertions) == ("sat", "unsat")


@pytest.mark.parametrize(
    "command",
    [
        "(assert (forall ((z Bool)) z))",
        "(assert (let ((z b)) (and z (not z))))",
        "(define-fun twice ((z Bool)) Bool z)",
        "(push 1)",
        "(declare-const b Bool)",
    ],
)
def test_a_form_of_script_that_is_not_known_has_no_abstraction(command: str) -> None:
    assert kernel.abstraction(f"{DECLARATIONS}{command}\n(assert (and b (not b)))\n(check-sat)\n") is None


def test_a_proof_says_whether_it_was_found_in_the_abstraction() -> None:
    schema = "entity U; entity R { n: Long, m: Long }; action read appliesTo { principal: [U], resource: [R] };"
    prover = kernel.Prover(schema)
    (env,) = prover.envs
    small = "permit (principal, action, resource) when { resource.n < 5 };"
    medium = "permit (principal, action, resource) when { resource.n < 7 };"
    in_abstraction = prover.check_one("implies", small, medium, env=env, smtlib=True)
    assert (in_abstraction.verdict, in_abstraction.abstracted) == ("proved", True)
    assert in_abstraction.smtlib is not None
    assert kernel.solve(in_abstraction.smtlib).strip() == "unsat"
    through_a_third = (
        "permit (principal, action, resource) when { resource.n < resource.m && resource.m < resource.n };"
    )
    nothing = "forbid (principal, action, resource);"
    in_theory = prover.check_one("implies", through_a_third, nothing, env=env)
    assert in_theory.verdict == "proved"
    refuted = prover.check_one("implies", medium, small, env=env)
    assert (refuted.verdict, refuted.abstracted) == ("refuted", False)


def test_more_abstractions_than_one_solver_takes_get_the_same_answers() -> None:
    schema = "entity U; entity R { n: Long }; action read appliesTo { principal: [U], resource: [R] };"
    prover = kernel.Prover(schema)
    (env,) = prover.envs
    for limit in range(150):
        low = f"permit (principal, action, resource) when {{ resource.n < {limit} }};"
        high = f"permit (principal, action, resource) when {{ resource.n < {limit + 1} }};"
        assert prover.check_one("implies", low, high, env=env, want_model=False).verdict == "proved"
        assert prover.check_one("implies", high, low, env=env, want_model=False).verdict == "refuted"
