"""Drafts of the airline example under the real prover: refuted, repaired, proved."""

import json
from pathlib import Path

import acgs1_kernel as kernel
import pytest
import yaml

from acgs1.contracts.constitution import Always, Constitution, Never
from acgs1.contracts.formal_verification import Counterexample, Obligation, RequestEnvironment
from acgs1.contracts.guards import scope_text
from acgs1.services.governance_synthesis.adapters.grammar.drafter import GrammarDrafter
from acgs1.services.governance_synthesis.adapters.kernel import KernelCedar

EXAMPLE = Path(__file__).parents[3] / "examples" / "airline"


@pytest.fixture(scope="module")
def airline() -> Constitution:
    document = yaml.safe_load((EXAMPLE / "constitution.yaml").read_text())
    schema = (EXAMPLE / document.pop("schema_file")).read_text()
    return Constitution.model_validate({**document, "schema_text": schema})


def obligations(constitution: Constitution, policies: str) -> list[Obligation]:
    """What the prover says of each `never`, each `always` and each policy's freedom from errors, per request environment."""
    prover = kernel.Prover(constitution.schema_text, solver_timeout_ms=20_000)
    found: list[Obligation] = []

    def add(result: kernel.CheckResult, kind: str, principle: str | None, index: int | None) -> None:
        c = result.counterexample
        found.append(
            Obligation(
                id=f"o{len(found)}",
                kind=kind,
                principle_id=principle,
                invariant_index=index,
                policy_id=result.policy_id,
                environment=RequestEnvironment(principal=result.env[0], action=result.env[1], resource=result.env[2]),
                verdict=result.verdict,
                reason=result.reason,
                counterexample=c and _counterexample(constitution, policies, c),
                solver="cvc5",
                milliseconds=result.compile_ms + result.solve_ms,
            )
        )

    for principle in constitution.principles:
        for index, invariant in enumerate(principle.invariants):
            if isinstance(invariant, Never):
                ceiling = (
                    f"permit(principal, action, resource); forbid({scope_text(invariant)}) when {{ {invariant.when} }};"
                )
                results = prover.check("implies", policies, ceiling)
            elif isinstance(invariant, Always):
                results = prover.check(
                    "implies", f"permit({scope_text(invariant)}) when {{ {invariant.when} }};", policies
                )
            else:
                continue
            for result in results:
                add(result, invariant.kind, principle.id, index)
    for result in prover.check("never_errors", policies):
        add(result, "never_errors", None, None)
    return found


def _counterexample(constitution: Constitution, policies: str, c: kernel.Counterexample) -> Counterexample:
    decision = kernel.Engine(constitution.schema_text, policies).authorize(
        c.principal, c.action, c.resource, c.context, c.entities
    )
    return Counterexample(
        principal=c.principal,
        action=c.action,
        resource=c.resource,
        context=json.loads(c.context),
        entities=json.loads(c.entities),
        decisions=["allow" if decision.allowed else "deny"],
        determining_policies=decision.reasons,
        explanation="",
    )


async def test_the_literal_draft_of_the_airline_is_proved(airline: Constitution) -> None:
    drafted = await GrammarDrafter().draft(airline, "literal")
    policies = await KernelCedar().checked(airline.schema_text, drafted.policies)
    found = obligations(airline, policies)
    assert len(found) > 50
    assert {o.verdict for o in found} == {"proved"}
    assert drafted.actions_without_policy == []
    # Only the two fairness principles speak to people alone.
    assert {s.principle_id for s in drafted.sentences if not s.policy_ids} == {
        "equal-treatment",
        "longer-delay-no-worse",
    }


async def test_the_permissive_draft_is_refuted_then_repaired_then_proved(airline: Constitution) -> None:
    cedar = KernelCedar()
    policies = await cedar.checked(airline.schema_text, (await GrammarDrafter().draft(airline, "permissive")).policies)
    found = obligations(airline, policies)
    refuted = {o.principle_id for o in found if o.verdict == "refuted"}
    assert {"suspended-agents-stop", "know-the-customer", "large-sums-need-a-person"} <= refuted
    rounds = 0
    while any(o.verdict == "refuted" for o in found):
        rounds += 1
        assert rounds <= 3, "the repair does not converge"
        repaired = await cedar.repair(airline, policies, found)
        assert all(note.repaired and note.counterexample for note in repaired.notes)
        policies = await cedar.checked(airline.schema_text, repaired.policies)
        found = obligations(airline, policies)
    assert {o.verdict for o in found} == {"proved"}
    assert 'id("working-limit.1")' in policies  # no invariant would have brought it back
