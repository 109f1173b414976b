"""Services and slices of the API into what the proxy serves."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from cluster_agent.node.proxy.inputs import endpoints, served
from cluster_agent.node.proxy.model import Endpoint, Service, ServicePort
from machinery.api import discovery_kinds, service_kinds

PORT = {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30_080}


def view(spec: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> service_kinds.Service:
    whole = {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [PORT], **spec}
    document = {
        "metadata": {"namespace": "demo", "name": "web"},
        "spec": whole,
        "status": status or {},
    }
    return msgspec.convert(document, service_kinds.Service)


def piece(name: str, *ends: Mapping[str, Any], **more: Any) -> discovery_kinds.EndpointSlice:
    document = {
        "metadata": {"namespace": "demo", "name": name, "labels": more.pop("labels", {})},
        "addressType": "IPv4",
        "endpoints": list(ends),
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        **more,
    }
    return msgspec.convert(document, discovery_kinds.EndpointSlice)


def end(ip: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions, "nodeName": "n1", "zone": "z1"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {}),
        ({"type": "NodePort"}, {"node_port": 30_080}),
        ({"sessionAffinity": "ClientIP"}, {"affinity_s": 10_800}),
        (
            {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            },
            {"affinity_s": 60},
        ),
        ({"internalTrafficPolicy": "Local"}, {"internal_local": True}),
        (
            {"type": "NodePort", "externalTrafficPolicy": "Local"},
            {"node_port": 30_080, "external_local": True},
        ),
        ({"externalIPs": ["192.0.2.1"]}, {"external_ips": ("192.0.2.1",)}),
        ({"clusterIPs": ["10.96.0.1", "fd96::1"]}, {"cluster_ips": ("10.96.0.1", "fd96::1")}),
    ],
    ids=[
        "plain",
        "node port",
        "affinity",
        "timeout",
        "internal",
        "external",
        "external ip",
        "dual",
    ],
)
def test_fields_of_a_service(spec: Mapping[str, Any], expected: dict[str, Any]) -> None:
    fields = {"cluster_ips": ("10.96.0.1",), **expected}
    port = ServicePort(80, "tcp", "http", fields.pop("node_port", 0))
    assert served(view(spec), []) == Service(ports=(port,), **fields)


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "clusterIP": "", "clusterIPs": []},
        {"clusterIP": "", "clusterIPs": []},
    ],
    ids=["headless", "external name", "no address yet"],
)
def test_services_that_are_not_served(spec: Mapping[str, Any]) -> None:
    assert served(view(spec), [piece("a", end("10.0.0.1"))]) is None


def test_load_balancer_addresses_are_served_for_that_type_only() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "lb.example"}]}}
    balanced, plain = (
        served(view({"type": "LoadBalancer"}, status), []),
        served(view({}, status), []),
    )
    assert balanced is not None
    assert plain is not None
    assert (balanced.external_ips, plain.external_ips) == (("192.0.2.9",), ())


def test_endpoints_of_several_slices() -> None:
    slices = [
        piece("a", end("10.0.0.2"), end("10.0.0.1", ready=False, serving=True, terminating=True)),
        piece("b", end("10.0.0.1", ready=True), {"addresses": []}),
        piece("c", end("10.1.0.1"), labels={"multicluster.kubernetes.io/source-cluster": "beta"}),
        piece("d", end("somewhere.example"), addressType="FQDN"),
        piece("e", end("10.0.0.7"), ports=[{"name": "https", "protocol": "TCP", "port": 1}]),
        piece("f", end("10.0.0.8"), ports=[{"name": "http", "protocol": "TCP"}]),
        piece("g", end("fd00::1"), addressType="IPv6"),
    ]
    assert endpoints(slices, "http", "TCP") == (
        Endpoint("10.0.0.1", 8080, node="n1", zone="z1"),
        Endpoint("10.0.0.2", 8080, node="n1", zone="z1"),
        Endpoint("10.1.0.1", 8080, node="n1", zone="z1", cluster="beta"),
        Endpoint("fd00::1", 8080, node="n1", zone="z1"),
    )


def test_conditions_are_carried() -> None:
    found = endpoints(
        [piece("a", end("10.0.0.1", ready=False, serving=True, terminating=True))], "http", "TCP"
    )
    assert [(e.ready, e.serving, e.terminating) for e in found] == [(False, True, True)]
