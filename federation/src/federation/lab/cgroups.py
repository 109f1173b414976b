"""Control groups of the lab: every process it starts, and every container under those, sits below one directory.

That makes teardown complete: whatever double-forked away is still in the group. Both layouts are handled: version 1 (or
hybrid) with a hierarchy per controller, and version 2 with one.

Limit: a version 2 controller that the root does not hand down stays off: turning it on would change the machine.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

DAEMONS = "daemons"
"""The leaf for a host's own processes: version 2 allows processes only in leaves."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup tree."""

    path: str
    version: int


def parse_hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """The cgroup mounts in the text of /proc/self/mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ")[0]
        if kind in ("cgroup", "cgroup2"):
            path = before.split(" ")[4]
            found[path] = Hierarchy(path, 2 if kind == "cgroup2" else 1)
    return tuple(found.values())


def hierarchies() -> tuple[Hierarchy, ...]:
    """The cgroup trees of this machine."""
    return parse_hierarchies(Path("/proc/self/mountinfo").read_text())


def create(name: str) -> None:
    """Make the group `name` (a path) in every hierarchy, usable for processes below it."""
    for hierarchy in hierarchies():
        path = hierarchy.path
        for part in name.split("/"):
            path = f"{path}/{part}"
            os.makedirs(path, exist_ok=True)
            _inherit(path, hierarchy.version)


def _inherit(path: str, version: int) -> None:
    """A new v1 cpuset is empty and takes no process; a new v2 group hands no controller down."""
    parent = os.path.dirname(path)
    if version == 1:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{path}/{name}"):
                Path(path, name).write_text(Path(parent, name).read_text())
    elif os.path.basename(path) != DAEMONS:
        for controller in Path(path, "cgroup.controllers").read_text().split():
            try:
                Path(path, "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError:
                continue  # not every controller can be handed down; the pods go without its limits


def groups(name: str) -> list[str]:
    """The directories of group `name` and all below it, deepest first."""
    found = []
    for hierarchy in hierarchies():
        for path, _, _ in os.walk(f"{hierarchy.path}/{name}", topdown=False):
            found.append(path)
    return found


def processes(name: str) -> set[int]:
    """Every process in group `name` or below."""
    found: set[int] = set()
    for path in groups(name):
        try:
            found |= {int(pid) for pid in Path(path, "cgroup.procs").read_text().split()}
        except OSError:
            continue  # removed meanwhile
    return found


def thaw(name: str) -> None:
    """Let frozen processes of group `name` or below go on: in a frozen group not even SIGKILL is heard.

    runc freezes a container while it kills it; a runc that is itself killed at that moment leaves it frozen.
    """
    for path in groups(name):
        for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if os.path.exists(f"{path}/{file}"):
                try:
                    Path(path, file).write_text(word)
                except OSError:
                    continue  # removed meanwhile


def remove(name: str, seconds: float = 5.0) -> list[str]:
    """Remove group `name` from every hierarchy; returns what could not be removed in time."""
    deadline = time.monotonic() + seconds
    while left := [path for path in groups(name) if not _rmdir(path)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a dying process is still charged to it
    return True
