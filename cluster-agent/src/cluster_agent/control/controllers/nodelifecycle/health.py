"""When is a node silent? By the time at which its heartbeats arrive here, never by the time they carry.

A renewed Lease or a fresh status is a heartbeat. What counts is our own monotonic clock at the moment we saw it
change: a node with a wrong clock is not punished, and after a restart of ours every node is heard from just now.
"""

import datetime as dt
from dataclasses import dataclass

from cluster_agent.control.controllers.conditions import to_wire
from machinery.api.coordination import Lease
from machinery.api.core import Node
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document

READY = "Ready"
WATCHED = (READY, "MemoryPressure", "DiskPressure", "PIDPressure")
"""The conditions that a silent kubelet no longer vouches for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last heard of a node, and when (monotonic)."""

    uid: str
    renewed: dt.datetime | None
    heartbeat: dt.datetime | None
    reported: bool
    """Whether it ever reported Ready; until then it is given more time."""
    at: float


def observe(seen: Seen | None, node: Node, lease: Lease | None, monotonic: float) -> Seen:
    """What is known after looking at the node and its Lease."""
    ready = condition(node.status.conditions, READY)
    renewed = lease.spec.renew_time if lease is not None else None
    heartbeat = ready.last_heartbeat_time if ready is not None else None
    known = seen is not None and seen.uid == node.metadata.uid
    same = known and seen is not None and (seen.renewed, seen.heartbeat) == (renewed, heartbeat)
    # our own verdict carries the kubelet's last heartbeat on, so it is not one
    at = seen.at if same and seen is not None else monotonic
    return Seen(node.metadata.uid, renewed, heartbeat, ready is not None, at)


def is_silent(seen: Seen, monotonic: float, grace_s: float, startup_grace_s: float) -> bool:
    """Whether too long has passed since its last heartbeat."""
    return monotonic - seen.at > (grace_s if seen.reported else startup_grace_s)


def unknown_conditions(node: Node, now: dt.datetime) -> list[Document] | None:
    """The node's conditions with those of a silent kubelet at Unknown; None when they are already."""
    moment = rfc3339(now)
    documents = {c.type: to_wire(c) for c in node.status.conditions}
    changed = False
    for kind in WATCHED:
        found = condition(node.status.conditions, kind)
        if found is not None and found.status == "Unknown":
            continue
        changed = True
        never = found is None
        documents[kind] = documents.get(kind, {"type": kind, "lastHeartbeatTime": moment}) | {
            "status": "Unknown",
            "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
            "message": "Kubelet never posted node status."
            if never
            else "Kubelet stopped posting node status.",
            "lastTransitionTime": moment,
        }
    return list(documents.values()) if changed else None


def ready_status(node: Node) -> str:
    """True, False or Unknown; empty while it has never been told."""
    found = condition(node.status.conditions, READY)
    return found.status if found is not None else ""
