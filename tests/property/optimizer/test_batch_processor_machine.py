"""AsyncBatchProcessor as a state machine under virtual time: every operation runs once and for itself, within the bounds."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from acgs1.optimizer.batching import AsyncBatchProcessor, BatchClosed, BatchFull

SIZE = 3
PENDING = 7
SLOWEST = 0.08
INSTANT = 1e-9
NOTICE = 1e-6


class Failed(Exception):
    pass


def machine(new_loop: Callable[[], Any], timeout: float, concurrency: int) -> type[RuleBasedStateMachine]:
    class ProcessorMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = new_loop()
            self.next = 0
            self.tasks: dict[int, asyncio.Task[str]] = {}
            self.submitted_at: dict[int, float] = {}
            self.started_at: dict[int, float] = {}
            self.running: set[int] = set()
            self.finished: set[int] = set()
            self.cut_off: set[int] = set()
            self.failing: set[int] = set()
            self.cancelled: set[int] = set()
            self.cancelled_running: set[int] = set()
            self.processor = AsyncBatchProcessor(
                batch_size=SIZE, batch_timeout=timeout, max_pending=PENDING, concurrency=concurrency
            )

        async def operate(self, item: int, seconds: float) -> str:
            assert item not in self.started_at, "an operation was run twice"
            self.started_at[item] = self.loop.time()
            self.running.add(item)
            assert len(self.running) <= SIZE * concurrency, "more at once than there may be"
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.cut_off.add(item)
                raise
            finally:
                self.running.discard(item)
            self.finished.add(item)
            if item in self.failing:
                raise Failed(item)
            return f"ok-{item}"

        def settle(self) -> None:
            """Run everything that needs no time."""
            self.loop.advance(INSTANT)

        @rule(count=st.integers(1, 6), seconds=st.sampled_from([0.0, 0.01, SLOWEST]), fail=st.booleans())
        def add(self, count: int, seconds: float, fail: bool) -> None:
            waiting = self.processor.pending
            for number in range(count):
                item = self.next
                self.next += 1
                if fail and number % 2 == 0:
                    self.failing.add(item)
                self.submitted_at[item] = self.loop.time()

                def operation(item: int = item) -> Any:
                    return self.operate(item, seconds)

                self.tasks[item] = self.loop.create_task(self.processor.add_operation(operation))
            refused_before = self.processor.stats.refused
            # One turn: those for whom there is no room are refused at once, and nobody else is.
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            assert self.processor.stats.refused - refused_before == max(0, waiting + count - PENDING)
            self.settle()

        @rule(seconds=st.sampled_from([0.0, 0.004, 0.01, 0.05, 0.3]))
        def wait(self, seconds: float) -> None:
            self.loop.advance(seconds)

        @precondition(lambda self: any(not task.done() for task in self.tasks.values()))
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            item = data.draw(st.sampled_from([item for item, task in self.tasks.items() if not task.done()]))
            self.cancelled.add(item)
            if item in self.running:
                self.cancelled_running.add(item)
            self.tasks[item].cancel()
            self.settle()
            assert self.tasks[item].cancelled()
            assert item not in self.running, "its operation goes with it"

        @invariant()
        def the_queue_is_bounded(self) -> None:
            assert self.processor.pending <= PENDING

        @invariant()
        def a_full_batch_does_not_wait_for_company(self) -> None:
            self.settle()
            assert self.running or self.processor.pending < SIZE

        @invariant()
        def nobody_waits_longer_than_promised(self) -> None:
            # Ahead of an item lie at most the batches that run and those of the items that came before it, one after another.
            longest = timeout + SLOWEST * (2 + PENDING // SIZE) + NOTICE
            for item, since in self.submitted_at.items():
                started = self.started_at.get(item)
                if started is not None:
                    assert started - since <= longest
                elif not self.tasks[item].done():
                    assert self.loop.time() - since <= longest

        def teardown(self) -> None:
            self.loop.run_until_complete(self.processor.close())
            assert self.processor.pending == 0
            assert not self.running, "close left something running"
            self.settle()
            refused = 0
            for item, task in self.tasks.items():
                assert task.done(), "close left somebody waiting"
                if task.cancelled():
                    assert item in self.cancelled
                    assert item not in self.finished or item not in self.cancelled_running
                    continue
                error = task.exception()
                if error is None:
                    assert task.result() == f"ok-{item}", "an answer went to the wrong submitter"
                    assert item in self.finished
                elif isinstance(error, Failed):
                    assert error.args == (item,), "an operation failed for another's fault"
                    assert item in self.failing
                else:
                    assert isinstance(error, BatchFull)
                    assert item not in self.started_at, "a refused operation was run all the same"
                    refused += 1
            assert self.processor.stats.refused == refused
            assert self.cut_off == self.cancelled_running, "only what its submitter gave up is cut off"
            order = list(self.started_at)
            assert order == sorted(order), "operations start in the order in which they came"
            before = len(self.started_at)
            with pytest.raises(BatchClosed):
                self.loop.run_until_complete(self.processor.add_operation(lambda: self.operate(-1, 0)))
            assert len(self.started_at) == before
            self.loop.close()

    return ProcessorMachine


@pytest.mark.parametrize(("timeout", "concurrency"), [(0.0, 1), (0.01, 1), (0.01, 3)])
def test_the_batch_processor_keeps_its_promises_in_any_order_of_events(new_virtual_loop, timeout, concurrency):
    run_state_machine_as_test(
        machine(new_virtual_loop, timeout, concurrency),
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
