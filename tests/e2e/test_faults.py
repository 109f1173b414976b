"""Faults made by `fedctl lab` on a real fleet: what dies, what does not, and that all of it comes back.

A power cut of zone-b comes first and is the rough one; the cut of zone-c follows on the same fleet. What the federation makes of
a dead zone is the acceptance tests' matter; here the lab is tested.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.fleet import (
    ZONES,
    Fleet,
    Task,
    Workload,
    clusters_ready,
    condition,
    deployment,
    deployments,
    is_ready,
    settled,
    until,
)

from federation.lab import cgroups, faults, state

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(300),
]

NAMESPACE = "faults"
ZONE_B = ("beta-control", "beta-node-1", "beta-node-1-containerd")


@pytest.fixture(scope="module")
def web(own: Fleet) -> Workload:
    """A pod in each zone, and nothing that ends by itself: all containers are looked at."""
    until(lambda: settled(own), "what earlier tests deleted to be gone")
    api = own.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api.create(deployments(NAMESPACE), deployment("web", NAMESPACE, 3))
    web = Workload(own, NAMESPACE, "web")
    web.stands(1, 1, 1)
    return web


def ready(fleet: Fleet, name: str) -> str:
    found = fleet.api().get(f"/apis/cluster.karmada.io/v1alpha1/clusters/{name}")
    status: str = condition(found).get("status", "")
    return status


def runs(task: Task) -> bool:
    """A zombie has ended: it waits for the machine's own first process to take note."""
    try:
        told = Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return told[19] == task.started and told[0] not in ("Z", "X")


def host_processes(fleet: Fleet, *hosts: str) -> set[int]:
    known = state.load(fleet.directory)
    assert known is not None
    group = known.plan().cgroup
    return {pid for host in hosts for pid in cgroups.processes(f"{group}/{host}")}


def container_ids(web: Workload, member: str) -> set[str]:
    found = [c for p in web.pods(member) for c in p.get("status", {}).get("containerStatuses", [])]
    return {c["containerID"].removeprefix("containerd://") for c in found if c.get("containerID")}


def test_a_power_cut_and_the_return(own: Fleet, web: Workload) -> None:
    pids, tasks = own.pids(), own.tasks()
    dying = host_processes(own, "beta-control", "beta-node-1")
    old = container_ids(web, "beta")
    assert old <= {name for name, task in tasks.items() if task.pid in dying}
    own.enter("beta-node-1", "touch", "/run/remembered")
    begun = time.monotonic()
    assert "zone-b is off" in own.lab("kill", "zone-b")
    print(f"kill: {time.monotonic() - begun:.2f} s")

    assert not host_processes(own, "beta-control", "beta-node-1"), "nothing runs on its hosts"
    assert not any(runs(task) for task in tasks.values() if task.pid in dying)
    assert all(runs(task) for task in tasks.values() if task.pid not in dying), "others run on"
    until(lambda: {own.processes()[n]["state"] for n in ZONE_B} == {"off"}, "zone-b to be off")
    after = own.pids()
    assert {n for n in after if after[n] != pids[n]} == set(ZONE_B), "only its processes"
    assert "zone-b is off" in own.lab("kill", "beta"), "it may be repeated"
    assert "has no power" in own.lab("exec", "beta-node-1", "true", code=1)
    assert "Fault: zone-b is off" in own.lab("status")

    own.lab("revive", "zone-b")
    assert "zone-b is on" in own.lab("revive", "zone-b")
    until(lambda: all(own.processes()[n]["ready"] for n in ZONE_B), "zone-b's processes")
    assert "remembered" not in own.enter("beta-node-1", "ls", "/run"), "a machine that booted"
    until(lambda: clusters_ready(own), "all members Ready")
    web.total(3)
    until(lambda: runs_anew(web, old), lambda: f"beta to run pods again: {web.names()}")
    assert "Fault:" not in own.lab("status")
    assert {n: p for n, p in own.pids().items() if n not in ZONE_B} == {
        n: p for n, p in pids.items() if n not in ZONE_B
    }


def runs_anew(web: Workload, old: set[str]) -> bool:
    """What runs in zone-b (its old pods restarted, or others) is no container from before the power cut, and serves."""
    now = container_ids(web, "beta")
    if now & old or not all(is_ready(pod) for pod in web.pods("beta")):
        return False
    return web.serves("beta") if now else web.count()["beta"] == 0


def test_a_cut_is_noticed_and_healed_and_no_container_notices(own: Fleet, web: Workload) -> None:
    inside = container_ids(web, "gamma")
    tasks = own.tasks()
    for _ in range(2):
        assert "cut off from each other" in own.lab("cut", "zone-c")
    until(lambda: ready(own, "gamma") == "Unknown", "gamma to be Unknown")
    assert all(runs(tasks[name]) for name in inside)
    assert container_ids(web, "gamma") == inside, "the operator sees into the zone"
    assert web.serves("gamma"), "inside all goes on"
    for _ in range(2):
        assert "no fault is left" in own.lab("heal", "zone-c")
    until(lambda: clusters_ready(own), "gamma to be Ready again")
    assert all(runs(tasks[name]) for name in inside)


def connect_ms(fleet: Fleet, host: str, address: str) -> float:
    code = (
        "import socket, time; t = time.monotonic(); "
        f"socket.create_connection(('{address}', 6443), 20).close(); print(time.monotonic() - t)"
    )
    return float(fleet.enter(host, sys.executable, "-c", code)) * 1000


def test_a_slow_line_is_slow_to_others_and_quick_inside(own: Fleet) -> None:
    known = state.load(own.directory)
    assert known is not None
    alpha = known.plan().clusters[0].control.address
    for _ in range(2):
        assert "zone-a is slow: 150 ms later" in own.lab("slow", "zone-a", "--latency", "150")
    assert connect_ms(own, "gamma-control", alpha) >= 300
    assert min(connect_ms(own, "alpha-node-1", alpha) for _ in range(3)) < 150
    assert "line-zone-a" in own.processes()
    assert "no fault is left" in own.lab("heal", "zone-a")
    assert "line-zone-a" not in own.processes()
    assert min(connect_ms(own, "gamma-control", alpha) for _ in range(3)) < 150


def test_a_load_is_recorded_and_reported(own: Fleet, web: Workload, tmp_path: Path) -> None:
    member = next(m for m in ("alpha", "gamma") if web.pods(m))
    address = web.pods(member)[0]["status"]["podIP"]
    out = tmp_path / "load.jsonl"
    words = ("load", "--from", ZONES[member], "--rate", "20", "--seconds", "1", "--out", str(out))
    assert "20 requests, 0 failed" in own.lab(*words, address)
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    told = {(line["source"], line["zone"], line["cluster"]) for line in lines if "mark" not in line}
    assert told == {(ZONES[member], ZONES[member], member)}
    picture = tmp_path / "load.svg"
    assert "answered by" in own.lab("report", str(out), "--svg", str(picture))
    assert picture.read_text().startswith("<svg")


def test_up_ends_every_fault(own: Fleet) -> None:
    """Of the power cut only the intention was written, as by a `kill` that was itself killed."""
    pids = own.pids()
    own.lab("freeze", "gamma-control")
    assert own.processes()["gamma-control"]["frozen"]
    assert "frozen" in own.lab("status")
    own.lab("cut", "zone-c", "--from", "federation", "--one-way")
    own.lab("slow", "zone-c", "--latency", "20", "--loss", "1")
    faults.save(own.directory, faults.kill(faults.load(own.directory), "zone-b"))
    said = own.up()
    assert "nothing from zone-c reaches federation" in said
    assert "zone-b is off" in said
    assert faults.load(own.directory) == faults.Faults()
    now = own.pids()
    assert {n for n in now if now[n] != pids[n]} == set(ZONE_B), "booted, once"
    assert not any(process["frozen"] for process in own.processes().values())
    assert clusters_ready(own)
    assert "Fault:" not in own.lab("status")


def test_what_is_frozen_with_its_control_group_dies_when_it_is_thawed() -> None:
    """What a runc leaves that is killed while it freezes a container. Version 1 holds even SIGKILL back."""
    name = f"ubernetes-test-{os.getpid()}"
    cgroups.create(f"{name}/{cgroups.DAEMONS}")
    process = subprocess.Popen(("sleep", "600"))
    try:
        for path in (p for p in cgroups.groups(name) if p.endswith(cgroups.DAEMONS)):
            Path(path, "cgroup.procs").write_text(str(process.pid))
            for file, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
                if Path(path, file).exists():
                    Path(path, file).write_text(word)
        os.kill(process.pid, signal.SIGKILL)
        for _ in range(2):
            cgroups.thaw(name)
        assert process.wait(30) == -signal.SIGKILL
    finally:
        cgroups.thaw(name)
        process.kill()
        process.wait()
        assert cgroups.remove(name) == []
