"""Prover processes: bounded, warm, and expendable.

A worker starts when the first job needs it and stays for the next. It is killed when an item takes longer than its hard
deadline, dies when it wants more memory than its limit, and is replaced; either costs that one item its verdict.
"""

import asyncio
import json
import os
import struct
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.kit.tracing import CLIENT, span
from acgs1.services.formal_verification.adapters.worker import refusal
from acgs1.services.formal_verification.domain import MAX_OBLIGATIONS, Item, Job, Plan
from acgs1.services.formal_verification.errors import (
    InvalidConstitution,
    InvalidPolicies,
    ProverUnavailable,
    TooManyObligations,
)

_log = structlog.get_logger()

_REFUSALS: dict[str, type[DomainError]] = {kind.code: kind for kind in (InvalidPolicies, InvalidConstitution)}
WORKER = (sys.executable, "-m", "acgs1.services.formal_verification.adapters.worker")
_BATCH = 32
_COMPANY_SECONDS = 0.25
"""How long a job goes on before another worker is started for it: most are over by then."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """`workers` processes at most, each with `memory_mb` of private memory; `waiting` jobs may queue for one.

    `solver_timeout_ms` is the solver's own, soft limit per query; `item_seconds` is when the process is killed.
    A worker larger than `recycle_mb` between batches is replaced. `idle_seconds` without work ends a worker.
    """

    workers: int = 1
    memory_mb: int = 1024
    recycle_mb: int = 280
    waiting: int = 64
    solver_timeout_ms: int = 5000
    second_opinion_ms: int = 2000
    item_seconds: float = 20.0
    open_seconds: float = 60.0
    idle_seconds: float = 600.0


class _WorkerGone(Exception):
    """The worker ended or was killed; the message says why."""


class _Worker:
    """One process and the pipe to it. Used by one task at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, to: asyncio.StreamWriter, out_of: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._to = to
        self._from = out_of
        self.opened: set[str] = set()
        self.memory_mb = 0

    @classmethod
    async def start(cls, command: Sequence[str], limits: PoolLimits) -> "_Worker":
        # Nothing of this process's environment is the solver's business: it may hold secrets.
        kept = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--memory-mb={limits.memory_mb}",
            f"--solver-timeout-ms={limits.solver_timeout_ms}",
            f"--second-opinion-ms={limits.second_opinion_ms}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in kept if name in os.environ},
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise AssertionError("INVARIANT: both were asked for as pipes")
        return cls(process, process.stdin, process.stdout)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        await self.send(message)
        return await self.receive(seconds)

    async def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._to.write(struct.pack(">I", len(body)) + body)
            await self._to.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise _WorkerGone(await self._end()) from None

    async def receive(self, seconds: float) -> dict[str, Any]:
        """The next frame. Raises _WorkerGone when there is none within `seconds`: the process is then dead."""
        try:
            async with asyncio.timeout(seconds):
                (length,) = struct.unpack(">I", await self._from.readexactly(4))
                return json.loads(await self._from.readexactly(length))
        except TimeoutError:
            await self.kill()
            raise _WorkerGone(f"the prover did not answer within {seconds:g} s and was stopped") from None
        except asyncio.IncompleteReadError:
            raise _WorkerGone(await self._end()) from None

    async def _end(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._process.wait()
        await self.kill()
        status = self._process.returncode
        if status is not None and status < 0:
            return f"the prover was ended by signal {-status} (its memory limit, or a fault in the solver)"
        return f"the prover ended with status {status} (its memory limit, or a fault in the solver)"

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class ProverPool:
    """The prover of the service: `plan` and `run` as in `ports.Prover`. `close` it when done."""

    def __init__(
        self,
        limits: PoolLimits,
        clock: Clock,
        command: Sequence[str] = WORKER,
        on_defect: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """`command` starts a worker; it is given the limits as arguments. `on_defect` gets what reproduces a prover's
        defect."""
        self._limits = limits
        self._command = tuple(command)
        self._clock = clock
        self._on_defect = on_defect or log_defect
        self._free: list[_Worker] = []
        self._slots = asyncio.Semaphore(limits.workers)
        self._waiting = 0
        self._all: set[_Worker] = set()
        self._retiring: dict[_Worker, asyncio.TimerHandle] = {}
        self.restarts = 0
        """Workers that were killed or died."""

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        return sorted(worker.pid for worker in self._all if worker.alive)

    @property
    def waiting(self) -> int:
        """How many wait for a worker."""
        return self._waiting

    async def plan(self, job: Job) -> Plan:
        if self._waiting >= self._limits.waiting:
            raise ProverUnavailable(f"{self._waiting} jobs are waiting already; try again later")
        for attempt in (1, 2):
            try:
                async with self._worker() as worker:
                    return await self._open(worker, job)
            except _WorkerGone as gone:
                if attempt == 2:
                    raise ProverUnavailable(f"the job cannot be opened: {gone}") from None
        raise AssertionError("unreachable")

    async def run(
        self, job: Job, plan: Plan, items: Sequence[int], deadline: float
    ) -> AsyncGenerator[tuple[int, dict[str, Any]]]:
        pending = deque(items)
        taken = asyncio.Event()
        results: asyncio.Queue[tuple[int, dict[str, Any]] | None] = asyncio.Queue()
        ends = self._clock.monotonic() + deadline

        async def drain() -> None:
            while pending:
                if self._clock.monotonic() >= ends:
                    while pending:
                        index = pending.popleft()
                        reason = f"the deadline of {deadline:g} s passed before this was attempted"
                        results.put_nowait((index, _unknown(plan.items[index], reason)))
                    break
                async with self._worker() as worker:
                    # Towards the end in small portions: nobody should sit on slow items that others could take.
                    share = -(-len(pending) // (2 * self._limits.workers)) if self._limits.workers > 1 else _BATCH
                    batch = [pending.popleft() for _ in range(min(_BATCH, share, len(pending)))]
                    if batch:
                        with span(f"solver {job.kind}", CLIENT, {"acgs.obligations": len(batch)}):
                            left = await self._batch(worker, job, plan, batch, ends, results)
                        pending.extendleft(reversed(left))
            taken.set()

        async def join() -> None:
            if not self._free:
                with suppress(TimeoutError):
                    await asyncio.wait_for(taken.wait(), _COMPANY_SECONDS)
            await drain()

        async def all_of_them() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(drain())
                    for _ in range(min(self._limits.workers, len(items)) - 1):
                        group.create_task(join())
            finally:
                results.put_nowait(None)

        work = asyncio.create_task(all_of_them())
        try:
            while (result := await results.get()) is not None:
                yield result
            await work
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _batch(
        self,
        worker: _Worker,
        job: Job,
        plan: Plan,
        batch: list[int],
        ends: float,
        results: asyncio.Queue[tuple[int, dict[str, Any]] | None],
    ) -> list[int]:
        """Runs `batch` on `worker`; returns what is left when the worker is lost or the time is up."""
        left = deque(batch)
        begun = False
        try:
            if job.id not in worker.opened:
                await self._open(worker, job)
            await worker.send({"op": "run", "job": job.id, "items": batch})
            while True:
                seconds = min(self._limits.item_seconds, max(0.05, ends - self._clock.monotonic()))
                message = await worker.receive(seconds)
                if "begin" in message:
                    begun = True
                elif "done" in message:
                    left.popleft()
                    begun = False
                    results.put_nowait((message["done"], message["result"]))
                    for defect in message.get("defects", ()):
                        self._on_defect(defect)
                elif "unopened" in message:
                    worker.opened.discard(job.id)
                    return list(left)
                else:
                    worker.memory_mb = message["memory_mb"]
                    return []
        except _WorkerGone as gone:
            # Only an item that had begun can be to blame; a worker that never got so far takes the first one with it all
            # the same, so that a job which kills every worker at once comes to an end.
            index = left.popleft()
            reason = str(gone) if begun else f"before it began, {gone}"
            results.put_nowait((index, _unknown(plan.items[index], reason)))
            return list(left)

    async def _open(self, worker: _Worker, job: Job) -> Plan:
        message = await worker.ask(
            {"op": "open", "job": job.id, "kind": job.kind, "input": job.input}, self._limits.open_seconds
        )
        if "refused" in message:
            raise refusal(_REFUSALS, message["refused"])
        worker.opened.add(job.id)
        items = tuple(Item(i, item["key"], item["unknown"]) for i, item in enumerate(message["plan"]["items"]))
        if len(items) > MAX_OBLIGATIONS:
            raise TooManyObligations(
                f"{len(items)} obligations; the limit is {MAX_OBLIGATIONS}: verify fewer policies at once"
            )
        return Plan(items, message["plan"]["facts"])

    @asynccontextmanager
    async def _worker(self) -> AsyncGenerator[_Worker]:
        """A worker of one's own: a free one, else a new one."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        worker: _Worker | None = None
        try:
            worker = await self._take()
            yield worker
        except asyncio.CancelledError:
            # It may be in the middle of a solve whose answer nobody will read.
            if worker is not None:
                await worker.kill()
            raise
        finally:
            if worker is not None:
                await self._give_back(worker)
            self._slots.release()

    async def _take(self) -> _Worker:
        while self._free:
            worker = self._free.pop()
            self._retiring.pop(worker).cancel()
            if worker.alive:
                return worker
            self._all.discard(worker)
        try:
            worker = await _Worker.start(self._command, self._limits)
        except OSError as error:
            raise ProverUnavailable(f"a prover process cannot be started: {error.strerror}") from error
        self._all.add(worker)
        return worker

    async def _give_back(self, worker: _Worker) -> None:
        if worker.alive and worker.memory_mb <= self._limits.recycle_mb:
            self._free.append(worker)
            loop = asyncio.get_running_loop()
            self._retiring[worker] = loop.call_later(self._limits.idle_seconds, self._retire, worker)
            return
        if not worker.alive:
            self.restarts += 1
            _log.warning("prover_lost", pid=worker.pid)
        await worker.kill()
        self._all.discard(worker)

    def _retire(self, worker: _Worker) -> None:
        """Ends an idle worker; the next job starts another."""
        if worker in self._free:
            self._free.remove(worker)
            self._retiring.pop(worker, None)
            task = asyncio.ensure_future(worker.kill())
            task.add_done_callback(lambda _: self._all.discard(worker))

    async def close(self) -> None:
        """Ends all workers."""
        for timer in self._retiring.values():
            timer.cancel()
        await asyncio.gather(*(worker.kill() for worker in list(self._all)))
        self._all.clear()
        self._free.clear()


def log_defect(defect: dict[str, Any]) -> None:
    """Says that a prover contradicted another or the evaluator: an alert is to be raised on this line."""
    _log.error("prover_defect", defect=defect["defect"], reproducer=defect.get("file"))


def _unknown(item: Item, reason: str) -> dict[str, Any]:
    result = dict(item.unknown)
    if "reason" in result:
        result["reason"] = reason
    return result
