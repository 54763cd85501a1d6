"""The constitutions that the project ships: their policies are proved, and everything permitted is refuted."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Obligation
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions
from acgs1.services.formal_verification.domain import constitution_outcome

ROOT = Path(__file__).parents[3]
FOLDERS = (ROOT / "examples" / "airline", ROOT / "src" / "acgs1" / "cli" / "tau_airline")

folders = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(solver_timeout_ms=20_000, second_opinion_ms=10_000)


def constitution(folder: Path) -> Constitution:
    document: dict[str, Any] = yaml.safe_load((folder / "constitution.yaml").read_text())
    document["schema_text"] = (folder / document.pop("schema_file")).read_text()
    return Constitution.model_validate(document)


def obligations(sessions: Sessions, folder: Path, policies: str) -> list[Obligation]:
    data = {"policies": policies, "constitution": constitution(folder).model_dump(mode="json")}
    session = sessions.open("verify", data)
    return [Obligation.model_validate(session.run(index)) for index in range(len(session.plan()["items"]))]


@folders
def test_the_policies_keep_every_principle_and_z3_agrees_wherever_it_was_asked(sessions: Sessions, folder: Path):
    found = obligations(sessions, folder, (folder / "policies.cedar").read_text())
    assert [(o.id, o.reason) for o in found if o.verdict != "proved"] == []
    opinions = Counter(o.second_opinion for o in found if o.smtlib_sha256 is not None)
    assert opinions["agrees"] > 0
    assert set(opinions) == {"agrees"}


@folders
def test_everything_permitted_breaks_principles_and_each_refutation_names_an_edit(sessions: Sessions, folder: Path):
    found = obligations(sessions, folder, '@id("all") permit (principal, action, resource);')
    refuted = [o for o in found if o.verdict == "refuted" and o.kind == "never"]
    assert len(refuted) > 5
    for obligation in refuted:
        assert obligation.suggestion is not None
        assert obligation.suggestion.policy_ids == ["all"]


@folders
def test_the_constitution_does_not_contradict_itself(sessions: Sessions, folder: Path):
    session = sessions.open("constitution", {"constitution": constitution(folder).model_dump(mode="json")})
    outcome = constitution_outcome(session.run(index) for index in range(len(session.plan()["items"])))
    assert [finding.detail for finding in outcome.findings if finding.kind != "implied"] == []
    assert outcome.unanswered == []
