"""A mirror follows its member, and catches up with what the store could not take."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from federation.clusters.mirroring import mirror_key
from federation.clusters.mirrors import ClusterMirror
from machinery.api.core import PODS
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import ServiceUnavailable
from machinery.meta.resource import ObjectKey, document_key

pytestmark = pytest.mark.looptime

AWAY = ServiceUnavailable("the database is away")


class Shown:
    """What the federation shows; refuses while `away`."""

    def __init__(self):
        self.names, self.away, self.asked = {}, False, 0

    async def put(self, resource, document):
        self.asked += 1
        if self.away:
            raise AWAY
        self.names[document_key(document)] = document["metadata"]["labels"]["ubernetes.io/cluster"]

    async def remove(self, resource, key):
        self.asked += 1
        if self.away:
            raise AWAY
        self.names.pop(key, None)


async def pod(client, name):
    await client.create(
        PODS, {"metadata": {"name": name}, "spec": {"nodeName": "node-1"}, "status": {}}, "demo"
    )


def mirror(name):
    return mirror_key(ObjectKey("demo", name), "alpha")


async def test_what_changed_while_the_store_was_away_is_written_afterwards():
    client, shown, owner = FakeClient(), Shown(), TaskOwner()
    alpha = ClusterMirror("alpha", client, shown, LoopClock())
    _ = owner.spawn(alpha.write(), "writer")
    alpha.start(owner)
    await pod(client, "a")
    await pod(client, "b")
    await asyncio.sleep(1)
    assert shown.names == {mirror("a"): "alpha", mirror("b"): "alpha"}
    shown.away = True
    await client.delete(PODS, ObjectKey("demo", "a"))
    await pod(client, "c")
    shown.asked = 0
    await asyncio.sleep(120)
    assert shown.names == {mirror("a"): "alpha", mirror("b"): "alpha"}
    assert shown.asked < 100, "it asks again in peace"
    shown.away = False
    await asyncio.sleep(5)
    assert shown.names == {mirror("b"): "alpha", mirror("c"): "alpha"}
    await pod(client, "d")
    await asyncio.sleep(1)
    assert mirror("d") in shown.names
    await owner.close()
