"""The blast radius of a write: in how many clusters it takes something away, and whether that was asked for.

Deleting one object here deletes it in every cluster that runs it. A person's write that would take something away in more
clusters than FederationConfig `spec.deletionGuard.maxClusters` (20 where nothing is said, 0: no limit) is refused, with the
clusters and the command that confirms it: an annotation on the object with the number of clusters. When the reach has grown
since, it is asked for again. What counts:

    DELETE of a template, its binding, or a Service     the clusters of its binding, or of its namespace
    DELETE of a Namespace; label that keeps it at home  the clusters of everything in it
    UPDATE of a policy's clusters                       clusters that it selected and selects no more, where its workloads are

What is preserved in members, and policies (which take nothing away when they go), count nothing. Our own controllers, which carry
out what was allowed, are not asked, and neither is a repeated delete.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from federation.placement.filter import matches
from federation.placement.model import Candidate
from federation.propagation import claims, moves
from federation.propagation.templates import FOLLOWERS, STAYS
from federation.propagation.works import binding_name
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.policy import ClusterAffinity, Placement, PropagationSpec
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS
from machinery.api.fleet.work import (
    CLUSTER_RESOURCE_BINDINGS,
    RESOURCE_BINDINGS,
    ResourceBinding,
)
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.admission.interface import AdmissionRequest, refuse
from machinery.server.user import LOOPBACK

CONFIRM: Final = "ubernetes.io/confirm-delete"
"""Annotation: the number of clusters in which the next write may take something away."""
MAX_CLUSTERS: Final = 20
"""Where FederationConfig says nothing."""
NAMED_MAX: Final = 10
"""Clusters that a message names."""
POLICIES: Final = ("PropagationPolicy", "ClusterPropagationPolicy")

T = TypeVar("T")


class Committed(Protocol):
    """The part of the server's committed objects that is looked at."""

    def get(self, resource: Resource[T], key: ObjectKey) -> T | None: ...

    def list(self, resource: Resource[T], namespace: str = "") -> Iterator[T]: ...


# ----------------------------------------------------------------------------------------------------------- reaching
def held(bindings: Iterable[ResourceBinding]) -> set[str]:
    """Clusters that lose something when these bindings go."""
    return {
        cluster
        for binding in bindings
        if not binding.spec.preserve_resources_on_deletion
        for cluster in _asked(binding)
    }


def _asked(binding: ResourceBinding) -> Iterator[str]:
    yield from moves.running(binding)
    for snapshot in binding.spec.required_by:
        yield from (target.name for target in snapshot.clusters)


def selects(placement: Placement, one: Candidate) -> bool:
    """Whether the placement may use the cluster at all, as far as its affinities say."""
    if not placement.cluster_affinities:
        return matches(placement.cluster_affinity, one)
    return any(matches(affinity, one) for affinity in _terms(placement))


def _terms(placement: Placement) -> Iterator[ClusterAffinity]:
    for term in placement.cluster_affinities:
        yield term
        yield from term.overflow_affinities


def dropped(before: Placement, after: Placement, fleet: Iterable[Candidate]) -> set[str]:
    """Clusters that the old placement selects and the new one does not."""
    return {one.name for one in fleet if selects(before, one) and not selects(after, one)}


def _place(cluster: Cluster) -> Candidate:
    """The cluster as far as affinities look at it."""
    spec = cluster.spec
    zones = spec.zones or ((spec.zone,) if spec.zone else ())
    return Candidate(
        cluster.metadata.name, cluster.metadata.labels, spec.provider, spec.region, zones
    )


def confirmed(document: Document, count: int) -> bool:
    """Whether the object carries a confirmation that covers so many clusters."""
    value = ((document.get("metadata") or {}).get("annotations") or {}).get(CONFIRM, "")
    return value.isdecimal() and int(value) >= count


def wording(request: AdmissionRequest, clusters: Sequence[str], limit: int) -> str:
    """What is refused, where it would reach, and the command that confirms it."""
    count = len(clusters)
    named = ", ".join(clusters[:NAMED_MAX])
    more = f" and {count - NAMED_MAX} more" if count > NAMED_MAX else ""
    kind = request.kind
    what = kind.plural + (f".{kind.group}" if kind.group else "")
    where = f" -n {request.namespace}" if request.namespace else ""
    return (
        f"it takes something away in {count} clusters ({named}{more}), more than the {limit} of FederationConfig "
        f"spec.deletionGuard.maxClusters; if this is meant, confirm it and try again: kubectl annotate {what} {request.name}"
        f"{where} --overwrite {CONFIRM}={count}"
    )


# ------------------------------------------------------------------------------------------------------------ judging
class BlastRadius:
    """Admission of every write that may take something away in members. `committed` is None before the server runs."""

    def __init__(self, committed: Callable[[], Committed | None]) -> None:
        self._committed = committed

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.old is None or request.subresource or request.call.user.name == LOOPBACK.name:
            return
        if request.verb not in ("delete", "update"):
            return
        if request.old["metadata"].get("deletionTimestamp"):
            return
        there = self._committed()
        if there is None:
            return
        limit = _limit(there)
        clusters = sorted(self._reach(request, there, limit)) if limit else []
        if len(clusters) > limit and not confirmed(request.document, len(clusters)):
            raise refuse(request, wording(request, clusters, limit))

    def _reach(self, request: AdmissionRequest, there: Committed, limit: int) -> set[str]:
        kind = request.kind.group_kind
        if request.verb == "update":
            if kind == ("", "Namespace") and _comes_home(request):
                return held(there.list(RESOURCE_BINDINGS, request.name))
            if kind[1] in POLICIES and kind[0] == "policy.karmada.io":
                return _narrowed(request, there, limit)
            return set()
        if kind == ("", "Namespace"):
            return held(there.list(RESOURCE_BINDINGS, request.name))
        return held(_bindings(request, there))


def _limit(there: Committed) -> int:
    config = there.get(FEDERATION_CONFIGS, ObjectKey("", CONFIG_NAME))
    told = None if config is None else config.spec.deletion_guard.max_clusters
    return MAX_CLUSTERS if told is None else told


def _bindings(request: AdmissionRequest, there: Committed) -> list[ResourceBinding]:
    """The bindings whose objects go with this one."""
    group, kind = request.kind.group_kind
    key = ObjectKey(request.namespace, request.name)
    if group == "work.karmada.io":
        own: Resource[Any] = (
            RESOURCE_BINDINGS if kind == "ResourceBinding" else CLUSTER_RESOURCE_BINDINGS
        )
        found = there.get(own, key) if kind in (own.kind, "ResourceBinding") else None
        return [] if found is None else [found]
    if any((group, kind) == (r.group, r.kind) for r in FOLLOWERS):
        return list(there.list(RESOURCE_BINDINGS, request.namespace))
    name = ObjectKey(request.namespace, binding_name(kind, request.name))
    resource: Resource[Any] = RESOURCE_BINDINGS if request.namespace else CLUSTER_RESOURCE_BINDINGS
    found = there.get(resource, name)
    if found is None or found.spec.resource.kind != kind:
        return []
    return [found]


def _comes_home(request: AdmissionRequest) -> bool:
    """Whether a namespace is labelled to stay at home, and was not before."""
    assert request.old is not None
    before, after = (
        (document["metadata"].get("labels") or {}).get(STAYS)
        for document in (request.old, request.document)
    )
    return after == "true" != before


def _narrowed(request: AdmissionRequest, there: Committed, limit: int) -> set[str]:
    """Clusters that leave the policy's choice and hold something of it; looked for only where they could be too many."""
    assert request.old is not None
    if request.old.get("spec") == request.document.get("spec"):
        return set()
    before, after = (
        msgspec.convert(document.get("spec") or {}, PropagationSpec)
        for document in (request.old, request.document)
    )
    if after.preserve_resources_on_deletion or before.placement == after.placement:
        return set()
    fleet = (_place(c) for c in there.list(CLUSTERS) if not c.deleting)
    gone = dropped(before.placement, after.placement, fleet)
    if len(gone) <= limit:
        return set()
    mark = claims.POLICY_NAME if request.namespace else claims.CLUSTER_POLICY_NAME
    bindings = list(there.list(RESOURCE_BINDINGS, request.namespace))
    if not request.namespace:
        of_clusters: Resource[Any] = CLUSTER_RESOURCE_BINDINGS
        bindings += there.list(of_clusters)
    claimed = (b for b in bindings if b.metadata.annotations.get(mark) == request.name)
    return gone & held(claimed)
