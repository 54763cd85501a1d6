"""A PostgreSQL server of our own, reached over a socket in a folder of its own; and both databases behind one fixture."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from acgs1.kit.db import Database


def _find(program: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((str(f / program) for f in folders if (f / program).exists()), shutil.which(program))


@pytest.fixture(scope="session")
def postgres_url() -> Generator[str]:
    initdb, postgres = _find("initdb"), _find("postgres")
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL's initdb and postgres (Debian: apt install postgresql)")
    # PostgreSQL refuses to run as root; its Debian package brings a user.
    who: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="acgs-pg-"))
    if who:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    make = [initdb, "-D", data, "-U", "acgs", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **who)
    serve = [postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "max_connections=60"]
    process = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True, cwd=folder, **who)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError("the server did not start")
        yield f"postgresql+asyncpg://acgs@/postgres?host={folder}"
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)


BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BACKENDS)
async def open_database(request: pytest.FixtureRequest, tmp_path: Path):
    """Opens the database `name` of the backend at hand; each test has its own."""
    opened: list[Database] = []
    server = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    run = uuid4().hex[:8]

    def open_one(name: str) -> Database:
        if server is None:
            database = Database(f"sqlite+aiosqlite:///{tmp_path / name}.sqlite3")
        else:
            database = Database(server, schema=f"t{run}_{name}")
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        await database.close()


OpenDatabase = Callable[[str], Database]
