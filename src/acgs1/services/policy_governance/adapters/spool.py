"""The write-ahead spool: decisions are durable on this disk before they are answered, whatever else is down."""

import asyncio
import json
import os
import zlib
from collections.abc import Awaitable, Callable
from io import FileIO
from pathlib import Path

import structlog

from acgs1.contracts.policy_governance import DecisionRecord, EvaluationRequest
from acgs1.optimizer.batching import GroupCommit
from acgs1.services.policy_governance.domain import Recorded

_log = structlog.get_logger()

Deliver = Callable[[list[Recorded]], Awaitable[None]]
"""Moves decisions to where they stay; returns once they are durable there."""

# Groups up what a drain moves, whose price is per group; a decision is already safe, and found by its id, by then.
_PAUSE = 0.2


class DecisionSpool:
    """Segment files of lines `crc32 json`, appended in groups with one fsync per group.

    A segment is deleted only after all it holds was delivered, so a crash at any point delivers some decisions again and loses none. A torn
    last line (the crash came before the answer) is dropped at start and reported.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._pending: dict[str, Recorded] = {}
        self._closed: list[tuple[Path, list[Recorded]]] = [(path, _read(path)) for path in sorted(folder.glob("*.log"))]
        for _, decisions in self._closed:
            self._pending.update((d.record.id, d) for d in decisions)
        self._next = 1 + max((int(path.stem) for path, _ in self._closed), default=0)
        self._current: list[Recorded] = []
        self._file: FileIO | None = None
        self._path = folder
        self._arrived = asyncio.Event()
        if self._closed:
            self._arrived.set()
        self._commit: GroupCommit[Recorded, None] = GroupCommit(self._flush, name="decision-spool")
        self._lock = asyncio.Lock()

    async def append(self, decision: Recorded) -> None:
        await self._commit.submit(decision)

    def pending(self, decision_id: str) -> Recorded | None:
        return self._pending.get(decision_id)

    async def drain(self, deliver: Deliver) -> None:
        """Deliver for ever. What `deliver` raises ends the job, to be started again; nothing is lost by that."""
        while True:
            # What a failed delivery left must not wait for the next decision.
            if not self._closed:
                await self._arrived.wait()
                await asyncio.sleep(_PAUSE)
            async with self._lock:
                self._arrived.clear()
                self._close_segment()
            await self.deliver_closed(deliver)

    async def deliver_closed(self, deliver: Deliver) -> None:
        """Deliver what is in closed segments: at first, all that was found at the start."""
        while self._closed:
            path, decisions = self._closed[0]
            if decisions:
                await deliver(decisions)
            path.unlink()
            self._closed.pop(0)
            for decision in decisions:
                self._pending.pop(decision.record.id, None)

    async def close(self) -> None:
        """Write what is waiting. What was not delivered stays for the next start."""
        await self._commit.close()
        self._close_segment()

    async def _flush(self, group: list[Recorded]) -> list[None]:
        data = b"".join(_line(decision) for decision in group)
        async with self._lock:
            await asyncio.to_thread(self._write, data)
            self._current.extend(group)
            self._pending.update((decision.record.id, decision) for decision in group)
            self._arrived.set()
        return [None] * len(group)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._path = self._folder / f"{self._next:012d}.log"
            self._next += 1
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            try:
                _sync_folder(self._folder)
            except OSError:
                # A segment whose name may not survive a power cut takes no decision.
                os.close(descriptor)
                raise
            self._file = FileIO(descriptor, "w")
        start = os.fstat(self._file.fileno()).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            # Nothing of a group that was not answered may be found later.
            os.ftruncate(self._file.fileno(), start)
            raise

    def _close_segment(self) -> None:
        if self._file is not None:
            self._file.close()
            self._closed.append((self._path, self._current))
            self._file, self._current = None, []


def _line(decision: Recorded) -> bytes:
    body = (
        f'{{"record":{decision.record_json},"request":{decision.request_json},'
        f'"salt":"{decision.salt.hex()}","approvable":{"true" if decision.approvable else "false"},'
        f'"digest":"{decision.digest}"}}'
    ).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _read(path: Path) -> list[Recorded]:
    decisions: list[Recorded] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        checksum, _, body = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            if number == len(lines):
                _log.warning("torn_record_dropped", segment=path.name, line=number)
                continue
            raise OSError(
                f"spool segment `{path}` is damaged at line {number}; restore it or move it away after a look at it"
            )
        decisions.append(_recorded(body))
    return decisions


def find_written(path: Path, decision_id: str) -> Recorded | None:
    """The decision in a segment that another process may be writing or deleting at this moment; None when it is not there."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    for line in lines:
        checksum, _, body = line.partition(b" ")
        if decision_id.encode() in body and checksum == b"%08x" % zlib.crc32(body):
            found = _recorded(body)
            if found.record.id == decision_id:
                return found
    return None


def _recorded(body: bytes) -> Recorded:
    value = json.loads(body)
    return Recorded(
        DecisionRecord.model_validate(value["record"]),
        EvaluationRequest.model_validate(value["request"]),
        bytes.fromhex(value["salt"]),
        value["approvable"],
        value["digest"],
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
