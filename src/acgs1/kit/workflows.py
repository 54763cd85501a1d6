"""Durable workflows: the result of each step is kept before the next one begins, so whoever takes a workflow up again goes on there.

DBOS Transact keeps the results, in a SQLite file beside the service's database or in a PostgreSQL schema beside the service's own. It is
loaded when a process runs its first workflow: one that runs none pays neither its memory nor its threads.
"""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import JsonValue
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.home import Home
from acgs1.kit.pools import PoolMeter, measured_threaded_queue
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.steps import Body, StepResult, Work

T = TypeVar("T")

_QUEUE = "workflows"
_FUNCTION = "workflow"
# Workflows outlive releases: their bodies change only so that what is recorded can still be replayed.
_VERSION = "1"
_one_per_process = threading.Lock()


class Engine:
    """Runs workflows of one service, all of them with `body`, on the event loop on which the engine is made. `close` it when done.

    INVARIANT: of two processes that run the same workflow, only the one that the store names as its owner gets a result recorded.
    One per process: DBOS is one.
    """

    def __init__(
        self, service: str, url: URL, schema: str | None, executor: str, body: Body, *, pool_size: int = 4
    ) -> None:
        self._service = service
        self._url = url
        self._schema = schema
        self._executor = executor
        self._body = body
        self._pool_size = pool_size
        self._meter: PoolMeter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._launching = asyncio.Lock()
        self._dbos: Any = None
        self._function: Any = None
        self._closed = False
        self.active: set[str] = set()
        """Ids of the workflows that this process is carrying out."""

    @classmethod
    def for_service(cls, service: str, settings: PlatformSettings, home: Home, executor: str, body: Body) -> "Engine":
        """With the store that the settings give to `service`; `executor` names this process among all that ever ran."""
        size = settings.workflow_pool_size
        if settings.database_url is None:
            file = home.database(f"{service}.workflows")
            return cls(service, make_url(f"sqlite:///{file}"), None, executor, body, pool_size=size)
        url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+psycopg")
        return cls(service, url, f"acgs_{service}_workflows", executor, body, pool_size=size)

    @property
    def launched(self) -> bool:
        return self._dbos is not None

    async def run(self, workflow_id: str) -> bool:
        """Have the workflow carried out, by this process or another one of the service: from its beginning, or from the last step
        whose result is kept. False when it has ended and there is nothing to carry out."""
        await self._launch()
        return await asyncio.to_thread(self._run, workflow_id)

    async def suspend(self, workflow_id: str) -> None:
        """Take the workflow out of execution, wherever it runs; what it has recorded stays, and `run` goes on from there."""
        await self._launch()
        await asyncio.to_thread(self._suspend, workflow_id)

    async def steps(self, workflow_id: str) -> list[StepResult]:
        """What it has done so far, in order."""
        await self._launch()
        return await asyncio.to_thread(self._steps, workflow_id)

    async def close(self) -> None:
        """Stop carrying out, for good; nothing is lost, and another process may go on."""
        async with self._launching:
            self._closed = True
            if self._dbos is not None:
                await asyncio.to_thread(self._dbos.destroy, destroy_registry=True)
                self._dbos = None
                if self._meter is not None:
                    self._meter.close()
                    self._meter = None
                _one_per_process.release()

    async def _launch(self) -> None:
        async with self._launching:
            if self._closed:
                raise DependencyUnavailable("the service is being stopped; whoever runs next takes its workflows up")
            if self._dbos is None:
                self._loop = asyncio.get_running_loop()
                # In a thread without an event loop, so that DBOS keeps its bookkeeping off the one that answers requests.
                await asyncio.to_thread(self._load)

    def _load(self) -> None:
        if not _one_per_process.acquire(blocking=False):
            raise AssertionError("INVARIANT: one engine per process")
        try:
            self._dbos = self._launched_dbos()
        except BaseException:
            _one_per_process.release()
            raise

    def _launched_dbos(self) -> Any:
        from dbos import DBOS, DBOSConfig
        from dbos._serialization import DBOSPortableJSON

        config: DBOSConfig = {
            "name": self._service,
            "system_database_url": self._url.render_as_string(hide_password=False),
            "sys_db_pool_size": self._pool_size,
            "db_engine_kwargs": {"poolclass": self._measured()},
            "application_version": _VERSION,
            "executor_id": self._executor,
            "log_level": "WARNING",
            # Never pickle: whoever can write the database must not be able to run code here.
            "serializer": DBOSPortableJSON,
            # Schedules are not used here.
            "scheduler_polling_interval_sec": 3600.0,
        }
        if self._schema is not None:
            config["dbos_system_schema"] = self._schema

        async def carry_out(workflow_id: str) -> None:
            await self._carry_out(workflow_id)

        try:
            DBOS(config=config)
            _log_like_everybody()
            self._function = DBOS.workflow(name=_FUNCTION)(carry_out)
            DBOS.launch()
            DBOS.register_queue(_QUEUE)
        except BaseException:
            DBOS.destroy(destroy_registry=True)
            raise
        return DBOS

    def _measured(self) -> type[QueuePool]:
        self._meter = PoolMeter(self._service, "workflows", self._pool_size)
        return measured_threaded_queue(self._meter)

    def _run(self, workflow_id: str) -> bool:
        from dbos import SetWorkflowID

        status = self._dbos.get_workflow_status(workflow_id)
        if status is None:
            with SetWorkflowID(workflow_id):
                # Through a queue even here: a workflow taken from it holds no thread while it waits.
                self._dbos.enqueue_workflow(_QUEUE, self._function, workflow_id)
        elif status.status in {"SUCCESS", "ERROR"}:
            return False
        else:
            self._dbos.resume_workflow(workflow_id, queue_name=_QUEUE)
        return True

    def _suspend(self, workflow_id: str) -> None:
        if self._dbos.get_workflow_status(workflow_id) is not None:
            self._dbos.cancel_workflow(workflow_id)

    def _steps(self, workflow_id: str) -> list[StepResult]:
        if self._dbos.get_workflow_status(workflow_id) is None:
            return []
        return [
            StepResult(
                step["function_name"],
                _at(step["started_at_epoch_ms"]),
                _at(step["completed_at_epoch_ms"]),
                step["output"],
            )
            for step in self._dbos.list_workflow_steps(workflow_id)
        ]

    async def _carry_out(self, workflow_id: str) -> None:
        """The workflow as DBOS knows it; runs on DBOS's own event loop."""
        from dbos import DBOS

        async def step(name: str, work: Work) -> Any:
            async def on_our_loop() -> JsonValue:
                return await self._there(work)

            return await DBOS.run_step_async({"name": name, "preemptible": True}, on_our_loop)

        self.active.add(workflow_id)
        try:
            await self._body(workflow_id, step)
        finally:
            self.active.discard(workflow_id)

    async def _there(self, work: Work) -> JsonValue:
        async def call() -> JsonValue:
            return await work()

        # Without DBOS's context: to its own calls, `work` is none of its business.
        future = contextvars.Context().run(_submit, call(), self._loop)
        return await asyncio.wrap_future(future)


def _submit(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop | None) -> Any:
    if loop is None:
        raise AssertionError("INVARIANT: a workflow runs only after the launch")
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _log_like_everybody() -> None:
    """DBOS brings a handler and a format of its own; its lines go where the service's go."""
    logger = logging.getLogger("dbos")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """A workflow that was suspended, or that another process took over, ends here as it should: DBOS calls that an exception."""
    if record.exc_info and record.exc_info[0] is not None:
        return record.exc_info[0].__name__ != "DBOSAwaitedWorkflowCancelledError"
    return "no longer owned by this execution" not in record.getMessage() and "was cancelled" not in record.getMessage()
