"""Making the lab's machines: namespaces pinned by files under `.lab/ns`, control groups, cables.

A host is a network namespace; a node is also a mount and a cgroup namespace, so that everything containerd, runc and the CNI
plugins strew over /run and /var/lib stays inside and is gone with it. The pins keep a host alive without any process in it,
as a machine stays on when its daemons die.
"""

import os
import subprocess
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
        cgroups.create(f"{plan.cgroup}/{host.name}/{cgroups.DAEMONS}")
        if host.role == "node":
            _pin_node(plan, host)
        else:
            _pin_network(directory, host.name)
    _wire(plan, pins, journal)


def _pin_network(directory: str, name: str) -> None:
    path = f"{namespaces(directory)}/{name}.net"
    Path(path).touch()
    run(directory, ("unshare", f"--net={path}", "true"))


def _pin_node(plan: LabPlan, host: HostPlan) -> None:
    pin = f"{namespaces(plan.spec.directory)}/{host.name}"
    for kind in ("net", "mnt", "cg"):
        Path(f"{pin}.{kind}").touch()
    group = f"{plan.cgroup}/{host.name}"
    script = network.node_mounts(group, cgroups.hierarchies(), _cgroup_links())
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
    directory = plan.spec.directory

    def inside(host: str, *argv: str, text: str = "") -> None:
        run(directory, ("nsenter", f"--net={pins}/{host}.net", "--", *argv), text)

    journal.record("link", plan.root_link)
    run(directory, ("ip", "-batch", "-"), network.root_batch(plan, pins))
    inside(network.WAN, "ip", "-batch", "-", text=network.wan_batch(plan, pins))
    for host in plan.hosts:
        inside(host.name, "ip", "-batch", "-", text=network.host_batch(plan, host))
        if host.role == "node":
            inside(host.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
