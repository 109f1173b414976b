"""Names and addresses inside the pod: hostname, /etc/hosts, resolv.conf, host ports.

/etc/hosts is ours, one file per pod mounted into every container: containerd would copy the host's. It is written anew
for each container start, because the pod's address is known only after its sandbox came up.
"""

import logging
from dataclasses import replace
from pathlib import Path

from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.interface import ContainerConfig, Dns, Mount, PortMapping, SandboxConfig
from cluster_agent.node.kubelet.hooks import Hook
from machinery.api.core import Container, Pod

log = logging.getLogger(__name__)

HOSTNAME_MAX = 63
SEARCHES_MAX, SERVERS_MAX = 32, 3


def hostname_of(pod: Pod) -> str:
    """spec.hostname or the pod's name, cut to what Linux takes."""
    name = pod.spec.hostname or pod.metadata.name
    return name[:HOSTNAME_MAX].rstrip("-.")


def domain_of(pod: Pod, cluster_domain: str) -> str:
    """`sub.ns.svc.cluster.local` when the pod has a subdomain."""
    if not pod.spec.subdomain:
        return ""
    return f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"


def hosts_file(pod: Pod, ips: tuple[str, ...], cluster_domain: str) -> str:
    """The pod's /etc/hosts, in upstream's form."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    host, domain = hostname_of(pod), domain_of(pod, cluster_domain)
    for ip in ips:
        lines.append(f"{ip}\t{host}.{domain}\t{host}" if domain else f"{ip}\t{host}")
    return "\n".join(lines) + "\n" + _aliases(pod)


def _aliases(pod: Pod) -> str:
    if not pod.spec.host_aliases:
        return ""
    rows = [f"{alias.ip}\t" + "\t".join(alias.hostnames) for alias in pod.spec.host_aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(rows) + "\n"


def host_resolver(text: str) -> Dns:
    """What the host's resolv.conf says."""
    servers, searches, options = [], [], []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return Dns(tuple(servers[:SERVERS_MAX]), tuple(searches), tuple(options))


def dns_of(pod: Pod, host: Dns, cluster_dns: tuple[str, ...], cluster_domain: str) -> Dns:
    """The pod's resolver settings, by its policy. Pure."""
    policy = pod.spec.dns_policy
    if policy == "ClusterFirst" and pod.spec.host_network:
        policy = "Default"
    if policy == "None":
        base = Dns()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        namespace = pod.metadata.namespace
        own = (f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
        base = Dns(cluster_dns, (*own, *host.searches), ("ndots:5",))
    else:
        base = host
    extra = pod.spec.dns_config
    if extra is None:
        return base
    options = {option.split(":")[0]: option for option in base.options}
    for option in extra.options:
        value = f":{option.value}" if option.value is not None else ""
        options[option.name] = option.name + value
    return Dns(
        tuple(dict.fromkeys([*base.servers, *extra.nameservers]))[:SERVERS_MAX],
        tuple(dict.fromkeys([*base.searches, *extra.searches]))[:SEARCHES_MAX],
        tuple(options.values()),
    )


class Network(Hook):
    """hostname, hosts, DNS and host ports."""

    def __init__(
        self, config: NodeConfig, pods_dir: str, resolv_conf: str = "/etc/resolv.conf"
    ) -> None:
        self._config, self._pods, self._resolv_conf = config, Path(pods_dir), resolv_conf

    def sandbox(self, pod: Pod, config: SandboxConfig) -> SandboxConfig:
        try:
            text = Path(self._resolv_conf).read_text()
        except OSError:
            text = ""
        dns = dns_of(
            pod, host_resolver(text), self._config.pod_resolvers(), self._config.cluster_domain
        )
        ports = tuple(
            PortMapping(port.container_port, port.host_port, port.protocol, port.host_ip)
            for container in (*pod.spec.init_containers, *pod.spec.containers)
            for port in container.ports
            if port.host_port
        )
        return replace(
            config,
            hostname="" if pod.spec.host_network else hostname_of(pod),
            dns=dns,
            ports=() if pod.spec.host_network else ports,
        )

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        if any(m.mount_path == "/etc/hosts" for m in container.volume_mounts):
            return config
        path = self._pods / pod.metadata.uid / "etc-hosts"
        if pod.spec.host_network:
            content = Path("/etc/hosts").read_text() + _aliases(pod)
        else:
            content = hosts_file(pod, config.pod_ips, self._config.cluster_domain)
        path.write_text(content)
        path.chmod(0o644)
        return replace(config, mounts=(*config.mounts, Mount(str(path), "/etc/hosts")))
