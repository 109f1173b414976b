"""The status of a template, summed up from its members.

Only what was seen counts: a member whose heartbeat is missing adds nothing to ready or available counts, and keeps the
template from claiming that its newest version was observed everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from machinery.meta.resource import Document

UPDATED = "updatedReplicas"
SUMMED = ("replicas", UPDATED, "readyReplicas", "availableReplicas")


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What one member reports of the template; `seen` is whether its heartbeat stands, `kept` what it runs besides.

    `updated`: whether it has the newest template, and a staged update has accepted it there.
    """

    cluster: str
    wanted: int
    status: Mapping[str, Any] | None
    seen: bool = True
    kept: int = 0
    updated: bool = True


def deployment_status(
    template: Document,
    members: Sequence[MemberStatus],
    now: str,
    *,
    copies: int = 1,
    stopped: str = "",
) -> Document:
    """The Deployment's status, as a merge patch: counts, conditions, observedGeneration.

    `copies` is how many clusters are to run all replicas each (Duplicated); 1 where they are divided.
    `stopped`: why the newest template goes no further.
    """
    old: Mapping[str, Any] = template.get("status") or {}
    wanted = int(template["spec"].get("replicas", 1)) * copies
    generation = template["metadata"].get("generation", 0)
    counts = dict.fromkeys(SUMMED, 0)
    for member in members:
        if member.seen and member.status is not None:
            for name in SUMMED:
                if name != UPDATED or member.updated:
                    counts[name] += int(member.status.get(name) or 0)
    complete_view = _placed(members) == wanted and all(
        observed(member, generation) for member in members
    )
    status: Document = {name: counts[name] or None for name in SUMMED}
    status["unavailableReplicas"] = max(0, wanted - counts["availableReplicas"]) or None
    if complete_view:
        status["observedGeneration"] = generation
    elif "observedGeneration" in old:
        status["observedGeneration"] = old["observedGeneration"]
    conditions = _conditions(template, members, wanted, counts, complete_view, now)
    if stopped:
        # kubectl takes no other reason for a failure.
        failed = ("False", "ProgressDeadlineExceeded", f"The staged update stopped: {stopped}")
        conditions = [*conditions[:-1], _condition(old, "Progressing", failed, now)]
    status["conditions"] = conditions
    return status


def _placed(members: Sequence[MemberStatus]) -> int:
    return sum(member.wanted for member in members)


def observed(member: MemberStatus, generation: int) -> bool:
    """Whether the member has the template's newest version and its controller has looked at it."""
    if not member.seen or member.status is None:
        return False
    return member.status.get("resourceTemplateGeneration") == generation and member.status.get(
        "observedGeneration"
    ) == member.status.get("generation")


def _least_available(template: Document, wanted: int) -> int:
    """How many replicas must be available at least, by the template's own strategy (25 % may be away by default)."""
    strategy = template["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return wanted
    away = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
    if isinstance(away, str):
        away = wanted * int(away.rstrip("%")) // 100
    return max(0, wanted - int(away))


def _conditions(
    template: Document,
    members: Sequence[MemberStatus],
    wanted: int,
    counts: Mapping[str, int],
    complete_view: bool,
    now: str,
) -> list[Document]:
    old: Mapping[str, Any] = template.get("status") or {}
    unseen = sorted(m.cluster for m in members if not m.seen)
    failed = [m for m in members if _reason(m, "Progressing") == "ProgressDeadlineExceeded"]
    if failed:
        names = ", ".join(m.cluster for m in failed)
        progressing = (
            "False",
            "ProgressDeadlineExceeded",
            f"Progress deadline exceeded in {names}.",
        )
    elif complete_view and _all_new(counts, wanted, sum(m.kept for m in members)):
        progressing = ("True", "NewReplicaSetAvailable", "All clusters have the newest version.")
    else:
        waiting = f" Not seen: {', '.join(unseen)}." if unseen else ""
        progressing = ("True", "ReplicaSetUpdated", f"The rollout goes on.{waiting}")
    enough = counts["availableReplicas"] >= _least_available(template, wanted) and all(
        m.seen and _state(m, "Available") == "True" for m in members if m.wanted
    )
    if enough:
        available = (
            "True",
            "MinimumReplicasAvailable",
            "Every cluster has its minimum availability.",
        )
    else:
        available = (
            "False",
            "MinimumReplicasUnavailable",
            f"{counts['availableReplicas']} of {wanted} replicas are available.",
        )
    return [
        _condition(old, "Available", available, now),
        _condition(old, "Progressing", progressing, now),
    ]


def _all_new(counts: Mapping[str, int], wanted: int, kept: int) -> bool:
    """Whether every replica is of the newest version and available; those kept during a move may be there or not."""
    available = counts["availableReplicas"]
    return counts["updatedReplicas"] == available and wanted <= available <= wanted + kept


def _condition(
    old: Mapping[str, Any], kind: str, now_is: tuple[str, str, str], now: str
) -> Document:
    status, reason, message = now_is
    held: Mapping[str, Any] = next(
        (c for c in old.get("conditions") or () if c.get("type") == kind), {}
    )
    same = held.get("status") == status
    changed = not same or held.get("reason") != reason or held.get("message") != message
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": now if changed else held.get("lastUpdateTime", now),
        "lastTransitionTime": held.get("lastTransitionTime", now) if same else now,
    }


def _member_condition(member: MemberStatus, kind: str) -> Mapping[str, Any]:
    conditions = (member.status or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def _state(member: MemberStatus, kind: str) -> str:
    return str(_member_condition(member, kind).get("status", "Unknown"))


def _reason(member: MemberStatus, kind: str) -> str:
    return str(_member_condition(member, kind).get("reason", ""))
