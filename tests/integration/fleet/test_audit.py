"""Who deployed what, over a whole fleet: the user at the federation, the federation at its members, and the user again where a
request of his went through the link."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.fleet.test_staged_update import OLD, Fleet, deployment, fleet, has_room, runs

from federation.cli.audit_events import Damage, Log, Recorded, Wanted, code, read, who
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.core import NAMESPACES, PODS
from machinery.meta.resource import ObjectKey
from machinery.server.audit.files import audit_file

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CHATTER = {"leases", "events", "nodes", "clusters", "works"}
IDLE_S = 3.0


def recorded(folder: Path, wanted: Wanted, *servers: str) -> list[Recorded]:
    logs = [Log(name, audit_file(str(folder / name))) for name in servers]
    damage = Damage()
    found = list(read(logs, wanted, damage))
    assert not damage.lines
    return found


async def pod_deleted(world: Fleet, name: str) -> bool:
    return name not in {p.metadata.name for p in (await world.federation.list(PODS, "demo")).items}


async def mirrored(world: Fleet) -> bool:
    return len((await world.federation.list(PODS, "demo")).items) == 4


@pytest.mark.timeout(240)
async def test_the_logs_of_a_fleet_tell_who_did_what(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        client = world.federation
        await eventually(lambda: has_room(world))
        demo = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await client.create(NAMESPACES, demo)
        web = deployment()
        del web["metadata"]["annotations"]
        await client.create(DEPLOYMENTS, web, "demo")
        await eventually(lambda: runs(world, OLD, alpha=2, beta=2))
        await eventually(lambda: mirrored(world))
        victim = (await client.list(PODS, "demo")).items[0].metadata
        await client.delete(PODS, ObjectKey(victim.namespace, victim.name))
        await eventually(lambda: pod_deleted(world, victim.name))
        await eventually(lambda: runs(world, OLD, alpha=2, beta=2))
        await asyncio.sleep(1.0)
        quiet = len(recorded(tmp_path, Wanted(), "federation", "alpha", "beta"))
        await asyncio.sleep(IDLE_S)
        assert len(recorded(tmp_path, Wanted(), "federation", "alpha", "beta")) == quiet
        await client.delete(DEPLOYMENTS, ObjectKey("demo", "web"))
    of_web = Wanted(
        resource="deployments", namespace="demo", name="web", verbs=frozenset({"create", "delete"})
    )
    at_home = recorded(tmp_path, of_web, "federation")
    assert [(who(r.event), r.event["verb"]) for r in at_home] == [
        ("admin", "create"),
        ("admin", "delete"),
    ]
    for member in ("alpha", "beta"):
        first, *_ = recorded(tmp_path, Wanted(resource="deployments", name="web"), member)
        assert who(first.event) == "system:apiserver (ubernetes-federation)"
        assert code(first.event) in (200, 201)
    through = recorded(tmp_path, Wanted(resource="pods", users=("admin",)), "alpha", "beta")
    assert [(r.event["verb"], code(r.event)) for r in through] == [("delete", 200)]
    assert through[0].event["user"]["username"] == "ubernetes:federation"
    assert through[0].event["impersonatedUser"]["username"] == "admin"
    machines = Wanted(users=("system:node:*", "ubernetes:cluster:*"))
    told = [r for r in recorded(tmp_path, machines, "federation", "alpha", "beta")]
    chatter = [r.event for r in told if r.event["objectRef"]["resource"] in CHATTER]
    assert {e["objectRef"].get("subresource") for e in chatter} <= {None}
    assert not any(e["objectRef"]["resource"] in ("leases", "events") for e in chatter)
