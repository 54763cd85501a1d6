"""The write-ahead spool: whatever happens to the process, the disk or the database, what was acknowledged is there."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acgs1.services.policy_governance import jobs
from acgs1.services.policy_governance.adapters import spool as spool_module
from acgs1.services.policy_governance.adapters.spool import DecisionSpool
from acgs1.services.policy_governance.domain import Recorded
from governance import Room, decision
from polling import eventually, eventually_async


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[DecisionSpool]:
    spool = DecisionSpool(folder)
    try:
        yield spool
    finally:
        await spool.close()


def ids(folder: Path) -> list[str]:
    return list(DecisionSpool(folder)._pending)


async def drained(spool: DecisionSpool, deliver: spool_module.Deliver, folder: Path) -> None:
    """Drain until no segment is left on the disk."""
    task = asyncio.create_task(spool.drain(deliver))

    async def empty() -> bool:
        if task.done():
            task.result()
        return not list(folder.glob("*.log"))  # noqa: ASYNC240 - a local folder of a test

    try:
        await eventually_async(empty, "the spool is drained")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_appended_decision_is_on_the_disk_for_the_owner_alone(tmp_path: Path):
    kept = decision()
    async with opened(tmp_path / "s") as spool:
        await spool.append(kept)
        (segment,) = (tmp_path / "s").glob("*.log")
        assert segment.stat().st_mode & 0o777 == 0o600
        assert DecisionSpool(tmp_path / "s").pending(kept.record.id) == kept
        assert spool.pending(kept.record.id) == kept


async def test_everything_is_delivered_in_order_and_then_forgotten(tmp_path: Path):
    kept = [decision(n) for n in range(50)]
    got: list[Recorded] = []

    async def deliver(group: list[Recorded]) -> None:
        got.extend(group)

    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.append(d) for d in kept))
        await drained(spool, deliver, tmp_path)
        assert got == kept
        assert spool.pending(kept[0].record.id) is None


async def test_a_failed_delivery_is_tried_again_without_waiting_for_another_decision(tmp_path: Path):
    kept, got = decision(), list[Recorded]()
    away = True

    async def deliver(group: list[Recorded]) -> None:
        if away:
            raise ConnectionError("the database is away")
        got.extend(group)

    async with opened(tmp_path) as spool:
        await spool.append(kept)
        with pytest.raises(ConnectionError):
            await spool.drain(deliver)
        assert spool.pending(kept.record.id) == kept
        away = False
        await drained(spool, deliver, tmp_path)
    assert got == [kept]


@given(cut=st.integers(min_value=0), count=st.integers(1, 5), noise=st.binary(max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_segment_cut_anywhere_loses_at_most_what_stood_behind_the_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int, count: int, noise: bytes
):
    folder = tmp_path_factory.mktemp("spool")
    kept = [decision(n) for n in range(count)]
    lines = [spool_module._line(d) for d in kept]
    data = b"".join(lines)
    cut %= len(data) + 1
    # What a power cut leaves of an unfinished write: a prefix, and maybe garbage that never formed a line.
    (folder / "000000000001.log").write_bytes(data[:cut] + noise.replace(b"\n", b"?"))
    whole, length = 0, 0
    for line in lines:
        length += len(line)
        # A line without its newline is whole too, unless garbage follows.
        whole += length <= cut or (length - 1 == cut and not noise)
    assert ids(folder) == [d.record.id for d in kept[:whole]]


async def test_a_torn_line_neither_stops_the_start_nor_hides_what_comes_later(tmp_path: Path):
    first, second = decision(1), decision(2)
    (tmp_path / "000000000007.log").write_bytes(spool_module._line(first) + spool_module._line(decision(3))[:40])
    async with opened(tmp_path) as spool:
        await spool.append(second)
        got: list[Recorded] = []

        async def deliver(group: list[Recorded]) -> None:
            got.extend(group)

        await drained(spool, deliver, tmp_path)
    assert got == [first, second]


@pytest.mark.parametrize("position", [0, 12, -5])
async def test_damage_in_the_middle_is_an_error_that_names_the_segment_and_the_line(tmp_path: Path, position: int):
    lines = [spool_module._line(decision(n)) for n in range(3)]
    damaged = bytearray(lines[1])
    damaged[position] ^= 1
    path = tmp_path / "000000000001.log"
    path.write_bytes(lines[0] + bytes(damaged) + lines[2])
    with pytest.raises(OSError, match=rf"{path.name}.*line 2"):
        DecisionSpool(tmp_path)
    assert path.read_bytes().startswith(lines[0]), "nothing is thrown away"


async def test_after_a_failed_write_nothing_of_it_remains_and_the_next_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, lost, second = decision(1), decision(2), decision(3)
    async with opened(tmp_path) as spool:
        await spool.append(first)
        with monkeypatch.context() as patch:

            def full(_: int) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(spool_module.os, "fdatasync", full)
            with pytest.raises(OSError, match="No space"):
                await spool.append(lost)
        assert spool.pending(lost.record.id) is None
        await spool.append(second)
        assert ids(tmp_path) == [first.record.id, second.record.id]


async def test_no_decision_is_kept_in_a_segment_whose_name_may_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    sync = spool_module._sync_folder

    def fails_once(folder: Path) -> None:
        synced.append(1)
        if len(synced) == 1:
            raise OSError(5, "Input/output error")
        sync(folder)

    monkeypatch.setattr(spool_module, "_sync_folder", fails_once)
    kept = decision()
    async with opened(tmp_path) as spool:
        with pytest.raises(OSError, match="Input/output"):
            await spool.append(decision())
        await spool.append(kept)
        assert len(synced) == 2
        assert ids(tmp_path) == [kept.record.id]


async def test_delivering_twice_keeps_each_decision_and_its_event_once(room: Room):
    kept = [decision(n) for n in range(7)]
    import sqlalchemy as sa

    await jobs.keep_decisions(room.store, kept[:4])
    await jobs.keep_decisions(room.store, kept)
    await jobs.keep_decisions(room.store, kept)
    async with room.database.reading() as session:
        rows = (await session.execute(sa.text("SELECT event_id FROM outbox ORDER BY sequence"))).scalars().all()
    assert rows == [d.record.id for d in kept]
    assert len((await room.point.page(None, 100)).items) == 7


PROGRAM = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from governance import decision
from acgs1.services.policy_governance.adapters.spool import DecisionSpool

async def worker(spool):
    while True:
        made = decision()
        await spool.append(made)
        print(made.record.id, flush=True)  # the answer leaves

async def main():
    spool = DecisionSpool(Path(sys.argv[2]))
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(worker(spool))

asyncio.run(main())
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path):
    folder, answers = tmp_path / "spool", tmp_path / "answers"
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2]), str(folder)]
    acknowledged: set[str] = set()
    for _ in range(3):
        with answers.open("wb") as out, subprocess.Popen(command, stdout=out) as child:
            eventually(lambda: answers.read_bytes().count(b"\n") > 50 or child.poll() is not None, "fifty answers", 60)
            assert child.poll() is None
            child.send_signal(signal.SIGKILL)
        acknowledged |= set(answers.read_text().split("\n")[:-1])
        assert acknowledged <= set(ids(folder))
    assert len(acknowledged) > 150
