"""Quotas over the whole fleet: what workloads of a namespace use, whether a decision may use more, and what each cluster may. Pure.

A FederatedResourceQuota limits the sum over all clusters of what placed replicas ask for. `cpu`, `memory` and other requests
count as pods state them, also as `requests.cpu`; `pods` counts replicas; everything else that a ResourceQuota can limit
(`limits.cpu`, `count/…`, Services) is only known in members and is not measured here.

A replica counts as soon as it is decided, once: what a move keeps for the time being is not counted twice, and what a dead
cluster still holds keeps its place, so that failover needs no room in a quota. A decision that uses no more than the one
before is never refused.

Two decisions may be made before either is seen. So a decision is written into the quota first (`Grant`), by a compare-and-swap on
the version that was read, and only then into the binding: who judges by an old version loses the race and judges again. A grant counts
until its binding shows as much, or can no longer be on its way.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from federation.placement.model import NoFit
from federation.propagation import components, moves
from machinery.api.fleet.operations import FederatedResourceQuota
from machinery.api.fleet.work import ComponentRequirements, ReplicaRequirements, ResourceBinding
from machinery.api.validation.resources import is_extended
from machinery.meta.objectmeta import View
from machinery.meta.quantity import Quantity, quantity_of

Amounts = Mapping[str, Fraction]
"""By resource: CPUs, bytes, counts."""

PODS = "pods"
GRANTS = "ubernetes.io/quota-grants"
"""Annotation of a quota: decisions that may not be seen yet, by binding, as JSON."""
SHARE = "ubernetes.io/quota-share"
"""Annotation of a quota: `Dynamic` shares what is left of it out to the clusters."""
DYNAMIC = "Dynamic"
IN_FLIGHT_S = 60.0
"""A write of a decision that has not arrived by then never will: requests end before, and so does a former leader."""
_COUNTED = frozenset({"cpu", "memory", "ephemeral-storage", PODS})
_ZERO = Fraction(0)


class QuotaExceeded(NoFit):
    """The members have room, and the namespace may not use it (QuotaExceeded)."""

    reason = "QuotaExceeded"


class Grant(View):
    """What one binding may use by a decision, and when it was made."""

    usage: dict[str, str] = {}
    at: dt.datetime | None = None


# ------------------------------------------------------------------------------------------------------------------ usage
def measured(name: str) -> str:
    """The resource that a name of a quota limits; empty: it is not known here."""
    base = name.removeprefix("requests.")
    counted = base in _COUNTED or base.startswith("hugepages-")
    vendors = is_extended(base) and not base.startswith("count/")
    return base if counted or vendors else ""


def asks(binding: ResourceBinding) -> dict[str, Fraction]:
    """What one replica uses, or one set of components."""
    spec = binding.spec
    if components.several(binding):
        return added(
            *(_times(_of_one(c.replica_requirements), c.replicas) for c in spec.components)
        )
    return _of_one(spec.replica_requirements)


def _of_one(required: ReplicaRequirements | ComponentRequirements | None) -> dict[str, Fraction]:
    requests = required.resource_request if required is not None else {}
    return {name: quantity_of(raw).value for name, raw in requests.items()} | {PODS: Fraction(1)}


def _times(asked: Amounts, count: int) -> dict[str, Fraction]:
    return {name: value * count for name, value in asked.items()}


def usage(binding: ResourceBinding, clusters: Mapping[str, int] | None = None) -> Amounts:
    """What the binding uses as it is decided, or would use in these clusters."""
    if clusters is None:
        clusters = components.placed(binding)
    count = replicas(binding, components.sets(binding, clusters))
    return _times(asks(binding), count) if count else {}


def replicas(binding: ResourceBinding, clusters: Mapping[str, int]) -> int:
    """Replicas that count. Divided ones that left a cluster keep their place until they stand elsewhere."""
    placed = sum(clusters.values())
    placement = binding.spec.placement
    scheduling = placement.replica_scheduling if placement is not None else None
    if scheduling is None or scheduling.replica_scheduling_type != "Divided":
        return placed
    left = sum(
        t.replicas or 0
        for t in binding.spec.graceful_eviction_tasks
        if t.reason != moves.REBALANCED
    )
    return max(placed, min(components.wanted(binding), placed + left))


def added(*parts: Amounts) -> dict[str, Fraction]:
    """The sum, by resource."""
    total: dict[str, Fraction] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, _ZERO) + value
    return total


def less(whole: Amounts, part: Amounts) -> dict[str, Fraction]:
    """The difference; what becomes nothing is left out."""
    found = {n: whole.get(n, _ZERO) - part.get(n, _ZERO) for n in whole.keys() | part.keys()}
    return {name: value for name, value in found.items() if value}


def used_document(quota: FederatedResourceQuota, used: Amounts) -> dict[str, str]:
    """`status.overallUsed`: of the limited resources, those that are used."""
    found: dict[str, str] = {}
    for name, limit in sorted(quota.spec.overall.items()):
        if value := used.get(measured(name), _ZERO):
            found[name] = str(Quantity(value, quantity_of(limit).family))
    return found


# ----------------------------------------------------------------------------------------------------------------- grants
def refusal(quota: FederatedResourceQuota, others: Amounts, before: Amounts, after: Amounts) -> str:
    """Why a binding may not use `after`, in Karmada's words; empty: it may. `others`: what all other bindings use."""
    for name, limit in sorted(quota.spec.overall.items()):
        base = measured(name)
        wanted = after.get(base, _ZERO)
        if not base or wanted <= before.get(base, _ZERO):
            continue
        most = quantity_of(limit)
        total = others.get(base, _ZERO) + wanted
        if total > most.value:
            where = f"{quota.metadata.namespace}/{quota.metadata.name}"
            asked = Quantity(total, most.family)
            return (
                f"FederatedResourceQuota({where}) exceeded for resource {name}: "
                f"requested sum {asked}, limit {most}."
            )
    return ""


def grants(quota: FederatedResourceQuota) -> dict[str, Grant]:
    """By binding; an annotation that somebody spoiled counts as none."""
    try:
        text = quota.metadata.annotations.get(GRANTS) or "{}"
        return msgspec.json.decode(text, type=dict[str, Grant])
    except msgspec.MsgspecError:
        return {}


def unseen(
    held: Mapping[str, Grant], seen: Mapping[str, Amounts], now: dt.datetime
) -> dict[str, Grant]:
    """Those that still count. `seen`: what each binding that exists uses; one that is gone uses nothing."""
    found: dict[str, Grant] = {}
    for name, grant in held.items():
        fresh = grant.at is not None and (now - grant.at).total_seconds() < IN_FLIGHT_S
        if fresh and name in seen and _more(grant, seen[name]):
            found[name] = grant
    return found


def _more(grant: Grant, seen: Amounts) -> dict[str, Fraction]:
    """What was granted beyond what is seen."""
    granted = {name: quantity_of(raw).value for name, raw in grant.usage.items()}
    return {n: v - seen.get(n, _ZERO) for n, v in granted.items() if v > seen.get(n, _ZERO)}


def promised(
    held: Mapping[str, Grant], seen: Mapping[str, Amounts], but: str
) -> dict[str, Fraction]:
    """What others than `but` were granted and do not show yet."""
    return added(*(_more(g, seen.get(name, {})) for name, g in held.items() if name != but))


def granted(held: Mapping[str, Grant], name: str, after: Amounts, now: dt.datetime) -> str:
    """The annotation with one grant more."""
    grant = Grant({n: str(Quantity(v)) for n, v in sorted(after.items())}, now)
    return msgspec.json.encode({**held, name: grant}, order="sorted").decode()


# ----------------------------------------------------------------------------------------------------------------- shares
@dataclass(frozen=True, slots=True)
class Placed:
    """What stands in the clusters that may get a share, what moves keep besides included."""

    by_cluster: Mapping[str, Amounts]

    def of(self, cluster: str, resource: str) -> Fraction:
        return self.by_cluster.get(cluster, {}).get(resource, _ZERO)


def static(quota: FederatedResourceQuota) -> dict[str, dict[str, str]]:
    """What each cluster may use by the quota's own list."""
    return {
        one.cluster_name: {n: str(quantity_of(v)) for n, v in one.hard.items()}
        for one in quota.spec.static_assignments
    }


def dynamic(
    quota: FederatedResourceQuota, placed: Placed, held: Mapping[str, Mapping[str, str | int]]
) -> dict[str, dict[str, str]]:
    """What each cluster may use when what is left of the quota is shared out evenly.

    `held` is how it is shared now. A resource is shared anew only when its shares are not enough for what stands in some
    cluster, or are more than the quota in sum: clusters are not written to because one of them has grown within its share.
    """
    clusters = sorted(placed.by_cluster)
    found: dict[str, dict[str, str]] = {name: {} for name in clusters}
    for resource, raw in sorted(quota.spec.overall.items()):
        base, limit = measured(resource), quantity_of(raw)
        if not base or not clusters:
            continue
        present = {n: held[n][resource] for n in clusters if resource in held.get(n, {})}
        old = {n: quantity_of(value).value for n, value in present.items()}
        enough = len(old) == len(clusters) and all(v >= placed.of(n, base) for n, v in old.items())
        if not enough or sum(old.values()) > limit.value or held.keys() != set(clusters):
            old = _shared(clusters, base, limit.value, placed)
        for name in clusters:
            found[name][resource] = str(Quantity(old[name], limit.family))
    return found


def _shared(
    clusters: Iterable[str], resource: str, limit: Fraction, placed: Placed
) -> dict[str, Fraction]:
    """What stands there, and an even part of the rest; odd units go to the first by name. CPU is shared in thousandths."""
    names = list(clusters)
    unit = Fraction(1, 1000) if resource == "cpu" else Fraction(1)
    rest = limit - sum((placed.of(n, resource) for n in names), _ZERO)
    units = max(0, (rest / unit).__floor__())
    part, odd = divmod(units, len(names))
    return {
        name: placed.of(name, resource) + unit * (part + (1 if index < odd else 0))
        for index, name in enumerate(names)
    }
