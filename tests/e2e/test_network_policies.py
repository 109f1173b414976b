"""NetworkPolicies on real containers: written at the federation, kept by both nodes of a member, and gone without a trace."""

import itertools
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.support.fleet import KUBECTL, WHOAMI, Document, Fleet, core, is_ready, standing, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(600),
]

EXECS = itertools.count()
SPACE = "policed"
NODES = ("alpha-node-1", "alpha-node-2")
PODS = {
    # name -> node, labels
    "server": (0, {"app": "server"}),
    "near": (0, {"role": "client"}),
    "far": (1, {"role": "client"}),
    "stranger": (0, {}),
}
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies"
SERVER: Document = {"podSelector": {"matchLabels": {"app": "server"}}}
CLIENT: Document = {"podSelector": {"matchLabels": {"role": "client"}}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One member with two real nodes."""
    directory = tmp_path_factory.mktemp("policed") / ".lab"
    yield from standing(Fleet(directory, "--clusters", "alpha", "--nodes", "2"))


def pod(fleet: Fleet, name: str) -> Document:
    return fleet.api("alpha").get(core(SPACE, "pods", name))


def asks(fleet: Fleet, name: str, target: str) -> str:
    """What a pod hears from `http://target/`; empty for nothing within three seconds."""
    mine = pod(fleet, name)
    container = mine["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    words = ("tasks", "exec", "--exec-id", f"ask-{next(EXECS)}", container, "sh", "-c")
    line = f"timeout 3 wget -qO- http://{target}/ 2>/dev/null; true"
    return fleet.enter(f"alpha-{mine['spec']['nodeName']}", "ctr", "-n", "k8s.io", *words, line)


def reached(fleet: Fleet, target: str, *expected: str) -> bool:
    """Whether exactly these pods are answered there."""
    others = [name for name in PODS if name != "server"]
    return {name for name in others if asks(fleet, name, target)} == set(expected)


def policy(name: str, spec: dict[str, Any]) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def prepare(fleet: Fleet) -> str:
    """Pods on both nodes, a Service, and a policy that sends NetworkPolicies; the server's address."""
    fleet.api().create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    member = fleet.api("alpha")
    until(lambda: member.get(f"/api/v1/namespaces/{SPACE}"), "the namespace in alpha")
    until(lambda: member.get(core(SPACE, "serviceaccounts", "default")), "its account")
    nodes = sorted(node["metadata"]["name"] for node in member.list("/api/v1/nodes"))
    for name, (node, labels) in PODS.items():
        spec = {
            "nodeName": nodes[node],
            "containers": [{"name": "whoami", "image": WHOAMI, "ports": [{"name": "http", "containerPort": 80}],
                            "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}}],
            "terminationGracePeriodSeconds": 1,
        }  # fmt: skip
        member.create(
            core(SPACE, "pods"), {"metadata": {"name": name, "labels": labels}, "spec": spec}
        )
    service = {"selector": {"app": "server"}, "ports": [{"port": 80, "protocol": "TCP"}]}
    member.create(core(SPACE, "services"), {"metadata": {"name": "server"}, "spec": service})
    for name in PODS:
        until(lambda name=name: is_ready(pod(fleet, name)), f"{name} is ready")
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    everywhere = {"resourceSelectors": [kind], "placement": {"clusterAffinity": {}}}
    fleet.api().create(
        f"/apis/policy.karmada.io/v1alpha1/namespaces/{SPACE}/propagationpolicies",
        {
            "apiVersion": "policy.karmada.io/v1alpha1",
            "kind": "PropagationPolicy",
            "metadata": {"name": "policies"},
            "spec": everywhere,
        },
    )
    address: str = pod(fleet, "server")["status"]["podIP"]
    return address


def test_who_may_talk_to_whom(pair: Fleet) -> None:
    server = prepare(pair)
    api = pair.api()
    name = f"server.{SPACE}"
    for target in (server, name):
        until(partial(reached, pair, target, "near", "far", "stranger"), f"{target} before")

    api.create(POLICIES, policy("closed", {**SERVER, "policyTypes": ["Ingress"]}))
    until(partial(reached, pair, server), "the server is closed")
    assert reached(pair, name), "by its Service too"
    assert pair.fetch(pod(pair, "server"), "alpha"), "its own node reaches it"

    rule = {"from": [CLIENT], "ports": [{"port": "http"}]}
    api.create(POLICIES, policy("clients", {**SERVER, "ingress": [rule]}))
    for target in (server, name):
        until(partial(reached, pair, target, "near", "far"), f"clients reach {target}")
    assert is_ready(pod(pair, "server")), "its probe is the kubelet's"

    stranger = pod(pair, "stranger")["status"]["podIP"]
    until(lambda: asks(pair, "near", stranger), "near reaches the stranger")
    out = [{"to": [SERVER]}, {"ports": [{"port": 53, "protocol": "UDP"}]}]
    api.create(POLICIES, policy("out", {**CLIENT, "policyTypes": ["Egress"], "egress": out}))
    until(lambda: not asks(pair, "near", stranger), "near may not go there any more")
    assert not asks(pair, "far", stranger), "nor may far, from another node"
    until(partial(reached, pair, name, "near", "far"), "names are found, the server is reached")

    if KUBECTL is not None:
        table = pair.kubectl("alpha", "get", "netpol", "-n", SPACE)
        assert table.splitlines()[0].split() == ["NAME", "POD-SELECTOR", "AGE"]
        told = pair.kubectl("alpha", "describe", "networkpolicy", "clients", "-n", SPACE)
        assert "PodSelector: role=client" in told

    for one in ("closed", "clients", "out"):
        api.delete(f"{POLICIES}/{one}")
    for target in (server, name):
        until(partial(reached, pair, target, "near", "far", "stranger"), f"{target} afterwards")
    until(lambda: asks(pair, "near", stranger), "near reaches the stranger again")
    for host in NODES:
        tables = partial(pair.enter, host, "nft", "list", "tables")
        until(lambda tables=tables: "ubernetes-policy" not in tables(), f"{host} has no table left")
