"""The cache in the running system: all seven services use it, with Redis, and go on without Redis when it dies."""

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from polling import eventually
from redis_server import RedisServer
from system import System, govern, running

pytestmark = [pytest.mark.slow, pytest.mark.redis]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def governed(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACGS_REDIS_URL", redis.url)
        patch.setenv("ACGS_SLOW_QUERY_MS", "0.001")
        with running(tmp_path_factory.mktemp("system") / "home") as system:
            govern(system)
            yield system


def hot_reads(system: System, token: str) -> list[tuple[str, str]]:
    """One of each service, of what the main job has left."""

    def get(part: str, path: str) -> Any:
        answer = system.call("GET", part, path, token)
        assert answer.status_code == 200, answer.text
        return answer.json()

    in_force = get("constitutional_ai", "/api/v1/constitutions/in-force")
    bundle = get("policy_governance", "/api/v1/bundles/active")
    event = get("integrity", "/api/v1/entries?limit=1")["items"][0]["event"]["id"]
    draft = get("governance_synthesis", "/api/v1/drafts?limit=1")["items"][0]["id"]
    run = next(run for run in get("evolutionary_computation", "/api/v1/runs")["items"] if run["status"] != "running")
    return [
        ("auth", "/.well-known/jwks.json"),
        ("constitutional_ai", f"/api/v1/principles/{in_force['constitution']['principles'][0]['id']}"),
        ("integrity", f"/api/v1/entries/{event}"),
        ("formal_verification", f"/api/v1/certificates/{bundle['certificate_hash']}"),
        ("governance_synthesis", f"/api/v1/drafts/{draft}"),
        ("policy_governance", f"/api/v1/bundles/{bundle['hash']}"),
        ("evolutionary_computation", f"/api/v1/runs/{run['id']}"),
    ]


def metrics(system: System, part: str, token: str) -> dict[str, float]:
    """Every sample of `part`, summed by name."""
    answer = system.call("GET", part, "/metrics", token)
    assert answer.status_code == 200, answer.text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def test_every_service_answers_its_hot_reads_from_its_cache_and_measures_its_pools(governed: System):
    admin = governed.admin()
    for part, path in hot_reads(governed, admin):
        first = governed.call("GET", part, path, admin)
        before = metrics(governed, part, admin).get("acgs_cache_hits_total", 0.0)
        again = governed.call("GET", part, path, admin)
        assert (first.status_code, again.content) == (200, first.content), (part, first.text)

        def counted(part: str = part, before: float = before) -> dict[str, float] | None:
            # Each process writes its figures down once a second.
            found = metrics(governed, part, admin)
            return found if found.get("acgs_cache_hits_total", 0.0) > before else None

        after = eventually(counted, f"`{part}` has counted the hit")
        assert after["acgs_cache_held_bytes"] > 0, part
        # The service's database and the cache's, Redis, and HTTP; the ledger, where it is used.
        ledger = 100 if part in {"policy_governance", "integrity"} else 0
        assert after["acgs_pool_size"] >= 8 + 3 + 8 + 64 + ledger, part
        assert after["acgs_pool_wait_seconds_count"] > 0, part


def test_slow_statements_are_shown_to_operators_only_and_without_parameters(governed: System):
    admin, member = governed.admin(), governed.person("ines")
    for part in ("auth", "policy_governance"):
        path = "/api/v1/performance/queries"
        assert governed.call("GET", part, path, member).status_code == 403

        def explained(part: str = part, path: str = path) -> Any:
            shown = governed.call("GET", part, path, admin).json()
            return shown if any(query["plan"] for query in shown["queries"]) else None

        shown = eventually(explained, "a statement with its plan")
        assert shown["service"] == part
        assert len(shown["queries"]) <= 2 * 100
        assert {query["pool"] for query in shown["queries"]} == {"database", "cache_database"}
        assert "ines" not in str(shown)


def test_when_redis_dies_every_read_goes_on_and_its_breaker_is_open(governed: System, redis: RedisServer):
    admin = governed.admin()
    reads = hot_reads(governed, admin)
    expected = [governed.call("GET", part, path, admin).content for part, path in reads]
    redis.kill()
    for _ in range(3):
        assert [governed.call("GET", part, path, admin).content for part, path in reads] == expected
    assert governed.healthy("policy_governance")
    redis.start()
    assert [governed.call("GET", part, path, admin).content for part, path in reads] == expected
