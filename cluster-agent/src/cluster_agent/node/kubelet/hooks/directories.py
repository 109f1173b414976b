"""The pod's folder on this machine, and where its logs go: `<logs>/<namespace>_<name>_<uid>/<container>/<n>.log`."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from cluster_agent.node.cri.interface import ContainerConfig, SandboxConfig
from cluster_agent.node.kubelet.hooks import Hook
from machinery.api.core import Container, Pod


def log_dir(root: str, pod: Pod) -> Path:
    meta = pod.metadata
    return Path(root) / f"{meta.namespace}_{meta.name}_{meta.uid}"


class Directories(Hook):
    """First to come, last to go."""

    def __init__(self, pods_dir: str, logs_dir: str) -> None:
        self._pods, self._logs = Path(pods_dir), logs_dir

    async def prepare(self, pod: Pod) -> None:
        folder = self._pods / pod.metadata.uid
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        log_dir(self._logs, pod).mkdir(parents=True, exist_ok=True, mode=0o755)

    def sandbox(self, pod: Pod, config: SandboxConfig) -> SandboxConfig:
        return replace(config, log_directory=str(log_dir(self._logs, pod)))

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        os.makedirs(log_dir(self._logs, pod) / container.name, mode=0o755, exist_ok=True)
        return replace(config, log_path=f"{container.name}/{config.attempt}.log")

    async def release(self, pod: Pod, *, forget: bool) -> None:
        if forget:
            shutil.rmtree(self._pods / pod.metadata.uid, ignore_errors=True)
            shutil.rmtree(log_dir(self._logs, pod), ignore_errors=True)
