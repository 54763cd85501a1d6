import asyncio
from contextvars import ContextVar

import pytest

from acgs1.optimizer.batching import AsyncBatchProcessor, BatchClosed, BatchFull, GroupCommit, KeyedBatcher


async def test_items_that_arrive_together_share_one_flush():
    groups: list[list[int]] = []

    async def flush(items: list[int]) -> list[int]:
        groups.append(items)
        return [item * 10 for item in items]

    commit = GroupCommit(flush)
    assert await asyncio.gather(*(commit.submit(item) for item in range(5))) == [0, 10, 20, 30, 40]
    assert groups == [[0, 1, 2, 3, 4]]
    assert (commit.stats.batches, commit.stats.items, commit.stats.largest) == (1, 5, 5)


async def test_what_arrives_during_a_flush_forms_the_next_group():
    groups: list[list[int]] = []
    flushing = asyncio.Event()
    release = asyncio.Event()

    async def flush(items: list[int]) -> list[None]:
        groups.append(items)
        flushing.set()
        await release.wait()
        return [None] * len(items)

    commit = GroupCommit(flush)
    first = asyncio.create_task(commit.submit(1))
    await flushing.wait()
    later = [asyncio.create_task(commit.submit(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(first, *later)
    assert groups == [[1], [2, 3, 4]]


async def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room():
    release = asyncio.Event()
    flushing = asyncio.Event()

    async def flush(items: list[int]) -> list[int]:
        flushing.set()
        await release.wait()
        return items

    commit = GroupCommit(flush, name="spool", max_batch=1, max_pending=2)
    running = asyncio.create_task(commit.submit(0))
    await flushing.wait()
    waiting = [asyncio.create_task(commit.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(BatchFull, match="`spool` already holds 2 waiting items"):
        await commit.submit(3)
    waiting[0].cancel()
    await asyncio.sleep(0)
    replacement = asyncio.create_task(commit.submit(4))
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(running, waiting[1], replacement) == [0, 2, 4]
    assert commit.stats.withdrawn == 1


async def test_a_flush_that_answers_too_little_fails_everybody_rather_than_guess():
    async def flush(items: list[int]) -> list[int]:
        return items[:-1]

    commit = GroupCommit(flush)
    outcomes = await asyncio.gather(*(commit.submit(item) for item in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["flush answered 2 of 3 items; it owes one outcome each"] * 3


async def test_close_flushes_what_waits_and_takes_nothing_more():
    done: list[int] = []

    async def flush(items: list[int]) -> list[None]:
        await asyncio.sleep(0)
        done.extend(items)
        return [None] * len(items)

    commit = GroupCommit(flush, max_delay=3600.0)
    waiting = [asyncio.create_task(commit.submit(item)) for item in range(3)]
    await asyncio.sleep(0)
    await commit.close()
    await asyncio.gather(*waiting)
    assert done == [0, 1, 2]
    with pytest.raises(BatchClosed):
        await commit.submit(4)


async def test_look_ups_of_the_same_key_are_one_and_a_missing_key_is_none():
    asked: list[list[str]] = []

    async def fetch(keys: list[str]) -> dict[str, int | Exception]:
        asked.append(keys)
        return {"a": 1, "bad": LookupError("broken row")}

    batcher = KeyedBatcher(fetch)
    outcomes = await asyncio.gather(*(batcher.get(key) for key in ("a", "b", "a", "bad", "b")), return_exceptions=True)
    assert asked == [["a", "b", "bad"]]
    assert outcomes[:3] == [1, None, 1]
    assert isinstance(outcomes[3], LookupError)
    assert outcomes[4] is None


async def test_operations_run_together_and_one_failure_stays_alone():
    running = 0
    most = 0

    async def operation(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if number == 2:
            raise ArithmeticError("two")
        return number

    processor = AsyncBatchProcessor(batch_size=4, batch_timeout=0)
    outcomes = await asyncio.gather(
        *(processor.add_operation(lambda n=n: operation(n)) for n in range(4)), return_exceptions=True
    )
    assert most == 4
    assert [repr(outcome) for outcome in outcomes] == ["0", "1", "ArithmeticError('two')", "3"]
    assert await processor.add_operation(lambda: "plain functions work too") == "plain functions work too"


async def test_a_submitter_that_goes_away_takes_its_running_operation_along():
    started = asyncio.Event()
    stopped = asyncio.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    processor = AsyncBatchProcessor(batch_timeout=0)
    task = asyncio.create_task(processor.add_operation(endless))
    neighbour = asyncio.create_task(processor.add_operation(lambda: 7))
    await started.wait()
    task.cancel()
    await stopped.wait()
    assert await neighbour == 7
    await processor.close()


async def test_an_operation_runs_in_the_context_of_its_submitter():
    who = ContextVar("who", default="nobody")

    async def submit(name: str) -> str:
        who.set(name)
        return await processor.add_operation(who.get)

    processor = AsyncBatchProcessor(batch_timeout=0)
    assert await asyncio.gather(*(asyncio.create_task(submit(name)) for name in "abc")) == ["a", "b", "c"]
    assert processor.stats.batches == 1


@pytest.mark.parametrize("bad", [{"max_batch": 0}, {"max_pending": 0}, {"max_delay": -1}])
def test_bounds_that_bound_nothing_are_refused(bad):
    async def flush(items: list[int]) -> list[int]:
        return items

    with pytest.raises(ValueError, match="batcher `x`"):
        GroupCommit(flush, name="x", **bad)
