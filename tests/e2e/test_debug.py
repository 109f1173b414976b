"""kubectl debug with real containers: an ephemeral container in a pod that runs, in a member.

It sees the pod's network, and with `--target` the processes of a container; attach, exec and logs find it; it ends once.
"""

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.fleet import KUBECTL, Fleet, Refused, core, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
    pytest.mark.timeout(300),
]
NAMESPACE = "debug"
MEMBER, NODE = "alpha", "alpha-node-1"
BUSYBOX = "docker.io/lab/busybox:1"
SERVES = "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 8080 -h /w"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def pod(fleet: Fleet) -> Iterator[str]:
    """A pod with a web server, made in the member."""
    api = fleet.api(MEMBER)
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    until(lambda: exists(fleet, "serviceaccounts", "default"), "no account for pods")
    container = {"name": "web", "image": BUSYBOX, "command": ["sh", "-c", SERVES]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    api.create(core(NAMESPACE, "pods"), {"metadata": {"name": "served"}, "spec": spec})
    until(lambda: found(fleet)["status"].get("phase") == "Running", "it does not run")
    yield "served"
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")


def exists(fleet: Fleet, plural: str, name: str) -> bool:
    try:
        fleet.api(MEMBER).get(core(NAMESPACE, plural, name))
    except Refused:
        return False
    return True


def found(fleet: Fleet) -> dict[str, Any]:
    return fleet.api(MEMBER).get(core(NAMESPACE, "pods", "served"))


def state(fleet: Fleet, name: str) -> dict[str, Any]:
    """What the pod's status says of that ephemeral container."""
    statuses = found(fleet)["status"].get("ephemeralContainerStatuses") or ()
    return next((dict(s["state"]) for s in statuses if s["name"] == name), {})


def debug(fleet: Fleet, pod: str, name: str, *words: str, image: str = BUSYBOX) -> None:
    """Add it, without waiting for it."""
    fleet.kubectl(MEMBER, "-n", NAMESPACE, "debug", pod, f"--image={image}", "-c", name, *words)


def inside(fleet: Fleet, pod: str, name: str, *command: str) -> str:
    return fleet.kubectl(MEMBER, "-n", NAMESPACE, "exec", pod, "-c", name, "--", *command)


def runs(fleet: Fleet, name: str) -> None:
    until(lambda: "running" in state(fleet, name), lambda: f"{name}: {state(fleet, name)}")


def test_it_shares_the_network_and_the_targets_processes(fleet: Fleet, pod: str) -> None:
    before = found(fleet)
    debug(fleet, pod, "alone", "--", "sleep", "1000")
    debug(fleet, pod, "looks", "--target=web", "--", "sh", "-c", "echo up; sleep 1000")
    for name in ("alone", "looks"):
        runs(fleet, name)
        assert "hello" in inside(fleet, pod, name, "wget", "-qO-", "http://127.0.0.1:8080/")
    assert "httpd" in inside(fleet, pod, "looks", "ps")
    assert "httpd" not in inside(fleet, pod, "alone", "ps")
    told = until(
        lambda: fleet.kubectl(MEMBER, "-n", NAMESPACE, "logs", pod, "-c", "looks"), "no logs"
    )
    assert told == "up\n"
    after = found(fleet)
    assert after["status"]["phase"] == "Running"
    for part in ("containerStatuses", "conditions", "qosClass"):
        mine, theirs = after["status"][part], before["status"][part]
        if part == "conditions":
            mine, theirs = ({c["type"]: c["status"] for c in each} for each in (mine, theirs))
        assert mine == theirs, part


def test_a_terminal_in_one(fleet: Fleet, pod: str) -> None:
    """`kubectl debug -it`, as a person types it."""
    ours, theirs = pty.openpty()
    argv = fleet.kubectl_argv(
        MEMBER, "-n", NAMESPACE, "debug", "-it", pod, f"--image={BUSYBOX}", "-c", "typed", "--", "sh"
    )  # fmt: skip
    environment = {**os.environ, "NO_PROXY": "*"}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as it:
        os.close(theirs)
        seen = read_until(ours, rb"pressing enter")  # the first prompt may have gone to nobody
        os.write(ours, b"\n")
        seen += read_until(ours, rb"# ")
        os.write(ours, b"echo $((40 + 2)).\n")
        seen += read_until(ours, rb"\n42\.")
        os.write(ours, b"exit 3\n")
        it.wait(LIMIT_S)
    os.close(ours)
    until(lambda: state(fleet, "typed").get("terminated", {}).get("exitCode") == 3, seen.decode)


def read_until(descriptor: int, pattern: bytes) -> bytes:
    """What a terminal shows, up to a sign."""
    seen, end = b"", time.monotonic() + LIMIT_S
    while not re.search(pattern, seen):
        left = end - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(left, 0))
        assert ready, seen
        seen += os.read(descriptor, 4096)
    return seen


def test_its_end_is_kept_and_it_never_runs_again(fleet: Fleet, pod: str) -> None:
    debug(fleet, pod, "short", "--", "sh", "-c", "echo said; exit 7")
    until(lambda: "terminated" in state(fleet, "short"), lambda: str(state(fleet, "short")))
    ended = state(fleet, "short")
    assert ended["terminated"]["exitCode"] == 7
    told = fleet.kubectl(MEMBER, "-n", NAMESPACE, "logs", pod, "-c", "short")
    assert told == "said\n"
    debug(fleet, pod, "nowhere", "--", "true", image="docker.io/lab/nowhere:1")
    until(lambda: "waiting" in state(fleet, "nowhere"), "nothing is said of the failing image")
    until(
        lambda: (
            state(fleet, "nowhere")["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
        ),
        lambda: str(state(fleet, "nowhere")),
    )
    assert state(fleet, "short") == ended
    assert found(fleet)["status"]["phase"] == "Running"
    events = fleet.api(MEMBER).list(core(NAMESPACE, "events"))
    fields = {e["involvedObject"].get("fieldPath") for e in events}
    assert "spec.ephemeralContainers{short}" in fields


def test_another_kubelet_finds_it_and_it_dies_with_its_pod(fleet: Fleet, pod: str) -> None:
    debug(fleet, pod, "stays", "--", "sleep", "1000")
    runs(fleet, "stays")
    before = state(fleet, "stays")
    old = fleet.signal(NODE, signal.SIGKILL)
    until(lambda: fleet.pids()[NODE] not in (0, None, old), "a new kubelet")
    debug(fleet, pod, "later", "--", "sleep", "1000")
    runs(fleet, "later")
    assert state(fleet, "stays") == before
    ids = [s["containerID"].partition("//")[2] for s in found(fleet)["status"]["ephemeralContainerStatuses"] if s.get("containerID")]  # fmt: skip
    assert set(ids) & set(fleet.tasks())
    fleet.kubectl(MEMBER, "-n", NAMESPACE, "delete", "pod", pod)
    assert not set(ids) & set(fleet.tasks())
