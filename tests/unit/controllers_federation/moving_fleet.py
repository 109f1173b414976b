"""A fleet in virtual time for stories of failover: the real controllers, modelled members that run what they are told."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from federation.propagation import moves
from federation.propagation.templates import DEPLOYMENTS, NAMESPACES
from federation.simulator.kubelet import Copies
from federation.simulator.member import Member, Place, Ref
from federation.simulator.server import FederationServer
from federation.simulator.virtual import MemberClock, VirtualClock, run
from machinery.api.core import EVENTS
from machinery.api.fleet.cluster import (
    CLUSTERS,
    execution_namespace,
)
from machinery.api.fleet.multicluster import CLUSTER_NETWORKS
from machinery.api.fleet.resilience import (
    EPOCH,
    FAILURE_DOMAINS,
    FEDERATION_CONFIGS,
    RESILIENCE_POLICIES,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS, ResourceBinding
from machinery.kit.clock import rfc3339
from machinery.kit.ids import SeededIds
from machinery.meta.errors import AlreadyExists
from machinery.meta.resource import Document, ObjectKey
from machinery.server.local import LocalClient

PLACES = (
    Place("alpha", "region-1", "zone-a", 30),
    Place("beta", "region-1", "zone-b", 30),
    Place("gamma", "region-2", "zone-c", 30),
)
WEB = ObjectKey("demo", "web")
BINDING = ObjectKey("demo", "web-deployment")
EVEN = {"alpha": 2, "beta": 2, "gamma": 2}
TWO = {"beta": 3, "gamma": 3}


class Fleet:
    """A server and three members. `ready` and `running` ask the members, not the API."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.server = FederationServer(self.clock, SeededIds(1))
        self.copies = Copies()
        clock = MemberClock(asyncio.get_running_loop())
        self.members = {p.name: Member(p, clock, p.name, self.server, self.copies) for p in PLACES}
        self.least = 99
        self._watching: asyncio.Task[None] | None = None

    @property
    def client(self) -> LocalClient:
        return self.server.client("test")

    async def start(self) -> None:
        await self.server.start()
        for name, member in self.members.items():
            await self.server.admit(name)
            member.start()
        await asyncio.sleep(3)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await self.client.create(NAMESPACES, namespace)

    async def stop(self) -> None:
        for member in self.members.values():
            await member.close()
        if self.server.up:
            await self.server.stop()
        await self.server.store.close()

    async def deploy(self, replicas: int = 6, name: str = "web", **pod: Any) -> None:
        spec = {"containers": [{"name": "web", "image": "whoami:1"}]} | pod
        labels = {"app": name}
        document = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        await self.client.create(DEPLOYMENTS, document)
        await asyncio.sleep(8)

    async def binding(self) -> ResourceBinding:
        return await self.client.get(RESOURCE_BINDINGS, BINDING)

    async def divided(self) -> dict[str, int]:
        return {t.name: t.replicas for t in (await self.binding()).spec.clusters}

    async def kept(self) -> dict[str, int]:
        return moves.kept(await self.binding())

    async def work(self, cluster: str) -> Document:
        """The Work of the Deployment in a member."""
        works = await self.client.list(WORK_DOCUMENTS, execution_namespace(cluster))
        (found,) = [
            w for w in works.items if w["spec"]["workload"]["manifests"][0]["kind"] == "Deployment"
        ]
        return found

    def pods(self, name: str) -> int:
        """What runs in the member, seen or not."""
        held = self.members[name].objects.get(Ref("Deployment", WEB))
        return len(held.running.pods) if held is not None and held.running is not None else 0

    def ready(self) -> int:
        """Ready pods of members that are alive."""
        total = 0
        for member in self.members.values():
            held = member.objects.get(Ref("Deployment", WEB))
            if member.alive and held is not None and held.running is not None:
                total += sum(p.ready(self.clock.monotonic()) for p in held.running.pods)
        return total

    async def pass_time(self, seconds: float) -> int:
        """The least number of ready pods meanwhile, looked at ten times a second."""
        least = self.ready()
        for _ in range(int(seconds * 10)):
            await asyncio.sleep(0.1)
            least = min(least, self.ready())
        return least

    async def reasons(self, key: ObjectKey) -> set[str]:
        """Events on an object of that name."""
        found = await self.client.list(EVENTS, key.namespace or "default")
        return {e.reason for e in found.items if e.involved_object.name == key.name}

    async def verdict(self, name: str) -> str:
        return (await self.client.get(FAILURE_DOMAINS, ObjectKey("", name))).status.verdict

    async def report(self, name: str, **paths: str) -> None:
        """What the member's link says of the ways to its peers: `beta="Direct"`. Said once; nobody says it again."""
        key, body = ObjectKey("", name), {"metadata": {"name": name}, "spec": {}}
        with contextlib.suppress(AlreadyExists):
            kind = {"apiVersion": CLUSTER_NETWORKS.api_version, "kind": CLUSTER_NETWORKS.kind}
            await self.client.create(CLUSTER_NETWORKS, kind | body)
        said = [{"cluster": n, "path": p, "gateways": 2, "nodes": 1} for n, p in paths.items()]
        status = {"peers": said, "observedAt": rfc3339(self.clock.now())}
        await self.client.patch(CLUSTER_NETWORKS, key, {"status": status}, subresource="status")

    def reporting(self, name: str, **paths: str) -> asyncio.Task[None]:
        """As `report`, again every 30 s until it is cancelled."""

        async def keep() -> None:
            while True:
                with contextlib.suppress(ConnectionError):
                    await self.report(name, **paths)
                await asyncio.sleep(30)

        return asyncio.create_task(keep())

    async def configure(self, **spec: Any) -> None:
        document = {
            "apiVersion": "ubernetes.io/v1alpha1",
            "kind": "FederationConfig",
            "metadata": {"name": "default"},
            "spec": spec,
        }
        await self.client.create(FEDERATION_CONFIGS, document)

    async def policy(self, **spec: Any) -> None:
        await self.client.create(RESILIENCE_POLICIES, policy(**spec), "demo")

    async def taint(self, name: str, *effects: str) -> None:
        taints = [{"key": "ubernetes.io/drain", "effect": effect} for effect in effects]
        await self.client.patch(CLUSTERS, ObjectKey("", name), {"spec": {"taints": taints or None}})


def epoch(work: Document) -> str:
    return str(work["metadata"]["annotations"][EPOCH])


def policy(**spec: Any) -> Document:
    selectors = [{"apiVersion": "apps/v1", "kind": "Deployment"}]
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"resourceSelectors": selectors} | spec,
    }


def play(story: Callable[[Fleet], Awaitable[None]]) -> None:
    async def whole() -> None:
        fleet = Fleet()
        await fleet.start()
        try:
            await story(fleet)
        finally:
            await fleet.stop()

    run(whole())
