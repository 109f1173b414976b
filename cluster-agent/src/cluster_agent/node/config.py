"""Settings of a node process, read once and never changed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = "v1.36.2+ubernetes"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node process is told. A field named `_dir` is a folder that the node makes if need be."""

    node_name: str
    """The Node's name; with several hollow nodes the stem: `name-1`, `name-2` …"""

    state_dir: str
    """Keys, checkpoints, volumes, logs. Lives as long as the machine."""

    api_server: str = ""
    """https://host:port. Needed with a bootstrap token; a kubeconfig names its own."""

    ca_file: str = ""
    """PEM of the cluster's CA: whom we believe, and who signed the API server's client certificate."""

    bootstrap_token: str = field(default="", repr=False)
    """`id.secret`; used once, to ask for a client certificate."""

    kubeconfig: str = ""
    """An access that is used as it is, instead of a certificate of our own (hollow nodes: one access for all)."""

    cluster_name: str = ""
    zone: str = ""
    region: str = ""
    """Where the node stands: labels cluster.ubernetes.io/name and topology.kubernetes.io/zone and region."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Further labels of the Node."""

    taints: tuple[Mapping[str, str], ...] = ()
    """Taints that the Node registers with: {key, value, effect}."""

    runtime: str = "containerd"
    """`containerd` or `hollow`."""

    containerd_socket: str = "/run/containerd/containerd.sock"

    hollow_count: int = 1
    """How many hollow nodes this process plays."""

    hollow_sandbox_s: float = 0.14
    hollow_start_s: float = 0.09
    """How long a hollow sandbox and a hollow container take."""

    node_ip: str = "127.0.0.1"
    """InternalIP: where the API server reaches the kubelet, and pods the host."""

    kubelet_port: int = 10250
    """Port of the HTTPS endpoint; 0 lets the system choose."""

    kubelet_address: str = ""
    """The address to listen on; empty is node_ip."""

    kubelet_client_names: tuple[str, ...] = ("kube-apiserver-kubelet-client",)
    """Common names of client certificates that may use the endpoint; group system:masters always may."""

    health_port: int = -1
    """Port of plain-HTTP /healthz, /readyz and /metrics on 127.0.0.1; -1 is none, 0 lets the system choose."""

    pod_cidr: str = ""
    """Addresses of this node's pods. Empty: spec.podCIDR of the Node decides, when a control plane sets it."""

    cni_conf_dir: str = ""
    """Where the pod network's configuration is written; empty: someone else configures CNI."""

    cni_bin_dir: str = "/usr/lib/cni"

    cni_bridge: str = ""
    """Name of the bridge, at most 15 letters; empty: `cni0`."""

    cni_mtu: int = 1500
    pod_log_dir: str = ""
    """Folder of container logs; empty: state_dir/logs. In production /var/log/pods."""

    cgroup_root: str = "/kubepods"
    """Parent of all pods' cgroups, a path in every hierarchy."""

    cgroup_mount: str = "/sys/fs/cgroup"

    cluster_dns: tuple[str, ...] = ()
    """Name servers of pods with dnsPolicy ClusterFirst; none: the node's own (dns_address), or else the host's."""

    cluster_domain: str = "cluster.local"

    service_cidr: str = ""
    """Cluster addresses of Services, IPv4, IPv6 or both by a comma: this node's proxy serves them. Empty: no proxy."""

    clusterset_cidr: str = ""
    """Addresses of Services of the whole fleet, as this cluster gives them: proxy, name server and gateway of this node
    serve them. Empty: no Services over clusters. Needs service_cidr and cluster_name."""

    dns_address: str = ""
    """Where this node's name server listens; made an address of the host's loopback. A link-local one, such as
    169.254.20.10: the same on every node. Empty: no name server."""

    max_pods: int = 110
    capacity: Mapping[str, str] = field(default_factory=dict)
    """Overrides what was measured: {"cpu": "8", "memory": "32Gi"}."""

    reserved: Mapping[str, str] = field(default_factory=lambda: {"memory": "100Mi"})
    """Kept from pods: capacity less this is allocatable. Default: the memory threshold of eviction."""

    lease_duration_s: int = 40
    lease_renew_s: float = 10.0
    status_report_s: float = 300.0
    """How often an unchanged Node status is written."""

    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5

    token_file: str = ""
    """File that holds the bootstrap token, instead of the token itself."""

    @property
    def local_volumes_dir(self) -> str:
        """Below it lie the volumes that are made on this node."""
        return os.path.join(os.path.abspath(self.state_dir), "local-volumes")

    @property
    def hollow(self) -> bool:
        return self.runtime == "hollow"

    def check(self) -> None:
        """Raises ValueError that says what is wrong and what to do."""
        if self.runtime not in ("containerd", "hollow"):
            raise ValueError(f"runtime {self.runtime!r} is unknown: use containerd or hollow")
        if self.runtime == "containerd" and self.hollow_count != 1:
            raise ValueError("several nodes in one process are hollow nodes: set runtime to hollow")
        if not self.node_name:
            raise ValueError("a node needs a name")
        if not self.kubeconfig and not self.api_server:
            raise ValueError("either a kubeconfig or the API server's URL is needed")
        if self.hollow_count > 1 and not self.kubeconfig:
            raise ValueError(
                "several hollow nodes share one connection, and a node's own certificate may write one node only: "
                "give a kubeconfig (the cluster's admin.kubeconfig)"
            )
        if self.hollow_count < 1 or self.hollow_count > 5_000:
            raise ValueError(f"hollow_count {self.hollow_count} is not between 1 and 5000")
        if self.service_cidr and not self.pod_cidr and not self.hollow:
            raise ValueError(
                "the service proxy must know which addresses are this node's pods: set the pod range as well, "
                "or no service range"
            )
        if self.clusterset_cidr and not (self.service_cidr and self.cluster_name):
            raise ValueError(
                "Services over clusters need the service proxy and the cluster's name: set the service range and the "
                "cluster as well, or no clusterset range"
            )
        if len(self.cni_bridge) > 15:
            raise ValueError(f"bridge name {self.cni_bridge!r} is longer than 15 letters")

    def pod_resolvers(self) -> tuple[str, ...]:
        """Name servers of pods with dnsPolicy ClusterFirst."""
        if self.cluster_dns or not self.dns_address:
            return self.cluster_dns
        return (self.dns_address,)

    def place_env(self, node_name: str) -> dict[str, str]:
        """Told to every container, before what its pod sets: where it runs. Nothing outside a fleet."""
        if not self.cluster_name:
            return {}
        return {
            "UBERNETES_NODE": node_name,
            "UBERNETES_CLUSTER": self.cluster_name,
            "UBERNETES_ZONE": self.zone,
        }

    def node_names(self) -> list[str]:
        """The names of all nodes of this process."""
        if not self.hollow or self.hollow_count == 1:
            return [self.node_name]
        return [f"{self.node_name}-{i}" for i in range(1, self.hollow_count + 1)]
