"""Flip one operator in a compliant policy set: the prover must notice, unless the mutant means the same.

A mutant that the constitution still admits must at least be seen as a change; one that is called unchanged must decide
every random request as the original does. The counts are asserted, so that a prover which notices less is noticed.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import acgs1_kernel as kernel
import pytest
import yaml

from acgs1.contracts.formal_verification import EnvironmentChange, Obligation
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions
from acgs1.services.formal_verification.errors import InvalidPolicies

BANK = Path(__file__).parents[2] / "golden" / "proofs" / "bank"
FLIPS = (
    (r"<=", "<"),
    (r"<=", ">="),
    (r">=", ">"),
    (r">=", "<="),
    (r"(?<![<>=!])>(?!=)", ">="),
    (r"(?<![<>=!])<(?!=)", "<="),
    (r"==(?! Action)", "!="),
    (r"!=", "=="),
    (r"&&", "||"),
    (r"\|\|", "&&"),
    (r"!(?=[a-z(])", ""),
    (r"(?<=\{ )(?=[a-z])", "!"),
    (r"\bpermit\b", "forbid"),
    (r"\bforbid\b", "permit"),
    (r"\bwhen\b", "unless"),
    (r"\b(\d+)\b", lambda match: str(int(match[1]) + 1)),
)


def mutants(text: str) -> Iterator[str]:
    for pattern, replacement in FLIPS:
        for match in re.finditer(pattern, text):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if line.lstrip().startswith(("@", "//")):
                continue
            new = replacement(match) if callable(replacement) else replacement
            yield text[: match.start()] + new + text[match.end() :]


def principles() -> list[dict[str, Any]]:
    """What the golden corpus says of the bank's policies as they are, where it is proved."""
    cases = yaml.safe_load((BANK.parent / "bank.yaml").read_text())["cases"]
    kept = [c for c in cases if c["verdict"] == "proved" and not {"edits", "add", "policies", "errors"} & set(c)]
    return [
        {
            "id": f"p-{i}",
            "title": "p",
            "text": c["name"],
            "category": "c",
            "priority": 1,
            "invariants": [c["invariant"]],
        }
        for i, c in enumerate(kept)
    ]


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(solver_timeout_ms=20_000, second_opinion_ms=0)


def test_every_mutant_is_refuted_or_seen_as_a_change_unless_it_means_the_same(sessions: Sessions):
    schema, original = (BANK / "schema.cedarschema").read_text(), (BANK / "policies.cedar").read_text()
    constitution = {"name": "bank", "schema_text": schema, "principles": principles()}
    assert verdict(sessions, original, constitution) == "proved"
    counts: Counter[str] = Counter()
    for mutant in mutants(original):
        try:
            found = verdict(sessions, mutant, constitution)
        except InvalidPolicies:
            # Not a policy set any more, such as one with a condition that no type admits: refused, so noticed.
            counts["invalid"] += 1
            continue
        assert found != "unknown"
        change = compare(sessions, schema, original, mutant)
        assert change != "unknown"
        if found == "refuted":
            # A policy that may fail to evaluate can be refuted without deciding any request otherwise.
            counts["refuted"] += 1
        elif change != "unchanged":
            counts["admitted, and seen as a change"] += 1
        else:
            counts["equivalent"] += 1
            _decide_alike(schema, original, mutant)
    total = sum(counts.values())
    assert total >= 30, counts
    assert counts["refuted"] >= total * 4 // 5, counts
    assert counts["equivalent"] <= total // 10, counts


def verdict(sessions: Sessions, policies: str, constitution: dict[str, Any]) -> str:
    session = sessions.open("verify", {"policies": policies, "constitution": constitution})
    verdicts: set[str] = set()
    for index in range(len(session.plan()["items"])):
        verdicts.add(Obligation.model_validate(session.run(index)).verdict)
        if "refuted" in verdicts:
            return "refuted"
    return "unknown" if "unknown" in verdicts else "proved"


def compare(sessions: Sessions, schema: str, old: str, new: str) -> str:
    session = sessions.open("compare", {"schema_text": schema, "old": old, "new": new})
    changes = {
        EnvironmentChange.model_validate(session.run(index)).change for index in range(len(session.plan()["items"]))
    }
    return "unknown" if "unknown" in changes else "unchanged" if changes == {"unchanged"} else "changed"


def _decide_alike(schema: str, old: str, new: str) -> None:
    one, two = kernel.Engine(schema, old), kernel.Engine(schema, new)
    chosen = random.Random(11)
    for _ in range(500):
        arguments = _request(chosen)
        assert one.authorize(*arguments).allowed == two.authorize(*arguments).allowed


def _request(chosen: random.Random) -> tuple[tuple[str, str], str, tuple[str, str], dict[str, Any], list[Any]]:
    person = {"__entity": {"type": "Person", "id": "ann"}}
    attributes = {
        "age": chosen.randint(15, 20),
        "nationality": "NL",
        "manager": person,
        "clearance": chosen.randint(0, 5),
    }
    agent = {"owner": person, "trust": chosen.choice([0, 1, 100, 20_000]), "suspended": chosen.random() < 0.3}
    labels = chosen.sample(["secret", "open", "checked"], chosen.randint(0, 2))
    account = {"owner": person, "frozen": chosen.random() < 0.3, "balance": 10, "labels": labels}
    team = [{"type": "Team", "id": "support"}] if chosen.random() < 0.5 else []
    entities = [
        {"uid": {"type": "Person", "id": "ann"}, "attrs": attributes, "parents": team},
        {"uid": {"type": "Team", "id": "support"}, "attrs": {}, "parents": []},
        {"uid": {"type": "Agent", "id": "bot"}, "attrs": agent, "parents": []},
        {"uid": {"type": "Account", "id": "acc"}, "attrs": account, "parents": []},
    ]
    principal = chosen.choice([("Person", "ann"), ("Agent", "bot")])
    action = chosen.choice(["pay", "refund", "view"])
    context = {
        "amount": chosen.choice([-1, 0, 1, 2, 100, 9_999, 10_000, 10_001, 20_000]),
        "approved": chosen.random() < 0.5,
        "source": {"country": "NL", "trusted": True},
    }
    return (
        principal,
        f'Action::"{action}"',
        ("Account", "acc"),
        {} if action == "view" else context,
        json.loads(json.dumps(entities)),
    )
