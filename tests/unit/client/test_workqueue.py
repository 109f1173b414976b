"""The queue's promises, in virtual time."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.loopclock import LoopClock

from machinery.client.workqueue import ShutDown, WorkQueue
from machinery.kit.backoff import Backoff
from machinery.kit.clock import FakeClock
from machinery.kit.tasks import TaskOwner

pytestmark = pytest.mark.looptime


async def test_a_waiting_key_waits_once():
    queue: WorkQueue[str] = WorkQueue(LoopClock())
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    await queue.close()


async def test_a_key_added_during_its_work_comes_up_again_after_done():
    queue: WorkQueue[str] = WorkQueue(LoopClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.get_nowait() is None, "a second worker must not get it"
    queue.done("a")
    assert queue.get_nowait() == "a"
    queue.done("a")
    assert queue.idle
    await queue.close()


async def test_delays_come_up_in_order_of_time_and_the_shortest_counts():
    clock = LoopClock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add_after("late", 3600)
    queue.add_after("twice", 50)
    queue.add_after("twice", 10)
    queue.add_after("twice", 70)
    queue.add_after("soon", 1)
    assert queue.delayed == 3
    start = clock.monotonic()
    got = []
    for _ in range(3):
        key = await queue.get()
        got.append((key, clock.monotonic() - start))
        queue.done(key)
    assert got == [("soon", 1), ("twice", 10), ("late", 3600)]
    assert queue.delayed == 0
    assert queue.next_due() is None
    await queue.close()


async def test_failures_of_a_key_push_it_back_further_and_forget_ends_that():
    clock = LoopClock()
    queue: WorkQueue[str] = WorkQueue(clock, backoff=Backoff(base_s=1, cap_s=5))
    waits = []
    for _ in range(4):
        start = clock.monotonic()
        queue.add_rate_limited("a")
        queue.done(await queue.get())
        waits.append(clock.monotonic() - start)
    assert waits == [1, 2, 4, 5]
    queue.forget("a")
    start = clock.monotonic()
    queue.add_rate_limited("a")
    queue.done(await queue.get())
    assert clock.monotonic() - start == 1
    await queue.close()


async def test_close_ends_waiting_workers_and_takes_no_more():
    queue: WorkQueue[str] = WorkQueue(LoopClock())
    ended = []

    async def worker() -> None:
        try:
            await queue.get()
        except ShutDown:
            ended.append(True)

    owner = TaskOwner()
    for _ in range(3):
        owner.spawn(worker(), "worker")
    await asyncio.sleep(0)
    await queue.close()
    await asyncio.sleep(0)
    assert len(ended) == 3
    queue.add("a")
    queue.add_after("b", 1)
    assert (len(queue), queue.delayed) == (0, 0)
    await owner.close()


async def test_a_cancelled_waiter_passes_its_wakeup_on():
    queue: WorkQueue[str] = WorkQueue(LoopClock())
    got = []

    async def worker() -> None:
        got.append(await queue.get())

    owner = TaskOwner()
    first = owner.spawn(worker(), "first")
    owner.spawn(worker(), "second")
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    await asyncio.sleep(0.1)
    assert got == ["a"]
    await owner.close()
    await queue.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done"]), st.integers(0, 4))))
def test_no_key_is_worked_on_twice_at_once_and_none_is_lost(steps):
    async def play() -> None:
        queue: WorkQueue[int] = WorkQueue(FakeClock())
        working: set[int] = set()
        owed: set[int] = set()  # added and not taken since
        for step, key in steps:
            if step == "add":
                queue.add(key)
                owed.add(key)
            elif step == "take":
                taken = queue.get_nowait()
                if taken is not None:
                    assert taken not in working
                    working.add(taken)
                    owed.discard(taken)
            elif key in working:
                working.discard(key)
                queue.done(key)
        for key in working:
            queue.done(key)
        rest = set()
        while (taken := queue.get_nowait()) is not None:
            rest.add(taken)
            queue.done(taken)
        assert rest == owed
        await queue.close()

    asyncio.run(play())


async def test_within_adds_nothing_to_a_key_that_waits_already():
    queue: WorkQueue[str] = WorkQueue(LoopClock())
    queue.add("a")
    queue.add_within("a", 5)
    assert queue.delayed == 0
    assert await queue.get() == "a"
    queue.add_within("a", 5)
    queue.add_within("a", 50)
    assert queue.delayed == 1, "what happens during its work is looked at after it"
    queue.done("a")
    await asyncio.sleep(5.1)
    assert queue.get_nowait() == "a"
    await queue.close()
