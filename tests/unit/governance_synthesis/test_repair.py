"""What a repair changes for each kind of refuted obligation, and what it leaves to people."""

import pytest

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, Invariant, Never, Principle
from acgs1.contracts.formal_verification import Counterexample, Obligation, RequestEnvironment
from acgs1.services.governance_synthesis.adapters.kernel import KernelCedar
from acgs1.services.governance_synthesis.domain.repair import Repaired

SCHEMA = """
entity Clerk;
entity Parcel = { weight: Long, fragile: Bool };
action send, burn appliesTo { principal: [Clerk], resource: [Parcel], context: { approved: Bool, hour: Long, extra?: Long } };
"""


def constitution(**invariants: Invariant) -> Constitution:
    principles = tuple(
        Principle(id=name, title=name, text="x", category="c", priority=1, invariants=(invariant,))
        for name, invariant in invariants.items()
    )
    return Constitution(name="c", schema_text=SCHEMA, principles=principles)


def request(weight: int = 1, fragile: bool = False, determining: tuple[str, ...] = ()) -> Counterexample:
    return Counterexample(
        principal='Clerk::"c"',
        action='Action::"send"',
        resource='Parcel::"p"',
        context={"approved": False, "hour": 1},
        entities=[
            {"uid": {"type": "Clerk", "id": "c"}, "attrs": {}, "parents": []},
            {"uid": {"type": "Parcel", "id": "p"}, "attrs": {"weight": weight, "fragile": fragile}, "parents": []},
        ],
        decisions=["deny"],
        determining_policies=list(determining),
        explanation="",
    )


def refuted(
    kind: str, principle: str | None, counterexample: Counterexample | None = None, **more: object
) -> Obligation:
    return Obligation.model_validate(
        {
            "id": "o1",
            "kind": kind,
            "principle_id": principle,
            "invariant_index": None if principle is None else 0,
            "environment": RequestEnvironment(principal="Clerk", action='Action::"send"', resource="Parcel"),
            "verdict": "refuted",
            "counterexample": counterexample,
            "solver": "cvc5",
            "milliseconds": 1.0,
            **more,
        }
    )


async def repaired(given: Constitution, policies: str, *obligations: Obligation) -> Repaired:
    found = await KernelCedar().repair(given, policies, list(obligations))
    await KernelCedar().checked(SCHEMA, found.policies)
    return found


async def test_a_refuted_never_gets_a_forbid_with_its_own_scope_and_condition() -> None:
    given = constitution(heavy=Never(actions=("send",), when="resource.weight > 9"))
    found = await repaired(given, "permit (principal, action, resource);", refuted("never", "heavy", request(10)))
    assert found.notes[0].policy_ids == ["heavy.never.0"]
    assert (
        '@principle("heavy")\nforbid (principal, action in [Action::"send"], resource) when {\nresource.weight > 9\n}'
        in found.policies
    )


async def test_a_refuted_always_that_nothing_permits_gets_a_permit() -> None:
    given = constitution(light=Always(resource="Parcel", when="resource.weight < 9"))
    found = await repaired(given, "", refuted("always", "light", request()))
    assert found.notes[0].policy_ids == ["light.always.0"]
    assert "permit (principal, action, resource is Parcel) when {" in found.policies


async def test_a_forbid_that_blocks_an_always_is_relaxed_for_what_was_promised() -> None:
    given = constitution(light=Always(actions=("send",), when="resource.weight < 9"))
    policies = 'permit (principal, action, resource); @id("f") forbid (principal, action, resource) when { !resource.fragile };'
    found = await repaired(given, policies, refuted("always", "light", request(determining=("f",))))
    assert found.notes[0].policy_ids == ["f"]
    assert 'unless { action in [Action::"send"] && (\nresource.weight < 9\n) };' in found.policies


async def test_principles_that_contradict_each_other_are_named_and_not_repaired() -> None:
    given = constitution(light=Always(when="resource.weight < 9"), solid=Never(when="resource.fragile"))
    policies = (
        'permit (principal, action, resource); @id("f") forbid (principal, action, resource) when { resource.fragile };'
    )
    found = await repaired(given, policies, refuted("always", "light", request(fragile=True, determining=("f",))))
    assert not found.notes[0].repaired
    assert "`light` promises what `solid` forbids" in found.notes[0].change
    assert found.policies.count("unless") == 0


async def test_a_fairness_violation_is_left_to_people() -> None:
    given = constitution(fair=IndifferentTo(attributes=("resource.fragile",)))
    found = await repaired(
        given,
        '@id("p") permit (principal, action, resource);',
        refuted("indifferent_to", "fair", request(determining=("p",))),
    )
    assert not found.notes[0].repaired
    assert "`p` made them differ" in found.notes[0].change


@pytest.mark.parametrize("effect", ["permit", "forbid"])
async def test_a_policy_that_can_overflow_is_confined_to_where_it_cannot(effect: str) -> None:
    import acgs1_kernel as kernel

    policies = (
        f'@id("p") {effect} (principal, action == Action::"send" /* ( */, resource) '
        "when { resource.weight * 1000 + context.hour > 9 };"
    ).replace("/* ( */", "// a comment (\n")
    found = await repaired(
        constitution(x=Never(when="resource.fragile")), policies, refuted("never_errors", None, policy_id="p")
    )
    assert found.notes[0].repaired
    assert "-1000000000000000 <= resource.weight" in found.policies
    results = kernel.Prover(SCHEMA).check("never_errors", found.policies)
    assert results
    assert {r.verdict for r in results} == {"proved"}
    # What a forbid can no longer judge, it forbids.
    beyond = request(2 * 10**15)
    engine = kernel.Engine(SCHEMA, found.policies + "permit (principal, action, resource);")
    decision = engine.authorize(beyond.principal, beyond.action, beyond.resource, dict(beyond.context), beyond.entities)
    assert decision.allowed is (effect == "permit")
    assert decision.errors == []


async def test_an_overflow_on_an_optional_attribute_is_reported_rather_than_mended_wrongly() -> None:
    policies = '@id("p") permit (principal, action, resource) when { context has extra && context.extra * 3 > 9 };'
    found = await repaired(
        constitution(x=Never(when="resource.fragile")), policies, refuted("never_errors", None, policy_id="p")
    )
    assert not found.notes[0].repaired
    assert "may be absent" in found.notes[0].change
