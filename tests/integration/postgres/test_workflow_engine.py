"""The engine over DBOS itself, on SQLite and on PostgreSQL: results are kept, others go on, and nobody's late result counts."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue
from sqlalchemy.engine import URL, make_url

from acgs1.core.ids import new_id
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.steps import Body, Step
from acgs1.kit.workflows import Engine
from polling import eventually

pytestmark = pytest.mark.slow

Make = Callable[[Body], Engine]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Make]:
    """Engines over one store, as successive processes would have them."""
    if request.param == "postgres":
        server: str = request.getfixturevalue("postgres_url")
        url: URL = make_url(server).set(drivername="postgresql+psycopg")
        schema: str | None = f"t{uuid4().hex[:8]}"
    else:
        url, schema = make_url(f"sqlite:///{tmp_path / 'workflows.sqlite3'}"), None
    made: list[Engine] = []

    def one(body: Body) -> Engine:
        made.append(Engine("test_service", url, schema, new_id("exe"), body))
        return made[-1]

    yield one
    for engine in made:
        await engine.close()


class Story:
    """Three steps; `held` holds the second one."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.ended = asyncio.Event()
        self.reached = asyncio.Event()
        self.held: asyncio.Event | None = None
        self.seen: list[Any] = []
        self._thread = threading.current_thread()

    async def body(self, workflow_id: str, step: Step) -> None:
        self.seen = [await step(name, lambda name=name: self._work(name)) for name in ("one", "two", "three")]
        await step("end", self._end)

    async def _work(self, name: str) -> JsonValue:
        assert threading.current_thread() is self._thread, "on the event loop of the service"
        if name == "two":
            self.reached.set()
            if self.held is not None:
                await self.held.wait()
        self.done.append(name)
        return {"name": name, "list": [1, 2.5, None, "ä"]}

    async def _end(self) -> JsonValue:
        self.ended.set()
        return None


async def _soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 60)


async def _idle(engine: Engine) -> None:
    """Until the engine's own event loop has noticed."""
    await asyncio.to_thread(eventually, lambda: not engine.active, "it carries nothing out", 60)


async def test_every_step_is_done_once_and_its_result_is_kept(make: Make):
    story = Story()
    engine = make(story.body)
    assert not engine.launched
    assert await engine.run("wfl_1")
    await _soon(story.ended)
    assert story.done == ["one", "two", "three"]
    await _idle(engine)
    steps = await engine.steps("wfl_1")
    assert [step.name for step in steps] == ["one", "two", "three", "end"]
    assert [step.result for step in steps[:3]] == story.seen
    assert steps[0].result == {"name": "one", "list": [1, 2.5, None, "ä"]}
    assert all(step.started_at <= step.finished_at for step in steps)
    assert not await engine.run("wfl_1"), "it has ended"
    assert await engine.steps("wfl_2") == []


async def test_the_next_process_goes_on_at_the_step_that_was_not_kept(make: Make):
    first = Story()
    first.held = asyncio.Event()
    engine = make(first.body)
    await engine.run("wfl_1")
    await _soon(first.reached)
    await engine.close()
    assert first.done == ["one"]
    with pytest.raises(DependencyUnavailable):
        await engine.run("wfl_1")

    second = Story()
    other = make(second.body)
    assert await other.run("wfl_1")
    await _soon(second.ended)
    assert second.done == ["two", "three"]
    assert second.seen[0]["name"] == "one"


async def test_a_suspended_workflow_stands_still_and_goes_on_when_asked(make: Make):
    story = Story()
    story.held = asyncio.Event()
    engine = make(story.body)
    await engine.run("wfl_1")
    await _soon(story.reached)
    await engine.suspend("wfl_1")
    await _idle(engine)
    story.held.set()
    assert story.done == ["one"]
    assert [step.name for step in await engine.steps("wfl_1")] == ["one"]
    assert await engine.run("wfl_1")
    await _soon(story.ended)
    assert story.done == ["one", "two", "three"]
    await engine.suspend("wfl_none")


async def test_a_result_that_comes_after_somebody_else_took_over_is_not_kept(make: Make):
    results = iter(["late", "valid"])
    reached, ended = [asyncio.Event(), asyncio.Event()], asyncio.Event()
    go = [asyncio.Event(), asyncio.Event()]
    turn = iter((0, 1))

    async def slow() -> JsonValue:
        mine, result = next(turn), next(results)
        reached[mine].set()
        # A process that hangs does not notice that it was given up.
        await asyncio.shield(go[mine].wait())
        return result

    async def end() -> JsonValue:
        ended.set()
        return None

    async def body(workflow_id: str, step: Step) -> None:
        await step("slow", slow)
        await step("end", end)

    engine = make(body)
    await engine.run("wfl_1")
    await _soon(reached[0])
    # The lease has lapsed in somebody's eyes: it is carried out a second time while the first still hangs.
    await engine.run("wfl_1")
    await _soon(reached[1])
    go[0].set()
    await asyncio.sleep(0)
    go[1].set()
    await _soon(ended)
    assert (await engine.steps("wfl_1"))[0].result == "valid"


async def test_the_store_is_a_file_beside_the_database_or_a_schema_of_its_own(tmp_path: Path):
    async def body(workflow_id: str, step: Step) -> None: ...

    home = Home(tmp_path)
    here = Engine.for_service("room", PlatformSettings(home=tmp_path), home, "exe_1", body)
    assert here._url.database == str(tmp_path / "db" / "room.workflows.sqlite3")  # pyright: ignore[reportPrivateUsage]
    settings = PlatformSettings.model_validate({"home": tmp_path, "database_url": "postgresql+asyncpg://u:p@db/acgs"})
    there = Engine.for_service("room", settings, home, "exe_1", body)
    assert there._url.render_as_string(hide_password=False) == "postgresql+psycopg://u:p@db/acgs"  # pyright: ignore[reportPrivateUsage]
    assert there._schema == "acgs_room_workflows"  # pyright: ignore[reportPrivateUsage]


def test_a_service_that_runs_no_workflow_does_not_load_the_engine():
    code = "import sys, acgs1.services.governance_synthesis.app; print(sorted({'dbos', 'psycopg'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
