"""A lead that is lost is stood for again by a new manager; one that another took ends it, where that is asked for."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from machinery.api.coordination import LEASES
from machinery.api.core import PODS
from machinery.client.leaderelection import LeaderElector
from machinery.controller.action import Result
from machinery.controller.leadership import Leadership
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.looptime

KEY = ObjectKey("kube-system", "control")
AWAY = ConnectionError("the database is away")


class Recorder:
    """A reconciler that notes what it was asked."""

    def __init__(self):
        self.seen = []

    async def reconcile(self, key):
        self.seen.append(key.name)
        return Result()


class Component:
    """One process's controllers; `made` has the reconciler of every manager that was built."""

    def __init__(self, client, name="one", *, ends=False, elected=True):
        self.client, self.name, self.elected = client, name, elected
        self.made, self.superseded = [], []
        ended = (lambda: self.superseded.append(name)) if ends else None
        self.leadership = Leadership(self.build, ended)

    def build(self, on_lost):
        elector = LeaderElector(self.client, LoopClock(), KEY, self.name) if self.elected else None
        manager = Manager(
            self.client,
            LoopClock(),
            SeededIds(),
            component="test",
            elector=elector,
            on_lost=on_lost,
        )
        reconciler = Recorder()
        self.made.append(reconciler)
        manager.controller("pods", reconciler).watches(PODS)
        return manager


async def make(client, name):
    await client.create(PODS, {"metadata": {"name": name}}, "demo")


async def take(client, holder):
    """Another writes itself into the Lease, over the one that holds it."""
    held = client.objects[(LEASES.group_resource, KEY)]
    spec = held["spec"] | {"holderIdentity": holder, "leaseDurationSeconds": 15}
    await client.update(LEASES, held | {"spec": spec})


async def test_without_an_elector_it_leads_from_the_start_to_the_stop():
    client = FakeClient()
    one = Component(client, elected=False)
    await make(client, "a")
    await one.leadership.start()
    await asyncio.sleep(1)
    assert one.leadership.leading
    await one.leadership.stop()
    assert not one.leadership.leading
    assert [r.seen for r in one.made] == [["a"]]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_store_that_was_away_costs_the_lead_and_not_the_process(ends):
    client = FakeClient()
    one = Component(client, ends=ends)
    await make(client, "a")
    await one.leadership.start()
    await asyncio.sleep(5)
    assert one.leadership.leading
    client.fail_next("get", *[AWAY] * 20)
    await asyncio.sleep(15)
    assert not one.leadership.leading, "after the renewal deadline nothing of it goes on"
    await make(client, "b")
    await asyncio.sleep(60)
    assert one.leadership.leading
    assert [sorted(r.seen) for r in one.made] == [["a"], ["a", "b"]], "the new one looks at all"
    assert one.superseded == []
    await one.leadership.stop()
    assert {t for t in asyncio.all_tasks() if t is not asyncio.current_task()} == set()


async def test_a_lead_that_another_took_ends_it():
    client = FakeClient()
    one = Component(client, ends=True)
    await one.leadership.start()
    await asyncio.sleep(5)
    await take(client, "two")
    await asyncio.sleep(60)
    assert one.superseded == ["one"]
    assert not one.leadership.leading
    assert len(one.made) == 1
    await one.leadership.stop()


async def test_or_it_stands_by_until_the_other_is_gone():
    client = FakeClient()
    one = Component(client)
    await one.leadership.start()
    await asyncio.sleep(5)
    await take(client, "two")
    await asyncio.sleep(5)
    assert (one.leadership.leading, len(one.made)) == (False, 2)
    await asyncio.sleep(30)
    assert one.leadership.leading, "the other did not renew"
    await one.leadership.stop()


async def test_the_lead_is_given_up_at_the_stop():
    client = FakeClient()
    one, two = Component(client), Component(client, "two")
    for component in (one, two):
        await component.leadership.start()
        await asyncio.sleep(1)
    await one.leadership.stop()
    await asyncio.sleep(4)
    assert two.leadership.leading
    await two.leadership.stop()
