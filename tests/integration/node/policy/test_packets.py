"""NetworkPolicies on real packets: a node, its pods, a pod of another node behind `outside`, and clients in both families."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.node.proxy.netns import Lab, Namespace, lab, needs_root

from cluster_agent.node.policy.bridge import Bridge, run_command
from cluster_agent.node.policy.enforcer import Enforcer, PolicyConfig
from cluster_agent.node.policy.inputs import policy_of
from cluster_agent.node.policy.layout import TABLE, Gateway
from cluster_agent.node.policy.model import Pod
from machinery.api.network_kinds import NetworkPolicy
from machinery.kit.clock import SystemClock
from machinery.meta.resource import ObjectKey

pytestmark = [needs_root, pytest.mark.root, pytest.mark.integration]

WEB, CLIENT, OTHER = "10.77.1.2", "10.77.1.3", "10.77.1.4"
FAR, STRANGER = "10.77.2.2", "172.31.9.2"
GATEWAY = Gateway("169.254.20.11", 20_000, 29_999, 65_534)
VIP = "10.200.0.9"
SELECT = {"podSelector": {"matchLabels": {"app": "web"}}}
CLIENTS = {"podSelector": {"matchLabels": {"app": "client"}}}

Settings = Callable[[bool], Path]


@pytest.fixture(scope="module")
def node() -> Iterator[Lab]:
    with lab("np") as made:
        made.pod(2, 80, 81)
        made.pod(3, 80)
        made.pod(4, 80)
        made.outside.sh("ip", "addr", "add", f"{FAR}/32", "dev", "lo")
        made.outside.serve("far", 80)
        made.host.sh("ip", "route", "add", "10.77.2.0/24", "via", STRANGER)
        made.host.sh("ip", "addr", "add", f"{GATEWAY.address}/32", "dev", "lo")
        made.host.serve("gateway", 20_007, 8404)
        dnat = f"add rule ip lab pre ip daddr {VIP} tcp dport 80 dnat to {GATEWAY.address}:20007"
        hook = "{ type nat hook prerouting priority -100 ; }"
        service = f"add rule ip lab pre ip daddr 10.96.0.1 tcp dport 8000 dnat to {WEB}:80"
        made.host.sh("nft", f"add table ip lab; add chain ip lab pre {hook}; {dnat}; {service}")
        yield made


@pytest.fixture
async def enforcer(node: Lab) -> AsyncIterator[Enforcer]:
    made = start(node)
    try:
        yield made
    finally:
        await made.cleanup()
        await made.close()


def start(node: Lab, bridge: Bridge | None = None) -> Enforcer:
    config = PolicyConfig("here", GATEWAY, "cni0", debounce_s=0.0)
    made = Enforcer(config, SystemClock(), executor=node.host.executor, bridge=bridge)
    made.put_space("shop", {"kubernetes.io/metadata.name": "shop"})
    for name, ip, where in (
        ("web", WEB, "here"), ("client", CLIENT, "here"), ("other", OTHER, "here"), ("far", FAR, "there"),
    ):  # fmt: skip
        ips = (ip, ip.replace("10.77.1.", "fd77:1::")) if where == "here" else (ip,)
        app = {"far": "client"}.get(name, name)
        made.put_pod(ObjectKey("shop", name), Pod({"app": app}, ips, where, (("http", "tcp", 80),)))
    made.complete()
    return made


async def put(enforcer: Enforcer, *specs: dict[str, Any]) -> None:
    """Exactly these policies."""
    for key in list(enforcer.ledger.policies):
        enforcer.put_policy(key, None)
    for at, spec in enumerate(specs):
        document = {"metadata": {"namespace": "shop", "name": f"p{at}"}, "spec": spec}
        policy = msgspec.convert(document, NetworkPolicy)
        enforcer.put_policy(policy.key, policy_of(policy))
    assert await enforcer.run_once()
    assert enforcer.status().error == ""


def reach(space: Namespace, address: str, port: int = 80, source: str = "") -> str:
    """Who answers; empty for nobody within a second and a half."""

    def work() -> str:
        try:
            with socket.create_connection(
                (address, port), 1.5, (source, 0) if source else None
            ) as link:
                return link.makefile().readline().split()[0]
        except OSError:
            return ""

    return space.run(work)


def ingress(*rules: dict[str, Any]) -> dict[str, Any]:
    return {**SELECT, "policyTypes": ["Ingress"], "ingress": list(rules)}


def egress(*rules: dict[str, Any]) -> dict[str, Any]:
    return {**SELECT, "policyTypes": ["Egress"], "egress": list(rules)}


async def test_default_deny_and_what_it_leaves(node: Lab, enforcer: Enforcer) -> None:
    pods, outside = node.pods, node.outside
    assert reach(pods[3], WEB) == "pod-2"
    await put(enforcer, ingress())
    assert reach(pods[3], WEB) == ""
    assert reach(pods[3], "fd77:1::2") == ""
    assert reach(pods[3], "10.96.0.1", 8000) == ""
    assert reach(outside, WEB, source=FAR) == ""
    assert reach(outside, WEB) == ""
    assert reach(node.host, WEB) == "pod-2"  # the kubelet's probes
    assert reach(pods[2], WEB) == "pod-2"
    assert reach(pods[2], CLIENT) == "pod-3"
    assert reach(pods[2], "fd77:1::3") == "pod-3"
    assert reach(pods[3], OTHER) == "pod-4"
    await put(enforcer)
    assert reach(pods[3], WEB) == "pod-2"
    assert TABLE not in node.host.sh("nft", "list", "tables")


async def test_an_address_of_the_link_is_no_way_round(node: Lab, enforcer: Enforcer) -> None:
    told = node.pods[2].sh("ip", "-6", "-brief", "address", "show", "dev", "eth0", "scope", "link")
    local = f"{told.split()[2].partition('/')[0]}%eth0"
    assert reach(node.pods[3], local) == "pod-2"
    await put(enforcer, ingress())
    assert reach(node.pods[3], local) == ""
    assert reach(node.pods[3], "fd77:1::4") == "pod-4"  # neighbours are found all the same


async def test_labels_of_both_nodes_and_services(node: Lab, enforcer: Enforcer) -> None:
    pods, outside = node.pods, node.outside
    await put(enforcer, ingress({"from": [CLIENTS], "ports": [{"port": "http"}]}))
    assert reach(pods[3], WEB) == "pod-2"
    assert reach(pods[3], "fd77:1::2") == "pod-2"
    assert reach(pods[3], WEB, 81) == ""
    assert reach(pods[3], "10.96.0.1", 8000) == "pod-2"
    assert reach(pods[4], "10.96.0.1", 8000) == ""
    assert reach(pods[4], WEB) == ""
    assert reach(outside, WEB, source=FAR) == "pod-2"
    assert reach(outside, WEB) == ""
    enforcer.put_pod(ObjectKey("shop", "other"), Pod({"app": "client"}, (OTHER,), "here"))
    assert await enforcer.run_once()
    assert reach(pods[4], WEB) == "pod-2"


async def test_blocks_ranges_and_holes(node: Lab, enforcer: Enforcer) -> None:
    holed = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{FAR}/32", "10.77.1.4/30"]}}
    await put(enforcer, ingress({"from": [holed], "ports": [{"port": 79, "endPort": 80}]}))
    assert reach(node.outside, WEB) == "pod-2"
    assert reach(node.pods[3], WEB) == "pod-2"
    assert reach(node.pods[3], WEB, 81) == ""
    assert reach(node.outside, WEB, source=FAR) == ""
    assert reach(node.pods[4], WEB) == ""


async def test_egress(node: Lab, enforcer: Enforcer) -> None:
    web = node.pods[2]
    await put(enforcer, egress())
    for target in (CLIENT, FAR, STRANGER, "fd77:1::3", "fd31:9::2"):
        assert reach(web, target) == "", target
    assert reach(web, "10.77.1.1", 8404) == "gateway"  # its own node
    assert reach(node.pods[3], WEB) == "pod-2"  # answers go out
    await put(enforcer, egress({"to": [CLIENTS]}))
    assert reach(web, CLIENT) == "pod-3"
    assert reach(web, "fd77:1::3") == "pod-3"
    assert reach(web, FAR) == "far"
    assert reach(web, OTHER) == ""
    await put(enforcer, egress({"to": [{"ipBlock": {"cidr": "172.31.0.0/16"}}]}))
    assert reach(web, STRANGER) == "far"
    assert reach(web, FAR) == ""


async def test_other_clusters_through_the_gateway_of_the_node(
    node: Lab, enforcer: Enforcer
) -> None:
    web = node.pods[2]
    assert reach(web, VIP) == "gateway"
    for rules, expected in (
        ([], ""),
        ([{}], "gateway"),
        ([{"ports": [{"port": 80}]}], "gateway"),
        ([{"ports": [{"port": 81}]}], ""),
        ([{"to": [{"ipBlock": {"cidr": "10.200.0.0/16"}}], "ports": [{"port": 80}]}], "gateway"),
        ([{"to": [{"ipBlock": {"cidr": "10.200.0.0/16"}}], "ports": [{"port": 1, "endPort": 79}]}], ""),
        ([{"to": [{"ipBlock": {"cidr": "10.201.0.0/16"}}]}], ""),
    ):  # fmt: skip
        await put(enforcer, egress(*rules))
        assert reach(web, VIP) == expected, rules
        assert reach(web, GATEWAY.address, 8404) == "gateway"
        assert reach(node.pods[3], VIP) == "gateway"


async def test_the_gateway_is_not_the_kubelet(node: Lab, enforcer: Enforcer) -> None:
    await put(enforcer, ingress({"from": [CLIENTS]}))
    assert as_user(node, 0) == "pod-2"
    assert as_user(node, GATEWAY.uid) == ""
    await put(enforcer, ingress({"from": [{"ipBlock": {"cidr": "10.77.1.1/32"}}]}))
    assert as_user(node, GATEWAY.uid) == "pod-2"


def as_user(node: Lab, user: int) -> str:
    code = f"import socket; print(socket.create_connection(('{WEB}', 80), 1.5).recv(9).decode())"
    words = [*node.host.prefix, "setpriv", f"--reuid={user}", "--clear-groups", sys.executable]
    done = subprocess.run([*words, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.returncode == 0 else ""


async def test_connections_that_are_there_go_on(node: Lab, enforcer: Enforcer) -> None:
    node.pods[2].serve("echo", 7, 9)
    link = node.pods[3].run(lambda: socket.create_connection((WEB, 7), timeout=5))
    with contextlib.closing(link):
        reader = link.makefile()
        assert reader.readline().startswith("echo")
        await put(enforcer, ingress())
        link.sendall(b"still there\n")
        assert reader.readline() == "still there\n"
        assert reach(node.pods[3], WEB, 7) == ""


async def test_the_next_process_adopts_and_its_table_is_looked_after(node: Lab) -> None:
    first = start(node)
    await put(first, ingress())
    await first.close()
    second = start(node)
    try:
        assert reach(node.pods[3], WEB) == ""
        await put(second, ingress({"from": [CLIENTS]}))
        assert reach(node.pods[3], WEB) == "pod-2"
        assert reach(node.pods[4], WEB) == ""
        node.host.sh("nft", "delete", "table", "inet", TABLE)
        assert not node.host.run(second.table.intact)
        assert await second.run_once()
        assert reach(node.pods[4], WEB) == ""
        assert second.status().loads == 2
    finally:
        await second.cleanup()
    assert TABLE not in node.host.sh("nft", "list", "tables")


async def test_where_bridged_packets_pass_by_the_bridge_is_told(node: Lab, tmp_path: Path) -> None:
    """The namespace's own switch is off; the bridge's is turned on, and no other bridge's."""

    async def run(*words: str) -> tuple[int, str]:
        return await run_command(*node.host.prefix, *words)

    for name in ("iptables", "ip6tables"):
        (tmp_path / f"bridge-nf-call-{name}").write_text("0\n")
    node.bridge_filters(False)
    blind = start(node)
    seeing = start(node, Bridge("cni0", tmp_path, run))
    try:
        await put(blind, ingress())
        assert reach(node.pods[3], WEB) == "pod-2"
        await put(seeing, ingress())
        assert seeing.status().unseen == ""
        assert reach(node.pods[3], WEB) == ""
        assert reach(node.pods[3], "fd77:1::2") == ""
    finally:
        node.bridge_filters(True)
        await seeing.cleanup()
