"""Writes: which are durable, which change nothing, what becomes of lost races and of a store that refuses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.client.interface import dynamic
from machinery.meta.errors import Conflict, NotFound, ServiceUnavailable
from machinery.meta.resource import Document, ObjectKey
from machinery.server.call import Call
from machinery.server.unchanged import unchanged
from machinery.server.user import ADMIN
from machinery.store.interface import Durability, Row, StoreUnavailable
from machinery.store.memory import MemoryStore

MAPS = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
LEASES = dynamic("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
EVENTS = dynamic("", "v1", "events", "Event", namespaced=True)
KEY = ObjectKey("default", "a")


class Recorder(MemoryStore):
    """Notes how durable each create was asked to be; refuses when told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, Durability] = {}
        self.refuses = False
        self.gone = ""

    @property
    def reads_are_current(self) -> bool:
        return False

    @property
    def away(self) -> str:
        return self.gone

    async def barrier(self) -> int:
        if self.gone:
            raise StoreUnavailable(self.gone)
        return await super().barrier()

    async def create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> Row:
        if self.refuses:
            raise StoreUnavailable("disk full")
        self.asked[key] = durability
        return await super().create(key, value, durability)


@pytest.fixture
async def store() -> Recorder:
    return Recorder()


@pytest.fixture
async def server(store: Recorder) -> AsyncIterator[RunningServer]:
    async with running_server(store=store) as running:
        yield running


def config_map(**data: str) -> Document:
    return {"metadata": {"name": "a"}, "data": data}


async def test_only_heartbeats_and_events_are_relaxed(
    server: RunningServer, store: Recorder
) -> None:
    for namespace in ("kube-node-lease", "kube-system"):
        await server.local.create(LEASES, {"metadata": {"name": "l"}}, namespace)
    event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
    await server.local.create(EVENTS, event, "default")
    await server.local.create(MAPS, config_map(), "default")
    relaxed = {key for key, asked in store.asked.items() if asked is Durability.RELAXED}
    assert relaxed == {
        "/registry/coordination.k8s.io/leases/kube-node-lease/l", "/registry/core/events/default/e",
    }  # fmt: skip


async def test_a_store_that_refuses_is_503(server: RunningServer, store: Recorder) -> None:
    store.refuses = True
    with pytest.raises(ServiceUnavailable, match="disk full"):
        await server.rest.create(MAPS, config_map(), "default")
    store.refuses = False
    await server.rest.create(MAPS, config_map(), "default")


async def test_while_the_database_is_away_reads_go_on_and_writes_are_refused(
    server: RunningServer, store: Recorder
) -> None:
    made = await server.rest.create(MAPS, config_map(a="1"), "default")
    store.gone = "the database is away: no route"
    for client in (server.rest, server.local):
        assert (await client.get(MAPS, KEY))["data"] == {"a": "1"}
        names = [item["metadata"]["name"] for item in (await client.list(MAPS, "default")).items]
        assert "a" in names
        with pytest.raises(NotFound):
            await client.get(MAPS, ObjectKey("default", "never"))
        refused = pytest.raises(ServiceUnavailable, match="the database is away: no route")
        with refused:
            await client.patch(MAPS, KEY, {"data": {"a": "2"}})
        with refused:
            await client.update(MAPS, made)
        with refused:
            await client.delete(MAPS, KEY)
    store.gone = ""
    assert (await server.rest.get(MAPS, KEY))["data"] == {"a": "1"}


async def test_readers_are_warned_of_what_may_be_old(
    server: RunningServer, store: Recorder
) -> None:
    await server.local.create(MAPS, config_map(), "default")
    told: list[list[str]] = []
    for gone in ("", "the database is away: no route"):
        store.gone = gone
        for path in ("", "/a"):
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"{server.api.url}/api/v1/namespaces/default/configmaps{path}",
                    ssl=server.tls(),
                ) as answer,
            ):
                assert answer.status == 200
                told.append(answer.headers.getall("Warning", []))
    warning = '299 - "the database is away: no route; this is what was known before"'
    assert told == [[], [], [warning], [warning]]


async def test_counting_up_from_everywhere_loses_nothing(server: RunningServer) -> None:
    """Changes without a revision are tried again on the newer object."""
    kind = server.api.scheme.by_plural("", "v1", "configmaps")
    assert kind is not None
    await server.local.create(MAPS, config_map(n="0"), "default")

    def plus_one(live: Document) -> Document:
        return {**live, "data": {"n": str(int(live["data"]["n"]) + 1)}}

    async def count() -> None:
        done = False
        while not done:
            try:
                await server.api.registry.change(kind, "default", "a", plus_one, Call(ADMIN, "x"))
                done = True
            except Conflict:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(count())
    assert (await server.local.get(MAPS, KEY))["data"] == {"n": "40"}


async def test_generated_names_that_collide_are_tried_again() -> None:
    class Twice:
        """The same suffix twice, then another."""

        def __init__(self) -> None:
            self.suffixes = iter(["aaaaa", "aaaaa", "bbbbb"])
            self.count = 0

        def uid(self) -> str:
            self.count += 1
            return f"00000000-0000-4000-8000-{self.count:012}"

        def suffix(self, length: int = 5) -> str:
            return next(self.suffixes)[:length]

    async with running_server(ids=Twice()) as server:
        made = [
            await server.local.create(MAPS, {"metadata": {"generateName": "g-"}}, "default")
            for _ in range(2)
        ]
    assert [m["metadata"]["name"] for m in made] == ["g-aaaaa", "g-bbbbb"]


def managed(time: str, **data: str) -> Document:
    row = {"manager": "m", "operation": "Update", "time": time, "fieldsV1": {}}
    return {"metadata": {"name": "a", "resourceVersion": "1", "managedFields": [row]}, "data": data}


@pytest.mark.parametrize(
    ("live", "new", "same"),
    [
        (managed("t1"), managed("t1"), True),
        (managed("t1"), managed("t2"), True),
        (managed("t1", a="1"), managed("t1", a="2"), False),
        (managed("t1"), {**managed("t1"), "metadata": {**managed("t1")["metadata"], "labels": {}}}, False),
        (managed("t1"), {**managed("t1"), "metadata": {"name": "a", "managedFields": []}}, False),
        ({**managed("t"), "spec": {"a": 1}}, {**managed("t"), "spec": {"a": True}}, False),
        ({**managed("t"), "spec": {"a": 1}}, {**managed("t"), "spec": {"a": 1.0}}, False),
        ({**managed("t"), "spec": {"a": 1, "b": 2}}, {**managed("t"), "spec": {"b": 2, "a": 1}}, True),
    ],
    ids=["equal", "another time", "another value", "more metadata", "another manager", "bool", "float", "order"],
)  # fmt: skip
def test_unchanged(live: Any, new: Any, same: bool) -> None:
    assert unchanged(live, new) is same
