"""Taking a lab away: nothing of it remains on the machine but its logs.

It trusts nothing that ran before: `up`, the supervisor or an earlier `down` may have been killed anywhere. Processes are found
by their marks and by control group, the rest by the journal and by names derived from the directory. Each step may be done
twice.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from federation.lab import cgroups, channel
from federation.lab.hosts import mounts_below
from federation.lab.journal import Journal
from federation.lab.plan import lab_id
from federation.lab.process import marked

KEPT = frozenset({"log", "lock"})
"""What stays in .lab: a log is wanted most when the lab is gone."""

Report = Callable[[str], None]


class TeardownError(Exception):
    """Something is left; the text names it."""


def take_down(directory: str, report: Report, *, rooted: bool, keep_files: bool = False) -> None:
    """Undo everything (`keep_files`: all but the lab's own files). Raises TeardownError with what is left."""
    if not os.path.isdir(directory):
        return
    report("stopping processes")
    _ask_supervisor(directory)
    group = f"ubernetes-{lab_id(directory)}"
    left = _kill_all(directory, group)
    if rooted:
        report("removing hosts, links and control groups")
        left += _undo(directory, group)
    if left:
        raise TeardownError(
            "could not remove: " + ", ".join(left) + "; run `fedctl lab down` again"
        )
    if not keep_files:
        report("removing files")
        _remove_files(directory)


def _ask_supervisor(directory: str, seconds: float = 60.0) -> None:
    """An orderly end first: programs get their SIGTERM in reverse order of start."""
    try:
        channel.ask(directory, "shutdown")
    except channel.NoSupervisor:
        return
    deadline = time.monotonic() + seconds
    while "supervisor" in marked(directory).values() and time.monotonic() < deadline:
        time.sleep(0.05)


def _kill_all(directory: str, group: str, seconds: float = 20.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while pids := set(marked(directory)) | cgroups.processes(group):
        for pid in pids - {os.getpid()}:
            _kill(pid)
        cgroups.thaw(group)
        if pids == {os.getpid()}:
            return []
        if time.monotonic() > deadline:
            return [f"process {pid}" for pid in sorted(pids)]
        time.sleep(0.05)
    return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _undo(directory: str, group: str) -> list[str]:
    left = []
    for path in mounts_below(directory, Path("/proc/self/mountinfo").read_text()):
        subprocess.run(("umount", "-l", path), check=False, capture_output=True)
    for path in mounts_below(directory, Path("/proc/self/mountinfo").read_text()):
        left.append(f"mount {path}")
    links = {f"ub-{lab_id(directory)}"}
    links |= {entry.name for entry in Journal(directory).entries() if entry.kind == "link"}
    for link in links:
        if os.path.exists(f"/sys/class/net/{link}"):
            subprocess.run(("ip", "link", "del", link), check=False, capture_output=True)
        if os.path.exists(f"/sys/class/net/{link}"):
            left.append(f"link {link}")
    left += [f"cgroup {path}" for path in cgroups.remove(group)]
    for entry in reversed(Journal(directory).entries()):
        if entry.kind == "directory" and os.path.isdir(entry.name) and not os.listdir(entry.name):
            os.rmdir(entry.name)
    return left


def _remove_files(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.name in KEPT:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
