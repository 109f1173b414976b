"""A lab leaves nothing behind: the machine before `up` and after `down` is the same, wherever `up` was killed.

The programs are stand-ins here (tests/support/lab_standin.py), the hosts, containerds, pods, supervisor and commands the real
ones; so this takes seconds, and says nothing of federation-server or cluster-agent.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import traces

from federation.lab import channel

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(120),
]

STANDIN = Path(__file__).parents[1] / "support" / "lab_standin.py"
OPTIONS = ("--clusters", "alpha,beta", "--nodes", "1")


class Lab:
    """`fedctl lab` on a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.directory = str(home / ".lab")
        self.bin = home / "bin"
        self.bin.mkdir()
        for program, role in (("federation-server", "federation"), ("cluster-agent", "")):
            path = self.bin / program
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {role} "$@"\n')
            path.chmod(0o755)

    def argv(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "federation.cli", "lab", "--dir", self.directory, *words)

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.argv(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def up(self, *options: str, code: int = 0) -> str:
        return self.run("up", *OPTIONS, "--bin-dir", str(self.bin), *options, code=code)

    def killed_up(self, sentence: str, delay_s: float) -> None:
        """`up`, killed `delay_s` after it said `sentence`."""
        process = subprocess.Popen(
            self.argv("up", *OPTIONS, "--bin-dir", str(self.bin)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            assert any(sentence in line for line in process.stdout), f"never said {sentence!r}"
            time.sleep(delay_s)
            process.kill()
            process.wait()

    def status(self) -> dict[str, dict[str, Any]]:
        found = channel.ask(self.directory, "status")
        return {process["name"]: process for process in found["processes"]}

    def serves(self) -> bool:
        address = (Path(self.directory) / "data/alpha-node-1/pod-address").read_text()
        return self.run(
            "exec", "alpha-control", "busybox", "wget", "-qO-", f"http://{address}"
        ) == ("web node-1 alpha zone-a\n")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.run("down")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.05)
    return value


def pods_run(lab: Lab) -> bool:
    places = [Path(lab.directory, f"data/{c}-node-1/pod-address") for c in ("alpha", "beta")]
    return all(place.exists() for place in places)


def test_up_twice_and_down_leave_no_trace(lab: Lab) -> None:
    before = traces.snapshot(lab.directory)
    assert "the fleet is up" in lab.up()
    until(lambda: pods_run(lab))
    assert lab.serves(), "a pod answers across hosts with its name, node, cluster and zone"
    first = lab.status()
    running = traces.snapshot(lab.directory)
    lab.up()
    assert {n: p["pid"] for n, p in lab.status().items()} == {n: p["pid"] for n, p in first.items()}
    assert traces.difference(running, traces.snapshot(lab.directory)) == {}, (
        "a second up changes nothing"
    )
    assert set(traces.difference(before, running)) >= {
        "processes",
        "links",
        "cgroups",
        "mounts",
        "namespaces",
    }
    lab.run("down")
    assert traces.difference(before, traces.snapshot(lab.directory)) == {}
    assert sorted(os.listdir(lab.directory)) == ["lock", "log"]


POINTS = [
    ("making", 0.02),
    ("making", 0.2),
    ("starting the federation", 0.3),
    ("starting 2 clusters", 0.1),
    ("starting nodes", 0.0),
]


def test_down_with_every_fault_leaves_no_trace(lab: Lab) -> None:
    before = traces.snapshot(lab.directory)
    lab.up()
    until(lambda: pods_run(lab))
    lab.run("freeze", "alpha-control")
    lab.run("cut", "zone-a", "--from", "federation")
    lab.run("slow", "zone-a", "--latency", "5", "--loss", "1")
    lab.run("kill", "zone-b")
    assert lab.run("status").count("Fault:") == 3
    lab.run("down")
    assert traces.difference(before, traces.snapshot(lab.directory)) == {}


@pytest.mark.parametrize(("sentence", "delay"), POINTS)
def test_down_after_a_killed_up_leaves_no_trace(lab: Lab, sentence: str, delay: float) -> None:
    before = traces.snapshot(lab.directory)
    lab.killed_up(sentence, delay)
    lab.run("down")
    lab.run("down")
    assert traces.difference(before, traces.snapshot(lab.directory)) == {}


@pytest.mark.parametrize(("sentence", "delay"), POINTS[1::2])
def test_up_after_a_killed_up_comes_up(lab: Lab, sentence: str, delay: float) -> None:
    before = traces.snapshot(lab.directory)
    lab.killed_up(sentence, delay)
    assert "the fleet is up" in lab.up()
    lab.run("down")
    assert traces.difference(before, traces.snapshot(lab.directory)) == {}


def test_kill_9_of_everything_of_ours(lab: Lab) -> None:
    """Supervisor and containerd are killed: pods run on, `up` adopts what lives, `down` still finds all of it."""
    before = traces.snapshot(lab.directory)
    lab.up()
    until(lambda: pods_run(lab))
    supervisor = channel.ask(lab.directory, "status")["pid"]
    containerd = lab.status()["alpha-node-1-containerd"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    os.kill(containerd, signal.SIGKILL)
    assert lab.serves(), "pods do not notice"
    assert "fedctl lab up" in lab.run("status", code=1)
    lab.up()
    after = lab.status()
    assert after["alpha-node-1-containerd"]["pid"] != containerd
    assert lab.serves()
    os.kill(channel.ask(lab.directory, "status")["pid"], signal.SIGKILL)
    lab.run("down")
    assert traces.difference(before, traces.snapshot(lab.directory)) == {}


def test_two_labs_on_one_machine_do_not_meet(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Lab(tmp_path / "other")
    lab.up()
    try:
        other.up()
        slots = {
            json.loads(Path(x.directory, "lab.json").read_bytes())["slot"] for x in (lab, other)
        }
        assert len(slots) == 2
    finally:
        other.run("down")
    assert all(p["ready"] for p in lab.status().values())


def test_refusals_say_what_to_do(lab: Lab) -> None:
    assert "--clusters: 'A' is not a cluster name" in lab.run("up", "--clusters", "A", code=1)
    assert "nothing to do" in lab.run("down")
    assert "`fedctl lab up` starts one" in lab.run("status", code=1)
    lab.up()
    assert "--clusters alpha,beta --nodes 1" in lab.up("--nodes", "2", code=1)
    assert "did you mean 'alpha-node-1'" in lab.run("exec", "alpha-node1", "true", code=1)


def test_several_servers_behind_one_address(lab: Lab) -> None:
    """The front passes connections to the server that is left when one dies."""
    lab.up("--servers", "2", "--database-url", "postgresql://u@127.0.0.1:1/x")
    status = lab.status()
    assert {"federation-1", "federation-2", "front", "federation-1-database"} <= set(status)
    os.kill(status["federation-1"]["pid"], signal.SIGSTOP)
    os.kill(status["federation-1"]["pid"], signal.SIGKILL)
    front = json.loads(Path(lab.directory, "lab.json").read_bytes())["slot"]
    address = f"198.{18 + front // 16}.{front % 16 * 16}.10"
    answer = lab.run(
        "exec", "alpha-control", "busybox", "wget", "-qO-", f"http://{address}:6443/readyz"
    )
    assert answer == '"ok"'


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_without_root_nodes_are_hollow_and_it_is_said(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):
            os.chmod(parent, 0o755)
    lab = Lab(tmp_path)
    # It may read everything: this Python can lie in root's home. It is still not root.
    reader = ("--ambient-caps=+dac_read_search", "--inh-caps=+dac_read_search")
    nobody = (
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        *reader,
        "env",
        "HOME=/tmp",
    )
    up = (*nobody, *lab.argv("up", *OPTIONS, "--bin-dir", str(lab.bin)))
    done = subprocess.run(up, capture_output=True, text=True, check=False, timeout=90)
    try:
        assert "no real containers; nodes are hollow" in done.stdout
        assert "the fleet is up" in done.stdout, done.stderr
    finally:
        subprocess.run((*nobody, *lab.argv("down")), check=True, capture_output=True)
