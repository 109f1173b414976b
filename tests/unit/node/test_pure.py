"""The small rules of a node: resources, environment, downward API, DNS, credentials, CNI, registration."""

import base64
import json
from typing import Any

import msgspec
import pytest
from tests.unit.node.worlds import T0, container, pod

from cluster_agent.node import network
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.interface import Dns, Image, ImageAuth, Resources
from cluster_agent.node.host import credentials
from cluster_agent.node.kubelet import resources
from cluster_agent.node.kubelet.environment import environment, expand
from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.hooks.network import dns_of, host_resolver, hostname_of, hosts_file
from cluster_agent.node.kubelet.hooks.security import non_root_problem
from cluster_agent.node.kubelet.probes import Streak
from cluster_agent.node.objects import Ref, references
from cluster_agent.node.registration import (
    Machine,
    NodeFacts,
    allocatable,
    differs,
    missing_labels,
    node_document,
    node_labels,
    node_status,
)
from cluster_agent.node.volumes import downward
from machinery.api.core import ConfigMap, Node, Probe, Secret
from machinery.api.pod_volumes import ObjectFieldSelector, ResourceFieldSelector
from machinery.meta.objectmeta import ObjectMeta


def limits(**values: Any) -> dict[str, Any]:
    return {"resources": values}


BOTH = {"cpu": "500m", "memory": "64Mi"}
QOS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing": ([container("a")], "BestEffort"),
    "limits alone are requests too": ([container("a", **limits(limits=BOTH))], "Guaranteed"),
    "equal": ([container("a", **limits(limits=BOTH, requests=BOTH))], "Guaranteed"),
    "equal, written otherwise": (
        [container("a", **limits(limits=BOTH, requests={"cpu": "0.5", "memory": "65536Ki"}))],
        "Guaranteed",
    ),
    "requests below": (
        [container("a", **limits(limits=BOTH, requests={"cpu": "1m"}))],
        "Burstable",
    ),
    "cpu only": ([container("a", **limits(limits={"cpu": "1"}))], "Burstable"),
    "one of two": ([container("a", **limits(limits=BOTH)), container("b")], "Burstable"),
    "zero is nothing": ([container("a", **limits(requests={"cpu": "0"}))], "BestEffort"),
}


@pytest.mark.parametrize(("containers", "wanted"), QOS.values(), ids=QOS.keys())
def test_qos_class(containers: list[dict[str, Any]], wanted: str) -> None:
    assert resources.qos_class(pod(*containers).spec) == wanted


@pytest.mark.parametrize(
    ("milli", "shares", "quota"),
    [(0, 2, 0), (1, 2, 1000), (100, 102, 10_000), (1000, 1024, 100_000), (10**9, 262_144, 10**11)],
)
def test_cpu(milli: int, shares: int, quota: int) -> None:
    assert (resources.cpu_shares(milli), resources.cpu_quota(milli)) == (shares, quota)


def test_pod_limits_need_every_container_to_have_one() -> None:
    one = container("a", **limits(limits=BOTH))
    assert resources.pod_resources(pod(one, one | {"name": "b"}).spec) == Resources(
        cpu_shares=1024, cpu_quota=100_000, cpu_period=100_000, memory_limit=128 << 20
    )
    assert resources.pod_resources(pod(one, container("b")).spec) == Resources(
        cpu_shares=512, cpu_quota=0, cpu_period=100_000, memory_limit=0
    )


def test_init_containers_count_by_their_peak_and_sidecars_by_their_sum() -> None:
    def cpu(name: str, amount: str, **more: Any) -> dict[str, Any]:
        return container(name, **limits(requests={"cpu": amount}), **more)

    inits = (cpu("i", "3"), cpu("s", "1", restartPolicy="Always"), cpu("j", "4"))
    assert resources.pod_resources(pod(cpu("a", "2"), init=inits).spec).cpu_shares == 5 * 1024


OOM = {
    "guaranteed": (container("a", **limits(limits=BOTH)), -997),
    "best effort": (container("a"), 1000),
    "burstable": (container("a", **limits(requests={"memory": "256Mi"})), 750),
    "burstable, tiny": (container("a", **limits(requests={"memory": "1"})), 999),
    "burstable, huge": (container("a", **limits(requests={"memory": "2Gi"})), 3),
}


@pytest.mark.parametrize(("one", "wanted"), OOM.values(), ids=OOM.keys())
def test_oom_score(one: dict[str, Any], wanted: int) -> None:
    spec = pod(one).spec
    assert resources.oom_score_adj(spec, spec.containers[0], 1 << 30) == wanted
    assert resources.oom_score_adj(spec, spec.containers[0], 1 << 30, floor=100) == max(wanted, 100)


# ------------------------------------------------------------------------------------------------------- environment
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("", ""),
    ],
)
def test_expansion(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == wanted


class Table:
    """Objects out of dicts."""

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        found = {"settings": {"a": "1", "b": "2"}}.get(name)
        return ConfigMap(data=found) if found is not None else None

    def secret(self, namespace: str, name: str) -> Secret | None:
        return Secret(data={"k": base64.b64encode(b"hush").decode()}) if name == "key" else None


def env_of(*env: dict[str, Any], env_from: tuple[dict[str, Any], ...] = ()) -> dict[str, str]:
    one = container("c", env=list(env), envFrom=list(env_from), **limits(limits={"cpu": "1500m"}))
    wanted = pod(one, meta={"labels": {"app": "web"}}, serviceAccountName="robot")
    return environment(
        wanted, wanted.spec.containers[0], Table(), host_ip="192.0.2.1", node_name="node-1",
        pod_ips=("10.0.0.5", "fd00::5"), allocatable={"memory": "1Gi"},
    )  # fmt: skip


def field(path: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


def key(kind: str, name: str, wanted: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": wanted, **more}}}


ENV: dict[str, tuple[dict[str, Any], str | None]] = {
    "name": (field("metadata.name"), "web"),
    "label": (field("metadata.labels['app']"), "web"),
    "absent label": (field("metadata.labels['none']"), ""),
    "node": (field("spec.nodeName"), "node-1"),
    "account": (field("spec.serviceAccountName"), "robot"),
    "pod ip": (field("status.podIP"), "10.0.0.5"),
    "pod ips": (field("status.podIPs"), "10.0.0.5,fd00::5"),
    "host ip": (field("status.hostIP"), "192.0.2.1"),
    "cpu limit, rounded up": (resource("limits.cpu"), "2"),
    "cpu limit in thousandths": (resource("limits.cpu", divisor="1m"), "1500"),
    "no memory limit: the node's": (resource("limits.memory", divisor="1Mi"), "1024"),
    "request follows the limit": (resource("requests.cpu", divisor="1m"), "1500"),
    "config map": (key("configMap", "settings", "a"), "1"),
    "secret": (key("secret", "key", "k"), "hush"),
    "optional": (key("configMap", "none", "a", optional=True), None),
    "optional key": (key("configMap", "settings", "z", optional=True), None),
}


@pytest.mark.parametrize(("variable", "wanted"), ENV.values(), ids=ENV.keys())
def test_environment(variable: dict[str, Any], wanted: str | None) -> None:
    assert env_of(variable).get("X") == wanted


def test_later_variables_win_and_see_earlier_ones() -> None:
    found = env_of(
        {"name": "b", "value": "own"},
        {"name": "c", "value": "$(P_a)$(b)$(d)"},
        {"name": "d", "value": "late"},
        env_from=(
            {"configMapRef": {"name": "settings"}},
            {"prefix": "P_", "configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "none", "optional": True}},
        ),
    )
    assert found == {
        "a": "1", "b": "own", "P_a": "1", "P_b": "2", "c": "1own$(d)", "d": "late",
    }  # fmt: skip


FAULTS = {
    'configmap "none" not found': key("configMap", "none", "a"),
    "couldn't find key z in ConfigMap demo/settings": key("configMap", "settings", "z"),
    "couldn't find key z in Secret demo/key": key("secret", "key", "z"),
    "unsupported fieldPath: spec.nothing": field("spec.nothing"),
}


@pytest.mark.parametrize(("message", "variable"), FAULTS.items(), ids=FAULTS.keys())
def test_faults_of_the_environment(message: str, variable: dict[str, Any]) -> None:
    with pytest.raises(HookFault) as error:
        env_of(variable)
    assert (error.value.reason, error.value.message) == ("CreateContainerConfigError", message)


def test_labels_as_a_file_are_quoted_and_sorted() -> None:
    wanted = pod(meta={"annotations": {"b": 'say "hi"\n', "a": "1"}})
    selector = ObjectFieldSelector(field_path="metadata.annotations")
    text = downward.field(wanted, selector, host_ip="", node_name="", pod_ips=())
    assert text == 'a="1"\nb="say \\"hi\\"\\n"'


def test_a_resource_of_a_named_container() -> None:
    wanted = pod(container("a", **limits(limits={"memory": "10Mi"})))
    selector = ResourceFieldSelector(resource="limits.memory", container_name="a")
    assert downward.resource(wanted, None, selector, {}) == str(10 << 20)
    with pytest.raises(downward.BadField):
        downward.resource(wanted, None, ResourceFieldSelector(resource="limits.cpu"), {})


def test_references_of_a_pod() -> None:
    wanted = pod(
        container("c", envFrom=[{"secretRef": {"name": "s1"}}], env=[key("configMap", "c1", "a")]),
        init=(container("i", env=[key("secret", "s2", "a")]),),
        volumes=[
            {"name": "v", "configMap": {"name": "c2"}},
            {"name": "w", "secret": {"secretName": "s3"}},
            {"name": "x", "projected": {"sources": [
                {"configMap": {"name": "c3"}}, {"secret": {"name": "s4"}},
                {"serviceAccountToken": {"path": "t"}}]}},
        ],
        imagePullSecrets=[{"name": "s5"}],
    )  # fmt: skip
    names = {("configmap", f"c{i}") for i in (1, 2, 3)} | {("secret", f"s{i}") for i in range(1, 6)}
    assert references(wanted) == {Ref(kind, "demo", name) for kind, name in names}


# ------------------------------------------------------------------------------------------------------------ network
HOST = Dns(("192.0.2.53",), ("example.org",), ("edns0",))
CLUSTER = ("10.96.0.10",)
OWN = ("demo.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org")
DNS: dict[str, tuple[dict[str, Any], tuple[str, ...], Dns]] = {
    "cluster first": ({}, CLUSTER, Dns(CLUSTER, OWN, ("ndots:5",))),
    "cluster first without a cluster DNS": ({}, (), HOST),
    "default": ({"dnsPolicy": "Default"}, CLUSTER, HOST),
    "host network": ({"hostNetwork": True}, CLUSTER, HOST),
    "host network, cluster first": (
        {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
        CLUSTER,
        Dns(CLUSTER, OWN, ("ndots:5",)),
    ),
    "none": (
        {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
                                            "options": [{"name": "ndots", "value": "2"}]}},
        CLUSTER,
        Dns(("1.1.1.1",), ("a.b",), ("ndots:2",)),
    ),
    "options are overridden by name": (
        {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}, {"name": "rotate"}]}},
        CLUSTER,
        Dns(CLUSTER, OWN, ("ndots:1", "rotate")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "cluster", "wanted"), DNS.values(), ids=DNS.keys())
def test_dns(spec: dict[str, Any], cluster: tuple[str, ...], wanted: Dns) -> None:
    assert dns_of(pod(**spec), HOST, cluster, "cluster.local") == wanted


def test_the_hosts_resolver() -> None:
    text = "# x\nnameserver 192.0.2.53\nsearch example.org\noptions edns0\n"
    assert host_resolver(text) == HOST


def test_hosts_file_and_hostname() -> None:
    wanted = pod(
        subdomain="sub",
        hostname="me",
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["a", "b"]}],
    )
    text = hosts_file(wanted, ("10.0.0.5",), "cluster.local")
    assert "10.0.0.5\tme.sub.demo.svc.cluster.local\tme\n" in text
    assert text.endswith("# Entries added by HostAliases.\n192.0.2.7\ta\tb\n")
    assert hostname_of(pod(hostname="x" * 62 + "-y")) == "x" * 62


def test_cni_configuration() -> None:
    document = network.cni_config(bridge="b0", pod_cidr="10.1.0.0/24", data_dir="/d", mtu=1400)
    bridge, portmap = document["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.1.0.0/24"}]]
    assert (bridge["bridge"], bridge["mtu"], portmap["type"]) == ("b0", 1400, "portmap")
    with pytest.raises(ValueError, match="host bits"):
        network.cni_config(bridge="b0", pod_cidr="10.1.0.1/24", data_dir="/d", mtu=1400)


def test_credentials_are_those_of_the_images_registry() -> None:
    auths = {
        "https://docker.io/": {"auth": base64.b64encode(b"me:secret").decode()},
        "registry.example.org:5000": {"username": "you", "password": "other"},
    }
    encoded = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    assert credentials(encoded, "busybox:1") == [ImageAuth("me", "secret")]
    assert credentials(encoded, "registry.example.org:5000/x/y:1") == [ImageAuth("you", "other")]
    assert credentials(encoded, "other.example.org/x") == []
    assert credentials("!!", "busybox") == []


ROOT: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "not asked for": ({}, {}, "", ""),
    "image is root": ({"runAsNonRoot": True}, {}, "", "image will run as root"),
    "image has a number": ({"runAsNonRoot": True}, {}, "1000", ""),
    "image has a name": ({"runAsNonRoot": True}, {}, "nobody", "non-numeric user (nobody)"),
    "user given": ({"runAsNonRoot": True, "runAsUser": 5}, {}, "", ""),
    "user is root": ({"runAsNonRoot": True, "runAsUser": 0}, {}, "", "breaks non-root policy"),
    "container overrides": ({"runAsNonRoot": True}, {"runAsNonRoot": False}, "", ""),
}


@pytest.mark.parametrize(("shared", "own", "user", "problem"), ROOT.values(), ids=ROOT.keys())
def test_run_as_non_root(
    shared: dict[str, Any], own: dict[str, Any], user: str, problem: str
) -> None:
    wanted = pod(container("c", securityContext=own), securityContext=shared)
    found = non_root_problem(wanted, wanted.spec.containers[0], Image("x", user=user))
    assert (problem in found) if problem else not found


@pytest.mark.parametrize(
    ("answers", "passed", "failed"),
    [
        ("", False, False),
        ("+", False, False),
        ("++", True, False),
        ("+-+", False, False),
        ("---", False, True),
        ("++--", True, False),
        ("++---", False, True),
        ("---++", True, False),
    ],
)
def test_thresholds(answers: str, passed: bool, failed: bool) -> None:
    probe = Probe(success_threshold=2, failure_threshold=3)
    streak = Streak()
    for answer in answers:
        streak = streak.after(answer == "+", probe)
    assert (streak.passed, streak.failed) == (passed, failed)


# ------------------------------------------------------------------------------------------------------- registration
MACHINE = Machine("amd64", "6.1", "Debian", "mid", "boot", 4, 8 << 30, 100 << 30)
CONFIG = NodeConfig("node-1", "/state", api_server="https://x", zone="z", labels={"own": "1"})
FACTS = NodeFacts("node-1", "192.0.2.1", 10250, "containerd://1.6.20")


def registered(**changes: Any) -> Node:
    document = node_document(CONFIG, MACHINE, FACTS, T0)
    return msgspec.convert(msgspec.to_builtins(document) | changes, Node)


def test_a_fresh_node_says_what_is_true() -> None:
    node = registered()
    assert not differs(CONFIG, MACHINE, FACTS, node)
    assert not missing_labels(CONFIG, MACHINE, node)
    assert node.status.allocatable["memory"] == f"{8 * 1024 - 100}Mi"
    assert node.metadata.labels["topology.kubernetes.io/zone"] == "z"


@pytest.mark.parametrize(
    "facts",
    [
        NodeFacts("node-1", "192.0.2.2", 10250, "containerd://1.6.20"),
        NodeFacts("node-1", "192.0.2.1", 10251, "containerd://1.6.20"),
        NodeFacts("node-1", "192.0.2.1", 10250, "containerd://1.7.0"),
        NodeFacts("node-1", "192.0.2.1", 10250, "containerd://1.6.20", False, "down"),
    ],
    ids=["address", "port", "runtime", "readiness"],
)
def test_a_change_is_noticed(facts: NodeFacts) -> None:
    assert differs(CONFIG, MACHINE, facts, registered())


def test_a_condition_that_others_set_to_unknown_is_set_right() -> None:
    node = registered()
    unknown = tuple(msgspec.structs.replace(c, status="Unknown") for c in node.status.conditions)
    status = msgspec.structs.replace(node.status, conditions=unknown)
    assert differs(CONFIG, MACHINE, FACTS, msgspec.structs.replace(node, status=status))


def test_transition_times_stay_while_the_status_stays() -> None:
    later = T0.replace(hour=15)
    status = node_status(CONFIG, MACHINE, FACTS, later, registered())
    assert {c["lastTransitionTime"] for c in status["conditions"]} == {"2026-01-01T12:00:00Z"}
    assert {c["lastHeartbeatTime"] for c in status["conditions"]} == {"2026-01-01T15:00:00Z"}


def test_labels_that_were_taken_away_are_put_back() -> None:
    node = registered(metadata={"name": "node-1", "labels": {"mine": "x"}})
    assert missing_labels(CONFIG, MACHINE, node) == node_labels(CONFIG, MACHINE, "node-1")
    assert isinstance(node.metadata, ObjectMeta)


def test_allocatable_is_never_negative() -> None:
    found = allocatable({"cpu": "1", "memory": "50Mi"}, {"memory": "100Mi", "cpu": "250m"})
    assert found == {"cpu": "750m", "memory": "0"}


BAD = {
    "unknown runtime": {"runtime": "docker"},
    "many real nodes": {"hollow_count": 2},
    "hollow nodes without an access": {"runtime": "hollow", "hollow_count": 2},
    "no server": {"api_server": ""},
    "bridge name": {"cni_bridge": "x" * 16},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_bad_settings_are_refused(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"node_name": "n", "state_dir": "/s", "api_server": "https://x"}
    with pytest.raises(ValueError, match=r"\w"):
        NodeConfig(**(fields | changes)).check()
