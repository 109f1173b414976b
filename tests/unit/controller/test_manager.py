"""Controllers start in order, one key at a time, and a failing key fails alone."""

import asyncio
import logging

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from machinery.api.apps import REPLICASETS
from machinery.api.core import CONFIGMAPS, NODES, PODS
from machinery.client.leaderelection import LeaderElector
from machinery.controller.action import Create, Emit, RequeueAfter, Result, TerminalError
from machinery.controller.manager import Manager, owner_keys
from machinery.kit.ids import SeededIds
from machinery.kit.logcontext import bound
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.looptime


class Recorder:
    """A reconciler that notes what it was asked, and answers by script."""

    def __init__(self, **answers):
        self.answers, self.seen, self.now, self.most = answers, [], set(), 0
        self.times = []

    async def reconcile(self, key):
        assert key not in self.now, "one key, two workers"
        self.now.add(key)
        self.most = max(self.most, len(self.now))
        await asyncio.sleep(0.01)
        self.now.discard(key)
        self.seen.append(key.name)
        self.times.append(asyncio.get_running_loop().time())
        answer = self.answers.get(key.name, Result())
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else Result()
        if isinstance(answer, Exception):
            raise answer
        return answer


def manager(client, **options):
    return Manager(client, LoopClock(), SeededIds(), component="test", **options)


async def make(client, *names, resource=PODS, **metadata):
    for name in names:
        await client.create(resource, {"metadata": {"name": name, **metadata}}, "demo")


def pod_of(kind, api_version="apps/v1"):
    owner = {"apiVersion": api_version, "kind": kind, "name": "web", "uid": "u", "controller": True}
    return {"ownerReferences": [owner]}


async def test_every_object_is_reconciled_at_start_and_on_change():
    client, reconciler = FakeClient(), Recorder()
    await make(client, "a", "b", "c")
    room = manager(client)
    room.controller("c", reconciler, workers=2).watches(PODS)
    await room.start()
    await asyncio.sleep(1)
    assert sorted(reconciler.seen) == ["a", "b", "c"]
    assert reconciler.most == 2
    await make(client, "d")
    await asyncio.sleep(1)
    assert reconciler.seen[3:] == ["d"]
    await room.stop()


async def test_nothing_is_reconciled_before_every_informer_is_synced():
    client, reconciler = FakeClient(), Recorder()
    await make(client, "a")
    client.fail_next("list", ConnectionError("down"))
    room = manager(client)
    room.controller("c", reconciler).watches(PODS)
    nodes = room.informer(NODES)
    synced = []
    original = reconciler.reconcile

    async def check(key):
        synced.append(nodes.synced)
        return await original(key)

    reconciler.reconcile = check
    await room.start()
    assert room.synced
    await asyncio.sleep(1)
    assert synced == [True]
    await room.stop()


async def test_informers_are_shared():
    room = manager(FakeClient())
    assert room.informer(PODS) is room.informer(PODS)
    assert room.informer(PODS) is not room.informer(PODS, "demo")
    assert room.informer(PODS) is not room.informer(PODS, label_selector="a=b")


async def test_children_enqueue_their_owner_and_whoever_lost_them():
    client, reconciler = FakeClient(), Recorder()
    room = manager(client)
    room.controller("rs", reconciler).watches(REPLICASETS).owns(PODS, REPLICASETS)
    await room.start()
    await make(client, "child", **pod_of("ReplicaSet"))
    await make(client, "stray", **pod_of("Job", "batch/v1"))
    await make(client, "orphan")
    await asyncio.sleep(1)
    assert reconciler.seen == ["web"]
    await client.patch(PODS, ObjectKey("demo", "child"), {"metadata": {"ownerReferences": None}})
    await asyncio.sleep(1)
    assert reconciler.seen == ["web", "web"]
    await room.stop()


async def test_owner_keys_reads_views_and_documents_alike():
    client = FakeClient()
    await make(client, "child", **pod_of("ReplicaSet", "apps/v1beta1"))
    view = await client.get(PODS, ObjectKey("demo", "child"))
    document = next(iter(client.objects.values()))
    for item in (view, document):
        assert owner_keys(item, REPLICASETS) == [ObjectKey("demo", "web")]
        assert owner_keys(item, CONFIGMAPS) == []


async def test_a_failing_key_backs_off_alone():
    boom = [RuntimeError("boom")] * 6
    client, reconciler = FakeClient(), Recorder(bad=boom)
    await make(client, "bad", "good")
    room = manager(client)
    room.controller("c", reconciler).watches(PODS)
    await room.start()
    await asyncio.sleep(10)
    assert reconciler.seen.count("bad") == 7
    assert reconciler.seen.count("good") == 1
    times = [t for t, name in zip(reconciler.times, reconciler.seen, strict=True) if name == "bad"]
    pauses = [b - a - 0.01 for a, b in zip(times, times[1:], strict=False)]
    for index, pause in enumerate(pauses):
        assert 0.005 * 2**index <= pause <= 0.0061 * 2**index
    await room.stop()


async def test_a_terminal_error_is_not_tried_again(caplog):
    client, reconciler = FakeClient(), Recorder(bad=TerminalError("nonsense"))
    await make(client, "bad")
    room = manager(client)
    room.controller("c", reconciler).watches(PODS)
    await room.start()
    await asyncio.sleep(3600)
    assert reconciler.seen == ["bad"]
    assert "reconcile failed for good" in caplog.text
    await room.stop()


async def test_requeue_after():
    client, reconciler = FakeClient(), Recorder(a=[Result(requeue_after=30.0)])
    await make(client, "a")
    room = manager(client)
    room.controller("c", reconciler).watches(PODS)
    await room.start()
    await asyncio.sleep(3600)
    assert reconciler.seen == ["a", "a"]
    assert reconciler.times[1] - reconciler.times[0] == pytest.approx(30.01)
    await room.stop()


async def test_log_lines_carry_controller_key_and_reconcile_id():
    found = []

    class Reads:
        async def reconcile(self, key):
            found.append(dict(bound()))
            return Result()

    client = FakeClient()
    await make(client, "a", "b")
    room = manager(client)
    room.controller("reads", Reads()).watches(PODS)
    await room.run_once()
    assert [f["key"] for f in found] == ["demo/a", "demo/b"]
    assert {f["controller"] for f in found} == {"reads"}
    assert len({f["reconcile_id"] for f in found}) == 2
    assert bound() == {}


async def test_run_once_lists_reconciles_to_rest_and_writes_events():
    class Ripples:
        """Each pod of generation n makes one of n+1, up to 3."""

        def __init__(self, room):
            self.room, self.pods = room, room.informer(PODS)

        async def reconcile(self, key):
            number = int(key.name)
            plan = [Emit(PODS, key, "u", "Normal", "Seen", "seen"), RequeueAfter(60)]
            if number < 3:
                metadata = {"name": str(number + 1), "namespace": "demo"}
                plan.append(Create(PODS, {"metadata": metadata}, exists_ok=True))
            return await self.room.executor.apply(plan)

    client = FakeClient()
    await make(client, "1")
    room = manager(client)
    room.controller("ripples", Ripples(room)).watches(PODS)
    assert await room.run_once() == 3
    assert sorted(k.name for kind, k in client.objects if kind == "pods") == ["1", "2", "3"]
    assert len([kind for kind, _ in client.objects if kind == "events"]) == 3
    assert await room.run_once() == 0
    await room.stop()


async def test_runnables_are_restarted_and_stopped():
    runs = []

    async def fragile():
        runs.append("start")
        if len(runs) < 3:
            raise RuntimeError("fell over")
        try:
            await asyncio.sleep(100_000)
        finally:
            runs.append("stopped")

    room = manager(FakeClient())
    room.runnable("fragile", fragile)
    await room.start()
    await asyncio.sleep(60)
    assert runs == ["start"] * 3
    await room.stop()
    assert runs[-1] == "stopped"
    assert {t for t in asyncio.all_tasks() if t is not asyncio.current_task()} == set()


async def test_with_an_elector_only_the_leader_reconciles(caplog):
    caplog.set_level(logging.INFO)
    client = FakeClient()
    key, lost = ObjectKey("kube-system", "control"), []
    rooms = []
    for name in ("one", "two"):
        elector = LeaderElector(client, LoopClock(), key, name)
        room = manager(client, elector=elector, on_lost=lambda name=name: lost.append(name))
        reconciler = Recorder()
        room.controller(name, reconciler).watches(PODS)
        rooms.append((room, reconciler))
    (one, first), (two, second) = rooms
    await one.start()
    await asyncio.sleep(1)
    await two.start()
    await make(client, "a")
    await asyncio.sleep(60)
    assert (first.seen, second.seen) == (["a"], [])
    assert (one.leading, two.leading) == (True, False)
    await one.stop()
    await asyncio.sleep(3)
    assert second.seen == ["a"], "the successor looks at everything"
    assert two.leading
    client.fail_next("get", *[ConnectionError("cut")] * 20)
    await asyncio.sleep(15)
    assert lost == ["two"]
    assert not two.leading
    await make(client, "b")
    await asyncio.sleep(5)
    assert second.seen == ["a"]
    await two.stop()


async def test_a_kind_that_goes_takes_its_controller_and_its_informer_along():
    client, reconciler = FakeClient(), Recorder()
    await make(client, "a")
    room = manager(client)
    await room.start()
    builder = room.controller("late", reconciler, workers=1).watches(PODS)
    await asyncio.sleep(1)
    assert reconciler.seen == ["a"]
    held = room.informer(PODS)
    room.withdraw(builder)
    room.forget_informer(PODS)
    await make(client, "b")
    await asyncio.sleep(1)
    assert reconciler.seen == ["a"]
    assert builder not in room.controllers
    assert [pod.metadata.name for pod in held.list()] == ["a"]
    assert room.informer(PODS) is not held
    await room.stop()


async def test_what_is_not_worth_a_look_at_once_is_looked_at_later_once_for_all():
    client, reconciler = FakeClient(), Recorder()
    await make(client, "a")
    room = manager(client)
    builder = room.controller("c", reconciler)
    builder.watches(PODS, when=lambda old, new: old is None or new is None, later=lambda _: 5.0)
    await room.start()
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    for number in range(3):
        await client.patch(
            PODS, ObjectKey("demo", "a"), {"metadata": {"labels": {"n": str(number)}}}
        )
        await asyncio.sleep(1)
    assert reconciler.seen == ["a"], "only its coming was worth it"
    await asyncio.sleep(20)
    assert reconciler.seen == ["a", "a"]
    assert reconciler.times[1] - began == pytest.approx(5, abs=0.1)
    await room.stop()


async def test_what_is_never_worth_a_look_gets_none():
    client, reconciler = FakeClient(), Recorder()
    await make(client, "a")
    room = manager(client)
    room.controller("c", reconciler).watches(PODS, when=lambda old, _: old is None)
    await room.start()
    await asyncio.sleep(1)
    await client.patch(PODS, ObjectKey("demo", "a"), {"metadata": {"labels": {"n": "1"}}})
    await asyncio.sleep(60)
    assert reconciler.seen == ["a"]
    await room.stop()
