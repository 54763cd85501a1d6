"""Batching: many small requests answered by few large operations, with bounds in size, time and queue length.

- `GroupCommit` makes one durable write of all items that wait (the decision spool, log appends).
- `KeyedBatcher` folds look-ups by key into one query.
- `AsyncBatchProcessor` runs arbitrary operations, a batch at a time.

They share one contract. `submit` resolves with the item's own outcome; a failing item fails alone. A submitter that is
cancelled before its batch starts takes its item back; after that the batch goes on without it. When `max_pending` items
wait, `submit` raises BatchFull at once: the caller sheds load instead of piling it up. `close` takes no new items,
finishes those that wait, and returns when nothing runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from inspect import isawaitable
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from acgs1.core.errors import DomainError

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")


class BatchFull(DomainError):
    """As many items wait as the batcher holds. Trying again later may succeed."""

    code = "overloaded"
    title = "Too many requests are waiting"


class BatchClosed(DomainError):
    """The batcher is closing or closed and takes nothing more."""

    code = "shutting_down"
    title = "The service is shutting down"


@dataclass(slots=True)
class BatchStats:
    """Counts since construction. `wait_seconds` sums over items the time from `submit` to the start of the batch."""

    batches: int = 0
    items: int = 0
    largest: int = 0
    refused: int = 0
    withdrawn: int = 0
    wait_seconds: float = 0.0


_Waiting = dict["asyncio.Future[R]", tuple[T, float]]


class _Batcher(Generic[T, R]):
    """Collects items and hands batches, at most `concurrency` at a time, to `run`, which settles the futures."""

    def __init__(
        self,
        run: Callable[[dict["asyncio.Future[R]", T]], Awaitable[None]],
        *,
        name: str,
        max_batch: int,
        max_delay: float,
        max_pending: int,
        concurrency: int,
    ) -> None:
        if max_batch < 1 or max_pending < 1 or concurrency < 1 or max_delay < 0:
            raise ValueError(
                f"batcher `{name}`: max_batch, max_pending and concurrency are at least 1 and max_delay at least 0; "
                f"got {max_batch}, {max_pending}, {concurrency}, {max_delay}"
            )
        self.name = name
        self.stats = BatchStats()
        self._run = run
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._max_pending = max_pending
        self._concurrency = concurrency
        self._waiting: _Waiting[R, T] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._timer_is_immediate = False
        self._closing = False

    @property
    def pending(self) -> int:
        """Items that wait for a batch to take them."""
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        if self._closing:
            raise BatchClosed(f"`{self.name}` takes nothing more")
        if len(self._waiting) >= self._max_pending:
            self.stats.refused += 1
            raise BatchFull(f"`{self.name}` already holds {self._max_pending} waiting items; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting[future] = (item, loop.time())
        self._arrange(loop)
        try:
            return await future
        except asyncio.CancelledError:
            if self._waiting.pop(future, None) is not None:
                self.stats.withdrawn += 1
            raise

    async def close(self) -> None:
        self._closing = True
        loop = asyncio.get_running_loop()
        while self._waiting or self._running:
            self._arrange(loop)
            if self._running:
                await asyncio.wait(self._running)
            else:
                await asyncio.sleep(0)

    def _arrange(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that what waits gets a batch: now, when the oldest item's delay is over, or when a batch ends."""
        if not self._waiting or len(self._running) >= self._concurrency:
            return
        now = self._closing or self._max_delay == 0 or len(self._waiting) >= self._max_batch
        if self._timer is not None:
            if not now or self._timer_is_immediate:
                return
            self._timer.cancel()
        self._timer_is_immediate = now
        if now:
            # Not at once: whoever else runs in this turn of the loop may still join.
            self._timer = loop.call_soon(self._start)
        else:
            oldest = next(iter(self._waiting.values()))[1]
            self._timer = loop.call_at(oldest + self._max_delay, self._start)

    def _start(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        batch: dict[asyncio.Future[R], T] = {}
        now = loop.time()
        for future in list(islice(self._waiting, self._max_batch)):
            item, since = self._waiting.pop(future)
            # A future cancelled in this very turn has not yet been withdrawn by its submitter.
            if future.done():
                self.stats.withdrawn += 1
                continue
            batch[future] = item
            self.stats.wait_seconds += now - since
        if batch:
            self.stats.batches += 1
            self.stats.items += len(batch)
            self.stats.largest = max(self.stats.largest, len(batch))
            task = loop.create_task(self._execute(batch), name=f"batch-{self.name}")
            self._running.add(task)
            task.add_done_callback(self._finished)
        self._arrange(loop)

    async def _execute(self, batch: dict["asyncio.Future[R]", T]) -> None:
        problem: Exception | None = None
        try:
            await self._run(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to the submitters, who get it below
            problem = error
        finally:
            for future in batch:
                if not future.done():
                    # Also reached when this task itself is cancelled: nobody may be left waiting for ever.
                    future.set_exception(problem or BatchClosed(f"`{self.name}` stopped before an answer"))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._arrange(task.get_loop())


class GroupCommit(Generic[T, R]):
    """One `flush` for all items that wait; while it runs, the next group gathers.

    `flush(items)` returns one outcome per item, in order; an outcome that is an Exception fails that item alone. When
    `flush` raises, every item of the group fails with that error. Flushes never overlap and keep the order of `submit`.
    `max_delay` (seconds) is how long the first item of a group may wait for company: 0 commits as soon as the previous
    flush is over, which under load forms large groups by itself.
    """

    def __init__(
        self,
        flush: Callable[[list[T]], Awaitable[list[R]]],
        *,
        name: str = "group-commit",
        max_batch: int = 512,
        max_delay: float = 0.0,
        max_pending: int = 8192,
    ) -> None:
        self._flush = flush
        self._batcher: _Batcher[T, R] = _Batcher(
            self._commit,
            name=name,
            max_batch=max_batch,
            max_delay=max_delay,
            max_pending=max_pending,
            concurrency=1,
        )

    @property
    def stats(self) -> BatchStats:
        return self._batcher.stats

    @property
    def pending(self) -> int:
        """Items not yet handed to `flush`."""
        return self._batcher.pending

    async def submit(self, item: T) -> R:
        """The item's outcome, once `flush` has returned. Raises its own failure, BatchFull or BatchClosed."""
        return await self._batcher.submit(item)

    async def close(self) -> None:
        """Flush what waits and take nothing more."""
        await self._batcher.close()

    async def _commit(self, batch: dict["asyncio.Future[R]", T]) -> None:
        outcomes = await self._flush(list(batch.values()))
        if len(outcomes) != len(batch):
            raise RuntimeError(f"flush answered {len(outcomes)} of {len(batch)} items; it owes one outcome each")
        for future, outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


class KeyedBatcher(Generic[K, R]):
    """Folds look-ups into one query: `fetch(keys)` gets each key once and returns what it found.

    `get` is None for a key that `fetch` left out. A value that is an Exception fails the look-ups of its key alone.
    """

    def __init__(
        self,
        fetch: Callable[[list[K]], Awaitable[Mapping[K, R | Exception]]],
        *,
        name: str = "lookup",
        max_batch: int = 256,
        max_delay: float = 0.0,
        max_pending: int = 8192,
        concurrency: int = 4,
    ) -> None:
        self._fetch = fetch
        self._batcher: _Batcher[K, R | None] = _Batcher(
            self._answer,
            name=name,
            max_batch=max_batch,
            max_delay=max_delay,
            max_pending=max_pending,
            concurrency=concurrency,
        )

    @property
    def stats(self) -> BatchStats:
        return self._batcher.stats

    async def get(self, key: K) -> R | None:
        """The value of `key`, or None. Raises what `fetch` raised, BatchFull or BatchClosed."""
        return await self._batcher.submit(key)

    async def close(self) -> None:
        await self._batcher.close()

    async def _answer(self, batch: dict["asyncio.Future[R | None]", K]) -> None:
        found = await self._fetch(list(dict.fromkeys(batch.values())))
        for future, key in batch.items():
            if future.done():
                continue
            value = found.get(key)
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)


_Operation = tuple[Callable[[], Any], Context]


class AsyncBatchProcessor:
    """Runs operations together: up to `batch_size` at once, at the latest `batch_timeout` seconds after the first came.

    The operations of a batch run concurrently; up to `concurrency` batches run side by side. An operation runs in the context
    (trace, log fields) of its submitter, and is cancelled when that is.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        batch_timeout: float = 0.005,
        max_pending: int = 4096,
        concurrency: int = 4,
        name: str = "operations",
    ) -> None:
        self._batcher: _Batcher[_Operation, Any] = _Batcher(
            self._perform,
            name=name,
            max_batch=batch_size,
            max_delay=batch_timeout,
            max_pending=max_pending,
            concurrency=concurrency,
        )

    @property
    def stats(self) -> BatchStats:
        return self._batcher.stats

    @property
    def pending(self) -> int:
        """Operations that have not started."""
        return self._batcher.pending

    async def add_operation(self, operation: Callable[[], Awaitable[T] | T]) -> T:
        """What `operation` returns. Raises what it raises, BatchFull or BatchClosed."""
        return cast("T", await self._batcher.submit((operation, copy_context())))

    async def close(self) -> None:
        """Run what waits and take nothing more."""
        await self._batcher.close()

    async def _perform(self, batch: dict["asyncio.Future[Any]", _Operation]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for future, (operation, context) in batch.items():
            task = asyncio.create_task(_settle(future, operation), context=context)
            # The submitter's cancellation reaches the operation through its future.
            future.add_done_callback(lambda done, task=task: task.cancel() if done.cancelled() else None)
            tasks.append(task)
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()


async def _settle(future: "asyncio.Future[Any]", operation: Callable[[], Any]) -> None:
    try:
        result = operation()
        if isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001 - it belongs to the submitter
        if not future.done():
            future.set_exception(error)
    except asyncio.CancelledError:
        # The submitter went away (then the future is done), or the batch was stopped from outside.
        if not future.done():
            future.set_exception(BatchClosed("the operation was cancelled before it had an answer"))
    else:
        if not future.done():
            future.set_result(result)
