"""Both databases behind one fixture."""

from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from acgs1.kit.db import Database
from postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Generator[str]:
    yield from postgres_server()


BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BACKENDS)
async def open_database(request: pytest.FixtureRequest, tmp_path: Path):
    """Opens the database `name` of the backend at hand; each test has its own."""
    opened: list[Database] = []
    server = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    run = uuid4().hex[:8]

    def open_one(name: str, **options: Any) -> Database:
        if server is None:
            database = Database(f"sqlite+aiosqlite:///{tmp_path / name}.sqlite3", **options)
        else:
            database = Database(server, schema=f"t{run}_{name}", **options)
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        await database.close()
