"""The link's reconciler on real API servers: what a Work says comes about, and what came of it stands in its status.

One server plays both sides: Works stand in the member's namespace, objects in `default`.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.link.member import Member
from cluster_agent.link.works import WorkReconciler
from federation.propagation.works import work
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.api.kinds import BUILTIN
from machinery.client.informer import Informer
from machinery.client.interface import PatchType, dynamic
from machinery.controller.action import Result
from machinery.controller.manager import Manager
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
CONFIGMAPS = dynamic("", "v1", "configmaps", "ConfigMap", True)
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)
OBJECT = ObjectKey("default", "settings")


def template(value: str = "1", **annotations: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default", "uid": "u", "annotations": annotations},
        "data": {"a": value},
    }  # fmt: skip


class Link:
    """One Work and the hands that bring it."""

    def __init__(self, server: RunningServer) -> None:
        self.client = server.local
        clock = SystemClock()
        self.works: Informer[Document] = Informer(self.client, WORK_DOCUMENTS, clock)
        copy: Informer[Document] = Informer(
            self.client, CONFIGMAPS, clock, label_selector="karmada.io/managed=true"
        )
        member = Member(self.client, lambda *_: CONFIGMAPS, lambda _: copy, clock)
        member._uncopied.add(CONFIGMAPS)  # noqa: SLF001 - every object is asked for: no informer runs here
        manager = Manager(self.client, clock, SystemIds(), component="test")
        self.reconciler = WorkReconciler(manager, member, self.works)
        self.key = ObjectKey("", "")

    async def given(self, body: Document, **more: Any) -> None:
        """The Work as the dispatcher would have it."""
        made = work(body, "alpha", **more)
        self.key = ObjectKey(made["metadata"]["namespace"], made["metadata"]["name"])
        try:
            await self.client.patch(
                WORK_DOCUMENTS,
                self.key,
                {
                    "spec": made["spec"],
                    "metadata": {"annotations": made["metadata"]["annotations"]},
                },
            )
        except NotFound:
            await self.client.create(WORK_DOCUMENTS, made, self.key.namespace)
        await self.works.list_once()  # fmt: skip

    async def turn(self) -> Result:
        """A pass over what is known now."""
        await self.works.list_once()
        return await self.reconciler.reconcile(self.key)

    async def said(self) -> dict[str, tuple[str, str]]:
        held = await self.client.get(WORK_DOCUMENTS, self.key)
        conditions = (held.get("status") or {}).get("conditions") or []
        return {c["type"]: (c["status"], c["reason"]) for c in conditions}

    async def live(self) -> Document | None:
        try:
            return await self.client.get(CONFIGMAPS, OBJECT)
        except NotFound:
            return None

    async def somebody(self, patch: Document) -> None:
        await self.client.patch(CONFIGMAPS, OBJECT, patch, PatchType.MERGE)


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async with running_server(kinds=(*BUILTIN, *FLEET)) as server:
        await server.local.create(NAMESPACES, {"metadata": {"name": "karmada-es-alpha"}})
        yield Link(server)


GOING = {"Dispatching": ("True", "Dispatching"), "Applied": ("True", "AppliedSuccessful")}
WAITING = {"Dispatching": ("False", "SuspendDispatching")}


async def test_a_suspended_work_waits_reports_and_goes_on(link: Link) -> None:
    await link.given(template(), suspended=True)
    await link.turn()
    assert await link.said() == WAITING
    assert await link.live() is None
    await link.given(template())
    await link.turn()
    assert await link.said() == GOING
    await link.given(template("2"), suspended=True)
    await link.turn()
    assert await link.said() == GOING | WAITING
    await link.somebody({"data": {"a": "hacked"}})
    await link.turn()
    live = await link.live()
    assert live is not None and live["data"] == {"a": "hacked"}, "nothing is repaired meanwhile"
    held = await link.client.get(WORK_DOCUMENTS, link.key)
    assert held["status"]["manifestStatuses"][0]["health"] == "Healthy"
    await link.given(template("2"))
    await link.turn()
    live = await link.live()
    assert live is not None and live["data"] == {"a": "2"}
    assert await link.said() == GOING


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("preserve", [False, True])
async def test_a_work_that_goes(link: Link, preserve: bool, suspended: bool) -> None:
    await link.given(template())
    await link.turn()
    await link.given(template(), preserve=preserve, suspended=suspended)
    await link.turn()
    await link.client.delete(WORK_DOCUMENTS, link.key)
    await link.turn()
    await link.turn()
    live = await link.live()
    with pytest.raises(NotFound):
        await link.client.get(WORK_DOCUMENTS, link.key)
    if not preserve:
        assert live is None
        return
    assert live is not None and live["data"] == {"a": "1"}
    assert not (live["metadata"].get("labels") or {}), "it is the member's own now"
    assert not (live["metadata"].get("annotations") or {})


async def test_drift_is_told_repaired_and_told_again(link: Link) -> None:
    await link.given(template())
    await link.turn()
    await link.somebody({"data": {"a": "hacked"}})
    await link.turn()
    assert (await link.said())["Drifted"] == ("False", "Repaired")
    held = await link.client.get(WORK_DOCUMENTS, link.key)
    told = next(c for c in held["status"]["conditions"] if c["type"] == "Drifted")
    assert 'ConfigMap default/settings: data.a is "hacked", wanted "1"' in told["message"]
    await link.turn()
    assert (await link.said())["Drifted"] == ("False", "Repaired"), "the word stays"
    await link.given(template(**{"ubernetes.io/drift": "Report"}))
    await link.turn()
    await link.somebody({"data": {"a": "mine"}})
    await link.turn()
    assert (await link.said())["Drifted"] == ("True", "Reported")
    await link.somebody({"data": {"a": "1"}})
    await link.turn()
    assert (await link.said())["Drifted"] == ("False", "AsStated")


async def test_repairs_that_pause_are_taken_up_again_by_themselves(link: Link) -> None:
    await link.given(template())
    await link.turn()
    for _ in range(6):
        await link.somebody({"data": {"a": "hacked"}})
        result = await link.turn()
    assert (await link.said())["Drifted"] == ("True", "RepairsPaused")
    assert result.requeue_after is not None and 0 < result.requeue_after <= 60


async def test_somebody_elses_object_is_told_and_left(link: Link) -> None:
    own = {"metadata": {"name": "settings"}, "data": {"b": "2"}}
    await link.client.create(CONFIGMAPS, own, "default")
    await link.given(template())
    await link.turn()
    held = await link.client.get(WORK_DOCUMENTS, link.key)
    told = next(c for c in held["status"]["conditions"] if c["type"] == "Applied")
    assert told["message"] == (
        "Failed to apply all manifests (0/1): resource(kind=ConfigMap, default/settings) already exists in the cluster "
        "alpha and the work.karmada.io/conflict-resolution strategy value is empty, Karmada will not manage this resource"
    )
    live = await link.live()
    assert live is not None and live["data"] == {"b": "2"}
    await link.client.delete(WORK_DOCUMENTS, link.key)
    await link.turn()
    assert await link.live() is not None, "and it does not go with the Work"


async def test_a_status_of_an_older_work_is_not_written(link: Link) -> None:
    await link.given(template())
    await link.turn()
    before = await link.client.get(WORK_DOCUMENTS, link.key)
    await link.somebody({"data": {"a": "hacked"}})
    await link.client.patch(WORK_DOCUMENTS, link.key, {"metadata": {"labels": {"moved": "on"}}})
    with pytest.raises(Conflict):
        await link.reconciler.reconcile(link.key)  # by the Work as it was known before
    held = await link.client.get(WORK_DOCUMENTS, link.key)
    assert held["status"] == before["status"]
    await link.reconciler.bring(link.key, before)  # the inventory reads it again
    assert (await link.said())["Applied"] == ("True", "AppliedSuccessful")
    assert (await link.said())["Drifted"] == ("False", "Repaired"), (
        "and the repair is told all the same"
    )


async def test_a_report_that_the_copy_does_not_show_yet_is_not_written_again(link: Link) -> None:
    await link.given(template())
    await link.turn()
    stale = link.works.get(link.key)
    reported = await link.client.get(WORK_DOCUMENTS, link.key)
    assert stale is not None and "status" not in stale, "the copy is from before the report"
    await link.reconciler.reconcile(link.key)  # because the object that was made has been seen
    held = await link.client.get(WORK_DOCUMENTS, link.key)
    assert held["metadata"]["resourceVersion"] == reported["metadata"]["resourceVersion"]
    await link.somebody({"data": {"a": "hacked"}})
    await link.reconciler.reconcile(link.key)
    assert (await link.said())["Drifted"] == ("False", "Repaired"), "and what is new is written"


async def test_a_report_that_comes_back_is_no_news(link: Link) -> None:
    await link.given(template())
    await link.turn()
    before = link.works.get(link.key)
    after = await link.client.get(WORK_DOCUMENTS, link.key)
    other = after | {"metadata": after["metadata"] | {"resourceVersion": "999999"}}
    assert link.reconciler.news(before, other), "somebody else has written the status"
    assert not link.reconciler.news(before, after)
    changed = after | {"spec": {"workload": {"manifests": []}}}
    assert link.reconciler.news(before, changed)
