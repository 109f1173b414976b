"""Dispatcher: for every cluster of a binding there is one Work with the template as it is now, and no other Work.

Reports are no news here: of a hundred members that answer, none makes it render a hundred Works again.

The clusters of a binding are those decided for it and those of the bindings that need it (`spec.requiredBy`). A Work
that is no longer wanted is deleted; the member's link then takes the objects away and lets it go. That a member is away
changes nothing here: the intention stands, the member reads it when it is back.

Override policies change the template for each cluster on its own. Where one cannot be applied, that cluster's Work stays as it
is (or is not made), the others go on, and the binding's condition `Overridden` says which policy failed where, and why.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from federation.clusters.candidates import candidate
from federation.placement.model import Candidate
from federation.propagation import (
    claims,
    components,
    conditions,
    customized,
    evictions,
    interpreter,
    moves,
    restores,
)
from federation.propagation.customized import (
    BUILT_IN,
    Customizations,
    Followed,
    InterpretationFailed,
)
from federation.propagation.demand import Demand, demand_of
from federation.propagation.overrides.errors import PolicyFailed
from federation.propagation.overrides.policies import (
    APPLIED,
    APPLIED_CLUSTER,
    NO_OVERRIDES,
    Overrides,
)
from federation.propagation.resilience import CONSISTENCY, FLEET_WIDE, grant_s, resilience
from federation.propagation.rollouts.histories import Histories
from federation.propagation.rollouts.staged import Staged, staged, waits
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from federation.propagation.templates import TEMPLATES, subject
from federation.propagation.works import fenced, work
from machinery.api.fleet.cluster import CLUSTERS, Cluster, execution_namespace
from machinery.api.fleet.interpretation import CUSTOMIZATIONS, ResourceInterpreterCustomization
from machinery.api.fleet.policy import (
    CLUSTER_OVERRIDE_POLICIES,
    OVERRIDE_POLICIES,
    ClusterOverridePolicy,
    OverridePolicy,
)
from machinery.api.fleet.resilience import EPOCH, RESILIENCE_POLICIES, ResiliencePolicy
from machinery.api.fleet.work import (
    BINDING_LABEL,
    BINDING_NAME,
    BINDING_NAMESPACE,
    CLUSTER_BINDING_LABEL,
    CLUSTER_BINDING_NAME,
    WORK_DOCUMENTS,
    WORKS,
    ResourceBinding,
    Work,
)
from machinery.client.interface import PatchType
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Emit,
    Patch,
    Result,
)
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

BY_BINDING = "binding"


def targets(binding: ResourceBinding) -> dict[str, int]:
    """Clusters and replicas as decided; dependants' clusters count without replicas."""
    return _with_dependants(binding, components.placed(binding))


def asked(binding: ResourceBinding) -> dict[str, int]:
    """Clusters and what they shall run now: the decision, and what is kept while replicas move."""
    return _with_dependants(binding, moves.running(binding))


def _with_dependants(binding: ResourceBinding, found: dict[str, int]) -> dict[str, int]:
    for snapshot in binding.spec.required_by:
        for target in snapshot.clusters:
            found.setdefault(target.name, 0)
    return found


@dataclass(frozen=True, slots=True)
class Failed:
    """A policy (its key) that could not be applied to what a cluster shall get, and why; without one, a user's script."""

    policy: str
    why: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a binding comes to, by cluster: Works, the policies that changed them, and what failed."""

    works: dict[str, Document] = field(default_factory=dict)
    policies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)


def wanted_works(
    binding: ResourceBinding,
    template: Document,
    known: Iterable[str],
    held: Iterable[Document] = (),
    grant_s: int | None = None,
    *,
    fence: bool = True,
) -> dict[str, Document]:
    """The Work of each cluster by cluster, where nothing is overridden; clusters that have left are skipped."""
    fleet = {name: Candidate(name) for name in known}
    return rendered(binding, template, fleet, held, grant_s, fence=fence).works


def rendered(  # noqa: PLR0913
    binding: ResourceBinding,
    template: Document,
    fleet: Mapping[str, Candidate],
    held: Iterable[Document] = (),
    grant_s: int | None = None,
    *,
    fence: bool = True,
    overrides: Overrides = NO_OVERRIDES,
    staging: Staged | None = None,
    scripts: Customizations = BUILT_IN,
) -> Rendered:
    """The Work of each cluster, by cluster; clusters that have left are skipped.

    With `grant_s` pods run on grants, under the epoch in which the cluster got its Work; with `fence` (mode consistency)
    a cluster that was left gets no more of them. `overrides` are those that select the template, in their order.
    `staging`: a change of the pod template is on its way from cluster to cluster. `scripts`: what users say of kinds.
    """
    there = {w["metadata"]["namespace"]: w for w in held}
    epochs = {namespace: epoch_of(w) for namespace, w in there.items()}
    out = moves.evicting(binding)
    found = Rendered()
    runs = interpreter.has_pods(template)
    claimed = interpreter.portable(_claimed(binding, template))
    counts = asked(binding)
    divided = _divides(binding)
    shares = interpreter.shares(template, counts, template["metadata"]["uid"]) if divided else {}
    counted = scripts if binding.spec.replicas else BUILT_IN
    whole = components.several(binding)
    owner = _owner(binding)
    still = moves.untouched(binding)
    given = restores.records_of(binding.metadata.annotations) or {}
    for cluster, count in counts.items():
        own = claimed if staging is None else staging.given(claimed, cluster)
        if cluster not in fleet or cluster in still:
            continue
        if staging is not None and (as_it_is := staging.kept(cluster)) is not None:
            found.works[cluster] = as_it_is
            continue
        try:
            body = own if whole else customized.revised(counted, own, count, shares.get(cluster))
        except InterpretationFailed as error:
            found.failed[cluster] = Failed("", str(error))
            continue
        if state := evictions.carried(binding, cluster):
            body = _labelled(body, state)
        body = restores.injected(body, given.get(cluster))
        try:
            changed = overrides.apply(body, fleet[cluster])
        except PolicyFailed as error:
            found.failed[cluster] = Failed(error.policy, str(error))
            continue
        made = work(
            template,
            cluster,
            body=changed.document,
            binding=owner,
            notes=changed.annotations,
            conflict_resolution=binding.spec.conflict_resolution,
            suspended=moves.suspended(binding, cluster),
            preserve=binding.spec.preserve_resources_on_deletion,
        )
        if grant_s is not None and runs:
            epoch = epochs.get(execution_namespace(cluster)) or str(binding.metadata.generation)
            made = fenced(made, epoch, grant_s, withheld=fence and cluster in out)
        found.works[cluster] = claims.marked(binding, made, there.get(execution_namespace(cluster)))
        if changed.policies:
            found.policies[cluster] = changed.policies
    return found


def _divides(binding: ResourceBinding) -> bool:
    """Whether each cluster has a part of the replicas, and not all of them."""
    placement = binding.spec.placement
    scheduling = placement.replica_scheduling if placement is not None else None
    return scheduling is not None and scheduling.replica_scheduling_type == "Divided"


def unbound(
    body: Document,
    clusters: Iterable[str],
    overrides: Overrides = NO_OVERRIDES,
    fleet: Mapping[str, Candidate] = {},
    *,
    conflict_resolution: str = "Abort",
) -> Rendered:
    """The Works of what travels without a binding, by cluster. Such a Work is found by the object that it carries."""
    found = Rendered()
    spoken = overrides.of(body)
    for cluster in clusters:
        try:
            changed = spoken.apply(body, fleet.get(cluster) or Candidate(cluster), named=True)
        except PolicyFailed as error:
            found.failed[cluster] = Failed(error.policy, str(error))
            continue
        found.works[cluster] = work(
            body,
            cluster,
            body=changed.document,
            notes=changed.annotations,
            conflict_resolution=conflict_resolution,
        )
    return found


def complaints(resource: Resource[Document], document: Document, found: Rendered) -> list[Action]:
    """Events on an object without a binding, about overrides that cannot be applied to it."""
    metadata = document["metadata"]
    about = ObjectKey(metadata.get("namespace", ""), metadata["name"])
    return [
        Emit(
            resource,
            about,
            metadata.get("uid", ""),
            "Warning",
            FAILED,
            f"Apply override policy({failure.policy}) for cluster({cluster}) failed: {failure.why}",
        )
        for cluster, failure in sorted(found.failed.items())
    ]


def _claimed(binding: ResourceBinding, template: Document) -> Document:
    """The template with the marks of the policy that claims it, as they travel to members."""
    metadata = binding.metadata
    annotations = {
        k: metadata.annotations[k] for k in claims.ANNOTATIONS if k in metadata.annotations
    }
    labels = {k: metadata.labels[k] for k in claims.LABELS if k in metadata.labels}
    if not annotations and not labels:
        return template
    own = template["metadata"]
    marked = own | {"annotations": (own.get("annotations") or {}) | annotations}
    if labels:
        marked["labels"] = (own.get("labels") or {}) | labels
    return template | {"metadata": marked}


def _labelled(body: Document, labels: Mapping[str, str]) -> Document:
    metadata = body["metadata"]
    return body | {"metadata": metadata | {"labels": (metadata.get("labels") or {}) | dict(labels)}}


def _owner(binding: ResourceBinding) -> Document:
    metadata = binding.metadata
    return {
        "name": metadata.name,
        "namespace": metadata.namespace,
        "uid": metadata.labels.get(BINDING_LABEL)
        or metadata.labels.get(CLUSTER_BINDING_LABEL)
        or metadata.uid,
    }


def epoch_of(work: Document) -> str:
    """Under which epoch the Work's pods run; empty when they need no grants."""
    return str((work["metadata"].get("annotations") or {}).get(EPOCH, ""))


def plan(
    wanted: Mapping[str, Document], held: Iterable[Document], untouched: Iterable[str] = ()
) -> list[Action]:
    """Create, replace, delete. `wanted` by cluster; `held` every Work of the binding; `untouched` clusters keep theirs.

    A Work whose successor has another name goes only when that one is there, so that the member applies before it deletes.
    """
    held = list(held)
    kept = {execution_namespace(cluster) for cluster in untouched}
    by_key = {document_key(document): document for document in wanted.values()}
    there = {document_key(document) for document in held}
    kept |= {key.namespace for key in by_key if key not in there}
    actions: list[Action] = []
    for document in held:
        key = document_key(document)
        body = by_key.pop(key, None)
        if document["metadata"].get("deletionTimestamp") or key.namespace in kept:
            continue
        if body is None:
            actions.append(Delete(WORKS, key, uid=document["metadata"]["uid"]))
        elif (change := _change(document, body)) is not None:
            actions.append(Patch(WORKS, key, change, PatchType.JSON))
    return [*actions, *(Create(WORKS, body, exists_ok=True) for body in by_key.values())]


def _change(held: Document, wanted: Document) -> list[Document] | None:
    """JSON patch that replaces spec, labels and annotations whole where they differ."""
    ops: list[Document] = []
    if held["spec"] != wanted["spec"]:
        ops.append({"op": "replace", "path": "/spec", "value": wanted["spec"]})
    for part in ("labels", "annotations"):
        if (held["metadata"].get(part) or {}) != wanted["metadata"][part]:
            ops.append(
                {"op": "add", "path": f"/metadata/{part}", "value": wanted["metadata"][part]}
            )
    return ops or None


OVERRIDDEN = "Overridden"
FAILED = "ApplyOverridePolicyFailed"


def told(
    binding: ResourceBinding,
    template: Document,
    found: Rendered,
    held: Iterable[Document],
    now: str,
) -> list[Action]:
    """Condition and Events on overrides: a failure is told once, and again when it changes; a success when it is written."""
    actions: list[Action] = []
    resource, about = subject(template), document_key(template)
    uid = template["metadata"]["uid"]
    for policy, cluster in _news(found, held):
        said = f"Apply override policy({policy}) for cluster({cluster}) succeed."
        actions.append(Emit(resource, about, uid, "Normal", "ApplyOverridePolicySucceed", said))
    wanted = _overridden(found)
    before = condition(binding.status.conditions, OVERRIDDEN)
    if (before.message if before is not None else "") == wanted:
        return actions
    since = now
    if before is not None and before.last_transition_time is not None:
        since = rfc3339(before.last_transition_time)
    fresh: Document = {
        "type": OVERRIDDEN, "status": "False", "reason": FAILED, "message": wanted,
        "lastTransitionTime": since,
    }  # fmt: skip
    actions.append(conditions.told(binding, OVERRIDDEN, fresh if wanted else None))
    for cluster, failure in sorted(found.failed.items()):
        if not failure.policy:
            continue
        said = f"Apply override policy({failure.policy}) for cluster({cluster}) failed."
        actions.append(Emit(resource, about, uid, "Warning", FAILED, said))
    for why in sorted({failure.why for failure in found.failed.values()}):
        actions.append(Emit(resource, about, uid, "Warning", "SyncWorkFailed", why))
    return actions


def _overridden(found: Rendered) -> str:
    """What failed, in one message; empty when nothing did."""
    return "; ".join(
        f"cluster({cluster}): override policy({failure.policy}): {failure.why}"
        if failure.policy
        else f"cluster({cluster}): {failure.why}"
        for cluster, failure in sorted(found.failed.items())
    )


def _news(found: Rendered, held: Iterable[Document]) -> Iterator[tuple[str, str]]:
    """Policies and clusters where what is written of overrides is not what was."""
    before = {w["metadata"]["namespace"]: w["metadata"].get("annotations") or {} for w in held}
    for cluster, policies in found.policies.items():
        fresh = found.works[cluster]["metadata"]["annotations"]
        old = before.get(execution_namespace(cluster), {})
        if any(old.get(mark) != fresh.get(mark) for mark in (APPLIED, APPLIED_CLUSTER)):
            for policy in policies:
                yield policy, cluster


def binding_keys(item: Work | Document) -> list[ObjectKey]:
    """The binding that a Work belongs to."""
    if isinstance(item, Work):
        annotations: Mapping[str, str] = item.metadata.annotations
    else:
        annotations = item["metadata"].get("annotations") or {}
    name = annotations.get(BINDING_NAME)
    if name:
        return [ObjectKey(annotations.get(BINDING_NAMESPACE, ""), name)]
    of_cluster = annotations.get(CLUSTER_BINDING_NAME)
    return [ObjectKey("", of_cluster)] if of_cluster else []


def members(clusters: Iterable[Cluster], *, judged: bool) -> dict[str, Candidate]:
    """Those that are not leaving; only where rules ask for their properties (`judged`) are these looked at."""
    staying = [c for c in clusters if not c.deleting]
    if not judged:
        return {c.metadata.name: Candidate(c.metadata.name) for c in staying}
    return {c.metadata.name: candidate(c) for c in staying}


class DispatcherReconciler:
    """Bindings of one scope."""

    def __init__(self, manager: Manager, demand: Demand, scope: Scope = IN_NAMESPACES) -> None:
        self._executor = manager.executor
        self._bindings = manager.informer(scope.bindings)
        self._clusters = manager.informer(CLUSTERS)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=scope.label)
        self._works.add_index(BY_BINDING, binding_keys)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._overrides = manager.informer(OVERRIDE_POLICIES)
        self._cluster_overrides = manager.informer(CLUSTER_OVERRIDE_POLICIES)
        self._scripts = Followed(manager.informer(CUSTOMIZATIONS))
        self._clock = manager.clock
        self._sources = Sources(manager.informer, demand=demand)
        self._history = Histories(manager.informer)

    async def reconcile(self, key: ObjectKey) -> Result:
        held = self._works.by_index(BY_BINDING, key)
        binding = self._bindings.get(key)
        found = Rendered()
        news: list[Action] = []
        if binding is not None and not binding.deleting:
            template = self._sources.placed_by(binding)
            if template is None or waits(template, binding):
                return Result()  # the detector or the collector removes the binding; rollouts says what clusters have
            staging = staged(template, binding, self._history.each(template), held)
            own = resilience(template, self._policies.list())
            fence = own.mode == CONSISTENCY
            own_overrides = self._overrides.list(key.namespace) if key.namespace else ()
            everybody = Overrides(tuple(self._cluster_overrides.list()), tuple(own_overrides))
            overrides = everybody.of(template)
            fleet = members(self._clusters.list(), judged=overrides != NO_OVERRIDES)
            if own.volumes is not None and interpreter.has_pods(template):
                there = {work["metadata"]["namespace"] for work in held}
                brought = [name for name in fleet if execution_namespace(name) in there]
                unready = restores.unready(binding, brought)
                fleet = {name: c for name, c in fleet.items() if name not in unready}
            found = rendered(
                binding,
                template,
                fleet,
                held,
                grant_s(own),
                fence=fence,
                overrides=overrides,
                staging=staging,
                scripts=self._scripts(),
            )
            news = told(binding, template, found, held, rfc3339(self._clock.now()))
        still = moves.untouched(binding) if binding is not None else frozenset()
        return await self._executor.apply(
            [*plan(found.works, held, still | found.failed.keys()), *news]
        )


def setup(manager: Manager) -> None:
    """Bindings, their templates, their Works, and the members that come and go; the same for both scopes."""
    demand = demand_of(manager.informer)
    for scope in SCOPES:
        _dispatch(manager, scope, demand)


def _dispatch(manager: Manager, scope: Scope, demand: Demand) -> None:
    bindings = manager.informer(scope.bindings)
    bindings.add_index("template", template_key)
    reconciler = DispatcherReconciler(manager, demand, scope)
    controller = manager.controller(scope.named("dispatcher"), reconciler)
    controller.watches(scope.bindings, when=_asks_anew)
    controller.watches(WORK_DOCUMENTS, binding_keys, label_selector=scope.label, when=wish_changed)
    controller.watches(CLUSTERS, _of_cluster(bindings))
    controller.watches(RESILIENCE_POLICIES, _of_policy(bindings))
    controller.watches(OVERRIDE_POLICIES, _of_override(bindings))
    controller.watches(CLUSTER_OVERRIDE_POLICIES, _of_override(bindings))
    controller.watches(CUSTOMIZATIONS, of_customization(bindings))

    def come(resource: Resource[Document]) -> None:
        if resource.namespaced == scope.namespaced:
            controller.watches(resource, _of_template(resource, bindings), when=wish_changed)

    for resource in TEMPLATES:
        come(resource)
    demand.follow(come)


def _asks_anew(old: ResourceBinding | None, new: ResourceBinding | None) -> bool:
    """Whether a binding says something else of its Works, or of what was said about overrides; what members report does not."""
    if old is None or new is None or wish_changed(old, new):
        return True
    before, after = old.status.conditions, new.status.conditions
    return condition(before, OVERRIDDEN) != condition(after, OVERRIDDEN)


def template_key(binding: ResourceBinding) -> list[tuple[str, str, str]]:
    source = binding.spec.resource
    return [(source.kind, source.namespace, source.name)]


def _of_template(resource: Resource[Document], bindings: Any) -> Any:
    def keys(template: Document) -> list[ObjectKey]:
        metadata = template["metadata"]
        value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        return [binding.key for binding in bindings.by_index("template", value)]

    return keys


def of_customization(bindings: Any) -> Any:
    """The bindings of the kind of which users say something else."""

    def keys(one: ResourceInterpreterCustomization) -> list[ObjectKey]:
        api_version, kind = customized.target(one)
        return [
            b.key
            for b in bindings.list()
            if (b.spec.resource.api_version, b.spec.resource.kind) == (api_version, kind)
        ]

    return keys


def _of_policy(bindings: Any) -> Any:
    def keys(policy: ResiliencePolicy) -> list[ObjectKey]:
        home = policy.metadata.namespace
        return [b.key for b in bindings.list("" if home == FLEET_WIDE else home)]

    return keys


def _of_override(bindings: Any) -> Any:
    def keys(policy: OverridePolicy | ClusterOverridePolicy) -> list[ObjectKey]:
        """All of the namespace: what the policy selected before it was changed is among them."""
        return [b.key for b in bindings.list(policy.metadata.namespace)]

    return keys


def _of_cluster(bindings: Any) -> Any:
    seen: dict[str, tuple[object, ...]] = {}

    def keys(cluster: Any) -> list[ObjectKey]:
        """When a member appears, leaves, or is another one to override rules; its status changes every few seconds."""
        name, spec = cluster.metadata.name, cluster.spec
        told = (cluster.deleting, cluster.metadata.labels, spec.provider, spec.region, spec.zones)
        if seen.get(name) == told:
            return []
        seen[name] = told
        return [b.key for b in bindings.list() if name in asked(b)]

    return keys
