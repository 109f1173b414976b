"""Dependencies: what a propagated workload refers to is propagated to the same clusters, in the same breath.

For each ConfigMap, Secret, ServiceAccount and PersistentVolumeClaim that some binding with `propagateDeps` needs, a binding exists whose
`spec.requiredBy` lists those who need it and where they are. Reconciled by the key of the dependency, so that several
workloads which share a ConfigMap never fight over it. While a staged update is on its way, what an older template refers to
is needed too, wherever the workload is.

Where users say by a script what a kind refers to, the script is asked once for each version of an object; while it fails, what it
said last of the object counts.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from federation.controllers.detector import owner, resource_reference
from federation.propagation import interpreter, moves
from federation.propagation.customized import Followed
from federation.propagation.demand import demand_of
from federation.propagation.needs import Needs, referred_to
from federation.propagation.rollouts.histories import Histories
from federation.propagation.rollouts.record import RECORD, record_of
from federation.propagation.rollouts.snapshots import (
    BY_OWNER,
    HASH_LABEL,
    owner_uid,
    template_in,
)
from federation.propagation.templates import DEPENDANTS, DEPENDENCIES, propagatable
from federation.propagation.works import binding_name
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.work import BINDING_DOCUMENTS, RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.manager import ControllerBuilder, Manager
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.scripts.customizations import Kind

NEEDS = "needs"


def required_by(binding: ResourceBinding) -> Document:
    """How a binding stands in the list of another one. A cluster that keeps replicas keeps what they need."""
    clusters = [
        {"name": name, "replicas": count} if count else {"name": name}
        for name, count in moves.running(binding).items()
    ]
    return {
        "namespace": binding.metadata.namespace,
        "name": binding.metadata.name,
        "clusters": clusters,
    }


def plan(
    template: Document | None,
    needed_by: Iterable[ResourceBinding],
    binding: ResourceBinding | None,
    held: Document | None,
) -> list[Action]:
    """`template` is the dependency, `binding` (and the same as `held` document) its own binding."""
    needing = sorted(
        (b for b in needed_by if moves.running(b) and not b.deleting), key=lambda b: b.key
    )
    wanted = [required_by(b) for b in needing]
    if template is None or not propagatable(template):
        return []  # the binding goes with its template
    if binding is None or held is None:
        return [_create(template, wanted, inherited(needing))] if wanted else []
    claimed = binding.spec.placement is not None
    own = {} if claimed else inherited(needing)
    change = {k: v for k, v in own.items() if held["spec"].get(k) != v}
    if binding.deleting or (not change and (held["spec"].get("requiredBy") or []) == wanted):
        return []
    if not wanted and not claimed:
        return [Delete(RESOURCE_BINDINGS, binding.key, uid=binding.metadata.uid)]
    return [
        Patch(
            RESOURCE_BINDINGS,
            binding.key,
            {"spec": {"requiredBy": wanted or None} | change},
            resource_version=held["metadata"]["resourceVersion"],
        )
    ]


def inherited(needing: Iterable[ResourceBinding]) -> Document:
    """What a dependency that no policy claims has of those who need it: the boldest of their wishes."""
    specs = [b.spec for b in needing]
    overwrite = any(s.conflict_resolution == "Overwrite" for s in specs)
    return {
        "conflictResolution": "Overwrite" if overwrite else "Abort",
        "preserveResourcesOnDeletion": any(s.preserve_resources_on_deletion for s in specs),
    }


def _create(template: Document, wanted: list[Document], own: Document) -> Action:
    metadata = template["metadata"]
    return Create(
        RESOURCE_BINDINGS,
        {
            "apiVersion": RESOURCE_BINDINGS.api_version,
            "kind": RESOURCE_BINDINGS.kind,
            "metadata": {
                "name": binding_name(template["kind"], metadata["name"]),
                "namespace": metadata["namespace"],
                "ownerReferences": [owner(template)],
            },
            "spec": {"resource": resource_reference(template), "requiredBy": wanted} | own,
        },
        exists_ok=True,
    )


class DependencyReconciler:
    """One kind of dependency."""

    def __init__(self, manager: Manager, resource: Resource[Document], needs: Needs) -> None:
        self._resource, self._needs = resource, needs
        self._executor = manager.executor
        self._templates = manager.informer(resource)
        self._dependants = [manager.informer(kind) for kind in DEPENDANTS]
        for informer in self._dependants:
            informer.add_index(f"{NEEDS}-{resource.kind}", _needs(resource.kind))
        self._history = Histories(manager.informer)
        self._history.add_index(f"{NEEDS}-{resource.kind}", _needed_before(resource.kind))
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._documents = manager.informer(BINDING_DOCUMENTS)

    async def reconcile(self, key: ObjectKey) -> Result:
        name = ObjectKey(key.namespace, binding_name(self._resource.kind, key.name))
        actions = plan(
            self._templates.get(key),
            self._needed_by(key),
            self._bindings.get(name),
            self._documents.get(name),
        )
        return await self._executor.apply(actions)

    def _needed_by(self, key: ObjectKey) -> list[ResourceBinding]:
        found: dict[ObjectKey, ResourceBinding] = {}
        index = f"{NEEDS}-{self._resource.kind}"
        built_in = (one for i in self._dependants for one in i.by_index(index, key))
        needing = [one for one in built_in if not self._needs.scripted(one)]
        for dependant in (*needing, *self._needs.needing(self._resource.kind, key)):
            name = binding_name(dependant["kind"], dependant["metadata"]["name"])
            binding = self._bindings.get(ObjectKey(key.namespace, name))
            if binding is not None and binding.spec.propagate_deps:
                found[binding.key] = binding
        for record in self._history.by_index(index, key):
            binding = self._staged(record)
            if binding is not None:
                found[binding.key] = binding
        return list(found.values())

    def _staged(self, record: Document) -> ResourceBinding | None:
        """The binding of which some cluster still has the recorded template."""
        metadata = record["metadata"]
        owned = metadata["ownerReferences"][0]
        name = binding_name(owned["kind"], owned["name"])
        binding = self._bindings.get(ObjectKey(metadata["namespace"], name))
        held = record_of(binding)
        if binding is None or held is None or not binding.spec.propagate_deps:
            return None
        return binding if metadata["labels"].get(HASH_LABEL) in held.hashes else None


def setup(manager: Manager) -> None:
    """One controller a kind: its objects, those that refer to them, and the bindings of these."""
    dependants = {(r.api_version, r.kind): manager.informer(r) for r in DEPENDANTS}
    history = Histories(manager.informer)
    needs = Needs(Followed(manager.informer(CUSTOMIZATIONS)), manager.recorder.emit)
    controllers: list[tuple[Resource[Document], ControllerBuilder]] = []
    for resource in DEPENDENCIES:
        reconciler = DependencyReconciler(manager, resource, needs)
        controller = manager.controller(f"dependencies-{resource.plural}", reconciler)
        controller.watches(resource)
        for dependant in DEPENDANTS:
            controller.watches(dependant, needs.keys(resource.kind))
        controller.watches(CUSTOMIZATIONS, needs.spoken_of(resource.kind))
        controller.watches(RESOURCE_BINDINGS, _of_binding(resource, dependants, history, needs))
        controllers.append((resource, controller))
    for dependant in DEPENDANTS:  # after the controllers: they hear first who is gone
        needs.add(dependant, manager.informer(dependant))

    def come(custom: Resource[Document]) -> None:
        """A kind of which users may say by a script what it refers to."""
        if not custom.namespaced:
            return
        informer = dependants[custom.api_version, custom.kind] = manager.informer(custom)
        for resource, controller in controllers:
            controller.watches(custom, needs.keys(resource.kind))
        needs.add(custom, informer)

    demand_of(manager.informer).follow(come)


def _needs(kind: str) -> Any:
    def keys(dependant: Document) -> list[ObjectKey]:
        return sorted(referred_to(dependant)[kind])

    return keys


def _needed_before(kind: str) -> Any:
    """Of a revision record: what its template refers to."""

    def keys(record: Document) -> list[ObjectKey]:
        if not owner_uid(record) or HASH_LABEL not in (record["metadata"].get("labels") or {}):
            return []
        namespace, template = record["metadata"]["namespace"], template_in(record)
        return sorted(interpreter.pod_dependencies(template, namespace)[kind])

    return keys


def _of_binding(
    resource: Resource[Document], dependants: Mapping[Kind, Any], history: Any, needs: Needs
) -> Any:
    """The dependencies of what a binding places, or the dependency whose binding it is."""
    before = _needed_before(resource.kind)

    def keys(binding: ResourceBinding) -> list[ObjectKey]:
        source = binding.spec.resource
        key = ObjectKey(source.namespace, source.name)
        if source.kind == resource.kind:
            return [key]
        informer = dependants.get((source.api_version, source.kind))
        found = informer.get(key) if informer is not None else None
        if not found:
            return []
        needed = set(needs.of(found).get(resource.kind, ()))
        if RECORD in binding.metadata.annotations:
            for record in history.by_index(BY_OWNER, found["metadata"]["uid"]):
                needed.update(before(record))
        return sorted(needed)

    return keys
