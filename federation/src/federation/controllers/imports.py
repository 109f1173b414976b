"""Imports: what all clusters export under one name is one ServiceImport, here and in every member, with its endpoints.

Exports are read from the ExportedServices that members' links write. Every member gets a Work with the import and the
endpoints of all other clusters; the federation keeps a ServiceImport itself where it has the namespace, and sums up the
status of the ServiceExport of that name. A silent or dead member's endpoints stay as they were last told: only the data path
knows whether they answer. They go when the export goes, or when the cluster leaves and its namespace here is emptied.

What members were sent is also the memory of what consumers have (see `federation.traffic.merge`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from federation.controllers import dispatcher
from federation.controllers.followers import BY_FOLLOWER, follower_keys
from federation.propagation.templates import NAMESPACES, SERVICE_EXPORTS
from federation.propagation.works import work
from federation.traffic import conflicts, contents, reports
from federation.traffic.conflicts import Export
from federation.traffic.merge import Merged, merge
from machinery.api.fleet.cluster import CLUSTERS, Cluster, execution_namespace
from machinery.api.fleet.multicluster import (
    EXPORTED_SERVICES,
    SERVICE_NAME_LABEL,
    ExportedService,
    ServiceExportStatus,
    ServiceImportStatus,
)
from machinery.api.fleet.work import BINDING_LABEL, PRUNES, WORK_DOCUMENTS
from machinery.client.interface import PatchType, dynamic
from machinery.controller.action import Action, Create, Delete, Emit, Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

SERVICE_IMPORTS = dynamic(
    "multicluster.x-k8s.io", "v1beta1", "serviceimports", "ServiceImport", True
)
SLICE_KIND = "discovery.k8s.io/v1/EndpointSlice"
BY_SERVICE, BY_IMPORT = "service", "import"
SLICES_MAX = 40
"""Slices of one Work, 100 endpoints each: about a megabyte. What is over goes into further Works."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of one name."""

    exports: Sequence[Export] = ()
    works: Sequence[Document] = ()
    """Works that carry the import or its endpoints."""
    held: Document | None = None
    """The federation's own ServiceImport."""
    members: Sequence[str] = ()
    namespaced: bool = True
    """Whether the federation has the namespace, and it is to stay."""
    template: Document | None = None
    """The federation's own ServiceExport."""
    copies: Sequence[Document] = ()
    """Works that carry the ServiceExport."""


def plan(key: ObjectKey, known: Known, now: str) -> list[Action]:
    """Works, the federation's own ServiceImport, the ServiceExport's status, and Events where a conflict begins or ends."""
    merged = merge(known.exports, contents.held(_sent(known.works)))
    wanted = {} if merged is None else wanted_works(key, merged, known.members)
    actions = dispatcher.plan(wanted, known.works)
    if known.namespaced:
        actions += import_plan(key, merged, known.held, now)
    if known.template is not None and not known.template["metadata"].get("deletionTimestamp"):
        actions += export_plan(known.template, known.copies, merged, now)
    return actions


def _sent(works: Iterable[Document]) -> Document | None:
    """The ServiceImport as some member has it."""
    for held in works:
        for manifest in _manifests(held):
            if manifest["kind"] == SERVICE_IMPORTS.kind:
                return manifest
    return None


def wanted_works(key: ObjectKey, merged: Merged, members: Iterable[str]) -> dict[str, Document]:
    """Every member's Works, by an arbitrary name."""
    document, found = contents.service_import(key, merged), contents.by_cluster(key, merged)
    return {
        f"{member}/{number}": made
        for member in members
        for number, made in enumerate(_works(document, contents.others(found, member), member))
    }


def _works(document: Document, slices: list[Document], member: str) -> Iterator[Document]:
    """The import with the first slices, and further Works for the rest."""
    first = work(document, member, conflict_resolution="Overwrite", others=slices[:SLICES_MAX])
    yield pruning(first)
    for start in range(SLICES_MAX, len(slices), SLICES_MAX):
        part = slices[start : start + SLICES_MAX]
        further = work(part[0], member, conflict_resolution="Overwrite", others=part[1:])
        yield pruning(further)


def pruning(document: Document) -> Document:
    """The Work whose slices go from the member when they go from it."""
    metadata = document["metadata"]
    annotations = metadata["annotations"] | {PRUNES: SLICE_KIND}
    return document | {"metadata": metadata | {"annotations": annotations}}


# ------------------------------------------------------------------------------------------------ the federation's own
def import_plan(
    key: ObjectKey, merged: Merged | None, held: Document | None, now: str
) -> list[Action]:
    """Make, correct or delete the federation's ServiceImport."""
    if merged is None:
        if held is None or held["metadata"].get("deletionTimestamp"):
            return []
        return [Delete(SERVICE_IMPORTS, key, uid=held["metadata"]["uid"])]
    wanted = contents.service_import(key, merged)
    if held is None:
        return [Create(SERVICE_IMPORTS, wanted, exists_ok=True)]
    actions: list[Action] = []
    if ops := _corrections(held, wanted):
        actions.append(Patch(SERVICE_IMPORTS, key, ops, PatchType.JSON))
    return [*actions, *_import_status(merged, held, now)]


def _corrections(held: Document, wanted: Document) -> list[Document]:
    ops: list[Document] = []
    if held.get("spec") != wanted["spec"]:
        ops.append({"op": "add", "path": "/spec", "value": wanted["spec"]})
    for part in ("labels", "annotations"):
        if (held["metadata"].get(part) or {}) != wanted["metadata"][part]:
            path = f"/metadata/{part}"
            ops.append({"op": "add", "path": path, "value": wanted["metadata"][part]})
    return ops


def _import_status(merged: Merged, held: Document, now: str) -> list[Action]:
    """Who exports, and the conflict between them: here it can be read without knowing where the ServiceExports are."""
    before = msgspec.convert(held.get("status") or {}, ServiceImportStatus).conditions
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "sent to all members"}
    conflict = conflicts.condition(merged.disagreements)
    generation = held["metadata"].get("generation", 0)
    wanted = (ready, {"type": reports.CONFLICT, **conflict})
    status = {
        "clusters": [{"cluster": name} for name in merged.clusters],
        "conditions": [
            reports.stamped(one, condition(before, one["type"]), generation, now) for one in wanted
        ],
    }
    return _told(SERVICE_IMPORTS, held, status, before, conflict)


def export_plan(
    template: Document, copies: Iterable[Document], merged: Merged | None, now: str
) -> list[Action]:
    """The status of the federation's ServiceExport."""
    before = msgspec.convert(template.get("status") or {}, ServiceExportStatus)
    conflict = None if merged is None else conflicts.condition(merged.disagreements)
    found = reports.conditions(
        {_member(copy): reported(copy) for copy in copies},
        conflict,
        before,
        template["metadata"].get("generation", 0),
        now,
    )
    return _told(SERVICE_EXPORTS, template, {"conditions": found}, before.conditions, conflict)


def _told(
    resource: Resource[Document],
    held: Document,
    status: Document,
    before: tuple[Condition, ...],
    conflict: Document | None,
) -> list[Action]:
    """Write the status where it changed, and an Event where the conflict in it begins, changes or ends."""
    was = held.get("status") or {}
    if all(was.get(name) == value for name, value in status.items()):
        return []
    key = document_key(held)
    actions: list[Action] = [SetStatus(resource, key, status)]
    old = condition(before, reports.CONFLICT)
    word = _word(old, conflict)
    if conflict is not None and word is not None:
        uid, message = held["metadata"]["uid"], conflict["message"]
        actions.append(Emit(resource, key, uid, *word, message, "Merge"))
    return actions


def _word(old: Condition | None, conflict: Document | None) -> tuple[str, str] | None:
    """Type and reason of the Event, if there is one to write."""
    if conflict is None:
        return None
    if conflict["status"] == "True":
        same = old is not None and old.message == conflict["message"]
        return None if same else ("Warning", "ExportConflict")
    ended = old is not None and old.status == "True"
    return ("Normal", "ExportConflictResolved") if ended else None


def reported(copy: Document) -> ServiceExportStatus:
    """What a member said of its ServiceExport; empty before it did."""
    entries = (copy.get("status") or {}).get("manifestStatuses") or ()
    status = entries[0].get("status") if entries else None
    return msgspec.convert(status or {}, ServiceExportStatus)


def _member(document: Document) -> str:
    name: str = document["metadata"]["namespace"]
    return name.removeprefix(execution_namespace(""))


def _manifests(document: Document) -> Sequence[Document]:
    return (document["spec"].get("workload") or {}).get("manifests") or ()


# ---------------------------------------------------------------------------------------------------------- keys
def service_keys(exported: ExportedService) -> list[ObjectKey]:
    """The Service that the object is about, if it has the name it must have."""
    service = exported.spec.service
    named = exported.metadata.name == f"{service.name}.{service.namespace}"
    return [ObjectKey(service.namespace, service.name)] if named else []


def import_keys(document: Document) -> list[ObjectKey]:
    """The import that a Work without a binding carries, or carries endpoints of."""
    for manifest in _manifests(document)[:1]:
        key = document_key(manifest)
        if manifest.get("kind") == SERVICE_IMPORTS.kind:
            return [key]
        if service := (manifest["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL):
            return [ObjectKey(key.namespace, service)]
    return []


def export_keys(document: Document) -> list[ObjectKey]:
    """The ServiceExport that a Work without a binding carries."""
    return [
        ObjectKey(namespace, name)
        for kind, namespace, name in follower_keys(document)
        if kind == SERVICE_EXPORTS.kind
    ]


def exports(found: Iterable[ExportedService], members: Mapping[str, str]) -> list[Export]:
    """Those of present members. `members`: name by namespace."""
    return [
        Export(members[one.metadata.namespace], one.spec)
        for one in found
        if one.metadata.namespace in members and not one.deleting
    ]


class ImportReconciler:
    """Names under which something is exported, or was."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._executor = manager.executor
        self._exported = manager.informer(EXPORTED_SERVICES)
        self._exported.add_index(BY_SERVICE, service_keys)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_IMPORT, import_keys)
        self._works.add_index(BY_FOLLOWER, follower_keys)
        self._imports = manager.informer(SERVICE_IMPORTS)
        self._templates = manager.informer(SERVICE_EXPORTS)
        self._namespaces = manager.informer(NAMESPACES)
        self._clusters = manager.informer(CLUSTERS)

    async def reconcile(self, key: ObjectKey) -> Result:
        members = sorted(c.metadata.name for c in self._clusters.list() if not c.deleting)
        homes = {execution_namespace(name): name for name in members}
        namespace = self._namespaces.get(ObjectKey("", key.namespace))
        known = Known(
            exports=exports(self._exported.by_index(BY_SERVICE, key), homes),
            works=self._works.by_index(BY_IMPORT, key),
            held=self._imports.get(key),
            members=members,
            namespaced=namespace is not None and not namespace["metadata"].get("deletionTimestamp"),
            template=self._templates.get(key),
            copies=[
                found
                for found in self._works.by_index(BY_FOLLOWER, (SERVICE_EXPORTS.kind, *key))
                if not found["metadata"].get("deletionTimestamp")
            ],
        )
        return await self._executor.apply(plan(key, known, rfc3339(self._clock.now())))


def setup(manager: Manager) -> None:
    """Exports, their Works, our own imports and exports; every name when a member or its namespace comes or goes."""
    exported = manager.informer(EXPORTED_SERVICES)
    imports = manager.informer(SERVICE_IMPORTS)
    controller = manager.controller("imports", ImportReconciler(manager))
    controller.watches(EXPORTED_SERVICES, service_keys)
    for keys in (import_keys, export_keys):
        controller.watches(WORK_DOCUMENTS, keys, label_selector=f"!{BINDING_LABEL}")
    controller.watches(SERVICE_IMPORTS)
    controller.watches(SERVICE_EXPORTS)
    seen: dict[str, bool] = {}

    def everything(wanted: str = "") -> list[ObjectKey]:
        found = {key for one in exported.list() for key in service_keys(one)}
        found |= {document_key(one) for one in imports.list()}
        return sorted(key for key in found if not wanted or key.namespace == wanted)

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        if seen.get(cluster.metadata.name) == cluster.deleting:
            return []
        seen[cluster.metadata.name] = cluster.deleting
        return everything()

    def of_namespace(namespace: Any) -> list[ObjectKey]:
        return everything(namespace["metadata"]["name"])

    controller.watches(CLUSTERS, of_cluster)
    controller.watches(NAMESPACES, of_namespace)
