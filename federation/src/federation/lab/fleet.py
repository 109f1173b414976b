"""`lab up`: from a plan to a running fleet, in an order in which each step finds what it needs.

Hosts, supervisor, federation and containerds; then members, each with a token to join by; then nodes. Every step looks
first and does only what is missing, so a second `up` changes nothing, and one after a kill goes on or starts anew.
"""

import asyncio
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from federation.lab import (
    channel,
    faults,
    hosts,
    images,
    inject,
    members,
    preflight,
    programs,
    state,
    teardown,
)
from federation.lab.plan import ClusterPlan, LabPlan, LabSpec, check_spec, choose_slot, slot_network
from federation.lab.process import LAB_MARK, NAME_MARK, Spec, Status
from machinery.kit.clock import SystemClock

Report = Callable[[str], None]
START_S = 90.0
JOIN_S = 180.0
HOPELESS = 5
"""A server that died so often before it was ever ready will not come up by waiting."""
_TAIL_LINES = 5


class UpError(Exception):
    """The fleet did not come up; the text says what is wrong and what to do."""


def bring_up(spec: LabSpec, bin_dir: str, report: Report) -> tuple[LabPlan, list[members.Row]]:
    """Bring the fleet of `spec` up; its plan and table. Raises UpError, PlanError, StateError, HostError."""
    check_spec(spec)
    with state.lock(spec.directory):
        plan = prepare(spec, bin_dir, report)
        injector = inject.Injector(plan, SystemClock())
        injector.switch_on_all(report)
        start_supervisor(spec.directory)
        try:
            injector.end_all(report)
            return plan, asyncio.run(_start(plan, bin_dir, report))
        except (
            members.WaitError,
            ConnectionError,
            channel.NoSupervisor,
            faults.FaultError,
        ) as error:
            raise UpError(_explain(spec.directory, str(error))) from error


# ------------------------------------------------------------------------------------------------------ before
def prepare(spec: LabSpec, bin_dir: str, report: Report) -> LabPlan:
    """Everything that needs no API server: checks, hosts, files."""
    if found := preflight.problems(spec, preflight.gather(spec, bin_dir)):
        raise UpError("\n".join(found))
    known = state.load(spec.directory)
    if known is not None and known.spec.rooted != spec.rooted:
        raise UpError(
            "this lab was started "
            + ("by root: use root" if known.spec.rooted else "without root: use that user")
        )
    if known is not None and known.spec != spec:
        raise UpError(
            f"a lab with other options is here ({describe(known.spec)}): run `fedctl lab down` first, or repeat its "
            "options"
        )
    if known is None or (spec.rooted and not state.hosts_made(spec.directory)):
        known = _make(spec, known, report)
    plan = known.plan()
    _write_files(plan)
    return plan


def _make(spec: LabSpec, known: state.LabState | None, report: Report) -> state.LabState:
    """The machine's part of a new lab, of one whose `up` was killed, or of one from before a reboot."""
    directory = spec.directory
    if os.path.exists(f"{directory}/ns"):
        report("clearing what an earlier run left")
    teardown.take_down(directory, lambda _: None, rooted=spec.rooted, keep_files=known is not None)
    used = preflight.used_networks() if spec.rooted else []
    faults.forget(directory)
    made = known or state.LabState(spec, choose_slot(directory, used))
    if any(slot_network(made.slot).overlaps(network) for network in used):
        raise UpError(
            f"the lab's addresses {slot_network(made.slot)} are in use by something else now (see `ip route`): "
            "free them, or run `fedctl lab down` and start anew"
        )
    plan = made.plan()
    if taken := preflight.port_problems(preflight.taken_ports(plan)):
        raise UpError("\n".join(taken))
    os.makedirs(f"{directory}/log", exist_ok=True)
    state.save(made)
    if spec.rooted:
        report(f"making {len(plan.hosts)} hosts around {plan.root_address}")
        hosts.make_hosts(plan)
        state.mark_hosts_made(directory)
    return made


def describe(spec: LabSpec) -> str:
    """A lab's options as they were typed."""
    text = f"--clusters {','.join(spec.clusters)} --nodes {spec.nodes} --runtime {spec.runtime}"
    if spec.hollow_nodes:
        text += f" --hollow-nodes {spec.hollow_nodes}"
    if spec.servers > 1:
        text += f" --servers {spec.servers}"
    if spec.server_zones:
        text += f" --server-zones {','.join(spec.server_zones)}"
    return text + (" --database-url …" if spec.database_url else "")


def _write_files(plan: LabPlan) -> None:
    """The files that depend on the plan alone. Rewritten each time: what they say does not change."""
    directory = plan.spec.directory
    if plan.spec.runtime == "containerd" and not os.path.exists(f"{directory}/images.tar"):
        archive = images.build_archive(platform.machine())
        state.write_file(Path(directory, "images.tar"), archive, 0o644)
    for host in plan.federation:
        _write_config(plan, host.name, programs.federation_config(plan, host))
    snapshotter = "native" if file_system(directory) == "overlay" else "overlayfs"
    for cluster in plan.clusters:
        for node in cluster.nodes:
            data = programs.data_dir(plan, node.name)
            config = programs.containerd_config(data, snapshotter)
            state.write_file(Path(data, "containerd.toml"), config.encode(), 0o644)
            os.makedirs(f"{data}/cni/net.d", exist_ok=True)


def _write_config(plan: LabPlan, process: str, document: dict[str, Any]) -> None:
    path = Path(programs.config_path(plan, process))
    state.write_file(path, programs.to_yaml(document).encode())
    os.makedirs(programs.data_dir(plan, process), exist_ok=True)


def file_system(path: str) -> str:
    """The type of the file system that `path` is on (overlayfs cannot be stacked on itself)."""
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split(" ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


# ------------------------------------------------------------------------------------------------------ supervisor
def start_supervisor(directory: str, seconds: float = 15.0) -> None:
    """Start the background process, unless one answers."""
    if _supervisor_answers(directory):
        return
    environment = dict(os.environ) | {LAB_MARK: directory, NAME_MARK: "supervisor"}
    with open(f"{directory}/log/supervisor.log", "ab") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "federation.lab.supervisor", directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
            cwd="/",
        )
    deadline = time.monotonic() + seconds
    while not _supervisor_answers(directory):
        if process.poll() is not None or time.monotonic() > deadline:
            raise UpError(f"the supervisor did not start; see {directory}/log/supervisor.log")
        time.sleep(0.03)


def _supervisor_answers(directory: str) -> bool:
    try:
        return "pid" in channel.ask(directory, "status", timeout_s=2.0)
    except channel.NoSupervisor:
        return False


def statuses(directory: str) -> list[Status]:
    """What the supervisor says of every process. Raises NoSupervisor."""
    return msgspec.convert(channel.ask(directory, "status")["processes"], list[Status])


def start(directory: str, specs: Sequence[Spec]) -> None:
    """Have the supervisor run `specs`."""
    answer = channel.ask(
        directory, "start", processes=[msgspec.to_builtins(spec) for spec in specs]
    )
    if "error" in answer:
        raise UpError(f"the supervisor refused: {answer['error']}")


# ------------------------------------------------------------------------------------------------------ the order
async def _start(plan: LabPlan, bin_dir: str, report: Report) -> list[members.Row]:
    directory = plan.spec.directory
    report("starting the federation and the container runtimes")
    start(directory, programs.containerd_specs(plan))
    await _start_servers(plan, bin_dir, report)
    report(f"starting {len(plan.clusters)} clusters")
    for cluster in plan.clusters:
        await _configure_control(plan, cluster)
    start(directory, programs.control_specs(plan, bin_dir))
    for cluster in plan.clusters:
        await _wait_server(plan, cluster.control.name, report)
        await _configure_nodes(plan, cluster)
    runtimes = programs.containerd_specs(plan)
    await members.wait_for(lambda: _unready(directory, runtimes), START_S, report)
    report("starting nodes")
    start(directory, programs.node_specs(plan, bin_dir))
    members.write_kubeconfig(plan)
    await members.wait_for(lambda: _fleet_missing(plan), JOIN_S, report)
    return await members.rows(plan)


async def _start_servers(plan: LabPlan, bin_dir: str, report: Report) -> None:
    """The first alone: it makes the authority that the others share."""
    specs = programs.server_specs(plan, bin_dir)
    first = plan.federation[0].name
    start(plan.spec.directory, [s for s in specs if s.host in (first, "front")])
    await _wait_server(plan, first, report)
    start(plan.spec.directory, specs)
    await members.wait_for(lambda: _unready(plan.spec.directory, specs), START_S, report)


async def _wait_server(plan: LabPlan, process: str, report: Report) -> None:
    async def missing() -> str:
        lack = await members.server_ready(plan, process)
        if lack and any(
            s.name == process and s.failures >= HOPELESS for s in statuses(plan.spec.directory)
        ):
            raise members.WaitError(f"{process} dies again and again")
        return f"{process} {lack}" if lack else ""

    await members.wait_for(missing, START_S, report)


async def _configure_control(plan: LabPlan, cluster: ClusterPlan) -> None:
    """Write the member's configuration with a token to join by; one that has it keeps it."""
    name = cluster.control.name
    if os.path.exists(programs.config_path(plan, name)):
        return
    ca_file = _write_ca(plan, plan.federation[0].name)
    token = await members.cluster_token(plan, cluster)
    _write_config(plan, name, programs.control_config(plan, cluster, ca_file, token))


async def _configure_nodes(plan: LabPlan, cluster: ClusterPlan) -> None:
    found = [*cluster.nodes, *([cluster.hollow] if cluster.hollow else [])]
    wanting = [host for host in found if not os.path.exists(programs.config_path(plan, host.name))]
    if not wanting:
        return
    ca_file = _write_ca(plan, cluster.control.name)
    token = await members.node_token(plan, cluster)
    for host in wanting:
        document = programs.node_config(plan, cluster, host, ca_file, token)
        _write_config(plan, host.name, document)


def _write_ca(plan: LabPlan, process: str) -> str:
    path = f"{plan.spec.directory}/config/{process}-ca.crt"
    state.write_file(Path(path), members.ca_pem(plan, process), 0o644)
    return path


async def _unready(directory: str, specs: Sequence[Spec]) -> str:
    """Which of these processes are not ready yet."""
    wanted = {spec.name for spec in specs}
    lacking = [s.name for s in statuses(directory) if s.name in wanted and not s.ready]
    return (
        f"waiting for {', '.join(lacking[:3])}{' …' if len(lacking) > 3 else ''}" if lacking else ""
    )


async def _fleet_missing(plan: LabPlan) -> str:
    """What the fleet lacks: nodes at each member, members at the federation, their nodes' count there."""
    wanted = {c.name: len(c.nodes) + c.hollow_count for c in plan.clusters}
    ready = {c.name: await members.ready_nodes(plan, c) for c in plan.clusters}
    if ready != wanted:
        return "nodes Ready: " + ", ".join(
            f"{name} {ready[name]}/{wanted[name]}" for name in wanted
        )
    rows = await members.rows(plan)
    if any(row.ready != "True" for row in rows):
        return "clusters Ready: " + ", ".join(f"{row.name} {row.ready}" for row in rows)
    if any(len(set(row.nodes.split("/"))) > 1 for row in rows):
        return "the federation counts nodes: " + ", ".join(
            f"{row.name} {row.nodes}" for row in rows
        )
    return ""


def _explain(directory: str, lack: str) -> str:
    """The last lack, and for each process in trouble the end of its log."""
    lines = [f"gave up waiting: {lack}"]
    try:
        found = [s for s in statuses(directory) if s.restarts or not s.ready]
    except channel.NoSupervisor:
        return f"{lack}; the supervisor is gone, see {directory}/log/supervisor.log"
    for status in found:
        path = Path(directory, "log", f"{status.name}.log")
        tail = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if path.exists() else []
        lines.append(
            f"{status.name}: {status.state}, {status.restarts} restarts, last end: {status.last_exit or '-'}"
        )
        lines += [f"  | {line[:300]}" for line in tail]
    lines.append(
        f"All logs: {directory}/log. `fedctl lab up` goes on waiting; `fedctl lab down` removes the lab."
    )
    return "\n".join(lines)
