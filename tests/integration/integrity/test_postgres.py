"""The log on PostgreSQL: the same promises as on SQLite, with two writers in earnest."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import SystemClock
from acgs1.core.merkle import consistency_plan, evaluate, tiles_of, verify_consistency
from acgs1.kit.db import Database, Store
from acgs1.kit.notes import NoteSigner
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.audit import audit
from acgs1.services.integrity.ports import EntryFilter
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer, root_at
from postgres_server import postgres_server

pytestmark = pytest.mark.postgres

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    yield from postgres_server()


@pytest.fixture
async def database(server: str, request: pytest.FixtureRequest):
    opened = Database(server, schema=f"acgs_{abs(hash(request.node.name))}")
    await opened.migrate(Path(app.__file__).parent / "migrations")
    yield opened
    await opened.close()


def sequencer(database: Database, folder: Path) -> Sequencer:
    signer = NoteSigner("example.org/log", SigningKey.load_or_create(folder / "log.pem"))
    return Sequencer(Store(database, IntegrityRepository), signer, CheckpointFile(folder / "last-checkpoint"), CLOCK)


def some_events(count: int, **changes: str) -> list[Event]:
    return [
        new_event("tester", "thing.happened", CLOCK.now(), **{"actor": "a", "subject": "s", **changes})
        for _ in range(count)
    ]


async def test_two_writers_append_at_once_and_the_log_is_whole(database: Database, tmp_path: Path):
    one, two = sequencer(database, tmp_path), sequencer(database, tmp_path)
    await asyncio.gather(one.start(), two.start())
    batches = [some_events(1 + number % 90) for number in range(30)]
    await asyncio.gather(*((one, two)[number % 2].append(batch) for number, batch in enumerate(batches)))
    again = await two.append(batches[0])
    assert all(receipt.duplicate for receipt in again)
    async with database.reading() as session:
        records = IntegrityRepository(session)
        report = await audit(records, NoteSigner("example.org/log", SigningKey.load(tmp_path / "log.pem")).verifier)
        assert report.ok, report.findings
        stored = [row.event_id for row in await records.stored_leaves(0, 10_000)]
    assert sorted(stored) == sorted(event.id for batch in batches for event in batch)


async def test_entries_are_filtered_and_paged_and_proofs_read_tiles(database: Database, tmp_path: Path):
    log = sequencer(database, tmp_path)
    await log.start()
    await log.append(some_events(300))
    await log.append(some_events(3, subject="other"))
    async with database.reading() as session:
        records = IntegrityRepository(session)
        page, cursor = await records.leaves(EntryFilter(subject="other"), None, 2)
        rest, end = await records.leaves(EntryFilter(subject="other"), cursor, 2)
        assert [leaf.index for leaf in (*page, *rest)] == [302, 301, 300]
        assert end is None
        assert len(await records.known([leaf.event.id for leaf in page])) == 2
        old, new = await records.checkpoint(300), await records.head()
        assert old is not None
        assert new is not None
        assert await root_at(records, 300) == old.head.root
        plan = consistency_plan(300, 303)
        assert verify_consistency(old.head, new.head, evaluate(plan, await records.tiles(tiles_of(plan))))


async def test_a_restarted_log_verifies_its_edge(database: Database, tmp_path: Path):
    log = sequencer(database, tmp_path)
    await log.start()
    await log.append(some_events(257))
    restarted = sequencer(database, tmp_path)
    await restarted.start()
    assert restarted.halted is None
    assert [r.leaf_index for r in await restarted.append(some_events(1))] == [257]
