"""What a pod's claim comes to on this node: a path of the host. Asked of the API once, then remembered beside the pod.

A bound claim never gets another volume, so what was found holds for the pod's life, also without an API. Volumes are of type
`local` or `hostPath`; the others are refused by their names. The folder of a volume that the cluster makes itself is made here,
below the node's own folder and nowhere else.
"""

import asyncio
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from cluster_agent.node.kubelet.checkpoint import write_private
from machinery.api.core import Pod
from machinery.api.local_volumes import is_ours, is_within, node_of
from machinery.api.pod_volumes import Volume
from machinery.client.interface import Client, dynamic
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey

CLAIMS = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
VOLUMES = dynamic("", "v1", "persistentvolumes", "PersistentVolume", False)
_HOSTNAME: Final = "kubernetes.io/hostname"
_SIDE: Final = frozenset(
    {"capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName"}
    | {"mountOptions", "volumeMode", "nodeAffinity", "volumeAttributesClassName"}
)
"""Fields of a volume's spec that are no source."""


class ClaimFault(Exception):
    """A claim cannot be mounted; the text is for people."""


class Mounted(msgspec.Struct, frozen=True):
    """A volume as this host has it."""

    path: str
    type: str = ""
    """As of a hostPath; `own` for a folder that is made here, `local` for one that has to be there."""


def judge(claim: Document, volume: Document, node: str, folder: str) -> Mounted:
    """Where the claim's volume lies. Pure. Raises ClaimFault.

    `node`: our name, which is our hostname label as well. `folder`: below it lie the volumes that we make.
    """
    name = volume["metadata"]["name"]
    reference = volume["spec"].get("claimRef") or {}
    if reference.get("uid") != claim["metadata"]["uid"]:
        raise ClaimFault(f'volume "{name}" is not bound to the claim')
    spec = volume["spec"]
    if spec.get("volumeMode") == "Block":
        raise ClaimFault(f'volume "{name}": volumeMode Block is not supported by this kubelet')
    if _is_elsewhere(spec, node):
        raise ClaimFault(
            f'MountVolume.NodeAffinity check failed for volume "{name}" : no matching NodeSelectorTerms'
        )
    if (host := spec.get("hostPath")) is not None:
        return Mounted(host["path"], host.get("type") or "")
    if (local := spec.get("local")) is None:
        sources = ", ".join(sorted(key for key in spec if key not in _SIDE)) or "no source"
        raise ClaimFault(f'volume "{name}": {sources} is not supported by this kubelet')
    if not is_ours(volume):
        return Mounted(local["path"], "local")
    if node_of(volume) != node or not is_within(volume, folder):
        raise ClaimFault(f'volume "{name}" was not made by this node')
    return Mounted(local["path"], "own")


def _is_elsewhere(spec: Document, node: str) -> bool:
    """Whether every term names other hosts. What terms ask of other labels, the scheduler has seen to."""
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    return bool(terms) and all(_excludes(term, node) for term in terms)


def _excludes(term: Document, node: str) -> bool:
    named: Iterable[Document] = [
        *(one for one in term.get("matchExpressions") or () if one["key"] == _HOSTNAME),
        *(term.get("matchFields") or ()),
    ]
    return any(one["operator"] == "In" and node not in one["values"] for one in named)


class Claims:
    """The claims of this node's pods."""

    def __init__(self, client: Client, node: str, folder: str) -> None:
        self._client, self._node, self.folder = client, node, folder

    async def find(self, pod: Pod, volume: Volume, store: Path) -> Mounted:
        """Where the claim's volume lies; remembered in `store`. Raises ClaimFault."""
        known = remembered(store)
        if known is not None:
            return known
        assert volume.persistent_volume_claim is not None
        namespace, name = pod.metadata.namespace, volume.persistent_volume_claim.claim_name
        claim = await self._get("PVC", ObjectKey(namespace, name))
        bound_to = claim["spec"].get("volumeName")
        if not bound_to or (claim.get("status") or {}).get("phase") != "Bound":
            raise ClaimFault(f"error processing PVC {namespace}/{name}: PVC is not bound")
        found = await self._get("PV", ObjectKey("", bound_to))
        mounted = judge(claim, found, self._node, self.folder)
        write_private(store, msgspec.json.encode(mounted))
        return mounted

    async def _get(self, kind: str, key: ObjectKey) -> Document:
        try:
            return await self._client.get(CLAIMS if kind == "PVC" else VOLUMES, key)
        except (StatusError, ConnectionError, TimeoutError) as error:
            raise ClaimFault(f"failed to fetch {kind} from API server: {error}") from error


def remembered(store: Path) -> Mounted | None:
    """What was found for a pod's claim."""
    try:
        return msgspec.json.decode(store.read_bytes(), type=Mounted)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def prepare(mounted: Mounted, group: int | None) -> None:
    """Have the folder there, and the pod's fsGroup in it. Raises ClaimFault, OSError."""
    if mounted.type == "own":
        make_folder(mounted.path)
    elif not os.path.exists(mounted.path):
        raise ClaimFault(f'path "{mounted.path}" does not exist')
    elif not os.path.isdir(mounted.path):
        raise ClaimFault(
            f'path "{mounted.path}" is not a directory: this kubelet mounts no devices'
        )
    if group is not None and os.stat(mounted.path).st_gid != group:
        await asyncio.to_thread(give_to_group, mounted.path, group)


def make_folder(path: str) -> None:
    """Anybody's, as an emptyDir is: pods run as all sorts of users."""
    try:
        os.makedirs(path)
    except FileExistsError:
        return
    os.chmod(path, 0o777)


def give_to_group(path: str, group: int) -> None:
    """Everything below to the group, which may do what the owner may; links are left alone."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            _give(os.path.join(folder, name), group, 0o060)
        _give(folder, group, 0o070 | stat.S_ISGID)


def _give(path: str, group: int, bits: int) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    os.chown(path, -1, group, follow_symlinks=False)
    os.chmod(path, stat.S_IMODE(mode) | bits)
