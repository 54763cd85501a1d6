"""The checks behind `/health`: bounded for whoever asks, and heard to their end by the circuit breakers they go through."""

import asyncio
from pathlib import Path

import factories
from acgs1.kit.breaker import Breakers
from acgs1.kit.platform import Platform


async def test_a_check_that_hangs_fails_soon_is_run_once_and_is_not_cut_off(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("acgs1.kit.platform._CHECK_SECONDS", 0.05)
    edge = Breakers().get("a->ledger")
    released, calls = asyncio.Event(), 0

    async def slow() -> None:
        nonlocal calls
        calls += 1
        async with edge:
            await released.wait()
            raise ConnectionError

    platform = Platform("auth", factories.settings(tmp_path), migrations=None)
    platform.add_check("ledger", slow)
    for _ in range(3):
        assert (await platform.check())["ledger"] == "failed: TimeoutError"
    assert calls == 1
    released.set()
    assert (await platform.check())["ledger"] == "failed: ConnectionError"
    assert edge.snapshot().total_calls == 1, "the breaker heard how it ended"
    assert calls == 1
    await platform.http.aclose()
    await platform.database.close()
