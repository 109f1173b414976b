"""The volumes of a pod: made before its sandbox, kept up to date while it runs, cleared away afterwards.

configMap, secret, projected and downwardAPI are folders written atomically and updated when their objects change;
emptyDir is a folder, or a tmpfs with `medium: Memory`; hostPath is the host's own. Secrets and tokens lie on the
node's disk in folders that only root can enter (they have to outlive a reboot without the API). What this kubelet
cannot do (csi, nfs …) is refused by name. A claim's volume lies where `claims` finds it; it is no part of the pod's folder.
"""

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.resources import whole
from cluster_agent.node.objects import NotSynced, Objects
from cluster_agent.node.volumes import atomic, claims, downward
from cluster_agent.node.volumes.atomic import BadPath, Entry
from cluster_agent.node.volumes.claims import ClaimFault, Claims
from cluster_agent.node.volumes.tokens import Tokens, TokenUnavailable, decode_secret
from machinery.api.core import ConfigMap, Pod, Secret
from machinery.api.pod_volumes import (
    DownwardAPIFile,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    KeyToPath,
    ProjectedVolumeSource,
    Volume,
)
from machinery.kit.clock import Clock

log = logging.getLogger(__name__)


class VolumeFault(Exception):
    """A volume cannot be set up; the text is for people."""


def entries_of_map(
    data: Mapping[str, bytes], items: Iterable[KeyToPath], mode: int, *, optional: bool, what: str
) -> dict[str, Entry]:
    """The files of a ConfigMap or Secret: all keys, or the items that were picked. Raises VolumeFault."""
    items = tuple(items)
    if not items:
        return {key: Entry(value, mode) for key, value in data.items()}
    entries: dict[str, Entry] = {}
    for item in items:
        if item.key in data:
            entries[item.path] = Entry(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeFault(f"{what} references non-existent config key: {item.key}")
    return entries


def data_of(found: ConfigMap | Secret) -> dict[str, bytes]:
    """Keys and their bytes."""
    if isinstance(found, Secret):
        return {key: decode_secret(value) for key, value in found.data.items()}
    plain = {key: value.encode() for key, value in found.data.items()}
    return plain | {key: decode_secret(value) for key, value in found.binary_data.items()}


class VolumeManager:
    """Volumes under `state_dir/pods/<uid>/volumes`."""

    def __init__(
        self,
        folder: str,
        objects: Objects,
        tokens: Tokens,
        clock: Clock,
        *,
        claims: Claims,
        node_name: str,
        host_ip: str,
        allocatable: Mapping[str, str],
    ) -> None:
        self._folder, self._objects, self._tokens = Path(folder), objects, tokens
        self._clock, self._node, self._host_ip = clock, node_name, host_ip
        self._claims = claims
        self._allocatable = allocatable

    def pod_dir(self, uid: str) -> Path:
        return self._folder / uid

    def path(self, pod: Pod, volume: Volume) -> str:
        """Where the volume lies on the host."""
        if volume.host_path is not None:
            return volume.host_path.path
        if volume.persistent_volume_claim is not None:
            found = claims.remembered(self._claim_store(pod, volume))
            if found is None:
                raise HookFault("FailedMount", f'volume "{volume.name}" is not mounted')
            return found.path
        return str(self.pod_dir(pod.metadata.uid) / "volumes" / volume.name)

    # ----------------------------------------------------------------------------------------------------- setting up
    async def set_up(self, pod: Pod) -> None:
        """All volumes. Raises HookFault."""
        for volume in pod.spec.volumes:
            await self._guarded(pod, volume, first=True)

    async def refresh(self, pod: Pod) -> None:
        """What may change while the pod runs. Raises HookFault."""
        for volume in pod.spec.volumes:
            await self._guarded(pod, volume, first=False)

    async def _guarded(self, pod: Pod, volume: Volume, *, first: bool) -> None:
        try:
            await self._one(pod, volume, first=first)
        except NotSynced as error:
            raise HookFault(
                "FailedMount",
                f'MountVolume.SetUp failed for volume "{volume.name}" : failed to sync {error} cache: '
                "timed out waiting for the condition",
            ) from error
        except (
            VolumeFault,
            ClaimFault,
            TokenUnavailable,
            BadPath,
            downward.BadField,
            OSError,
            ValueError,
        ) as error:
            raise HookFault(
                "FailedMount", f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
            ) from error

    async def _one(self, pod: Pod, volume: Volume, *, first: bool) -> None:
        if volume.host_path is not None:
            if first:
                prepare_host_path(volume.host_path)
        elif volume.persistent_volume_claim is not None:
            if first:
                await self._claim(pod, volume)
        elif volume.empty_dir is not None:
            if first:
                await self._empty_dir(pod, volume.name, volume.empty_dir)
        elif (
            volume.config_map is not None
            or volume.secret is not None
            or (volume.projected is not None or volume.downward_api is not None)
        ):
            entries = await self._entries(pod, volume)
            folder = Path(self.path(pod, volume))
            gid = pod.spec.security_context.fs_group
            atomic.write(folder, entries, self._clock.now(), gid)
        else:
            raise VolumeFault("volumes of this type are not supported by this kubelet")

    def _claim_store(self, pod: Pod, volume: Volume) -> Path:
        """What was found for the claim; beside the pod's volumes, so that it outlives a restart of its containers."""
        return self.pod_dir(pod.metadata.uid) / f"claim-{volume.name}.json"

    async def _claim(self, pod: Pod, volume: Volume) -> None:
        store = self._claim_store(pod, volume)
        store.parent.mkdir(parents=True, exist_ok=True)
        found = await self._claims.find(pod, volume, store)
        if found.type in ("own", "local"):
            await claims.prepare(found, pod.spec.security_context.fs_group)
        else:
            prepare_host_path(HostPathVolumeSource(path=found.path, type=found.type))

    async def _entries(self, pod: Pod, volume: Volume) -> dict[str, Entry]:
        namespace = pod.metadata.namespace
        if (config := volume.config_map) is not None:
            return self._map_entries(
                self._objects.config_map(namespace, config.name), config.items,
                config.default_mode, config.optional, "configmap", namespace, config.name,
            )  # fmt: skip
        if (secret := volume.secret) is not None:
            return self._map_entries(
                self._objects.secret(namespace, secret.secret_name), secret.items,
                secret.default_mode, secret.optional, "secret", namespace, secret.secret_name,
            )  # fmt: skip
        if (own := volume.downward_api) is not None:
            return self._downward(pod, own.items, own.default_mode)
        assert volume.projected is not None
        return await self._projected(pod, volume.name, volume.projected)

    def _map_entries(  # noqa: PLR0913 - one volume's fields, spelled out
        self,
        found: ConfigMap | Secret | None,
        items: Iterable[KeyToPath],
        mode: int,
        optional: bool,
        kind: str,
        namespace: str,
        name: str,
    ) -> dict[str, Entry]:
        if found is None:
            if optional:
                return {}
            raise VolumeFault(f'{kind} "{name}" not found')
        what = f"{kind} {namespace}/{name}"
        return entries_of_map(data_of(found), items, mode, optional=optional, what=what)

    def _downward(self, pod: Pod, items: Iterable[DownwardAPIFile], mode: int) -> dict[str, Entry]:
        entries = {}
        for item in items:
            if item.field_ref is not None:
                text = downward.field(
                    pod, item.field_ref, host_ip=self._host_ip, node_name=self._node, pod_ips=()
                )
            elif item.resource_field_ref is not None:
                text = downward.resource(pod, None, item.resource_field_ref, self._allocatable)
            else:
                raise VolumeFault(f"downward API file {item.path} has no source")
            entries[item.path] = Entry(text.encode(), mode if item.mode is None else item.mode)
        return entries

    async def _projected(
        self, pod: Pod, name: str, wanted: ProjectedVolumeSource
    ) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        namespace, mode = pod.metadata.namespace, wanted.default_mode
        for number, source in enumerate(wanted.sources):
            if (config := source.config_map) is not None:
                found = self._objects.config_map(namespace, config.name)
                entries |= self._map_entries(
                    found, config.items, mode, config.optional, "configmap", namespace, config.name
                )
            elif (secret := source.secret) is not None:
                known = self._objects.secret(namespace, secret.name)
                entries |= self._map_entries(
                    known, secret.items, mode, secret.optional, "secret", namespace, secret.name
                )
            elif (own := source.downward_api) is not None:
                entries |= self._downward(pod, own.items, mode)
            elif (token := source.service_account_token) is not None:
                store = self.pod_dir(pod.metadata.uid) / f"token-{name}-{number}.json"
                text = await self._tokens.get(pod, token, store)
                entries[token.path] = Entry(text.encode(), _token_mode(pod, mode))
            else:
                raise VolumeFault("projected source is not supported by this kubelet")
        return entries

    async def _empty_dir(self, pod: Pod, name: str, wanted: EmptyDirVolumeSource) -> None:
        folder = self.pod_dir(pod.metadata.uid) / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        if wanted.medium not in ("", "Memory"):
            raise VolumeFault(f'medium "{wanted.medium}" is not supported by this kubelet')
        if wanted.medium == "Memory" and not os.path.ismount(folder):
            options = ["mode=1777"]
            if wanted.size_limit is not None:
                options.append(f"size={whole(wanted.size_limit)}")
            await command("mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder))
        group = pod.spec.security_context.fs_group
        if group is not None:
            os.chown(folder, -1, group)
        folder.chmod(0o777 if group is None else 0o2777)

    # -------------------------------------------------------------------------------------------------- clearing away
    async def tear_down(self, pod: Pod) -> None:
        """Unmount and remove the pod's volumes; hostPaths stay."""
        folder = self.pod_dir(pod.metadata.uid) / "volumes"
        if not folder.is_dir():
            return
        for volume in folder.iterdir():
            if os.path.ismount(volume):
                await command("umount", "-l", str(volume))
        shutil.rmtree(folder, ignore_errors=True)

    def forget(self, uid: str) -> None:
        """Remove everything of the pod, tokens included."""
        shutil.rmtree(self.pod_dir(uid), ignore_errors=True)


def _token_mode(pod: Pod, mode: int) -> int:
    """A pod that runs as one user alone gets its token readable by that user (upstream: 0600)."""
    return mode if pod.spec.security_context.fs_group is None else 0o640


def prepare_host_path(wanted: HostPathVolumeSource) -> None:
    """Check the type, or make what `…OrCreate` asks for. Raises VolumeFault."""
    path, kind = wanted.path, wanted.type
    if kind == "DirectoryOrCreate":
        os.makedirs(path, mode=0o755, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    checks = {
        "Directory": stat.S_ISDIR,
        "DirectoryOrCreate": stat.S_ISDIR,
        "File": stat.S_ISREG,
        "FileOrCreate": stat.S_ISREG,
        "Socket": stat.S_ISSOCK,
        "CharDevice": stat.S_ISCHR,
        "BlockDevice": stat.S_ISBLK,
    }
    check = checks.get(kind)
    if check is None:
        if kind:
            raise VolumeFault(f"hostPath type check failed: {kind} is unknown")
        return
    if not os.path.exists(path) or not check(os.stat(path).st_mode):
        named = kind.removesuffix("OrCreate").lower()
        raise VolumeFault(f"hostPath type check failed: {path} is not a {named}")


async def command(*words: str) -> None:
    """Run a program of the host; VolumeFault with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise VolumeFault(f"{words[0]}: {errors.decode(errors='replace').strip()}")
