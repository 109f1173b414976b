"""What controllers ask of a pod: does it live, is it ready, since when, and will it soon count as available?"""

import datetime as dt

from machinery.api.core import Pod
from machinery.meta.objectmeta import Condition, condition, controller_of

CONTROLLER_INDEX = "controller-uid"
ORPHANS = "orphans-of/"
"""Under this prefix and the namespace stand, in the same index, the pods that nobody controls."""

ENDED = ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Neither ended nor being deleted."""
    return pod.status.phase not in ENDED and pod.metadata.deletion_timestamp is None


def is_terminating(pod: Pod) -> bool:
    """Being deleted, but not ended yet."""
    return pod.status.phase not in ENDED and pod.metadata.deletion_timestamp is not None


def has_ended(pod: Pod) -> bool:
    """Succeeded or failed."""
    return pod.status.phase in ENDED


def ready_condition(pod: Pod) -> Condition | None:
    return condition(pod.status.conditions, "Ready")


def is_ready(pod: Pod) -> bool:
    """Whether condition Ready stands at True. A plain loop: asked of every pod of a large ReplicaSet in each pass."""
    for c in pod.status.conditions:
        if c.type == "Ready":
            return c.status == "True"
    return False


def ready_since(pod: Pod) -> dt.datetime | None:
    """When it became ready; None when it is not, or nobody wrote the time."""
    found = ready_condition(pod)
    if found is None or found.status != "True":
        return None
    return found.last_transition_time


def available_in(pod: Pod, min_ready_s: int, now: dt.datetime) -> float | None:
    """Seconds until a pod counts as available; 0 when it does; None when it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready_s <= 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, min_ready_s - (now - since).total_seconds())


def controller_index(pod: Pod) -> tuple[str]:
    """The controlling owner's uid, or the orphans of the namespace."""
    owner = controller_of(pod.metadata)
    return (owner.uid if owner is not None else ORPHANS + pod.metadata.namespace,)
