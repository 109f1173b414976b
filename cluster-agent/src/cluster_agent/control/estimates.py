"""Answers CapacityEstimates: what would really fit here, by the scheduler's own code on the nodes and pods as they are now.

A picture of the cluster is made for the first question and serves for a second: the federation asks for many workloads at a
time. The answer is no promise, and nothing is reserved here: that is the federation's ledger.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from machinery.api.core import (
    NODES,
    PODS,
    Affinity,
    Container,
    NodeAffinity,
    Pod,
    PodSpec,
    ResourceRequirements,
)
from machinery.api.fleet.capacity import CAPACITY_ESTIMATES, CapacityEstimateSpec
from machinery.api.fleet.work import ReplicaRequirements
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.meta.errors import BadRequest, invalid
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import Document
from machinery.scheduling.estimate import estimate
from machinery.scheduling.resources import amounts
from machinery.scheduling.snapshot import PodInfo, Snapshot
from machinery.server.call import Call

PICTURE_S = 1.0
ENDED = ("Succeeded", "Failed")
PATH = CAPACITY_ESTIMATES.group, CAPACITY_ESTIMATES.plural
Review = Callable[[Document, Call], Awaitable[Document]]


@dataclass(frozen=True, slots=True)
class Picture:
    """Nodes with their pods, and the pods that wait for a node; of one moment."""

    snapshot: Snapshot
    waiting: tuple[Pod, ...]
    at: float


def replica(required: ReplicaRequirements) -> Pod:
    """A pod as the requirements describe it."""
    claim = required.node_claim
    hard = claim.hard_node_affinity if claim is not None else None
    resources = ResourceRequirements(requests={**required.resource_request})
    container = Container(name="replica", resources=resources)
    affinity = None
    if hard is not None:
        wanted = NodeAffinity(required_during_scheduling_ignored_during_execution=hard)
        affinity = Affinity(node_affinity=wanted)
    return Pod(
        metadata=ObjectMeta(namespace=required.namespace),
        spec=PodSpec(
            containers=(container,),
            node_selector=claim.node_selector if claim is not None else {},
            tolerations=claim.tolerations if claim is not None else (),
            affinity=affinity,
        ),
    )


def read(body: Document) -> CapacityEstimateSpec:
    """The question. Raises BadRequest, Invalid."""
    try:
        spec = msgspec.convert(body.get("spec") or {}, CapacityEstimateSpec)
    except msgspec.ValidationError as error:
        raise BadRequest(f"CapacityEstimate cannot be read: {error}") from error
    problems: list[tuple[str, str]] = []
    if spec.replicas is not None and spec.replicas < 0:
        problems.append(
            ("spec.replicas", f"Invalid value: {spec.replicas}: must be greater than or equal to 0")
        )
    for name, quantity in spec.replica_requirements.resource_request.items():
        field = f"spec.replicaRequirements.resourceRequest[{name}]"
        try:
            if amounts({name: quantity})[name] < 0:
                problems.append(
                    (field, f'Invalid value: "{quantity}": must be greater than or equal to 0')
                )
        except ValueError as error:
            problems.append((field, f'Invalid value: "{quantity}": {error}'))
    if problems:
        causes = [
            {"reason": "FieldValueInvalid", "message": text, "field": field}
            for field, text in problems
        ]
        raise invalid("CapacityEstimate", CAPACITY_ESTIMATES.group, "", causes)
    return spec


class Estimates:
    """The review's handler; `client` gives one of the server that it answers in."""

    def __init__(self, client: Callable[[], Client], clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._picture: Picture | None = None

    async def answer(self, body: Document, _: Call) -> Document:
        """The body with its status. Raises StatusError."""
        spec = read(body)
        picture = await self._now()
        found = estimate(
            picture.snapshot, replica(spec.replica_requirements), picture.waiting, spec.replicas
        )
        status: Document = {"replicas": found.replicas}
        if found.by_node:
            status["byNode"] = [{"name": n, "replicas": c} for n, c in found.by_node.items()]
        if found.reason:
            status["reason"] = found.reason
        return body | {"metadata": body.get("metadata") or {}, "status": status}

    async def _now(self) -> Picture:
        held, now = self._picture, self._clock.monotonic()
        if held is not None and now - held.at < PICTURE_S:
            return held
        client = self._client()
        nodes, pods = await client.list(NODES), await client.list(PODS)
        snapshot = Snapshot()
        waiting: list[Pod] = []
        for node in nodes.items:
            _ = snapshot.set_node(node)
        for pod in pods.items:
            if pod.status.phase in ENDED:
                continue
            if pod.spec.node_name:
                snapshot.add_pod(PodInfo(pod), pod.spec.node_name)
            elif not pod.deleting:
                waiting.append(pod)
        self._picture = Picture(snapshot, tuple(waiting), now)
        return self._picture
