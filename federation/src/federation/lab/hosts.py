"""Making the lab's machines: namespaces pinned by files under `.lab/ns`, control groups, cables.

A host is a network namespace; a node is also a mount and a cgroup namespace, so that everything containerd, runc and the CNI
plugins strew over /run and /var/lib stays inside and is gone with it. The pins keep a host alive without any process in it,
as a machine stays on when its daemons die.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from federation.lab import cgroups, network
from federation.lab.journal import Journal
from federation.lab.plan import HostPlan, LabPlan
from federation.lab.process import LAB_MARK, NAME_MARK

CNI_CACHE = "/var/lib/cni"
"""Compiled into libcni; each node mounts its own over it."""


class HostError(Exception):
    """A host could not be made; the text holds the failing command and its words."""


def namespaces(directory: str) -> str:
    """Where the pins are."""
    return f"{directory}/ns"


def run(directory: str, argv: tuple[str, ...], text: str = "") -> str:
    """Run a command of the lab to its end. Marked, so that `down` finds it if we are killed meanwhile."""
    done = subprocess.run(
        argv,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ) | {LAB_MARK: directory, NAME_MARK: "up"},
    )
    if done.returncode:
        raise HostError(f"{' '.join(argv[:6])}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout


def make_hosts(plan: LabPlan) -> None:
    """Make all of them. Raises HostError; what exists then is found again by `down`."""
    directory = plan.spec.directory
    journal = Journal(directory)
    pins = namespaces(directory)
    os.makedirs(pins, exist_ok=True)
    journal.record("mount", pins)
    run(directory, ("mount", "--bind", pins, pins))
    run(directory, ("mount", "--make-private", pins))
    if not os.path.isdir(CNI_CACHE):
        journal.record("directory", CNI_CACHE)
        os.makedirs(CNI_CACHE)
    journal.record("cgroup", plan.cgroup)
    _pin_network(directory, network.WAN)
    for host in plan.hosts:
        _pin(plan, host)
    _wire(plan, pins, journal)


def switch_off(plan: LabPlan, off: Sequence[HostPlan]) -> None:
    """Let go of hosts in which nothing runs any more, and with them of all that a machine forgets without power.

    That is its memory file systems, network settings, connections and control groups; its disk (`.lab/data`) stays. May be
    repeated.
    """
    pins = namespaces(plan.spec.directory)
    cut = "".join(f"link del {network.port(plan, host)}\n" for host in off)
    # -force: a cable that is gone already is no error worth stopping for
    in_wan(plan, ("ip", "-force", "-batch", "-"), cut, check=False)
    mounted = mounts_below(plan.spec.directory, Path("/proc/self/mountinfo").read_text())
    for host in off:
        for path in (f"{pins}/{host.name}.{kind}" for kind in ("net", "mnt", "cg")):
            for _ in range(mounted.count(path)):
                run(plan.spec.directory, ("umount", "-l", path))
        cgroups.remove(f"{plan.cgroup}/{host.name}")


def switch_on(plan: LabPlan, on: Sequence[HostPlan]) -> None:
    """Boot hosts that were switched off. Raises HostError."""
    pins = namespaces(plan.spec.directory)
    switch_off(plan, on)  # what an attempt that was killed made
    for host in on:
        _pin(plan, host)
    cables = [line for host in on for line in network.cable(plan, pins, host)]
    in_wan(plan, ("ip", "-batch", "-"), "\n".join(cables) + "\n")
    for host in on:
        _wire_host(plan, host)


def in_wan(plan: LabPlan, argv: tuple[str, ...], text: str = "", *, check: bool = True) -> str:
    """Run a command in the WAN's namespace. Raises HostError if it fails and `check` is set."""
    pin = f"{namespaces(plan.spec.directory)}/{network.WAN}.net"
    try:
        return run(plan.spec.directory, ("nsenter", f"--net={pin}", "--", *argv), text)
    except HostError:
        if check:
            raise
        return ""


def _pin(plan: LabPlan, host: HostPlan) -> None:
    cgroups.create(f"{plan.cgroup}/{host.name}/{cgroups.DAEMONS}")
    if host.role == "node":
        _pin_node(plan, host)
    else:
        _pin_network(plan.spec.directory, host.name)


def _pin_network(directory: str, name: str) -> None:
    path = f"{namespaces(directory)}/{name}.net"
    Path(path).touch()
    run(directory, ("unshare", f"--net={path}", "true"))


def _pin_node(plan: LabPlan, host: HostPlan) -> None:
    pin = f"{namespaces(plan.spec.directory)}/{host.name}"
    for kind in ("net", "mnt", "cg"):
        Path(f"{pin}.{kind}").touch()
    group = f"{plan.cgroup}/{host.name}"
    script = network.node_mounts(
        group, cgroups.hierarchies(), _cgroup_links(), namespaces(plan.spec.directory)
    )
    # The process must sit in the group when it makes the cgroup namespace: that is what becomes the root.
    join = (
        f"for procs in /sys/fs/cgroup/{group}/cgroup.procs /sys/fs/cgroup/*/{group}/cgroup.procs; do "
        'if [ -e "$procs" ]; then echo $$ > "$procs"; fi; done; '
        'exec unshare --net="$1.net" --mount="$1.mnt" --cgroup="$1.cg" --propagation private '
        'sh -ec "$2"'
    )
    run(plan.spec.directory, ("/bin/sh", "-ec", join, "pin", pin, script))


def _cgroup_links() -> dict[str, str]:
    root = "/sys/fs/cgroup"
    return {e.name: os.readlink(e.path) for e in os.scandir(root) if e.is_symlink()}


def _wire(plan: LabPlan, pins: str, journal: Journal) -> None:
    journal.record("link", plan.root_link)
    run(plan.spec.directory, ("ip", "-batch", "-"), network.root_batch(plan, pins))
    in_wan(plan, ("ip", "-batch", "-"), network.wan_batch(plan, pins))
    for host in plan.hosts:
        _wire_host(plan, host)


def _wire_host(plan: LabPlan, host: HostPlan) -> None:
    pin = f"{namespaces(plan.spec.directory)}/{host.name}.net"

    def inside(*argv: str, text: str = "") -> None:
        run(plan.spec.directory, ("nsenter", f"--net={pin}", "--", *argv), text)

    inside("ip", "-batch", "-", text=network.host_batch(plan, host))
    if host.role == "node":
        inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def mounts_below(directory: str, mountinfo: str) -> list[str]:
    """Mount points below `directory` in the text of mountinfo, the newest first."""
    paths = [line.split(" ")[4] for line in mountinfo.splitlines()]
    paths = [path.replace("\\040", " ").replace("\\134", "\\") for path in paths]
    return [path for path in reversed(paths) if path.startswith(f"{directory}/")]
