"""A PostgreSQL that goes away: who is told what, and what is there when it is back."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.events import new_event
from acgs1.core.clock import SystemClock
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.notes import NoteSigner
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer
from acgs1.services.integrity.service import LogService
from polling import eventually_async

pytestmark = pytest.mark.postgres
PID = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
async def database(postgres_url: str) -> AsyncGenerator[Database]:
    opened = Database(postgres_url, pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def administrator(postgres_url: str) -> AsyncGenerator[Database]:
    opened = Database(postgres_url, pool_size=1)
    yield opened
    await opened.close()


async def _cut_off(pid: int, administrator: Database) -> None:
    """End the server's side of a connection: the process `pid`."""
    async with administrator.reading() as session:
        await session.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


async def test_a_server_that_cannot_be_reached_is_a_dependency_that_is_not_available(tmp_path: Path):
    database = Database(f"postgresql+asyncpg://acgs@/postgres?host={tmp_path}")
    for begin in (database.reading, database.transaction):
        with pytest.raises(DependencyUnavailable):
            async with begin() as session:
                await session.execute(PID)
    await database.close()


async def test_a_connection_that_is_cut_off_in_the_middle_is_one_too(database: Database, administrator: Database):
    async def write() -> None:
        async with database.transaction() as session:
            await _cut_off(await session.scalar(PID), administrator)
            await session.execute(PID)

    with pytest.raises(DependencyUnavailable):
        await write()


async def test_the_next_transaction_finds_no_connection_from_before(database: Database, administrator: Database):
    async with database.reading() as session:
        driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
        pid = await session.scalar(PID)
    await _cut_off(pid, administrator)

    async def closed() -> bool:
        return driver.is_closed()

    await eventually_async(closed, "the driver notices that the server closed the connection")
    async with database.reading() as session:
        assert await session.scalar(PID) != pid


class _Away:
    """The log's store, which can be taken away."""

    def __init__(self, store: Store[IntegrityRepository]) -> None:
        self._store = store
        self.away = False

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[IntegrityRepository]:
        if self.away:
            raise DependencyUnavailable("no connection to the database")
        async with self._store.reading() as records:
            yield records

    transaction = reading


async def test_without_its_database_the_log_proves_by_the_newest_checkpoint_that_it_saw(
    postgres_url: str, tmp_path: Path
):
    database = Database(postgres_url, schema="outage_log")
    await database.migrate(Path(app.__file__).parent / "migrations")
    store = Store(database, IntegrityRepository)
    signer = NoteSigner("example.org/log", SigningKey.load_or_create(tmp_path / "log.pem"))
    sequencer = Sequencer(store, signer, CheckpointFile(tmp_path / "last-checkpoint"), SystemClock())
    await sequencer.start()
    events = [new_event("tester", "thing.happened", SystemClock().now(), actor="a", subject="s") for _ in range(5)]
    await sequencer.append(events)

    class Kept:
        """Entries are remembered for as long as they live: for ever."""

        def __init__(self) -> None:
            self.found: dict[str, Any] = {}

        async def get(self, _: str, params: Any, compute: Any) -> Any:
            if params["event_id"] not in self.found:
                self.found[params["event_id"]] = await compute()
            return self.found[params["event_id"]]

    taken: Any = _Away(store)
    anchorer: Any = None
    reads: Any = Kept()
    log = LogService(taken, sequencer, anchorer, signer.verifier, reads, {}, only_writer=False)
    auditor = Identity(id="usr_1", name="auditor", roles=(Role.AUDITOR,))
    checkpoint = await log.checkpoint()
    proof = await log.inclusion(events[2].id, None, auditor)

    taken.away = True
    assert await log.checkpoint() == checkpoint
    assert await log.inclusion(events[2].id, None, auditor) == proof
    with pytest.raises(DependencyUnavailable):
        await log.checkpoint(3)
    await database.close()
