"""Control groups of pods, by hand: `kubepods/{burstable,besteffort}/pod<uid>` in every hierarchy.

containerd makes the containers' own groups below the pod's, and never removes the pod's: that is done here, depth
first, in every hierarchy, also in those of version 1 that we set nothing in. Both layouts are known: version 1 (and
hybrid) with a hierarchy per controller, version 2 with one. A limit that the kernel refuses is logged, not fatal: a
board without the memory controller runs its pods unlimited.
"""

import contextlib
import logging
import os
from pathlib import Path

from cluster_agent.node.cri.interface import Resources
from cluster_agent.node.kubelet.resources import (
    BEST_EFFORT,
    BURSTABLE,
    SHARES_MIN,
    cpu_shares,
    cpu_weight,
)

log = logging.getLogger(__name__)

V2_CONTROLLERS = ("cpu", "memory", "pids", "cpuset", "io", "hugetlb")


def oom_score_floor() -> int:
    """The lowest oom_score_adj that we may give: without CAP_SYS_RESOURCE our own."""
    try:
        mine = int(Path("/proc/self/oom_score_adj").read_text())
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    effective = next(
        (line for line in status.splitlines() if line.startswith("CapEff")), "CapEff: 0"
    )
    may_lower = int(effective.split()[1], 16) >> 24 & 1
    return -999 if may_lower else mine


class Cgroups:
    """The groups below `root` of one machine's hierarchies."""

    def __init__(self, mount: str, root: str) -> None:
        self._mount, self._root = Path(mount), root.strip("/")
        self.v2 = (self._mount / "cgroup.controllers").exists()
        self._trees = [self._mount] if self.v2 else self._version_1_trees()

    def _version_1_trees(self) -> list[Path]:
        if not self._mount.is_dir():
            return []
        seen: set[tuple[int, int]] = set()
        trees = []
        for path in sorted(self._mount.iterdir()):
            if not (path / "cgroup.procs").exists():
                continue
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                trees.append(path)
        return trees

    def parent(self, qos: str, uid: str) -> str:
        """The pod's group as a path from the hierarchies' roots: what the runtime is told."""
        middle = {BURSTABLE: "burstable/", BEST_EFFORT: "besteffort/"}.get(qos, "")
        return f"/{self._root}/{middle}pod{uid}"

    # ---------------------------------------------------------------------------------------------------- making
    def create(self, qos: str, uid: str, limits: Resources) -> str:
        """Make the pod's group with its limits; its path."""
        path = self.parent(qos, uid)
        for tree in self._trees:
            self._make(tree, path)
        self._set(path, limits)
        if qos == BEST_EFFORT:
            self._set(str(Path(path).parent), Resources(cpu_shares=SHARES_MIN))
        return path

    def _make(self, tree: Path, path: str) -> None:
        current = tree
        for part in path.strip("/").split("/"):
            if self.v2:
                self._hand_down(current)
            current = current / part
            with contextlib.suppress(FileExistsError):
                current.mkdir()
            if tree.name == "cpuset" and not self.v2:
                self._inherit_cpuset(current)

    def _hand_down(self, group: Path) -> None:
        """Version 2: children have a controller only if their parent says so."""
        try:
            available = set((group / "cgroup.controllers").read_text().split())
        except OSError:
            return
        for name in V2_CONTROLLERS:
            if name in available:
                self._write(group / "cgroup.subtree_control", f"+{name}")

    def _inherit_cpuset(self, group: Path) -> None:
        """Version 1: a fresh cpuset is empty, and nothing can run in it."""
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not (group / name).read_text().strip():
                self._write(group / name, (group.parent / name).read_text().strip())

    def _set(self, path: str, limits: Resources) -> None:
        if self.v2:
            group = self._mount / path.strip("/")
            values = {
                "cpu.weight": str(cpu_weight(limits.cpu_shares)),
                "cpu.max": f"{limits.cpu_quota or 'max'} {limits.cpu_period or 100_000}",
                "memory.max": str(limits.memory_limit or "max"),
            }
            for name, value in values.items():
                self._write(group / name, value)
            return
        for tree, name, number in (
            ("cpu", "cpu.shares", limits.cpu_shares),
            ("cpu", "cpu.cfs_quota_us", limits.cpu_quota),
            ("memory", "memory.limit_in_bytes", limits.memory_limit),
        ):
            if number:
                self._write(self._tree(tree) / path.strip("/") / name, str(number))

    def _tree(self, controller: str) -> Path:
        """Version 1 hierarchies may hold several controllers: cpu,cpuacct."""
        plain = self._mount / controller
        return plain if plain.exists() else self._mount / "cpu,cpuacct"

    def _write(self, path: Path, value: str) -> None:
        try:
            path.write_text(value)
        except OSError as error:
            extra = {"path": str(path), "value": value, "error": str(error)}
            log.warning("cgroup value refused", extra=extra)

    # -------------------------------------------------------------------------------------------------- removing
    def remove(self, qos: str, uid: str) -> bool:
        """Remove the pod's group everywhere; False if something still runs in one."""
        path = self.parent(qos, uid).strip("/")
        return all([_remove_tree(tree / path) for tree in self._trees])

    def leftovers(self) -> set[str]:
        """Uids of pods that have a group somewhere."""
        found: set[str] = set()
        for tree in self._trees:
            for middle in ("", "burstable", "besteffort"):
                folder = tree / self._root / middle
                if folder.is_dir():
                    found |= {
                        p.name.removeprefix("pod")
                        for p in folder.iterdir()
                        if p.name.startswith("pod")
                    }
        return found

    def remove_everywhere(self, uid: str) -> bool:
        """Remove a pod's group whatever its class was."""
        return all([self.remove(qos, uid) for qos in ("", BURSTABLE, BEST_EFFORT)])

    def share(self, milli_cpu: int) -> None:
        """The Burstable pods together get the CPU that they asked for together."""
        group = f"{self._root}/burstable"
        if any((tree / group).is_dir() for tree in self._trees):
            self._set(group, Resources(cpu_shares=cpu_shares(milli_cpu)))


def _remove_tree(group: Path) -> bool:
    """rmdir from the leaves up; a group with processes stays."""
    if not group.is_dir():
        return True
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
