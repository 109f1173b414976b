"""A small cluster in words: three namespaces, seven pods on two nodes, and policies as YAML would have them."""

from typing import Any

import msgspec

from cluster_agent.node.policy.inputs import pod_of, policy_of
from cluster_agent.node.policy.layout import Gateway, compile_rules
from cluster_agent.node.policy.ledger import Ledger
from cluster_agent.node.policy.model import Ruleset
from machinery.api.network_kinds import NetworkPolicy, PolicyPod
from machinery.meta.resource import ObjectKey

GATEWAY = Gateway("169.254.20.11", 20_000, 29_999, 65_534)
BOTH = ("ip", "ip6")

IPS = {
    "shop/web": "10.1.0.2",
    "shop/db": "10.1.0.3",
    "shop/far": "10.1.1.2",
    "ops/probe": "10.1.0.4",
    "ops/web": "10.1.1.3",
    "lab/tool": "10.1.0.5",
    "lab/host": "10.9.0.1",
}
"""The third number is the node: 0 is `here`."""
OUTSIDE = "203.0.113.7"
SIX = {name: ip.replace("10.", "fd00::").replace(".", ":") for name, ip in IPS.items()}

SPACES = {
    "shop": {"team": "sales"},
    "ops": {"team": "ops", "tier": "core"},
    "lab": {},
}
LABELS = {
    "shop/web": {"app": "web"},
    "shop/db": {"app": "db", "tier": "data"},
    "shop/far": {"app": "web", "track": "canary"},
    "ops/probe": {"app": "probe"},
    "ops/web": {"app": "web"},
    "lab/tool": {"app": "tool"},
    "lab/host": {"app": "tool"},
}
PORTS = {
    "shop/web": [("http", 8080, "TCP"), ("dns", 5353, "UDP")],
    "shop/far": [("http", 8081, "TCP")],
    "shop/db": [("sql", 5432, "TCP")],
    "ops/web": [("http", 80, "TCP")],
}


def key(name: str) -> ObjectKey:
    return ObjectKey(*name.split("/"))


def pod(name: str, **more: Any) -> PolicyPod:
    """One of the cluster's pods; `more`: labels, ips, phase, node, deleting."""
    ips = more.get("ips", (IPS[name], SIX[name]) if name in IPS else ())
    ports = [
        {"name": port, "containerPort": number, "protocol": protocol}
        for port, number, protocol in PORTS.get(name, ())
    ]
    where = "here" if IPS.get(name, "10.1.0.0").split(".")[2] == "0" else "there"
    metadata = {"namespace": key(name).namespace, "name": key(name).name, "uid": f"uid-{name}"}
    if more.get("deleting"):
        metadata["deletionTimestamp"] = "2026-11-30T00:00:00Z"
    document = {
        "metadata": {**metadata, "labels": more.get("labels", LABELS.get(name, {}))},
        "spec": {
            "nodeName": more.get("node", where),
            "hostNetwork": name == "lab/host",
            "containers": [{"ports": ports}],
            "initContainers": more.get("init", []),
        },
        "status": {"phase": more.get("phase", "Running"), "podIPs": [{"ip": ip} for ip in ips]},
    }
    return msgspec.convert(document, PolicyPod)


def policy(spec: dict[str, Any], namespace: str = "shop", name: str = "p") -> NetworkPolicy:
    metadata = {"namespace": namespace, "name": name, "uid": f"uid-{namespace}-{name}"}
    return msgspec.convert({"metadata": metadata, "spec": spec}, NetworkPolicy)


def ledger(*policies: NetworkPolicy, node: str = "here") -> Ledger:
    """What the node knows."""
    made = Ledger(node)
    for name, labels in SPACES.items():
        made.put_space(name, {"kubernetes.io/metadata.name": name, **labels})
    for name in IPS:
        made.put_pod(key(name), pod_of(pod(name)))
    for one in policies:
        made.put_policy(one.key, policy_of(one))
    return made


def table(*policies: NetworkPolicy, node: str = "here", gateway: bool = True) -> Ruleset:
    """The node's table under these policies."""
    return compile_rules(ledger(*policies, node=node), BOTH, GATEWAY if gateway else None)
