"""The pods of one node: one worker per pod, woken by the API, the runtime, and the clock.

Two sources say which pods there should be: the checkpoints on disk at the start, and the API once its first list is
in. Until then nothing is ever stopped for being unknown: a node that starts while the API is away goes on with what it
had. Afterwards a pod that the API does not know is ended gracefully, also one that only the runtime remembers.
"""

import asyncio
import logging
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from cluster_agent.node.cri.interface import RuntimeFault, RuntimePod, RuntimeUnavailable
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.podworker import PodWorker
from cluster_agent.node.kubelet.services import Services
from machinery.api.core import Pod, PodSpec, PodStatus
from machinery.meta.objectmeta import ObjectMeta

log = logging.getLogger(__name__)

RUNTIME_RETRY_S = 0.5
ORPHAN_CHECK_S = 30.0

PODS = Gauge("kubelet_pods", "Pods with a worker.")
STARTED = Counter("kubelet_pods_seen", "Pods taken on.")


class Kubelet:
    """All workers of a node."""

    def __init__(self, services: Services, checkpoints: Checkpoints | None = None) -> None:
        self._s, self._checkpoints = services, checkpoints
        self.workers: dict[str, PodWorker] = {}
        self._synced = False
        self._known_in_api: set[str] = set()
        self.on_pods: list[Callable[[], None]] = []
        """Called when a pod came or went, or got another container: which objects are needed may have changed."""

    # -------------------------------------------------------------------------------------------------- sources
    def restore(self) -> None:
        """Take on the pods that were checkpointed."""
        if self._checkpoints is None:
            return
        for pod in self._checkpoints.load():
            self._take_on(pod)

    def apply(self, pod: Pod) -> None:
        """A pod of this node, as the API has it."""
        uid = pod.metadata.uid
        self._known_in_api.add(uid)
        worker = self.workers.get(uid)
        if worker is not None:
            if self._checkpoints is not None and _differs(worker.pod, pod):
                self._checkpoints.save(pod)
            guests = worker.pod.spec.ephemeral_containers
            worker.in_api = True
            worker.update(pod)
            if pod.spec.ephemeral_containers != guests:
                self._tell()
            return
        if self._checkpoints is not None:
            self._checkpoints.save(pod)
        self._take_on(pod)

    def gone(self, pod: Pod) -> None:
        """The API has removed it (or bound it elsewhere, which cannot be)."""
        uid = pod.metadata.uid
        self._known_in_api.discard(uid)
        worker = self.workers.get(uid)
        if worker is None:
            return
        if worker.finished:
            self.drop(uid)
        else:
            worker.orphan()

    @property
    def knows_all(self) -> bool:
        """Whether the API has said which pods there should be."""
        return self._synced

    async def synced(self) -> None:
        """The first list is in: what it lacks shall end."""
        self._synced = True
        for uid, worker in list(self.workers.items()):
            if uid not in self._known_in_api:
                worker.orphan()
        await self.check_orphans()

    def drop(self, uid: str) -> None:
        """The pod has ended and its object is gone."""
        worker = self.workers.get(uid)
        if worker is None or not worker.finished:
            return
        del self.workers[uid]
        PODS.dec()
        self._s.statuses.forget(uid)
        self._s.grants.forget(uid)
        if self._checkpoints is not None:
            self._checkpoints.remove(uid)
        self._tell()

    def _take_on(self, pod: Pod) -> None:
        worker = self.workers[pod.metadata.uid] = PodWorker(self._s, pod, self.drop)
        PODS.inc()
        STARTED.inc()
        if pod.deleting:
            worker.update(pod)
        worker.wake()
        self._tell()

    def _tell(self) -> None:
        for listener in self.on_pods:
            listener()

    # -------------------------------------------------------------------------------------------------- runtime
    def wake(self, uid: str) -> None:
        """The runtime saw something about a pod, or ("") about any of them."""
        if uid:
            if (worker := self.workers.get(uid)) is not None:
                worker.wake()
            return
        for worker in self.workers.values():
            worker.wake()

    async def run(self) -> None:
        """Follow the runtime until cancelled."""
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(self._follow_runtime())
            _ = group.create_task(self._orphans_forever())

    async def _follow_runtime(self) -> None:
        while True:
            try:
                await self._s.runtime.watch(self.wake)
            except RuntimeUnavailable as error:
                log.warning("runtime away", extra={"error": str(error)})
            await self._s.clock.sleep(RUNTIME_RETRY_S)
            self.wake("")

    async def _orphans_forever(self) -> None:
        while True:
            await self._s.clock.sleep(ORPHAN_CHECK_S)
            if self._synced:
                await self.check_orphans()

    async def check_orphans(self) -> None:
        """End what the runtime has and nobody wants; drop workers that have nothing left to do."""
        try:
            found = await self._s.runtime.observe_all()
        except RuntimeFault as error:
            log.warning("orphans not checked", extra={"error": str(error)})
            return
        for uid, pod in found.items():
            if uid not in self.workers:
                log.info("pod without an object", extra={"pod": pod.name, "uid": uid})
                self._take_on(_stand_in(pod))
                self.workers[uid].orphan()
        for uid, worker in list(self.workers.items()):
            if worker.finished and uid not in self._known_in_api:
                self.drop(uid)


def _differs(before: Pod, after: Pod) -> bool:
    """Whether a restart would want to know."""
    return (
        before.spec is not after.spec
        and (before.metadata.resource_version != after.metadata.resource_version)
        and (
            before.metadata.generation != after.metadata.generation
            or before.status != after.status
            or before.metadata.labels != after.metadata.labels
            or before.metadata.annotations != after.metadata.annotations
            or before.deleting != after.deleting
        )
    )


def _stand_in(found: RuntimePod) -> Pod:
    """A pod that only the runtime remembers; enough to end it."""
    grace = 30
    for record in found.containers:
        text = record.annotations.get("io.kubernetes.pod.terminationGracePeriod", "30")
        grace = int(text) if text.isdigit() else 30
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name=found.name, namespace=found.namespace, uid=found.uid),
        spec=PodSpec(termination_grace_period_seconds=grace),
        status=PodStatus(),
    )
