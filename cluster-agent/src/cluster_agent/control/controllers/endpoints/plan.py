"""Endpoints: one object a Service, at most a thousand addresses. Pure.

Pods with the same ports stand in one subset, ready ones apart from the others. What does not fit is left out and the
annotation `endpoints.kubernetes.io/over-capacity: truncated` says so; readers that must see all read EndpointSlices.
"""

import math
from collections.abc import Iterable, Sequence

from cluster_agent.control.controllers.endpointslice import backends
from cluster_agent.control.controllers.pods import is_ready
from machinery.api.core import Pod
from machinery.api.service_kinds import (
    ENDPOINTS,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Service,
)
from machinery.controller.action import Action, Create, Delete, Patch
from machinery.meta.resource import Document, ObjectKey

ADDRESSES_MAX = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def plan(
    key: ObjectKey,
    service: Service | None,
    pods: Iterable[Pod],
    present: Endpoints | None,
    trigger_time: str = "",
) -> list[Action]:
    """The write that brings the Endpoints of the Service `key` in step, if any."""
    if service is None:
        return [] if present is None else [Delete(ENDPOINTS, key, uid=present.metadata.uid)]
    if service.deleting or not backends.has_backends(service):
        return []
    subsets, cut = truncated(subsets_of(service, pods))
    labels = {**backends.service_labels(service), MANAGED_BY: MANAGER}
    if present is None:
        return [_create(service, labels, subsets, trigger_time, cut=cut)]
    said = present.metadata.annotations.get(OVER_CAPACITY)
    if (
        present.subsets == subsets
        and present.metadata.labels == labels
        and (said == "truncated") == cut
    ):
        return []
    return [_update(present, labels, subsets, trigger_time, cut=cut)]


# ------------------------------------------------------------------------------------------------------------ subsets
def subsets_of(service: Service, pods: Iterable[Pod]) -> tuple[EndpointSubset, ...]:
    """The pods of a Service in subsets of the same ports."""
    family = backends.families(service)[0]
    lenient = service.spec.publish_not_ready_addresses
    groups: dict[tuple[EndpointPort, ...], tuple[list[EndpointAddress], list[EndpointAddress]]] = {}
    for pod in backends.backends(service, pods, terminating=lenient):
        address = backends.address_of(pod, family)
        ports = _ports(pod, service)
        if not address or (service.spec.ports and not ports):
            continue
        ready, waiting = groups.setdefault(ports, ([], []))
        one = EndpointAddress(
            address,
            backends.hostname_of(pod, service),
            pod.spec.node_name,
            backends.reference(pod),
        )
        (ready if lenient or is_ready(pod) else waiting).append(one)
    return tuple(
        EndpointSubset(_sorted(ready), _sorted(waiting), ports)
        for ports, (ready, waiting) in sorted(groups.items(), key=lambda group: _rank(group[0]))
    )


def _ports(pod: Pod, service: Service) -> tuple[EndpointPort, ...]:
    found = [
        EndpointPort(one.port or 0, one.name, one.protocol, one.app_protocol)
        for one in backends.ports_of(pod, service)
    ]
    return tuple(sorted(found, key=lambda port: (port.name, port.protocol, port.port)))


def _rank(ports: Sequence[EndpointPort]) -> list[tuple[str, str, int]]:
    return [(port.name, port.protocol, port.port) for port in ports]


def _sorted(found: list[EndpointAddress]) -> tuple[EndpointAddress, ...]:
    return tuple(sorted(found, key=lambda one: (one.ip, one.target_ref.uid if one.target_ref else "")))  # fmt: skip


def truncated(subsets: tuple[EndpointSubset, ...]) -> tuple[tuple[EndpointSubset, ...], bool]:
    """(what fits, whether something was left out): the ready ones first, every subset by its share."""
    ready = sum(len(one.addresses) for one in subsets)
    waiting = sum(len(one.not_ready_addresses) for one in subsets)
    if ready + waiting <= ADDRESSES_MAX:
        return subsets, False
    of_ready = ready > ADDRESSES_MAX
    room = ADDRESSES_MAX if of_ready else ADDRESSES_MAX - ready
    total = ready if of_ready else waiting
    out: list[EndpointSubset] = []
    left = room
    for one in subsets:
        having = one.addresses if of_ready else one.not_ready_addresses
        share = min(math.ceil(len(having) / total * room), left)
        taken = having[:share]
        left -= len(taken)
        if of_ready:
            out.append(EndpointSubset(taken, (), one.ports))
        else:
            out.append(EndpointSubset(one.addresses, taken, one.ports))
    return tuple(one for one in out if one.addresses or one.not_ready_addresses), True


# --------------------------------------------------------------------------------------------------------- wire shape
def _create(
    service: Service,
    labels: dict[str, str],
    subsets: Iterable[EndpointSubset],
    trigger_time: str,
    *,
    cut: bool,
) -> Create:
    metadata: Document = {
        "name": service.metadata.name,
        "namespace": service.metadata.namespace,
        "labels": labels,
    }
    notes = {TRIGGER_TIME: trigger_time} if trigger_time else {}
    notes |= {OVER_CAPACITY: "truncated"} if cut else {}
    if notes:
        metadata["annotations"] = notes
    document = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": metadata,
        "subsets": [_subset_wire(one) for one in subsets],
    }
    return Create(ENDPOINTS, document)


def _update(
    present: Endpoints,
    labels: dict[str, str],
    subsets: Iterable[EndpointSubset],
    trigger_time: str,
    *,
    cut: bool,
) -> Patch:
    gone = {name: None for name in present.metadata.labels if name not in labels}
    notes: dict[str, str | None] = {}
    if trigger_time or TRIGGER_TIME in present.metadata.annotations:
        notes[TRIGGER_TIME] = trigger_time or None
    if cut or OVER_CAPACITY in present.metadata.annotations:
        notes[OVER_CAPACITY] = "truncated" if cut else None
    patch: Document = {
        "metadata": {"labels": {**gone, **labels}, "annotations": notes},
        "subsets": [_subset_wire(one) for one in subsets],
    }
    return Patch(
        ENDPOINTS, present.key, patch, resource_version=present.metadata.resource_version
    )  # fmt: skip


def _subset_wire(subset: EndpointSubset) -> Document:
    out: Document = {}
    if subset.addresses:
        out["addresses"] = [_address_wire(one) for one in subset.addresses]
    if subset.not_ready_addresses:
        out["notReadyAddresses"] = [_address_wire(one) for one in subset.not_ready_addresses]
    if subset.ports:
        out["ports"] = [_port_wire(one) for one in subset.ports]
    return out


def _address_wire(one: EndpointAddress) -> Document:
    out: Document = {"ip": one.ip}
    if one.hostname:
        out["hostname"] = one.hostname
    if one.node_name:
        out["nodeName"] = one.node_name
    if one.target_ref is not None:
        target = one.target_ref
        out["targetRef"] = {
            "kind": target.kind,
            "namespace": target.namespace,
            "name": target.name,
            "uid": target.uid,
        }
    return out


def _port_wire(port: EndpointPort) -> Document:
    out: Document = {"port": port.port, "protocol": port.protocol}
    if port.name:
        out["name"] = port.name
    if port.app_protocol is not None:
        out["appProtocol"] = port.app_protocol
    return out
