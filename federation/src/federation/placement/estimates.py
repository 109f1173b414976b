"""Which members are worth asking what would really fit (CapacityEstimate), and the question. Pure.

Sums and shapes know nothing of nodes' labels and taints, and little of how room is cut up. So members are asked where that
matters: when the workload has a nodeClaim (selector, node affinity, tolerations), and when the member's node shapes hold fewer
replicas than are wanted though its sums would do. Of many members the roomiest are asked; the others are taken by what they
reported, as is one that does not answer.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from federation.placement import capacity
from federation.placement.filter import rejection
from federation.placement.model import Candidate, Request
from machinery.meta.resource import Document
from machinery.scheduling.resources import CPU

ASKED_MAX = 32
"""Members that are asked for one decision."""


def to_ask(request: Request, fleet: Sequence[Candidate]) -> list[str]:
    """The members to ask, the roomiest first."""
    if not request.replicas or (request.node_claim is None and not any(c.shapes for c in fleet)):
        return []
    affinity = request.placement.cluster_affinity
    found: list[tuple[int, str]] = []
    for candidate in fleet:
        if candidate.free is None or candidate.cut or rejection(request, affinity, candidate):
            continue
        room = capacity.by_sums(candidate, request.asks)
        if room > 0 and (request.node_claim is not None or _cut_up(request, candidate, room)):
            found.append((-room, candidate.name))
    return [name for _, name in sorted(found)[:ASKED_MAX]]


def _cut_up(request: Request, candidate: Candidate, room: int) -> bool:
    """Whether its shapes hold fewer than are wanted, and its sums more than that."""
    if not candidate.shapes:
        return False
    return capacity.available(candidate, request.asks) < min(room, request.replicas)


def question(request: Request) -> Document:
    """The review's spec. How many are wanted is no part of it, so that the answer serves others too."""
    asks = {
        name: f"{value}m" if name == CPU else str(value)
        for name, value in sorted(request.asks.items())
        if value > 0
    }
    required: Document = {"resourceRequest": asks} if asks else {}
    if namespace := request.key.partition("/")[0]:
        required["namespace"] = namespace
    if request.node_claim is not None:
        claim = request.node_claim
        told: Document = {}
        if claim.node_selector:
            told["nodeSelector"] = dict(sorted(claim.node_selector.items()))
        if claim.tolerations:
            told["tolerations"] = _told(msgspec.to_builtins(claim.tolerations))
        if claim.hard_node_affinity is not None:
            told["hardNodeAffinity"] = _told(msgspec.to_builtins(claim.hard_node_affinity))
        required["nodeClaim"] = told
    return {"replicaRequirements": required}


def _told(value: Any) -> Any:
    """Without what says nothing: null, empty texts and lists of a view's defaults."""
    if isinstance(value, dict):
        return {k: _told(v) for k, v in value.items() if v is not None and v not in ("", [], ())}
    return [_told(v) for v in value] if isinstance(value, list | tuple) else value


def question_hash(asked: Document) -> str:
    """The same for questions that have the same answer; the namespace makes no difference to nodes."""
    required = {k: v for k, v in asked["replicaRequirements"].items() if k != "namespace"}
    return hashlib.sha256(msgspec.json.encode(required, order="sorted")).hexdigest()[:16]
