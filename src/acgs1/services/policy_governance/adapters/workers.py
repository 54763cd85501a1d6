"""The spools of several workers on one data directory: each worker writes its own, and nothing stays in one that nobody has."""

import asyncio
import fcntl
import time
from io import FileIO
from pathlib import Path

import structlog

from acgs1.services.policy_governance.adapters.spool import DecisionSpool, Deliver, find_written
from acgs1.services.policy_governance.domain import Recorded

_log = structlog.get_logger()
_CLAIM_SECONDS = 10.0
_ADOPT_SECONDS = 5.0
_NAME = "decisions"


class SpoolTaken(OSError):
    """Another process has the spool of this worker's number."""


class WorkerSpool(DecisionSpool):
    """The spool of worker number `worker` under `root`: `decisions` of number 0, `decisions-N` of the others.

    INVARIANT: one process has a spool at a time (flock). Raises SpoolTaken when another one still has this one after 10 s.
    """

    def __init__(self, root: Path, worker: int) -> None:
        folder = root / (_NAME if worker == 0 else f"{_NAME}-{worker}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._own = folder
        deadline = time.monotonic() + _CLAIM_SECONDS
        while (claim := _claim(folder)) is None:
            if time.monotonic() > deadline:
                raise SpoolTaken(
                    f"spool `{folder}` belongs to another process: give each worker an ACGS_WORKER of its own"
                )
            # Somebody who empties it for us, or our predecessor at its end; no request is being served yet.
            time.sleep(0.05)
        self._claimed = claim
        super().__init__(folder)

    def pending(self, decision_id: str) -> Recorded | None:
        """A decision that has not been delivered yet, of this worker or of another one."""
        found = super().pending(decision_id)
        for folder in () if found is not None else self._others():
            for segment in sorted(folder.glob("*.log")):
                found = found or find_written(segment, decision_id)
        return found

    async def adopt(self, deliver: Deliver) -> None:
        """Deliver for ever what workers left that are gone: a service with fewer workers than before must not keep decisions back."""
        while True:
            for folder in self._others():
                if any(folder.glob("*.log")) and (claim := _claim(folder)) is not None:
                    with claim:
                        left = DecisionSpool(folder)
                        await left.deliver_closed(deliver)
                        await left.close()
                    _log.info("spool_adopted", spool=folder.name)
            await asyncio.sleep(_ADOPT_SECONDS)

    async def close(self) -> None:
        await super().close()
        self._claimed.close()

    def _others(self) -> list[Path]:
        return [
            folder for folder in sorted(self._own.parent.glob(f"{_NAME}*")) if folder != self._own and folder.is_dir()
        ]


def _claim(folder: Path) -> FileIO | None:
    """The lock on a spool, to be closed when done; None while another process has it."""
    file = FileIO(folder / ".lock", "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
