"""What a pod is to a Service: does it belong, under which address, with which ports, ready or not. Pure.

Shared by EndpointSlices and the older Endpoints, which say the same in two shapes.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from cluster_agent.control.controllers.pods import is_ready
from machinery.api.core import ObjectReference, Pod
from machinery.api.discovery_kinds import (
    HEADLESS_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    ForZone,
)
from machinery.api.service_kinds import Service, ServicePort

ENDED = ("Succeeded", "Failed")
SELECTOR_INDEX = "selector-label"
LABEL_INDEX = "label"
RESERVED_LABELS = frozenset({SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL})
SAME_ZONE = frozenset({"PreferClose", "PreferSameZone"})
SAME_NODE = "PreferSameNode"


# ----------------------------------------------------------------------------------------------------- who belongs
def has_backends(service: Service) -> bool:
    """Whether a controller keeps this Service's endpoints; else they are the user's, or there are none."""
    return service.spec.type != "ExternalName" and bool(service.spec.selector)


def selects(service: Service, pod: Pod) -> bool:
    return service.spec.selector.items() <= pod.metadata.labels.items()


def counts(pod: Pod, *, terminating: bool) -> bool:
    """Whether the pod can be an endpoint: it has an address and has not ended."""
    if pod.status.phase in ENDED or not pod.status.pod_ip:
        return False
    return terminating or not pod.deleting


def label_keys(namespace: str, labels: Mapping[str, str]) -> list[str]:
    """Index keys, one a label."""
    return [f"{namespace}/{key}={value}" for key, value in labels.items()]


def selector_key(service: Service) -> list[str]:
    """One label that every pod of the Service has; enough to find the Services of a pod."""
    first = sorted(service.spec.selector.items())[:1]
    return label_keys(service.metadata.namespace, dict(first))


# ------------------------------------------------------------------------------------------------------- what it is
def address_of(pod: Pod, family: str) -> str:
    """The pod's address of that family, or the empty string."""
    several = [one.ip for one in pod.status.pod_ips] or [pod.status.pod_ip]
    return next((ip for ip in several if ip and family_of(ip) == family), "")


def family_of(text: str) -> str:
    """IPv4 or IPv6; the empty string for what is no address."""
    try:
        return f"IPv{ipaddress.ip_address(text).version}"
    except ValueError:
        return ""


def families(service: Service) -> tuple[str, ...]:
    """The families of addresses that the Service is served in."""
    found = service.spec.ip_families
    if found:
        return found
    address = service.spec.cluster_ip
    return (family_of(address),) if address and not service.spec.headless else ("IPv4",)


def reference(pod: Pod) -> ObjectReference:
    metadata = pod.metadata
    return ObjectReference(
        kind="Pod", namespace=metadata.namespace, name=metadata.name, uid=metadata.uid
    )


def hostname_of(pod: Pod, service: Service) -> str:
    """The name under which DNS knows the pod below the Service, if it asks for one."""
    mine = pod.spec.subdomain == service.metadata.name
    return pod.spec.hostname if mine else ""


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """The number on the pod; None where the pod has no port of that name."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for one in container.ports:
            if one.name == port.target_port and one.protocol == port.protocol:
                return one.container_port
    return None


def ports_of(pod: Pod, service: Service) -> tuple[EndpointPort, ...]:
    """The Service's ports on this pod, without those that it does not have."""
    found: list[EndpointPort] = []
    for port in service.spec.ports:
        number = target_port(pod, port)
        if number is not None:
            found.append(EndpointPort(port.name, port.protocol, number, port.app_protocol))
    return tuple(found)


def endpoint_of(
    pod: Pod, service: Service, address: str, zones: Mapping[str, str]
) -> Endpoint:  # fmt: skip
    """The pod as an endpoint. `zones` are the nodes' zones."""
    serving, terminating = is_ready(pod), pod.deleting
    ready = service.spec.publish_not_ready_addresses or (serving and not terminating)
    node = pod.spec.node_name
    zone = zones.get(node, "")
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready, serving, terminating),
        hostname=hostname_of(pod, service),
        node_name=node,
        zone=zone,
        target_ref=reference(pod),
        hints=_hints(service.spec.traffic_distribution, zone, node) if ready else None,
    )


def _hints(distribution: str, zone: str, node: str) -> EndpointHints | None:
    """For whom the endpoint is meant where traffic is to stay near."""
    if distribution not in SAME_ZONE and distribution != SAME_NODE:
        return None
    zones = (ForZone(zone),) if zone else ()
    nodes = (ForZone(node),) if node and distribution == SAME_NODE else ()
    return EndpointHints(zones, nodes) if zones or nodes else None


def service_labels(service: Service) -> dict[str, str]:
    """The Service's own labels on what is kept for it, and whether it is headless."""
    labels = {k: v for k, v in service.metadata.labels.items() if k not in RESERVED_LABELS}
    if service.spec.headless or not service.spec.cluster_ip:
        labels[HEADLESS_LABEL] = ""
    return labels


def backends(service: Service, pods: Iterable[Pod], *, terminating: bool) -> Iterator[Pod]:
    """The pods that are endpoints of the Service, oldest first: an order that does not depend on who lists them."""
    chosen = [p for p in pods if selects(service, p) and counts(p, terminating=terminating)]
    yield from sorted(chosen, key=_age)


def _age(pod: Pod) -> tuple[float, str]:
    created = pod.metadata.creation_timestamp
    return (created.timestamp() if created is not None else 0.0, pod.metadata.name)
