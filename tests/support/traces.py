"""What a machine looks like from outside: everything that a lab might leave behind.

On a machine that others use at the same time (CI unset) processes and files of others come and go, so there only what bears
the lab's marks is compared; under CI everything is.
"""

import os
import subprocess
from pathlib import Path

from federation.lab.plan import lab_id

ALONE = os.environ.get("CI") == "true"

TREES = ("/etc", "/opt", "/run", "/srv", "/usr/lib/cni", "/var")
NOT_IN = (
    "/var/cache",
    "/var/log",
    "/var/tmp",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/run/postgresql",
    "/run/user",
)
OF_OTHERS = ("/run", "/var/lib")
"""Where somebody else's containerd works on a machine that is not ours alone."""
_VOLATILE = (
    "fs.dentry",
    "fs.quota",
    "fs.file-nr",
    "fs.inode",
    "kernel.ns_last_pid",
    "kernel.random",
    "fs.aio-nr",
    "kernel.pty.nr",
)
_WORDS = ("containerd", "runc", "federation", "cluster-agent", "lab_standin")


def snapshot(lab_directory: str) -> dict[str, frozenset[str]]:
    """Each aspect of the machine as a set of lines."""
    seen = {
        "mounts": frozenset(mounts()),
        "links": frozenset(os.listdir("/sys/class/net")),
        "routes": command("ip", "route", "show", "table", "all"),
        "rules": command("nft", "list", "ruleset"),
        "sysctls": frozenset(s for s in command("sysctl", "-a") if not s.startswith(_VOLATILE)),
        "cgroups": frozenset(path for path, _, _ in os.walk("/sys/fs/cgroup")),
    }
    if not ALONE:
        ours = (lab_directory, lab_id(lab_directory))
        seen = {
            a: frozenset(x for x in found if any(o in x for o in ours)) for a, found in seen.items()
        }
    return seen | {
        "processes": processes(lab_directory),
        "namespaces": namespaces(lab_directory),
        "files": files(),
    }


def command(*argv: str) -> frozenset[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.splitlines())


def mounts() -> list[str]:
    return [line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def processes(lab_directory: str) -> frozenset[str]:
    """Process ids with their command lines: the lab's, and alone on the machine every daemon's."""
    found = set()
    ours = ancestors(os.getpid())
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in ours:
            continue
        words = read(f"/proc/{entry}/cmdline").replace("\0", " ").strip()
        told = words + read(f"/proc/{entry}/environ") + read(f"/proc/{entry}/cgroup")
        if not words:
            continue  # a kernel thread, or gone
        if (
            lab_directory in told
            or f"ubernetes-{lab_id(lab_directory)}" in read(f"/proc/{entry}/cgroup")
            or ALONE
            and any(word in words for word in _WORDS)
        ):
            found.add(f"{entry} {words}")
    return frozenset(found)


def ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 1:
        found.add(pid)
        pid = int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return found


def namespaces(lab_directory: str) -> frozenset[str]:
    """Namespaces that are pinned by a mount or held by one of the lab's processes."""
    pinned = {line for line in mounts() if "nsfs" in line and (ALONE or lab_directory in line)}
    held = set()
    for line in processes(lab_directory):
        pid = line.split(" ", 1)[0]
        for kind in ("net", "mnt", "cgroup"):
            try:
                held.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return frozenset(pinned | held)


def files() -> frozenset[str]:
    """Files of the system with size and time of change; directories by name."""
    found = set()
    for tree in TREES if ALONE else set(TREES) - set(OF_OTHERS):
        for path, directories, names in os.walk(tree):
            skipped = NOT_IN if ALONE else (*NOT_IN, *OF_OTHERS)
            directories[:] = [d for d in directories if f"{path}/{d}" not in skipped]
            found.add(f"{path}/")
            for name in names:
                try:
                    told = os.lstat(f"{path}/{name}")
                except FileNotFoundError:
                    continue
                found.add(f"{path}/{name} {told.st_size} {told.st_mtime_ns}")
    return frozenset(found)


def read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def difference(
    before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]
) -> dict[str, list[str]]:
    """What was added and what is gone, by aspect; empty when the machine is as it was."""
    found = {}
    for aspect in before:
        new = [f"+ {line}" for line in sorted(after[aspect] - before[aspect])]
        gone = [f"- {line}" for line in sorted(before[aspect] - after[aspect])]
        if new or gone:
            found[aspect] = new + gone
    return found
