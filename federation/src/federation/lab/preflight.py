"""What a lab needs of the machine, checked before anything is made, so that a lack is one clear sentence.

Facts are gathered in one place and judged by a pure function.
"""

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from federation.lab.plan import API_PORT, LabPlan, LabSpec

TOOLS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "haproxy": "haproxy",
    "busybox": "busybox-static",
}
PLUGINS = (
    "/usr/lib/cni/bridge",
    "/usr/lib/cni/host-local",
    "/usr/lib/cni/portmap",
    "/usr/lib/cni/loopback",
)
_HOST_TOOLS = ("ip", "nsenter", "unshare")
FREE_MIN = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found."""

    root: bool
    missing_tools: frozenset[str] = frozenset()
    missing_plugins: tuple[str, ...] = ()
    free_bytes: int = FREE_MIN
    programs_missing: tuple[str, ...] = ()
    directory: str = "/lab/.lab"
    root_is_mount: bool = True
    """False in a plain chroot: namespaces of mounts cannot be made there."""


def problems(spec: LabSpec, facts: Facts) -> list[str]:
    """Everything that stands in the way, each with its remedy."""
    found = []
    if spec.runtime == "containerd" and not facts.root:
        found.append(
            "real containers need root: run it as root, or take --runtime hollow (nodes that only pretend)"
        )
    if facts.root and not facts.root_is_mount:
        found.append(
            "the root directory is no mount (a plain chroot?), so no host can have mounts of its own: outside, run "
            "`mount --bind ROOT ROOT` and enter by pivot_root or a container"
        )
    needed = set(TOOLS) if spec.runtime == "containerd" else set(_HOST_TOOLS)
    missing = sorted(needed & facts.missing_tools) if facts.root else []
    if missing:
        packages = sorted({TOOLS[tool] for tool in missing})
        found.append(
            f"not installed: {', '.join(missing)}. Run `make`-targets as root, or: apt-get install {' '.join(packages)}"
        )
    if facts.root and spec.runtime == "containerd" and facts.missing_plugins:
        found.append(
            f"CNI plugins are missing ({facts.missing_plugins[0]}): apt-get install containernetworking-plugins"
        )
    if facts.programs_missing:
        found.append(f"not installed: {', '.join(facts.programs_missing)}: run `make setup`")
    if facts.free_bytes < FREE_MIN:
        found.append(
            f"{facts.free_bytes // 1_000_000} MB are free where {facts.directory} is; a fleet wants 1000 MB"
        )
    if any(character in facts.directory for character in '"\\\n'):
        found.append(
            f"the checkout's path {facts.directory!r} has a quote, backslash or newline: move it"
        )
    return found


def gather(spec: LabSpec, bin_dir: str) -> Facts:
    """Look at this machine."""
    programs = ("federation-server", "cluster-agent")
    return Facts(
        root=os.geteuid() == 0,
        missing_tools=frozenset(tool for tool in TOOLS if shutil.which(tool) is None),
        missing_plugins=tuple(path for path in PLUGINS if not os.path.exists(path)),
        free_bytes=shutil.disk_usage(os.path.dirname(spec.directory)).free,
        programs_missing=tuple(p for p in programs if not os.path.exists(f"{bin_dir}/{p}")),
        directory=spec.directory,
        root_is_mount=has_root(Path("/proc/self/mountinfo").read_text()),
    )


def has_root(mountinfo: str) -> bool:
    """Whether `/` is among the mount points of /proc/PID/mountinfo (proc(5))."""
    return any(line.split()[4] == "/" for line in mountinfo.splitlines())


def taken_ports(plan: LabPlan) -> tuple[str, ...]:
    """Without namespaces the servers share the machine's ports: which of theirs are in use."""
    if plan.spec.rooted:
        return ()
    hosts = [*plan.federation, *(cluster.control for cluster in plan.clusters)]
    return tuple(f"{h.address}:{API_PORT}" for h in hosts if not can_bind(h.address, API_PORT))


def port_problems(taken: Sequence[str]) -> list[str]:
    """What to say of ports in use."""
    return [
        f"port taken: another program listens on {place} (see `ss -ltnp`): stop it, or let it listen on its own "
        "address only"
        for place in taken
    ]


def can_bind(address: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def used_networks() -> list[ipaddress.IPv4Network]:
    """The networks that this machine has routes to (without the default route)."""
    if shutil.which("ip") is None:
        return []
    listed = subprocess.run(("ip", "-4", "route"), capture_output=True, text=True, check=False)
    return parse_routes(listed.stdout)


def parse_routes(text: str) -> list[ipaddress.IPv4Network]:
    """The destinations in the output of `ip route`."""
    found = []
    for line in text.splitlines():
        words = [
            w for w in line.split() if w not in ("unreachable", "blackhole", "broadcast", "local")
        ]
        if words and words[0] != "default":
            found.append(ipaddress.IPv4Network(words[0], strict=False))
    return found


def proxy_hint(plan: LabPlan, environ: dict[str, str]) -> str:
    """What to say when kubectl would ask a proxy for the lab's addresses; empty when it would not."""
    proxies = [n for n in ("HTTPS_PROXY", "https_proxy") if environ.get(n)]
    if not proxies or not plan.spec.rooted:
        return ""
    network = ipaddress.IPv4Network(f"{plan.root_address}/{plan.prefix}", strict=False)
    spared: Sequence[str] = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")
    if str(network) in spared or "*" in spared:
        return ""
    return f"{proxies[0]} is set: run `export NO_PROXY=$NO_PROXY,{network}` first, or kubectl asks the proxy"
