"""Environment variables, and `$(NAME)` in command and arguments.

Every container also learns where it runs: UBERNETES_NODE, UBERNETES_CLUSTER and UBERNETES_ZONE, unless the pod itself
says something else under these names.
"""

from collections.abc import Mapping
from dataclasses import replace

from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.interface import ContainerConfig
from cluster_agent.node.kubelet.environment import Source, environment, expand_all
from cluster_agent.node.kubelet.hooks import Hook
from machinery.api.core import Container, Pod


class Environment(Hook):
    """Before `Volumes`: sub-paths may refer to variables."""

    def __init__(self, config: NodeConfig, source: Source, allocatable: Mapping[str, str]) -> None:
        self._config, self._source, self._allocatable = config, source, allocatable
        place = {
            "UBERNETES_NODE": config.node_name,
            "UBERNETES_CLUSTER": config.cluster_name,
            "UBERNETES_ZONE": config.zone,
        }
        self._place = {name: value for name, value in place.items() if value}

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        values = environment(
            pod,
            container,
            self._source,
            host_ip=self._config.node_ip,
            node_name=self._config.node_name,
            pod_ips=config.pod_ips,
            allocatable=self._allocatable,
        )
        return replace(
            config,
            env=self._place | values,
            command=expand_all(config.command, values),
            args=expand_all(config.args, values),
        )
