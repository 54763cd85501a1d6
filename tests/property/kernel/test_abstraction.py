"""Differential: whatever the Boolean abstraction of a script refutes, cvc5 refutes in the script itself."""

from collections.abc import Callable
from functools import cache

import acgs1_kernel as kernel
from hypothesis import given, settings
from hypothesis import strategies as st

DECLARATIONS = """
(set-logic ALL)
(declare-datatype Option (par (X) ((none) (some (val X)))))
(declare-datatype E0 ((E0 (E0_eid String))))
(declare-datatype E1 ((E1_m0) (E1_m1) (E1_m2)))
(declare-datatype R0 ((R0 (R0_a0 (_ BitVec 8)) (R0_a1 (Option String)))))
(declare-fun f (E0) R0)
(declare-const p Bool)
(declare-const q Bool)
(declare-const e E0)
(declare-const d E0)
(declare-const m E1)
(declare-const s String)
(declare-const x (_ BitVec 8))
(declare-const l (Set String))
(declare-const k (Set String))
"""

_names = ['"a"', '"b"', '"\\u{61}"']
_numbers = [f"(_ bv{n} 8)" for n in (0, 1, 2, 127, 128, 255)]


_empty = "(as set.empty (Set String))"


def _term(shape: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: shape.format(*found))


def _pair(operator: str, terms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _term(f"({operator} {{}} {{}})", terms, terms)


# Each sort's terms of at most a depth: terms that only a random stop ends are mostly too large to be drawn.
@cache
def _bits(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["x", "(R0_a0 (f e))", "(R0_a0 (f d))", "(bvneg x)", *_numbers])
    return leaves | _choice(depth, _bits) if depth else leaves


@cache
def _strings(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["s", "(E0_eid e)", "(val (R0_a1 (f e)))", *_names])
    return leaves | _choice(depth, _strings) if depth else leaves


@cache
def _options(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["(R0_a1 (f e))", "(as none (Option String))"])
    return leaves | _term("(some {})", _strings(depth - 1)) | _choice(depth, _options) if depth else leaves


@cache
def _sets(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["l", "k", _empty])
    if not depth:
        return leaves
    written = st.lists(_strings(depth - 1), min_size=1, max_size=3).map(
        lambda t: f"(set.insert {' '.join(t)} {_empty})"
    )
    return leaves | written | _pair("set.inter", _sets(depth - 1)) | _choice(depth, _sets)


@cache
def _booleans(depth: int) -> st.SearchStrategy[str]:
    if not depth:
        return st.sampled_from(["p", "q", "true", "((_ is some) (R0_a1 (f e)))"])
    inner = depth - 1
    entities = st.sampled_from(["e", "d"]) | _term("(E0 {})", _strings(inner))
    members = st.sampled_from(["m", "E1_m0", "E1_m1", "E1_m2"])
    atoms = [
        _pair("bvsle", _bits(inner)),
        _pair("bvslt", _bits(inner)),
        *(_pair("=", of) for of in (_bits(inner), _strings(inner), _options(inner), entities, members, _sets(inner))),
        _pair("set.subset", _sets(inner)),
        _term("(set.member {} {})", _strings(inner), _sets(inner)),
    ]
    compound = [
        _term("(not {})", _booleans(inner)),
        *(_pair(operator, _booleans(inner)) for operator in ("and", "or", "=", "=>")),
        _choice(depth, _booleans),
    ]
    return st.one_of(_booleans(0), *atoms, *compound)


def _choice(depth: int, terms: Callable[[int], st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    inner = depth - 1
    return _term("(ite {} {} {})", _booleans(inner), terms(inner), terms(inner))


@settings(max_examples=60, deadline=None)
@given(st.lists(_booleans(3), min_size=1, max_size=6))
def test_what_the_abstraction_refutes_the_solver_refutes(assertions: list[str]) -> None:
    script = DECLARATIONS + "".join(f"(assert {a})\n" for a in assertions) + "(check-sat)\n"
    weaker = kernel.abstraction(script)
    if weaker is not None and kernel.solve(weaker).strip() == "unsat":
        assert kernel.solve(script).strip() != "sat"
