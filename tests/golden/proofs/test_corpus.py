"""Policy/principle pairs whose verdicts were worked out by hand: the prover must reach each of them."""

import re
from pathlib import Path
from typing import Any

import acgs1_kernel as kernel
import pytest
import yaml

from acgs1.contracts.constitution import Constitution, Principle
from acgs1.contracts.formal_verification import Counterexample, Obligation, Suggestion
from acgs1.contracts.guards import guards_of
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions

HERE = Path(__file__).parent


def _cases() -> list[Any]:
    found: list[Any] = []
    for file in sorted(HERE.glob("*.yaml")):
        groups = yaml.safe_load(file.read_text())
        for group in groups if isinstance(groups, list) else [groups]:
            folder = HERE / group["folder"]
            for case in group["cases"]:
                text = case.get("policies", (folder / "policies.cedar").read_text())
                for edit in (*group.get("edits", ()), *case.get("edits", ())):
                    assert edit["replace"] in text, f"{case['name']}: the edit finds nothing to replace"
                    text = text.replace(edit["replace"], edit["with"])
                text = f"{text}\n{case.get('add', '')}"
                errors = set(case.get("errors", group.get("errors", ())))
                schema = (folder / "schema.cedarschema").read_text()
                found.append(pytest.param(schema, text, case, errors, id=f"{folder.name}: {case['name']}"))
    return found


CASES = _cases()


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(solver_timeout_ms=20_000, second_opinion_ms=5_000)


def test_the_corpus_has_at_least_sixty_pairs_and_every_kind_of_verdict():
    assert len(CASES) >= 60
    kinds = {(case.values[2]["invariant"]["kind"], case.values[2]["verdict"]) for case in CASES}
    for kind in ("never", "always", "indifferent_to", "monotone_in"):
        assert {(kind, "proved"), (kind, "refuted")} <= kinds


@pytest.mark.parametrize(("schema", "policies", "case", "errors"), CASES)
def test_the_verdict_is_the_known_one(
    sessions: Sessions, schema: str, policies: str, case: dict[str, Any], errors: set[str]
):
    constitution = _constitution(schema, case)
    obligations = _verified(sessions, policies, constitution)
    about = [o for o in obligations if o.kind == case["invariant"]["kind"]]
    assert about
    verdicts = {o.verdict for o in about}
    overall = "refuted" if "refuted" in verdicts else "unknown" if "unknown" in verdicts else "proved"
    assert overall == case["verdict"], [(o.id, o.verdict, o.reason) for o in about]
    failing = {o.policy_id for o in obligations if o.kind == "never_errors" and o.verdict != "proved"}
    assert failing == errors
    if case["verdict"] != "unknown":
        assert all(o.reason is None for o in about)
    guards, _ = guards_of(constitution)
    for obligation in obligations:
        if obligation.verdict == "refuted":
            _replay(schema, policies, guards, obligation)
            if obligation.suggestion is not None:
                edited = _edited(policies, obligation.suggestion)
                (after,) = (o for o in _verified(sessions, edited, constitution, obligation.id))
                assert after.verdict == "proved", (obligation.suggestion, after.reason)


def _constitution(schema: str, case: dict[str, Any]) -> Constitution:
    principle = Principle.model_validate(
        {
            "id": "p",
            "title": "p",
            "text": case["name"],
            "category": "c",
            "priority": 1,
            "invariants": [case["invariant"]],
        }
    )
    return Constitution(name="c", schema_text=schema, principles=(principle,))


def _verified(
    sessions: Sessions, policies: str, constitution: Constitution, only: str | None = None
) -> list[Obligation]:
    session = sessions.open("verify", {"policies": policies, "constitution": constitution.model_dump(mode="json")})
    ids = [item["unknown"]["id"] for item in session.plan()["items"]]
    return [Obligation.model_validate(session.run(i)) for i, name in enumerate(ids) if only in (None, name)]


def _edited(policies: str, suggestion: Suggestion) -> str:
    """The policy set after the edit has been made as its description says."""
    texts = {policy.id: policy.text.strip().removesuffix(";") for policy in kernel.parse_policies(policies)}
    for policy_id in suggestion.policy_ids:
        match suggestion.edit:
            case "append":
                texts[policy_id] += f"\n{suggestion.add}"
            case "prepend":
                conditions = re.search(r"\b(when|unless)\s*\{", texts[policy_id])
                assert conditions is not None
                at = conditions.start()
                texts[policy_id] = f"{texts[policy_id][:at]}{suggestion.add}\n{texts[policy_id][at:]}"
            case _:
                del texts[policy_id]
    added = suggestion.add if suggestion.edit in ("policy", "replace") else ""
    return "\n".join(f"{text};" for text in texts.values()) + f"\n{added}"


def _replay(schema: str, policies: str, guards: str, obligation: Obligation) -> None:
    """The decisions that a counterexample claims are those of an evaluator of our own, on all policies."""
    shown = obligation.counterexample
    assert shown is not None
    in_force = "" if obligation.kind == "never" else guards
    engine = kernel.Engine(schema, policies, in_force)
    runs: list[Counterexample] = [shown] if shown.paired is None else [shown, shown.paired]
    for run, claimed in zip(runs, shown.decisions, strict=True):
        decision = engine.authorize(run.principal, run.action, run.resource, run.context, run.entities)
        assert ("allow" if decision.allowed else "deny") == claimed
        assert bool(decision.errors) == (obligation.kind == "never_errors") or not decision.errors
