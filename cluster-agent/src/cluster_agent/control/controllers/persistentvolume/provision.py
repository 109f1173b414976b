"""Volumes that the member makes itself: a folder on the node that the claim's first pod was given. Pure.

The control plane makes the PersistentVolume, the node the folder when it first mounts it, and takes it away again. In between
stands a finalizer, so that a volume is gone only when its folder is.
"""

import posixpath
from dataclasses import dataclass
from typing import Final

from cluster_agent.control.controllers.persistentvolume.binding import tell
from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES
from machinery.api.local_volumes import (
    FOLDER_FINALIZER,
    LOCAL_FOLDER,
    LOCAL_PROVISIONER,
    PROVISIONED_BY,
    SELECTED_NODE,
    notes_of,
    without_finalizer,
)
from machinery.controller.action import Action, Create, Patch
from machinery.meta.resource import Document, document_key

HOSTNAME: Final = "kubernetes.io/hostname"
STORAGE_PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
OLD_STORAGE_PROVISIONER: Final = "volume.beta.kubernetes.io/storage-provisioner"
DEFAULT_CLASS: Final = "local-path"


def default_class() -> Document:
    """The StorageClass that every member begins with."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": DEFAULT_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": LOCAL_PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


@dataclass(frozen=True, slots=True)
class Place:
    """The node that was chosen for a claim: what of it a volume needs."""

    name: str
    hostname: str
    folder: str
    """Below it lie the node's local volumes; empty if it makes none."""


def place_of(name: str, node: Document | None) -> Place:
    """Of a Node, or of a name without one."""
    if node is None:
        return Place(name, "", "")
    labels = node["metadata"].get("labels") or {}
    return Place(name, labels.get(HOSTNAME, ""), notes_of(node).get(LOCAL_FOLDER, ""))


def provision(claim: Document, class_: Document, place: Place | None) -> list[Action]:
    """A volume for a claim that none suits, or the reason why there will be none."""
    provisioner = class_["provisioner"]
    if provisioner.startswith("kubernetes.io/"):
        return _failed(claim, f"no volume plugin matched name: {provisioner}")
    marks = {STORAGE_PROVISIONER: provisioner, OLD_STORAGE_PROVISIONER: provisioner}
    marked = _annotate(claim, marks)
    if provisioner != LOCAL_PROVISIONER:
        return [*marked, tell(CLAIMS, claim, "Normal", "ExternalProvisioning", _waits(provisioner))]
    fault = _fault(claim, place)
    if fault or place is None:
        # the scheduler chooses again once its choice is taken back
        back = _annotate(claim, {SELECTED_NODE: None}) if place is not None else []
        return [*_failed(claim, fault), *back]
    volume = local_volume(claim, class_, place)
    name = volume["metadata"]["name"]
    told = f"Successfully provisioned volume {name} using {LOCAL_PROVISIONER}"
    return [
        *marked,
        Create(VOLUMES, volume, exists_ok=True),
        tell(CLAIMS, claim, "Normal", "ProvisioningSucceeded", told),
    ]


def _fault(claim: Document, place: Place | None) -> str:
    """Why no folder can be made."""
    if claim["spec"].get("volumeMode") == "Block":
        return f"{LOCAL_PROVISIONER} makes folders: volumeMode Block is not supported"
    if claim["spec"].get("selector"):
        return "claim Selector is not supported"
    if claim["spec"].get("dataSource") or claim["spec"].get("dataSourceRef"):
        return f"{LOCAL_PROVISIONER} makes empty volumes: data sources are not supported"
    if place is None:
        return (
            f"{LOCAL_PROVISIONER} makes volumes where their first pod runs: "
            "its StorageClass needs volumeBindingMode WaitForFirstConsumer"
        )
    if not place.hostname:
        return f'node "{place.name}" not found'
    if not place.folder:
        return f'node "{place.name}" makes no local volumes'
    return ""


def local_volume(claim: Document, class_: Document, place: Place) -> Document:
    """The PersistentVolume, meant for the claim from its beginning."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    on_node = {"key": HOSTNAME, "operator": "In", "values": [place.hostname]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: LOCAL_PROVISIONER, SELECTED_NODE: place.name},
            "finalizers": [FOLDER_FINALIZER],
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": class_.get("reclaimPolicy") or "Delete",
            "storageClassName": class_["metadata"]["name"],
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "local": {"path": posixpath.join(place.folder, name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def let_go(volume: Document) -> list[Action]:
    """A deleted volume whose node is no more: nobody is left who could take its folder away."""
    if FOLDER_FINALIZER not in (volume["metadata"].get("finalizers") or ()):
        return []
    patch = {"metadata": {"finalizers": without_finalizer(volume)}}
    version = volume["metadata"]["resourceVersion"]
    return [Patch(VOLUMES, document_key(volume), patch, resource_version=version)]


def _annotate(claim: Document, wanted: Document) -> list[Action]:
    held = notes_of(claim)
    if all(held.get(name) == value for name, value in wanted.items()):
        return []
    return [Patch(CLAIMS, document_key(claim), {"metadata": {"annotations": wanted}})]


def _failed(claim: Document, message: str) -> list[Action]:
    return [tell(CLAIMS, claim, "Warning", "ProvisioningFailed", message)]


def _waits(provisioner: str) -> str:
    return (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system "
        "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    )
