"""ResourceQuotas and LimitRanges over a running server: exact when many ask at once, whatever way they come."""

import asyncio

import pytest
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.control.controllers import resourcequota
from machinery.api.kinds import BUILTIN
from machinery.client.interface import PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Forbidden, StatusError
from machinery.meta.resource import Document, ObjectKey

QUOTAS = resourcequota.RESOURCE_QUOTAS
CONFIGMAPS = dynamic("", "v1", "configmaps", "ConfigMap", True)
PODS = dynamic("", "v1", "pods", "Pod", True)
RANGES = dynamic("", "v1", "limitranges", "LimitRange", True)
SECRETS = dynamic("", "v1", "secrets", "Secret", True)
KEY = ObjectKey("default", "q")


def config_map(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


async def limited(server: RunningServer, name: str = "q", **hard: str) -> None:
    """A quota that is counted already, with nothing used."""
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name},
        "spec": {"hard": hard},
    }
    await server.rest.create(QUOTAS, body, "default")
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    key = ObjectKey("default", name)
    await server.rest.patch(QUOTAS, key, {"status": status}, PatchType.MERGE, subresource="status")


async def used(server: RunningServer, name: str = "q") -> Document:
    found = await server.rest.get(QUOTAS, ObjectKey("default", name))
    taken: Document = found["status"]["used"]
    return taken


async def test_of_many_at_once_as_many_get_in_as_there_is_room() -> None:
    async with running_server() as server:
        await limited(server, configmaps="7")
        answers = await asyncio.gather(
            *(server.rest.create(CONFIGMAPS, config_map(f"c{n}"), "default") for n in range(30)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, Forbidden)]
        there = (await server.rest.list(CONFIGMAPS, "default")).items
        assert len(refused) == 23
        assert len([one for one in there if one["metadata"]["name"].startswith("c")]) == 7
        assert await used(server) == {"configmaps": "7"}


async def test_what_one_quota_refuses_takes_nothing_of_another() -> None:
    async with running_server() as server:
        await limited(server, "a", configmaps="9")
        await limited(server, "b", **{"count/configmaps": "1"})
        await asyncio.gather(
            *(server.rest.create(CONFIGMAPS, config_map(f"c{n}"), "default") for n in range(5)),
            return_exceptions=True,
        )
        assert await used(server, "a") == {"configmaps": "1"}
        assert await used(server, "b") == {"count/configmaps": "1"}


async def test_a_write_that_fails_gives_back_what_it_took() -> None:
    async with running_server() as server:
        await limited(server, configmaps="5")
        await server.rest.create(CONFIGMAPS, config_map("c"), "default")
        with pytest.raises(StatusError, match="already exists"):
            await server.rest.create(CONFIGMAPS, config_map("c"), "default")
        assert await used(server) == {"configmaps": "1"}


async def test_pods_on_the_quick_way_are_counted_as_well() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}]}}
    async with running_server() as server:
        await limited(server, pods="2")
        answers = await asyncio.gather(
            *(
                server.rest.create(PODS, {**pod, "metadata": {"name": f"p{n}"}}, "default")
                for n in range(6)
            ),
            return_exceptions=True,
        )
        assert len([one for one in answers if isinstance(one, Forbidden)]) == 4
        assert await used(server) == {"pods": "2"}


async def test_other_namespaces_are_free() -> None:
    async with running_server() as server:
        await limited(server, configmaps="0")
        await server.rest.create(CONFIGMAPS, config_map("c"), "kube-public")


async def test_the_controller_counts_what_is_there() -> None:
    async with running_server() as server:
        for name in ("a", "b"):
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            await server.rest.create(SECRETS, secret, "default")
        hard = {"secrets": "5", "count/secrets": "9"}
        body = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": hard},
        }
        await server.rest.create(QUOTAS, body, "default")
        client = server.api.client(manager="test")
        manager = Manager(client, SystemClock(), SystemIds(), component="test")
        resourcequota.setup(manager, [kind for kind in BUILTIN if kind.storable])
        await manager.run_once()
        found = await server.rest.get(QUOTAS, KEY)
        assert found["status"] == {
            "hard": {"count/secrets": "9", "secrets": "5"},
            "used": {"count/secrets": "2", "secrets": "2"},
        }
        await manager.stop()


async def test_limits_are_filled_in_before_they_are_judged() -> None:
    limits = [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    async with running_server() as server:
        body = {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "l"},
            "spec": {"limits": limits},
        }
        await server.rest.create(RANGES, body, "default")
        made = await server.rest.create(PODS, pod, "default")
        assert made["spec"]["containers"][0]["resources"] == {
            "limits": {"cpu": "1"},
            "requests": {"cpu": "1"},
        }
        assert made["status"]["qosClass"] == "Burstable"
