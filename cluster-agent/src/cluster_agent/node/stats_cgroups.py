"""Counters of containers and pods from their control groups, and of the machine from /proc.

Version 1 (and hybrid) has CPU time and memory in hierarchies of their own, version 2 in one. The working set is usage less
inactive file pages, as upstream's. A pass over 110 pods reads 440 small files: about 3 ms (CRI would take 300 ms for the
same answer). CPU time of the machine has the resolution of /proc/stat, 10 ms.
"""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster_agent.node.stats import ContainerRef, PodRef, Reading
from machinery.api.core import Pod

FILE_BYTES_MAX = 64 * 1024
"""/proc/stat of a machine with many processors is the largest."""
NS_A_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def value_in(text: bytes, name: bytes) -> int:
    """The number behind a name at the beginning of a line. Raises ValueError."""
    start = 0
    while True:
        found = text.index(name, start)
        end = found + len(name)
        if (found == 0 or text[found - 1 : found] == b"\n") and text[end : end + 1] in b" :":
            line = text[end + 1 :].split(b"\n", 1)[0]
            return int(line.split()[0])
        start = end


def memory_of(usage: int, stat: bytes, inactive: bytes, rss: bytes) -> tuple[int, int, int]:
    """(usage, working set, rss) of a memory.stat whose lines have these names."""
    return usage, max(0, usage - value_in(stat, inactive)), value_in(stat, rss)


def machine_cpu_ns(stat: bytes) -> int:
    """CPU time of the machine: all of /proc/stat's first line but idle and waiting; guests are in user already."""
    words = stat.split(b"\n", 1)[0].split()
    if not words or words[0] != b"cpu":
        raise ValueError("no line of all processors")
    user, nice, system, _idle, _wait, irq, soft, steal = ([*map(int, words[1:9])] + [0] * 8)[:8]
    return (user + nice + system + irq + soft + steal) * NS_A_TICK


def machine_memory(meminfo: bytes) -> tuple[int, int, int]:
    """(usage, working set, rss) of /proc/meminfo, in bytes."""
    used = value_in(meminfo, b"MemTotal") - value_in(meminfo, b"MemFree")
    inactive = value_in(meminfo, b"Inactive(file)")
    return used * 1024, max(0, used - inactive) * 1024, value_in(meminfo, b"AnonPages") * 1024


def boot_time(path: str = "/proc/stat") -> dt.datetime | None:
    """When the machine was started."""
    try:
        return dt.datetime.fromtimestamp(value_in(_read(path), b"btime"), dt.UTC)
    except (OSError, ValueError):
        return None


class CgroupMeter:
    """The Meter of a real node. `parent` gives a pod's group as a path from the hierarchies' roots."""

    def __init__(
        self, mount: str, parent: Callable[[Pod], str], *, v2: bool, proc: str = "/proc"
    ) -> None:
        self._parent, self._v2, self._proc = parent, v2, proc
        self._cpu = mount if v2 else _hierarchy(mount, ("cpuacct", "cpu,cpuacct", "cpuacct,cpu"))
        self._memory = mount if v2 else _hierarchy(mount, ("memory",))
        self._paths: dict[str, str] = {}

    def _path(self, ref: PodRef) -> str:
        found = self._paths.get(ref.uid)
        if found is None:
            found = self._paths[ref.uid] = self._parent(ref.pod)
        return found

    def settle(self, pods: Sequence[PodRef]) -> None:
        wanted = {ref.uid for ref in pods}
        for uid in self._paths.keys() - wanted:
            del self._paths[uid]

    def node(self) -> Reading | None:
        try:
            cpu = machine_cpu_ns(_read(f"{self._proc}/stat"))
            return Reading(cpu, *machine_memory(_read(f"{self._proc}/meminfo")))
        except (OSError, ValueError):
            return None

    def pod(self, ref: PodRef) -> int | None:
        try:
            return self._cpu_ns(self._path(ref))
        except (OSError, ValueError):
            return None

    def container(self, pod: PodRef, ref: ContainerRef) -> Reading | None:
        path = f"{self._path(pod)}/{ref.id}"
        try:
            cpu = self._cpu_ns(path)
        except (OSError, ValueError):
            return None
        try:
            return Reading(cpu, *self._memory_at(path))
        except (OSError, ValueError):  # a board without the memory controller
            return Reading(cpu)

    def _cpu_ns(self, path: str) -> int:
        if self._v2:
            return value_in(_read(f"{self._cpu}{path}/cpu.stat"), b"usage_usec") * 1000
        return int(_read(f"{self._cpu}{path}/cpuacct.usage"))

    def _memory_at(self, path: str) -> tuple[int, int, int]:
        group = self._memory + path
        stat = _read(f"{group}/memory.stat")
        if self._v2:
            usage = int(_read(f"{group}/memory.current"))
            return memory_of(usage, stat, b"inactive_file", b"anon")
        usage = int(_read(f"{group}/memory.usage_in_bytes"))
        return memory_of(usage, stat, b"total_inactive_file", b"total_rss")


def _hierarchy(mount: str, names: Sequence[str]) -> str:
    """Where a controller of version 1 is; hierarchies may hold several."""
    for name in names:
        if (Path(mount) / name).is_dir():
            return f"{mount}/{name}"
    return f"{mount}/{names[0]}"


def _read(path: str) -> bytes:
    """A small file at once: half the cost of Python's own file objects."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, FILE_BYTES_MAX)
    finally:
        os.close(number)
