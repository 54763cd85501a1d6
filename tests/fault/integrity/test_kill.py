"""kill -9 in the middle of appending: what was acknowledged is there, once, in a tree that verifies."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from acgs1.kit.db import Database
from acgs1.kit.notes import NoteVerifier, open_checkpoint
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity.audit import audit
from acgs1.services.integrity.repository import IntegrityRepository

ROUNDS = 4


@pytest.mark.slow
async def test_a_log_killed_again_and_again_loses_and_doubles_nothing_and_never_forks(tmp_path: Path):
    moments = random.Random(20260504)
    acknowledged: list[str] = []
    heads = []
    for number in range(ROUNDS):
        acknowledged += run_until_killed(tmp_path, str(number), after_lines=moments.randrange(1, 120))
        verifier = NoteVerifier("example.org/log", SigningKey.load(tmp_path / "log.pem").public)
        remembered = (tmp_path / "last-checkpoint").read_text()
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'log.sqlite3'}")
        try:
            async with database.reading() as session:
                records = IntegrityRepository(session)
                report = await audit(records, verifier, remembered)
                assert report.ok, report.findings
                stored = [row.event_id for row in await records.stored_leaves(0, 1_000_000)]
                for head in heads:
                    kept = await records.checkpoint(head.size)
                    assert kept is not None
                    assert kept.head == head
        finally:
            await database.close()
        assert set(acknowledged) <= set(stored)
        assert len(stored) == len(set(stored)) == report.entries
        heads.append(open_checkpoint(remembered, verifier).head)
    assert len(acknowledged) > ROUNDS


def run_until_killed(folder: Path, name: str, *, after_lines: int) -> list[str]:
    """The event ids that were acknowledged before SIGKILL, sent after that many lines of acknowledgement."""
    script = Path(__file__).parent / "appender.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    if first != "started\n":
        process.kill()
        raise AssertionError(first + process.stderr.read())
    lines = [process.stdout.readline() for _ in range(after_lines)]
    process.kill()
    rest, _ = process.communicate()
    # The last line may be cut off by the kill; an id without its newline was still acknowledged, but may be half a name.
    whole = "".join(lines) + rest
    return whole[: whole.rfind("\n") + 1].split()
