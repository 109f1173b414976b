"""Slices of the member's own endpoints for its imports, so that they follow at once and without the federation.

Where this cluster exports a Service, each of the Service's EndpointSlices has a copy that belongs to the ServiceImport:
with the labels of the multi-cluster API, and without the Service's own, so that nobody takes it for the Service's. Only
endpoints that are ready or still serving are copied, and only ports that the import has with the same name, protocol and
number: a port that another cluster won gets no traffic here. The copies go when the export, the Service or the import goes.

Slices of other clusters come by Works, which cannot know the import's uid: this controller makes the import their owner,
too, and changes nothing else of them.
"""

import hashlib
from collections.abc import Iterable, Sequence

from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.endpointslice.packing import Packed
from cluster_agent.control.controllers.endpointslice.plan import (
    endpoint_wire,
    ports_wire,
    slice_document,
)
from cluster_agent.control.controllers.imports import watch_name
from machinery.api.discovery_kinds import (
    ENDPOINTSLICES,
    MANAGED_BY_LABEL,
    Endpoint,
    EndpointPort,
    EndpointSlice,
)
from machinery.api.fleet.multicluster import (
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    SERVICE_NAME_LABEL,
    SLICE_MANAGER,
    SOURCE_CLUSTER_LABEL,
    ServiceExport,
    ServiceImport,
)
from machinery.api.service_kinds import SERVICES, Service
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.errors import Forbidden
from machinery.meta.objectmeta import ObjectMeta, owner_reference
from machinery.meta.resource import Document, ObjectKey

ADDRESS_TYPES = ("IPv4", "IPv6")
BY_SERVICE, BY_IMPORT = "service-of-slice", "import-of-slice"
NAME_MAX = 240


def plan(
    imported: ServiceImport | None,
    export: ServiceExport | None,
    service: Service | None,
    sources: Iterable[EndpointSlice],
    existing: Sequence[EndpointSlice],
    cluster: str,
) -> list[Action]:
    """`sources` are the Service's slices, `existing` all that carry the import's label; `cluster` is this member."""
    mine = {
        one.metadata.name: one
        for one in existing
        if one.metadata.labels.get(SOURCE_CLUSTER_LABEL) == cluster
    }
    if imported is None or imported.deleting:
        return [_delete(one) for one in mine.values() if not one.deleting]
    wanted: dict[str, EndpointSlice] = {}
    if export is not None and not export.deleting and service is not None:
        wanted = copies(imported, service, sources, cluster)
    actions: list[Action] = []
    for name, one in wanted.items():
        held = mine.get(name)
        if held is None:
            actions.append(_create(imported, one))
        elif not held.deleting:
            actions += _update(imported, one, held)
    actions += [_delete(o) for name, o in mine.items() if name not in wanted and not o.deleting]
    foreign = [one for one in existing if one.metadata.name not in mine]
    return actions + [a for one in foreign for a in _adopt(imported, one)]


def copies(
    imported: ServiceImport, service: Service, sources: Iterable[EndpointSlice], cluster: str
) -> dict[str, EndpointSlice]:
    """The copies of a Service's slices, by name."""
    if service.deleting or service.spec.type == "ExternalName":
        return {}
    names = open_ports(imported, service)
    found: dict[str, EndpointSlice] = {}
    for source in sources:
        if source.address_type not in ADDRESS_TYPES or source.deleting:
            continue
        ports = tuple(port for port in source.ports if port.name in names)
        endpoints = tuple(_copied(e) for e in source.endpoints if e.ready or e.serving)
        if endpoints and (ports or imported.spec.headless):
            name = copy_name(imported.key, cluster, source)
            found[name] = _slice(name, imported.key, cluster, source.address_type, ports, endpoints)
    return found


def open_ports(imported: ServiceImport, service: Service) -> frozenset[str]:
    """Names of the Service's ports that the import has exactly so."""
    wanted = {(port.name, port.protocol, port.port) for port in imported.spec.ports}
    return frozenset(
        port.name for port in service.spec.ports if (port.name, port.protocol, port.port) in wanted
    )


def copy_name(key: ObjectKey, cluster: str, source: EndpointSlice) -> str:
    """Always the same for one source, so that a create that is repeated makes no second copy."""
    text = f"{key.name}/{cluster}/{source.metadata.name}/{source.address_type}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{key.name}-{cluster}"[:NAME_MAX].rstrip("-.") + f"-{digest}"


def _copied(endpoint: Endpoint) -> Endpoint:
    """Without hints: they share the Service's endpoints out among the zones of this cluster alone."""
    return Endpoint(
        endpoint.addresses,
        endpoint.conditions,
        endpoint.hostname,
        endpoint.node_name,
        endpoint.zone,
        endpoint.target_ref,
    )


def _slice(  # noqa: PLR0913 - a slice's fields
    name: str,
    key: ObjectKey,
    cluster: str,
    family: str,
    ports: tuple[EndpointPort, ...],
    endpoints: tuple[Endpoint, ...],
) -> EndpointSlice:
    labels = {
        SERVICE_NAME_LABEL: key.name,
        SOURCE_CLUSTER_LABEL: cluster,
        MANAGED_BY_LABEL: SLICE_MANAGER,
    }
    metadata = ObjectMeta(name=name, namespace=key.namespace, labels=labels)
    return EndpointSlice(metadata=metadata, address_type=family, endpoints=endpoints, ports=ports)


# ----------------------------------------------------------------------------------------------------------- wire shape
def _owner(imported: ServiceImport) -> Document:
    owner = ServiceImport(
        api_version=SERVICE_IMPORTS.api_version,
        kind=SERVICE_IMPORTS.kind,
        metadata=imported.metadata,
    )
    return owner_reference(owner)


def _create(imported: ServiceImport, one: EndpointSlice) -> Create:
    metadata: Document = {
        "name": one.metadata.name,
        "namespace": one.metadata.namespace,
        "labels": dict(one.metadata.labels),
        "ownerReferences": [_owner(imported)],
    }
    packed = Packed(None, one.ports, list(one.endpoints))
    document = slice_document(metadata, one.address_type, packed)
    return Create(ENDPOINTSLICES, document, exists_ok=True)


def _update(imported: ServiceImport, one: EndpointSlice, held: EndpointSlice) -> list[Action]:
    patch: Document = {}
    if held.endpoints != one.endpoints:
        patch["endpoints"] = [endpoint_wire(endpoint) for endpoint in one.endpoints]
    if held.ports != one.ports:
        patch["ports"] = ports_wire(one.ports)
    metadata: Document = {}
    if held.metadata.labels != one.metadata.labels:
        gone = {name: None for name in held.metadata.labels if name not in one.metadata.labels}
        metadata["labels"] = {**gone, **one.metadata.labels}
    if not _is_owned(held, imported):
        metadata["ownerReferences"] = [_owner(imported)]
    if metadata:
        patch["metadata"] = metadata
    if not patch:
        return []
    return [Patch(ENDPOINTSLICES, held.key, patch, resource_version=held.metadata.resource_version)]


def _adopt(imported: ServiceImport, one: EndpointSlice) -> list[Action]:
    if one.deleting or _is_owned(one, imported):
        return []
    patch = {"metadata": {"ownerReferences": [_owner(imported)]}}
    return [Patch(ENDPOINTSLICES, one.key, patch, resource_version=one.metadata.resource_version)]


def _is_owned(one: EndpointSlice, imported: ServiceImport) -> bool:
    return any(r.uid == imported.metadata.uid for r in one.metadata.owner_references)


def _delete(one: EndpointSlice) -> Delete:
    return Delete(ENDPOINTSLICES, one.key, uid=one.metadata.uid)


# ---------------------------------------------------------------------------------------------------------------- doing
def service_keys(one: EndpointSlice) -> list[ObjectKey]:
    """The Service of a slice; none for slices of imports."""
    name = one.service_name
    return [ObjectKey(one.metadata.namespace, name)] if name else []


def import_keys(one: EndpointSlice) -> list[ObjectKey]:
    """The import of a slice that is kept for one."""
    labels = one.metadata.labels
    name = labels.get(SERVICE_NAME_LABEL, "")
    ours = name and labels.get(MANAGED_BY_LABEL) == SLICE_MANAGER
    return [ObjectKey(one.metadata.namespace, name)] if ours else []


class ClustersetSlicesReconciler:
    """Read, plan, act; the key is the import's, which Service and export share."""

    def __init__(self, manager: Manager, cluster: str) -> None:
        self._executor, self._cluster = manager.executor, cluster
        self._imports = manager.informer(SERVICE_IMPORTS)
        self._exports = manager.informer(SERVICE_EXPORTS)
        self._services = manager.informer(SERVICES)
        self._slices = manager.informer(ENDPOINTSLICES)
        self._slices.add_index(BY_SERVICE, service_keys)
        self._slices.add_index(BY_IMPORT, import_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        actions = plan(
            self._imports.get(key),
            self._exports.get(key),
            self._services.get(key),
            self._slices.by_index(BY_SERVICE, key),
            self._slices.by_index(BY_IMPORT, key),
            self._cluster,
        )
        try:
            return await self._executor.apply(actions)
        except Forbidden as error:
            if not is_namespace_terminating(error):
                raise
            return Result()  # its slices go before its imports do, and must not come back


def setup(manager: Manager, cluster: str) -> None:
    """Watch imports, their slices, and what else is named like an import."""
    reconciler = ClustersetSlicesReconciler(manager, cluster)
    builder = manager.controller("clustersetslices", reconciler)
    imports, slices = manager.informer(SERVICE_IMPORTS), manager.informer(ENDPOINTSLICES)
    builder.watches(SERVICE_IMPORTS)
    builder.watches(ENDPOINTSLICES, import_keys)
    watch_name(builder, manager.informer(SERVICE_EXPORTS), imports)
    watch_name(builder, manager.informer(SERVICES), imports)

    def on_slice(old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for key in {key for one in (old, new) if one is not None for key in service_keys(one)}:
            if imports.get(key) is not None:
                builder.enqueue(key)

    slices.on_change(on_slice)
