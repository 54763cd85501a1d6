"""Guards: the text that a constitution's `never` invariants become."""

import pytest

from acgs1.contracts.constitution import Always, Constitution, Never, Principle
from acgs1.contracts.guards import InvariantTextError, action_uid, check_condition, guards_of, scope_text


def constitution(*invariants: Never | Always) -> Constitution:
    principle = Principle(id="no-refund", title="t", text="x", category="money", priority=1, invariants=invariants)
    return Constitution(name="c", schema_text="entity A;", principles=(principle,))


def test_each_never_invariant_becomes_one_forbid_named_after_its_principle_and_index() -> None:
    text, principles = guards_of(
        constitution(
            Always(when="true"),
            Never(actions=("refund", 'Shop::Action::"pay"'), principal="Agent", when="context.big"),
        )
    )
    assert principles == {"guard:no-refund:1": "no-refund"}
    assert text == (
        '@id("guard:no-refund:1")\n@principle("no-refund")\n'
        'forbid (principal is Agent, action in [Action::"refund", Shop::Action::"pay"], resource) when {\ncontext.big\n};\n'
    )


def test_a_constitution_without_never_has_no_guards() -> None:
    assert guards_of(constitution(Always(when="true"))) == ("", {})


@pytest.mark.parametrize(
    "condition",
    [
        "true }; permit(principal, action, resource) when { true",
        "true; true",
        "(true",
        "true)",
        "[1}",
        '"open',
        "",
        "  // only a comment",
    ],
)
def test_a_condition_that_could_escape_its_braces_is_refused(condition: str) -> None:
    with pytest.raises(InvariantTextError):
        check_condition(condition)


@pytest.mark.parametrize(
    "condition",
    [
        'context.note == "a } ; b \\" {"',
        "true // } ;",
        "{a: 1} == {a: 1}",
        "// first\n true",
        '[1, 2].contains(1) && "x" like "*}*"',
    ],
)
def test_brackets_inside_strings_and_comments_do_not_count(condition: str) -> None:
    check_condition(condition)


def test_a_comment_at_the_end_of_a_condition_does_not_swallow_the_closing_brace() -> None:
    text, _ = guards_of(constitution(Never(when="true // all")))
    assert text.endswith("true // all\n};\n")


@pytest.mark.parametrize("scope", [Never(principal="Agent, action", when="true"), Never(resource="A B", when="true")])
def test_a_scope_that_is_no_type_name_is_refused(scope: Never) -> None:
    with pytest.raises(InvariantTextError):
        scope_text(scope)


@pytest.mark.parametrize("name", ['x"]', 'Agent::"x"', "", "a\nb"])
def test_an_action_that_is_no_action_name_is_refused(name: str) -> None:
    with pytest.raises(InvariantTextError):
        action_uid(name)


def test_the_error_names_principle_and_invariant() -> None:
    with pytest.raises(InvariantTextError, match=r"principle `no-refund`, invariant 0: .*closes nothing"):
        guards_of(constitution(Never(when="true }")))
