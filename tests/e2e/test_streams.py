"""exec, attach, cp and port-forward with real containers: by WebSocket and by SPDY, in a member and through the federation.

Members are reached through the link that they dialled themselves; their own API is asked beside it, as the same question.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.fleet import KUBECTL, Fleet, Workload, core, deployment, deployments
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from machinery.client import kubeconfig

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
    pytest.mark.timeout(300),
]
NAMESPACE = "streams"
BUSYBOX = "docker.io/lab/busybox:1"
SERVES = (
    "mkdir /w; echo hello >/w/index.html; httpd -p 8080 -h /w; nc -ll -p 9000 -e cat & trap 'exit 0' TERM;"
    " while :; do sleep 0.2; done"
)
READS = "while read x; do echo got $x; done; echo ended"
NOBODY = 81
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
BIG = 1_000_000
LIMIT_S = 60.0


class Way(NamedTuple):
    """A client at a context."""

    fleet: Fleet
    context: str
    kubectl: str
    env: dict[str, str]

    def argv(self, *words: str) -> list[str]:
        _, *rest = self.fleet.kubectl_argv(self.context, "-n", NAMESPACE, *words)
        return [self.kubectl, *rest]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env, "NO_PROXY": "*"}

    def run(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            self.argv(*words), input=stdin, capture_output=True, check=False, timeout=LIMIT_S, env=self.environment,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def name(self, pod: str) -> str:
        """The pod of alpha, as this context calls it."""
        return f"{pod}.alpha" if self.context == "federation" else pod


def oldest() -> str:
    """The oldest kubectl that lies beside the usual one; it speaks nothing but SPDY."""
    assert KUBECTL is not None
    versions = Path(KUBECTL).resolve().parent.glob("kubectl.1.*")
    numbered = sorted((int(path.suffix.removeprefix(".")), str(path)) for path in versions)
    return numbered[0][1] if numbered and numbered[0][0] < 30 else ""


CLIENTS = {
    "websocket": (KUBECTL or "", {}),
    "spdy": (KUBECTL or "", SPDY),
    "old": (oldest() if KUBECTL else "", {}),
}


@pytest.fixture(scope="module")
def pod(fleet: Fleet) -> Iterator[str]:
    """A pod of alpha with a web server and an echo, which the federation has placed."""
    api = fleet.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    container = {"image": BUSYBOX, "command": ["sh", "-c", SERVES]}
    api.create(deployments(NAMESPACE), deployment("web", NAMESPACE, 3, container=container))
    container = {
        "image": BUSYBOX, "command": ["sh", "-c", READS], "stdin": True, "stdinOnce": True,
    }  # fmt: skip
    api.create(deployments(NAMESPACE), deployment("reader", NAMESPACE, 3, container=container))
    for name in ("web", "reader"):
        Workload(fleet, NAMESPACE, name).stands(1, 1, 1)
    (found,) = Workload(fleet, NAMESPACE, "web").pods("alpha")
    yield str(found["metadata"]["name"])
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    kubectl, env = CLIENTS[request.param]
    if not kubectl:
        pytest.skip("no kubectl before 1.30 lies beside the usual one")
    return kubectl, env


@pytest.fixture(params=["alpha", "federation"])
def way(request: pytest.FixtureRequest, fleet: Fleet, client: tuple[str, dict[str, str]]) -> Way:
    return Way(fleet, request.param, *client)


# ------------------------------------------------------------------------------------------------------ exec, attach, cp
def test_exec_has_both_outputs_the_exit_code_and_the_end_of_its_input(way: Way, pod: str) -> None:
    name = way.name(pod)
    code, out, err = way.run("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (code, out) == (7, b"out\n")
    assert err == b"err\ncommand terminated with exit code 7\n"
    sent = os.urandom(BIG)
    code, out, _ = way.run("exec", "-i", name, "--", "sha256sum", stdin=sent)
    assert (code, out.split()[0].decode()) == (0, hashlib.sha256(sent).hexdigest())
    code, out, _ = way.run("exec", "-i", name, "--", "head", "-c", "5", stdin=b"12345" * 4 * BIG)
    assert (code, out) == (0, b"12345"), "it ends while most of its input is still on the way"
    code, out, _ = way.run("exec", name, "--", "head", "-c", str(3 * BIG), "/dev/zero")
    assert (code, out) == (0, bytes(3 * BIG))
    code, _, err = way.run("exec", name, "--", "/no/such/program")
    assert code != 0
    assert b"/no/such/program" in err


def test_cp_both_ways(way: Way, pod: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(BIG))
    there = f"/tmp/{way.context}-{'-'.join(way.env) or Path(way.kubectl).name}"
    code, _, err = way.run("cp", str(sent), f"{way.name(pod)}:{there}")
    assert code == 0, err
    code, _, err = way.run("cp", f"{way.name(pod)}:{there}", str(tmp_path / "back"))
    assert code == 0, err
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()


@pytest.mark.parametrize(
    ("member", "context", "protocol"),
    [("alpha", "alpha", "spdy"), ("beta", "federation", "spdy"), ("gamma", "federation", "websocket")],
)  # fmt: skip
def test_an_attached_container_sees_its_input_and_the_end_of_it(
    fleet: Fleet, pod: str, member: str, context: str, protocol: str
) -> None:
    """Each container is attached to once: it ends with its input."""
    assert pod
    (found,) = Workload(fleet, NAMESPACE, "reader").pods(member)
    name = found["metadata"]["name"] + (f".{member}" if context == "federation" else "")
    way = Way(fleet, context, *CLIENTS[protocol])
    code, out, err = way.run("attach", "-i", name, stdin=b"one\ntwo\n")
    assert (code, out) == (0, b"got one\ngot two\nended\n"), err


# --------------------------------------------------------------------------------------------------------- port-forward
@contextlib.contextmanager
def forwarding(
    way: Way, pod: str, *ports: int
) -> Iterator[tuple["subprocess.Popen[str]", dict[int, int]]]:
    """The running kubectl, and the local port of each of the pod's."""
    argv = way.argv("port-forward", way.name(pod), *(f":{port}" for port in ports))
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=way.environment
    )
    try:
        local: dict[int, int] = {}
        assert process.stdout is not None
        while len(local) < len(ports):
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"kubectl ended: {process.communicate()[1]}")
            if told := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line):
                local[int(told[2])] = int(told[1])
        yield process, local
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def asked(port: int, sent: bytes) -> bytes:
    """All that comes back, when everything was sent and the end of it said."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
        sending = threading.Thread(target=_send, args=(connection, sent))
        sending.start()
        got = b""
        while data := connection.recv(65536):
            got += data
        sending.join()
    return got


def _send(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)


def test_port_forward_carries_requests_and_ends_also_two_at_once(way: Way, pod: str) -> None:
    request = b"GET / HTTP/1.0\r\n\r\n"
    with forwarding(way, pod, 8080, 9000) as (process, local):
        assert asked(local[8080], request).endswith(b"\r\n\r\nhello\n")
        sent, got = [os.urandom(BIG), os.urandom(BIG)], {}

        def talk(number: int) -> None:
            got[number] = asked(local[9000], sent[number])

        talking = [threading.Thread(target=talk, args=(number,)) for number in range(2)]
        for thread in talking:
            thread.start()
        assert asked(local[8080], request).endswith(b"hello\n"), "while both are at work"
        for thread in talking:
            thread.join()
        assert [got[0] == sent[0], got[1] == sent[1]] == [True, True]
        assert process.poll() is None


def test_a_port_that_nobody_listens_on_is_kubectls_error(way: Way, pod: str) -> None:
    with forwarding(way, pod, NOBODY) as (process, local):
        assert asked(local[NOBODY], b"x") == b""
        _, err = process.communicate(timeout=LIMIT_S)
    words = f"error forwarding port {NOBODY} to pod [0-9a-f]+, uid : failed to execute portforward in network namespace"
    assert re.search(words, err)
    assert f"IPv4: dial tcp4 127.0.0.1:{NOBODY}: connect: connection refused" in err
    assert "error: lost connection to pod" in err


@pytest.mark.parametrize("context", ["alpha", "federation"])
def test_port_forward_by_channels_as_the_python_client_speaks_it(
    fleet: Fleet, pod: str, context: str
) -> None:
    access = kubeconfig.load(Path(fleet.kubeconfig), context)
    name = f"{pod}.alpha" if context == "federation" else pod
    url = access.server.replace("https:", "wss:") + core(NAMESPACE, "pods", name)
    with connect(
        f"{url}/portforward?ports=9000,{NOBODY}",
        subprotocols=[Subprotocol("v4.channel.k8s.io")],
        ssl=access.ssl_context(),
        proxy=None,
    ) as ws:
        heard = [ws.recv(LIMIT_S) for _ in range(5)]
        ports = [
            bytes((channel,)) + port.to_bytes(2, "little")
            for channel, port in enumerate((9000, 9000, NOBODY, NOBODY))
        ]
        assert heard[:4] == ports
        assert isinstance(heard[4], bytes)
        assert heard[4].startswith(b"\x03error forwarding port 81 to pod ")
        ws.send(b"\x00hello")
        assert ws.recv(LIMIT_S) == b"\x00hello"


def test_discovery_has_all_of_them(fleet: Fleet) -> None:
    for context in ("alpha", "federation"):
        served = {r["name"]: r for r in fleet.api(context).get("/api/v1")["resources"]}
        for name in ("exec", "attach", "portforward"):
            assert served[f"pods/{name}"]["verbs"] == ["create", "get"]


def test_the_old_client_is_as_old_as_the_test_means() -> None:
    kubectl = CLIENTS["old"][0]
    if not kubectl:
        pytest.skip("no kubectl before 1.30 lies beside the usual one")
    told = subprocess.run(
        (kubectl, "version", "--client"), capture_output=True, text=True, check=True
    )
    assert shutil.which(kubectl)
    assert re.search(r"v1\.2[0-9]\.", told.stdout)
