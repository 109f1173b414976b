"""A Service of the whole fleet on real containers: every member reaches it by name, answered from every zone, by pods' own
addresses or by gateways; what is not exported has no door; a zone that dies is out of use within seconds.

The tests build on one another: one export is followed from its beginning to its end.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter
from pathlib import Path

import pytest
from tests.support.fleet import (
    MEMBERS,
    WHOAMI,
    ZONES,
    Document,
    Fleet,
    Refused,
    Workload,
    clusters_ready,
    core,
    deployment,
    deployments,
    is_ready,
    until,
)

from federation.lab import state
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    DIRECT,
    GATEWAY,
    GATEWAY_PORT,
    GATEWAY_SECRET,
    PEERS,
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    UNREACHABLE,
    port_name,
    probe_name,
)
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(400),
]
NAMESPACE = "demo"
NAME = f"web.{NAMESPACE}.svc.clusterset.local"
ALL_ZONES = set(ZONES.values())
EXECS = itertools.count()
OUT_OF_USE_S = 8.0
"""How long a dead zone may cost requests; measured: about four seconds, promised: six."""
ASKED_S, GAP_S = 14.0, 0.05
"""How long requests are made around the death of a zone, and how often."""


@pytest.fixture(scope="module")
def web(own: Fleet) -> Workload:
    """Six pods with a Service that is exported, and one that is not."""
    api = own.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for name in ("web", "private"):
        ports = [{"port": 80, "protocol": "TCP"}]
        spec = {"selector": {"app": "web"}, "ports": ports}
        api.create(core(NAMESPACE, "services"), {"metadata": {"name": name}, "spec": spec})
    export = {
        "apiVersion": SERVICE_EXPORTS.api_version,
        "kind": SERVICE_EXPORTS.kind,
        "metadata": {"name": "web"},
    }
    api.create(SERVICE_EXPORTS.path(NAMESPACE), export)
    probe = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}
    pods = deployment("web", NAMESPACE, 6, container={"readinessProbe": probe})
    api.create(deployments(NAMESPACE), pods)
    web = Workload(own, NAMESPACE, "web")
    web.stands(2, 2, 2)
    for member in MEMBERS:  # of the members' own, so that nothing moves them
        spec = {"containers": [{"name": "c", "image": WHOAMI}], "terminationGracePeriodSeconds": 1}
        pod = {"metadata": {"name": "client"}, "spec": spec}
        own.api(member).create(core(NAMESPACE, "pods"), pod)
    until(lambda: all(is_ready(client(own, member)) for member in MEMBERS), "clients to run")
    return web


# ------------------------------------------------------------------------------------------------ looking
def client(fleet: Fleet, member: str) -> Document:
    return fleet.api(member).get(core(NAMESPACE, "pods", "client"))


def container(pod: Document) -> str:
    name: str = pod["status"]["containerStatuses"][0]["containerID"]
    return name.removeprefix("containerd://")


def inside(fleet: Fleet, member: str, line: str) -> str:
    """What a shell line says in a member's client; its failure is no error, nor is a client that just starts anew."""
    pod = client(fleet, member)
    words = ("tasks", "exec", "--exec-id", f"set-{next(EXECS)}", container(pod), "sh", "-c")
    host = f"{member}-{pod['spec']['nodeName']}"
    return fleet.enter(host, "ctr", "-n", "k8s.io", *words, f"{{ {line}; }} 2>&1; true", code=None)


def zones(fleet: Fleet, member: str, requests: int) -> Counter[str]:
    """Where so many requests from a pod of `member` were answered; "" counts those that were not."""
    again = f"for i in $(seq {requests}); do timeout 5 wget -qO- http://{NAME}/ || echo; done"
    lines = inside(fleet, member, again).splitlines()
    return Counter(words[3] if len(words := line.split()) == 4 else "" for line in lines)


def paths(fleet: Fleet, member: str) -> dict[str, str]:
    """How the node of a member reaches the others, by its own word."""
    (node,) = fleet.api(member).list("/api/v1/nodes")
    peers = json.loads(node["metadata"].get("annotations", {}).get(PEERS, "[]"))
    return {peer["cluster"]: peer["path"] for peer in peers}


def go(fleet: Fleet, member: str, way: str) -> bool:
    return paths(fleet, member) == dict.fromkeys(set(MEMBERS) - {member}, way)


def set_address(fleet: Fleet, member: str) -> str:
    found = fleet.api(member).get(SERVICE_IMPORTS.path(NAMESPACE, "web"))["spec"].get("ips", [])
    return str(found[0]) if found else ""


def targets(fleet: Fleet, member: str) -> set[str]:
    """Where the kernel of a member's node sends connections to the Service of the fleet."""
    table = fleet.enter(f"{member}-node-1", "nft", "list", "table", "ip", "ubernetes-proxy")
    own = re.escape(set_address(fleet, member))
    return set(re.findall(rf"{own} \. 80(?: \. \d+)? : ([\d.]+) \. \d+", table))


def all_zones_answer(fleet: Fleet, member: str) -> None:
    """Sixty requests, each answered, by every zone."""
    found = zones(fleet, member, 60)
    assert set(found) == ALL_ZONES, found
    assert sum(found.values()) == 60, found
    assert min(found.values()) >= 6, f"a third each is 20: {found}"
    print(f"{member}: {dict(found)}")


# ------------------------------------------------------------------------------------------------ line 1
def test_a_pod_in_each_cluster_is_answered_from_all_zones(own: Fleet, web: Workload) -> None:
    for member in MEMBERS:
        until(lambda m=member: go(own, m, DIRECT), lambda m=member: f"{m}: {paths(own, m)}")
        until(
            lambda m=member: len(targets(own, m)) == 6, lambda m=member: f"{m}: {targets(own, m)}"
        )
    for member in MEMBERS:
        all_zones_answer(own, member)
        pods = {pod["status"]["podIP"] for other in MEMBERS for pod in web.pods(other)}
        assert targets(own, member) == pods, "directly"
    assert len({set_address(own, member) for member in MEMBERS}) == 3, "each member's own range"
    host = own.enter(
        "beta-node-1", "busybox", "wget", "-qO-", f"http://{set_address(own, 'beta')}/"
    )
    assert len(host.split()) == 4, "a host's own packets"
    told = own.api().get(CLUSTER_NETWORKS.path("", "alpha"))["status"]["summary"]
    assert told == "beta=Direct gamma=Direct"


def test_the_same_through_the_gateways(own: Fleet, web: Workload) -> None:
    direct_routes(own, "Disabled")
    for member in MEMBERS:
        until(lambda m=member: go(own, m, GATEWAY), lambda m=member: f"{m}: {paths(own, m)}")
        until(lambda m=member: by_gateways(web, m), lambda m=member: f"{m}: {targets(own, m)}")
    for member in MEMBERS:
        all_zones_answer(own, member)
    host = own.enter(
        "beta-node-1", "busybox", "wget", "-qO-", f"http://{set_address(own, 'beta')}/"
    )
    assert len(host.split()) == 4, "a host's own packets"


def direct_routes(fleet: Fleet, word: str) -> None:
    api, spec = fleet.api(), {"spec": {"directRoutes": word}}
    try:
        api.merge(FEDERATION_CONFIGS.path("", CONFIG_NAME), spec)
    except Refused as error:
        assert error.code == 404, error
        document = {
            "apiVersion": FEDERATION_CONFIGS.api_version,
            "kind": FEDERATION_CONFIGS.kind,
            "metadata": {"name": CONFIG_NAME},
        }
        api.create(FEDERATION_CONFIGS.path(""), document | spec)


def by_gateways(web: Workload, member: str) -> bool:
    ours = {pod["status"]["podIP"] for pod in web.pods(member)}
    return targets(web.fleet, member) == ours | {"169.254.20.11"}


# ------------------------------------------------------------------------------------------------ no door
ASK = """
import json, socket, ssl, sys
address, port, certificate, ca, names = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
if certificate:
    context.load_cert_chain(certificate)
said = {}
for name in names:
    try:
        with socket.create_connection((address, port), 5) as plain:
            with context.wrap_socket(plain, server_hostname=name or None) as secure:
                secure.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                said[name] = b"".join(iter(lambda: secure.recv(65536), b"")).decode().strip()
    except OSError as error:
        said[name] = f"refused: {error}"
print(json.dumps(said))
"""


def gateway_answers(
    fleet: Fleet, directory: Path, names: list[str], *, certified: bool = True
) -> dict[str, str]:
    """What alpha's gateway says to each server name, asked from beta's node with beta's own certificate, or with none."""
    secret = fleet.api("beta").get(core(GATEWAY_SECRET.namespace, "secrets", GATEWAY_SECRET.name))
    files = {name: b64decode(text) for name, text in secret["data"].items()}
    pair, ca = directory / "pair.pem", directory / "ca.pem"
    pair.write_bytes(files["tls.crt"] + files["tls.key"])
    ca.write_bytes(files["ca.crt"])
    known = state.load(fleet.directory)
    assert known is not None
    address = known.plan().clusters[0].nodes[0].address
    asked = [address, GATEWAY_PORT, str(pair) if certified else "", str(ca), names]
    said: dict[str, str] = json.loads(
        fleet.enter("beta-node-1", sys.executable, "-c", ASK, json.dumps(asked))
    )
    return said


def nothing(said: str) -> bool:
    """Refused, or closed without a byte."""
    return said.startswith("refused") or not said


WEB = port_name("alpha", NAMESPACE, "web", 80)
NO_DOORS = [
    port_name("alpha", NAMESPACE, "private", 80),
    port_name("alpha", NAMESPACE, "web", 8080),
    port_name("alpha", NAMESPACE, "web", 80, "UDP"),
    port_name("alpha", "default", "kubernetes", 443),
    port_name("beta", NAMESPACE, "web", 80),
    port_name("beta", NAMESPACE, "private", 80),
    f"private.{NAMESPACE}.svc.cluster.local",
    f"private.{NAMESPACE}.svc.clusterset.local",
    f"web.{NAMESPACE}.svc.cluster.local",
    f"tcp-80.private.{NAMESPACE}.alpha",
    probe_name("beta"),
    "private",
    "localhost",
    "",
]


def test_what_is_not_exported_is_reached_by_no_server_name(
    own: Fleet, web: Workload, tmp_path: Path
) -> None:
    said = gateway_answers(own, tmp_path, [WEB, probe_name("alpha"), *NO_DOORS])
    assert "zone-a" in said[WEB], "the door that there is"
    assert not nothing(said[probe_name("alpha")])
    open_doors = {name: said[name] for name in NO_DOORS if not nothing(said[name])}
    assert open_doors == {}
    anonymous = gateway_answers(own, tmp_path, [WEB, probe_name("alpha")], certified=False)
    assert all(nothing(words) for words in anonymous.values()), anonymous


# ------------------------------------------------------------------------------------------------ a dead zone
CLIENT = """
import json, socket, sys, threading, time
address, seconds, gap = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
found, lock = [], threading.Lock()

def ask():
    began, words, error = time.time(), "", ""
    try:
        with socket.create_connection((address, 80), 1.0) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            words = b"".join(iter(lambda: s.recv(65536), b"")).decode().split("\\r\\n\\r\\n")[-1].strip()
    except OSError as caught:
        error = repr(caught)
    with lock:
        found.append((began, words, error or "closed"))

threads, end = [], time.time() + seconds
while time.time() < end:
    threads.append(threading.Thread(target=ask))
    threads[-1].start()
    time.sleep(gap)
for thread in threads:
    thread.join()
print(json.dumps(sorted(found)))
"""


def requests_of(fleet: Fleet, member: str, seconds: float) -> subprocess.Popen[str]:
    """Requests from the client's network to the Service of the fleet, each given up after a second."""
    pid = fleet.tasks()[container(client(fleet, member))].pid
    words = (set_address(fleet, member), str(seconds), str(GAP_S))
    return subprocess.Popen(
        ("nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", CLIENT, *words),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("way", [DIRECT, GATEWAY])
def test_a_zone_that_dies_is_out_of_use_within_seconds(own: Fleet, web: Workload, way: str) -> None:
    direct_routes(own, "Enabled" if way == DIRECT else "Disabled")
    for member in MEMBERS:
        until(lambda m=member: go(own, m, way), lambda m=member: f"{m}: {paths(own, m)}", 120)
    until(lambda: set(zones(own, "beta", 24)) == ALL_ZONES, "all zones to answer in beta")
    process = requests_of(own, "beta", ASKED_S)
    time.sleep(2.0)
    asked = time.time()
    own.lab("kill", "zone-a")
    output, _ = process.communicate(timeout=60)
    requests = json.loads(output)
    failed = [began for began, words, _ in requests if not words]
    why = [(round(began - asked, 2), error) for began, words, error in requests if not words]
    before = [began for began in failed if began < asked]
    assert len(requests) > ASKED_S / GAP_S / 2, "the client was not held up"
    assert before == [], "all was well until then"
    assert failed, "the zone had a share"
    lasted, since_asked = failed[-1] - failed[0], failed[-1] - asked
    print(
        f"{way}: {len(failed)} of {len(requests)} requests failed over {lasted:.2f} s ({since_asked:.2f} s after the order)"
    )
    assert lasted < OUT_OF_USE_S, why
    assert paths(own, "beta") == {"alpha": UNREACHABLE, "gamma": way}
    own.lab("revive", "zone-a")
    until(lambda: clusters_ready(own), "all members Ready", 120)
    until(lambda: go(own, "beta", way), lambda: f"beta: {paths(own, 'beta')}", 120)
    until(lambda: set(zones(own, "beta", 24)) == ALL_ZONES, "zone-a to answer in beta again", 180)


# ------------------------------------------------------------------------------------------------ the end
def test_an_export_that_ends_takes_name_and_door_away(
    own: Fleet, web: Workload, tmp_path: Path
) -> None:
    assert "zone-a" in gateway_answers(own, tmp_path, [WEB])[WEB]
    own.api().delete(SERVICE_EXPORTS.path(NAMESPACE, "web"))
    for member in MEMBERS:
        until(
            lambda m=member: "NXDOMAIN" in inside(own, m, f"nslookup -type=a {NAME}."),
            f"the name to be gone in {member}",
        )
    until(
        lambda: all(nothing(words) for words in gateway_answers(own, tmp_path, [WEB]).values()),
        "the door to be closed",
    )
    assert all(nothing(words) for words in gateway_answers(own, tmp_path, NO_DOORS).values())
