"""The status of a template of any kind, summed up from its members; one row a kind in `SUMMED`.

What is there counts only where it was seen: replicas, addresses and running jobs of a member whose heartbeat is missing are left
out, and the newest version is not said to be observed while one is unseen. What has happened stays true: pods of a Job that
succeeded, the last time a CronJob ran. Karmada counts everything that was ever reported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from federation.propagation import aggregate
from federation.propagation.aggregate import MemberStatus
from machinery.meta.resource import Document

Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What a sum needs besides the members' reports."""

    now: str
    copies: int = 1
    """How many clusters are to run all replicas each; 1 where they are divided."""
    stopped: str = ""
    """Why the newest version goes no further."""


Sum = Callable[[Document, Sequence[MemberStatus], Known], Document]


def _seen(members: Iterable[MemberStatus]) -> list[MemberStatus]:
    return [m for m in members if m.seen and m.status is not None]


def _reports(members: Iterable[MemberStatus]) -> list[Status]:
    return [m.status for m in members if m.status is not None]


def _sums(reports: Iterable[Status], names: Iterable[str]) -> dict[str, int]:
    found = dict.fromkeys(names, 0)
    for report in reports:
        for name in found:
            found[name] += int(report.get(name) or 0)
    return found


def _but_zero(counts: Mapping[str, int], kept: Sequence[str] = ()) -> Document:
    """As a merge patch: counts of zero are absent, but for those that their kind always states."""
    return {name: count or (0 if name in kept else None) for name, count in counts.items()}


def _observed(template: Document, members: Sequence[MemberStatus]) -> Document:
    """The template's generation once every member has its newest version and its controller there has looked at it."""
    generation = template["metadata"].get("generation", 0)
    if members and all(aggregate.observed(member, generation) for member in members):
        return {"observedGeneration": generation}
    return {}


# ----------------------------------------------------------------------------------------------------------- workloads
def _deployment(template: Document, members: Sequence[MemberStatus], known: Known) -> Document:
    return aggregate.deployment_status(
        template, members, known.now, copies=known.copies, stopped=known.stopped
    )


_STATEFUL: Final = (
    "replicas", "availableReplicas", "readyReplicas", "currentReplicas", "updatedReplicas",
)  # fmt: skip


def _updated(members: Sequence[MemberStatus], name: str) -> int:
    """A member that a staged update has not come to is up to date with an old template only."""
    return _sums(_reports(_seen([m for m in members if m.updated])), (name,))[name]


def _stateful_set(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    counts = _sums(_reports(_seen(members)), _STATEFUL)
    counts["updatedReplicas"] = _updated(members, "updatedReplicas")
    return _but_zero(counts, _STATEFUL[:2]) | _observed(template, members)


_DAEMON: Final = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable",
)  # fmt: skip


def _daemon_set(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    counts = _sums(_reports(_seen(members)), _DAEMON)
    counts["updatedNumberScheduled"] = _updated(members, "updatedNumberScheduled")
    return _but_zero(counts, _DAEMON[:4]) | _observed(template, members)


REPLICATED: Final = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
"""What the status of a ReplicaSet or a ReplicationController counts."""


def _replicated(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    counts = _sums(_reports(_seen(members)), REPLICATED)
    return _but_zero(counts, REPLICATED[:1]) | _observed(template, members)


# ---------------------------------------------------------------------------------------------------------------- jobs
def _job(template: Document, members: Sequence[MemberStatus], known: Known) -> Document:
    """Complete when it is in every cluster, failed when it is in one; its times are told when it is complete."""
    reports = _reports(members)
    counts = _sums(reports, ("succeeded", "failed"))
    counts |= _sums(_reports(_seen(members)), ("active",))
    status = _but_zero(counts)
    failed = [m.cluster for m in members if m.status is not None and _has(m.status, "Failed")]
    complete = bool(reports) and len(reports) == len(members)
    complete = complete and all(_has(report, "Complete") for report in reports)
    conditions = []
    if failed:
        text = f"Job executed failed in member clusters {','.join(failed)}"
        conditions.append(_condition(template, "Failed", "JobFailed", text, known.now))
    if complete:
        text = "Job completed"
        conditions.append(_condition(template, "Complete", "Completed", text, known.now))
        starts = [r["startTime"] for r in reports if r.get("startTime")]
        ends = [r["completionTime"] for r in reports if r.get("completionTime")]
        status |= {
            "startTime": min(starts, default=None),
            "completionTime": max(ends, default=None),
        }
    return status | {"conditions": conditions or None}


def _has(report: Status, kind: str) -> bool:
    found = report.get("conditions") or ()
    return any(c.get("type") == kind and c.get("status") == "True" for c in found)


def _condition(template: Document, kind: str, reason: str, message: str, now: str) -> Document:
    held: Iterable[Document] = (template.get("status") or {}).get("conditions") or ()
    old = next((c for c in held if c.get("type") == kind), {})
    since = now if old.get("message") != message else old.get("lastTransitionTime", now)
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": since,
        "lastTransitionTime": since,
    }


def _cron_job(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    active = [job for report in _reports(_seen(members)) for job in report.get("active") or ()]
    reports = _reports(members)
    return {"active": active or None} | {
        name: max((r[name] for r in reports if r.get(name)), default=None)
        for name in ("lastScheduleTime", "lastSuccessfulTime")
    }


# ------------------------------------------------------------------------------------------------------------- scaling
def _autoscaler(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    counts = _sums(_reports(_seen(members)), ("currentReplicas", "desiredReplicas"))
    return _but_zero(counts, ("desiredReplicas",))


_BUDGET: Final = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")


def _budget(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    """Pods that are being disrupted are named as the mirrors of members' pods are."""
    seen = _seen(members)
    disrupted = {
        f"{pod}.{member.cluster}": when
        for member in seen
        for pod, when in ((member.status or {}).get("disruptedPods") or {}).items()
    }
    counts = _sums(_reports(seen), _BUDGET)
    return dict(counts) | {"disruptedPods": disrupted or None}


# ------------------------------------------------------------------------------------------------- network and storage
def _balanced(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    """All addresses, each once, in order."""
    points = {
        (point.get("ip", ""), point.get("hostname", "")): point
        for report in _reports(_seen(members))
        for point in (report.get("loadBalancer") or {}).get("ingress") or ()
    }
    return {"loadBalancer": {"ingress": [points[key] for key in sorted(points)] or None}}


def _volume_claim(template: Document, members: Sequence[MemberStatus], _: Known) -> Document:
    """Bound when it is in every cluster."""
    phases = [(m.status or {}).get("phase") if m.seen else None for m in members]
    if "Lost" in phases:
        return {"phase": "Lost"}
    bound = bool(phases) and all(phase == "Bound" for phase in phases)
    return {"phase": "Bound" if bound else "Pending"}


SUMMED: Final[Mapping[tuple[str, str], Sum]] = {
    ("apps/v1", "Deployment"): _deployment,
    ("apps/v1", "StatefulSet"): _stateful_set,
    ("apps/v1", "DaemonSet"): _daemon_set,
    ("v1", "ReplicationController"): _replicated,
    ("batch/v1", "Job"): _job,
    ("batch/v1", "CronJob"): _cron_job,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): _autoscaler,
    ("policy/v1", "PodDisruptionBudget"): _budget,
    ("networking.k8s.io/v1", "Ingress"): _balanced,
    ("v1", "Service"): _balanced,
    ("v1", "PersistentVolumeClaim"): _volume_claim,
}


def summed(template: Document, members: Sequence[MemberStatus], known: Known) -> Document | None:
    """The template's status as a merge patch; None for kinds that have none, or of which nothing is known."""
    rule = SUMMED.get((template["apiVersion"], template["kind"]))
    return None if rule is None else rule(template, members, known)
