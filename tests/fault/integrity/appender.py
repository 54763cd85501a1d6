"""Appends to the log in one folder until it is killed; prints an event's id once its append was acknowledged.

`python appender.py FOLDER ROUND`: run by test_kill.py in a process of its own.
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

from acgs1.contracts.events import Event
from acgs1.core.clock import SystemClock
from acgs1.kit.db import Database, Store
from acgs1.kit.notes import NoteSigner
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer

SUBMITTERS = 8


async def main(folder: Path, name: str) -> None:
    database = Database(f"sqlite+aiosqlite:///{folder / 'log.sqlite3'}")
    await database.migrate(Path(app.__file__).parent / "migrations")
    signer = NoteSigner("example.org/log", SigningKey.load_or_create(folder / "log.pem"))
    clock = SystemClock()
    sequencer = Sequencer(
        Store(database, IntegrityRepository), signer, CheckpointFile(folder / "last-checkpoint"), clock
    )
    await sequencer.start()
    await sequencer.check()
    print("started", flush=True)

    async def submit(submitter: int) -> None:
        for number in count():
            events = [
                Event(
                    id=f"evt_{name}-{submitter}-{number}-{part}",
                    type="thing.happened",
                    time=clock.now(),
                    service="tester",
                    actor="a",
                    subject="s",
                )
                for part in range(1 + number % 7)
            ]
            await sequencer.append(events)
            print(*(event.id for event in events), flush=True)

    async with asyncio.TaskGroup() as group:
        for submitter in range(SUBMITTERS):
            group.create_task(submit(submitter))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
