"""Application failover: how long a workload has been unhealthy in a cluster, and whether it shall leave it. Pure.

`spec.failover.application` of the policy (Karmada's) says after how many seconds. What is counted is an account of each cluster:

    health      the account
    Unhealthy   grows, a second each second, up to the tolerated seconds
    Healthy     shrinks likewise, down to nothing
    Unknown     stands: what cannot be seen neither speaks for the workload nor against it

So a workload that breaks leaves exactly after `tolerationSeconds`, one that is unhealthy more often than healthy leaves later, one
that stumbles now and then never does, and reports that come and go do not suppress the failover for ever (Karmada#7431).

A cluster is left only if it may be to blame:

- A version (everything in the template's spec but the number of replicas) that has been healthy in no cluster yet is not moved: its
  fault travels with it. Karmada evicts it from every cluster in turn.
- What is unhealthy in all of several clusters at once is not moved either.
- In a cluster where this version has not been healthy yet it gets a start-up tolerance instead, if that is longer:
  `startupTolerationSeconds` of its ResiliencePolicy, else the template's own `progressDeadlineSeconds`, else 600 s.
- Clusters that it left for its health get it back only after it has been healthy there, or in all clusters that it has now. When
  no other cluster is left, it stays.

The account is an annotation of the binding, written when a health changes and not as time passes. A server that starts counts
the running interval anew, since it did not see it.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from federation.propagation import moves
from machinery.api.fleet.policy import ApplicationFailover
from machinery.api.fleet.resilience import ResilienceSpec
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta.objectmeta import View, condition
from machinery.meta.resource import Document

ACCOUNT = "ubernetes.io/application-health"
"""Annotation of a binding: an Account as JSON."""
CONDITION = "ApplicationHealthy"
HEALTHY, UNHEALTHY, UNKNOWN = "Healthy", "Unhealthy", "Unknown"
STARTUP_S = 600
SETTLE_S = 15.0
"""A cluster that is heard again has told the present health of everything by then."""


class Entry(View):
    """The account in one cluster: `debt_s` as it was `at` (a wire time), when it got this health."""

    health: str = UNKNOWN
    at: str = ""
    debt_s: float = 0.0
    proven: bool = False
    """Whether this version has been Healthy in this cluster since it came there."""


class Account(View):
    """`left`: clusters that it left for its health, and has not been healthy since."""

    version: str = ""
    proven: bool = False
    """Whether this version has been Healthy in any cluster."""
    clusters: dict[str, Entry] = {}
    left: tuple[str, ...] = ()


NONE = Account()


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that are tolerated: of a version that was healthy there, and of one that has yet to start there."""

    toleration_s: float
    startup_s: float

    def of(self, entry: Entry) -> float:
        return self.toleration_s if entry.proven else max(self.toleration_s, self.startup_s)


def policy_of(binding: ResourceBinding) -> ApplicationFailover | None:
    """The policy's words on it; None: the workload does not move for its health."""
    return binding.spec.failover.application if binding.spec.failover is not None else None


def account_of(annotations: Mapping[str, str]) -> Account:
    """What is written; one that somebody spoiled says nothing, and is begun anew."""
    text = annotations.get(ACCOUNT)
    if not text:
        return NONE
    try:
        return msgspec.json.decode(text, type=Account)
    except msgspec.MsgspecError:
        return NONE


def written(account: Account) -> str:
    """The annotation."""
    return msgspec.json.encode(account).decode()


def version_of(template: Document) -> str:
    """A hash of what runs; the number of replicas is no part of it."""
    spec = {k: v for k, v in (template.get("spec") or {}).items() if k != "replicas"}
    return hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()[:16]


def avoided(binding: ResourceBinding) -> frozenset[str]:
    """Clusters that get nothing of the workload, as it failed there and has not been healthy since."""
    if ACCOUNT not in binding.metadata.annotations:
        return frozenset()
    return frozenset(account_of(binding.metadata.annotations).left)


# --------------------------------------------------------------------------------------------------------- keeping account
def observed(
    binding: ResourceBinding, template: Document, tolerated: Limits, now: dt.datetime
) -> Account:
    """The account with what is reported now."""
    held, version = account_of(binding.metadata.annotations), version_of(template)
    if held.version != version:
        held = Account(version)
    told = reported(binding, int(template["metadata"].get("generation", 0)))
    clusters = {
        name: _entry(held.clusters.get(name), health, tolerated, now)
        for name, health in told.items()
    }
    leaving = {
        t.from_cluster
        for t in binding.spec.graceful_eviction_tasks
        if t.reason == moves.APPLICATION
    }
    well = bool(told) and all(health == HEALTHY for health in told.values())
    healthy = {i.cluster_name for i in binding.status.aggregated_status if i.health == HEALTHY}
    left = leaving if well else (leaving | set(held.left)) - healthy
    proven = held.proven or HEALTHY in told.values()
    return Account(version, proven, clusters, tuple(sorted(left)))


def reported(binding: ResourceBinding, generation: int) -> dict[str, str]:
    """Health by cluster of the placement; a report on an older template tells nothing."""
    items = {i.cluster_name: i for i in binding.status.aggregated_status}
    found: dict[str, str] = {}
    for target in binding.spec.clusters:
        item = items.get(target.name)
        carried = (item.status or {}).get("resourceTemplateGeneration") if item else None
        current = item is not None and carried in (None, generation)
        found[target.name] = item.health if item is not None and current else UNKNOWN
    return found


def _entry(held: Entry | None, health: str, tolerated: Limits, now: dt.datetime) -> Entry:
    if held is None:
        return Entry(health, rfc3339(now), 0.0, health == HEALTHY)
    if held.health == health:
        return held
    begins = health == HEALTHY and not held.proven  # what its start took is paid
    debt = 0.0 if begins else round(debt_s(held, now, tolerated.of(held)), 1)
    return Entry(health, rfc3339(now), debt, held.proven or health == HEALTHY)


def debt_s(entry: Entry, now: dt.datetime, limit: float, since: dt.datetime | None = None) -> float:
    """The account now, in seconds. `since`: when this server began to watch; what was before, nobody saw."""
    rate = {UNHEALTHY: 1.0, HEALTHY: -1.0}.get(entry.health, 0.0)
    try:
        at = parse_time(entry.at)
    except ValueError:
        at = now
    start = at if since is None else max(at, since)
    passed = max(0.0, (now - start).total_seconds())
    return min(max(0.0, entry.debt_s + rate * passed), max(limit, entry.debt_s))


# ---------------------------------------------------------------------------------------------------------------- deciding
def limits(policy: ApplicationFailover, own: ResilienceSpec, template: Document) -> Limits:
    """What the policies and the template say."""
    startup = own.startup_toleration_seconds
    if startup is None:
        startup = (template.get("spec") or {}).get("progressDeadlineSeconds")
    return Limits(
        float(policy.decision_conditions.toleration_seconds),
        float(STARTUP_S if startup is None else startup),
    )


def blameless(account: Account) -> str:
    """Why no cluster is to blame, in a condition's reason; empty: one may be."""
    if not account.proven:
        return "NeverHealthy"
    bad = [e for e in account.clusters.values() if e.health == UNHEALTHY]
    if len(bad) > 1 and len(bad) == len(account.clusters):
        return "UnhealthyEverywhere"
    return ""


def wait_s(
    account: Account, cluster: str, tolerated: Limits, now: dt.datetime, since: dt.datetime
) -> float | None:
    """Seconds until the workload leaves the cluster for its health; None: it stays as things are."""
    entry = account.clusters.get(cluster)
    if entry is None or entry.health != UNHEALTHY or blameless(account):
        return None
    limit = tolerated.of(entry)
    return max(0.0, limit - debt_s(entry, now, limit, since))


def why(entry: Entry, tolerated: Limits) -> str:
    """Why the workload leaves a cluster."""
    start = "" if entry.proven else ", and has not been healthy there yet"
    return f"the workload is unhealthy there for more than {tolerated.of(entry):g} s{start}"


# ----------------------------------------------------------------------------------------------------------------- telling
def told(binding: ResourceBinding, account: Account, tolerated: Limits, now: str) -> Document:
    """The condition of a workload that may move for its health."""
    status, reason, message = _words(account, tolerated)
    held = condition(binding.status.conditions, CONDITION)
    changed = now
    if held is not None and held.status == status and held.last_transition_time is not None:
        changed = rfc3339(held.last_transition_time)
    return {
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": changed,
    }


def _words(account: Account, tolerated: Limits) -> tuple[str, str, str]:
    bad = {n: e for n, e in sorted(account.clusters.items()) if e.health == UNHEALTHY}
    if not bad:
        unseen = sorted(n for n, e in account.clusters.items() if e.health != HEALTHY)
        if unseen or not account.clusters:
            where = ", ".join(unseen) or "any cluster"
            return "Unknown", "NotSeen", f"The health in {where} is not known."
        return "True", "Healthy", "The workload is healthy in all its clusters."
    names = ", ".join(bad)
    match blameless(account):
        case "NeverHealthy":
            return "False", "NeverHealthy", (
                f"Unhealthy in {names}. This version has been healthy in no cluster yet, so it is not moved: "
                "the fault is not the cluster's."
            )  # fmt: skip
        case "UnhealthyEverywhere":
            return "False", "UnhealthyEverywhere", (
                f"Unhealthy in {names}, which are all its clusters, so it is not moved: the fault is not a cluster's."
            )  # fmt: skip
        case _:
            waits = "; ".join(
                f"{n} since {e.at}, tolerated for {tolerated.of(e):g} s" for n, e in bad.items()
            )
            return "False", "Unhealthy", f"Unhealthy in {waits}."
