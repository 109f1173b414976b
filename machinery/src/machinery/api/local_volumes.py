"""Volumes that are folders of a node: what the control plane, the node and the API server agree on.

The control plane makes the PersistentVolume, with the node's name in an annotation and a finalizer. The node makes the folder
when it first mounts it; when the volume is deleted it takes the folder away (if the policy is Delete) and then the finalizer.
"""

import posixpath
from collections.abc import Mapping
from typing import Final

from machinery.meta.resource import Document

LOCAL_PROVISIONER: Final = "ubernetes.io/local-path"
"""The provisioner in a StorageClass, and in `pv.kubernetes.io/provisioned-by`."""
LOCAL_FOLDER: Final = "ubernetes.io/local-volumes"
"""Annotation of a Node: the folder below which its local volumes lie. Nodes without it make none."""
FOLDER_FINALIZER: Final = "ubernetes.io/local-volume"
"""The node has still to take the folder away, or to say that it stays."""
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
"""On a claim: the node that its first pod was given. On a volume of ours: whose folder it is."""
PROTECTION: Final = "kubernetes.io/pv-protection"


def notes_of(document: Document) -> Mapping[str, str]:
    """The annotations."""
    found: Mapping[str, str] = (document.get("metadata") or {}).get("annotations") or {}
    return found


def is_ours(volume: Document) -> bool:
    """Whether a node of the cluster made it of a folder."""
    return notes_of(volume).get(PROVISIONED_BY) == LOCAL_PROVISIONER


def node_of(volume: Document) -> str:
    """The node whose folder it is; empty: none of ours."""
    return notes_of(volume).get(SELECTED_NODE, "") if is_ours(volume) else ""


def path_of(volume: Document) -> str:
    """Where a volume of type `local` lies."""
    return str((volume["spec"].get("local") or {}).get("path", ""))


def is_within(volume: Document, folder: str) -> bool:
    """Whether a volume of ours lies where the node with this folder would have made it."""
    return path_of(volume) == posixpath.join(folder, volume["metadata"]["name"])


def waits_for_node(volume: Document) -> bool:
    """Whether it is deleted, used by nobody, and its node has to do its part."""
    metadata = volume["metadata"]
    held = metadata.get("finalizers") or ()
    bound = (volume.get("status") or {}).get("phase") == "Bound"
    deleted = bool(metadata.get("deletionTimestamp"))
    return deleted and FOLDER_FINALIZER in held and PROTECTION not in held and not bound


def without_finalizer(volume: Document) -> list[str]:
    """The finalizers that stay when the node has done its part."""
    held = volume["metadata"].get("finalizers") or ()
    return [one for one in held if one != FOLDER_FINALIZER]
