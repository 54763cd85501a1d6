"""A process with a cache of its own, told what to do by lines of JSON on its standard input.

`python peer.py REDIS_URL|- DATABASE_URL NAME CLAIM_SECONDS`
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from acgs1.kit.db import Database
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.database_level import DatabaseLevel
from acgs1.optimizer.levels import SharedLevel
from acgs1.optimizer.policy import CachePolicy


class Peer:
    def __init__(self, redis: str, database: str, name: str, claim_seconds: float) -> None:
        levels: list[SharedLevel] = []
        if redis != "-":
            from acgs1.optimizer.redis_level import RedisLevel

            # Patient: a busy machine must not look like a dead server here.
            levels.append(RedisLevel(redis, timeout=5, silence=5))
        schema = "acgs_cache" if database.startswith("postgresql") else None
        levels.append(DatabaseLevel(Database(database, schema=schema, pool_size=3), timeout=10))
        self.cache = IntelligentCache(
            levels=levels,
            default=CachePolicy(ttl=600, jitter=0, refresh_ahead=0),
            owner=name,
            claim_seconds=claim_seconds,
            recovery_seconds=0.1,
        )

    async def compute(self, key: str, callers: int, log: str, gate: str | None) -> dict[str, Any]:
        """Ask `callers` times at once. Each computation writes a line into `log` and waits until `gate` exists."""

        async def source() -> int:
            note(Path(log))
            while not (gate is None or is_there(gate)):  # noqa: ASYNC110 - a file announces nothing
                await asyncio.sleep(0.005)
            return lines(Path(log))

        asking = [
            asyncio.create_task(self.cache.get_or_compute("s", "op", {"key": key}, source, tags=[key]))
            for _ in range(callers)
        ]
        await asyncio.sleep(0)
        say({"asking": callers})
        return {"values": await asyncio.gather(*asking)}

    async def load(self, key: str, value: Any) -> dict[str, Any]:
        """Have `value` in process memory and on the shared levels."""

        async def source() -> Any:
            return value

        return {"value": await self.cache.get_or_compute("s", "op", {"key": key}, source, tags=[key])}

    async def set(self, key: str, value: Any) -> dict[str, Any]:
        """Return when the shared levels have it."""
        await self.cache.set("s", "op", {"key": key}, value, tags=[key])
        return {}

    async def get(self, key: str) -> dict[str, Any]:
        return {"value": await self.cache.get("s", "op", {"key": key}, tags=[key])}

    async def gone(self) -> dict[str, Any]:
        """When process memory is empty."""
        say({"watching": True})
        async with asyncio.timeout(30):
            while self.cache.entries:  # noqa: ASYNC110 - this must not touch what it observes
                await asyncio.sleep(0.0005)
        return {"at": time.monotonic()}

    async def invalidate(self, key: str) -> dict[str, Any]:
        began = time.monotonic()
        await self.cache.invalidate(tags=[key])
        return {"began": began, "took": time.monotonic() - began}


def note(log: Path) -> None:
    with log.open("a") as file:
        file.write("computed\n")


def is_there(gate: str) -> bool:
    return Path(gate).exists()


def lines(log: Path) -> int:
    return len(log.read_text().splitlines())


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def main() -> None:
    peer = Peer(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
    await peer.cache.start()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say({"ready": True})
    while line := await reader.readline():
        command = json.loads(line)
        say(await getattr(peer, command.pop("do"))(**command))
    await peer.cache.close()


if __name__ == "__main__":
    asyncio.run(main())
