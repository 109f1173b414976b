"""Users' interpreters through all controllers of the federation: here of a kind that has built-in ones as well."""

import asyncio
from typing import Any

from tests.unit.controllers_federation.test_flow import CONFIGMAP, ZONES, Fleet, fleet_story
from tests.unit.controllers_federation.test_kinds_flow import policy, report, stateful_set

from federation.propagation.templates import CONFIGMAPS, STATEFULSETS
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, ObjectKey

EVENTS = dynamic("", "v1", "events", "Event", True)
KEY = ObjectKey("", "stateful")
HALF = "function GetReplicas(o) return o.spec.replicas / 2 end"
TOLD = (
    "function ReviseReplica(o, n) o.spec.replicas = n; o.spec.serviceName = 'n' .. n; return o end"
)
TOTAL = """function AggregateStatus(o, items)
  o.status = {replicas = 0}
  for _, item in ipairs(items) do o.status.replicas = o.status.replicas + item.status.replicas * 100 end
  return o end"""


def customization(**scripts: str) -> Document:
    return {
        "apiVersion": CUSTOMIZATIONS.api_version,
        "kind": CUSTOMIZATIONS.kind,
        "metadata": {"name": KEY.name},
        "spec": {
            "target": {"apiVersion": "apps/v1", "kind": "StatefulSet"},
            "customizations": {field: {"luaScript": text} for field, text in scripts.items()},
        },
    }


async def says(fleet: Fleet, **scripts: str | None) -> None:
    fields = {f: None if text is None else {"luaScript": text} for f, text in scripts.items()}
    await fleet.client.patch(CUSTOMIZATIONS, KEY, {"spec": {"customizations": fields}})
    await asyncio.sleep(1)


async def reasons(fleet: Fleet) -> set[str]:
    await asyncio.sleep(5)
    return {event["reason"] for event in (await fleet.client.list(EVENTS)).items}


async def manifest(fleet: Fleet, cluster: str = "alpha") -> Any:
    (work,) = await fleet.works(cluster, "StatefulSet")
    return work["spec"]["workload"]["manifests"][0]


async def replicas(fleet: Fleet) -> int:
    return (
        await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "db-statefulset"))
    ).spec.replicas


async def let_go(fleet: Fleet, work: Document) -> None:
    """The member's link has taken the objects away."""
    key = ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"])
    await fleet.client.patch(WORK_DOCUMENTS, key, {"metadata": {"finalizers": None}})


def test_scripts_count_and_revise_and_their_change_is_heard_of() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, STATEFULSETS, "alpha")
        await fleet.client.create(STATEFULSETS, stateful_set(4))
        await asyncio.sleep(1)
        assert await replicas(fleet) == 4
        await fleet.client.create(
            CUSTOMIZATIONS, customization(replicaResource=HALF, replicaRevision=TOLD)
        )
        await asyncio.sleep(1)
        assert await replicas(fleet) == 2
        assert (await manifest(fleet))["spec"]["serviceName"] == "n2"
        await fleet.client.delete(CUSTOMIZATIONS, KEY)
        await asyncio.sleep(1)
        assert await replicas(fleet) == 4
        assert (await manifest(fleet))["spec"]["serviceName"] == "db"

    fleet_story(story)


def test_scripts_that_fail_or_never_end_leave_what_was_and_are_told() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, STATEFULSETS, "alpha")
        await fleet.client.create(STATEFULSETS, stateful_set(4))
        await asyncio.sleep(1)
        before = await manifest(fleet)
        endless = "function GetReplicas(o) while true do end end"
        await fleet.client.create(CUSTOMIZATIONS, customization(replicaResource=endless))
        assert "GetReplicasFailed" in await reasons(fleet)
        assert await replicas(fleet) == 4
        broken = "function ReviseReplica(o, n) return o.spec.missing.x end"
        await says(fleet, replicaResource=None, replicaRevision=broken)
        assert "SyncWorkFailed" in await reasons(fleet)
        assert await manifest(fleet) == before
        held = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "db-statefulset"))
        (said,) = [c.message for c in held.status.conditions if c.type == "Overridden"]
        assert "ReviseReplica by ResourceInterpreterCustomization(stateful)" in said
        await says(fleet, replicaRevision=None, statusAggregation="function AggregateStatus() end")
        await report(fleet, "alpha", "StatefulSet", {"replicas": 1})
        assert "AggregateStatusFailed" in await reasons(fleet)
        await fleet.beat(*ZONES)
        await says(fleet, statusAggregation=TOTAL)
        template = await fleet.client.get(STATEFULSETS, ObjectKey("demo", "db"))
        assert template["status"]["replicas"] == 100

    fleet_story(story)


def test_what_a_script_says_is_needed_follows_and_a_mistake_takes_nothing_away() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, STATEFULSETS, "alpha")
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await fleet.client.create(STATEFULSETS, stateful_set(1))
        await asyncio.sleep(1)
        assert len(await fleet.works("alpha", "ConfigMap")) == 1
        await fleet.client.create(
            CUSTOMIZATIONS, customization(dependencyInterpretation="function GetDependencies() end")
        )
        await asyncio.sleep(1)
        (work,) = await fleet.works("alpha", "ConfigMap")
        assert work["metadata"]["deletionTimestamp"]
        await let_go(fleet, work)
        needs = """function GetDependencies(o)
          return {{apiVersion = 'v1', kind = 'ConfigMap', namespace = 'demo', name = 'settings'}} end"""
        await says(fleet, dependencyInterpretation=needs)
        assert len(await fleet.works("alpha", "ConfigMap")) == 1
        await says(fleet, dependencyInterpretation="function GetDependencies() error('oh') end")
        assert "GetDependenciesFailed" in await reasons(fleet)
        assert len(await fleet.works("alpha", "ConfigMap")) == 1

    fleet_story(story)
