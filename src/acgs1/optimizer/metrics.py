"""The optimizer's counts as Prometheus metrics, read when they are scraped: the hot paths only add to integers."""

import asyncio
import os
from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from acgs1.kit.pools import publish_pools
from acgs1.optimizer.cache import IntelligentCache

_PUBLISH_SECONDS: Final = 1.0
# These do not add up over processes: of what is shared, each process says the same.
_NOT_SUMMED: Final = frozenset(
    {
        "acgs_cache_hit_ratio",
        "acgs_cache_ttl_seconds",
        "acgs_cache_level_held_bytes",
        "acgs_cache_level_held_entries",
        "acgs_cache_level_evicted",
    }
)


class CacheCollector(Collector):
    """`acgs_cache_*`. Labels are bounded by what the code declares: service, operation, level."""

    def __init__(self, cache: IntelligentCache) -> None:
        self._cache = cache

    def describe(self) -> Iterable[Metric]:
        # Nothing is promised beforehand: several optimizers may live in one process, as they do in tests.
        return ()

    def collect(self) -> Iterable[Metric]:
        names = ["service", "operation"]
        hits = CounterMetricFamily("acgs_cache_hits", "Calls answered from a level", labels=[*names, "level"])
        misses = CounterMetricFamily("acgs_cache_misses", "Calls for which no level had a value", labels=names)
        loads = CounterMetricFamily("acgs_cache_loads", "Values computed", labels=names)
        seconds = CounterMetricFamily("acgs_cache_load_seconds", "Time spent computing", labels=names)
        joined = CounterMetricFamily("acgs_cache_joined", "Calls that shared another's load", labels=names)
        stale = CounterMetricFamily("acgs_cache_stale", "Stale values served after a failed load", labels=names)
        refreshed = CounterMetricFamily("acgs_cache_refreshes", "Loads begun before a value expired", labels=names)
        put_off = CounterMetricFamily(
            "acgs_cache_refreshes_put_off", "Refreshes for which there was no room", labels=names
        )
        errors = CounterMetricFamily("acgs_cache_errors", "Loads that failed with nothing to serve", labels=names)
        by_level = [*names, "level"]
        age = CounterMetricFamily(
            "acgs_cache_served_age_seconds", "Sum of the ages of the values served", labels=by_level
        )
        spent = CounterMetricFamily("acgs_cache_level_seconds", "Time spent on reading a shared level", labels=by_level)
        written = CounterMetricFamily("acgs_cache_written_bytes", "Bytes handed to a shared level", labels=by_level)
        ratio = GaugeMetricFamily("acgs_cache_hit_ratio", "Calls answered without waiting for a load", labels=names)
        held = GaugeMetricFamily("acgs_cache_held_bytes", "Bytes in process memory", labels=names)
        entries = GaugeMetricFamily("acgs_cache_held_entries", "Values in process memory", labels=names)
        evicted = CounterMetricFamily("acgs_cache_held_evictions", "Values that lost their room", labels=names)
        ttl = GaugeMetricFamily("acgs_cache_ttl_seconds", "The TTL that an adaptive rule chooses now", labels=names)
        for name, stats in self._cache.operations.items():
            for family, per_level in (
                (hits, stats.hits),
                (age, stats.ages),
                (spent, stats.level_seconds),
                (written, stats.written_bytes),
            ):
                for level, value in per_level.items():
                    family.add_metric([*name, level], value)
            for family, value in (
                (misses, stats.misses),
                (loads, stats.loads),
                (seconds, stats.load_seconds),
                (joined, stats.joined),
                (stale, stats.stale),
                (errors, stats.errors),
                (refreshed, stats.refreshes),
                (put_off, stats.refreshes_put_off),
                (ratio, stats.hit_rate),
                (held, stats.bytes_held),
                (entries, stats.entries),
                (evicted, stats.evictions),
            ):
                family.add_metric(list(name), value)
        for name, seconds_now in self._cache.adaptive_ttls.items():
            ttl.add_metric(list(name), seconds_now)
        yield from (hits, misses, loads, seconds, joined, stale, errors, refreshed, put_off, age, spent, written)
        yield from (ratio, held, entries, evicted, ttl)
        yield GaugeMetricFamily("acgs_cache_bytes", "Bytes held in process memory", value=self._cache.bytes_held)
        yield GaugeMetricFamily("acgs_cache_entries", "Values held in process memory", value=self._cache.entries)
        yield CounterMetricFamily("acgs_cache_evictions", "Values that lost their room", value=self._cache.evictions)
        failures = CounterMetricFamily("acgs_cache_level_failures", "Failed calls to a shared level", labels=["level"])
        kept = GaugeMetricFamily("acgs_cache_level_held_bytes", "Bytes in a shared level, sampled", labels=by_level)
        values = GaugeMetricFamily(
            "acgs_cache_level_held_entries", "Values in a shared level, sampled", labels=by_level
        )
        lost = GaugeMetricFamily(
            "acgs_cache_level_evicted",
            "Values that have lost their room: in the database to this process, in Redis on the whole server",
            labels=["level"],
        )
        dropped = CounterMetricFamily("acgs_cache_dropped_writes", "Writes to a shared level dropped", labels=["level"])
        for level, stats in self._cache.level_stats.items():
            failures.add_metric([level], stats.failures)
            dropped.add_metric([level], stats.dropped_writes)
            lost.add_metric([level], stats.evictions)
            for name, held in stats.held.items():
                kept.add_metric([*name, level], held.bytes)
                values.add_metric([*name, level], held.entries)
        yield from (failures, dropped, kept, values, lost)


def several_workers() -> bool:
    """Whether several processes of a service stand behind one `/metrics` (see `acgs1.kit.telemetry.registry`)."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


class CachePublisher:
    """The collector's figures, written down once a second as metrics that add up over the workers of a service: whichever of them
    answers `/metrics` cannot ask the others."""

    def __init__(self, cache: IntelligentCache) -> None:
        self._collector = CacheCollector(cache)
        self._written: dict[tuple[str, tuple[str, ...]], float] = {}
        self._task = asyncio.create_task(self._run(), name="cache-metrics")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.publish()
            publish_pools()
            await asyncio.sleep(_PUBLISH_SECONDS)

    def publish(self) -> None:
        for family in self._collector.collect():
            for sample in family.samples:
                metric = _metric(family, tuple(sample.labels))
                child = metric.labels(*sample.labels.values()) if sample.labels else metric
                if isinstance(child, Gauge):
                    child.set(sample.value)
                    continue
                key = (family.name, tuple(sample.labels.values()))
                child.inc(max(0.0, sample.value - self._written.get(key, 0.0)))
                self._written[key] = sample.value


_metrics: dict[str, Counter | Gauge] = {}


def _metric(family: Metric, labels: tuple[str, ...]) -> Counter | Gauge:
    found = _metrics.get(family.name)
    if found is None:
        if isinstance(family, CounterMetricFamily):
            found = Counter(family.name, family.documentation, labels, registry=REGISTRY)
        else:
            mode = "livemostrecent" if family.name in _NOT_SUMMED else "livesum"
            found = Gauge(family.name, family.documentation, labels, registry=REGISTRY, multiprocess_mode=mode)
        _metrics[family.name] = found
    return found
