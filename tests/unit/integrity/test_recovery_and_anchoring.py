"""What the log refuses to sign, and how anchoring behaves with a ledger that fails, forgets or contradicts."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.integrity import Anchor
from acgs1.core.clock import ManualClock
from acgs1.core.merkle import TreeHead
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.notes import NoteSigner
from acgs1.kit.reporting import workflow_runs
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.anchoring import Anchorer
from acgs1.services.integrity.app import create_app
from acgs1.services.integrity.errors import LedgerNotReady, LogHalted, NothingToAnchor
from acgs1.services.integrity.jobs import keep_anchored
from acgs1.services.integrity.ports import LandedAnchor
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer
from factories import running, settings


class FakeLedger:
    """A ledger in memory that keeps `ports.Ledger`'s promises, until it is told to fail."""

    def __init__(self) -> None:
        self.landed: list[TreeHead] = []
        self.error: Exception | None = None
        self.dies_after_landing = False

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def anchored(self) -> TreeHead | None:
        self._check()
        return self.landed[-1] if self.landed else None

    async def anchor(self, head: TreeHead) -> LandedAnchor:
        self._check()
        if self.landed and head.size <= self.landed[-1].size:
            raise DependencyUnavailable("the tree has not grown")
        self.landed.append(head)
        if self.dies_after_landing:
            self.dies_after_landing = False
            raise DependencyUnavailable("no answer")
        return self._anchor(head)

    async def find(self, head: TreeHead) -> LandedAnchor | None:
        self._check()
        return self._anchor(head) if head in self.landed else None

    def _anchor(self, head: TreeHead) -> LandedAnchor:
        anchor = Anchor(
            tree_size=head.size,
            root_hash=head.root.hex(),
            signature="s",
            transaction="AA==",
            program_id="p",
            authority="a",
        )
        return LandedAnchor(anchor, slot=len(self.landed))


class Log:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(f"sqlite+aiosqlite:///{folder / 'log.sqlite3'}")
        self.store = Store(self.database, IntegrityRepository)
        self.clock = ManualClock()
        self.ledger = FakeLedger()
        self.memory = CheckpointFile(folder / "last-checkpoint")
        self.sequencer = self.new_sequencer()
        self.anchorer = Anchorer(self.store, self.sequencer, self.ledger, self.clock)

    def new_sequencer(self, key_file: str = "log.pem") -> Sequencer:
        key = SigningKey.load_or_create(self.folder / key_file)
        return Sequencer(self.store, NoteSigner("example.org/log", key), self.memory, self.clock)

    async def append(self, count: int = 1) -> list[Event]:
        events = [new_event("tester", "thing.happened", self.clock.now(), actor="a", subject="s") for _ in range(count)]
        await self.sequencer.append(events)
        return events

    def sql(self, statement: str) -> None:
        with sqlite3.connect(self.folder / "log.sqlite3") as connection:
            assert connection.execute(statement).rowcount >= 1


@pytest.fixture
async def log(tmp_path: Path):
    log = Log(tmp_path)
    await log.database.migrate(Path(app.__file__).parent / "migrations")
    await log.sequencer.start()
    yield log
    await log.database.close()


# --- what the log refuses to sign ---


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            ["DELETE FROM entries WHERE leaf_index >= 300", "DELETE FROM checkpoints WHERE tree_size > 300"],
            "tiles on the edge",
        ),
        (["DELETE FROM entries WHERE leaf_index = 309"], "do not end at leaf 309"),
        (
            ["UPDATE entries SET content = CAST(replace(content, 'thing', 'other') AS BLOB) WHERE leaf_index = 300"],
            "do not hash",
        ),
        (["UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND number = 1"], "another root"),
        (["UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 1"], "another root"),
        (["DELETE FROM tiles WHERE level = 1"], "tiles on the edge"),
        (["UPDATE checkpoints SET root_hash = zeroblob(32) WHERE tree_size = 310"], "another head"),
        (["UPDATE checkpoints SET note = replace(note, '310', '311') WHERE tree_size = 310"], "does not match"),
        (["DELETE FROM checkpoints"], "signed checkpoints"),
    ],
)
async def test_a_log_whose_store_contradicts_its_checkpoint_halts_at_the_start(
    log: Log, damage: list[str], reason: str
):
    await log.append(300)
    await log.append(10)
    for statement in damage:
        log.sql(statement)
    restarted = log.new_sequencer()
    await restarted.start()
    assert restarted.halted is not None
    assert reason in restarted.halted
    with pytest.raises(LogHalted):
        await restarted.append([new_event("tester", "thing.happened", log.clock.now(), actor="a", subject="s")])


async def test_a_database_that_was_set_back_is_noticed_by_the_checkpoint_beside_the_key(log: Log, tmp_path: Path):
    await log.append(3)
    with sqlite3.connect(tmp_path / "log.sqlite3") as live, sqlite3.connect(tmp_path / "old.sqlite3") as backup:
        live.backup(backup)
    await log.append(2)
    with sqlite3.connect(tmp_path / "log.sqlite3") as live, sqlite3.connect(tmp_path / "old.sqlite3") as backup:
        backup.backup(live)
    restarted = log.new_sequencer()
    await restarted.start()
    assert "it was set back" in (restarted.halted or "")


async def test_another_history_of_the_same_length_is_noticed_too(log: Log, tmp_path: Path):
    await log.append(3)
    (tmp_path / "last-checkpoint").replace(tmp_path / "kept")
    other = tmp_path / "other"
    other.mkdir()
    (other / "log.pem").write_bytes((tmp_path / "log.pem").read_bytes())
    (other / "log.pem").chmod(0o600)
    second = Log(other)
    await second.database.migrate(Path(app.__file__).parent / "migrations")
    await second.sequencer.start()
    await second.append(4)
    await second.database.close()
    third = Log(other)
    third.memory = CheckpointFile(tmp_path / "kept")
    restarted = third.new_sequencer()
    await restarted.start()
    assert "another history" in (restarted.halted or "")
    await third.database.close()


async def test_a_log_under_another_key_halts(log: Log):
    await log.append()
    restarted = log.new_sequencer("other.pem")
    await restarted.start()
    assert "no signature" in (restarted.halted or "")


async def test_a_halted_log_is_readable_refuses_events_and_says_so_in_its_health(tmp_path: Path):
    body = {"events": [new_event("tester", "a.b", ManualClock().now(), actor="a", subject="s").model_dump(mode="json")]}
    async with running(create_app, settings(tmp_path)) as service:
        await service.client.post("/api/v1/events", json=body, headers=service.headers(Role.SERVICE))
    with sqlite3.connect(tmp_path / "db" / "integrity.sqlite3") as connection:
        connection.execute("UPDATE tiles SET hashes = zeroblob(32)")
    async with running(create_app, settings(tmp_path)) as service:
        answer = await service.client.post("/api/v1/events", json=body, headers=service.headers(Role.SERVICE))
        assert (answer.status_code, answer.json()["code"]) == (503, "log_halted")
        health = (await service.client.get("/health")).json()
        assert (health["status"], health["dependencies"]["log"]) == ("degraded", "failed: LogHalted")
        assert (await service.client.get("/checkpoint")).status_code == 200
        event_id = body["events"][0]["id"]
        assert (
            await service.client.get(f"/api/v1/entries/{event_id}", headers=service.headers(Role.AUDITOR))
        ).status_code == 200


# --- anchoring ---


async def test_a_head_is_anchored_once_however_often_that_is_asked_for(log: Log):
    with pytest.raises(NothingToAnchor):
        await log.anchorer.anchor_now()
    await log.append(2)
    first, again = await log.anchorer.anchor_now(), await log.anchorer.anchor_now()
    assert first == again
    assert [head.size for head in log.ledger.landed] == [2]


async def test_an_anchor_that_landed_without_an_answer_is_found_again(log: Log):
    await log.append(2)
    log.ledger.dies_after_landing = True
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.anchor_now()
    record = await log.anchorer.anchor_now()
    assert (record.tree_size, len(log.ledger.landed)) == (2, 1)


async def test_a_log_that_grew_after_an_unanswered_anchor_anchors_its_new_head(log: Log):
    await log.append(2)
    log.ledger.dies_after_landing = True
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.anchor_now()
    await log.append(3)
    assert (await log.anchorer.anchor_now()).tree_size == 5


@pytest.mark.parametrize(
    "on_ledger",
    [TreeHead(9, b"\1" * 32), TreeHead(2, b"\1" * 32), TreeHead(1, b"\1" * 32)],
    ids=["ahead", "level", "behind"],
)
async def test_a_ledger_that_holds_another_history_halts_the_log(log: Log, on_ledger: TreeHead):
    await log.append(2)
    log.ledger.landed.append(on_ledger)
    with pytest.raises(LogHalted):
        await log.anchorer.anchor_now()
    with pytest.raises(LogHalted):
        await log.append()
    with pytest.raises(LogHalted):
        await log.anchorer.anchor_now()
    assert log.ledger.landed == [on_ledger]


async def test_a_failing_ledger_shows_in_the_health_until_an_anchor_succeeds(log: Log):
    await log.append()
    await log.anchorer.check()
    log.ledger.error = DependencyUnavailable("gone")
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.anchor_now()
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.check()
    log.ledger.error = None
    await log.anchorer.anchor_now()
    await log.anchorer.check()


async def test_the_monitor_hears_how_long_the_oldest_entry_waited_for_its_anchor_and_when_one_is_stuck(log: Log):
    told = workflow_runs()
    told.told(*map(len, told.waiting()))
    await log.append()
    log.clock.advance(30)
    await log.append(2)
    log.ledger.error = DependencyUnavailable("gone")
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.anchor_now()
    (stuck,), () = told.waiting()
    assert (stuck.workflow_type, stuck.workflow_id) == ("audit_transparency", "integrity-anchor")
    log.ledger.error = None
    log.clock.advance(12)
    await log.anchorer.anchor_now()
    await log.append()
    log.clock.advance(5)
    await log.anchorer.anchor_now()
    await log.anchorer.anchor_now()
    _, finished = told.waiting()
    assert [(run.seconds, run.success, run.workflow_id) for run in finished] == [
        (42.0, True, "integrity-anchor"), (5.0, True, "integrity-anchor"),
    ]  # fmt: skip


async def test_a_ledger_that_nobody_has_asked_lately_is_asked_for_the_health(log: Log):
    log.ledger.error = DependencyUnavailable("gone")
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.check()
    log.ledger.error = LedgerNotReady("not yet")
    await log.anchorer.check()
    log.ledger.error = DependencyUnavailable("gone again")
    await log.anchorer.check()
    log.clock.advance(16)
    with pytest.raises(DependencyUnavailable):
        await log.anchorer.check()


async def test_a_ledger_without_the_program_is_waited_for_and_is_no_fault(log: Log):
    await log.append()
    log.ledger.error = LedgerNotReady("not yet")
    with pytest.raises(LedgerNotReady):
        await log.anchorer.anchor_now()
    await log.anchorer.check()


async def test_who_waits_for_an_anchor_gets_it_without_waiting_for_the_period(log: Log):
    job = asyncio.create_task(keep_anchored(log.anchorer, 3600))
    try:
        events = await log.append(3)
        found = await asyncio.gather(*(log.anchorer.wait_for(index, 20) for index in range(len(events))))
        assert [anchor and anchor.tree_size for anchor in found] == [3, 3, 3]
        await log.append(1)
        later: Any = await log.anchorer.wait_for(3, 20)
        assert later.tree_size == 4
        # An entry keeps the first anchor that holds it.
        earlier: Any = await log.anchorer.wait_for(0, 20)
        assert earlier.tree_size == 3
    finally:
        job.cancel()


async def test_who_waits_in_vain_is_told_after_the_time_given(log: Log):
    await log.append()
    assert await log.anchorer.wait_for(0, 0.01) is None


async def test_an_anchor_by_another_process_is_not_taken_for_another_history(log: Log):
    await log.append(2)
    other = Anchorer(log.store, log.sequencer, log.ledger, log.clock)

    class Interrupted(FakeLedger):
        """Another process logs and anchors at the very moment in which the ledger is read."""

        async def anchored(self) -> TreeHead | None:
            await log.append(1)
            await other.anchor_now()
            return await log.ledger.anchored()

        async def find(self, head: TreeHead) -> LandedAnchor | None:
            return await log.ledger.find(head)

    mine = Anchorer(log.store, log.sequencer, Interrupted(), log.clock)
    assert (await mine.anchor_now()).tree_size == 3
    assert log.sequencer.halted is None
