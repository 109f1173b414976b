"""Acceptance 1 to 3: one command brings a fleet up, and plain kubectl at the federation reaches real containers in three zones.

Where kubectl is what is tested and it is absent, the test is skipped; all others run without it.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support.fleet import (
    AT_ONCE,
    MEMBERS,
    REGIONS,
    WHOAMI,
    WHOAMI_2,
    ZONES,
    Api,
    Fleet,
    Refused,
    Workload,
    core,
    deployment,
    deployments,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(300)]

Kubectl = Callable[..., str]
VERSION = r"v1\.36\.\d+\+ubernetes"


# ---------------------------------------------------------------------------------------------------- 1: up
def test_up_ends_with_a_table_and_the_next_commands(fleet: Fleet) -> None:
    assert "the fleet is up" in fleet.said
    for member in MEMBERS:
        row = rf"^{member} +{ZONES[member]} +{REGIONS[member]} +lab +True +{VERSION} +1/1"
        assert re.search(row, fleet.said, re.MULTILINE), fleet.said
    next_command = f"kubectl --kubeconfig {fleet.kubeconfig} --context federation get clusters"
    assert next_command in fleet.said


def test_up_again_changes_nothing(fleet: Fleet) -> None:
    before, clusters = fleet.pids(), cluster_uids(fleet)
    kubeconfig = Path(fleet.kubeconfig).read_bytes()
    again = fleet.lab("up")
    assert "the fleet is up" in again
    assert fleet.pids() == before
    assert cluster_uids(fleet) == clusters
    assert Path(fleet.kubeconfig).read_bytes() == kubeconfig


def cluster_uids(fleet: Fleet) -> dict[str, str]:
    found = fleet.api().list("/apis/cluster.karmada.io/v1alpha1/clusters")
    return {c["metadata"]["name"]: c["metadata"]["uid"] for c in found}


# ---------------------------------------------------------------------------------------------------- 2: clusters
def test_get_clusters(kubectl: Kubectl) -> None:
    lines = kubectl("federation", "get", "clusters").splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "READY", "ZONE", "PROVIDER", "NODES", "AGE"]
    assert len(lines) == 1 + len(MEMBERS)
    for member, line in zip(MEMBERS, lines[1:], strict=True):
        row = rf"{member} +{VERSION} +True +{ZONES[member]} +lab +1/1 +\d+[smh]\w*"
        assert re.fullmatch(row, line.strip()), line


# ---------------------------------------------------------------------------------------------------- 3: workloads
def test_kubectl_creates_pods_in_every_zone(kubectl: Kubectl, fleet: Fleet) -> None:
    """The issue's own commands."""
    kubectl("federation", "create", "namespace", "demo")
    create = ("create", "deployment", "web", f"--image={WHOAMI}", "--replicas=6", "-n", "demo")
    assert kubectl("federation", *create) == "deployment.apps/web created\n"
    web = Workload(fleet, "demo", "web")
    web.stands(2, 2, 2)
    kubectl("federation", "scale", "deployment/web", "--replicas=7", "-n", "demo")
    assert web.total(7) == [3, 2, 2]
    told = kubectl("federation", "rollout", "status", "deploy/web", "-n", "demo", "--timeout=90s")
    assert 'deployment "web" successfully rolled out' in told
    wide = kubectl("federation", "get", "pods", "-n", "demo", "-o", "wide", "--no-headers")
    nodes = {f"node-1.{member}" for member in MEMBERS}
    for line in wide.splitlines():
        name, ready, phase, restarts, _age, ip, node, *_ = line.split()
        assert (ready, phase, restarts) == ("1/1", "Running", "0"), wide
        assert node in nodes, wide
        assert name.rpartition(".")[2] == node.rpartition(".")[2], wide
        assert ip.startswith("10."), wide
    for member in MEMBERS:
        inside = kubectl(member, "get", "pods", "-n", "demo", "--no-headers").splitlines()
        assert len(inside) == web.count()[member]
        assert all("." not in line.split()[0] for line in inside), inside
    kubectl("federation", "delete", "namespace", "demo", "--timeout=90s")
    for member in MEMBERS:
        until(partial(gone, fleet.api(member), "/api/v1/namespaces/demo"), f"demo in {member}")


def gone(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except Refused as refused:
        return refused.code == 404
    return False


def test_containers_answer_with_their_place(fleet: Fleet, namespace: str) -> None:
    """`web-abc node-1 alpha zone-a` from the containers themselves, asked by HTTP inside the nodes' network."""
    body = deployment("web", namespace, 6, container=AT_ONCE)
    fleet.api().create(deployments(namespace), body)
    web = Workload(fleet, namespace, "web")
    web.stands(2, 2, 2)
    for member in MEMBERS:
        assert web.serves(member)
    fleet.api().merge(deployments(namespace, "web"), {"spec": {"replicas": 7}})
    assert web.total(7) == [3, 2, 2]
    fleet.api().delete(f"/api/v1/namespaces/{namespace}")
    path = f"/api/v1/namespaces/{namespace}"
    for context in ("federation", *MEMBERS):
        until(partial(gone, fleet.api(context), path), f"{namespace} in {context}")


def test_rollout(kubectl: Kubectl, fleet: Fleet, namespace: str) -> None:
    body = deployment("web", namespace, 3, container=AT_ONCE)
    fleet.api().create(deployments(namespace), body)
    web = Workload(fleet, namespace, "web")
    web.stands(1, 1, 1)

    def at(image: str, suffix: str) -> None:
        told = rollout("status", "--timeout=90s")
        assert 'deployment "web" successfully rolled out' in told
        web.stands(1, 1, 1)
        for pod in web.pods():
            assert pod["spec"]["containers"][0]["image"] == image
        answers = [fleet.fetch(p, m) for m in MEMBERS for p in web.pods(m)]
        assert all(a.endswith(suffix) for a in answers), answers

    def rollout(verb: str, *words: str) -> str:
        return kubectl("federation", "rollout", verb, "deployment/web", "-n", namespace, *words)

    change = ("set", "image", "deployment/web", f"whoami={WHOAMI_2}", "-n", namespace)
    assert "image updated" in kubectl("federation", *change)
    at(WHOAMI_2, " v2")
    assert revisions(rollout("history")) == [1, 2]
    assert WHOAMI_2 in rollout("history", "--revision=2")
    assert "rolled back" in rollout("undo")
    at(WHOAMI, "")
    assert revisions(rollout("history")) == [2, 3]
    assert "rolled back" in rollout("undo", "--to-revision=2")
    at(WHOAMI_2, " v2")
    assert "restarted" in rollout("restart")
    at(WHOAMI_2, " v2")


def revisions(history: str) -> list[int]:
    return [int(line.split()[0]) for line in history.splitlines() if line[:1].isdigit()]


def settings(greeting: str) -> dict[str, dict[str, str]]:
    return {"data": {"greeting": greeting}}


def test_configmap_and_secret_follow(fleet: Fleet, namespace: str) -> None:
    """They come with the Deployment that uses them; a change reaches the running containers."""
    api = fleet.api()
    name = {"metadata": {"name": "settings"}}
    api.create(core(namespace, "configmaps"), name | settings("hello"))
    api.create(core(namespace, "secrets"), name | {"stringData": {"password": "s3cret"}})
    unused = {"metadata": {"name": "unused"}, "data": {"a": "b"}}
    api.create(core(namespace, "configmaps"), unused)
    container = {
        "command": [
            "sh",
            "-c",
            "mkdir /dev/shm/www; echo $PASSWORD >/dev/shm/www/password;"
            "ln -s /settings/greeting /dev/shm/www/greeting; exec httpd -f -p 80 -h /dev/shm/www",
        ],
        "env": [
            {
                "name": "PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "settings", "key": "password"}},
            }
        ],
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
    }
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    body = deployment(
        "web",
        namespace,
        3,
        container=container,
        volumes=volumes,
        terminationGracePeriodSeconds=0,
    )
    api.create(deployments(namespace), body)
    web = Workload(fleet, namespace, "web")
    web.stands(1, 1, 1)
    before = web.identities()

    def read(member: str, file: str) -> str:
        pod = web.pods(member)[0]
        host, ip = f"{member}-{pod['spec']['nodeName']}", pod["status"]["podIP"]
        return fleet.enter(host, "busybox", "wget", "-qO-", f"http://{ip}/{file}").strip()

    for member in MEMBERS:
        assert (read(member, "greeting"), read(member, "password")) == ("hello", "s3cret")
        names = {
            c["metadata"]["name"] for c in fleet.api(member).list(core(namespace, "configmaps"))
        }
        assert "settings" in names
        assert "unused" not in names, "what nothing uses stays at the federation"

    def changed(member: str) -> bool:
        return read(member, "greeting") == "goodbye"

    api.merge(core(namespace, "configmaps", "settings"), settings("goodbye"))
    for member in MEMBERS:
        until(partial(changed, member), f"the new greeting in {member}", 120)
    assert web.identities() == before, "no container was restarted for it"


# ---------------------------------------------------------------------------------------------------- 3: kubectl's verbs
@pytest.mark.parametrize("context", ["federation", "alpha"])
def test_logs_and_exec(kubectl: Kubectl, fleet: Fleet, namespace: str, context: str) -> None:
    fleet.api().create(deployments(namespace), deployment("web", namespace, 3))
    web = Workload(fleet, namespace, "web")
    web.stands(1, 1, 1)
    pod = next(
        p["metadata"]["name"]
        for p in web.pods(context)
        if "alpha" in str(p["spec"]) or context == "alpha"
    )
    inside = web.pods("alpha")[0]
    name = inside["metadata"]["name"]
    first = f"serving on port 80: {name} {inside['spec']['nodeName']} alpha zone-a\n"

    def k(*words: str, stdin: str = "", code: int = 0) -> str:
        return kubectl(context, "-n", namespace, *words, stdin=stdin, code=code)

    assert k("logs", pod) == first
    assert k("logs", pod, "--tail=1", "-c", "whoami") == first
    assert re.fullmatch(rf"\d{{4}}-\S+Z {re.escape(first)}", k("logs", pod, "--timestamps"))
    assert "not found" in k("logs", "no-such-pod", code=1)
    follows(fleet, context, namespace, pod, lambda: fleet.fetch(inside, "alpha"))

    assert k("exec", pod, "--", "hostname") == f"{name}\n"
    assert k("exec", "deploy/web", "--", "echo", "a b", "c") == "a b c\n"
    told = k("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert {"out", "err"} <= set(told.splitlines())
    text = "".join(f"line {i}\n" for i in range(20_000))
    assert k("exec", "-i", pod, "--", "cat", stdin=text) == text, "input to its end, all of it"
    assert k("exec", "-i", pod, "--", "wc", "-l", stdin=text).strip() == "20000"
    assert "executable file not found" in k("exec", pod, "--", "no-such-program", code=1)
    assert terminal(fleet, context, namespace, pod) == 3


def follows(
    fleet: Fleet, context: str, namespace: str, pod: str, cause: Callable[[], object]
) -> None:
    """`logs -f` prints what is written after it began."""
    argv = fleet.kubectl_argv(context, "logs", "-f", "--tail=0", pod, "-n", namespace)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            seen = b""
            deadline = time.monotonic() + 60
            while b"response:200" not in seen:
                assert time.monotonic() < deadline, seen
                cause()
                if select.select([process.stdout], [], [], 0.5)[0]:
                    seen += os.read(process.stdout.fileno(), 65536)
            assert process.poll() is None, "it goes on"
        finally:
            process.kill()


def terminal(fleet: Fleet, context: str, namespace: str, pod: str) -> int:
    """A session of `exec -it` on a terminal of 100 columns and 30 lines; the exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    argv = fleet.kubectl_argv(context, "exec", "-it", pod, "-n", namespace, "--", "sh")
    process = subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        expect(master, r"# ")
        os.write(master, b"test -t 0 && echo is-a-$((40 + 2))-terminal\r")
        expect(master, r"is-a-42-terminal")
        os.write(master, b"stty size\r")
        expect(master, r"30 100")
        # The child speaks itself before it is interrupted: then it surely is the terminal's foreground.
        os.write(master, b"sh -c 'echo before-$((6 * 7)); while :; do sleep 1; done'\r")
        expect(master, r"before-42")
        os.write(master, b"\x03")
        expect(master, r"# ")
        os.write(master, b"exit 3\r")
        return process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def expect(terminal: int, pattern: str, seconds: float = 30) -> None:
    seen = b""
    deadline = time.monotonic() + seconds
    while not re.search(pattern, seen.decode(errors="replace")):
        left = deadline - time.monotonic()
        assert left > 0, f"{pattern!r} did not come: {seen!r}"
        if select.select([terminal], [], [], left)[0]:
            seen += os.read(terminal, 65536)


@pytest.mark.parametrize("context", ["federation", "beta"])
def test_kubectl_verbs(kubectl: Kubectl, fleet: Fleet, namespace: str, context: str) -> None:
    """What a user does all day, at the federation and in a member that has a Deployment of its own."""
    if context != "federation":
        until(lambda: not gone(fleet.api(context), f"/api/v1/namespaces/{namespace}"), "namespace")

    def k(*words: str, stdin: str = "", code: int = 0) -> str:
        return kubectl(context, "-n", namespace, *words, stdin=stdin, code=code)

    assert "created" in k("create", "deployment", "own", f"--image={WHOAMI}", "--replicas=3")
    assert "condition met" in k("wait", "deploy/own", "--for=condition=Available", "--timeout=90s")
    assert k("label", "deploy/own", "tier=front") == "deployment.apps/own labeled\n"
    assert k("annotate", "deploy/own", "note=hello") == "deployment.apps/own annotated\n"
    assert k("get", "deploy", "-l", "tier=front", "-o", "name") == "deployment.apps/own\n"
    until(lambda: "3/3" in k("get", "deploy", "own", "--no-headers"), "3/3 in get deployments")
    described = k("describe", "deploy/own")
    assert re.search(
        r"^Replicas: +3 desired \| 3 updated \| 3 total \| 3 available", described, re.M
    )
    assert "note: hello" in described

    pod = k("get", "pods", "-o", "name").split()[0]
    detail = k("describe", pod)
    assert re.search(r"^Status: +Running$", detail, re.M)
    assert "containerd://" in detail
    until(lambda: "Started" in k("describe", pod), "the pod's events in describe")
    until(lambda: "Scheduled" in k("events", "--for", pod), "events of the pod")
    assert "ScalingReplicaSet" in k("get", "events")

    assert k("scale", "deploy/own", "--replicas=4") == "deployment.apps/own scaled\n"
    k("rollout", "status", "deploy/own", "--timeout=90s")
    assert len(k("get", "pods", "-o", "name").split()) == 4
    assert "deleted" in k("delete", pod, "--timeout=60s")
    k("wait", pod, "--for=delete", "--timeout=60s")
    k("rollout", "status", "deploy/own", "--timeout=90s")

    explained = k("explain", "deployment.spec.replicas")
    assert re.search(r"FIELD: replicas <integer>", explained)
    resources = k("api-resources", "--no-headers")
    assert re.search(r"^deployments +deploy +apps/v1 +true +Deployment$", resources, re.M)
    assert k("apply", "-f", "-", stdin=APPLIED) == "configmap/applied created\n"
    assert k("apply", "-f", "-", stdin=APPLIED) == "configmap/applied unchanged\n"
    changed = APPLIED.replace("one", "two")
    assert k("diff", "-f", "-", stdin=changed, code=1).count("two") == 1
    assert k("apply", "-f", "-", stdin=changed) == "configmap/applied configured\n"
    assert k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=changed)
    assert k("get", "cm", "applied", "-o", "jsonpath={.data.a}") == "two"
    watched(fleet, context, namespace)

    assert "deleted" in k("delete", "deploy/own", "--timeout=60s")
    until(lambda: not k("get", "pods,rs", "-o", "name", "-l", "app=own").strip(), "own to be gone")


APPLIED = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: applied}
data: {a: one}
"""


def watched(fleet: Fleet, context: str, namespace: str) -> None:
    """`get -w` prints a change that comes after it began."""
    argv = fleet.kubectl_argv(context, "get", "cm", "applied", "-w", "-n", namespace)
    argv += ("-o", "jsonpath={.data.a}{'\\n'}")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            expect(process.stdout.fileno(), "two")
            fleet.api(context).merge(
                core(namespace, "configmaps", "applied"), {"data": {"a": "three"}}
            )
            expect(process.stdout.fileno(), "three")
        finally:
            process.kill()
