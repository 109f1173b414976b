"""The lab's wires as text: what `ip -batch` and `sh` are given to make them. Pure.

One namespace holds a bridge, the WAN; each host hangs on it by a veth pair, the machine's own namespace by one more, so that
kubectl reaches every API server. Hosts of clusters have routes to the pods of all nodes, as in a routed VPC; whether the
fleet uses them between clusters is FederationConfig's `directRoutes`. The WAN is their wire as well, so what cuts or slows
a zone does so to its pods.

Nothing of it is named in /run/netns: making that directory would leave a mount behind on a machine that had none.
"""

from federation.lab.cgroups import DAEMONS, Hierarchy
from federation.lab.plan import HostPlan, LabPlan

WAN = "wan"
LINK = "wan0"
ROOT_PORT = "machine"


def wan_batch(plan: LabPlan, namespaces: str) -> str:
    """For `ip -batch` inside the WAN's namespace: the bridge, the machine's cable (root_batch made it), a cable to every host."""
    lines = ["link set lo up", "link add wan type bridge forward_delay 0", "link set wan up"]
    lines.append(f"link set {ROOT_PORT} master wan up")
    for host in plan.hosts:
        lines += cable(plan, namespaces, host)
    return "\n".join(lines) + "\n"


def port(plan: LabPlan, host: HostPlan) -> str:
    """The WAN's end of a host's cable."""
    return f"h{plan.hosts.index(host)}"


def cable(plan: LabPlan, namespaces: str, host: HostPlan) -> list[str]:
    """For `ip -batch` inside the WAN's namespace: a host's cable, made anew when the host boots anew.

    The card's address is the host's, as on a real machine: after a reboot its neighbours need not learn another one.
    """
    name = port(plan, host)
    return [
        f"link add {name} type veth peer name {LINK} address {mac(host)} "
        f'netns "{namespaces}/{host.name}.net"',
        f"link set {name} master wan up",
    ]


def mac(host: HostPlan) -> str:
    """A locally administered address, with the IPv4 address in it."""
    return ":".join(f"{octet:02x}" for octet in (2, 0x55, *map(int, host.address.split("."))))


def root_batch(plan: LabPlan, namespaces: str) -> str:
    """For `ip -batch` on the machine itself: its one cable."""
    link = plan.root_link
    return (
        f'link add {link} type veth peer name {ROOT_PORT} netns "{namespaces}/{WAN}.net"\n'
        f"addr add {plan.root_address}/{plan.prefix} dev {link}\n"
        f"link set {link} addrgenmode none\n"  # no IPv6 address that turns up a second later
        f"link set {link} up\n"
    )


def host_batch(plan: LabPlan, host: HostPlan) -> str:
    """For `ip -batch` inside a host: its address, and the way to Services and to the pods of other nodes."""
    lines = [
        "link set lo up",
        f"addr add {host.address}/{plan.prefix} dev {LINK}",
        f"link set {LINK} up",
    ]
    for cluster in plan.clusters if host.cluster else ():
        lines += [
            f"route add {node.pod_cidr} via {node.address}"
            for node in cluster.nodes
            if node != host
        ]
        if host.role == "node" and cluster.name == host.cluster:
            # Only so that the host's own packets to a Service set out at all: the proxy turns them on their way.
            ranges = (cluster.service_cidr, cluster.clusterset_cidr)
            lines += [f"route add {cidr} dev {LINK}" for cidr in ranges]
    return "\n".join(lines) + "\n"


def node_mounts(group: str, trees: tuple[Hierarchy, ...], links: dict[str, str], pins: str) -> str:
    """The shell script that turns a private mount namespace into a node's: own /run, own CNI cache, own cgroup root.

    With its own group as the root of every cgroup tree, what a node's containerd and kubelet create can only be below it.
    `links` are symbolic links in the cgroup directory (cpu -> cpu,cpuacct). The `pins` of other hosts are let go: held here
    as well, a host that is switched off would live on.
    """
    lines = [
        "set -e",
        f'umount -l -R "{pins}"',
        "mount -t tmpfs -o mode=755 tmpfs /run",
        "mkdir -p /run/lock /run/cg",
    ]
    lines.append("mount -t tmpfs -o mode=755 tmpfs /var/lib/cni")
    names = {tree.path: f"/run/cg/{i}" for i, tree in enumerate(trees)}
    for path, name in names.items():
        lines += [f"mkdir {name}", f"mount --bind {path}/{group} {name}"]
    lines.append("umount -l -R /sys/fs/cgroup")
    if "/sys/fs/cgroup" not in names:
        lines.append("mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup")
    for path, name in names.items():
        lines += [f"mkdir -p {path}", f"mount --move {name} {path}"]
    lines += [f"ln -s {target} /sys/fs/cgroup/{name}" for name, target in links.items()]
    return "\n".join(lines) + "\n"


_ENTER = f"""\
ns=$1 group=$2; shift 2
for procs in /sys/fs/cgroup/$group/{DAEMONS}/cgroup.procs /sys/fs/cgroup/*/$group/{DAEMONS}/cgroup.procs; do
  if [ -e "$procs" ]; then echo $$ > "$procs"; fi
done
if [ -e "$ns.mnt" ]; then exec nsenter --mount="$ns.mnt" --cgroup="$ns.cg" --net="$ns.net" --wd=/ -- "$@"; fi
exec nsenter --net="$ns.net" -- "$@"
"""


def enter(plan: LabPlan, namespaces: str, host: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs `argv` as a process of `host`. It keeps its pid all the way (every step is an exec).

    Not `ip netns exec`: that mounts a fresh /sys and hides the control groups.
    """
    return (
        "/bin/sh",
        "-ec",
        _ENTER,
        "enter",
        f"{namespaces}/{host}",
        f"{plan.cgroup}/{host}",
        *argv,
    )
