"""EndpointSlice mirroring: Endpoints that were written by hand, for a Service without selector, become slices.

Proxy and DNS read slices only; users who name the addresses behind a Service themselves still write Endpoints. Not mirrored:
Endpoints with the label `endpointslice.kubernetes.io/skip-mirror: "true"`, those of leader elections, and those of a Service
with a selector, whose slices another controller keeps. At most a thousand addresses a subset are taken over.
"""

from collections.abc import Sequence

from cluster_agent.control.controllers.endpointslice.backends import family_of
from cluster_agent.control.controllers.endpointslice.controller import service_key
from cluster_agent.control.controllers.endpointslice.packing import Packed, Ports, pack
from cluster_agent.control.controllers.endpointslice.plan import (
    TRIGGER_TIME,
    endpoint_wire,
    ports_wire,
    slice_document,
    slice_prefix,
)
from machinery.api.discovery_kinds import (
    ENDPOINTSLICES,
    HEADLESS_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from machinery.api.service_kinds import ENDPOINTS, SERVICES, EndpointAddress, Endpoints, Service
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import owner_reference
from machinery.meta.resource import Document, ObjectKey

MANAGER = "endpointslicemirroring-controller.k8s.io"
SELECTOR = f"{MANAGED_BY_LABEL}={MANAGER}"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
ADDRESSES_MAX = 1000
SERVICE_INDEX = "mirrored-service"


def plan(
    service: Service | None, written: Endpoints | None, existing: Sequence[EndpointSlice]
) -> list[Action]:
    """Slices that say what `written` says; none where it is not to be mirrored."""
    mine = [one for one in existing if not one.deleting]
    if service is None or written is None or not _is_mirrored(service, written):
        return [Delete(ENDPOINTSLICES, one.key, uid=one.metadata.uid) for one in mine]
    labels = _labels(written)
    desired = _desired(written)
    actions: list[Action] = []
    for family in ("IPv4", "IPv6"):
        held = [one for one in mine if one.address_type == family]
        packing = pack(desired.get(family, ()), held)
        for packed in packing.slices:
            if packed.kept is None:
                actions.append(_create(written, family, labels, packed))
            elif packed.write or packed.kept.metadata.labels != labels:
                actions.append(_update(packed.kept, labels, packed))
        actions += [Delete(ENDPOINTSLICES, one.key, uid=one.metadata.uid) for one in packing.gone]
    return actions


def _is_mirrored(service: Service, written: Endpoints) -> bool:
    metadata = written.metadata
    ours = metadata.labels.get(SKIP) != "true" and LEADER not in metadata.annotations
    return ours and not service.spec.selector and not service.deleting and not written.deleting


def _labels(written: Endpoints) -> dict[str, str]:
    kept = {k: v for k, v in written.metadata.labels.items() if k != HEADLESS_LABEL}
    return {**kept, SERVICE_NAME_LABEL: written.metadata.name, MANAGED_BY_LABEL: MANAGER}


def _desired(written: Endpoints) -> dict[str, list[tuple[Ports, Endpoint]]]:
    found: dict[str, list[tuple[Ports, Endpoint]]] = {}
    for subset in written.subsets:
        ports = tuple(
            EndpointPort(p.name, p.protocol, p.port, p.app_protocol) for p in subset.ports
        )
        both = [(one, True) for one in subset.addresses]
        both += [(one, False) for one in subset.not_ready_addresses]
        for address, ready in both[:ADDRESSES_MAX]:
            family = family_of(address.ip)
            if family:
                found.setdefault(family, []).append((ports, _endpoint(address, ready=ready)))
    return found


def _endpoint(address: EndpointAddress, *, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready),
        hostname=address.hostname,
        node_name=address.node_name,
        target_ref=address.target_ref,
    )


def _create(written: Endpoints, family: str, labels: dict[str, str], packed: Packed) -> Create:
    owner = Endpoints(api_version="v1", kind="Endpoints", metadata=written.metadata)
    notes = {k: v for k, v in written.metadata.annotations.items() if k != TRIGGER_TIME}
    metadata: Document = {
        "generateName": slice_prefix(written.metadata.name),
        "namespace": written.metadata.namespace,
        "labels": labels,
        "annotations": notes,
        "ownerReferences": [owner_reference(owner)],
    }
    return Create(ENDPOINTSLICES, slice_document(metadata, family, packed))


def _update(kept: EndpointSlice, labels: dict[str, str], packed: Packed) -> Patch:
    gone = {name: None for name in kept.metadata.labels if name not in labels}
    patch: Document = {
        "metadata": {"labels": {**gone, **labels}},
        "endpoints": [endpoint_wire(one) for one in packed.endpoints],
        "ports": ports_wire(packed.ports),
    }
    return Patch(
        ENDPOINTSLICES, kept.key, patch, resource_version=kept.metadata.resource_version
    )  # fmt: skip


class MirroringReconciler:
    """Read, plan, act; the key is the Service's, which the Endpoints share."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._services, self._endpoints = manager.informer(SERVICES), manager.informer(ENDPOINTS)
        self._slices = manager.informer(ENDPOINTSLICES, label_selector=SELECTOR)
        self._slices.add_index(SERVICE_INDEX, lambda one: [str(service_key(one))])
        self._expectations = Expectations(self._slices, manager.clock)

    async def reconcile(self, key: ObjectKey) -> Result:
        if not self._expectations.satisfied(key):
            return Result()
        existing = self._slices.by_index(SERVICE_INDEX, str(key))
        actions = plan(self._services.get(key), self._endpoints.get(key), existing)
        return await self._executor.apply(actions, on_done=self._expectations.note(key))


def setup(manager: Manager) -> None:
    """Watch Services, Endpoints and the mirrored slices."""
    builder = manager.controller("endpointslice-mirroring", MirroringReconciler(manager), workers=1)
    builder.watches(SERVICES).watches(ENDPOINTS)
    builder.watches(ENDPOINTSLICES, lambda one: [service_key(one)], label_selector=SELECTOR)
