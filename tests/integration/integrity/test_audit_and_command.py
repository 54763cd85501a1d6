"""`acgs1 log` and `acgs1 verify evidence`, on a log with anchors; and what the audit finds when the database was changed."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from acgs1.cli.evidence import evidence, log
from acgs1.contracts.auth import Role
from acgs1.contracts.events import new_event
from acgs1.core.clock import SystemClock
from acgs1.services.integrity.app import create_app
from factories import running, settings

ENTRIES = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, running_node: Any) -> Path:
    """A home with a log of 300 entries, an anchor, and the evidence of one entry beside it; the node has stopped."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "home"

    async def make() -> None:
        async with running_node(folder / "ledger") as node:
            await node.initialize(home)
            async with running(create_app, settings(home, urls={"ledger": node.url})) as service:
                now = SystemClock().now()
                events = [
                    new_event("tester", "thing.happened", now, actor="agt_1", subject=f"s{n}") for n in range(ENTRIES)
                ]
                for start, end in ((0, 3), (3, 290), (290, ENTRIES)):
                    body = {"events": [event.model_dump(mode="json") for event in events[start:end]]}
                    answer = await service.client.post(
                        "/api/v1/events", json=body, headers=service.headers(Role.SERVICE)
                    )
                    answer.raise_for_status()
                path = f"/api/v1/evidence/{events[7].id}?wait=30"
                answer = await service.client.get(path, headers=service.headers(Role.AUDITOR))
                (folder / "evidence.json").write_bytes(answer.content)
                (folder / "event-id").write_text(events[7].id)
                (folder / "log-key").write_text((await service.client.get("/log-key")).text.strip())
                asked = await asyncio.to_thread(run, evidence, str(folder / "evidence.json"), "--ledger", node.url)
                (folder / "asked").write_text(f"{asked.exit_code}\n{asked.output}")

    asyncio.run(make())
    return folder


def run(command: Any, *arguments: str, home: Path | None = None) -> Result:
    return CliRunner().invoke(command, arguments, env={"ACGS_HOME": str(home)} if home else None)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A home of its own to spoil."""
    shutil.copytree(made / "home", tmp_path / "home")
    return tmp_path / "home"


def change(home: Path, statement: str, *parameters: object) -> None:
    with sqlite3.connect(home / "db" / "integrity.sqlite3") as connection:
        assert connection.execute(statement, parameters).rowcount >= 1


def findings(home: Path, *arguments: str) -> list[str]:
    result = run(log, "fsck", "--json", *arguments, home=home)
    report = json.loads(result.output)
    assert (result.exit_code == 0) == report["ok"] == (not report["findings"])
    return report["findings"]


def test_the_audit_of_a_sound_log_counts_all_and_finds_nothing(made: Path):
    result = run(log, "fsck", "--json", home=made / "home")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert (report["entries"], report["checkpoints"], report["tiles"]) == (ENTRIES, 4, 3)
    assert report["anchors"] >= 1
    assert "is sound" in run(log, "fsck", home=made / "home").output
    assert findings(made / "home", "--log-key", (made / "log-key").read_text()) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE entries SET content = CAST(replace(content, 'agt_1', 'agt_2') AS BLOB) WHERE leaf_index = 12",
            "leaf 12 has another hash",
        ),
        ("UPDATE entries SET content = CAST(content AS TEXT) WHERE leaf_index = 12", "leaf 12 is not stored as bytes"),
        ("UPDATE entries SET content = x'7b7d' WHERE leaf_index = 12", "leaf 12 does not hold an event"),
        (
            "UPDATE entries SET content = CAST(content || ' ' AS BLOB) WHERE leaf_index = 12",
            "leaf 12 is not in canonical form",
        ),
        ("UPDATE entries SET leaf_hash = zeroblob(32) WHERE leaf_index = 299", "leaf 299 has another hash"),
        ("UPDATE entries SET event_id = 'evt_x' WHERE leaf_index = 12", "leaf 12"),
        ("UPDATE entries SET type = 'other.thing' WHERE leaf_index = 12", "listed under fields"),
        ("UPDATE entries SET service = 'other' WHERE leaf_index = 12", "listed under fields"),
        ("UPDATE entries SET actor = 'other' WHERE leaf_index = 12", "listed under fields"),
        ("UPDATE entries SET subject = 'other' WHERE leaf_index = 12", "listed under fields"),
        ("UPDATE entries SET time = '2020-01-01 00:00:00.000000' WHERE leaf_index = 12", "listed under fields"),
        ("DELETE FROM entries WHERE leaf_index = 12", "leaf 12 is missing"),
        ("DELETE FROM entries WHERE leaf_index = 299", "of 300 leaves, but there are 299"),
        ("DELETE FROM tiles WHERE level = 1", "tiles are stored"),
        ("UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND number = 0", "tile 0 at level 0"),
        ("UPDATE tiles SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND number = 1", "tile 1 at level 0"),
        ("INSERT INTO tiles VALUES (3, 0, zeroblob(32))", "tiles are stored"),
        ("UPDATE checkpoints SET root_hash = zeroblob(32) WHERE tree_size = 290", "says another head"),
        ("UPDATE checkpoints SET note = replace(note, '290', '291') WHERE tree_size = 290", "not signed by the log"),
        ("DELETE FROM checkpoints WHERE tree_size = 300", "newest checkpoint is of 290"),
        ("UPDATE anchors SET root_hash = zeroblob(32)", "is of another tree"),
        ('UPDATE anchors SET transaction = zeroblob(length("transaction"))', "does not verify"),
        ("UPDATE anchors SET tree_size = 299", "no checkpoint was signed"),
    ],
)
def test_the_audit_finds_every_change_of_the_database(copy: Path, statement: str, expected: str):
    change(copy, statement.replace("SET transaction", 'SET "transaction"'))
    found = findings(copy)
    assert any(expected in finding for finding in found), found


def test_the_audit_finds_a_database_that_was_set_back_as_a_whole(copy: Path):
    change(copy, "DELETE FROM entries WHERE leaf_index >= 290")
    change(copy, "DELETE FROM checkpoints WHERE tree_size > 290")
    assert any("was signed, but there are only 290" in finding for finding in findings(copy))


def test_the_audit_finds_another_key(copy: Path):
    stranger = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert "not signed by the log" in findings(copy, "--log-key", stranger)[1]


def test_where_there_is_no_log_the_commands_say_so_with_status_2(tmp_path: Path):
    for arguments in (["fsck"], ["checkpoint"], ["show"]):
        result = run(log, *arguments, home=tmp_path / "nothing")
        assert result.exit_code == 2
        assert "there is no log" in result.output
    assert not (tmp_path / "nothing").exists()


def test_a_checkpoint_and_entries_are_shown(made: Path):
    home = made / "home"
    newest = run(log, "checkpoint", home=home)
    assert newest.output.splitlines()[1] == str(ENTRIES)
    assert run(log, "checkpoint", "--size", "290", home=home).output.splitlines()[1] == "290"
    assert run(log, "checkpoint", "--size", "77", home=home).exit_code == 2
    event_id = (made / "event-id").read_text()
    assert json.loads(run(log, "show", event_id, home=home).output)["event"]["id"] == event_id
    assert run(log, "show", "evt_none", home=home).exit_code == 2
    assert len(run(log, "show", "--limit", "5", home=home).output.splitlines()) == 5


def test_evidence_verifies_offline_with_status_0(made: Path):
    file, key = str(made / "evidence.json"), (made / "log-key").read_text()
    result = run(evidence, file, "--log-key", key)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("verified\n")
    assert "not compared  log authority" in result.output
    report = json.loads(run(evidence, file, "--json").output)
    assert report["verified"] is True
    assert {"name": "inclusion", "passed": True}.items() <= report["checks"][5].items()


def test_evidence_was_found_on_the_running_ledger(made: Path):
    status, output = (made / "asked").read_text().split("\n", 1)
    assert status == "0", output
    assert "ledger transaction: landed in slot" in output
    assert "FAILED" not in output


def test_forged_evidence_has_status_1_and_the_failing_checks_are_named(made: Path, tmp_path: Path):
    forged = tmp_path / "forged.json"
    forged.write_text((made / "evidence.json").read_text().replace('"actor":"agt_1"', '"actor":"agt_2"'))
    result = run(evidence, str(forged))
    assert result.exit_code == 1
    assert "FAILED        leaf hash" in result.output
    assert result.output.endswith("NOT VERIFIED\n")


def test_what_is_no_evidence_has_status_2(tmp_path: Path):
    (tmp_path / "x.json").write_text("{}")
    result = run(evidence, str(tmp_path / "x.json"))
    assert result.exit_code == 2
    assert "not an evidence bundle" in result.output


def test_a_ledger_that_does_not_answer_has_status_2(made: Path):
    result = run(evidence, str(made / "evidence.json"), "--ledger", "http://127.0.0.1:9")
    assert result.exit_code == 2, result.output
