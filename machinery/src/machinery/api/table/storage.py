"""The row printers of storage, IngressClasses, quotas and the data kinds of core and apps."""

import datetime as dt
from typing import Any, Final

from machinery.api.table.cells import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Printer,
    TableColumn,
    access_modes,
    age_of,
    joined,
    name_of,
)
from machinery.meta.resource import Document

_CORE: Final = "=io.k8s.api.core.v1."
_STORAGE: Final = "=io.k8s.api.storage.v1."


def _spec(document: Document) -> Document:
    return document.get("spec") or {}


def _storage_class(document: Document, now: dt.datetime) -> list[Any]:
    marks = (document.get("metadata") or {}).get("annotations") or {}
    default = marks.get("storageclass.kubernetes.io/is-default-class") == "true"
    old = marks.get("storageclass.beta.kubernetes.io/is-default-class") == "true"
    return [
        name_of(document) + (" (default)" if default or old else ""),
        document.get("provisioner", ""),
        document.get("reclaimPolicy") or "Delete",
        document.get("volumeBindingMode") or UNSET,
        bool(document.get("allowVolumeExpansion")),
        age_of(document, now),
    ]


def _attributes_class(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), document.get("driverName", ""), age_of(document, now)]


def _csi_driver(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    tokens = [one.get("audience", "") for one in spec.get("tokenRequests") or ()]
    return [
        name_of(document),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(tokens) if tokens else UNSET,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age_of(document, now),
    ]


def _csi_node(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), len(_spec(document).get("drivers") or ()), age_of(document, now)]


def _volume_attachment(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    return [
        name_of(document),
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName", ""),
        bool((document.get("status") or {}).get("attached")),
        age_of(document, now),
    ]


def _ingress_class(document: Document, now: dt.datetime) -> list[Any]:
    spec = _spec(document)
    found = spec.get("parameters")
    shown = NONE
    if found is not None:
        group = found.get("apiGroup")
        kind = found.get("kind", "")
        shown = f"{f'{kind}.{group}' if group else kind}/{found.get('name', '')}"
    return [name_of(document), spec.get("controller", ""), shown, age_of(document, now)]


def _pod_template(document: Document, _now: dt.datetime) -> list[Any]:
    template = document.get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or []
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        name_of(document),
        joined(containers, "name"),
        joined(containers, "image"),
        ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE,
    ]


def _controller_revision(document: Document, now: dt.datetime) -> list[Any]:
    owners = (document.get("metadata") or {}).get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    return [
        name_of(document),
        NONE if owner is None else _owner(owner),
        document.get("revision", 0),
        age_of(document, now),
    ]


def _owner(owner: Document) -> str:
    group = owner.get("apiVersion", "").rpartition("/")[0]
    kind = owner.get("kind", "").lower()
    return f"{f'{kind}.{group}' if group else kind}/{owner.get('name', '')}"


def _volume(document: Document, now: dt.datetime) -> list[Any]:
    spec, status = _spec(document), document.get("status") or {}
    claim = spec.get("claimRef")
    modes = spec.get("accessModes") or ()
    going = (document.get("metadata") or {}).get("deletionTimestamp")
    return [
        name_of(document),
        str((spec.get("capacity") or {}).get("storage", "")),
        access_modes(modes),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if going else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age_of(document, now),
        spec.get("volumeMode") or UNSET,
    ]


def _storage_printers() -> dict[tuple[str, str], Printer]:
    group, cls, driver = "storage.k8s.io", f"{_STORAGE}StorageClass", f"{_STORAGE}CSIDriverSpec"
    attached, claim = f"{_STORAGE}VolumeAttachment", f"{_CORE}PersistentVolume"
    return {
        (group, "StorageClass"): Printer(
            (
                NAME,
                TableColumn("Provisioner", f"{cls}/provisioner"),
                TableColumn("ReclaimPolicy", f"{cls}/reclaimPolicy"),
                TableColumn("VolumeBindingMode", f"{cls}/volumeBindingMode"),
                TableColumn("AllowVolumeExpansion", f"{cls}/allowVolumeExpansion"),
                AGE,
            ),
            _storage_class,
        ),
        (group, "VolumeAttributesClass"): Printer(
            (NAME, TableColumn("DriverName", "Name of the CSI driver This field is immutable."), AGE),
            _attributes_class,
        ),
        (group, "CSIDriver"): Printer(
            (
                NAME,
                TableColumn("AttachRequired", f"{driver}/attachRequired", type="boolean"),
                TableColumn("PodInfoOnMount", f"{driver}/podInfoOnMount", type="boolean"),
                TableColumn("StorageCapacity", f"{driver}/storageCapacity", type="boolean"),
                TableColumn("TokenRequests", f"{driver}/tokenRequests"),
                TableColumn("RequiresRepublish", f"{driver}/requiresRepublish", type="boolean"),
                TableColumn("Modes", f"{driver}/volumeLifecycleModes"),
                AGE,
            ),
            _csi_driver,
        ),
        (group, "CSINode"): Printer(
            (NAME, TableColumn("Drivers", "Drivers indicates the number of CSI drivers registered on the node", type="integer"), AGE),
            _csi_node,
        ),
        (group, "VolumeAttachment"): Printer(
            (
                NAME,
                TableColumn("Attacher", f"{attached}Spec/attacher", format="name"),
                TableColumn("PV", f"{attached}Source/persistentVolumeName"),
                TableColumn("Node", f"{attached}Spec/nodeName"),
                TableColumn("Attached", f"{attached}Status/attached", type="boolean"),
                AGE,
            ),
            _volume_attachment,
        ),
        ("", "PersistentVolume"): Printer(
            (
                NAME,
                TableColumn("Capacity", f"{claim}Spec/capacity"),
                TableColumn("Access Modes", f"{claim}Spec/accessModes"),
                TableColumn("Reclaim Policy", f"{claim}Spec/persistentVolumeReclaimPolicy"),
                TableColumn("Status", f"{claim}Status/phase"),
                TableColumn("Claim", f"{claim}Spec/claimRef"),
                TableColumn("StorageClass", "StorageClass of the pv"),
                TableColumn("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
                TableColumn("Reason", f"{claim}Status/reason"),
                AGE,
                TableColumn("VolumeMode", f"{claim}Spec/volumeMode", priority=1),
            ),
            _volume,
        ),
    }  # fmt: skip


def _quota(document: Document, now: dt.datetime) -> list[Any]:
    """Requests and counts in one cell, limits in the other: what is used of what there is."""
    status = document.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown: tuple[list[str], list[str]] = ([], [])
    for name in sorted(hard):
        cell = shown[name.startswith("limits.")]
        cell.append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [name_of(document), ", ".join(shown[0]), ", ".join(shown[1]), age_of(document, now)]


def _other_printers() -> dict[tuple[str, str], Printer]:
    return {
        ("networking.k8s.io", "IngressClass"): Printer(
            (
                NAME,
                TableColumn("Controller", "Controller that is responsible for handling this class"),
                TableColumn("Parameters", "A reference to a resource with additional parameters"),
                AGE,
            ),
            _ingress_class,
        ),
        ("", "ResourceQuota"): Printer(
            (
                NAME,
                TableColumn(
                    "Request",
                    "Request represents a minimum amount of cpu/memory that a container may consume.",
                ),
                TableColumn(
                    "Limit",
                    "Limits control the maximum amount of cpu/memory that a container may use independent of "
                    "contention on the node.",
                ),
                AGE,
            ),
            _quota,
        ),
        ("", "PodTemplate"): Printer(
            (
                NAME,
                TableColumn("Containers", "Names of each container in the template."),
                TableColumn("Images", "Images referenced by each container in the template."),
                TableColumn("Pod Labels", "The labels for the pod template."),
            ),
            _pod_template,
        ),
        ("apps", "ControllerRevision"): Printer(
            (
                NAME,
                TableColumn("Controller", "Controller of the object"),
                TableColumn("Revision", "=io.k8s.api.apps.v1.ControllerRevision/revision"),
                AGE,
            ),
            _controller_revision,
        ),
    }


PRINTERS: Final = {**_storage_printers(), **_other_printers()}
