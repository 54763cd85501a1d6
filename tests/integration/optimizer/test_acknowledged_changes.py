"""A change that was acknowledged is what the next read shows, in this process at once and in another one as soon as it has heard.

The TTLs are set to ten minutes here: nothing but the announcement can make an old answer go.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.policy_governance import ConstitutionOnLedger, LedgerReceipt
from acgs1.core.hashing import text_hash
from acgs1.services.constitutional_ai import wiring
from acgs1.services.constitutional_ai.adapters import reads as constitution_reads
from acgs1.services.constitutional_ai.app import create_app
from acgs1.services.policy_governance.adapters import reads as governance_reads
from factories import Running, running, settings
from governance import OPERATOR, airline, airline_policies, close_room, open_room
from polling import eventually_async

pytestmark = pytest.mark.slow  # each starts a process of its own

TEN_MINUTES = 600.0

READER = """
import asyncio, sys
from pathlib import Path
from fastapi import FastAPI
from acgs1.kit.db import Database, Store
from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.web import optimized
from acgs1.services.constitutional_ai.adapters import reads as constitution_reads
from acgs1.services.constitutional_ai.repository import ConstitutionRepository
from acgs1.services.constitutional_ai.service import ConstitutionService
from acgs1.services.policy_governance.adapters import reads as governance_reads
from acgs1.services.policy_governance.repository import GovernanceRepository

home, what, file = sys.argv[1:]
constitution_reads.IN_FORCE_SECONDS = governance_reads.SECONDS = 600.0
settings = PlatformSettings.model_validate({"home": home})
nothing = None

async def main():
    app = FastAPI()
    database = Database(f"sqlite+aiosqlite:///{file}")
    async with optimized(app, settings, what):
        if what == "constitutional_ai":
            service = ConstitutionService(
                Store(database, ConstitutionRepository), nothing, nothing, nothing, nothing
            )
            reads = constitution_reads.ConstitutionReads(app.state.reads)

            async def read():
                return (await reads.in_force(service.in_force)).meta.hash
        else:
            store = Store(database, GovernanceRepository)
            governance_reads.GovernanceReads(app.state.reads)

            async def active():
                async with store.reading() as records:
                    return (await records.active_bundle())[0]

            async def read():
                return (await app.state.reads.get("active_bundle", {}, active)).hash

        while await asyncio.to_thread(sys.stdin.readline):
            print(await read(), flush=True)
    await database.close()

asyncio.run(main())
"""

Ask = Callable[[], Awaitable[str]]


@pytest.fixture
async def another_process(tmp_path: Path) -> AsyncIterator[Callable[[str, Path], Awaitable[Ask]]]:
    started: list[asyncio.subprocess.Process] = []

    async def start(service: str, database: Path) -> Ask:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", READER, str(tmp_path), service, str(database)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(process)

        async def ask() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()

        return ask

    yield start
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


class Ledger:
    """What policy governance answers."""

    def __init__(self, *_: object) -> None:
        self.hash: str | None = None
        self.version = 0

    def has(self, constitution_hash: str) -> None:
        self.hash, self.version = constitution_hash, self.version + 1

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        self.has(constitution.hash)
        return LedgerReceipt(signature="s", constitution_hash=constitution.hash, constitution_version=self.version)

    async def in_force(self) -> ConstitutionOnLedger:
        return ConstitutionOnLedger(
            constitution_hash=self.hash, constitution_version=self.version, signature=None, since=None
        )


async def answer(service: Running, method: str, path: str, **options: Any) -> Any:
    headers = service.headers(Role.LEGISLATOR)
    found = await service.client.request(method, f"/api/v1/{path}", headers=headers, **options)
    assert found.status_code in {200, 201}, found.text
    return found.json()


async def test_a_constitution_in_force_is_what_every_process_reads_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_process: Callable[[str, Path], Awaitable[Ask]]
):
    ledger = Ledger()
    monkeypatch.setattr(wiring, "GovernanceLedger", lambda _: ledger)
    monkeypatch.setattr(constitution_reads, "IN_FORCE_SECONDS", TEN_MINUTES)
    founding, amended = airline(), airline().model_copy(update={"preamble": "Amended."})
    first = founding.principles[0].id
    async with running(create_app, settings(tmp_path)) as service:
        for constitution in (founding, amended):
            await answer(service, "POST", "constitutions", json=json.loads(constitution.model_dump_json()))
        adopted = await answer(service, "POST", f"constitutions/{founding.hash}/adoption?wait=30")
        assert adopted["status"] == "in_force"
        assert (await answer(service, "GET", "constitutions/in-force"))["meta"]["hash"] == founding.hash
        assert (await answer(service, "GET", f"principles/{first}"))["constitution_hash"] == founding.hash
        there = await another_process(
            "constitutional_ai", service.app.state.platform.home.database("constitutional_ai")
        )
        assert await there() == founding.hash

        ledger.has(amended.hash)
        await service.app.state.service.follow_ledger()
        assert (await answer(service, "GET", "constitutions/in-force"))["meta"]["hash"] == amended.hash
        assert (await answer(service, "GET", f"principles/{first}"))["constitution_hash"] == amended.hash

        async def heard() -> bool:
            return await there() == amended.hash

        await eventually_async(heard, "the other process reads the amendment")


async def test_an_activated_bundle_is_what_every_process_reads_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_process: Callable[[str, Path], Awaitable[Ask]]
):
    from fastapi import FastAPI

    from acgs1.optimizer.web import optimized

    monkeypatch.setattr(governance_reads, "SECONDS", TEN_MINUTES)
    app = FastAPI()
    async with optimized(app, settings(tmp_path), "policy_governance"):
        readers: Any = governance_reads.GovernanceReads(app.state.reads)
        room = await open_room(tmp_path, readers=readers)
        room.ledger.constitution = airline().hash
        there = None
        for policies in (airline_policies(), airline_policies() + "\n// the same once more\n"):
            bundle = await room.bundles.build(room.new_bundle(policies), OPERATOR)
            room.ledger.enacted.add(text_hash(policies))
            await room.bundles.activate(bundle.hash, OPERATOR)
            assert (await app.state.reads.get("active_bundle", {}, room.bundles.active)).hash == bundle.hash
            there = there or await another_process("policy_governance", tmp_path / "governance.sqlite3")

            async def heard(ask: Ask = there, expected: str = bundle.hash) -> bool:
                return await ask() == expected

            await eventually_async(heard, "the other process reads the new bundle")
        await close_room(room)
