"""The service over HTTP: drafts, repairs, roles, refusals, events."""

import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from acgs1.contracts.auth import Role
from acgs1.kit.outbox import OUTBOX
from acgs1.services.governance_synthesis.app import create_app
from factories import Running, running, settings

SCHEMA = """
entity Clerk;
@phrase("")
entity Parcel = { @phrase("the weight") weight: Long };
@phrase("send a parcel") action send appliesTo { principal: [Clerk], resource: [Parcel], context: { approved: Bool } };
"""


def constitution(
    text: str = "A clerk must never send a parcel when the weight is more than 9.", **more: Any
) -> dict[str, Any]:
    principle = {"id": "heavy", "title": "t", "text": text, "category": "c", "priority": 1}
    principle["invariants"] = [{"kind": "never", "when": "resource.weight > 9"}]
    return {"name": "c", "schema_text": SCHEMA, "principles": [principle], **more}


def report(draft: dict[str, Any], verdict: str = "refuted", **more: Any) -> dict[str, Any]:
    obligation = {
        "id": "o1", "kind": "never", "principle_id": "heavy", "invariant_index": 0,
        "environment": {"principal": "Clerk", "action": 'Action::"send"', "resource": "Parcel"},
        "verdict": verdict, "solver": "cvc5", "milliseconds": 1.0,
    }  # fmt: skip
    return {
        "id": "ver_1", "policies_hash": draft["policies_hash"], "schema_hash": "0" * 64,
        "constitution_hash": draft["constitution_hash"], "verdict": verdict, "obligations": [obligation],
        "principles_without_invariants": [], "certificate_hash": None, "started_at": "2026-01-01T00:00:00Z",
        "milliseconds": 1.0, **more,
    }  # fmt: skip


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Running]:
    async with running(create_app, settings(tmp_path)) as room:
        yield room


async def post(room: Running, path: str, body: object, role: Role = Role.LEGISLATOR) -> Any:
    return await room.client.post(f"/api/v1/drafts{path}", json=body, headers=room.headers(role))


async def test_a_draft_is_made_kept_listed_and_recorded(room: Running) -> None:
    made = await post(room, "", {"constitution": constitution()})
    assert made.status_code == 201
    draft = made.json()
    assert '@id("heavy.1")' in draft["policies"]
    assert draft["sentences"][0]["policy_ids"] == ["heavy.1"]
    for role in (Role.MEMBER, Role.AUDITOR):
        read = await room.client.get(f"/api/v1/drafts/{draft['id']}", headers=room.headers(role))
        assert read.json() == draft
    listed = (await room.client.get("/api/v1/drafts", headers=room.headers(Role.MEMBER))).json()
    assert [d["id"] for d in listed["items"]] == [draft["id"]]
    async with room.app.state.platform.database.reading() as session:
        (event,) = (await session.scalars(sa.select(OUTBOX.c.event))).all()
    assert event["type"] == "draft.created"
    assert event["data"]["policies_hash"] == draft["policies_hash"]
    assert "resource.weight" not in str(event)


async def test_a_permissive_draft_is_repaired_into_a_new_one(room: Running) -> None:
    parent = (await post(room, "", {"constitution": constitution(), "strategy": "permissive"})).json()
    assert "forbid" not in parent["policies"]
    answer = await post(room, f"/{parent['id']}/repair", {"report": report(parent)})
    assert answer.status_code == 201
    child = answer.json()
    assert child["parent_id"] == parent["id"]
    assert '@id("heavy.never.0")' in child["policies"]
    assert child["notes"][0]["policy_ids"] == ["heavy.never.0"]
    again = await post(room, f"/{child['id']}/repair", {"report": report(child)})
    assert again.json()["code"] == "not_repairable"
    assert "forbids this already" in again.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({"constitution": constitution(schema_text="entity A\nentity B;")}, "schema_refused", "not Cedar"),
        ({"constitution": constitution("Be nice. Do good.")}, "nothing_to_draft", "2 sentence(s)"),
        ({"constitution": constitution(), "strategy": "wild"}, "invalid_request", "strategy"),
    ],
)
async def test_what_cannot_be_drafted_is_refused_with_the_reason(
    room: Running, body: Any, code: str, detail: str
) -> None:
    answer = await post(room, "", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert detail in answer.json()["detail"]
    if code == "schema_refused":
        assert answer.json()["errors"][0]["line"] == 2


async def test_a_report_that_is_about_something_else_or_refutes_nothing_is_refused(room: Running) -> None:
    draft = (await post(room, "", {"constitution": constitution()})).json()
    other = report(draft, policies_hash="1" * 64)
    assert (await post(room, f"/{draft['id']}/repair", {"report": other})).json()["code"] == "report_of_another_draft"
    unknown = report(draft, "unknown")
    assert (await post(room, f"/{draft['id']}/repair", {"report": unknown})).json()["code"] == "nothing_to_repair"
    assert (await post(room, "/drf_0/repair", {"report": report(draft)})).json()["code"] == "draft_not_found"


async def test_only_legislators_and_administrators_write(room: Running) -> None:
    for role in (Role.MEMBER, Role.AUDITOR, Role.OPERATOR, Role.AGENT):
        assert (await post(room, "", {"constitution": constitution()}, role)).status_code == 403
    assert (await room.client.get("/api/v1/drafts", headers=room.headers(Role.AGENT))).status_code == 403
    assert (await room.client.get("/api/v1/drafts")).status_code == 401


def test_the_process_starts_without_the_kernel_and_the_parser_in_memory() -> None:
    code = (
        "import sys, acgs1.services.governance_synthesis.app as a; a.create_app; "
        "print({'acgs1_kernel', 'lark'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_an_instruction_that_becomes_no_policy_is_refused_with_its_reason(room: Running) -> None:
    answer = await post(room, "", {"constitution": constitution(), "instructions": ["Be kind to clerks."]})
    assert (answer.status_code, answer.json()["code"]) == (422, "instruction_not_read")
    assert "`Be kind to clerks.`" in answer.json()["errors"][0]["detail"]


async def test_a_constitution_whose_invariant_means_nothing_repairs_nothing(room: Running) -> None:
    law = constitution()
    law["principles"][0]["invariants"] = [{"kind": "never", "when": "resource.nothing > 9"}]
    draft = (await post(room, "", {"constitution": law})).json()
    answer = await post(room, f"/{draft['id']}/repair", {"report": report(draft)})
    assert (answer.status_code, answer.json()["code"]) == (422, "policies_refused")
