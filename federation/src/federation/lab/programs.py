"""What runs on which host, and what its files say: configuration texts and process specs as functions of the plan.

The YAML keys written here are the contract with `federation-server` and `cluster-agent`; both read them strictly.
Where a file stands is decided here too, so that status, join and teardown agree.
"""

import sys
from typing import Any
from urllib.parse import urlsplit

import yaml

from federation.lab import network
from federation.lab.plan import API_PORT, ClusterPlan, HostPlan, LabPlan
from federation.lab.process import Spec

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""Of every node, inside its own mount namespace."""

PROVIDER = "lab"
DNS_ADDRESS = "169.254.20.10"
"""Of every node's name server; seen by the pods of that node only."""

FAILBACK_S = 15.0
"""A lab shows failback while one looks on; a server's own default is 300 s."""


def config_path(plan: LabPlan, process: str) -> str:
    """Where the configuration of `process` is written."""
    return f"{plan.spec.directory}/config/{process}.yaml"


def data_dir(plan: LabPlan, process: str) -> str:
    """Where `process` keeps its data; servers leave their admin.kubeconfig here.

    Several federation servers share one: they are one authority, with one CA.
    """
    name = "federation" if process in [host.name for host in plan.federation] else process
    return f"{plan.spec.directory}/data/{name}"


def admin_kubeconfig(plan: LabPlan, process: str) -> str:
    """The kubeconfig with which a server lets its operator in."""
    return f"{data_dir(plan, process)}/admin.kubeconfig"


def url(host: HostPlan) -> str:
    """The API server on `host`."""
    return f"https://{host.address}:{API_PORT}"


# ------------------------------------------------------------------------------------------------------ configurations
def federation_config(plan: LabPlan, host: HostPlan) -> dict[str, Any]:
    """For `federation-server --config`."""
    return {
        "dataDir": data_dir(plan, host.name),
        "listen": [f"{host.address}:{API_PORT}"],
        "advertise": url(plan.entrance),
        "databaseUrl": database_inside(plan),
        "failbackStabilizationSeconds": FAILBACK_S,
    }


def control_config(plan: LabPlan, cluster: ClusterPlan, ca_file: str, token: str) -> dict[str, Any]:
    """For `cluster-agent control --config`. The token only matters until the member has its own certificate."""
    return {
        "cluster": cluster.name,
        "dataDir": data_dir(plan, cluster.control.name),
        "listen": [f"{cluster.control.address}:{API_PORT}"],
        "advertise": url(cluster.control),
        "provider": PROVIDER,
        "region": cluster.region,
        "zone": cluster.zone,
        "databaseUrl": "",
        "serviceCidr": cluster.service_cidr,
        "clustersetCidr": cluster.clusterset_cidr,
        "federation": {"url": url(plan.entrance), "caFile": ca_file, "token": token},
    }


def node_config(
    plan: LabPlan, cluster: ClusterPlan, host: HostPlan, ca_file: str, token: str
) -> dict[str, Any]:
    """For `cluster-agent node --config`: a real node, or one process that is `hollowNodes` of them.

    A token makes one node's identity; many hollow nodes in one process share their administrator's.
    """
    hollow = host.role == "hollow"
    return {
        "node": host.node,
        "cluster": cluster.name,
        "zone": cluster.zone,
        "region": cluster.region,
        "server": url(cluster.control),
        "caFile": ca_file,
        "token": token,
        "kubeconfig": admin_kubeconfig(plan, cluster.control.name) if hollow else "",
        "runtime": "hollow" if hollow else "containerd",
        "containerdSocket": "" if hollow else CONTAINERD_SOCKET,
        "stateDir": data_dir(plan, host.name),
        "podCIDR": cluster.hollow_cidr if hollow else host.pod_cidr,
        "nodeIP": host.address,
        "serviceCidr": "" if hollow else cluster.service_cidr,
        "clustersetCidr": "" if hollow else cluster.clusterset_cidr,
        "dnsAddress": "" if hollow else DNS_ADDRESS,
        "hollowNodes": cluster.hollow_count if hollow else 0,
    }


def to_yaml(document: dict[str, Any]) -> str:
    """A configuration file's text."""
    return str(yaml.safe_dump(document, sort_keys=False))


# ------------------------------------------------------------------------------------------------------ containerd
_CONTAINERD = """\
version = 2
root = "{data}/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{data}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:1"
  restrict_oom_score_adj = true # without CAP_SYS_RESOURCE no score can be lowered, and every sandbox would fail
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{data}/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{data}/certs.d"
"""


def containerd_config(data: str, snapshotter: str) -> str:
    """containerd's config.toml for a node whose data lies in `data`. The node writes the pod network's file itself."""
    return _CONTAINERD.format(data=data, socket=CONTAINERD_SOCKET, snapshotter=snapshotter)


# ------------------------------------------------------------------------------------------------------ processes
def server_specs(plan: LabPlan, bin_dir: str) -> list[Spec]:
    """The federation servers, each with its way to the database before it, and the one address of several."""
    found = []
    place = database_place(plan.spec.database_url)
    for host in plan.federation:
        if place and plan.spec.rooted:
            found.append(_database_forward(plan, host, place))
        found.append(
            _program(plan, host, host.name, f"{bin_dir}/federation-server", ready=_api(host))
        )
    if plan.front is not None:
        targets = [f"{host.address}:{API_PORT}" for host in plan.federation]
        command = (*_FORWARD, "--listen", f"{plan.front.address}:{API_PORT}", "--to", *targets)
        found.append(_spec(plan, plan.front, "front", command, ready=_api(plan.front)))
    return found


_FORWARD = (sys.executable, "-m", "federation.lab.forward")


def _database_forward(plan: LabPlan, host: HostPlan, place: tuple[str, int]) -> Spec:
    """It runs on the machine itself, where the database is, and listens on the host."""
    pin = f"{plan.spec.directory}/ns/{host.name}.net"
    command = (*_FORWARD, "--namespace", pin, "--listen", f"127.0.0.1:{place[1]}")
    return Spec(
        f"{host.name}-database", (*command, "--to", f"{place[0]}:{place[1]}"), host=host.name
    )


def database_place(database_url: str) -> tuple[str, int] | None:
    """Address and port of a database that is reached by TCP; None for SQLite and for unix sockets."""
    parts = urlsplit(database_url)
    if not parts.scheme.startswith("postgresql") or not parts.hostname:
        return None
    return parts.hostname, parts.port or 5432


def database_inside(plan: LabPlan) -> str:
    """The database URL as a federation server sees it: on its own host the forwarder stands for the database."""
    url_given = plan.spec.database_url
    place = database_place(url_given)
    if place is None or not plan.spec.rooted:
        return url_given
    parts = urlsplit(url_given)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}127.0.0.1:{place[1]}").geturl()


def containerd_specs(plan: LabPlan) -> list[Spec]:
    """Every node's containerd, and the step that gives it the lab's images."""
    found = []
    for cluster in plan.clusters:
        for host in cluster.nodes:
            data = data_dir(plan, host.name)
            run = ("containerd", "--config", f"{data}/containerd.toml")
            name = f"{host.name}-containerd"
            found.append(_spec(plan, host, name, run, ready=f"unix:{CONTAINERD_SOCKET}"))
            load = ("ctr", "--namespace", "k8s.io", "images", "import")
            archive = f"{plan.spec.directory}/images.tar"
            found.append(_spec(plan, host, f"{host.name}-images", (*load, archive), once=True))
    return found


def control_specs(plan: LabPlan, bin_dir: str) -> list[Spec]:
    """Every member's control process."""
    program = f"{bin_dir}/cluster-agent"
    return [
        _program(plan, c.control, c.control.name, program, "control", ready=_api(c.control))
        for c in plan.clusters
    ]


def node_specs(plan: LabPlan, bin_dir: str) -> list[Spec]:
    """Every member's node processes."""
    found = []
    for cluster in plan.clusters:
        for host in (*cluster.nodes, *((cluster.hollow,) if cluster.hollow else ())):
            found.append(_program(plan, host, host.name, f"{bin_dir}/cluster-agent", "node"))
    return found


def _program(plan: LabPlan, host: HostPlan, name: str, *command: str, ready: str = "") -> Spec:
    return _spec(plan, host, name, (*command, "--config", config_path(plan, name)), ready=ready)


def _spec(
    plan: LabPlan,
    host: HostPlan,
    name: str,
    command: tuple[str, ...],
    *,
    ready: str = "",
    once: bool = False,
) -> Spec:
    if plan.spec.rooted:
        command = network.enter(plan, f"{plan.spec.directory}/ns", host.name, command)
    return Spec(name, command, host=host.name, ready=ready, once=once)


def _api(host: HostPlan) -> str:
    return f"tcp:{host.address}:{API_PORT}"
