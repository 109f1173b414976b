"""Dispatcher: for every cluster of a binding there is one Work with the template as it is now, and no other Work.

The clusters of a binding are those decided for it and those of the bindings that need it (`spec.requiredBy`). A Work
that is no longer wanted is deleted; the member's link then takes the objects away and lets it go. That a member is away
changes nothing here: the intention stands, the member reads it when it is back.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from federation.propagation import interpreter, moves
from federation.propagation.resilience import CONSISTENCY, FLEET_WIDE, grant_s, resilience
from federation.propagation.templates import TEMPLATES
from federation.propagation.works import fenced, work
from machinery.api.fleet.cluster import CLUSTERS, execution_namespace
from machinery.api.fleet.resilience import EPOCH, RESILIENCE_POLICIES, ResiliencePolicy
from machinery.api.fleet.work import (
    BINDING_LABEL,
    BINDING_NAME,
    BINDING_NAMESPACE,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    WORKS,
    ResourceBinding,
    Work,
)
from machinery.client.interface import PatchType
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

BY_BINDING = "binding"


def targets(binding: ResourceBinding) -> dict[str, int]:
    """Clusters and replicas as decided; dependants' clusters count without replicas."""
    return _with_dependants(binding, {t.name: t.replicas for t in binding.spec.clusters})


def asked(binding: ResourceBinding) -> dict[str, int]:
    """Clusters and what they shall run now: the decision, and what is kept while replicas move."""
    return _with_dependants(binding, moves.running(binding))


def _with_dependants(binding: ResourceBinding, found: dict[str, int]) -> dict[str, int]:
    for snapshot in binding.spec.required_by:
        for target in snapshot.clusters:
            found.setdefault(target.name, 0)
    return found


def wanted_works(
    binding: ResourceBinding,
    template: Document,
    known: frozenset[str],
    held: Iterable[Document] = (),
    grant_s: int | None = None,
    *,
    fence: bool = True,
) -> dict[str, Document]:
    """The Work of each cluster, by cluster; clusters that have left are skipped.

    With `grant_s` pods run on grants, under the epoch in which the cluster got its Work; with `fence` (mode consistency)
    a cluster that was left gets no more of them.
    """
    epochs = {w["metadata"]["namespace"]: epoch_of(w) for w in held}
    out = moves.evicting(binding)
    suspension = binding.spec.suspension
    only = suspension.dispatching_on_clusters if suspension is not None else None
    works: dict[str, Document] = {}
    for cluster, count in asked(binding).items():
        if cluster not in known:
            continue
        suspended = suspension is not None and (
            suspension.dispatching or (only is not None and cluster in only.cluster_names)
        )
        body = template
        if interpreter.is_workload(template):
            body = interpreter.revised(template, count)
        works[cluster] = work(
            body,
            cluster,
            binding={
                "name": binding.metadata.name,
                "namespace": binding.metadata.namespace,
                "uid": binding.metadata.uid,
            },
            conflict_resolution=binding.spec.conflict_resolution,
            suspended=suspended,
            preserve=binding.spec.preserve_resources_on_deletion,
        )
        if grant_s is not None and interpreter.is_workload(template):
            epoch = epochs.get(execution_namespace(cluster)) or str(binding.metadata.generation)
            works[cluster] = fenced(
                works[cluster], epoch, grant_s, withheld=fence and cluster in out
            )
    return works


def epoch_of(work: Document) -> str:
    """Under which epoch the Work's pods run; empty when they need no grants."""
    return str((work["metadata"].get("annotations") or {}).get(EPOCH, ""))


def plan(wanted: Mapping[str, Document], held: Iterable[Document]) -> list[Action]:
    """Create, replace, delete. `wanted` by cluster; `held` every Work of the binding."""
    by_key = {document_key(document): document for document in wanted.values()}
    actions: list[Action] = []
    for document in held:
        key = document_key(document)
        body = by_key.pop(key, None)
        if document["metadata"].get("deletionTimestamp"):
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


def binding_keys(item: Work | Document) -> list[ObjectKey]:
    """The binding that a Work belongs to."""
    if isinstance(item, Work):
        annotations: Mapping[str, str] = item.metadata.annotations
    else:
        annotations = item["metadata"].get("annotations") or {}
    name = annotations.get(BINDING_NAME)
    return [ObjectKey(annotations.get(BINDING_NAMESPACE, ""), name)] if name else []


class DispatcherReconciler:
    """Bindings."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._clusters = manager.informer(CLUSTERS)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=BINDING_LABEL)
        self._works.add_index(BY_BINDING, binding_keys)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._templates = {r.kind: manager.informer(r) for r in TEMPLATES}

    async def reconcile(self, key: ObjectKey) -> Result:
        held = self._works.by_index(BY_BINDING, key)
        binding = self._bindings.get(key)
        wanted: Mapping[str, Document] = {}
        if binding is not None and not binding.deleting:
            template = self._template(binding)
            if template is None:
                return Result()  # the detector or the collector removes the binding
            known = frozenset(c.metadata.name for c in self._clusters.list() if not c.deleting)
            own = resilience(template, self._policies.list())
            fence = own.mode == CONSISTENCY
            wanted = wanted_works(binding, template, known, held, grant_s(own), fence=fence)
        return await self._executor.apply(plan(wanted, held))

    def _template(self, binding: ResourceBinding) -> Document | None:
        source = binding.spec.resource
        informer = self._templates.get(source.kind)
        if informer is None:
            return None
        found = informer.get(ObjectKey(source.namespace, source.name))
        return found if found is not None and found["metadata"]["uid"] == source.uid else None


def setup(manager: Manager) -> None:
    """Bindings, their templates, their Works, and the members that come and go."""
    bindings = manager.informer(RESOURCE_BINDINGS)
    bindings.add_index("template", template_key)
    controller = manager.controller("dispatcher", DispatcherReconciler(manager))
    controller.watches(RESOURCE_BINDINGS)
    controller.watches(WORK_DOCUMENTS, binding_keys, label_selector=BINDING_LABEL)
    controller.watches(CLUSTERS, _of_cluster(bindings))
    controller.watches(RESILIENCE_POLICIES, _of_policy(bindings))
    for resource in TEMPLATES:
        controller.watches(resource, _of_template(resource, bindings))


def template_key(binding: ResourceBinding) -> list[tuple[str, str, str]]:
    source = binding.spec.resource
    return [(source.kind, source.namespace, source.name)]


def _of_template(resource: Resource[Document], bindings: Any) -> Any:
    def keys(template: Document) -> list[ObjectKey]:
        metadata = template["metadata"]
        value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        return [binding.key for binding in bindings.by_index("template", value)]

    return keys


def _of_policy(bindings: Any) -> Any:
    def keys(policy: ResiliencePolicy) -> list[ObjectKey]:
        home = policy.metadata.namespace
        return [b.key for b in bindings.list("" if home == FLEET_WIDE else home)]

    return keys


def _of_cluster(bindings: Any) -> Any:
    seen: dict[str, bool] = {}

    def keys(cluster: Any) -> list[ObjectKey]:
        """Only when a member appears or leaves: its status changes every few seconds."""
        name, leaving = cluster.metadata.name, cluster.deleting
        if seen.get(name) == leaving:
            return []
        seen[name] = leaving
        return [b.key for b in bindings.list() if name in asked(b)]

    return keys
