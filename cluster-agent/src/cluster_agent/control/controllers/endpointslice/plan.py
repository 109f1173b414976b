"""EndpointSlice: which slices to write for a Service. Pure.

A Service without a single endpoint keeps one empty slice, so that readers can tell `none` from `not looked at yet`.
"""

from collections.abc import Iterable, Mapping, Sequence

from cluster_agent.control.controllers.endpointslice import backends
from cluster_agent.control.controllers.endpointslice.packing import Packed, Packing, pack
from machinery.api.core import Pod
from machinery.api.discovery_kinds import (
    ENDPOINTSLICES,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
)
from machinery.api.service_kinds import Service
from machinery.controller.action import Action, Create, Delete, Patch
from machinery.meta.names import dns_subdomain
from machinery.meta.objectmeta import controller_of, owner_reference
from machinery.meta.resource import Document

MANAGER = "endpointslice-controller.k8s.io"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def plan(
    service: Service,
    pods: Iterable[Pod],
    zones: Mapping[str, str],
    existing: Sequence[EndpointSlice],
    trigger_time: str = "",
) -> list[Action]:
    """Writes that bring the slices of `service` in step. `existing` are those that this controller keeps.

    `trigger_time` is when the oldest of the changes that lead here happened, empty where that is not known.
    """
    if service.deleting or not backends.has_backends(service):
        return []
    chosen = list(backends.backends(service, pods, terminating=True))
    families = backends.families(service)
    mine = [one for one in existing if not one.deleting]
    actions: list[Action] = []
    for family in families:
        desired = [
            (backends.ports_of(pod, service), backends.endpoint_of(pod, service, address, zones))
            for pod in chosen
            if (address := backends.address_of(pod, family))
        ]
        packing = pack(desired, [one for one in mine if one.address_type == family])
        actions += _writes(service, family, packing, trigger_time)
    return actions + [_delete(one) for one in mine if one.address_type not in families]


def _writes(
    service: Service, family: str, packing: Packing, trigger_time: str
) -> list[Action]:  # fmt: skip
    if not packing.slices:
        packing.slices.append(Packed(None, (), [], write=True))
    _reuse(service, packing)
    labels = slice_labels(service)
    actions: list[Action] = []
    for packed in packing.slices:
        if packed.kept is None:
            actions.append(_create(service, family, labels, packed, trigger_time))
        elif packed.write or packed.kept.metadata.labels != labels:
            actions.append(_update(packed.kept, labels, packed, trigger_time))
    return actions + [_delete(one) for one in packing.gone]


def _reuse(service: Service, packing: Packing) -> None:
    """Where one slice would go and another come, the one becomes the other: one write instead of two."""
    for packed in packing.slices:
        if packed.kept is not None:
            continue
        found = next((one for one in packing.gone if _is_ours(one, service)), None)
        if found is None:
            return
        packing.gone.remove(found)
        packed.kept = found
        packed.write = found.endpoints != tuple(packed.endpoints) or found.ports != packed.ports


def _is_ours(one: EndpointSlice, service: Service) -> bool:
    """Not a slice of an earlier Service of the same name, which the garbage collector is about to take."""
    owner = controller_of(one.metadata)
    return owner is not None and owner.uid == service.metadata.uid


# -------------------------------------------------------------------------------------------------------- wire shape
def slice_labels(service: Service, manager: str = MANAGER) -> dict[str, str]:
    """The labels of every slice of a Service."""
    own = {SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: manager}
    return backends.service_labels(service) | own


def slice_prefix(name: str) -> str:
    """`name-`, or the bare name where that leaves no room."""
    return f"{name}-" if not dns_subdomain(f"{name}-x") else name


def _create(
    service: Service, family: str, labels: dict[str, str], packed: Packed, trigger_time: str
) -> Create:
    owner = Service(api_version="v1", kind="Service", metadata=service.metadata)
    metadata: Document = {
        "generateName": slice_prefix(service.metadata.name),
        "namespace": service.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(owner)],
    }
    if trigger_time:
        metadata["annotations"] = {TRIGGER_TIME: trigger_time}
    return Create(ENDPOINTSLICES, slice_document(metadata, family, packed))


def slice_document(metadata: Document, family: str, packed: Packed) -> Document:
    """A slice as it is created."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": [endpoint_wire(one) for one in packed.endpoints],
        "ports": ports_wire(packed.ports),
    }


def _update(
    kept: EndpointSlice, labels: dict[str, str], packed: Packed, trigger_time: str
) -> Patch:  # fmt: skip
    gone = {name: None for name in kept.metadata.labels if name not in labels}
    metadata: Document = {"labels": {**gone, **labels}}
    if trigger_time or TRIGGER_TIME in kept.metadata.annotations:
        metadata["annotations"] = {TRIGGER_TIME: trigger_time or None}
    patch: Document = {"metadata": metadata}
    if packed.write:
        patch["endpoints"] = [endpoint_wire(one) for one in packed.endpoints]
        if packed.ports != kept.ports:
            patch["ports"] = ports_wire(packed.ports)
    return Patch(
        ENDPOINTSLICES, kept.key, patch, resource_version=kept.metadata.resource_version
    )  # fmt: skip


def _delete(one: EndpointSlice) -> Delete:
    return Delete(ENDPOINTSLICES, one.key, uid=one.metadata.uid)


def endpoint_wire(endpoint: Endpoint) -> Document:
    """An endpoint in wire shape, without what it does not have."""
    conditions = endpoint.conditions
    told = {
        "ready": conditions.ready,
        "serving": conditions.serving,
        "terminating": conditions.terminating,
    }
    out: Document = {
        "addresses": list(endpoint.addresses),
        "conditions": {name: value for name, value in told.items() if value is not None},
    }
    if endpoint.hostname:
        out["hostname"] = endpoint.hostname
    if endpoint.target_ref is not None:
        target = endpoint.target_ref
        named = {"kind": target.kind, "namespace": target.namespace, "name": target.name}
        out["targetRef"] = {k: v for k, v in (*named.items(), ("uid", target.uid)) if v}
    if endpoint.node_name:
        out["nodeName"] = endpoint.node_name
    if endpoint.zone:
        out["zone"] = endpoint.zone
    if endpoint.hints is not None:
        out["hints"] = _hints_wire(endpoint.hints)
    return out


def _hints_wire(hints: EndpointHints) -> Document:
    both = {"forZones": hints.for_zones, "forNodes": hints.for_nodes}
    return {key: [{"name": one.name} for one in found] for key, found in both.items() if found}


def ports_wire(ports: Iterable[EndpointPort]) -> list[Document] | None:
    """Ports in wire shape; null for none, as upstream writes it."""
    found: list[Document] = []
    for port in ports:
        out: Document = {"name": port.name, "protocol": port.protocol}
        if port.port is not None:
            out["port"] = port.port
        if port.app_protocol is not None:
            out["appProtocol"] = port.app_protocol
        found.append(out)
    return found or None
