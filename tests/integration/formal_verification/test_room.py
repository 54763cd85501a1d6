"""What formal_verification promises its callers, over HTTP and with real solvers."""

import asyncio
import json
from pathlib import Path

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.formal_verification import Certificate, VerifierKey
from acgs1.kit.signing import VerifyingKey, base64url_decode
from acgs1.services.formal_verification.app import create_app
from acgs1.services.formal_verification.domain import certificate_flaws, signed_bytes
from factories import Running, running, settings

SCHEMA = """
entity Agent { trust: Long };
entity Account { frozen: Bool };
action pay, refund appliesTo { principal: [Agent], resource: [Account], context: { amount: Long } };
"""
PERMISSIVE = '@id("pay") permit(principal, action == Action::"pay", resource) when { context.amount <= 500 };'
COMPLIANT = PERMISSIVE.replace("};", "&& !resource.frozen };")


def constitution(**changes: object) -> dict[str, object]:
    principle = {
        "id": "no-frozen",
        "title": "Frozen accounts",
        "text": "An agent must never move money on a frozen account.",
        "category": "money",
        "priority": 1,
        "invariants": [{"kind": "never", "when": "resource.frozen"}],
    }
    return {"name": "Bank", "schema_text": SCHEMA, "principles": [{**principle, **changes}]}


@pytest.fixture
async def room(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as service:
        yield service


async def verify(room: Running, policies: str, law: dict[str, object], query: str = "?wait=60"):
    body = {"policies": policies, "constitution": law}
    return await room.client.post(f"/api/v1/verifications{query}", json=body, headers=room.headers(Role.LEGISLATOR))


async def test_a_set_that_breaks_a_principle_is_refuted_with_a_request_that_shows_it(room: Running):
    answer = await verify(room, PERMISSIVE, constitution())
    assert answer.status_code == 201, answer.text
    report = answer.json()
    assert report["verdict"] == "refuted"
    assert report["certificate_hash"] is None
    refuted = [o for o in report["obligations"] if o["verdict"] == "refuted"]
    assert [(o["kind"], o["principle_id"], o["environment"]["action"]) for o in refuted] == [
        ("never", "no-frozen", 'Action::"pay"')
    ]
    shown = refuted[0]["counterexample"]
    assert shown["decisions"] == ["allow"]
    assert shown["determining_policies"] == ["pay"]
    assert "resource.frozen = true" in shown["explanation"]
    assert "`no-frozen`" in shown["explanation"]


async def test_a_compliant_set_gets_a_certificate_that_verifies_offline(room: Running):
    report = (await verify(room, COMPLIANT, constitution())).json()
    assert report["verdict"] == "proved"
    path = f"/api/v1/certificates/{report['certificate_hash']}"
    certificate = Certificate.model_validate_json(
        (await room.client.get(path, headers=room.headers(Role.AUDITOR))).content
    )
    key = VerifierKey.model_validate_json((await room.client.get("/api/v1/verifier-key")).content)
    assert certificate_flaws(certificate) == []
    assert certificate.key_id == key.key_id
    signature = base64url_decode(certificate.signature)
    assert VerifyingKey.from_base64url(key.public_key).verify(signature, signed_bytes(certificate.body))
    assert certificate.body.policies_hash == report["policies_hash"]
    assert {o.kind for o in certificate.body.obligations} == {"never", "never_errors"}
    inputs = (await room.client.get(f"{path}/inputs", headers=room.headers(Role.AUDITOR))).json()
    assert inputs["policies"] == COMPLIANT


async def test_a_constitution_without_invariants_proves_nothing_about_an_empty_set(room: Running):
    report = (await verify(room, "// none", constitution(invariants=[]))).json()
    assert (report["verdict"], report["obligations"]) == ("unknown", [])
    assert report["principles_without_invariants"] == ["no-frozen"]
    assert report["certificate_hash"] is None


async def test_invalid_policies_are_refused_with_line_and_column(room: Running):
    answer = await verify(room, "\n  permit(principal, action, resource) when { resource.frosen };", constitution())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_policies")
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["line"]) == ("/policies", 2)
    assert "frosen" in error["detail"]


async def test_a_template_is_refused_by_name_and_position(room: Running):
    answer = await verify(room, "permit(principal == ?principal, action, resource);", constitution())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_policies")
    assert "template" in answer.json()["detail"]


async def test_a_policy_may_not_take_the_id_of_a_guard(room: Running):
    answer = await verify(room, '@id("guard:no-frozen:0") permit(principal, action, resource);', constitution())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_policies")
    assert "reserved" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("invariant", "says"),
    [
        ({"kind": "never", "when": "resource.frosen"}, "frosen"),
        ({"kind": "never", "when": "true }; permit(principal, action, resource) when { true"}, "closes nothing"),
        ({"kind": "always", "when": "context.amount <"}, "invariant 0"),
        ({"kind": "never", "when": "true", "principal": "Robot"}, "no entity type `Robot`"),
        ({"kind": "never", "when": "true", "actions": ["steal"]}, 'no action `Action::"steal"`'),
        ({"kind": "indifferent_to", "attributes": ["context.colour"]}, "`context.colour`"),
        ({"kind": "monotone_in", "attribute": "resource.frozen"}, "only a Long can be raised"),
    ],
)
async def test_an_invariant_that_means_nothing_is_refused_by_principle(
    room: Running, invariant: dict[str, object], says: str
):
    answer = await verify(room, COMPLIANT, constitution(invariants=[invariant]))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_constitution"), answer.text
    assert says in answer.json()["detail"]
    assert "`no-frozen`" in answer.json()["detail"]


async def test_a_second_verification_of_the_same_inputs_proves_nothing_again(room: Running):
    first = (await verify(room, COMPLIANT, constitution())).json()
    second = (await verify(room, COMPLIANT, constitution())).json()
    assert second["id"] != first["id"]
    assert second["obligations"] == first["obligations"]
    listed = (await room.client.get("/api/v1/verifications", headers=room.headers(Role.MEMBER))).json()["items"]
    assert [item["id"] for item in listed] == [second["id"], first["id"]]
    assert {item["verdict"] for item in listed} == {"proved"}


async def test_a_verification_that_is_not_waited_for_can_be_asked_about_later(room: Running):
    begun = await verify(room, COMPLIANT, constitution(), "?wait=0")
    assert begun.status_code == 202
    assert begun.json()["status"] == "running"
    answer = await room.client.get(begun.headers["Location"] + "?wait=60", headers=room.headers(Role.MEMBER))
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "proved"


async def test_a_cancelled_verification_says_so_and_has_no_report(room: Running):
    begun = (await verify(room, COMPLIANT, constitution(), "?wait=0")).json()
    path = f"/api/v1/verifications/{begun['id']}"
    headers = room.headers(Role.LEGISLATOR, subject="usr_019a0000-0000-7000-8000-000000000001")
    answer = await room.client.post(f"{path}/cancellation", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled"), answer.text
    assert "cancelled by `usr_019a0000" in (await room.client.get(path, headers=headers)).json()["detail"]


async def test_a_comparison_tells_widening_from_narrowing_with_a_request_for_each(room: Running):
    new = '@id("pay") permit(principal, action == Action::"pay", resource) when { context.amount <= 600 && principal.trust > 3 };'
    body = {"schema_text": SCHEMA, "old": PERMISSIVE, "new": new}
    answer = await room.client.post("/api/v1/comparisons", json=body, headers=room.headers(Role.LEGISLATOR))
    assert answer.status_code == 200, answer.text
    comparison = answer.json()
    assert comparison["change"] == "both"
    by_action = {e["environment"]["action"]: e for e in comparison["environments"]}
    assert by_action['Action::"refund"']["change"] == "unchanged"
    pay = by_action['Action::"pay"']
    assert pay["newly_allowed"]["context"]["amount"] == 501
    assert pay["newly_allowed"]["decisions"] == ["deny", "allow"]
    assert pay["newly_denied"]["decisions"] == ["allow", "deny"]


@pytest.mark.parametrize(
    ("new", "change"),
    [
        (COMPLIANT, "narrows"),
        (PERMISSIVE.replace("500", "900"), "widens"),
        (PERMISSIVE.replace("context.amount <= 500", "!(context.amount > 500)"), "unchanged"),
    ],
)
async def test_a_change_is_judged_by_its_meaning(room: Running, new: str, change: str):
    body = {"schema_text": SCHEMA, "old": PERMISSIVE, "new": new}
    answer = await room.client.post("/api/v1/comparisons", json=body, headers=room.headers(Role.MEMBER))
    assert answer.json()["change"] == change


@pytest.mark.parametrize("role", [Role.AGENT, Role.OPERATOR])
async def test_only_those_who_govern_may_start_proofs(room: Running, role: Role):
    body = {"policies": COMPLIANT, "constitution": constitution()}
    answer = await room.client.post("/api/v1/verifications", json=body, headers=room.headers(role))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/verifications/ver_019a0000-0000-7000-8000-000000000001", "verification_not_found"),
        (f"/api/v1/certificates/{'0' * 64}", "certificate_not_found"),
    ],
)
async def test_what_is_not_there_is_named(room: Running, path: str, code: str):
    answer = await room.client.get(path, headers=room.headers(Role.AUDITOR))
    assert (answer.status_code, answer.json()["code"]) == (404, code)


async def test_completion_and_certificate_are_events_for_the_log(room: Running):
    report = (await verify(room, COMPLIANT, constitution())).json()
    from sqlalchemy import select

    from acgs1.kit.outbox import OUTBOX

    async with room.app.state.platform.database.reading() as session:
        events = [row.event for row in await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.sequence))]
    assert [(e["type"], e["subject"]) for e in events] == [
        ("verification.completed", report["id"]),
        ("certificate.issued", report["certificate_hash"]),
    ]
    assert events[0]["data"]["obligations"] == {"proved": 5, "refuted": 0, "unknown": 0}


async def test_a_verification_interrupted_by_a_restart_is_taken_up_again(tmp_path: Path):
    config = settings(tmp_path)
    async with running(create_app, config) as room:
        begun = (await verify(room, COMPLIANT, constitution(), "?wait=0")).json()
        assert begun["status"] == "running"
    async with running(create_app, config) as room:
        await room.app.state.service.resume()
        path = f"/api/v1/verifications/{begun['id']}?wait=60"
        answer = await room.client.get(path, headers=room.headers(Role.MEMBER))
        assert answer.json()["verdict"] == "proved", answer.text


async def test_progress_is_streamed_until_the_outcome(room: Running):
    begun = await verify(room, COMPLIANT, constitution(), "?wait=0")
    path = begun.headers["Location"] + "/events"
    answer = await room.client.get(path, headers=room.headers(Role.MEMBER))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.splitlines() for block in answer.text.strip().split("\n\n")]
    kinds = [lines[0] for lines in events]
    assert kinds[-1] == "event: outcome"
    assert set(kinds[:-1]) <= {"event: progress"}
    outcome = json.loads(events[-1][1].removeprefix("data: "))
    assert (outcome["id"], outcome["verdict"]) == (begun.json()["id"], "proved")
    done = [json.loads(lines[1].removeprefix("data: "))["obligations_done"] for lines in events[:-1]]
    assert done == sorted(done)


async def test_there_is_no_stream_for_what_is_not_there(room: Running):
    path = "/api/v1/verifications/ver_019a0000-0000-7000-8000-000000000001/events"
    answer = await room.client.get(path, headers=room.headers(Role.MEMBER))
    assert answer.json()["code"] == "verification_not_found"


async def test_more_obligations_than_the_limit_are_refused_with_the_number(
    room: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("acgs1.services.formal_verification.adapters.pool.MAX_OBLIGATIONS", 4)
    answer = await verify(room, COMPLIANT, constitution())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_obligations")
    assert "5 obligations; the limit is 4" in answer.json()["detail"]


async def test_when_no_prover_can_be_started_that_is_said_and_can_be_tried_again(
    room: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room.app.state.pool, "_command", ("/nonexistent/python",))
    answer = await verify(room, COMPLIANT, constitution())
    assert (answer.status_code, answer.json()["code"]) == (503, "prover_unavailable")
    assert answer.headers["Retry-After"] == "1"


async def test_questions_hygiene_and_constitutions_have_endpoints(room: Running):
    headers = room.headers(Role.LEGISLATOR)
    question = {"schema_text": SCHEMA, "policies": PERMISSIVE, "when": "context.amount > 500"}
    answer = (await room.client.post("/api/v1/questions", json=question, headers=headers)).json()
    assert answer["answer"] == "no"
    check = {"policies": PERMISSIVE + PERMISSIVE.replace("pay", "pay2", 1), "constitution": constitution()}
    found = (await room.client.post("/api/v1/hygiene-checks", json=check, headers=headers)).json()
    assert {f["kind"] for f in found["findings"]} == {"shadowed"}
    law = {
        "constitution": constitution(invariants=[{"kind": "never", "when": "true"}, {"kind": "always", "when": "true"}])
    }
    found = (await room.client.post("/api/v1/constitution-checks", json=law, headers=headers)).json()
    assert {f["kind"] for f in found["findings"]} == {"contradiction"}


async def test_an_idempotency_key_gives_the_first_answer_again(room: Running):
    headers = {
        **room.headers(Role.LEGISLATOR, subject="usr_019a0000-0000-7000-8000-000000000001"),
        "Idempotency-Key": "k",
    }
    body = {"policies": COMPLIANT, "constitution": constitution()}
    first = await room.client.post("/api/v1/verifications?wait=60", json=body, headers=headers)
    again = await room.client.post("/api/v1/verifications?wait=60", json=body, headers=headers)
    assert again.json()["id"] == first.json()["id"]


async def test_a_verification_that_is_writing_its_report_is_not_cancelled_any_more(
    room: Running, monkeypatch: pytest.MonkeyPatch
):
    service = room.app.state.service
    conclude = service._conclude
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held(*arguments: object) -> object:
        reached.set()
        await go_on.wait()
        return await conclude(*arguments)

    monkeypatch.setattr(service, "_conclude", held)
    begun = (await verify(room, COMPLIANT, constitution(), "?wait=0")).json()
    await reached.wait()
    path = f"/api/v1/verifications/{begun['id']}/cancellation"
    cancelling = asyncio.create_task(room.client.post(path, headers=room.headers(Role.LEGISLATOR)))
    go_on.set()
    answer = await cancelling
    assert answer.json()["verdict"] == "proved"
    listed = (await room.client.get("/api/v1/verifications", headers=room.headers(Role.MEMBER))).json()["items"]
    assert [item["status"] for item in listed] == ["done"]
