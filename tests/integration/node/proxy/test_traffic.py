"""Packets through the real kernel: a node, its pods and a client beyond it, in namespaces made here."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.integration.node.proxy.clients import Udp, ask, ask_often, refused
from tests.integration.node.proxy.netns import HOST_IP, Lab, lab, needs_root

from cluster_agent.node.proxy.conntrack import ConntrackTool
from cluster_agent.node.proxy.model import Endpoint, ProxyConfig, Service, ServicePort
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.kit.clock import SystemClock

pytestmark = [needs_root, pytest.mark.root, pytest.mark.integration]

VIP, OTHER_VIP = "10.96.0.10", "10.96.0.11"
CONFIG = ProxyConfig(
    node="here",
    pod_cidrs=("10.77.1.0/24", "fd77:1::/64"),
    service_cidrs=("10.96.0.0/16",),
    debounce_s=0.0,
)


@pytest.fixture(scope="module")
def node() -> Iterator[Lab]:
    with lab("px") as made:
        for number in (2, 3, 4):
            made.pod(number, 8080, 8081)
        made.pod(9)
        yield made


@pytest.fixture
async def proxy(node: Lab) -> AsyncIterator[ServiceProxy]:
    made = make(node)
    await made.start()
    yield made
    await made.stop()
    await made.cleanup()


def make(node: Lab) -> ServiceProxy:
    return ServiceProxy(
        CONFIG,
        SystemClock(),
        conntrack=ConntrackTool(node.host.prefix),
        executor=node.host.executor,
    )


def endpoint(number: int, weight: int = 1, node: str = "here", port: int = 8080) -> Endpoint:
    return Endpoint(f"10.77.1.{number}", port, node=node, weight=weight)


def service(*endpoints: Endpoint, protocol: str = "tcp", ip: str = VIP, **more: Any) -> Service:
    node_port = more.pop("node_port", 0)
    port = ServicePort(80, protocol, node_port=node_port, endpoints=endpoints)
    return Service((ip,), (port,), **more)


async def put(proxy: ServiceProxy, **services: Service) -> None:
    proxy.set_state(services)
    async with asyncio.timeout(5):
        await proxy.wait_synced()
    assert proxy.status().error == ""


@pytest.mark.parametrize("filters", [True, False], ids=["br_netfilter", "no br_netfilter"])
async def test_pods_and_host_reach_all_three_and_a_pod_itself(node: Lab, filters: bool) -> None:
    node.bridge_filters(filters)
    proxy = make(node)
    await proxy.start()
    try:
        await put(proxy, web=service(*(endpoint(n) for n in (2, 3, 4))))
        for client in (node.pods[9], node.pods[2], node.host):
            assert set(client.run(ask_often(VIP, 80, 60))) == {"pod-2", "pod-3", "pod-4"}
        seen = node.pods[9].run(ask(VIP, 80))[1]
        assert seen == ("10.77.1.9" if filters else "10.77.1.1")
    finally:
        await proxy.stop()
        await proxy.cleanup()
        node.bridge_filters(True)


async def test_hairpin(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, web=service(endpoint(2)))
    assert node.pods[2].run(ask(VIP, 80))[0] == "pod-2"


async def test_weights_are_kept_over_many_connections(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, web=service(endpoint(2, 70), endpoint(3, 20), endpoint(4, 10)))
    counts = node.pods[9].run(ask_often(VIP, 80, 3_000))
    # A share is within 10 % by the slots; the rest is chance, five standard deviations of it.
    assert 1_765 < counts["pod-2"] < 2_435
    assert 440 < counts["pod-3"] < 770
    assert 185 < counts["pod-4"] < 415


async def test_nobody_there_is_refused_at_once(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, web=service(node_port=30_080), other=service(endpoint(2), ip=OTHER_VIP))
    for client in (node.pods[9], node.host, node.outside):
        assert client.run(refused(VIP, 80)) == "ConnectionRefusedError"
        assert client.run(refused(OTHER_VIP, 81)) == "ConnectionRefusedError"
    assert node.outside.run(refused(HOST_IP, 30_080)) == "ConnectionRefusedError"
    assert node.pods[9].run(refused("10.96.7.7", 80)) == "TimeoutError"
    await put(proxy, web=service(endpoint(3)))
    assert node.pods[9].run(ask(VIP, 80))[0] == "pod-3"


async def test_node_port(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, web=service(endpoint(2), endpoint(3), node_port=30_080))
    for client in (node.outside, node.host, node.pods[9]):
        assert set(client.run(ask_often(HOST_IP, 30_080, 40))) == {"pod-2", "pod-3"}
    assert node.outside.run(ask(HOST_IP, 30_080))[1] == "172.31.9.2"


async def test_external_local_uses_this_node_for_strangers_only(
    node: Lab, proxy: ServiceProxy
) -> None:
    elsewhere = endpoint(3, node="there")
    await put(proxy, web=service(endpoint(2), elsewhere, node_port=30_080, external_local=True))
    assert node.outside.run(ask_often(HOST_IP, 30_080, 30)) == {"pod-2": 30}
    assert node.outside.run(ask(HOST_IP, 30_080))[1] == "172.31.9.2"
    assert set(node.pods[9].run(ask_often(HOST_IP, 30_080, 40))) == {"pod-2", "pod-3"}
    await put(proxy, web=service(elsewhere, node_port=30_080, external_local=True))
    assert node.outside.run(refused(HOST_IP, 30_080)) == "TimeoutError"
    assert node.pods[9].run(ask(HOST_IP, 30_080))[0] == "pod-3"


async def test_internal_local_drops_without_an_endpoint_here(
    node: Lab, proxy: ServiceProxy
) -> None:
    await put(proxy, web=service(endpoint(2), endpoint(3, node="there"), internal_local=True))
    assert node.pods[9].run(ask_often(VIP, 80, 30)) == {"pod-2": 30}
    await put(proxy, web=service(endpoint(3, node="there"), internal_local=True))
    assert node.pods[9].run(refused(VIP, 80)) == "TimeoutError"


async def test_affinity_holds_until_its_endpoint_goes(node: Lab, proxy: ServiceProxy) -> None:
    sticky: dict[str, Any] = {"affinity_s": 600, "node_port": 30_080}
    await put(proxy, web=service(*(endpoint(n) for n in (2, 3, 4)), **sticky))
    first = node.pods[9].run(ask_often(VIP, 80, 30))
    assert len(first) == 1
    assert len(node.outside.run(ask_often(HOST_IP, 30_080, 30))) == 1
    mine = int(next(iter(first)).removeprefix("pod-"))
    others = [endpoint(n) for n in (2, 3, 4) if n != mine]
    await put(proxy, web=service(*others, **sticky))
    second = node.pods[9].run(ask_often(VIP, 80, 30))
    assert len(second) == 1
    assert set(second) != set(first)
    await put(proxy, web=service(*others))
    assert len(node.pods[9].run(ask_often(VIP, 80, 60))) == 2


async def test_udp_follows_the_endpoints(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, dns=service(endpoint(2), protocol="udp"))
    client = node.pods[9].run(lambda: Udp(VIP, 80))
    try:
        assert node.pods[9].run(client.ask) == "pod-2"
        await put(proxy, dns=service(endpoint(3), protocol="udp"))
        assert node.pods[9].run(client.ask) == "pod-3"
        await put(proxy, dns=service(protocol="udp"))
        assert node.pods[9].run(client.ask) == ""
        await put(proxy, dns=service(endpoint(4), protocol="udp"))
        assert "pod-4" in {node.pods[9].run(client.ask) for _ in range(2)}
    finally:
        client.close()


async def test_who_knocks_at_a_dead_endpoint_is_let_in_by_the_next(
    node: Lab, proxy: ServiceProxy
) -> None:
    """The first packet was lost there; its repetition, a second later, finds who serves now."""
    node.host.sh("ip", "route", "replace", "10.97.0.0/16", "via", "172.31.9.2")
    dead = Endpoint("10.97.0.9", 8080, node="elsewhere")
    await put(proxy, web=service(dead))
    client = node.pods[9].run(lambda: socket.socket())
    try:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.connect((VIP, 80))
        await put(proxy, web=service(endpoint(2)))
        client.setblocking(True)
        client.settimeout(10)
        assert await asyncio.to_thread(client.recv, 5) == b"pod-2"
    finally:
        client.close()


async def test_udp_that_was_never_served_is_served_when_somebody_comes(
    node: Lab, proxy: ServiceProxy
) -> None:
    """The entry was made while no rule knew the address: it leads out of the node."""
    node.host.sh("ip", "route", "replace", "10.97.0.0/16", "via", "172.31.9.2")
    client = node.host.run(lambda: Udp("10.97.0.1", 80))
    try:
        await put(proxy)
        assert node.host.run(client.ask) == ""
        await put(proxy, dns=service(endpoint(2), protocol="udp", ip="10.97.0.1"))
        assert "pod-2" in {node.host.run(client.ask) for _ in range(2)}
    finally:
        client.close()


async def test_a_new_process_cuts_no_connection(node: Lab) -> None:
    first = make(node)
    await first.start()
    await put(first, web=service(endpoint(2), endpoint(3)), other=service(ip=OTHER_VIP))
    node.pods[4].serve("echo", 7, 9)
    echo = service(endpoint(4, port=7), ip="10.96.0.12")
    await put(first, web=service(endpoint(2)), echo=echo)
    link = node.pods[9].run(lambda: socket.create_connection(("10.96.0.12", 80), timeout=5))
    reader = link.makefile()
    assert reader.readline().startswith("echo")
    await first.stop()
    second = make(node)
    await second.start()
    try:
        await put(second, web=service(endpoint(3)), echo=echo)
        link.sendall(b"still there\n")
        assert reader.readline() == "still there\n"
        assert node.pods[9].run(ask_often(VIP, 80, 20)) == {"pod-3": 20}
        await put(second, web=service(endpoint(3)))
        link.sendall(b"and now\n")
        assert reader.readline() == "and now\n"
    finally:
        reader.close()
        link.close()
        await second.stop()
        await second.cleanup()


async def test_ipv6(node: Lab, proxy: ServiceProxy) -> None:
    ends = tuple(Endpoint(f"fd77:1::{n}", 8080, node="here") for n in (2, 3))
    await put(
        proxy, web=Service(("fd96::10",), (ServicePort(80, endpoints=ends, node_port=30_086),))
    )
    for client in (node.pods[9], node.pods[2], node.host):
        assert set(client.run(ask_often("fd96::10", 80, 40))) == {"pod-2", "pod-3"}
    assert set(node.outside.run(ask_often("fd31:9::1", 30_086, 40))) == {"pod-2", "pod-3"}
    await put(proxy, web=Service(("fd96::10",), (ServicePort(80),)))
    assert node.pods[9].run(refused("fd96::10", 80)) == "ConnectionRefusedError"


async def test_other_tables_are_left_alone(node: Lab, proxy: ServiceProxy) -> None:
    node.host.sh(
        "nft", "add table ip ubernetes-other; add set ip ubernetes-other s { type ipv4_addr; }"
    )
    before = node.host.sh("nft", "list", "table", "ip", "ubernetes-other")
    await put(proxy, web=service(endpoint(2)))
    await put(proxy)
    await proxy.stop()
    await proxy.cleanup()
    tables = node.host.sh("nft", "list", "tables").split("\n")
    assert [t for t in tables if "ubernetes-proxy" in t] == []
    assert node.host.sh("nft", "list", "table", "ip", "ubernetes-other") == before


async def test_a_table_that_somebody_flushed_is_loaded_anew(node: Lab, proxy: ServiceProxy) -> None:
    await put(proxy, web=service(endpoint(2)))
    node.host.sh("nft", "delete", "table", "ip", "ubernetes-proxy")
    await put(proxy, web=service(endpoint(3)))
    assert node.pods[9].run(ask_often(VIP, 80, 10)) == Counter({"pod-3": 10})
