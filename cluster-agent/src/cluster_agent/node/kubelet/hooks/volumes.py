"""Volumes made and mounted; sub-paths resolved so that no link leads out of a volume."""

import os
import stat
from dataclasses import replace
from pathlib import Path

from cluster_agent.node.cri.interface import ContainerConfig, Mount
from cluster_agent.node.kubelet.environment import CONFIG_ERROR, expand
from cluster_agent.node.kubelet.hooks import Hook, HookFault
from cluster_agent.node.objects import Objects, references
from cluster_agent.node.volumes.manager import VolumeManager
from machinery.api.core import Container, Pod, VolumeMount
from machinery.api.pod_volumes import Volume


class Volumes(Hook):
    """Also waits for the objects that volumes and environment refer to."""

    def __init__(self, manager: VolumeManager, objects: Objects) -> None:
        self._manager, self._objects = manager, objects

    async def prepare(self, pod: Pod) -> None:
        await self._objects.wait(references(pod))
        await self._manager.set_up(pod)

    async def update(self, pod: Pod) -> None:
        await self._manager.refresh(pod)

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        mounts = []
        for wanted in container.volume_mounts:
            volume = volumes.get(wanted.name)
            if volume is None:
                raise HookFault(CONFIG_ERROR, f'volume "{wanted.name}" not found')
            path = self._source(pod, volume, wanted, dict(config.env))
            mounts.append(Mount(path, wanted.mount_path, wanted.read_only or _read_only(volume)))
        return replace(config, mounts=(*config.mounts, *mounts))

    def _source(self, pod: Pod, volume: Volume, wanted: VolumeMount, env: dict[str, str]) -> str:
        base = self._manager.path(pod, volume)
        sub = expand(wanted.sub_path_expr, env) if wanted.sub_path_expr else wanted.sub_path
        return base if not sub else sub_path(base, sub)

    async def release(self, pod: Pod, *, forget: bool) -> None:
        await self._manager.tear_down(pod)
        if forget:
            self._manager.forget(pod.metadata.uid)


def _read_only(volume: Volume) -> bool:
    """What we write ourselves is not for pods to write, nor is a claim that is mounted for reading."""
    claim = volume.persistent_volume_claim
    return (claim is not None and claim.read_only) or any(
        (volume.config_map, volume.secret, volume.projected, volume.downward_api)
    )


def sub_path(base: str, sub: str) -> str:
    """The real path of a sub-path; made as a folder if it is not there. Raises HookFault if it leads outside."""
    root = os.path.realpath(base)
    real = os.path.realpath(os.path.join(root, sub))
    if sub.startswith("/") or (real != root and not real.startswith(root + "/")):
        raise HookFault(CONFIG_ERROR, f'subPath "{sub}" leads out of its volume')
    if not os.path.exists(real):
        Path(real).mkdir(parents=True, mode=0o755)
        os.chmod(
            real, 0o777 | (os.stat(root).st_mode & stat.S_ISGID)
        )  # an fsGroup is for all below
    return real
