"""A controller waits exactly until its informer shows what it did."""

import pytest
from tests.support.fake_client import FakeClient

from machinery.api.core import PODS
from machinery.client.informer import Informer
from machinery.controller.action import Create, Delete, RequeueAfter
from machinery.controller.expectations import TIMEOUT_S, Expectations
from machinery.kit.clock import FakeClock
from machinery.meta.resource import ObjectKey

OWNER = ObjectKey("demo", "web")


class Room:
    def __init__(self):
        self.client, self.clock = FakeClient(), FakeClock()
        self.informer = Informer(self.client, PODS, self.clock)
        self.expectations = Expectations(self.informer, self.clock)

    async def create(self, name):
        return await self.client.create(PODS, {"metadata": {"name": name}}, "demo")

    def satisfied(self):
        return self.expectations.satisfied(OWNER)


@pytest.fixture
def room():
    return Room()


async def test_a_created_object_is_awaited_until_it_shows(room):
    await room.informer.list_once()
    assert room.satisfied()
    room.expectations.created(OWNER, await room.create("a"))
    assert not room.satisfied()
    assert room.expectations.satisfied(ObjectKey("demo", "other"))
    await room.informer.list_once()
    assert room.satisfied()


async def test_an_object_seen_before_the_answer_came_is_not_awaited(room):
    pod = await room.create("a")
    await room.informer.list_once()
    room.expectations.created(OWNER, pod)
    assert room.satisfied()


async def test_an_object_that_came_and_went_unseen_is_not_awaited(room):
    room.expectations.created(OWNER, await room.create("a"))
    await room.client.delete(PODS, ObjectKey("demo", "a"))
    await room.informer.list_once()
    assert room.satisfied()


async def test_a_deleted_object_is_awaited_until_it_is_gone_or_going(room):
    gone, going = await room.create("gone"), await room.create("going")
    await room.informer.list_once()
    for pod in (gone, going):
        room.expectations.deleted(OWNER, pod.metadata.uid)
    assert not room.satisfied()
    await room.client.delete(PODS, ObjectKey("demo", "gone"))
    await room.informer.list_once()
    assert not room.satisfied()
    stamp = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    await room.client.patch(PODS, ObjectKey("demo", "going"), stamp)
    await room.informer.list_once()
    assert room.satisfied()


async def test_a_successor_of_the_same_name_does_not_stand_for_the_deleted_one(room):
    first = await room.create("a")
    await room.informer.list_once()
    room.expectations.deleted(OWNER, first.metadata.uid)
    await room.client.delete(PODS, ObjectKey("demo", "a"))
    await room.create("a")
    await room.informer.list_once()
    assert room.satisfied()


async def test_after_five_minutes_nothing_is_awaited(room):
    room.expectations.created(OWNER, await room.create("a"))
    room.clock.advance(TIMEOUT_S - 1)
    assert not room.satisfied()
    room.clock.advance(1)
    assert room.satisfied()


async def test_note_takes_what_the_executor_tells(room):
    note = room.expectations.note(OWNER)
    note(RequeueAfter(1), None)
    note(Create(PODS, {}), None)  # existed already
    note(Delete(PODS, ObjectKey("demo", "a")), None)  # without uid there is nothing to recognise
    assert room.satisfied()
    note(Create(PODS, {}), await room.create("a"))
    assert not room.satisfied()
    room.expectations.forget(OWNER)
    assert room.satisfied()
