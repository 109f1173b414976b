"""The real Job and CronJob controllers over the real API server in virtual time, with a kubelet that does what a script says.

async with world() as made:
    await made.create(job("j", completions=3), "demo")
    await made.settled("demo", "j")
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import ttlafterfinished
from cluster_agent.control.controllers.batch import CRONJOBS, JOBS
from cluster_agent.control.controllers.cronjob import controller as cronjob
from cluster_agent.control.controllers.job import controller as job_controller
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import (
    Client,
    DeleteOptions,
    EventType,
    ListOptions,
    PatchType,
    dynamic,
)
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.clock import rfc3339
from machinery.kit.ids import SeededIds
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.resource import Document, ObjectKey, Resource

KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
POD = dynamic("", "v1", "pods", "Pod", namespaced=True)
JOB = dynamic("batch", "v1", "jobs", "Job", namespaced=True)
CRONJOB = dynamic("batch", "v1", "cronjobs", "CronJob", namespaced=True)
NAMESPACE = dynamic("", "v1", "namespaces", "Namespace", namespaced=False)
EVENT = dynamic("", "v1", "events", "Event", namespaced=True)
INDEX = "batch.kubernetes.io/job-completion-index"
Script = Callable[[Document, int], int | None]
"""(pod, how many came before it on its index) -> the exit code with which it ends, None: it runs on."""


def job(name: str = "j", *, template: Document | None = None, **spec: Any) -> Document:
    """A Job of one container."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "img"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template or {"spec": pod}, **spec},
    }


def cron_job(name: str = "tick", schedule: str = "* * * * *", **spec: Any) -> Document:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": schedule,
            "jobTemplate": {"spec": job()["spec"]},
            **spec,
        },
    }


class Kubelet:
    """Runs every pod for a moment, ends it as the script says, and removes what is deleted."""

    def __init__(self, client: Client, clock: LoopClock, script: Script) -> None:
        self._client, self._clock, self._script = client, clock, script
        self._seen: dict[str, set[str]] = {}

    def made(self, namespace: str) -> int:
        """How many pods there ever were."""
        return sum(len(v) for k, v in self._seen.items() if k.startswith(f"{namespace}/"))

    async def run(self) -> None:
        listing = await self._client.list(POD)
        for pod in listing.items:
            await self._tend(pod)
        options = ListOptions(resource_version=listing.resource_version)
        async for event in self._client.watch(POD, "", options):
            if event.type in (EventType.ADDED, EventType.MODIFIED):
                await self._tend(event.object)

    async def _tend(self, pod: Document) -> None:
        meta = pod["metadata"]
        key = ObjectKey(meta["namespace"], meta["name"])
        group = f"{key.namespace}/{meta.get('annotations', {}).get(INDEX, '')}"
        known = self._seen.setdefault(group, set())
        before = len(known - {meta["uid"]})
        known.add(meta["uid"])
        with contextlib.suppress(NotFound, Conflict):
            if meta.get("deletionTimestamp"):
                await self._client.delete(POD, key, DeleteOptions(grace_period_seconds=0))
            elif pod["status"]["phase"] == "Pending":
                code = self._script(pod, before)
                status = self._status(code)
                await self._client.patch(
                    POD, key, {"status": status}, PatchType.MERGE, subresource="status"
                )

    def _status(self, code: int | None) -> Document:
        now = rfc3339(self._clock.now())
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        state: Document = {"running": {"startedAt": now}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "finishedAt": now}}
        ready = "True" if code is None else "False"
        return {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
            "containerStatuses": [
                {
                    "name": "c", "image": "img", "imageID": "", "ready": code is None,
                    "restartCount": 0, "state": state,
                }
            ],
        }  # fmt: skip


class Killed(Exception):
    """The process is gone."""


class Mortal:
    """A client whose process dies at its n-th write of certain kinds: nothing after that reaches the server."""

    def __init__(
        self,
        client: Client,
        at: int,
        *,
        after: bool,
        of: Collection[str] = ("jobs", "pods"),
    ) -> None:
        self._client, self._at, self._after, self._of = client, at, after, of
        self._writes = 0
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create(self, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        return await self._write(resource, "create", *given, **named)

    async def patch(self, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        return await self._write(resource, "patch", *given, **named)

    async def delete(self, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        return await self._write(resource, "delete", *given, **named)

    async def _write(self, resource: Resource[Any], verb: str, *given: Any, **named: Any) -> Any:
        if self.dead:
            raise Killed
        if resource.plural in self._of:
            self._writes += 1
            self.dead = self._writes == self._at
        if self.dead and not self._after:
            raise Killed
        answer = await getattr(self._client, verb)(resource, *given, **named)
        if self.dead:
            raise Killed
        return answer


@dataclass
class World:
    """The server as an administrator sees it, and what is needed to run controllers over it."""

    client: Client
    clock: LoopClock

    async def namespace(self, name: str) -> str:
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.client.create(NAMESPACE, document)
        return name

    @contextlib.asynccontextmanager
    async def controllers(self, client: Client | None = None) -> AsyncIterator[Manager]:
        """Controllers, from their first list to their end; Events that wait are lost, as in a death."""
        manager = Manager(client or self.client, self.clock, SeededIds(2), component="test")
        job_controller.setup(manager)
        cronjob.setup(manager)
        ttlafterfinished.setup(manager)
        garbage.setup(manager, KINDS, (PODS, JOBS, CRONJOBS))
        await manager.start()
        try:
            yield manager
        finally:
            await manager.stop(flush=False)

    @contextlib.asynccontextmanager
    async def kubelet(self, script: Script) -> AsyncIterator[Kubelet]:
        kubelet = Kubelet(self.client, self.clock, script)
        task = asyncio.ensure_future(kubelet.run())
        try:
            yield kubelet
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def job(self, namespace: str, name: str = "j") -> Document:
        return await self.client.get(JOB, ObjectKey(namespace, name))

    async def jobs(self, namespace: str) -> list[Document]:
        return list((await self.client.list(JOB, namespace)).items)

    async def pods(self, namespace: str) -> list[Document]:
        return list((await self.client.list(POD, namespace)).items)

    async def told(self, namespace: str) -> list[str]:
        """Reasons of the Events."""
        return [event["reason"] for event in (await self.client.list(EVENT, namespace)).items]

    async def ended(self, namespace: str, name: str = "j", wait_s: float = 900.0) -> Document:
        """The status, once the Job has ended."""
        for _ in range(int(wait_s * 2)):
            status: Document = (await self.job(namespace, name)).get("status") or {}
            if condition(status, "Complete") or condition(status, "Failed"):
                return status
            await asyncio.sleep(0.5)
        raise AssertionError(f"not ended in {wait_s} s: {await self.job(namespace, name)}")


def condition(status: Mapping[str, Any], kind: str) -> Document:
    """One condition that is True, {} without."""
    found: list[Document] = status.get("conditions") or []
    return next((c for c in found if c["type"] == kind and c["status"] == "True"), {})


@contextlib.asynccontextmanager
async def world(clock: LoopClock | None = None) -> AsyncIterator[World]:
    clock = clock or LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1), kinds=KINDS) as server:
        yield World(server.local, clock)
