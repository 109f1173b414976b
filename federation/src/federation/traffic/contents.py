"""What the federation sends into a member for one import: the ServiceImport, and the endpoints of all other clusters.

Addresses of the import are each member's own, so `spec.ips` is left out; the member's own endpoints are kept by the member
itself, which sees them sooner and without the federation. A port of a cluster only gets traffic of the import's port that
is the same in name, protocol and number: what is not, is left out of the cluster's slices. A cluster whose ports are all
left out gets no traffic; of a headless import its endpoints still have their names.

Names of slices follow from their content's kind (cluster, family, ports), so a slice never changes what may not change.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from federation.traffic import conflicts
from federation.traffic.conflicts import Export, routed
from federation.traffic.merge import Held, Merged
from machinery.api.discovery_kinds import MANAGED_BY_LABEL, Endpoint, EndpointPort
from machinery.api.fleet.multicluster import (
    CONFLICTS,
    EXPORTING_CLUSTERS,
    SERVICE_IMPORTS,
    SERVICE_NAME_LABEL,
    SLICE_MANAGER,
    SOURCE_CLUSTER_LABEL,
    ImportPort,
)
from machinery.meta.resource import Document, ObjectKey

ENDPOINTS_MAX = 100
"""Of one slice."""
TYPE_FROM = "ubernetes.io/import-type-from"
"""On a ServiceImport: the cluster that decided its type; empty when that one exports no longer."""
_Ports = tuple[tuple[str, str, int | None, str], ...]


def service_import(key: ObjectKey, merged: Merged) -> Document:
    """The ServiceImport without addresses and status, as the federation and every member has it."""
    told = {
        EXPORTING_CLUSTERS: ",".join(merged.clusters),
        CONFLICTS: json.dumps(conflicts.condition(merged.disagreements)),
        TYPE_FROM: merged.type_from,
    }
    return {
        "apiVersion": SERVICE_IMPORTS.api_version,
        "kind": SERVICE_IMPORTS.kind,
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": dict(merged.labels),
            "annotations": {**merged.annotations, **told},
        },
        "spec": _spec(merged),
    }


def _spec(merged: Merged) -> Document:
    spec: Document = {"type": merged.type, "ports": [_import_port(p) for p in merged.ports]}
    if merged.ip_families:
        spec["ipFamilies"] = list(merged.ip_families)
    spec["sessionAffinity"] = merged.session_affinity or "None"
    if merged.session_affinity_config is not None:
        seconds = merged.session_affinity_config.client_ip.timeout_seconds
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
    if merged.internal_traffic_policy:
        spec["internalTrafficPolicy"] = merged.internal_traffic_policy
    if merged.traffic_distribution:
        spec["trafficDistribution"] = merged.traffic_distribution
    return spec


def _import_port(port: ImportPort) -> Document:
    document: Document = {"port": port.port, "protocol": port.protocol}
    if port.name:
        document["name"] = port.name
    if port.app_protocol:
        document["appProtocol"] = port.app_protocol
    return document


def held(document: Document | None) -> Held | None:
    """What a ServiceImport that was sent says about its type, and who decided it."""
    if document is None:
        return None
    annotations = document["metadata"].get("annotations") or {}
    return Held(document["spec"]["type"], annotations.get(TYPE_FROM, ""))


def slices(key: ObjectKey, merged: Merged, member: str) -> list[Document]:
    """EndpointSlices of every cluster but `member`, in a fixed order."""
    return others(by_cluster(key, merged), member)


def by_cluster(key: ObjectKey, merged: Merged) -> dict[str, list[Document]]:
    """EndpointSlices of each exporting cluster: made once, for all members."""
    ordered = sorted(merged.exports, key=lambda e: e.cluster)
    return {export.cluster: list(_of_export(key, merged, export)) for export in ordered}


def others(found: Mapping[str, Sequence[Document]], member: str) -> list[Document]:
    """All that are not the member's own."""
    return [one for cluster, those in found.items() if cluster != member for one in those]


def _of_export(key: ObjectKey, merged: Merged, export: Export) -> Iterable[Document]:
    groups: dict[tuple[str, _Ports], list[Endpoint]] = {}
    open_ports = _open(merged, export)
    for found in export.spec.slices:
        ports = tuple(sorted((_port(p) for p in found.ports if p.name in open_ports), key=repr))
        if ports or merged.headless:
            groups.setdefault((found.address_type, ports), []).extend(found.endpoints)
    for (family, ports), endpoints in sorted(groups.items(), key=lambda item: repr(item[0])):
        ordered = sorted(endpoints, key=lambda e: e.addresses)
        for start in range(0, len(ordered), ENDPOINTS_MAX):
            part = ordered[start : start + ENDPOINTS_MAX]
            name = _name(key.name, export.cluster, (family, ports, start))
            yield _slice(key, export.cluster, name, family, ports, part)


def _open(merged: Merged, export: Export) -> frozenset[str]:
    """Names of the cluster's ports that the import has exactly so."""
    wanted = {routed(port) for port in merged.ports}
    return frozenset(port.name for port in export.spec.ports if routed(port) in wanted)


def _port(port: EndpointPort) -> tuple[str, str, int | None, str]:
    return (port.name, port.protocol, port.port, port.app_protocol or "")


def _name(service: str, cluster: str, content: object) -> str:
    digest = hashlib.sha256(repr((service, cluster, content)).encode()).hexdigest()[:10]
    return f"{service}-{cluster}"[:240].rstrip("-.") + f"-{digest}"


def _slice(
    key: ObjectKey,
    cluster: str,
    name: str,
    family: str,
    ports: _Ports,
    endpoints: Iterable[Endpoint],
) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": key.namespace,
            "labels": {
                SERVICE_NAME_LABEL: key.name,
                SOURCE_CLUSTER_LABEL: cluster,
                MANAGED_BY_LABEL: SLICE_MANAGER,
            },
        },
        "addressType": family,
        "ports": [_endpoint_port(*port) for port in ports],
        "endpoints": [_endpoint(endpoint) for endpoint in endpoints],
    }


def _endpoint_port(name: str, protocol: str, port: int | None, app: str) -> Document:
    document: Document = {"name": name, "protocol": protocol}
    if port is not None:
        document["port"] = port
    return document | ({"appProtocol": app} if app else {})


def _endpoint(endpoint: Endpoint) -> Document:
    document: Document = {
        "addresses": list(endpoint.addresses),
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
    }
    fields = (
        ("hostname", endpoint.hostname),
        ("nodeName", endpoint.node_name),
        ("zone", endpoint.zone),
    )
    return document | {name: value for name, value in fields if value}
