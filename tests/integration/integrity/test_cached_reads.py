"""What the log has shown to one caller from the cache it does not show to another who may not read it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Identity, Role
from acgs1.kit.errors import Forbidden
from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.service import PerformanceOptimizer
from acgs1.optimizer.web import Reads
from acgs1.services.integrity import api


@pytest.fixture
async def reads(tmp_path: Path) -> AsyncIterator[Reads]:
    optimizer = PerformanceOptimizer(PlatformSettings(home=tmp_path))
    await optimizer.initialize()
    made = Reads(optimizer, "integrity")
    for operation in ("evidence", "inclusion"):
        made.declare(operation, str, ttl=60.0, shared=False)
    yield made
    await optimizer.close()


class Log:
    """Readable by its owner alone."""

    asked = 0

    async def evidence(self, event_id: str, size: int | None, wait: float, by: Identity) -> Any:
        return self._for(by)

    async def inclusion(self, event_id: str, size: int | None, by: Identity) -> Any:
        return self._for(by)

    def _for(self, by: Identity) -> str:
        self.asked += 1
        if by.id != "agt_owner":
            raise Forbidden("not yours")
        return "secret"


def identity(name: str, *roles: Role) -> Identity:
    return Identity(id=f"agt_{name}", name=name, roles=roles or (Role.AGENT,))


@pytest.mark.parametrize("what", ["evidence", "inclusion"])
async def test_a_cached_answer_is_for_the_caller_who_may_read_it(reads: Reads, what: str):
    log: Any = Log()
    owner, stranger = identity("owner"), identity("stranger")

    async def ask(by: Identity) -> Any:
        match what:
            case "evidence":
                return await api._evidence("evt_1", log, reads, by, None, 0)
            case _:
                return await api._inclusion(log, reads, by, "evt_1", 7)

    assert await ask(owner) == "secret"
    assert await ask(owner) == "secret"
    assert log.asked == 1
    for _ in range(2):
        with pytest.raises(Forbidden):
            await ask(stranger)
    assert log.asked == 3, "a refusal is not kept"
    assert await ask(identity("owner", Role.AGENT, Role.MEMBER)) == "secret"
    assert log.asked == 4, "other roles are another question"
