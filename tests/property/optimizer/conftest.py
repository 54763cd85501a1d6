import asyncio
import selectors
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only by being waited for: a sleep of an hour takes no time at all."""

    def __init__(self) -> None:
        super().__init__(_Instant(self))
        self.virtual = 0.0

    def time(self) -> float:
        return self.virtual

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, running everything that falls due."""
        self.run_until_complete(asyncio.sleep(seconds))


class _Instant(selectors.SelectSelector):
    def __init__(self, loop: "VirtualTimeLoop") -> None:
        super().__init__()
        self._of = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: nothing is ready and nothing is scheduled")
            self._of.virtual += max(timeout, 0)
        return ready


@pytest.fixture
def virtual_loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


@pytest.fixture
def new_virtual_loop() -> Callable[[], VirtualTimeLoop]:
    return VirtualTimeLoop
