"""Scheduler: gives every waiting pod of `default-scheduler` the node that fits it best, and says why when none does.

Deciding is `machinery.scheduling` on a snapshot that informers keep; this module carries decisions out. A decided pod is
counted on its node at once (assumed) and bound in the background, so that the next decision need not wait for the
server; a bind that fails takes the assumption back. A pod whose claims get their volumes with its node is bound when they
have them. A pod that fits nowhere gets its condition and an Event, and waits
for a change. Kept true: a pod is bound at most once, and no node is given more than it offers.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from cluster_agent.control.controllers.persistentvolume.controller import STORAGE_CLASSES
from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES
from cluster_agent.control.scheduler.queue import SchedulingQueue
from cluster_agent.control.scheduler.volumes import Choice, VolumeDecider, Volumes, claim_keys
from machinery.api.apps import REPLICASETS, ReplicaSet
from machinery.api.core import NAMESPACES, NODES, PODS, Namespace, Node, Pod
from machinery.api.local_volumes import SELECTED_NODE, notes_of
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Delete, Emit, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import condition, controller_of
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.scheduling.decide import Placed, Refused
from machinery.scheduling.preemption import Nominated, preempt
from machinery.scheduling.scores import Context
from machinery.scheduling.selection import Matcher, compile_selector
from machinery.scheduling.snapshot import PodInfo, Snapshot

log = logging.getLogger(__name__)

SCHEDULER_NAME = "default-scheduler"
BINDS_AT_ONCE_MAX = 64
DECISIONS_PER_TICK_MAX = 32
"""After so many decisions the loop gives way to the rest of the process."""
VOLUMES_BOUND_S = 600.0
"""How long a placed pod waits for its volumes before it is looked at anew (upstream's bindTimeoutSeconds)."""
BINDINGS = dynamic("", "v1", "pods", "Pod", True)
"""Pods as the parent of `binding`, whose answer is a Status."""
GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


def binding(pod: Pod, node: str) -> Document:
    """The Binding to POST."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {
            "name": pod.metadata.name,
            "namespace": pod.metadata.namespace,
            "uid": pod.metadata.uid,
        },
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def refusal(
    pod: Pod, reason: str, message: str, now: str, nominated: str | None = None
) -> list[Action]:
    """Condition and Event for a pod that gets no node; none when the pod says so already."""
    held = condition(pod.status.conditions, "PodScheduled")
    said = held is not None and (held.status, held.reason, held.message) == (
        "False",
        reason,
        message,
    )
    actions: list[Action] = []
    status: Document = {}
    if not said:
        status["conditions"] = _with_condition(pod, reason, message, now)
    if nominated is not None and nominated != pod.status.nominated_node_name:
        status["nominatedNodeName"] = nominated or None
    if status:
        actions.append(SetStatus(PODS, pod.key, status))
    if reason == "Unschedulable":
        actions.append(
            Emit(
                PODS,
                pod.key,
                pod.metadata.uid,
                "Warning",
                "FailedScheduling",
                message,
                "Scheduling",
            )
        )
    return actions


def _with_condition(pod: Pod, reason: str, message: str, now: str) -> list[Document]:
    """A merge patch replaces the list whole; a pod that waits has no other writer of conditions."""
    held = condition(pod.status.conditions, "PodScheduled")
    since = held.last_transition_time if held is not None and held.status == "False" else None
    return [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(since) if since is not None else now,
            "observedGeneration": pod.metadata.generation,
        }
    ]


def waits_for_node(pod: Pod) -> bool:
    """Whether the pod is this scheduler's to place."""
    return (
        not pod.spec.node_name
        and pod.spec.scheduler_name == SCHEDULER_NAME
        and not pod.deleting
        and pod.status.phase not in ("Succeeded", "Failed")
    )


class Binder:
    """Informers in, decisions out. `run` is the loop; `run_once` decides what is ready now."""

    def __init__(self, manager: Manager, *, volumes: bool = False) -> None:
        """`volumes`: claims and volumes are served here; otherwise no claim is ever found."""
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue()
        self._client = manager.client
        self._executor = manager.executor
        self._recorder = manager.recorder
        self._clock = manager.clock
        roll = random.Random(manager.ids.uid())  # noqa: S311 - breaks ties, guards nothing
        self._decider = VolumeDecider(self.snapshot, roll.randrange)
        self._volumes = Volumes()
        self._volume_news = asyncio.Event()
        self._wake = asyncio.Event()
        self._tasks = TaskOwner()
        self._slots = asyncio.Semaphore(BINDS_AT_ONCE_MAX)
        self._nominated: dict[ObjectKey, str] = {}
        self._namespaces: dict[str, dict[str, str]] = {}
        self._replicasets = manager.informer(REPLICASETS)
        self._pods = manager.informer(PODS)
        manager.informer(NODES).on_change(self._on_node)
        manager.informer(NAMESPACES).on_change(self._on_namespace)
        self._pods.on_change(self._on_pod)
        if volumes:
            self._decider.volumes = self._volumes
            manager.informer(CLAIMS).on_change(self._on_claim)
            manager.informer(VOLUMES).on_change(self._on_volume)
            manager.informer(STORAGE_CLASSES).on_change(self._on_class)

    # -------------------------------------------------------------------------------------------- events in
    def _on_node(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        stores = node is not None and self._volumes.set_node(node.metadata.name, new)
        if new is not None:
            if not self.snapshot.set_node(new) and not stores:
                return
        elif old is not None:
            self.snapshot.remove_node(old.metadata.name)
        self._changed()

    def _on_claim(self, old: Document | None, new: Document | None) -> None:
        if new is not None:
            self._volumes.claims[document_key(new)] = new
        elif old is not None:
            self._volumes.claims.pop(document_key(old), None)
        self._volumes_changed()

    def _on_volume(self, old: Document | None, new: Document | None) -> None:
        if new is not None:
            self._volumes.volumes[new["metadata"]["name"]] = new
        elif old is not None:
            self._volumes.volumes.pop(old["metadata"]["name"], None)
        self._volumes_changed()

    def _on_class(self, old: Document | None, new: Document | None) -> None:
        if new is not None:
            self._volumes.classes[new["metadata"]["name"]] = new
        elif old is not None:
            self._volumes.classes.pop(old["metadata"]["name"], None)
        self._volumes_changed()

    def _volumes_changed(self) -> None:
        news, self._volume_news = self._volume_news, asyncio.Event()
        news.set()
        self._changed()

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None:
            self._namespaces[new.metadata.name] = new.metadata.labels
        elif old is not None:
            self._namespaces.pop(old.metadata.name, None)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._forget(old)
            return
        if old is not None and old.metadata.uid != new.metadata.uid:
            self._forget(old)
        if waits_for_node(new):
            self._enqueue(old, new)
            return
        self.queue.remove(new.key)
        self._nominated.pop(new.key, None)
        if new.status.phase in ("Succeeded", "Failed"):
            if self.snapshot.has_pod(new.metadata.uid):
                self.snapshot.remove_pod(new.metadata.uid)
                self._changed()
        elif new.spec.node_name and (old is None or self._matters(old, new)):
            self.snapshot.add_pod(PodInfo(new), new.spec.node_name)

    def _enqueue(self, old: Pod | None, new: Pod) -> None:
        if self.snapshot.has_pod(new.metadata.uid):
            return  # assumed: its bind is on the way
        if old is not None and old.spec == new.spec and old.metadata.labels == new.metadata.labels:
            return  # our own status write came back
        if new.status.nominated_node_name:
            self._nominated[new.key] = new.status.nominated_node_name
        self.queue.add(new.key, new.spec.priority, self._clock.monotonic())
        self._wake.set()

    def _matters(self, old: Pod, new: Pod) -> bool:
        return (
            not self.snapshot.has_pod(new.metadata.uid)
            or old.metadata.labels != new.metadata.labels
            or old.deleting != new.deleting
            or old.spec.containers != new.spec.containers
        )

    def _forget(self, pod: Pod) -> None:
        self.queue.remove(pod.key)
        self._nominated.pop(pod.key, None)
        if self.snapshot.has_pod(pod.metadata.uid):
            self.snapshot.remove_pod(pod.metadata.uid)
            self._changed()
        if claim_keys(pod):
            self._volumes_changed()  # whoever waits for its volumes need not wait any longer

    def _changed(self) -> None:
        self.queue.something_changed()
        self._wake.set()

    # --------------------------------------------------------------------------------------------- the loop
    async def run(self) -> None:
        """Decide until cancelled."""
        try:
            while True:
                self._wake.clear()
                if await self.run_once():
                    await asyncio.sleep(0)
                    continue
                await self._rest()
        finally:
            await self._tasks.close()
            self._tasks = TaskOwner()

    async def _rest(self) -> None:
        due = self.queue.next_due(self._clock.monotonic())
        if due == 0.0:
            return
        if due is None:
            await self._wake.wait()
            return
        alarm = self._tasks.spawn(self._ring_after(due), "scheduler-alarm")
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _ring_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    async def run_once(self) -> int:
        """Decide up to DECISIONS_PER_TICK_MAX pods that are ready now; how many were."""
        for count in range(DECISIONS_PER_TICK_MAX):
            key = self.queue.pop(self._clock.monotonic())
            if key is None:
                return count
            await self._schedule(key)
        return DECISIONS_PER_TICK_MAX

    async def _schedule(self, key: ObjectKey) -> None:
        pod = self._pods.get(key)
        if pod is None or not waits_for_node(pod):
            self.queue.remove(key)
            return
        moves = self.queue.moves
        if pod.spec.scheduling_gates:
            self.queue.park(key, self._clock.monotonic(), moves=moves)
            await self._say(refusal(pod, "SchedulingGated", GATED_MESSAGE, self._now()))
            return
        info = PodInfo(pod)
        context = Context(self._namespaces, self._owner_selector(pod))
        answer = self._decide(info, context)
        if isinstance(answer, Placed) and claim_keys(pod):
            self._place_with_volumes(info, answer.node)
            return
        if isinstance(answer, Placed):
            await self._slots.acquire()
            self.snapshot.add_pod(info, answer.node)
            _ = self._tasks.spawn(self._bind(info, answer.node), f"bind-{key}")
            return
        self.queue.park(key, self._clock.monotonic(), moves=moves)
        await self._refuse(info, answer, context)

    def _decide(self, info: PodInfo, context: Context) -> Placed | Refused:
        """Pods of the same or a higher priority that wait for victims keep their room."""
        reserved = [
            (PodInfo(other), node)
            for key, node in self._nominated.items()
            if key != info.pod.key
            and (other := self._pods.get(key)) is not None
            and other.spec.priority >= info.pod.spec.priority
        ]
        for other_info, node in reserved:
            self.snapshot.add_pod(other_info, node)
        try:
            return self._decider.decide(info, context)
        finally:
            for other_info, _ in reserved:
                self.snapshot.remove_pod(other_info.uid)

    def _owner_selector(self, pod: Pod) -> Matcher | None:
        owner = controller_of(pod.metadata)
        if owner is None or owner.kind != "ReplicaSet":
            return None
        found: ReplicaSet | None = self._replicasets.get(
            ObjectKey(pod.metadata.namespace, owner.name)
        )
        return compile_selector(found.spec.selector) if found is not None else None

    # ------------------------------------------------------------------------------------------------------ volumes
    def _place_with_volumes(self, info: PodInfo, node: str) -> None:
        choice = self._volumes.choose(info.pod, node)
        assert choice is not None, "the node was chosen by what the claims get there"
        self.snapshot.add_pod(info, node)
        self._volumes.assume(choice)
        work = self._bind_with_volumes(info, node, choice)
        _ = self._tasks.spawn(work, f"bind-volumes-{info.pod.key}")

    async def _bind_with_volumes(self, info: PodInfo, node: str, choice: Choice) -> None:
        """Have the claims bound, then the pod; what fails takes the assumption back."""
        try:
            _ = await self._executor.apply(choice.actions(node))
            async with asyncio.timeout(VOLUMES_BOUND_S):
                bound = await self._are_bound(info, node, choice)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("volumes not bound", extra={"pod": str(info.pod.key), "error": str(error)})
            bound = False
        finally:
            self._volumes.forget(choice)
        if bound:
            await self._slots.acquire()
            await self._bind(info, node)
        else:
            self._take_back(info)

    async def _are_bound(self, info: PodInfo, node: str, choice: Choice) -> bool:
        """Wait until the claims have their volumes; False: the choice does not hold any more, or the pod is gone."""
        seen: set[str] = set()
        while True:
            news = self._volume_news
            left = list(self._volumes.unbound(choice))
            if not left:
                return True
            if not self.snapshot.has_pod(info.uid) or self._volumes.is_lost(choice):
                return False
            made = {claim["metadata"]["uid"] for claim in choice.made}
            for claim in left:
                if claim is None:
                    return False
                uid = claim["metadata"]["uid"]
                if notes_of(claim).get(SELECTED_NODE) == node:
                    seen.add(uid)
                elif uid in made and uid in seen:
                    return False  # whoever makes volumes has given the node back
            await news.wait()

    def _take_back(self, info: PodInfo) -> None:
        """Not bound: its room is free again, and it is tried anew after a while."""
        if self.snapshot.has_pod(info.uid):
            self.snapshot.remove_pod(info.uid)
            self.queue.retry(info.pod.key, self._clock.monotonic())
            self._wake.set()

    async def _bind(self, info: PodInfo, node: str) -> None:
        pod = info.pod
        try:
            await self._client.create(
                BINDINGS,
                binding(pod, node),
                pod.metadata.namespace,
                name=pod.metadata.name,
                subresource="binding",
            )
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("bind failed", extra={"pod": str(pod.key), "node": node, "error": str(error)})
            self.snapshot.remove_pod(info.uid)
            self.queue.retry(pod.key, self._clock.monotonic())
            self._wake.set()
            return
        finally:
            self._slots.release()
        self.queue.remove(pod.key)
        self._recorder.emit(
            Emit(
                PODS,
                pod.key,
                pod.metadata.uid,
                "Normal",
                "Scheduled",
                f"Successfully assigned {pod.key} to {node}",
                "Binding",
            )
        )

    async def _refuse(self, info: PodInfo, refused: Refused, context: Context) -> None:
        pod = info.pod
        result = preempt(info, refused, self._decider, context)
        if isinstance(result, Nominated):
            self._nominated[pod.key] = result.node
            actions = refusal(pod, "Unschedulable", refused.message, self._now(), result.node)
            await self._say([*actions, *self._evictions(pod, result)])
            return
        nominated = "" if pod.status.nominated_node_name else None
        self._nominated.pop(pod.key, None)
        message = f"{refused.message} {result.message}".strip()
        await self._say(refusal(pod, "Unschedulable", message, self._now(), nominated))

    def _evictions(self, pod: Pod, nominated: Nominated) -> list[Action]:
        actions: list[Action] = []
        for victim in nominated.victims:
            old = victim.pod
            note = f"Preempted by pod {pod.metadata.uid} on node {nominated.node}"
            actions.append(
                Emit(PODS, old.key, old.metadata.uid, "Normal", "Preempted", note, "Preempting")
            )
            actions.append(Delete(PODS, old.key, uid=old.metadata.uid))
        return actions

    async def _say(self, actions: Sequence[Action]) -> None:
        try:
            await self._executor.apply(actions)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("pod status not written", extra={"error": str(error)})

    def _now(self) -> str:
        return rfc3339(self._clock.now())


def setup(manager: Manager, *, volumes: bool = False) -> Binder:
    """Run a Binder under the manager."""
    binder = Binder(manager, volumes=volumes)
    manager.runnable("scheduler", binder.run)
    return binder
