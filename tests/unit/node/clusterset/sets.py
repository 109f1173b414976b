"""Imports, slices and peers as tables of tests write them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cluster_agent.node.clusterset.paths import PeerPath, choose_path
from cluster_agent.node.clusterset.plan import World
from cluster_agent.node.gateway.model import EgressKey, PeerState, Target
from machinery.api.discovery_kinds import EndpointSlice
from machinery.api.fleet.multicluster import (
    SERVICE_NAME_LABEL,
    SOURCE_CLUSTER_LABEL,
    ClusterNetworkSpec,
    GatewayAddress,
    NodeRange,
    ServiceImport,
)

HTTP = {"name": "http", "protocol": "TCP", "port": 80}
DNS = {"name": "dns", "protocol": "UDP", "port": 53}


def site(
    cluster: int, nodes: int = 1, gateways: int = 1, routes: str = "Enabled"
) -> ClusterNetworkSpec:
    """Cluster 1 has its pods in 10.1.0.0/16, a /24 a node."""
    return ClusterNetworkSpec(
        gateways=tuple(
            GatewayAddress(f"n{i}", f"192.0.2.{10 * cluster + i}") for i in range(gateways)
        ),
        nodes=tuple(
            NodeRange(f"n{i}", (f"10.{cluster}.{i}.0/24",), f"10.{cluster}.{i}.1")
            for i in range(nodes)
        ),
        direct_routes=routes,
    )


def state(spec: ClusterNetworkSpec, nodes: str = "", gateways: str = "") -> PeerState:
    """`10`: the first answers, the second does not."""
    return PeerState(
        {
            f"{g.address}:{g.port}": up == "1"
            for g, up in zip(spec.gateways, gateways, strict=False)
        },
        {n.node: up == "1" for n, up in zip(spec.nodes, nodes, strict=False)},
    )


def path(
    cluster: int, name: str, nodes: str = "", gateways: str = "", routes: str = "Enabled"
) -> PeerPath:
    """A way as it is when it is first looked at."""
    spec = site(cluster, len(nodes), len(gateways), routes)
    return choose_path(name, spec, state(spec, nodes, gateways), None, 0.0)


def imported(*ports: Mapping[str, Any], **spec: Any) -> ServiceImport:
    document = {
        "metadata": {"namespace": "demo", "name": "web", "uid": "u1"},
        "spec": {
            "type": "ClusterSetIP",
            "ips": ["10.99.0.1"],
            "ports": list(ports or (HTTP,)),
            **spec,
        },
    }
    return msgspec.convert(document, ServiceImport)


def end(ip: str, node: str = "n0", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions, "nodeName": node}


def piece(
    cluster: str, *ends: Mapping[str, Any], port: Mapping[str, Any] = HTTP, **more: Any
) -> EndpointSlice:
    labels = {SERVICE_NAME_LABEL: "web", SOURCE_CLUSTER_LABEL: cluster}
    document = {
        "metadata": {
            "namespace": "demo",
            "name": f"web-{cluster}-{port['name']}",
            "labels": labels,
        },
        "addressType": "IPv4",
        "endpoints": list(ends),
        "ports": [{**port, "port": 8080}],
        **more,
    }
    return msgspec.convert(document, EndpointSlice)


def listener(key: EgressKey) -> Target | None:
    """Cluster `beta` is at 20002, `gamma` at 20003, and nobody else is ready."""
    return {"beta": Target("169.254.20.11", 20_002), "gamma": Target("169.254.20.11", 20_003)}.get(
        key.cluster
    )


def world(*paths: PeerPath) -> World:
    return World("alpha", {p.cluster: p for p in paths}, listener)
