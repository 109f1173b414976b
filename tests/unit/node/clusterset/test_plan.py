"""What imports and exports mean on a node: tables."""

from typing import Any

import msgspec
import pytest
from tests.unit.node.clusterset.sets import (
    DNS,
    HTTP,
    end,
    imported,
    path,
    piece,
    site,
    state,
    world,
)

from cluster_agent.node.clusterset.paths import PeerPath, choose_path
from cluster_agent.node.clusterset.plan import (
    Remark,
    import_of,
    import_plan,
    ingress,
    shown,
    sites,
)
from cluster_agent.node.gateway.model import EgressKey, Ingress, Target
from cluster_agent.node.proxy.model import Endpoint
from machinery.api import discovery_kinds, service_kinds
from machinery.api.discovery_kinds import EndpointSlice
from machinery.api.fleet.multicluster import (
    ClusterNetworkSpec,
    GatewayAddress,
    NodeRange,
    port_name,
)

OWN = piece("alpha", end("10.0.0.1", "here"), end("10.0.0.2", "there"))
BETA = piece("beta", end("10.1.0.1"), end("10.1.0.2"), end("10.1.1.1", "n1"))
GAMMA = piece("gamma", end("10.2.0.1"))
WEB = port_name("alpha", "demo", "web", 80)
BY_GATEWAY = {"beta": "169.254.20.11:20002", "gamma": "169.254.20.11:20003"}


def shares(
    slices: list[EndpointSlice], *paths: PeerPath, number: int = 0, **spec: Any
) -> dict[str, int]:
    """Who gets new connections of a port, and how many shares."""
    plan = import_plan(imported(**spec), slices, world(*paths))
    assert plan.service is not None
    return {f"{e.ip}:{e.port}": e.weight for e in plan.service.ports[number].endpoints}


OWN_SHARES = {"10.0.0.1:8080": 1, "10.0.0.2:8080": 1}


@pytest.mark.parametrize(
    ("slices", "paths", "expected"),
    [
        pytest.param([OWN], [], OWN_SHARES, id="own alone"),
        pytest.param([OWN, BETA], [], OWN_SHARES, id="a peer without a network"),
        pytest.param(
            [OWN, BETA], [path(1, "beta", "11", "1")],
            OWN_SHARES | {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "10.1.1.1:8080": 1}, id="direct",
        ),
        pytest.param(
            [OWN, BETA], [path(1, "beta", "00", "1")], OWN_SHARES | {BY_GATEWAY["beta"]: 3},
            id="gateway: all behind it",
        ),
        pytest.param(
            [OWN, BETA], [path(1, "beta", "10", "1")],
            OWN_SHARES | {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, BY_GATEWAY["beta"]: 1},
            id="one node is not routed",
        ),
        pytest.param(
            [OWN, BETA], [path(1, "beta", "10", "0")],
            OWN_SHARES | {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}, id="nor is there a gateway",
        ),
        pytest.param([OWN, BETA], [path(1, "beta", "00", "0")], OWN_SHARES, id="unreachable"),
        pytest.param(
            [OWN, BETA, GAMMA], [path(1, "beta", "0", "1"), path(2, "gamma", "0", "1")],
            OWN_SHARES | {BY_GATEWAY["beta"]: 3, BY_GATEWAY["gamma"]: 1}, id="two by gateways",
        ),
        pytest.param(
            [GAMMA], [path(2, "gamma", "0", "0")], {BY_GATEWAY["gamma"]: 1},
            id="nobody left: kept at its gateway",
        ),
        pytest.param(
            [piece("alpha", end("10.0.0.1", ready=False)), GAMMA], [path(2, "gamma", "0", "0")],
            {"10.0.0.1:8080": 1, BY_GATEWAY["gamma"]: 1}, id="own ones are not ready: kept",
        ),
        pytest.param([GAMMA], [path(2, "gamma", "0", "")], {}, id="nothing was ever proven"),
        pytest.param(
            [piece("beta", end("192.0.2.200"))], [path(1, "beta", "1", "1")],
            {BY_GATEWAY["beta"]: 1}, id="not in a pod range: never directly",
        ),
        pytest.param(
            [piece("delta", end("10.3.0.1"))], [path(3, "delta", "0", "1")], {},
            id="its listener is not there yet",
        ),
        pytest.param(
            [piece("beta", end("10.1.0.1", ready=False, serving=True, terminating=True))],
            [path(1, "beta", "0", "1")], {BY_GATEWAY["beta"]: 1}, id="ends, but serves",
        ),
        pytest.param(
            [piece("beta", end("10.1.0.1", ready=False))], [path(1, "beta", "0", "1")], {},
            id="nothing is ready behind the gateway",
        ),
        pytest.param(
            [piece("beta", end("10.1.0.1", ready=False), end("10.1.1.1", "n1"))],
            [path(1, "beta", "10", "1")], {BY_GATEWAY["beta"]: 1},
            id="what is direct is not ready: the gateway has one that is",
        ),
    ],
)  # fmt: skip
def test_who_takes_new_connections(
    slices: list[EndpointSlice], paths: list[PeerPath], expected: dict[str, int]
) -> None:
    assert shares(slices, *paths) == expected


def later(*looks: str) -> PeerPath:
    """A way after several looks: `nodes/gateways`."""
    found: PeerPath | None = None
    for now, (nodes, _, gateways) in enumerate(look.partition("/") for look in looks):
        spec = site(1, len(nodes), len(gateways))
        found = choose_path("beta", spec, state(spec, nodes, gateways), found, float(now))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        pytest.param(
            later("11/1", "01/1"), {"10.1.1.1:8080": 1}, id="a dead node's pods are left out"
        ),
        pytest.param(
            later("11/1", "00/0"),
            {"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "10.1.1.1:8080": 1},
            id="nobody left: the last direct way",
        ),
        pytest.param(
            later("11/1", "00/1", "00/0"), {BY_GATEWAY["beta"]: 3}, id="the last way by gateways"
        ),
    ],
)
def test_after_a_loss(way: PeerPath, expected: dict[str, int]) -> None:
    assert shares([BETA], way) == expected


def test_names_of_other_clusters_nodes_are_not_ours() -> None:
    ours = piece("alpha", end("10.0.0.1", "n0"))
    plan = import_plan(
        imported(internalTrafficPolicy="Local"), [ours, BETA], world(path(1, "beta", "11", "1"))
    )
    assert plan.service is not None
    assert plan.service.internal_local
    nodes = {e.ip: e.node for e in plan.service.ports[0].endpoints}
    assert nodes == {"10.0.0.1": "n0", "10.1.0.1": "", "10.1.0.2": "", "10.1.1.1": ""}


def test_clusters_with_the_same_addresses_do_not_hide_each_other() -> None:
    found = shares(
        [piece("alpha", end("10.1.0.1")), piece("beta", end("10.1.0.1"))], path(1, "beta", "0", "1")
    )
    assert found == {"10.1.0.1:8080": 1, BY_GATEWAY["beta"]: 1}


def test_ending_endpoints_are_the_listeners_last_resort() -> None:
    ending = piece("beta", end("10.1.0.1", ready=False, serving=True, terminating=True))
    plan = import_plan(imported(), [ending], world(path(1, "beta", "0", "1")))
    assert plan.service is not None
    (found,) = plan.service.ports[0].endpoints
    expected = Endpoint("169.254.20.11", 20_002, ready=False, terminating=True, cluster="beta")
    assert found == expected


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({}, "affinity_s", 0),
        ({"sessionAffinity": "ClientIP"}, "affinity_s", 10_800),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 9}}},
            "affinity_s", 9,
        ),
        ({"ips": ["10.99.0.1", "fd99::1"]}, "cluster_ips", ("10.99.0.1", "fd99::1")),
    ],
)  # fmt: skip
def test_fields(spec: dict[str, Any], field: str, value: object) -> None:
    plan = import_plan(imported(**spec), [OWN], world())
    assert getattr(plan.service, field) == value


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"ips": []}, id="no address yet"),
        pytest.param({"type": "Headless", "ips": []}, id="headless"),
    ],
)
def test_what_the_proxy_does_not_serve(spec: dict[str, Any]) -> None:
    plan = import_plan(imported(**spec), [OWN, BETA], world(path(1, "beta", "1", "1")))
    assert (plan.service, plan.egress) == (None, ())


def test_listeners_are_wanted_before_they_are_needed() -> None:
    paths = (path(1, "beta", "1", "1"), path(2, "gamma", "1", ""))
    plan = import_plan(imported(HTTP, DNS), [OWN, BETA, GAMMA], world(*paths))
    assert plan.egress == (EgressKey("demo", "web", 80, "beta"),), "gamma has no gateways"


DUAL = [BETA, piece("beta", end("fd01::1"), port=HTTP, addressType="IPv6")]


@pytest.mark.parametrize(
    ("slices", "way", "spec", "remarks"),
    [
        pytest.param([BETA], "1/1", {}, [], id="direct"),
        pytest.param([BETA], "0/1", {}, [], id="gateway"),
        pytest.param(
            [piece("beta", end("10.1.0.1"), port=DNS)], "0/1", {"ports": [DNS]},
            [Remark(
                "ProtocolNotSupported",
                "port 53/UDP gets no endpoints of cluster beta: it is reached by gateways, and they carry TCP only",
            )], id="udp",
        ),
        pytest.param(
            [piece("beta", end("10.1.0.1"), port=DNS)], "1/1", {"ports": [DNS]}, [], id="direct udp"
        ),
        pytest.param(
            DUAL, "0/1", {"ips": ["10.99.0.1", "fd99::1"]},
            [Remark(
                "FamilyNotSupported",
                "the IPv6 address gets no endpoints of cluster beta: it is reached by gateways, by IPv4",
            )], id="two families",
        ),
        pytest.param(
            [BETA], "0/1", {"sessionAffinity": "ClientIP"},
            [Remark(
                "AffinityByCluster",
                "clients keep cluster beta, but not one endpoint there: it is reached by gateways",
            )], id="affinity",
        ),
        pytest.param([BETA], "11/1", {"sessionAffinity": "ClientIP"}, [], id="direct affinity"),
        pytest.param(
            [BETA], "0/1", {"type": "Headless", "ips": []},
            [Remark(
                "HeadlessNotReachable",
                "its names leave out the pods of cluster beta: it is reached by gateways, which lead to no single pod",
            )], id="headless",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(
    slices: list[EndpointSlice], way: str, spec: dict[str, Any], remarks: list[Remark]
) -> None:
    nodes, _, gateways = way.partition("/")
    wanted = imported(*spec.pop("ports", (HTTP,)), **spec)
    plan = import_plan(wanted, slices, world(path(1, "beta", nodes, gateways)))
    assert list(plan.remarks) == remarks


def test_udp_without_a_route_is_no_blackhole() -> None:
    plan = import_plan(
        imported(DNS), [piece("beta", end("10.1.0.1"), port=DNS)], world(path(1, "beta", "0", "1"))
    )
    assert plan.service is not None
    assert plan.service.ports[0].endpoints == ()


# ------------------------------------------------------------------------------------------------ headless
HEADLESS = [OWN, BETA, GAMMA]


@pytest.mark.parametrize(
    ("slices", "paths", "expected"),
    [
        pytest.param(HEADLESS, [], {"10.0.0.1", "10.0.0.2"}, id="own"),
        pytest.param(
            HEADLESS, [path(1, "beta", "10", "1"), path(2, "gamma", "0", "1")],
            {"10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"}, id="directly only",
        ),
        pytest.param([BETA], [later("11/1", "00/0")], {"10.1.0.1", "10.1.0.2", "10.1.1.1"}, id="fail open"),
        pytest.param([OWN, BETA], [later("11/1", "00/0")], {"10.0.0.1", "10.0.0.2"}, id="own are left"),
        pytest.param([BETA], [path(1, "beta", "0", "0")], set(), id="never proven"),
    ],
)  # fmt: skip
def test_hosts_that_have_names(
    slices: list[EndpointSlice], paths: list[PeerPath], expected: set[str]
) -> None:
    found = [shown(one, slices, world(*paths)) for one in slices]
    assert {e.addresses[0] for one in found for e in one.endpoints} == expected


def test_slices_of_whom() -> None:
    assert import_of(BETA) == ("demo", "web")
    unlabelled = msgspec.convert(
        {"metadata": {"namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}}},
        EndpointSlice,
    )
    assert not import_of(unlabelled).name


# ------------------------------------------------------------------------------------------------ exports
def exported(*ports: dict[str, Any], **spec: Any) -> service_kinds.Service:
    document = {
        "metadata": {"namespace": "demo", "name": "web"},
        "spec": {"ports": list(ports), **spec},
    }
    return msgspec.convert(document, service_kinds.Service)


def local(*ends: dict[str, Any], **more: Any) -> discovery_kinds.EndpointSlice:
    document = {
        "metadata": {"namespace": "demo", "name": "web-1"},
        "addressType": "IPv4",
        "endpoints": list(ends),
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        **more,
    }
    return msgspec.convert(document, discovery_kinds.EndpointSlice)


@pytest.mark.parametrize(
    ("service", "slices", "expected"),
    [
        pytest.param(
            exported(HTTP), [local(end("10.0.0.1"), end("10.0.0.2", ready=False))],
            {WEB: ["10.0.0.1:8080"]}, id="ready ones",
        ),
        pytest.param(
            exported(HTTP, DNS, {"name": "tls", "protocol": "TCP", "port": 443}), [local(end("10.0.0.1"))],
            {WEB: ["10.0.0.1:8080"], port_name("alpha", "demo", "web", 443): []}, id="TCP ports",
        ),
        pytest.param(
            exported(HTTP), [local(end("10.0.0.1", ready=False, serving=True, terminating=True))],
            {WEB: ["10.0.0.1:8080"]}, id="ending ones, at last",
        ),
        pytest.param(
            exported(HTTP, clusterIP="None"), [local(end("10.0.0.1"))],
            {WEB: ["10.0.0.1:8080"]}, id="headless here, maybe not for all",
        ),
        pytest.param(exported(HTTP, type="ExternalName"), [], {}, id="external name"),
        pytest.param(
            exported(HTTP), [local(end("fd00::1"), addressType="IPv6")],
            {WEB: []}, id="IPv6 is not carried",
        ),
    ],
)  # fmt: skip
def test_what_our_gateway_serves(
    service: service_kinds.Service,
    slices: list[discovery_kinds.EndpointSlice],
    expected: dict[str, list[str]],
) -> None:
    found = ingress("alpha", service, slices)
    assert {i.server_name: [str(t) for t in i.targets] for i in found} == expected


def test_the_values_are_the_gateways_own() -> None:
    (found,) = ingress("alpha", exported(HTTP), [local(end("10.0.0.1"))])
    assert found == Ingress(WEB, (Target("10.0.0.1", 8080),))


@pytest.mark.parametrize(
    ("spec", "gateways", "nodes"),
    [
        (site(1, 2, 2), 2, 2),
        (site(1, 2, 2, "Disabled"), 2, 0),
        (ClusterNetworkSpec((GatewayAddress("n", "fd00::1"),), (NodeRange("n", ("fd00::/64",), "fd00::1"),)), 0, 0),
        (ClusterNetworkSpec((GatewayAddress("n", "192.0.2.1", 0),), (NodeRange("N_1", (), "10.0.0.1"),)), 0, 0),
    ],
)  # fmt: skip
def test_what_is_probed(spec: ClusterNetworkSpec, gateways: int, nodes: int) -> None:
    found = sites("beta", spec)
    assert (len(found.gateways), len(found.nodes)) == (gateways, nodes)
