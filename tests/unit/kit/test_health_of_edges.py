"""`/health` names every part that a service calls, by the state of its breaker, without calling anybody."""

from pathlib import Path

import pytest

from acgs1.core.clock import ManualClock
from acgs1.kit import platform as module
from acgs1.kit.breaker import Breakers
from acgs1.kit.platform import Platform
from factories import settings


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> Breakers:
    """The breakers of a process of its own."""
    own = Breakers(clock)
    monkeypatch.setattr(module, "breakers", lambda: own)
    return own


async def fail(known: Breakers, edge: str) -> None:
    for _ in range(10):
        with pytest.raises(OSError, match="gone"):
            async with known.get(edge):
                raise OSError("gone")


async def test_what_it_depends_on_follows_from_the_clients_that_exist(tmp_path: Path, known: Breakers):
    # Nothing listens at these addresses, and nothing is asked there.
    platform = Platform("constitutional_ai", settings(tmp_path), migrations=None)
    try:
        assert await platform.check() == {"auth": "ok", "database": "ok"}
        platform.client("policy_governance")
        platform.client("integrity")
        known.get("integrity->ledger")
        known.get("constitutional_ai->redis")
        # Auth asks itself for its token.
        known.get("constitutional_ai->constitutional_ai.token")
        assert await platform.check() == {
            "auth": "ok",
            "policy_governance": "ok",
            "integrity": "ok",
            "database": "ok",
        }
    finally:
        await platform.database.close()


async def test_an_edge_is_shown_by_the_worst_of_its_breakers(tmp_path: Path, known: Breakers, clock: ManualClock):
    platform = Platform("constitutional_ai", settings(tmp_path), migrations=None)
    try:
        platform.client("auth")
        await fail(known, "constitutional_ai->auth.token")
        assert (await platform.check())["auth"] == "circuit open"
        # The next call would be let through: nobody knows whether it would be answered.
        clock.advance(5)
        assert (await platform.check())["auth"] == "idle"
        known.force_open("constitutional_ai->auth", "maintenance")
        assert (await platform.check())["auth"] == "held open"
        known.reset("constitutional_ai->auth", "done")
        known.reset("constitutional_ai->auth.token", "done")
        assert (await platform.check())["auth"] == "ok"
    finally:
        await platform.database.close()
