"""Evidence from the running log and a real ledger node, verified offline, and attacked."""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.events import Event
from acgs1.core.ids import new_id
from acgs1.services.integrity.app import create_app
from acgs1.services.integrity.domain import parse_evidence, verified, verify_evidence
from acgs1.services.integrity.errors import MalformedEvidence
from factories import Running, running, settings


@pytest.fixture
async def log(tmp_path: Path, node: Any):
    home = tmp_path / "home"
    await node.initialize(home)
    async with running(create_app, settings(home, urls={"ledger": node.url})) as service:
        yield service


async def send(log: Running, count: int = 1) -> list[str]:
    events = [
        Event(
            id=new_id("dec"),
            type="decision.made",
            time=datetime.now(UTC),
            service="tester",
            actor="agt_1",
            subject=f"thing-{number}",
            data={"allowed": False, "amount": 12.5, "path": ["a", None, 3]},
        ).model_dump(mode="json")
        for number in range(count)
    ]
    answer = await log.client.post("/api/v1/events", json={"events": events}, headers=log.headers(Role.SERVICE))
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in events]


async def evidence(log: Running, event_id: str, **params: Any) -> bytes:
    answer = await log.client.get(
        f"/api/v1/evidence/{event_id}", params={"wait": 30, **params}, headers=log.headers(Role.AUDITOR)
    )
    assert answer.status_code == 200, answer.text
    return answer.content


def holds(text: bytes | str, **trusted: Any) -> bool:
    """Whether evidence is accepted, end to end as the command does it."""
    try:
        return verified(verify_evidence(parse_evidence(text), **trusted))
    except MalformedEvidence:
        return False


async def test_evidence_of_an_anchored_entry_verifies_with_keys_got_elsewhere(log: Running):
    ids = await send(log, 5)
    text = await evidence(log, ids[3])
    bundle = parse_evidence(text)
    key = (await log.client.get("/log-key")).text.strip()
    checks = verify_evidence(bundle, key, authority=bundle.anchor.authority, program_id=bundle.anchor.program_id)
    assert all(check.passed is True for check in checks), checks
    assert {check.name for check in checks} >= {
        "leaf hash",
        "inclusion",
        "checkpoint signature",
        "anchor transaction",
        "anchor",
    }
    # Without keys from elsewhere nothing fails, but the report says what was not compared.
    assert [check.name for check in verify_evidence(bundle) if check.passed is None] == [
        "log key",
        "log authority",
        "program",
    ]


async def test_evidence_under_a_later_checkpoint_is_tied_to_the_anchor_by_consistency(log: Running):
    first = await send(log, 3)
    await evidence(log, first[0])
    await send(log, 4)
    bundle = parse_evidence(await evidence(log, first[0], tree_size=7))
    assert bundle.anchor.tree_size == 3
    assert bundle.anchor_consistency is not None
    assert holds(bundle.model_dump_json())


async def test_evidence_does_not_change_as_the_log_grows(log: Running):
    ids = await send(log, 2)
    before = await evidence(log, ids[0])
    await evidence(log, (await send(log, 3))[0])
    assert await evidence(log, ids[0]) == before


async def test_evidence_of_one_entry_does_not_pass_for_another(log: Running):
    ids = await send(log, 4)
    one, two = json.loads(await evidence(log, ids[0])), json.loads(await evidence(log, ids[1]))
    for member in ("entry", "proof"):
        assert not holds(json.dumps({**one, member: two[member]}))


async def test_keys_of_somebody_else_are_noticed(log: Running):
    text = await evidence(log, (await send(log))[0])
    bundle = parse_evidence(text)
    assert not holds(text, log_key=bundle.log_key[:-2] + "AA")
    assert not holds(text, authority="11111111111111111111111111111111")
    assert not holds(text, program_id="11111111111111111111111111111111")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    match value:
        case dict():
            for name, item in value.items():
                yield from leaves(item, (*path, name))
        case list():
            for index, item in enumerate(value):
                yield from leaves(item, (*path, index))
        case _:
            yield path, value


def changed(value: Any) -> list[Any]:
    """Other values of the same and of other types."""
    match value:
        case bool():
            return [not value, None, int(value)]
        case None:
            return [0, "", False]
        case int() | float():
            return [value + 1, -1, str(value), None, value + 0.5]
        case str() if value:
            middle = len(value) // 2
            other = "b" if value[middle] == "a" else "a"
            return [value[:middle] + other + value[middle + 1 :], value[:-1], value + "0", "", None]
        case _:
            return ["x"]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


async def test_any_changed_value_anywhere_makes_the_evidence_fail(log: Running):
    first = await send(log, 3)
    await evidence(log, first[0])
    await send(log, 4)
    for text in (await evidence(log, first[1]), await evidence(log, first[1], tree_size=7)):
        document = json.loads(text)
        assert holds(text)
        count = 0
        for path, value in leaves(document):
            for other in changed(value):
                assert not holds(json.dumps(replaced(document, path, other))), (path, value, other)
                count += 1
        assert count > 100


async def test_any_changed_character_makes_the_evidence_fail(log: Running):
    first = await send(log, 3)
    await evidence(log, first[0])
    await send(log, 4)
    text = (await evidence(log, first[1], tree_size=7)).decode()
    value = json.loads(text)
    for at in range(len(text)):
        for other in (chr(ord(text[at]) ^ 1), chr(ord(text[at]) ^ 0x20)):
            forged = text[:at] + other + text[at + 1 :]
            if forged == text:
                continue
            assert not holds(forged) or same_value(forged, value), (at, text[at], other)


def same_value(text: str, value: Any) -> bool:
    """A change that JSON itself calls none, such as one space for another."""
    return json.loads(text) == value


@pytest.mark.parametrize(
    "forge",
    [
        lambda d: {**d, "extra": 1},
        lambda d: {**d, "entry": {**d["entry"], "extra": 1}},
        lambda d: {k: v for k, v in d.items() if k != "anchor"},
        lambda d: {**d, "proof": {**d["proof"], "hashes": [*d["proof"]["hashes"], "00" * 32]}},
        lambda d: {**d, "proof": {**d["proof"], "hashes": d["proof"]["hashes"][:-1]}},
        lambda d: {**d, "proof": {**d["proof"], "leaf_index": d["proof"]["leaf_index"] + 1}},
        lambda d: {
            **d,
            "anchor_consistency": {
                "old_size": 3,
                "new_size": 3,
                "hashes": [],
                "old_root": "00" * 32,
                "new_root": "00" * 32,
            },
        },
        lambda d: {**d, "checkpoint": d["checkpoint"] + d["checkpoint"].split("\n")[-2] + "\n"},
    ],
)
async def test_added_and_removed_parts_make_the_evidence_fail(log: Running, forge: Callable[[Any], Any]):
    document = json.loads(await evidence(log, (await send(log, 3))[1]))
    assert not holds(json.dumps(forge(document)))


async def test_a_member_that_occurs_twice_makes_the_evidence_fail(log: Running):
    text = (await evidence(log, (await send(log))[0])).decode()
    assert not holds('{"format":"acgs1-evidence/1",' + text[1:])
    assert not holds("[" * 100_000)
    assert not holds(b"\xff\xfe")


async def test_every_byte_of_the_transaction_is_covered(log: Running):
    document = json.loads(await evidence(log, (await send(log))[0]))
    raw = base64.b64decode(document["anchor"]["transaction"])
    for at in range(len(raw)):
        forged = bytes([*raw[:at], raw[at] ^ 1, *raw[at + 1 :]])
        anchor = {**document["anchor"], "transaction": base64.b64encode(forged).decode()}
        assert not holds(json.dumps({**document, "anchor": anchor})), at


async def test_a_ledger_that_was_down_is_caught_up_with_once_it_is_back(log: Running, node: Any):
    before = await send(log)
    await evidence(log, before[0])
    await node.stop()
    meanwhile = await send(log, 3)
    failed = await log.client.post("/api/v1/anchors", headers=log.headers(Role.OPERATOR))
    assert failed.status_code == 503
    assert (await log.client.get("/health")).json()["dependencies"]["ledger"].startswith("failed")
    await node.start()
    anchored = await log.client.post("/api/v1/anchors", headers=log.headers(Role.OPERATOR))
    assert (anchored.status_code, anchored.json()["tree_size"]) == (201, 4)
    assert holds(await evidence(log, meanwhile[0]))
    assert (await log.client.get("/health")).json()["dependencies"]["ledger"] == "ok"


async def test_an_anchor_whose_record_was_lost_is_found_in_the_ledger_s_history(log: Running, tmp_path: Path):
    ids = await send(log, 2)
    first = await evidence(log, ids[0])
    with sqlite3.connect(tmp_path / "home" / "db" / "integrity.sqlite3") as connection:
        connection.execute("DELETE FROM anchors")
    again = await log.client.post("/api/v1/anchors", headers=log.headers(Role.OPERATOR))
    assert again.status_code == 201, again.text
    assert await evidence(log, ids[0]) == first


async def anchor(service: Running) -> tuple[int, str, str]:
    answer = await service.client.post("/api/v1/anchors", headers=service.headers(Role.OPERATOR))
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


async def test_a_ledger_without_the_governance_program_s_account_is_waited_for(tmp_path: Path, node: Any):
    home = tmp_path / "home"
    async with running(create_app, settings(home, urls={"ledger": node.url})) as service:
        ids = await send(service)
        assert (await anchor(service))[:2] == (503, "ledger_not_ready")
        assert (await service.client.get("/health")).json()["dependencies"]["ledger"] == "ok"
        await node.initialize(home)
        assert holds(await evidence(service, ids[0]))


async def test_a_ledger_that_names_another_log_authority_is_a_fault_that_is_named(tmp_path: Path, node: Any):
    await node.initialize(tmp_path / "somebody-else")
    async with running(create_app, settings(tmp_path / "home", urls={"ledger": node.url})) as service:
        await send(service)
        status, code, detail = await anchor(service)
        assert (status, code) == (503, "dependency_unavailable")
        assert "log authority" in detail
