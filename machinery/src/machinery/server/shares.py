"""Which share of the server a request takes: its level, its flow, and what it costs. Pure.

    level       whose requests                                              seats
    leases      Leases: heartbeats and elections                               64
    nodes       kubelets                                                      128
    system      administrators, components, service accounts of kube-system   128
    workloads   other service accounts                                         96
    users       everybody else                                                 96
    scans       anybody's that look at more than a segment of objects           4

The server is one process: a seat is not a processor but a turn on its loop. A short request takes one turn or two and then
waits for the store, so there are many seats; a scan takes a turn for every segment, so there are few, and what others wait
for a turn stays some milliseconds. Seats of a level are lent to none; so no level waits for another, and a flood of scans does
not hold back its own user's short requests. Within a level flows (users; a node is one) share as fairqueue.py says.

What has no seat: health checks, what the fast paths answer (quick.py: less work than a queue), and requests that last
(watches, streams, logs), which are counted instead; a watch has one while its initial state is written.

Unlike upstream the group system:masters is not exempt: a flood by an administrator is a flood. There are no FlowSchema
and PriorityLevelConfiguration objects, and answers do not name one: the shares are built in.
"""

from typing import NamedTuple

from machinery.server.request import RequestInfo
from machinery.server.user import ANONYMOUS, MASTERS, SERVICE_ACCOUNT_PREFIX, UserInfo

SYSTEM_ACCOUNTS = f"{SERVICE_ACCOUNT_PREFIX}kube-system:"
_DIGITS_MAX = 9
"""Of a limit that is looked at."""
SCANS = frozenset({"list", "watch", "deletecollection"})
SEATS = {
    "leases": 64, "nodes": 128, "system": 128, "workloads": 96, "users": 96, "scans": 4,
}  # fmt: skip


class Share(NamedTuple):
    """What a request takes."""

    level: str
    flow: str
    cost: int = 1


def begins_with_all(info: RequestInfo) -> bool:
    """Whether a watch first sends what is there."""
    return "sendInitialEvents" in info.query or info.first("resourceVersion") in ("", "0")


def cost_of(info: RequestInfo, objects: int) -> int:
    """Objects that a scan of a kind with so many looks at: a page, where nothing selects."""
    limit = info.first("limit")
    pages = info.verb == "list" and info.first("resourceVersion") != "0"
    selects = "labelSelector" in info.query or "fieldSelector" in info.query
    if not pages or selects or not limit.isdecimal() or len(limit) > _DIGITS_MAX:
        return objects
    return min(int(limit) or objects, objects)


def share_of(user: UserInfo, info: RequestInfo, cost: int, scan_min: int) -> Share:
    """The share of a request that looks at `cost` objects; a scan is what looks at more than `scan_min`."""
    if cost > scan_min:
        return Share("scans", user.name, cost)
    if info.resource == "leases" and info.group == "coordination.k8s.io":
        return Share("leases", user.name)
    name = user.name
    if MASTERS in user.groups:
        return Share("system", name)
    if not name.startswith("system:"):
        return Share("users", name)
    if user.node:
        return Share("nodes", name)
    if name.startswith(SERVICE_ACCOUNT_PREFIX):
        return Share("system" if name.startswith(SYSTEM_ACCOUNTS) else "workloads", name)
    return Share("users" if name == ANONYMOUS.name else "system", name)
