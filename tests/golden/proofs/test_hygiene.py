"""What is worth a person's look in constitutions and policies that others wrote, or that the project ships: each finding is true."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from acgs1.contracts.constitution import Constitution
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions
from acgs1.services.formal_verification.domain import constitution_outcome, hygiene_outcome

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

# Policies by what was found out about them, without `beyond_constitution` for Cedar's examples: the principles are few there.
EXPECTED: dict[str, set[tuple[str, ...]]] = {
    "airline": {("redundant", "no-ground-for-cancelling"), ("redundant", "no-cause-for-compensation")},
    "tau_airline": {
        ("beyond_constitution", "read-and-search"),
        ("shadowed", "no-certificate-without-cause", "no-other-certificate-amount"),
        ("implied", "goodwill-needs-a-cause"),
    },
    "document_cloud": {("shadowed", "policy1", "policy4"), ("shadowed", "policy7", "policy3")},
    "github_example": set(),
    "hotel_chains": set(),
    "sales_orgs": set(),
    "streaming_service": {("can_error", "early-access-show"), ("can_error", "forbid-bedtime-watch-kid-profile")},
    "tags_n_roles": set(),
    "tax_preparer": set(),
}


def shipped(folder: Path) -> tuple[str, Constitution]:
    document: dict[str, Any] = yaml.safe_load((folder / "constitution.yaml").read_text())
    document["schema_text"] = (folder / document.pop("schema_file")).read_text()
    return (folder / "policies.cedar").read_text(), Constitution.model_validate(document)


def published(name: str) -> tuple[str, Constitution]:
    """One of Cedar's example use cases, under those of our principles that it keeps."""
    groups = yaml.safe_load((HERE / "cedar_examples.yaml").read_text())
    (group,) = [group for group in groups if Path(group["folder"]).name == name]
    folder = HERE / group["folder"]
    text = (folder / "policies.cedar").read_text()
    for edit in group.get("edits", ()):
        text = text.replace(edit["replace"], edit["with"])
    kept = [case for case in group["cases"] if case["verdict"] == "proved"]
    principles = [
        {
            "id": f"p{n}",
            "title": "p",
            "text": case["name"],
            "category": "c",
            "priority": 1,
            "invariants": [case["invariant"]],
        }
        for n, case in enumerate(kept)
    ]
    schema = (folder / "schema.cedarschema").read_text()
    return text, Constitution.model_validate({"name": name, "schema_text": schema, "principles": principles})


@pytest.mark.parametrize("name", EXPECTED)
def test_the_findings_are_few_and_the_known_ones(name: str):
    folders = {"airline": ROOT / "examples" / "airline", "tau_airline": ROOT / "src" / "acgs1" / "cli" / "tau_airline"}
    policies, constitution = shipped(folders[name]) if name in folders else published(name)
    sessions = Sessions(solver_timeout_ms=20_000, second_opinion_ms=0)
    data = {"policies": policies, "constitution": constitution.model_dump(mode="json")}
    outcomes = [
        outcome_of([session.run(index) for index in range(len(session.plan()["items"]))])
        for outcome_of, session in (
            (hygiene_outcome, sessions.open("hygiene", data)),
            (constitution_outcome, sessions.open("constitution", data)),
        )
    ]
    assert [outcome.unanswered for outcome in outcomes] == [[], []]
    found = {(f.kind, *f.policy_ids, *f.principle_ids) for outcome in outcomes for f in outcome.findings}
    if name not in folders:
        found = {each for each in found if each[0] != "beyond_constitution"}
    assert found == EXPECTED[name]
