"""A PostgreSQL server of a test's own, reached over a socket in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def _find(program: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((str(f / program) for f in folders if (f / program).exists()), shutil.which(program))


def postgres_server() -> Generator[str]:
    """Starts it, yields its URL, stops it."""
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
