"""The taints that a node's conditions call for. Pure.

NoSchedule follows the conditions at once. NoExecute, which empties the node, is only given when the zone's pace
allows it; once given it follows from not-ready to unreachable and back, and is taken away when the node is ready.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster_agent.control.controllers.nodelifecycle.health import ready_status
from machinery.api.core import NODES, Node, Taint
from machinery.controller.action import Patch
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"

_BY_CONDITION = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
}
_BY_READY = {"False": NOT_READY, "Unknown": UNREACHABLE}
_OURS = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_BY_CONDITION.values()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write, if anything, and whether an eviction had to wait."""

    patch: Patch | None
    waits: bool


def plan(
    node: Node, *, all_disrupted: bool, may_evict: Callable[[], bool], now: dt.datetime
) -> Outcome:
    """The node's taints as they should be. `may_evict` takes a permission and is asked only when one is needed."""
    wanted = _no_schedule(node)
    evicting, waits = _no_execute(node, all_disrupted, may_evict)
    wanted |= {(evicting, NO_EXECUTE)} if evicting else set()
    kept: list[Taint] = []
    for taint in node.spec.taints:
        if not _is_ours(taint) or (taint.key, taint.effect) in wanted:
            kept.append(taint)
    have = {(t.key, t.effect) for t in kept}
    added = [
        Taint(key=key, effect=effect, time_added=now)
        for key, effect in sorted(wanted - have, reverse=True)
    ]
    if not added and len(kept) == len(node.spec.taints):
        return Outcome(None, waits)
    return Outcome(_patch(node, [*kept, *added]), waits)


def _no_schedule(node: Node) -> set[tuple[str, str]]:
    keys = {key for kind, key in _BY_CONDITION.items() if is_true(node.status.conditions, kind)}
    if key := _BY_READY.get(ready_status(node)):
        keys.add(key)
    if node.spec.unschedulable:
        keys.add(UNSCHEDULABLE)
    return {(key, NO_SCHEDULE) for key in keys}


def _no_execute(node: Node, all_disrupted: bool, may_evict: Callable[[], bool]) -> tuple[str, bool]:
    """The key of the evicting taint, if any, and whether one is wanted that may not be given yet."""
    key = _BY_READY.get(ready_status(node), "")
    if not key or all_disrupted:
        return "", False
    given = any(
        t.effect == NO_EXECUTE and t.key in (NOT_READY, UNREACHABLE) for t in node.spec.taints
    )
    if given or may_evict():
        return key, False
    return "", True


def _is_ours(taint: Taint) -> bool:
    if taint.effect == NO_EXECUTE:
        return taint.key in (NOT_READY, UNREACHABLE)
    return taint.effect == NO_SCHEDULE and taint.key in _OURS


def _patch(node: Node, taints: Sequence[Taint]) -> Patch:
    body = {"spec": {"taints": [to_wire(t) for t in taints] or None}}
    meta = node.metadata
    return Patch(NODES, node.key, body, resource_version=meta.resource_version, uid=meta.uid)


def to_wire(taint: Taint) -> Document:
    """A taint in wire shape."""
    document: Document = {"key": taint.key, "effect": taint.effect}
    if taint.value:
        document["value"] = taint.value
    if taint.time_added is not None:
        document["timeAdded"] = rfc3339(taint.time_added)
    return document
