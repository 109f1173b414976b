"""The kinds of services over clusters as they are served: paths, columns and schemas.

`MEMBER` are served by members as well as by the federation; ExportedService only stands at the federation, where the
members' links write it.
"""

from machinery.api.fleet.schema import (
    AGE,
    CONDITIONS,
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    array,
    choice,
    mapping,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind, face

_LISTED = {"x-kubernetes-list-type": "atomic"}
PROTOCOL: Schema = choice("TCP", "UDP", "SCTP") | {"default": "TCP"}
PORT_NUMBER: Schema = NUMBER | {"minimum": 1, "maximum": 65535}
PORT = struct(("port",), name=TEXT, protocol=PROTOCOL, appProtocol=TEXT, port=PORT_NUMBER)
AFFINITY_CONFIG = struct(clientIP=struct(timeoutSeconds=NUMBER | {"minimum": 1, "maximum": 86400}))
_TRAFFIC: dict[str, Schema] = {
    "sessionAffinity": choice("None", "ClientIP"),
    "sessionAffinityConfig": AFFINITY_CONFIG,
    "internalTrafficPolicy": choice("Cluster", "Local"),
    "trafficDistribution": TEXT,
}
_FAMILIES = array(choice("IPv4", "IPv6"), maxItems=2) | _LISTED
SERVICE_TYPE = choice("ClusterSetIP", "Headless")

SERVICE_EXPORT = served(
    "multicluster.x-k8s.io/v1beta1", "ServiceExport", "serviceexports", "svcex svcexport",
    namespaced=True, spec_required=False,
    spec=struct(exportedLabels=mapping(TEXT), exportedAnnotations=mapping(TEXT)),
    status=struct(conditions=CONDITIONS),
    columns=(
        Column("Valid", "string", '.status.conditions[?(@.type=="Valid")].status'),
        Column("Conflict", "string", '.status.conditions[?(@.type=="Conflict")].status'),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        AGE,
    ),
)  # fmt: skip
SERVICE_IMPORT = served(
    "multicluster.x-k8s.io/v1beta1", "ServiceImport", "serviceimports", "svcim svcimport",
    namespaced=True, spec_required=False,
    spec=struct(
        ("type", "ports"),
        ports=array(PORT) | _LISTED, ips=array(TEXT, maxItems=2) | _LISTED, ipFamilies=_FAMILIES,
        type=SERVICE_TYPE, **_TRAFFIC,
    ),
    status=struct(
        clusters=array(struct(("cluster",), cluster=TEXT))
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["cluster"]},
        conditions=CONDITIONS,
    ),
    columns=(
        Column("Type", "string", ".spec.type"),
        Column("IP", "string", "{.spec.ips[*]}"),
        Column("Clusters", "string", "{.status.clusters[*].cluster}"),
        AGE,
    ),
)  # fmt: skip
CLUSTER_PROPERTY = served(
    "about.k8s.io/v1", "ClusterProperty", "clusterproperties", "", namespaced=False,
    spec=struct(("value",), value=TEXT | {"maxLength": 128_000, "minLength": 1}),
    columns=(Column("Value", "string", ".spec.value"), AGE),
)  # fmt: skip

_ENDPOINT = struct(
    ("addresses",),
    addresses=array(TEXT),
    conditions=struct(ready=FLAG, serving=FLAG, terminating=FLAG),
    hostname=TEXT, nodeName=TEXT, zone=TEXT,
)  # fmt: skip
EXPORTED_SERVICE = served(
    "ubernetes.io/v1alpha1", "ExportedService", "exportedservices", "", namespaced=True,
    spec=struct(
        ("service", "type"),
        service=struct(("namespace", "name"), namespace=TEXT, name=TEXT),
        exportedAt=TIME, type=SERVICE_TYPE, ports=array(PORT), ipFamilies=_FAMILIES, **_TRAFFIC,
        exportedLabels=mapping(TEXT), exportedAnnotations=mapping(TEXT),
        slices=array(
            struct(
                addressType=choice("IPv4", "IPv6"),
                ports=array(struct(name=TEXT, protocol=TEXT, port=NUMBER, appProtocol=TEXT)),
                endpoints=array(_ENDPOINT),
            )
        ),
    ),
    columns=(
        Column("Type", "string", ".spec.type"),
        Column("Exported", "date", ".spec.exportedAt"),
        AGE,
    ),
)  # fmt: skip
_PEER = struct(
    ("cluster", "path"),
    cluster=TEXT, path=choice("Direct", "Gateway", "Unreachable"), reason=TEXT,
    gatewaysUp=NUMBER, gateways=NUMBER, nodesUp=NUMBER, nodes=NUMBER,
)  # fmt: skip
CLUSTER_NETWORK = served(
    "ubernetes.io/v1alpha1", "ClusterNetwork", "clusternetworks", "cn", namespaced=False,
    spec=struct(
        gateways=array(struct(("address",), node=TEXT, address=TEXT, port=PORT_NUMBER)),
        nodes=array(struct(("node",), node=TEXT, cidrs=array(TEXT), probe=TEXT)),
        directRoutes=choice("Enabled", "Disabled"),
    ),
    status=struct(peers=array(_PEER), summary=TEXT, observedAt=TIME),
    columns=(
        Column("Gateways", "string", "{.spec.gateways[*].address}"),
        Column("Peers", "string", ".status.summary"),
        AGE,
    ),
)  # fmt: skip

OLDER = (face(SERVICE_EXPORT, "v1alpha1"), face(SERVICE_IMPORT, "v1alpha1"))
"""For clients that know nothing newer, such as the multicluster plugin of CoreDNS."""
MEMBER: tuple[ServedKind, ...] = (
    SERVICE_EXPORT, SERVICE_IMPORT, *OLDER, CLUSTER_PROPERTY, CLUSTER_NETWORK,
)  # fmt: skip
MULTICLUSTER: tuple[ServedKind, ...] = (*MEMBER, EXPORTED_SERVICE)
