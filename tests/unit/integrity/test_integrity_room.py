"""What the log promises its callers, over HTTP, with no ledger in reach."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.events import Event
from acgs1.contracts.integrity import Entry, InclusionProof, leaf_content
from acgs1.core.ids import new_id
from acgs1.core.merkle import TreeHead, leaf_hash, verify_consistency, verify_inclusion
from acgs1.kit.notes import NoteVerifier, open_checkpoint
from acgs1.services.integrity.app import create_app
from acgs1.services.integrity.settings import IntegritySettings
from factories import Running, running, settings

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
async def log(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as service:
        yield service


def event(**changes: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": new_id("evt"),
        "type": "thing.happened",
        "time": NOW,
        "service": "tester",
        "actor": "agt_1",
        "subject": "thing-1",
        "data": {"amount": 12.5, "nested": {"list": [1, None, "ü"]}},
    }
    return Event.model_validate({**values, **changes}).model_dump(mode="json")


async def send(log: Running, *events: dict[str, Any]) -> Any:
    return await log.client.post("/api/v1/events", json={"events": list(events)}, headers=log.headers(Role.SERVICE))


async def get(log: Running, path: str, *roles: Role, who: str | None = None, **params: Any) -> Any:
    return await log.client.get(
        path, params=params or None, headers=log.headers(*(roles or (Role.AUDITOR,)), subject=who)
    )


async def head(log: Running) -> TreeHead:
    key = (await log.client.get("/log-key")).text.strip()
    return open_checkpoint((await log.client.get("/checkpoint")).text, NoteVerifier.from_vkey(key)).head


async def test_an_empty_log_has_a_signed_checkpoint_that_anybody_may_read(log: Running):
    assert (await head(log)).size == 0


async def test_events_get_places_in_order_and_an_entry_hashes_to_its_leaf(log: Running):
    events = [event(), event()]
    receipts = (await send(log, *events)).json()["receipts"]
    assert [(r["event_id"], r["leaf_index"], r["duplicate"]) for r in receipts] == [
        (events[0]["id"], 0, False),
        (events[1]["id"], 1, False),
    ]
    answer = await get(log, f"/api/v1/entries/{events[1]['id']}")
    entry = Entry.model_validate_json(answer.content)
    assert entry.event.model_dump(mode="json") == events[1]
    assert leaf_hash(leaf_content(entry.event, entry.logged_at)).hex() == entry.leaf_hash
    assert (await head(log)).size == 2


async def test_an_event_sent_twice_stands_in_the_log_once(log: Running):
    one, two = event(), event()
    await send(log, one)
    receipts = (await send(log, one, two, two)).json()["receipts"]
    assert [(r["leaf_index"], r["duplicate"]) for r in receipts] == [(0, True), (1, False), (1, True)]
    assert (await head(log)).size == 2


async def test_another_event_under_a_known_id_is_refused_and_nothing_of_its_batch_is_logged(log: Running):
    one = event()
    await send(log, one)
    answer = await send(log, event(), {**one, "subject": "thing-2"})
    assert (answer.status_code, answer.json()["code"]) == (409, "event_conflict")
    assert answer.json()["errors"][0]["pointer"] == "/events/1"
    assert (await head(log)).size == 1


async def test_a_service_cannot_log_for_another(log: Running):
    answer = await send(log, event(service="auth"))
    assert (answer.status_code, answer.json()["code"]) == (403, "service_mismatch")


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SERVICE])
async def test_only_services_log_events(log: Running, role: Role):
    answer = await log.client.post("/api/v1/events", json={"events": [event()]}, headers=log.headers(role))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "data", [{"n": 2**53}, {"n": 1e16}, {"n": 1e300}, {"text": "x" * 70_000}], ids=["integer", "float", "huge", "large"]
)
async def test_what_cannot_be_a_leaf_is_refused_by_name(log: Running, data: dict[str, Any]):
    answer = await send(log, event(data=data))
    if data == {"n": 1e300}:
        # Written with an exponent, it reads back as it was.
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["code"]) == (422, "event_not_loggable")
    assert (await head(log)).size == 0


async def test_a_naive_time_is_refused(log: Running):
    answer = await send(log, {**event(), "time": "2026-01-01T00:00:00"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_inclusion_and_consistency_proofs_verify_against_checkpoints(log: Running):
    events = [event() for _ in range(300)]
    heads = [await head(log)]
    for start, end in ((0, 1), (1, 7), (7, 255), (255, 256), (256, 300)):
        await send(log, *events[start:end])
        heads.append(await head(log))
    for index in (0, 6, 254, 255, 256, 299):
        answer = await get(log, "/api/v1/proofs/inclusion", event_id=events[index]["id"])
        proof = InclusionProof.model_validate_json(answer.content)
        hashes = [bytes.fromhex(value) for value in proof.hashes]
        assert verify_inclusion(index, bytes.fromhex(proof.leaf_hash), heads[-1], hashes)
    for old in heads:
        for new in heads:
            if old.size > new.size:
                continue
            answer = await get(log, "/api/v1/proofs/consistency", old_size=old.size, new_size=new.size)
            assert verify_consistency(old, new, [bytes.fromhex(value) for value in answer.json()["hashes"]])


async def test_an_inclusion_proof_can_be_had_for_any_signed_checkpoint_and_no_other(log: Running):
    one, two = event(), event()
    await send(log, one)
    await send(log, two)
    old = await get(log, "/api/v1/proofs/inclusion", event_id=one["id"], tree_size=1)
    assert old.json()["tree_size"] == 1
    unsigned = await get(log, "/api/v1/proofs/inclusion", event_id=one["id"], tree_size=77)
    assert (unsigned.status_code, unsigned.json()["code"]) == (404, "checkpoint_not_found")
    outside = await get(log, "/api/v1/proofs/inclusion", event_id=two["id"], tree_size=1)
    assert (outside.status_code, outside.json()["code"]) == (422, "invalid_range")


async def test_a_consistency_proof_towards_the_future_is_refused(log: Running):
    await send(log, event())
    for params in ({"old_size": 2}, {"old_size": 1, "new_size": 5}, {"old_size": 1, "new_size": 0}):
        answer = await get(log, "/api/v1/proofs/consistency", **params)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_range")


async def test_entries_are_listed_newest_first_in_pages_and_filtered(log: Running):
    events = [
        event(subject=f"thing-{n % 2}", type=f"kind.{'ab'[n // 3]}", time=NOW + timedelta(days=n)) for n in range(6)
    ]
    await send(log, *events)

    async def ids(**params: Any) -> list[str]:
        return [item["event"]["id"] for item in (await get(log, "/api/v1/entries", **params)).json()["items"]]

    newest_first = [e["id"] for e in reversed(events)]
    assert await ids() == newest_first
    first = (await get(log, "/api/v1/entries", limit=4)).json()
    assert first["next_cursor"]
    rest = (await get(log, "/api/v1/entries", limit=4, cursor=first["next_cursor"])).json()
    assert [i["event"]["id"] for i in first["items"] + rest["items"]] == newest_first
    assert rest["next_cursor"] is None
    assert await ids(subject="thing-1") == newest_first[0::2]
    assert await ids(type="kind.a") == newest_first[3:]
    assert await ids(actor="agt_2") == []
    assert await ids(
        service="tester", since=(NOW + timedelta(days=2)).isoformat(), until=(NOW + timedelta(days=4)).isoformat()
    ) == [
        events[3]["id"],
        events[2]["id"],
    ]
    wrong = await get(log, "/api/v1/entries", cursor="x")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


async def test_an_agent_reads_the_entries_of_its_own_acts_alone(log: Running):
    mine, theirs = event(actor="agt_7"), event(actor="agt_8")
    await send(log, mine, theirs)
    for path in (f"/api/v1/entries/{mine['id']}", f"/api/v1/proofs/inclusion?event_id={mine['id']}"):
        assert (await get(log, path, Role.AGENT, who="agt_7")).status_code == 200
    for path in (f"/api/v1/entries/{theirs['id']}", f"/api/v1/evidence/{theirs['id']}", "/api/v1/entries"):
        assert (await get(log, path, Role.AGENT, who="agt_7")).status_code == 403
    assert (await get(log, "/api/v1/entries/evt_none")).json()["code"] == "entry_not_found"


async def test_the_tiles_give_the_tree_that_the_checkpoint_signs(log: Running):
    events = [event() for _ in range(260)]
    await send(log, *events)
    tile = (await get(log, "/tile/0/000")).content
    partial = (await get(log, "/tile/0/001.p/4")).content
    upper = (await get(log, "/tile/1/000.p/1")).content
    assert (len(tile), len(partial), len(upper)) == (256 * 32, 4 * 32, 32)
    bundle = (await get(log, "/tile/entries/001.p/4")).content
    contents = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        contents.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    assert b"".join(leaf_hash(content) for content in contents) == partial
    # A checkpoint of an earlier size needs an earlier width.
    assert (await get(log, "/tile/0/001.p/3")).content == partial[: 3 * 32]


@pytest.mark.parametrize(
    "path",
    ["0/001.p/4", "0/002", "00/000", "64/000", "x/000", "0/1", "entries/000", "entries/000.p/2", "5/000.p/1"],
)
async def test_a_tile_that_is_not_there_is_a_404(log: Running, path: str):
    await send(log, event())
    answer = await get(log, f"/tile/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "tile_not_found")


async def test_tiles_are_for_auditors(log: Running):
    await send(log, event())
    assert (await get(log, "/tile/0/000.p/1", Role.MEMBER)).status_code == 403
    assert (await get(log, "/tile/entries/000.p/1", Role.OPERATOR)).status_code == 403
    assert (await log.client.get("/tile/0/000.p/1")).status_code == 401


async def test_evidence_before_the_anchor_is_a_conflict_that_says_what_to_do(log: Running):
    one = event()
    await send(log, one)
    answer = await get(log, f"/api/v1/evidence/{one['id']}", wait=0.05)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_anchored")
    assert "wait" in answer.json()["detail"]


async def test_anchoring_without_a_ledger_is_a_503_and_the_service_is_degraded_but_logs_on(log: Running):
    await send(log, event())
    answer = await log.client.post("/api/v1/anchors", headers=log.headers(Role.OPERATOR))
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    health = (await log.client.get("/health")).json()
    assert health["status"] == "degraded"
    assert health["dependencies"]["ledger"].startswith("failed")
    assert (await send(log, event())).status_code == 200


async def test_an_empty_log_cannot_be_anchored(log: Running):
    answer = await log.client.post("/api/v1/anchors", headers=log.headers(Role.OPERATOR))
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_anchor")


async def test_the_log_goes_on_where_it_stood_after_a_restart(tmp_path: Path):
    one, two = event(), event()
    async with running(create_app, settings(tmp_path)) as log:
        await send(log, one)
        before = await head(log)
    async with running(create_app, settings(tmp_path)) as log:
        assert await head(log) == before
        receipts = (await send(log, one, two)).json()["receipts"]
        assert [(r["leaf_index"], r["duplicate"]) for r in receipts] == [(0, True), (1, False)]
        proof = (await get(log, "/api/v1/proofs/consistency", old_size=1)).json()
        assert verify_consistency(before, await head(log), [bytes.fromhex(h) for h in proof["hashes"]])


SUBJECT = "dec_0198c5a2-0000-7000-8000-000000000000"


async def test_an_appeal_is_filed_ruled_on_once_and_each_step_is_logged_without_its_words(log: Running):
    body = {"subject": SUBJECT, "grounds": "My booking was cancelled although Ada agreed."}
    filed = await log.client.post("/api/v1/appeals", json=body, headers=log.headers(Role.AGENT, subject="agt_7"))
    assert filed.status_code == 201
    appeal = filed.json()
    assert (appeal["status"], appeal["appellant"], appeal["ruling"]) == ("open", "agt_7", None)
    path = f"/api/v1/appeals/{appeal['id']}"
    ruling = {"outcome": "upheld", "reason": "Ada did agree."}
    assert (await log.client.post(f"{path}/ruling", json=ruling, headers=log.headers(Role.MEMBER))).status_code == 403
    ruled = await log.client.post(f"{path}/ruling", json=ruling, headers=log.headers(Role.LEGISLATOR, subject="usr_9"))
    assert (ruled.json()["status"], ruled.json()["ruling"], ruled.json()["ruled_by"]) == ("upheld", ruling, "usr_9")
    again = await log.client.post(f"{path}/ruling", json=ruling, headers=log.headers(Role.ADMIN))
    assert (again.status_code, again.json()["code"]) == (409, "appeal_closed")
    assert (await get(log, path, Role.AGENT, who="agt_7")).json() == ruled.json()
    await log.app.state.outbox.deliver_once()
    entries = (await get(log, "/api/v1/entries", subject=SUBJECT)).json()["items"]
    assert [entry["event"]["type"] for entry in entries] == ["appeal.ruled", "appeal.filed"]
    assert "Ada" not in str(entries)
    assert set(entries[1]["event"]["personal"]) == {"grounds"}


async def test_another_s_appeal_does_not_exist_for_those_who_may_not_read_all(log: Running):
    body = {"subject": SUBJECT, "grounds": "x"}
    appeal = (
        await log.client.post("/api/v1/appeals", json=body, headers=log.headers(Role.AGENT, subject="agt_7"))
    ).json()
    other = await get(log, f"/api/v1/appeals/{appeal['id']}", Role.AGENT, who="agt_8")
    assert (other.status_code, other.json()["code"]) == (404, "appeal_not_found")
    assert (await get(log, "/api/v1/appeals", Role.AGENT, who="agt_8")).json()["items"] == []
    assert len((await get(log, "/api/v1/appeals", Role.AUDITOR)).json()["items"]) == 1
    unknown = await log.client.post(
        "/api/v1/appeals/apl_none/ruling", json={"outcome": "dismissed", "reason": "x"}, headers=log.headers(Role.ADMIN)
    )
    assert unknown.status_code == 404


async def test_the_checkpoint_list_and_the_note_agree(log: Running):
    await send(log, event())
    await send(log, event())
    items = (await get(log, "/api/v1/checkpoints", Role.MEMBER)).json()["items"]
    assert [item["tree_size"] for item in items] == [2, 1, 0]
    assert items[0]["note"] == (await log.client.get("/checkpoint")).text
    assert base64.b64encode(bytes.fromhex(items[0]["root_hash"])).decode() in items[0]["note"]
    assert (await get(log, "/api/v1/checkpoints/latest", Role.MEMBER)).json() == items[0]


async def test_the_log_has_the_name_that_it_is_given_and_otherwise_one_of_its_own(tmp_path: Path):
    named = IntegritySettings(origin="log.example.org/acgs")
    async with running(lambda config: create_app(config, named), settings(tmp_path / "a")) as log:
        assert (await log.client.get("/checkpoint")).text.startswith("log.example.org/acgs\n0\n")
    names = set()
    for folder in ("b", "c"):
        async with running(create_app, settings(tmp_path / folder)) as log:
            names.add((await log.client.get("/checkpoint")).text.split("\n")[0])
    assert len(names) == 2
