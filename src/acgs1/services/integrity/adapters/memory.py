"""The last signed checkpoint in a file beside the log key."""

import asyncio
from pathlib import Path

from acgs1.kit.home import write_private


class CheckpointFile:
    """See `ports.CheckpointMemory`. Written atomically and flushed to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def recall(self) -> str | None:
        return await asyncio.to_thread(self._read)

    async def remember(self, note: str) -> None:
        await asyncio.to_thread(write_private, self._path, note.encode())

    def _read(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
