"""Conditions in wire shape, and one of them replaced: a merge patch writes the list whole."""

import datetime as dt
from collections.abc import Sequence

from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition
from machinery.meta.resource import Document


def to_wire(c: Condition) -> Document:
    """One condition with every field that it has."""
    document: Document = {"type": c.type, "status": c.status}
    times = {
        "lastProbeTime": c.last_probe_time,
        "lastHeartbeatTime": c.last_heartbeat_time,
        "lastUpdateTime": c.last_update_time,
        "lastTransitionTime": c.last_transition_time,
    }
    document |= {name: rfc3339(moment) for name, moment in times.items() if moment is not None}
    texts = {"reason": c.reason, "message": c.message}
    document |= {name: text for name, text in texts.items() if text}
    if c.observed_generation:
        document["observedGeneration"] = c.observed_generation
    return document


def replaced(conditions: Sequence[Condition], fresh: Document) -> list[Document]:
    """All conditions in wire shape, `fresh` in the place of its type or at the end."""
    kept = [fresh if c.type == fresh["type"] else to_wire(c) for c in conditions]
    return kept if fresh in kept else [*kept, fresh]


def disruption_target(reason: str, message: str, now: dt.datetime) -> Document:
    """Why a pod is about to be deleted by us."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(now),
    }
