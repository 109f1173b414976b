"""kubectl's commands that stream: logs, exec, attach, cp, port-forward, debug. They need real containers."""

import contextlib
import re
import subprocess
import time
import urllib.request

from tests.matrix.desk import APPS, BUSYBOX, Desk, command, process
from tests.matrix.record import Absent, require
from tests.matrix.truth import until

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@command("logs")
def logs(desk: Desk) -> None:
    pod = desk.server_pod()
    require("it serves" in until(lambda: desk.run("logs", pod), "no logs"), "another log")
    desk.run("exec", pod, "--", "sh", "-c", "for i in 1 2 3; do echo line $i; done >/proc/1/fd/1")
    out = until(lambda: (o := desk.run("logs", pod, "--tail=2")).split() == ["line", "2", "line", "3"] and o, "no lines")  # fmt: skip
    require(out, "no lines")
    stamped = desk.run("logs", pod, "--timestamps", "--tail=1")
    require(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z line 3", stamped), stamped)
    require(desk.run("logs", pod, "--limit-bytes=4") == "it s", desk.run("logs", pod, "--limit-bytes=4"))  # fmt: skip
    require("line 3" in desk.run("logs", pod, "--since=1h"), "--since")
    require("it serves" in desk.run("logs", f"deployment/{desk.name('web')}"), "of a deployment")
    out = desk.run("logs", "-l", f"app={desk.name('web')}", "--prefix", "--tail=1")
    require(f"pod/{pod}/main" in out, out)


@command("logs", "-f")
def logs_follow(desk: Desk) -> None:
    pod = desk.server_pod()
    with process(desk, "logs", "-f", "--tail=0", pod) as following:
        time.sleep(1)
        desk.run("exec", pod, "--", "sh", "-c", "echo followed >/proc/1/fd/1")
        assert following.stdout is not None
        line = following.stdout.readline().decode()
        require(line.strip() == "followed", line)


@command("exec")
def exec_(desk: Desk) -> None:
    pod = desk.server_pod()
    said = desk.run("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    require("out" in said and "err" in said, said)
    require(desk.run("exec", "-i", pod, "--", "cat", stdin="through") == "through", "stdin")
    require(desk.run("exec", f"deployment/{desk.name('web')}", "--", "echo", "yes").strip() == "yes", "by deployment")  # fmt: skip


@command("exec", "by SPDY", "S")
def exec_spdy(desk: Desk) -> None:
    pod = desk.server_pod()
    require(desk.run("exec", "-i", pod, "--", "cat", stdin="through", env=SPDY) == "through", "stdin")  # fmt: skip


@command("attach")
def attach(desk: Desk) -> None:
    pod = desk.server_pod()
    with process(desk, "attach", "-i", pod, stdin=subprocess.PIPE) as attached:
        assert attached.stdin is not None and attached.stdout is not None
        time.sleep(1)
        attached.stdin.write(b"hello\n")
        attached.stdin.flush()
        seen = ""
        while "got hello" not in seen and (line := attached.stdout.readline().decode()):
            seen += line
    require("got hello" in seen, seen)


@command("cp")
def cp(desk: Desk) -> None:
    pod = desk.server_pod()
    sent, back = desk.scratch / "sent", desk.scratch / "back"
    sent.write_bytes(bytes(range(256)) * 4000)
    desk.run("cp", str(sent), f"{pod}:/tmp/{desk.slug}")
    out = desk.run("exec", pod, "--", "wc", "-c", f"/tmp/{desk.slug}")
    require(out.split()[0] == str(256 * 4000), out)
    desk.run("cp", f"{pod}:/tmp/{desk.slug}", str(back))
    require(back.read_bytes() == sent.read_bytes(), "it came back otherwise")


@command("port-forward")
def port_forward(desk: Desk) -> None:
    forwards(desk, f"pod/{desk.server_pod()}")
    if desk.member:
        forwards(desk, f"deployment/{desk.name('web')}")


def forwards(desk: Desk, target: str) -> None:
    with process(desk, "port-forward", target, ":8080") as running:
        assert running.stdout is not None
        said = running.stdout.readline().decode()
        port = re.search(r"127\.0\.0\.1:(\d+)", said)
        require(port, said)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(3):
            with opener.open(f"http://127.0.0.1:{port[1] if port else 0}/", timeout=20) as answer:
                require(answer.read() == b"hello\n", "another answer")


@command("debug", "an ephemeral container", "S")
def debug(desk: Desk) -> None:
    if not desk.member:
        raise Absent("a member's pod is debugged in its own context")
    pod = desk.server_pod()
    desk.run("debug", pod, f"--image={BUSYBOX}", "--container", f"dbg-{desk.slug}", "--", "sleep", "1000")  # fmt: skip
    path = desk.core("pods", pod)
    found = desk.get(path)["spec"]["ephemeralContainers"]
    require([c["name"] for c in found] == [f"dbg-{desk.slug}"], str(found))

    def runs() -> bool:
        states = desk.get(path)["status"].get("ephemeralContainerStatuses", [])
        return any("running" in s.get("state", {}) for s in states)

    until(runs, lambda: f"it does not run: {desk.get(path)['status'].get('ephemeralContainerStatuses')}")  # fmt: skip
    out = desk.run("exec", pod, "-c", f"dbg-{desk.slug}", "--", "echo", "inside")
    require(out.strip() == "inside", out)


@command("debug", "-i: attached to an ephemeral container that sees a container's processes", "S")
def debug_attached(desk: Desk) -> None:
    if not desk.member:
        raise Absent("a member's pod is debugged in its own context")
    pod = desk.server_pod()
    words = ("debug", pod, "-i", f"--image={BUSYBOX}", "--container", f"look-{desk.slug}", "--target=main")  # fmt: skip
    with process(desk, *words, "--", "sh", stdin=subprocess.PIPE) as attached:
        assert attached.stdin is not None and attached.stdout is not None
        attached.stdin.write(b"ps; echo $((40 + 2)).\n")
        attached.stdin.flush()  # and kept open: its end would detach, as the container reads from who comes next
        seen = ""
        while "42." not in seen and (line := attached.stdout.readline().decode()):
            seen += line
    require("httpd" in seen and "42." in seen, seen)


@command("debug")
def debug_copy(desk: Desk) -> None:
    pod = desk.server_pod()
    copy = desk.name("copy")
    if not desk.member:
        said = desk.run("debug", pod, f"--image={BUSYBOX}", f"--copy-to={copy}", "--", "sleep", "1000", code=1)  # fmt: skip
        require("the federation runs no pods itself" in said, said)
        raise Absent("a member's pod is debugged in its own context")
    desk.fresh(desk.core("pods", copy))
    desk.run("debug", pod, f"--image={BUSYBOX}", f"--copy-to={copy}", "--container=dbg", "--", "sleep", "1000")  # fmt: skip
    found = desk.sees(desk.core("pods", copy), {"status": {"phase": "Running"}})
    require({c["name"] for c in found["spec"]["containers"]} == {"main", "dbg"}, str(found["spec"]))
    desk.truth.remove(desk.core("pods", copy))


@command("debug", "of a node")
def debug_node(desk: Desk) -> None:
    if not desk.member:
        raise Absent("nodes belong to members: ask there")
    desk.needs_containers()
    before = {p["metadata"]["name"] for p in desk.get(desk.core("pods"))["items"]}
    desk.run("debug", f"node/{desk.node()}", f"--image={BUSYBOX}", "--", "ls", "/host/etc/hostname")
    made = [p for p in desk.get(desk.core("pods"))["items"] if p["metadata"]["name"] not in before]
    require(len(made) == 1 and made[0]["spec"].get("hostNetwork"), "no pod on the host")
    path = desk.core("pods", made[0]["metadata"]["name"])
    desk.sees(path, {"status": {"phase": "Succeeded"}})
    require("/host/etc/hostname" in desk.run("logs", made[0]["metadata"]["name"]), "not the host's files")  # fmt: skip
    desk.truth.remove(path)


@command("run", "-i: attached to what it started")
def run_attached(desk: Desk) -> None:
    if not desk.member:
        raise Absent("pods run in members: the refusal says to make a Deployment")
    desk.needs_containers()
    name = desk.name("once")
    desk.fresh(desk.core("pods", name))
    out = desk.run("run", name, f"--image={BUSYBOX}", "--restart=Never", "--rm", "-i", "--", "cat", stdin="said\n")  # fmt: skip
    require("said" in out, out)
    desk.truth.gone(desk.core("pods", name))


def clean(desk: Desk) -> None:
    """The workload that streams were tried on goes."""
    with contextlib.suppress(OSError):
        desk.truth.remove(APPS.format(ns=desk.ns) + desk.name("web"))
