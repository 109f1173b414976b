"""The queue of unscheduled pods: order, pauses, parking, and what wakes them."""

import pytest

from cluster_agent.control.scheduler.queue import UNSCHEDULABLE_MAX_S, SchedulingQueue
from machinery.meta.resource import ObjectKey


def key(name: str) -> ObjectKey:
    return ObjectKey("demo", name)


@pytest.fixture
def queue() -> SchedulingQueue:
    return SchedulingQueue()


def test_higher_priority_first_then_first_come(queue: SchedulingQueue) -> None:
    queue.add(key("old"), 0, 1.0)
    queue.add(key("young"), 0, 2.0)
    queue.add(key("important"), 10, 3.0)
    assert [queue.pop(4.0) for _ in range(4)] == [key("important"), key("old"), key("young"), None]


def test_a_parked_pod_waits_for_a_change_and_its_pause(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    assert queue.pop(0.0) == key("a")
    queue.park(key("a"), 0.0, moves=queue.moves)
    assert queue.pop(5.0) is None
    queue.something_changed()
    assert queue.pop(5.0) == key("a")


def test_a_change_during_the_attempt_is_not_missed(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    queue.pop(0.0)
    before = queue.moves
    queue.something_changed()
    queue.park(key("a"), 0.0, moves=before)
    assert queue.pop(0.5) is None, "the pause holds"
    assert queue.pop(1.0) == key("a")


def test_pauses_grow_to_ten_seconds(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    now, waits = 0.0, []
    for _ in range(6):
        assert queue.pop(now) == key("a")
        queue.retry(key("a"), now)
        wait = queue.next_due(now)
        assert wait is not None
        waits.append(wait)
        now += wait
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_parked_pod_is_tried_again_after_five_minutes(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    queue.pop(0.0)
    queue.park(key("a"), 0.0, moves=queue.moves)
    assert queue.next_due(0.0) == UNSCHEDULABLE_MAX_S
    assert queue.pop(UNSCHEDULABLE_MAX_S - 1) is None
    assert queue.pop(UNSCHEDULABLE_MAX_S) == key("a")


def test_a_removed_pod_is_forgotten(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    queue.remove(key("a"))
    assert queue.pop(1.0) is None
    assert queue.next_due(1.0) is None
    assert len(queue) == 0


def test_an_added_pod_in_its_pause_keeps_the_pause(queue: SchedulingQueue) -> None:
    queue.add(key("a"), 0, 0.0)
    queue.pop(0.0)
    queue.retry(key("a"), 0.0)
    queue.add(key("a"), 0, 0.5)
    assert queue.pop(0.5) is None
    assert queue.pop(1.0) == key("a")
