"""What a DaemonSet reports of its nodes. Pure."""

from cluster_agent.control.controllers.daemonset.placement import Placement
from cluster_agent.control.controllers.daemonset.plan import Sight
from cluster_agent.control.controllers.pods import available_in, is_ready
from cluster_agent.control.controllers.sets import DAEMONSETS, DaemonSetStatus
from machinery.controller.action import Action, RequeueAfter, SetStatus
from machinery.meta.resource import Document


def counted(
    sight: Sight, placement: Placement, collisions: int | None, *, acted: bool
) -> DaemonSetStatus:
    """Of each node that takes a pod the oldest one counts. Only a pass that acted has observed the generation."""
    desired = current = misplaced = ready = updated = available = 0
    for node in sight.nodes:
        pods = sight.pods.get(node.metadata.name, ())
        if not placement.wants(node):
            misplaced += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        if is_ready(pods[0]):
            ready += 1
            available += sight.available(pods[0])
        updated += sight.is_new(pods[0])
    ds = sight.ds
    return DaemonSetStatus(
        observed_generation=ds.metadata.generation if acted else ds.status.observed_generation,
        current_number_scheduled=current,
        number_misscheduled=misplaced,
        desired_number_scheduled=desired,
        number_ready=ready,
        updated_number_scheduled=updated,
        number_available=available,
        number_unavailable=desired - available,
        collision_count=collisions,
        conditions=ds.status.conditions,
    )


def plan_status(sight: Sight, fresh: DaemonSetStatus) -> list[Action]:
    """The status, written only when it differs, and a look later when a ready pod will turn available."""
    actions: list[Action] = []
    if fresh != sight.ds.status:
        actions.append(SetStatus(DAEMONSETS, sight.ds.key, _to_wire(fresh)))
    minimum = sight.ds.spec.min_ready_seconds
    waits = [available_in(pod, minimum, sight.now) for pods in sight.pods.values() for pod in pods]
    if left := [wait for wait in waits if wait]:
        actions.append(RequeueAfter(min(left)))
    return actions


def _to_wire(status: DaemonSetStatus) -> Document:
    """The status as a merge patch: what upstream leaves out is null."""
    return {
        "observedGeneration": status.observed_generation or None,
        "currentNumberScheduled": status.current_number_scheduled,
        "numberMisscheduled": status.number_misscheduled,
        "desiredNumberScheduled": status.desired_number_scheduled,
        "numberReady": status.number_ready,
        "updatedNumberScheduled": status.updated_number_scheduled or None,
        "numberAvailable": status.number_available or None,
        "numberUnavailable": status.number_unavailable or None,
        "collisionCount": status.collision_count,
    }
