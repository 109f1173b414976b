"""What the member says of itself: its Cluster object's spec (place) and status (version, kinds, nodes, room).

Sums are of what nodes offer and pods ask, and of what is free by platform and by node shape (`cluster_agent.link.nodes`).
They are made anew only when a node or a pod changed, and written only when they differ from what was written last. The
Cluster's resource models, which say what shapes there are, are somebody else's; they are read from each answer.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster_agent.link.nodes import free, modelings, platforms, quantities, usable
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.api.fleet.cluster import CLUSTERS, GRANTS_ENFORCED, VERSION_ANNOTATION, ResourceModel
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey
from machinery.scheduling.resources import PODS as POD_COUNT
from machinery.scheduling.resources import node_allocatable, pod_requests

log = logging.getLogger(__name__)

REPORT_S = 2.0
NAME_TAKEN_S = 30.0
"""How soon a cluster whose name is another's asks again."""
ENDED = ("Succeeded", "Failed")


Kinds = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""(groupVersion, ((kind, plural), …)) for every kind served."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the member is, and which program it runs."""

    cluster: str
    provider: str
    region: str
    zones: tuple[str, ...]
    endpoint: str
    agent_version: str
    kubernetes_version: str
    kinds: Kinds
    grants_enforced: bool = True
    """Whether the kubelets there stop what gets no more grants."""


def annotations(place: Place) -> dict[str, str | None]:
    """What the member says of itself in annotations; None takes one away."""
    return {
        VERSION_ANNOTATION: place.agent_version,
        GRANTS_ENFORCED: None if place.grants_enforced else "false",
    }


def cluster_document(place: Place, cluster_id: str) -> Document:
    """The Cluster to create."""
    return {
        "apiVersion": CLUSTERS.api_version,
        "kind": CLUSTERS.kind,
        "metadata": {
            "name": place.cluster,
            "annotations": {k: v for k, v in annotations(place).items() if v is not None},
        },
        "spec": cluster_spec(place, cluster_id),
    }


def cluster_spec(place: Place, cluster_id: str) -> Document:
    """The fields of the spec that belong to the member; taints are the federation's."""
    return {
        "id": cluster_id,
        "syncMode": "Pull",
        "apiEndpoint": place.endpoint,
        "provider": place.provider,
        "region": place.region,
        "zones": list(place.zones),
    }


def status(
    place: Place,
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    models: Sequence[ResourceModel] = (),
) -> Document:
    """The fields of the status that belong to the member."""
    every = list(nodes)
    ready = [n for n in every if is_true(n.status.conditions, "Ready")]
    offered = _sum(node_allocatable(node) for node in every if usable(node))
    placed: list[Pod] = []
    waiting: list[Pod] = []
    for pod in pods:
        if pod.status.phase not in ENDED:
            (placed if pod.spec.node_name else waiting).append(pod)
    room = free(every, placed)
    return {
        "kubernetesVersion": place.kubernetes_version,
        "apiEnablements": [
            {
                "groupVersion": group_version,
                "resources": [{"kind": kind, "name": plural} for kind, plural in kinds],
            }
            for group_version, kinds in place.kinds
        ],
        "nodeSummary": {"totalNum": len(every), "readyNum": len(ready)},
        "resourceSummary": {
            "allocatable": quantities(offered),
            "allocated": quantities(_asked(placed)),
            "allocating": quantities(_asked(waiting)),
            "allocatableModelings": modelings(models, room),
        },
        "nodePlatforms": platforms(every, room),
    }


def _asked(pods: Iterable[Pod]) -> dict[str, int]:
    return _sum(pod_requests(pod) | {POD_COUNT: 1} for pod in pods)


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


async def prove(federation: Client, clock: Clock, cluster: str, cluster_id: str) -> None:
    """Until the federation takes this cluster for the one of its name: before that the agent does nothing here or there.

    Another cluster may have the name: a second machine was joined under it, or this one was made anew. The federation refuses
    and tells people; whoever settles it is waited for.
    """
    key = ObjectKey("", cluster)
    while True:
        try:
            await federation.patch(CLUSTERS, key, {"spec": {"id": cluster_id}})
        except NotFound:
            return  # nobody has the name yet
        except Conflict as error:
            log.error("the name belongs to another cluster", extra={"error": str(error)})
            await clock.sleep(NAME_TAKEN_S)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("name not proven yet", extra={"error": str(error)})
            await clock.sleep(REPORT_S)
        else:
            return


class Reporter:
    """Keeps the Cluster object at the federation in step with the member."""

    def __init__(
        self,
        federation: Client,
        clock: Clock,
        place: Place,
        cluster_id: str,
        nodes: Informer[Node],
        pods: Informer[Pod],
        kinds: Callable[[], Kinds] | None = None,
    ) -> None:
        """`kinds` is asked before each report what is served by now; without it the place's stay until it has `moved`."""
        self._kinds = kinds
        self._federation, self._clock = federation, clock
        self._place, self._cluster_id = place, cluster_id
        self._nodes, self._pods = nodes, pods
        self._dirty = True
        self._written: Document = {}
        self._models: tuple[ResourceModel, ...] = ()
        self._key = ObjectKey("", place.cluster)
        nodes.on_change(self._changed)
        pods.on_change(self._changed)

    def _changed(self, old: object, new: object) -> None:
        self._dirty = True

    def moved(self, place: Place) -> None:
        """The member's version or kinds have changed."""
        self._place, self._dirty = place, True

    async def introduce(self) -> None:
        """Make the Cluster, or bring its place up to date. Raises StatusError, ConnectionError."""
        spec = cluster_spec(self._place, self._cluster_id)
        told = annotations(self._place)
        try:
            stands = await self._federation.patch(
                CLUSTERS, self._key, {"metadata": {"annotations": told}, "spec": spec}
            )
        except NotFound:
            document = cluster_document(self._place, self._cluster_id)
            stands = await self._federation.create(CLUSTERS, document)
        self._written, self._dirty = {}, True
        self._models = stands.spec.resource_models

    async def run_once(self) -> None:
        """Write the status if it changed. Raises StatusError, ConnectionError."""
        if self._kinds is not None and (now := self._kinds()) != self._place.kinds:
            self.moved(replace(self._place, kinds=now))
        if not self._dirty:
            return
        self._dirty = False
        fresh = status(self._place, self._nodes.list(), self._pods.list(), self._models)
        if fresh == self._written:
            return
        try:
            stands = await self._federation.patch(
                CLUSTERS, self._key, {"status": fresh}, subresource="status"
            )
        except NotFound:
            await self.introduce()
            return
        self._written = fresh
        if stands.spec.resource_models != self._models:
            self._models, self._dirty = stands.spec.resource_models, True

    async def run_forever(self) -> None:
        """Introduce the member, then report changes every REPORT_S."""
        introduced = False
        while True:
            try:
                if not introduced:
                    await self.introduce()
                    introduced = True
                await self.run_once()
            except (StatusError, ConnectionError, TimeoutError) as error:
                self._dirty, self._written = True, {}  # it may have come through all the same
                log.info("report not accepted", extra={"error": str(error)})
            await self._clock.sleep(REPORT_S)


RESOURCES = (NODES, PODS)
"""What a Reporter must be given informers of."""
