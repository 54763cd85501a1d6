"""A verification is proved while it is being written down: what must hold around that."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution, Principle
from acgs1.contracts.formal_verification import NewVerification, VerificationReport
from acgs1.core.clock import SystemClock
from acgs1.services.formal_verification.domain import Item, Job, Plan
from acgs1.services.formal_verification.service import VerificationService

CALLER = Identity(id="usr_1", name="caller", roles=(Role.LEGISLATOR,))
REQUEST = NewVerification(
    policies="permit (principal, action, resource);",
    constitution=Constitution(
        name="one principle",
        schema_text="entity U;",
        principles=(Principle(id="p", title="p", text="p", category="c", priority=1),),
    ),
    deadline_seconds=10,
)
OBLIGATION: dict[str, Any] = {
    "id": "never_errors:p@U/a/U",
    "kind": "never_errors",
    "principle_id": None,
    "invariant_index": None,
    "policy_id": "p",
    "environment": {"principal": "U", "action": "a", "resource": "U"},
    "verdict": "refuted",
    "reason": None,
    "solver": "none",
    "milliseconds": 0.0,
}


class OneObligation:
    """Plans one obligation, and answers it when asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def plan(self, job: Job) -> Plan:
        return Plan((Item(0, "key", OBLIGATION),), {"kernel": "k", "principles_without_invariants": []})

    async def run(
        self, job: Job, plan: Plan, items: Sequence[int], deadline: float
    ) -> AsyncGenerator[tuple[int, dict[str, Any]]]:
        self.asked.set()
        yield 0, dict(OBLIGATION)


class Log:
    """Records that note the order of what is written, and write the verification down only when told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.may_write = asyncio.Event()
        self._fails = fails

    async def add_verification(self, verification: object) -> None:
        await self.may_write.wait()
        if self._fails:
            raise OSError("the disk is full")
        self.calls.append("add_verification")

    async def cached(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {}

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> None:
            self.calls.append(name)

        return call

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator["Log"]:
        yield self

    reading = transaction


def _service(log: Log, prover: OneObligation) -> VerificationService:
    unused: Any = None
    archive: Any = log
    return VerificationService(archive, prover, unused, SystemClock())


async def test_a_verification_ends_only_after_it_is_in_the_archive() -> None:
    log, prover = Log(), OneObligation()
    verifying = asyncio.create_task(_service(log, prover).verify(REQUEST, CALLER, 10))
    await prover.asked.wait()
    assert log.calls == []
    log.may_write.set()
    assert isinstance(await verifying, VerificationReport)
    assert log.calls[0] == "add_verification"
    assert "finish" in log.calls


async def test_a_verification_that_cannot_be_written_down_is_refused_and_leaves_nothing() -> None:
    log, prover = Log(fails=True), OneObligation()
    verifying = asyncio.create_task(_service(log, prover).verify(REQUEST, CALLER, 10))
    await prover.asked.wait()
    log.may_write.set()
    with pytest.raises(OSError, match="the disk is full"):
        await verifying
    assert log.calls == []
