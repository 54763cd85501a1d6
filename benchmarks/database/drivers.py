"""Measure transactions on SQLite: by kit's connection, and by aiosqlite's own, which hands every call to a thread (ADR 0022).

    python benchmarks/database/drivers.py [--seconds 3] [--tasks 8] [--out results/drivers.json]

Both run under the same engine, sessions and pragmas (WAL, `synchronous = FULL`), one after the other, on fresh files. Figures are of this
process alone: wall-clock time per transaction as each task saw it, and processor time per transaction, all threads together.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiosqlite
import uvloop
from sqlalchemy import event, text

from acgs1.kit.db import Database

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import record

ROWS = 1000
Work = Callable[[Database, int], Awaitable[None]]


async def read(database: Database, turn: int) -> None:
    async with database.reading() as session:
        found = await session.execute(text("SELECT value FROM notes WHERE id = :id"), {"id": turn % ROWS})
        if found.scalar_one() != "v" * 200:
            raise SystemExit("a wrong row was read: the measurement is void")


async def write(database: Database, turn: int) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO notes (value) VALUES (:value)"), {"value": f"{turn}"})


def plain(path: str, *, turn: asyncio.Lock, **arguments: Any) -> Any:
    """aiosqlite's own connection; its writers wait for one another in SQLite."""
    del turn
    connection = aiosqlite.connect(path, **arguments)
    connection._thread.daemon = True
    return connection


def _wait_in_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 15000")
    cursor.close()


async def measure(folder: Path, work: Work, tasks: int, seconds: float, *, plainly: bool) -> dict[str, Any]:
    path = folder / f"{work.__name__}-{'aiosqlite' if plainly else 'kit'}.sqlite3"
    with patch("acgs1.kit.db.connect", plain) if plainly else nullcontext():
        database = Database(f"sqlite+aiosqlite:///{path}")
        if plainly:
            event.listen(database.engine.sync_engine, "connect", _wait_in_sqlite)
        await database.warm()
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, value TEXT)"))
        await session.execute(
            text("INSERT INTO notes VALUES (:id, :value)"), [{"id": i, "value": "v" * 200} for i in range(ROWS)]
        )
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def caller(turn: int) -> None:
        while (begun := time.perf_counter()) < until:
            await work(database, turn)
            took.append(time.perf_counter() - begun)
            turn += tasks

    begun, processor = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(caller(number))
    elapsed, processor = time.perf_counter() - begun, time.process_time() - processor
    await database.close()
    took.sort()
    return {
        "transactions": len(took),
        "per_second": round(len(took) / elapsed),
        "processor_us": round(processor / len(took) * 1e6, 1),
        "p50_ms": round(took[len(took) // 2] * 1000, 3),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 3),
    }


async def run(tasks: int, seconds: float) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for work in (read, write):
            for plainly in (True, False):
                name = "aiosqlite" if plainly else "kit"
                figures = await measure(Path(folder), work, tasks, seconds, plainly=plainly)
                print(f"{work.__name__:6} {name:10} {figures}", flush=True)
                result.setdefault(work.__name__, {})[name] = figures
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "drivers.json")
    parser.add_argument("--force", action="store_true", help="keep them also where no commit names the source")
    options = parser.parse_args()
    where = record.context()
    if not options.force:
        record.expect_committed(where["commit"])
    result = uvloop.run(run(options.tasks, options.seconds))
    record.write(options.out, {"context": where, "tasks": options.tasks, "seconds": options.seconds, **result})
    record.keep(
        "database",
        where,
        {
            f"{what} by {options.tasks} tasks": record.higher(result[work]["kit"]["per_second"], "1/s")
            for work, what in (("read", "reads of a row"), ("write", "insertions of a row"))
        },
        force=options.force,
    )


if __name__ == "__main__":
    main()
