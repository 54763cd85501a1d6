"""Group commit as a state machine under virtual time: whatever the order of events, each item has its own outcome."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from acgs1.optimizer.batching import BatchClosed, BatchFull, GroupCommit

MAX_BATCH = 4
MAX_PENDING = 9
MAX_DELAY = 0.01
FLUSH_SECONDS = 0.05


class Poisoned(Exception):
    pass


class FlushBroke(Exception):
    pass


def machine(new_loop: Callable[[], Any], max_delay: float) -> type[RuleBasedStateMachine]:
    class GroupCommitMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = new_loop()
            self.next = 0
            self.tasks: dict[int, asyncio.Task[str]] = {}
            self.submitted_at: dict[int, float] = {}
            self.poisoned: set[int] = set()
            self.cancelled: set[int] = set()
            self.flushed: list[int] = []
            self.flush_started_at: dict[int, float] = {}
            self.broken_batches: set[int] = set()
            self.break_next = False
            self.flushing = False
            self.refused = 0
            self.batcher: GroupCommit[int, Any] = GroupCommit(
                self.flush, max_batch=MAX_BATCH, max_delay=max_delay, max_pending=MAX_PENDING
            )

        async def flush(self, items: list[int]) -> list[Any]:
            assert not self.flushing, "flushes overlap"
            assert 1 <= len(items) <= MAX_BATCH
            self.flushing = True
            broken, self.break_next = self.break_next, False
            for item in items:
                assert item not in self.flush_started_at, "an item was flushed twice"
                self.flush_started_at[item] = self.loop.time()
            await asyncio.sleep(FLUSH_SECONDS)
            self.flushing = False
            if broken:
                self.broken_batches.update(items)
                raise FlushBroke
            self.flushed.extend(items)
            return [Poisoned() if item in self.poisoned else f"ok-{item}" for item in items]

        @rule(count=st.integers(1, 7), poison=st.booleans())
        def submit(self, count: int, poison: bool) -> None:
            for _ in range(count):
                item = self.next
                self.next += 1
                if poison and item % 3 == 0:
                    self.poisoned.add(item)
                self.submitted_at[item] = self.loop.time()
                self.tasks[item] = self.loop.create_task(self.batcher.submit(item))
            self.loop.advance(0)

        @rule(seconds=st.sampled_from([0.0, 0.004, 0.01, 0.05, 0.2]))
        def wait(self, seconds: float) -> None:
            self.loop.advance(seconds)

        @precondition(lambda self: self.tasks)
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            item = data.draw(st.sampled_from(sorted(self.tasks)))
            if not self.tasks[item].done():
                self.cancelled.add(item)
                self.tasks[item].cancel()

        @rule()
        def break_a_flush(self) -> None:
            self.break_next = True

        @invariant()
        def the_queue_is_bounded(self) -> None:
            assert self.batcher.pending <= MAX_PENDING

        @invariant()
        def nobody_waits_longer_than_promised(self) -> None:
            # Ahead of an item lie at most the flush that runs and the groups of those who came before it.
            longest = max_delay + FLUSH_SECONDS * (2 + MAX_PENDING // MAX_BATCH) + 1e-9
            for item, task in self.tasks.items():
                if not task.done() and item not in self.cancelled:
                    assert self.loop.time() - self.submitted_at[item] <= longest

        def teardown(self) -> None:
            self.loop.run_until_complete(self.batcher.close())
            self.loop.advance(0)
            assert self.batcher.pending == 0
            for item, task in self.tasks.items():
                assert task.done(), "close left somebody waiting"
                if task.cancelled():
                    assert item in self.cancelled
                    continue
                error = task.exception()
                if error is None:
                    assert task.result() == f"ok-{item}", "an answer went to the wrong item"
                    assert item in self.flushed
                elif isinstance(error, Poisoned):
                    assert item in self.poisoned, "an item failed for another's fault"
                elif isinstance(error, FlushBroke):
                    assert item in self.broken_batches
                else:
                    assert isinstance(error, BatchFull)
                    assert item not in self.flush_started_at, "a refused item was flushed all the same"
                    self.refused += 1
            assert self.batcher.stats.refused == self.refused
            order = list(self.flush_started_at)
            assert order == sorted(order), "flushes keep the order of submission"
            with pytest.raises(BatchClosed):
                self.loop.run_until_complete(self.batcher.submit(-1))
            self.loop.close()

    return GroupCommitMachine


@pytest.mark.parametrize("max_delay", [0.0, MAX_DELAY])
def test_group_commit_keeps_its_promises_in_any_order_of_events(new_virtual_loop, max_delay):
    run_state_machine_as_test(
        machine(new_virtual_loop, max_delay),
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
