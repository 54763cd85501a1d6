"""Differential: whatever the Boolean abstraction of a script refutes, cvc5 refutes in the script itself."""

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


@st.composite
def _pair(draw: st.DrawFn, operator: str, terms: st.SearchStrategy[str]) -> str:
    return f"({operator} {draw(terms)} {draw(terms)})"


_booleans: st.SearchStrategy[str] = st.deferred(lambda: _atoms | _compound)
_bits: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["x", "(R0_a0 (f e))", "(R0_a0 (f d))", "(bvneg x)", *_numbers])
        | st.tuples(_booleans, _bits, _bits).map(lambda t: f"(ite {t[0]} {t[1]} {t[2]})")
    )
)
_options: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["(R0_a1 (f e))", "(as none (Option String))"])
        | _strings.map(lambda t: f"(some {t})")
        | st.tuples(_booleans, _options, _options).map(lambda t: f"(ite {t[0]} {t[1]} {t[2]})")
    )
)
_strings: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["s", "(E0_eid e)", "(val (R0_a1 (f e)))", *_names])
        | st.tuples(_booleans, _strings, _strings).map(lambda t: f"(ite {t[0]} {t[1]} {t[2]})")
    )
)
_entities: st.SearchStrategy[str] = st.deferred(
    lambda: st.sampled_from(["e", "d"]) | _strings.map(lambda t: f"(E0 {t})")
)
_members = st.sampled_from(["m", "E1_m0", "E1_m1", "E1_m2"])
_empty = "(as set.empty (Set String))"
_written = st.lists(_strings, min_size=1, max_size=3).map(lambda t: f"(set.insert {' '.join(t)} {_empty})")
_sets: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["l", "k", _empty])
        | _written
        | st.tuples(_sets, _sets).map(lambda t: f"(set.inter {t[0]} {t[1]})")
        | st.tuples(_booleans, _sets, _sets).map(lambda t: f"(ite {t[0]} {t[1]} {t[2]})")
    )
)
_atoms = st.one_of(
    st.sampled_from(["p", "q", "true", "(_ is some)"]).map(
        lambda t: f"({t} (R0_a1 (f e)))" if t.startswith("(") else t
    ),
    _pair("bvsle", _bits),
    _pair("bvslt", _bits),
    _pair("=", _bits),
    _pair("=", _strings),
    _pair("=", _options),
    _pair("=", _entities),
    _pair("=", _members),
    _pair("=", _sets),
    _pair("set.subset", _sets),
    st.tuples(_strings, _sets).map(lambda t: f"(set.member {t[0]} {t[1]})"),
)
_compound = st.one_of(
    _booleans.map(lambda t: f"(not {t})"),
    st.tuples(st.sampled_from(["and", "or", "=", "=>"]), _booleans, _booleans).map(lambda t: f"({' '.join(t)})"),
    st.tuples(_booleans, _booleans, _booleans).map(lambda t: f"(ite {' '.join(t)})"),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_booleans, min_size=1, max_size=6))
def test_what_the_abstraction_refutes_the_solver_refutes(assertions: list[str]) -> None:
    script = DECLARATIONS + "".join(f"(assert {a})\n" for a in assertions) + "(check-sat)\n"
    weaker = kernel.abstraction(script)
    if weaker is not None and kernel.solve(weaker).strip() == "unsat":
        assert kernel.solve(script).strip() != "sat"
