"""Waiting for something without sleeping for it: ask again until it is so, or say what never came."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.02


def eventually(ask: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """The first answer of `ask` that is neither None nor False; fails the test with `what` after `seconds`."""
    tick = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"within {seconds:g} s this never came: {what}"
        tick.wait(_PAUSE)


async def eventually_async(ask: Callable[[], Awaitable[T | None]], what: str, seconds: float = 30.0) -> T:
    """`eventually` for a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"within {seconds:g} s this never came: {what}"
        await asyncio.sleep(_PAUSE)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_offset(ports: list[int]) -> int:
    """An ACGS_PORT_OFFSET with which each of `ports` is free, below the ports that the kernel hands out to clients."""
    while True:
        offset = random.randrange(2_000, 22_000, 20)
        if all(_is_free(port + offset) for port in ports):
            return offset


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
