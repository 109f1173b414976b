"""Who may talk to whom, row by row: the API's meaning of a NetworkPolicy against the table that is made of it."""

from typing import Any

import pytest
from tests.unit.node.policy.packets import Packet, passes
from tests.unit.node.policy.worlds import GATEWAY, IPS, OUTSIDE, SIX, policy, table

WEB, DB = {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}
ALL: dict[str, Any] = {}


def ingress(*rules: dict[str, Any], subject: Any = WEB) -> dict[str, Any]:
    return {"podSelector": subject, "policyTypes": ["Ingress"], "ingress": list(rules)}


def egress(*rules: dict[str, Any], subject: Any = WEB) -> dict[str, Any]:
    return {"podSelector": subject, "policyTypes": ["Egress"], "egress": list(rules)}


def packet(source: str, target: str, port: str = "80/tcp") -> list[Packet]:
    """In both families where both ends are pods."""
    number, protocol = port.split("/")
    ends = (IPS.get(source, source), IPS.get(target, target))
    found = [Packet(*ends, int(number), protocol)]
    if source in SIX and target in SIX:
        found.append(Packet(SIX[source], SIX[target], int(number), protocol))
    return found


PODS = {"podSelector": DB}
SALES = {"namespaceSelector": {"matchLabels": {"team": "sales"}}}
OPS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}
OPS_WEB = {**OPS, "podSelector": WEB}
BLOCK = {"ipBlock": {"cidr": "203.0.113.0/24"}}
HOLED = {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/29", "203.0.113.0/30"]}}
POD_BLOCK = {"ipBlock": {"cidr": "10.1.0.3/24"}}
RANGE = {"port": 8000, "endPort": 8090, "protocol": "TCP"}

ROWS: list[tuple[str, list[dict[str, Any]], str, str, str, bool]] = [
    # name, policies (namespace shop), from, to, port, whether it passes
    ("no policy: all pass", [], "ops/probe", "shop/web", "80/tcp", True),
    ("default deny: other pod", [ingress()], "shop/db", "shop/web", "80/tcp", False),
    ("default deny: other node", [ingress()], "shop/far", "shop/web", "80/tcp", False),
    ("default deny: outside", [ingress()], OUTSIDE, "shop/web", "80/tcp", False),
    ("default deny: udp", [ingress()], "shop/db", "shop/web", "53/udp", False),
    ("default deny: icmp", [ingress()], "shop/db", "shop/web", "0/icmp", False),
    ("default deny: itself", [ingress()], "shop/web", "shop/web", "80/tcp", True),
    ("default deny: not selected", [ingress()], "shop/web", "shop/db", "80/tcp", True),
    ("default deny: other namespace", [ingress()], "shop/db", "ops/web", "80/tcp", True),
    ("default deny ingress: egress free", [ingress(subject=ALL)], "shop/web", OUTSIDE, "80/tcp", True),
    ("empty selector: whole namespace", [ingress(subject=ALL)], "ops/probe", "shop/db", "80/tcp", False),
    ("selected on another node: judged there", [ingress()], "shop/db", "shop/far", "80/tcp", True),
    ("allow all: one empty rule", [ingress({})], OUTSIDE, "shop/web", "9/udp", True),
    ("podSelector: fits", [ingress({"from": [PODS]})], "shop/db", "shop/web", "80/tcp", True),
    ("podSelector: other label", [ingress({"from": [PODS]})], "shop/far", "shop/web", "80/tcp", False),
    ("podSelector: own namespace only", [ingress({"from": [{"podSelector": WEB}]})], "ops/web", "shop/web", "80/tcp", False),
    ("podSelector: empty is the namespace", [ingress({"from": [{"podSelector": ALL}]})], "shop/far", "shop/web", "80/tcp", True),
    ("podSelector: empty is not others", [ingress({"from": [{"podSelector": ALL}]})], "ops/probe", "shop/web", "80/tcp", False),
    ("podSelector: pods are not outside", [ingress({"from": [{"podSelector": ALL}]})], OUTSIDE, "shop/web", "80/tcp", False),
    ("namespaceSelector: fits", [ingress({"from": [OPS]})], "ops/probe", "shop/web", "80/tcp", True),
    ("namespaceSelector: other", [ingress({"from": [OPS]})], "lab/tool", "shop/web", "80/tcp", False),
    ("namespaceSelector: own not meant", [ingress({"from": [OPS]})], "shop/db", "shop/web", "80/tcp", False),
    ("namespaceSelector: empty is all", [ingress({"from": [{"namespaceSelector": ALL}]})], "lab/tool", "shop/web", "80/tcp", True),
    ("namespaceSelector: all is not outside", [ingress({"from": [{"namespaceSelector": ALL}]})], OUTSIDE, "shop/web", "80/tcp", False),
    ("AND in one item: both", [ingress({"from": [OPS_WEB]})], "ops/web", "shop/web", "80/tcp", True),
    ("AND in one item: only namespace", [ingress({"from": [OPS_WEB]})], "ops/probe", "shop/web", "80/tcp", False),
    ("AND in one item: only label", [ingress({"from": [OPS_WEB]})], "shop/far", "shop/web", "80/tcp", False),
    ("OR of items: namespace", [ingress({"from": [OPS, PODS]})], "ops/probe", "shop/web", "80/tcp", True),
    ("OR of items: label", [ingress({"from": [OPS, PODS]})], "shop/db", "shop/web", "80/tcp", True),
    ("OR of items: neither", [ingress({"from": [OPS, PODS]})], "lab/tool", "shop/web", "80/tcp", False),
    ("OR of rules", [ingress({"from": [OPS]}, {"from": [PODS]})], "shop/db", "shop/web", "80/tcp", True),
    ("union of policies", [ingress(), ingress({"from": [PODS]})], "shop/db", "shop/web", "80/tcp", True),
    ("union of policies: none fits", [ingress({"from": [OPS]}), ingress({"from": [PODS]})], "lab/tool", "shop/web", "80/tcp", False),
    ("union: other subject", [ingress(), ingress({}, subject=DB)], "lab/tool", "shop/web", "80/tcp", False),
    ("host network pod is no peer", [ingress({"from": [{"namespaceSelector": ALL}]})], "lab/host", "shop/web", "80/tcp", False),
    ("host network pod is never judged", [ingress(subject=ALL), egress(subject=ALL)], "ops/probe", "lab/host", "80/tcp", True),
    ("ipBlock: inside", [ingress({"from": [BLOCK]})], OUTSIDE, "shop/web", "80/tcp", True),
    ("ipBlock: outside", [ingress({"from": [BLOCK]})], "198.51.100.1", "shop/web", "80/tcp", False),
    ("ipBlock: pods by address", [ingress({"from": [POD_BLOCK]})], "10.1.0.4", "shop/web", "80/tcp", True),
    ("ipBlock except: hole", [ingress({"from": [HOLED]})], OUTSIDE, "shop/web", "80/tcp", False),
    ("ipBlock except: beside the hole", [ingress({"from": [HOLED]})], "203.0.113.8", "shop/web", "80/tcp", True),
    ("ipBlock except: filled by another", [ingress({"from": [HOLED, {"ipBlock": {"cidr": "203.0.113.7/32"}}]})], OUTSIDE, "shop/web", "80/tcp", True),
    ("ipBlock: everything is both families", [ingress({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]})], "ops/probe", "shop/web", "80/tcp", True),
    ("ipBlock: IPv6", [ingress({"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]})], "2001:db8::7", "shop/web6", "80/tcp", True),
    ("ipBlock: IPv6 except", [ingress({"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]})], "2001:db8:1::7", "shop/web6", "80/tcp", False),
    ("port: fits", [ingress({"ports": [{"port": 80}]})], OUTSIDE, "shop/web", "80/tcp", True),
    ("port: other number", [ingress({"ports": [{"port": 80}]})], OUTSIDE, "shop/web", "81/tcp", False),
    ("port: TCP by default", [ingress({"ports": [{"port": 80}]})], OUTSIDE, "shop/web", "80/udp", False),
    ("port: UDP", [ingress({"ports": [{"port": 53, "protocol": "UDP"}]})], OUTSIDE, "shop/web", "53/udp", True),
    ("port: SCTP", [ingress({"ports": [{"port": 7, "protocol": "SCTP"}]})], OUTSIDE, "shop/web", "7/sctp", True),
    ("port: protocol alone", [ingress({"ports": [{"protocol": "UDP"}]})], OUTSIDE, "shop/web", "9999/udp", True),
    ("port: protocol alone, other", [ingress({"ports": [{"protocol": "UDP"}]})], OUTSIDE, "shop/web", "9999/tcp", False),
    ("port: protocol alone and a number", [ingress({"ports": [{"protocol": "UDP"}, {"port": 1, "protocol": "UDP"}]})], OUTSIDE, "shop/web", "2/udp", True),
    ("port: OR of ports", [ingress({"ports": [{"port": 80}, {"port": 443}]})], OUTSIDE, "shop/web", "443/tcp", True),
    ("port AND peer", [ingress({"from": [PODS], "ports": [{"port": 80}]})], "shop/db", "shop/web", "443/tcp", False),
    ("port AND peer: both", [ingress({"from": [PODS], "ports": [{"port": 80}]})], "shop/db", "shop/web", "80/tcp", True),
    ("ports do not pass icmp", [ingress({"ports": [{"port": 80}]})], OUTSIDE, "shop/web", "0/icmp", False),
    ("endPort: first", [ingress({"ports": [RANGE]})], OUTSIDE, "shop/web", "8000/tcp", True),
    ("endPort: last", [ingress({"ports": [RANGE]})], OUTSIDE, "shop/web", "8090/tcp", True),
    ("endPort: behind", [ingress({"ports": [RANGE]})], OUTSIDE, "shop/web", "8091/tcp", False),
    ("endPort: overlap", [ingress({"ports": [RANGE, {"port": 8050, "endPort": 9000}, {"port": 8010}]})], OUTSIDE, "shop/web", "9000/tcp", True),
    ("endPort: to the end", [ingress({"ports": [{"port": 1, "endPort": 65535}]})], OUTSIDE, "shop/web", "65535/tcp", True),
    ("named port: number of the pod", [ingress({"ports": [{"port": "http"}]})], OUTSIDE, "shop/web", "8080/tcp", True),
    ("named port: number of another pod", [ingress({"ports": [{"port": "http"}]})], OUTSIDE, "shop/web", "8081/tcp", False),
    ("named port: nobody has it", [ingress({"ports": [{"port": "grpc"}]})], OUTSIDE, "shop/web", "8080/tcp", False),
    ("named port: protocol counts", [ingress({"ports": [{"port": "dns"}]})], OUTSIDE, "shop/web", "5353/udp", False),
    ("named port: UDP", [ingress({"ports": [{"port": "dns", "protocol": "UDP"}]})], OUTSIDE, "shop/web", "5353/udp", True),
    ("named port and a number", [ingress({"ports": [{"port": "http"}, {"port": 22}]})], OUTSIDE, "shop/web", "22/tcp", True),
    ("egress deny: other pod", [egress()], "shop/web", "shop/db", "80/tcp", False),
    ("egress deny: outside", [egress()], "shop/web", OUTSIDE, "80/tcp", False),
    ("egress deny: ingress free", [egress()], "shop/db", "shop/web", "80/tcp", True),
    ("egress deny: itself", [egress()], "shop/web", "shop/web", "80/tcp", True),
    ("egress: label", [egress({"to": [PODS]})], "shop/web", "shop/db", "80/tcp", True),
    ("egress: namespace", [egress({"to": [OPS]})], "shop/web", "ops/web", "80/tcp", True),
    ("egress: dns only", [egress({"ports": [{"port": 53, "protocol": "UDP"}]})], "shop/web", "ops/web", "80/tcp", False),
    ("egress: named port of the target", [egress({"to": [{"podSelector": WEB}], "ports": [{"port": "http"}]})], "shop/web", "shop/far", "8081/tcp", True),
    ("egress: named port, own number", [egress({"to": [{"podSelector": WEB}], "ports": [{"port": "http"}]})], "shop/web", "shop/far", "8080/tcp", False),
    ("egress: named port AND peer", [egress({"to": [{"podSelector": WEB}], "ports": [{"port": "http"}]})], "shop/web", "ops/web", "80/tcp", False),
    ("egress: block with a hole", [egress({"to": [HOLED]})], "shop/web", OUTSIDE, "80/tcp", False),
    ("both ends: egress allows, ingress denies", [egress({}, subject=DB), ingress()], "shop/db", "shop/web", "80/tcp", False),
    ("both ends: ingress allows, egress denies", [egress(subject=DB), ingress({})], "shop/db", "shop/web", "80/tcp", False),
    ("both ends allow", [egress({"to": [{"podSelector": WEB}]}, subject=DB), ingress({"from": [PODS]})], "shop/db", "shop/web", "80/tcp", True),
    ("matchExpressions: NotIn", [ingress({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}]})], "shop/db", "shop/web", "80/tcp", False),
    ("matchExpressions: Exists", [ingress({"from": [{"podSelector": {"matchExpressions": [{"key": "track", "operator": "Exists"}]}}]})], "shop/far", "shop/web", "80/tcp", True),
    ("matchExpressions: DoesNotExist as subject", [ingress(subject={"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]})], "lab/tool", "shop/db", "80/tcp", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "source", "target", "port", "expected"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_row(
    policies: list[dict[str, Any]], source: str, target: str, port: str, expected: bool
) -> None:
    made = table(*(policy(spec, name=f"p{at}") for at, spec in enumerate(policies)))
    target = SIX["shop/web"] if target == "shop/web6" else target
    for one in packet(source, target, port):
        assert passes(made, one) is expected, one


TYPES = [
    # spec, whether ingress to web and egress of web are judged
    ({"podSelector": WEB}, True, False),
    ({"podSelector": WEB, "egress": [{"ports": [{"port": 1}]}]}, True, True),
    ({"podSelector": WEB, "policyTypes": ["Egress"]}, False, True),
    ({"podSelector": WEB, "policyTypes": ["Ingress"], "egress": [{}]}, True, False),
    ({"podSelector": WEB, "policyTypes": ["Ingress", "Egress"]}, True, True),
]


@pytest.mark.parametrize(("spec", "into", "out"), TYPES)
def test_policy_types_say_which_directions_are_closed(
    spec: dict[str, Any], into: bool, out: bool
) -> None:
    made = table(policy(spec))
    assert passes(made, Packet(OUTSIDE, IPS["shop/web"])) is not into
    assert passes(made, Packet(IPS["shop/web"], OUTSIDE)) is not out


def through(address: str, port: int) -> Packet:
    """A pod to another cluster's Service: the proxy has sent it to the gateway of the node."""
    return Packet(IPS["shop/web"], GATEWAY.address, 20_007, asked=(address, port))


GATES = [
    ("not isolated", [ingress()], ("10.200.0.9", 80), True),
    ("denied", [egress()], ("10.200.0.9", 80), False),
    ("everything", [egress({})], ("10.200.0.9", 80), True),
    ("the port that was asked for", [egress({"ports": [{"port": 80}]})], ("10.200.0.9", 80), True),
    ("another port", [egress({"ports": [{"port": 80}]})], ("10.200.0.9", 81), False),
    ("the listener's port means nothing", [egress({"ports": [{"port": 20_007}]})], ("10.200.0.9", 80), False),
    ("a block around the address", [egress({"to": [{"ipBlock": {"cidr": "10.200.0.0/16"}}]})], ("10.200.0.9", 80), True),
    ("a block around the gateway", [egress({"to": [{"ipBlock": {"cidr": "169.254.0.0/16"}}]})], ("10.200.0.9", 80), False),
    ("pods are not behind it", [egress({"to": [{"namespaceSelector": {}}]})], ("10.200.0.9", 80), False),
    ("named ports are not behind it", [egress({"ports": [{"port": "http"}]})], ("10.200.0.9", 80), False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "asked", "expected"), [row[1:] for row in GATES], ids=[row[0] for row in GATES]
)
def test_the_way_to_other_clusters_is_egress(
    policies: list[dict[str, Any]], asked: tuple[str, int], expected: bool
) -> None:
    made = table(*(policy(spec, name=f"p{at}") for at, spec in enumerate(policies)))
    assert passes(made, through(*asked), "to-gateway") is expected


def test_the_node_and_its_name_server_are_never_out_of_reach() -> None:
    made = table(policy(egress()))
    assert passes(made, Packet(IPS["shop/web"], "169.254.20.10", 53, "udp"), "to-gateway")
    assert passes(made, Packet(IPS["shop/web"], GATEWAY.address, 8404), "to-gateway")


@pytest.mark.parametrize(
    ("spec", "user", "expected"),
    [
        (ingress(), 0, True),  # the kubelet's probe
        (ingress(), GATEWAY.uid, False),
        (ingress({"from": [{"namespaceSelector": {}}]}), GATEWAY.uid, False),
        (ingress({"from": [{"ipBlock": {"cidr": "10.1.0.1/32"}}]}), GATEWAY.uid, True),
        (ingress({"ports": [{"port": 80}]}), GATEWAY.uid, True),
    ],
)
def test_the_node_reaches_its_pods_and_other_clusters_through_it_do_not(
    spec: dict[str, Any], user: int, expected: bool
) -> None:
    made = table(policy(spec))
    said = Packet("10.1.0.1", IPS["shop/web"], user=user)
    assert passes(made, said, "from-gateway") is expected


def test_without_a_gateway_only_forwarding_is_judged() -> None:
    made = table(policy(egress()), gateway=False)
    assert {n for n, chain in made.chains.items() if chain.hook} == {"egress", "ingress"}
