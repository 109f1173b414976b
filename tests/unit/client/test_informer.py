"""The copy follows the server, whatever happens in between."""

import asyncio
import copy
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.support.fake_client import EVERYTHING, FakeClient
from tests.support.loopclock import LoopClock

from machinery.api.core import CONFIGMAPS, PODS
from machinery.client.informer import Informer
from machinery.client.interface import Packed, dynamic
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Forbidden, InternalError, TooManyRequests
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.looptime


def pod(name, node="", **labels):
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}}


@asynccontextmanager
async def running(client, resource=PODS, **options):
    informer = Informer(client, resource, LoopClock(), **options)
    seen = []
    informer.on_change(lambda old, new: seen.append((_name(old), _name(new))))
    owner = TaskOwner()
    owner.spawn(informer.run(), "informer")
    try:
        yield informer, seen
    finally:
        await owner.close()


def _name(item):
    if item is None:
        return None
    return item["metadata"]["name"] if isinstance(item, dict) else item.metadata.name


async def test_list_then_watch_then_changes_reach_handlers():
    client = FakeClient()
    await client.create(PODS, pod("a"), "demo")
    async with running(client) as (informer, seen):
        assert not informer.synced
        await informer.wait_synced()
        assert seen == [(None, "a")]
        await client.create(PODS, pod("b"), "demo")
        await client.patch(PODS, ObjectKey("demo", "a"), {"spec": {"nodeName": "n1"}})
        await client.delete(PODS, ObjectKey("demo", "b"))
        await asyncio.sleep(1)
        assert seen == [(None, "a"), (None, "b"), ("a", "a"), ("b", None)]
        assert informer.get(ObjectKey("demo", "a")).spec.node_name == "n1"
        assert informer.get(ObjectKey("demo", "b")) is None
        assert len(informer) == len(informer.list()) == 1
        assert informer.list("other") == []
        assert informer.resource_version == str(client.revision)
        assert client.verbs().count("list") == 1


async def test_a_late_handler_hears_of_what_is_known():
    client = FakeClient()
    await client.create(PODS, pod("a"), "demo")
    async with running(client) as (informer, _):
        await informer.wait_synced()
        late = []
        informer.on_change(lambda old, new: late.append((_name(old), _name(new))))
        assert late == [(None, "a")]


async def test_a_cut_watch_goes_on_from_its_revision_without_a_list():
    client = FakeClient()
    async with running(client) as (informer, seen):
        await informer.wait_synced()
        client.cut()
        await client.create(PODS, pod("a"), "demo")
        await asyncio.sleep(5)
        assert seen == [(None, "a")]
        assert client.verbs().count("list") == 1


async def test_after_410_the_difference_is_told_deletions_included():
    client = FakeClient()
    for name in ("keep", "change", "gone", "reborn"):
        await client.create(PODS, pod(name), "demo")
    async with running(client) as (informer, seen):
        await informer.wait_synced()
        seen.clear()
        client.fail_next("watch", ConnectionError("gone"))
        client.cut()
        await client.delete(PODS, ObjectKey("demo", "gone"))
        await client.delete(PODS, ObjectKey("demo", "reborn"))
        await client.create(PODS, pod("reborn"), "demo")
        await client.patch(PODS, ObjectKey("demo", "change"), {"spec": {"nodeName": "n1"}})
        client.compact()
        await asyncio.sleep(10)
        assert sorted(seen, key=str) == sorted(
            [("gone", None), ("reborn", None), (None, "reborn"), ("change", "change")], key=str
        )
        assert seen.index(("reborn", None)) < seen.index((None, "reborn"))
        assert client.verbs().count("list") == 2


@pytest.mark.parametrize(
    ("error", "lists"),
    [
        pytest.param(ConnectionError("refused"), 1, id="connection"),
        pytest.param(TooManyRequests("slow down"), 1, id="429"),
        pytest.param(InternalError("oops"), 2, id="500"),
        pytest.param(Forbidden("no"), 2, id="403"),
    ],
)
async def test_watch_errors_back_off_and_recover(error, lists):
    client = FakeClient()
    async with running(client) as (informer, seen):
        client.fail_next("watch", *[error] * 4)
        await informer.wait_synced()
        await asyncio.sleep(60)
        await client.create(PODS, pod("a"), "demo")
        await asyncio.sleep(1)
        assert seen == [(None, "a")]
        assert client.verbs().count("watch") == 5
        assert client.verbs().count("list") == (1 if lists == 1 else 5)


async def test_a_server_that_is_down_is_asked_ever_more_rarely():
    client = FakeClient()
    client.fail_next("list", *[ConnectionError("down")] * 100)
    async with running(client) as (informer, _):
        await asyncio.sleep(300)
        assert not informer.synced
        assert 35 < client.verbs().count("list") < 70  # every 6 s, after the first few


async def test_indexes_follow_changes():
    client = FakeClient()
    await client.create(PODS, pod("a", node="n1"), "demo")
    async with running(client) as (informer, _):
        informer.add_index("node", lambda p: [p.spec.node_name] if p.spec.node_name else [])
        await informer.wait_synced()
        await client.create(PODS, pod("b", node="n1"), "demo")
        await client.create(PODS, pod("c"), "demo")
        await asyncio.sleep(1)
        informer.add_index("node", lambda p: [])  # the second of the name changes nothing
        assert [_name(p) for p in informer.by_index("node", "n1")] == ["a", "b"]
        await client.patch(PODS, ObjectKey("demo", "a"), {"spec": {"nodeName": "n2"}})
        await client.delete(PODS, ObjectKey("demo", "b"))
        await asyncio.sleep(1)
        assert informer.by_index("node", "n1") == []
        assert [_name(p) for p in informer.by_index("node", "n2")] == ["a"]
        assert informer.by_index("node", "") == []


async def test_an_index_keeps_the_order_of_those_that_share_a_value():
    client = FakeClient()
    async with running(client) as (informer, _):
        informer.add_index("node", lambda p: [p.spec.node_name])
        await informer.wait_synced()
        for name in ("b", "a", "c"):
            await client.create(PODS, pod(name, node="n1"), "demo")
        await asyncio.sleep(1)
        assert [_name(p) for p in informer.by_index("node", "n1")] == ["b", "a", "c"]
        for gone, left in (("a", ["b", "c"]), ("b", ["c"]), ("c", [])):
            await client.delete(PODS, ObjectKey("demo", gone))
            await asyncio.sleep(1)
            assert [_name(p) for p in informer.by_index("node", "n1")] == left
        await client.create(PODS, pod("d", node="n1"), "demo")
        await asyncio.sleep(1)
        assert [_name(p) for p in informer.by_index("node", "n1")] == ["d"]


async def test_an_index_may_give_a_value_twice():
    client = FakeClient()
    async with running(client) as (informer, _):
        informer.add_index("twice", lambda p: [p.spec.node_name, p.spec.node_name])
        await informer.wait_synced()
        await client.create(PODS, pod("a", node="n1"), "demo")
        await asyncio.sleep(1)
        assert [_name(p) for p in informer.by_index("twice", "n1")] == ["a"]
        await client.patch(PODS, ObjectKey("demo", "a"), {"spec": {"nodeName": "n2"}})
        await asyncio.sleep(1)
        assert informer.by_index("twice", "n1") == []
        assert [_name(p) for p in informer.by_index("twice", "n2")] == ["a"]


class Counted:
    """A state of an object that counts how often it is decoded."""

    def __init__(self, document):
        self.document, self.reads = document, 0
        self.namespace, self.name = "demo", document["metadata"]["name"]
        self.revision = int(document["metadata"]["resourceVersion"])
        self.value = json.dumps(document).encode()

    def decode(self):
        self.reads += 1
        return copy.deepcopy(self.document)


class Packing(FakeClient):
    """A client that packs what it lists, as that of the same process does; a state that stays is packed anew each time."""

    def __init__(self):
        super().__init__()
        self.given = []

    async def list(self, resource, namespace="", options=EVERYTHING):
        listing = await super().list(resource, namespace, options)
        assert options.packed
        self.given = [Counted(document) for document in listing.items]
        return replace(listing, items=[Packed(one, Counted.decode) for one in self.given])


async def test_nothing_is_decoded_for_a_copy_of_which_nobody_hears():
    client = Packing()
    await client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "demo")
    await client.create(CONFIGMAPS, {"metadata": {"name": "y"}}, "demo")
    maps = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
    informer, packed = Informer(client, maps, LoopClock()), []
    for number in range(2):
        await client.patch(CONFIGMAPS, ObjectKey("demo", "x"), {"data": {"k": str(number)}})
        await informer.list_once()
        packed += client.given
    assert [one.reads for one in packed] == [0, 0, 0, 0]
    assert (len(informer), [_name(d) for d in informer.list()]) == (2, ["x", "y"])
    assert informer.get(ObjectKey("demo", "x"))["data"] == {"k": "1"}
    await client.delete(CONFIGMAPS, ObjectKey("demo", "y"))
    await informer.list_once()
    assert (len(informer), informer.get(ObjectKey("demo", "y"))) == (1, None)


async def test_packed_documents_are_held_packed_and_read_as_documents():
    client = Packing()
    await client.create(CONFIGMAPS, {"metadata": {"name": "x", "labels": {"a": "b"}}}, "demo")
    await client.create(CONFIGMAPS, {"metadata": {"name": "y"}}, "demo")
    maps = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
    informer, told = Informer(client, maps, LoopClock()), []
    informer.add_index("a", lambda d: [(d["metadata"].get("labels") or {}).get("a")])
    await informer.list_once()
    informer.on_change(lambda old, new: told.append((_name(old), _name(new))))
    assert told == [(None, "x"), (None, "y")]
    first = client.given
    reads = [one.reads for one in first]
    await informer.list_once()  # nothing has changed, so nothing is decoded
    assert [one.reads for one in first + client.given] == [*reads, 0, 0]
    assert informer.get(ObjectKey("demo", "x"))["metadata"]["labels"] == {"a": "b"}
    assert [_name(d) for d in informer.by_index("a", "b")] == ["x"]
    await client.patch(CONFIGMAPS, ObjectKey("demo", "x"), {"data": {"k": "v"}})
    await client.delete(CONFIGMAPS, ObjectKey("demo", "y"))
    await informer.list_once()
    assert sorted(told[2:], key=str) == [("x", "x"), ("y", None)]
    assert [d["data"] for d in informer.list()] == [{"k": "v"}]
    await client.delete(CONFIGMAPS, ObjectKey("demo", "x"))
    await client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "demo")
    await informer.list_once()  # another object of the same name
    assert told[4:] == [("x", None), (None, "x")]
    assert len(informer) == 1


async def test_the_status_of_a_document_packed_or_not():
    told = {"metadata": {"name": "x"}, "status": {"phase": "Bound"}}
    maps = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
    for client in (FakeClient(), Packing()):
        await client.create(CONFIGMAPS, told, "demo")
        await client.create(CONFIGMAPS, {"metadata": {"name": "y"}}, "demo")
        informer = Informer(client, maps, LoopClock())
        await informer.list_once()
        found = [informer.status(ObjectKey("demo", name)) for name in "xyz"]
        assert found == [{"phase": "Bound"}, {}, {}]


async def test_one_bad_handler_stops_neither_the_copy_nor_its_neighbours(caplog):
    client = FakeClient()
    async with running(client) as (informer, seen):
        informer.on_change(lambda old, new: 1 / 0)
        good = []
        informer.on_change(lambda old, new: good.append(_name(new)))
        await client.create(PODS, pod("a"), "demo")
        await asyncio.sleep(1)
        assert (seen, good) == ([(None, "a")], ["a"])
        assert "informer handler failed" in caplog.text


async def test_only_its_namespace_and_kinds_known_at_run_time():
    client = FakeClient()
    maps = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
    await client.create(CONFIGMAPS, {"metadata": {"name": "x"}}, "one")
    await client.create(CONFIGMAPS, {"metadata": {"name": "y"}}, "two")
    async with running(client, maps, namespace="one") as (informer, seen):
        await informer.wait_synced()
        await client.create(CONFIGMAPS, {"metadata": {"name": "z"}, "data": {"k": "v"}}, "one")
        await client.create(CONFIGMAPS, {"metadata": {"name": "w"}}, "two")
        await asyncio.sleep(1)
        assert seen == [(None, "x"), (None, "z")]
        assert informer.get(ObjectKey("one", "z"))["data"] == {"k": "v"}
