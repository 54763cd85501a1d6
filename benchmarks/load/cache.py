"""Cache effectiveness, read from the services' own metrics before and after the load."""

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from acgs1.contracts.topology import SERVICES
from acgs1.kit.settings import PlatformSettings

_WORDS = ("hits", "misses", "joined")
Counts = dict[str, Counter[str]]
"""By service: `hits`, `misses` and `joined` so far; a service without the metric is absent."""


async def counts(settings: PlatformSettings, token: str) -> Counts:
    """What every service that has a cache publishes of it."""
    found: Counts = {}
    async with httpx.AsyncClient(timeout=60.0, trust_env=False, headers={"Authorization": f"Bearer {token}"}) as http:
        for part in SERVICES:
            text = (await http.get(settings.url(part.name) + "/metrics")).raise_for_status().text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    word = sample.name.removeprefix("acgs_cache_").removesuffix("_total")
                    if sample.name.startswith("acgs_cache_") and word in _WORDS:
                        found.setdefault(part.name, Counter())[word] += int(sample.value)
    return found


def rates(before: Counts, after: Counts) -> dict[str, float]:
    """Share of look-ups in between that waited for no load of their value, by service and for `all`; absent without look-ups."""
    shares: dict[str, float] = {}
    whole: Counter[str] = Counter()
    for service, now in after.items():
        was = before.get(service, Counter())
        done = Counter({word: now[word] - was[word] for word in _WORDS})
        whole += done
        if sum(done.values()):
            shares[service] = done["hits"] / sum(done.values())
    return {**shares, "all": whole["hits"] / sum(whole.values())} if sum(whole.values()) else shares
