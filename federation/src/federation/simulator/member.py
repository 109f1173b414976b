"""A modelled member: an agent on its end of the link, and the objects that it keeps through crashes.

The agent does what `cluster-agent link` does, through the same informers and queues: heartbeat with grants, report,
inventory, Works. Below it stand objects instead of an API server, and modelled Deployments instead of controllers; pods of
mode `consistency` are `federation.simulator.kubelet`'s. Which pods find a node is the real scheduler's decision. `crash` ends the agent and everything it had in memory; the objects
stay and pods run on, and with `power` lost all pods start anew.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from federation.simulator import workload
from federation.simulator.kinds import GADGET, GADGETS, SIZED, definition
from federation.simulator.kubelet import Copies, Node, is_fenced
from federation.simulator.link import Link, LinkedClient, Servers
from federation.simulator.nodes import NODES, Nodes
from federation.simulator.peers import DataPath, PeerReporter
from federation.simulator.virtual import MemberClock
from federation.simulator.workload import Running
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import (
    CLUSTER_LEASES,
    CLUSTERS,
    INVENTORY,
    INVENTORY_WANTED,
    execution_namespace,
)
from machinery.api.fleet.reflect import UNKNOWN, health, reflected
from machinery.api.fleet.resilience import EPOCH, FENCED, WITHHELD
from machinery.api.fleet.work import EXECUTION_FINALIZER, WORK_DOCUMENTS, WORKS
from machinery.client.interface import Client, ListOptions
from machinery.controller.action import Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339, rfc3339_micro
from machinery.kit.ids import SeededIds
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import AlreadyExists, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, document_key

HEARTBEAT_S = REPORT_S = 2.0
PEERS_S = RETRY_S = 1.0
PREPARE_S = 1.0
APPLY_S = (0.01, 0.3)
REMOVE_S = (0.2, 2.0)
OWN_NAMESPACES = ("default", "kube-system")
DEFINITION = "CustomResourceDefinition"
KINDS = {
    "v1": {"Namespace": "namespaces", "ConfigMap": "configmaps", "Secret": "secrets"},
    "apps/v1": {"Deployment": "deployments"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole": "clusterroles"},
    "apiextensions.k8s.io/v1": {DEFINITION: "customresourcedefinitions"},
}
CUSTOM = {GADGETS.api_version: {GADGET: GADGETS.plural}}
"""What a member serves besides when it has the definition."""


class Ref(NamedTuple):
    """An object in a member."""

    kind: str
    key: ObjectKey

    @property
    def named(self) -> tuple[str, str]:
        """Kind and name."""
        return self.kind, self.key.name


GADGETS_DEFINED = Ref(DEFINITION, ObjectKey("", definition()["metadata"]["name"]))
"""The only definition of a history."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is there, which Work made it, and when it will be gone."""

    manifest: Document
    work: ObjectKey
    running: Running | None = None
    gone_at: float | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """An object was deleted here; `told_at` is when the agent had heard that it should be."""

    ref: Ref
    at: float
    told_at: float | None
    cut_since: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """What is told of the member at its start."""

    name: str
    region: str
    zone: str
    pods: int


class Member:
    """One member. `servers` are what its link leads to; `copies` sees every run of mode consistency."""

    def __init__(
        self, place: Place, clock: MemberClock, seed: str, servers: Servers, copies: Copies
    ) -> None:
        self.place = place
        self.name = place.name
        self.clock = self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - the seed decides
        self._ids = SeededIds(self._random.getrandbits(64))
        self.link = Link(self.name, self._random.random)
        self.client: Client = LinkedClient(self.link, servers)
        loop = asyncio.get_running_loop()
        roll = self._random.random
        self.nodes = Nodes(place.pods, roll)
        self._pods_made = 0
        self._asking = False
        self.node = Node(
            self.name,
            clock,
            loop.time,
            copies,
            roll,
            self._pods_changed,
            self.nodes.bind,
            self._left,
        )
        self.objects: dict[Ref, Held] = {}
        self.removals: list[Removal] = []
        self.told: dict[ObjectKey, float] = {}
        self.path: Callable[[], DataPath] | None = None
        """The network between members; where there is none, nobody probes."""
        self.manager: Manager | None = None
        self._word = self._answered = ""
        self._tasks: TaskOwner | None = None

    # ------------------------------------------------------------------------------------------------- life
    @property
    def alive(self) -> bool:
        return self._tasks is not None

    def start(self) -> None:
        """The agent starts; it introduces itself when the link lets it."""
        assert self._tasks is None, "the agent runs already"
        self._tasks = TaskOwner()
        self.manager = manager = Manager(
            self.client, self._clock, self._ids, component=f"agent-{self.name}"
        )
        namespace = execution_namespace(self.name)
        works = manager.informer(WORK_DOCUMENTS, namespace)
        works.on_change(self._hear)
        controller = manager.controller(f"works-{self.name}", WorkReconciler(self, manager))
        controller.watches(WORK_DOCUMENTS, namespace=namespace)
        _ = self._tasks.spawn(manager.start(), f"{self.name}-works")
        _ = self._tasks.spawn(self._keep(self._beat, HEARTBEAT_S), f"{self.name}-heartbeat")
        _ = self._tasks.spawn(self._keep(Reporter(self).run_once, REPORT_S), f"{self.name}-report")
        if self.path is not None:
            peers = PeerReporter(self.name, self.client, self._clock, self.path)
            _ = self._tasks.spawn(self._keep(peers.run_once, PEERS_S), f"{self.name}-peers")

    async def crash(self, *, power: bool) -> None:
        """The agent is gone; with `power`, every pod too."""
        tasks, self._tasks = self._tasks, None
        manager, self.manager = self.manager, None
        if tasks is not None:
            await tasks.close()
        if manager is not None:
            await manager.stop(flush=False)
        self.told.clear()
        self._word = self._answered = ""
        if power:
            self.node.power_lost()
            for ref, held in self.objects.items():
                if held.running is not None:
                    self._run(ref, held, workload.power_lost(held.running))

    async def close(self) -> None:
        """The history is over."""
        if self.alive:
            await self.crash(power=False)
        await self.link.close()

    async def _keep(self, once: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            with contextlib.suppress(StatusError, ConnectionError):
                await once()  # one that fails is not repeated: the next one comes soon enough
            await self._clock.sleep(pause)

    async def _beat(self) -> None:
        """Grants are prepared before a heartbeat and written after it was accepted (`cluster_agent.link.grants`)."""
        prepared = await self._prepare()
        now = rfc3339_micro(self._clock.now())
        spec = {"renewTime": now}
        key = ObjectKey(CLUSTER_LEASES, self.name)
        try:
            stands = await self.client.patch(LEASES, key, {"spec": spec})
        except NotFound:
            lease = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self.name, "namespace": CLUSTER_LEASES},
                "spec": spec | {"holderIdentity": self.name, "leaseDurationSeconds": 10},
            }
            stands = await self.client.create(LEASES, lease, CLUSTER_LEASES)
        wanted = stands.metadata.annotations.get(INVENTORY_WANTED, "")
        self._asked(wanted)
        if prepared is not None and wanted in ("", self._answered):
            self.node.grant(*prepared)

    async def _prepare(self) -> tuple[str, dict[str, str]] | None:
        """The node's word, and the epochs that may run; None: no pod needs it, or nobody says so in time."""
        if not self.node.needs_grants:
            return None
        word = self.node.word()
        options = ListOptions(label_selector=f"{FENCED}=true")
        with contextlib.suppress(StatusError, ConnectionError, TimeoutError):
            async with asyncio.timeout(PREPARE_S):
                listing = await self.client.list(
                    WORK_DOCUMENTS, execution_namespace(self.name), options
                )
                return word, _allowed(listing.items)
        return None

    def _asked(self, word: str) -> None:
        """A heartbeat brought a word that wants an inventory."""
        if word and word != self._word and self._tasks is not None:
            self._word = word
            _ = self._tasks.spawn(self._inventory(word), f"{self.name}-inventory")

    async def _inventory(self, word: str) -> None:
        """Every Work's status anew, then the word."""
        manager = self.manager
        assert manager is not None
        reconciler = WorkReconciler(self, manager)
        try:
            listing = await self.client.list(WORK_DOCUMENTS, execution_namespace(self.name))
            for work in listing.items:
                if not work["metadata"].get("deletionTimestamp"):
                    await reconciler.report(work)
            key = ObjectKey("", self.name)
            answer = {"metadata": {"annotations": {INVENTORY: word}}}
            await self.client.patch(CLUSTERS, key, answer)
            self._answered = word
        except (StatusError, ConnectionError):
            self._word = ""  # the next heartbeat asks again

    def _hear(self, old: Document | None, new: Document | None) -> None:
        if new is not None and new["metadata"].get("deletionTimestamp"):
            self.told.setdefault(document_key(new), self._clock.monotonic())
        elif new is None and old is not None:
            self.told.pop(document_key(old), None)

    # ------------------------------------------------------------------------------------------------- objects
    def between(self, limits: tuple[float, float]) -> float:
        """A duration, by the seed."""
        return self._random.uniform(*limits)

    def has_namespace(self, name: str) -> bool:
        """Whether objects may be made in it."""
        if name in OWN_NAMESPACES:
            return True
        held = self.objects.get(Ref("Namespace", ObjectKey("", name)))
        return held is not None and held.gone_at is None

    @property
    def defined(self) -> bool:
        """Whether the custom kind is served here."""
        held = self.objects.get(GADGETS_DEFINED)
        return held is not None and held.gone_at is None

    def apply(self, work: ObjectKey, manifest: Document) -> str:
        """Server-side apply in few words; why not, or the empty string."""
        ref = Ref(manifest["kind"], document_key(manifest))
        if ref.key.namespace and not self.has_namespace(ref.key.namespace):
            return f'namespaces "{ref.key.namespace}" not found'
        if ref.kind == GADGET and not self.defined:
            return f'no matches for kind "{GADGET}" in version "{GADGETS.api_version}"'
        held = self.objects.get(ref)
        if held is not None and held.gone_at is not None:
            return f"{ref.kind} {ref.key} is being deleted"
        before = held.running if held is not None else None
        if ref.kind not in SIZED:
            self.objects[ref] = Held(manifest, work)
            return ""
        now = self._clock.monotonic()
        running = workload.applied(before, manifest, now)
        if is_fenced(manifest):
            running = replace(running, observed=running.generation, pods=())
            self._run(ref, Held(manifest, work, before), running)
            self.node.apply(ref.key, work, running)
            return ""
        self._run(ref, Held(manifest, work, before), workload.step(running, now, self._uid))
        for other in self._bind():
            if other != work:
                self._pods_changed(other)
        return ""

    # ------------------------------------------------------------------------------------------------- pods
    def resize(self, pods: int) -> None:
        """The member's nodes offer so many pods from now on."""
        self.nodes.resize(pods)
        self._ask_again()

    def _uid(self) -> str:
        self._pods_made += 1
        return f"pod-{self._pods_made}"

    def _run(self, ref: Ref, held: Held, running: Running) -> None:
        """The Deployment's pods are these now; those that are no more leave their nodes."""
        before = held.running.pods if held.running is not None else ()
        for uid in {pod.uid for pod in before} - {pod.uid for pod in running.pods}:
            self._left(uid)
        self.objects[ref] = replace(held, running=running)

    def _left(self, uid: str) -> None:
        """A pod is gone."""
        if self.nodes.release(uid):
            self._ask_again()

    def _ask_again(self) -> None:
        """Pods that wait are asked again, once what goes on now is done."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._room)

    def _room(self) -> None:
        self._asking = False
        for work in self._bind():
            self._pods_changed(work)
        self.node.sync()

    def _bind(self) -> list[ObjectKey]:
        """Give nodes to pods without one, the oldest first; the Works whose pods got some."""
        waiting = [
            (int(pod.uid.rpartition("-")[2]), ref)
            for ref, held in self.objects.items()
            if held.running is not None
            for pod in held.running.pods
            if not pod.bound
        ]
        works: dict[ObjectKey, None] = {}
        for number, ref in sorted(waiting):
            if not self.nodes.bind(f"pod-{number}"):
                break  # all are alike
            held = self.objects[ref]
            assert held.running is not None, f"{ref} has no pods"
            now = self._clock.monotonic()
            pods = tuple(
                workload.bound(pod, now, self._random.random, self._clock.wall)
                if pod.uid == f"pod-{number}"
                else pod
                for pod in held.running.pods
            )
            self.objects[ref] = replace(held, running=replace(held.running, pods=pods))
            works[held.work] = None
        return list(works)

    def _pods_changed(self, work: ObjectKey) -> None:
        """Pods of that Work changed by themselves: its status is due."""
        for controller in self.manager.controllers if self.manager is not None else ():
            controller.enqueue(work)

    def remove(self, work: ObjectKey, manifest: Document) -> float | None:
        """Delete what this Work made; seconds until it is gone, None when it is."""
        ref = Ref(manifest["kind"], document_key(manifest))
        held = self.objects.get(ref)
        if held is None or held.work != work:
            return None
        now = self._clock.monotonic()
        if held.gone_at is None:
            wait = self.between(REMOVE_S)
            self.objects[ref] = held = replace(held, gone_at=now + wait)
            self.node.remove(ref.key)
        assert held.gone_at is not None
        if now < held.gone_at:
            return held.gone_at - now
        self._drop(ref, self.told.get(work))
        for inner in [r for r in self.objects if _inside(r, ref)]:
            self._drop(inner, self.told.get(work))
        return None

    def _drop(self, ref: Ref, told_at: float | None) -> None:
        held = self.objects.pop(ref)
        for pod in held.running.pods if held.running is not None else ():
            self._left(pod.uid)
        if ref.kind == "Deployment":
            self.node.gone(ref.key)
        now = self._clock.monotonic()
        self.removals.append(Removal(ref, now, told_at, self.link.cut_since))

    def live(self, ref: Ref) -> Document | None:
        """The object as the member's API shows it."""
        held = self.objects.get(ref)
        if held is None:
            return None
        if held.running is None:
            return held.manifest
        now = self._clock.monotonic()
        return workload.live(held.running, now, self.counts(ref))

    def counts(self, ref: Ref) -> workload.Counts:
        """Pods of a Deployment that is there."""
        held = self.objects[ref]
        assert held.running is not None, f"{ref} has no pods"
        if is_fenced(held.manifest):
            return self.node.counts(ref.key)
        return workload.counts_of(held.running, self._clock.monotonic())

    def next_change(self, ref: Ref) -> float | None:
        """When to look at the object again."""
        held = self.objects.get(ref)
        if held is None or held.running is None:
            return None
        return workload.next_change(held.running, self._clock.monotonic(), self.counts(ref))

    def now(self) -> float:
        """Seconds of the history, by this member's clock."""
        return self._clock.monotonic()

    @property
    def pods(self) -> int:
        """Pods that have a node or wait for one."""
        running = [held.running for held in self.objects.values() if held.running is not None]
        return sum(len(r.pods) for r in running) + self.node.pods


def _inside(ref: Ref, gone: Ref) -> bool:
    """Whether an object goes when another one does."""
    if gone.kind == "Namespace":
        return ref.key.namespace == gone.key.name
    return gone.kind == DEFINITION and ref.kind == GADGET


def _allowed(works: Iterable[Document]) -> dict[str, str]:
    """Epochs of the Works that may run (`cluster_agent.link.grants.allowed`)."""
    found: dict[str, str] = {}
    for work in works:
        annotations = work["metadata"].get("annotations") or {}
        if annotations.get(WITHHELD) != "true" and not work["metadata"].get("deletionTimestamp"):
            found[work["metadata"]["name"]] = annotations.get(EPOCH, "")
    return found


class Reporter:
    """The Cluster object: made, then kept up to date when something changed."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._introduced = False
        self._written: Document = {}

    async def run_once(self) -> None:
        """Raises StatusError, ConnectionError."""
        if not self._introduced:
            await self._introduce()
            self._introduced = True
        fresh = self._status()
        if fresh == self._written:
            return
        key = ObjectKey("", self._member.name)
        await self._member.client.patch(CLUSTERS, key, {"status": fresh}, subresource="status")
        self._written = fresh

    async def _introduce(self) -> None:
        place = self._member.place
        document = {
            "apiVersion": CLUSTERS.api_version,
            "kind": CLUSTERS.kind,
            "metadata": {"name": place.name},
            "spec": {
                "syncMode": "Pull",
                "provider": "simulated",
                "region": place.region,
                "zones": [place.zone],
            },
        }
        try:
            await self._member.client.create(CLUSTERS, document)
        except AlreadyExists:
            return

    def _status(self) -> Document:
        member = self._member
        return {
            "kubernetesVersion": "v1.36.2+ubernetes",
            "apiEnablements": [
                {
                    "groupVersion": version,
                    "resources": [{"kind": k, "name": plural} for k, plural in kinds.items()],
                }
                for version, kinds in (KINDS | (CUSTOM if member.defined else {})).items()
            ],
            "nodeSummary": {"totalNum": NODES, "readyNum": NODES},
            "resourceSummary": {
                "allocatable": {"pods": str(member.nodes.offered)},
                "allocated": {"pods": str(member.nodes.bound)},
                "allocating": {"pods": str(member.pods - member.nodes.bound)},
            },
        }


class WorkReconciler:
    """Works of one member."""

    def __init__(self, member: Member, manager: Manager) -> None:
        self._member = member
        self._executor = manager.executor
        self._clock = manager.clock
        self._works = manager.informer(WORK_DOCUMENTS, execution_namespace(member.name))

    async def reconcile(self, key: ObjectKey) -> Result:
        work = self._works.get(key)
        if work is None:
            return Result()
        try:
            if work["metadata"].get("deletionTimestamp"):
                return await self._remove(key, work)
            return await self._apply(key, work)
        except ConnectionError:
            return Result(requeue_after=RETRY_S)

    async def _apply(self, key: ObjectKey, work: Document) -> Result:
        (manifest,) = work["spec"]["workload"]["manifests"]
        ref = Ref(manifest["kind"], document_key(manifest))
        held = self._member.objects.get(ref)
        if held is None or held.manifest != manifest:
            await self._clock.sleep(self._member.between(APPLY_S))
            if self._works.get(key) is not work:
                return Result()  # it changed meanwhile, and is in the queue again
        error = self._member.apply(key, manifest)
        status = self._status(work, ref, manifest, error)
        if status is not None:
            await self._executor.apply([SetStatus(WORKS, key, status)])
        return Result(RETRY_S if error else self._member.next_change(ref))

    async def report(self, work: Document) -> None:
        """The Work's status as it is now. Raises StatusError, ConnectionError."""
        for manifest in work["spec"]["workload"]["manifests"]:
            ref = Ref(manifest["kind"], document_key(manifest))
            error = "" if ref in self._member.objects else "not applied yet"
            status = self._status(work, ref, manifest, error)
            if status is not None:
                await self._executor.apply([SetStatus(WORKS, document_key(work), status)])

    def _status(self, work: Document, ref: Ref, manifest: Document, error: str) -> Document | None:
        live = self._member.live(ref)
        entry: Document = {
            "identifier": {
                "ordinal": 0,
                "version": manifest["apiVersion"].rpartition("/")[2],
                "kind": ref.kind,
                "name": ref.key.name,
            },
            "health": UNKNOWN,
        }
        if live is not None and not error:
            entry["health"] = health(live)
            if (reported := reflected(live)) is not None:
                entry["status"] = reported
        held = work.get("status") or {}
        applied: Document = {
            "type": "Applied",
            "status": "False" if error else "True",
            "reason": "AppliedFailed" if error else "AppliedSuccessful",
            "message": error,
        }
        before = (held.get("conditions") or [{}])[0]
        same = all(before.get(name) == value for name, value in applied.items())
        if same and held.get("manifestStatuses") == [entry]:
            return None
        applied["lastTransitionTime"] = rfc3339(self._clock.now())
        return {"conditions": [applied], "manifestStatuses": [entry]}

    async def _remove(self, key: ObjectKey, work: Document) -> Result:
        left = [f for f in work["metadata"].get("finalizers") or [] if f != EXECUTION_FINALIZER]
        for manifest in work["spec"]["workload"]["manifests"]:
            wait = self._member.remove(key, manifest)
            if wait is not None:
                return Result(requeue_after=wait)
        patch = {"metadata": {"finalizers": left or None}}
        try:
            uid = work["metadata"]["uid"]
            return await self._executor.apply([Patch(WORKS, key, patch, uid=uid)])
        except NotFound:
            return Result()
