"""Cache effectiveness, read from the services' own metrics before and after the load."""

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from acgs1.contracts.topology import SERVICES
from acgs1.kit.settings import PlatformSettings

Counts = dict[str, Counter[str]]
"""By service: `hits` and `misses` so far; a service without the metric is absent."""


async def counts(settings: PlatformSettings, token: str) -> Counts:
    """`acgs_cache_hits_total` and `acgs_cache_misses_total` of every service that publishes them."""
    found: Counts = {}
    async with httpx.AsyncClient(timeout=60.0, trust_env=False, headers={"Authorization": f"Bearer {token}"}) as http:
        for part in SERVICES:
            text = (await http.get(settings.url(part.name) + "/metrics")).raise_for_status().text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name in {"acgs_cache_hits_total", "acgs_cache_misses_total"}:
                        word = sample.name.removeprefix("acgs_cache_").removesuffix("_total")
                        found.setdefault(part.name, Counter())[word] += int(sample.value)
    return found


def rates(before: Counts, after: Counts) -> dict[str, float]:
    """Share of look-ups during the load that a cache answered, by service and for `all`; absent where there was no look-up."""
    shares: dict[str, float] = {}
    whole: Counter[str] = Counter()
    for service, now in after.items():
        was = before.get(service, Counter())
        done = Counter({word: now[word] - was[word] for word in ("hits", "misses")})
        whole += done
        if sum(done.values()):
            shares[service] = done["hits"] / sum(done.values())
    return {**shares, "all": whole["hits"] / sum(whole.values())} if sum(whole.values()) else shares
