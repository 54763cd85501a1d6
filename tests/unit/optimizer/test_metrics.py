"""The cache's figures as metrics: those of one process when it is scraped, those of several workers together."""

import subprocess
import sys
from pathlib import Path

from acgs1.kit.db import Database
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.database_level import DatabaseLevel
from acgs1.optimizer.metrics import CacheCollector

PROGRAM = """
import asyncio, sys
from acgs1.kit.pools import PoolMeter
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.metrics import CachePublisher

async def main():
    cache = IntelligentCache()
    slots = asyncio.Semaphore(4)
    meter = PoolMeter("s", "redis", 4)
    async def compute():
        return 1
    publisher = CachePublisher(cache)
    for n in (1, 2, 2, 2):
        await cache.get_or_compute("s", "op", {"n": n}, compute)
        publisher.publish()
    await meter.acquire(slots)
    from acgs1.kit.pools import publish_pools
    publish_pools()
    await publisher.close()
    print("ready", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""

SCRAPE = """
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
for name in ("acgs_cache_loads_total", "acgs_cache_misses_total", "acgs_cache_held_entries"):
    print(registry.get_sample_value(name, {"service": "s", "operation": "op"}))
print(registry.get_sample_value("acgs_cache_hits_total", {"service": "s", "operation": "op", "level": "local"}))
print(registry.get_sample_value("acgs_pool_in_use", {"service": "s", "pool": "redis"}))
print(registry.get_sample_value("acgs_pool_size", {"service": "s", "pool": "redis"}))
"""


def test_the_figures_of_several_workers_add_up(tmp_path: Path):
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    shown = subprocess.run([sys.executable, "-c", SCRAPE], env=environment, capture_output=True, text=True, check=True)
    for worker in workers:
        worker.communicate("\n")
    assert shown.stdout.split() == ["4.0", "4.0", "4.0", "4.0", "2.0", "8.0"]


async def test_what_the_shared_levels_hold_is_told_by_operation_and_level(tmp_path: Path):
    cache = IntelligentCache(levels=[DatabaseLevel(Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}"))])
    await cache.start()
    for number in range(2):
        await cache.set("s", "op", {"n": number}, "x" * 50)
    await cache.sample()
    shown = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in CacheCollector(cache).collect()
        for sample in family.samples
    }
    of_op = ("s", "op", "database")
    assert shown["acgs_cache_level_held_entries", of_op] == 2
    assert shown["acgs_cache_level_held_bytes", of_op] == shown["acgs_cache_written_bytes_total", of_op] > 100
    assert shown["acgs_cache_level_evicted", ("database",)] == 0
    await cache.close()
