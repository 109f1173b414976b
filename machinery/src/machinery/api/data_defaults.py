"""What the server fills in for storage, classes of Ingresses and the data kinds of core and apps, as a 1.36 server does.

Path-copy, as in `defaults`. `create_` functions are what a new object begins with.
"""

from typing import Any, Final

from machinery.api import template_defaults
from machinery.meta.resource import Document

_DRIVER: Final[tuple[tuple[str, Any], ...]] = (
    ("attachRequired", True), ("podInfoOnMount", False), ("storageCapacity", False),
    ("fsGroupPolicy", "ReadWriteOnceWithFSType"), ("requiresRepublish", False),
    ("seLinuxMount", False),
)  # fmt: skip


def _filled(document: Document, values: tuple[tuple[str, Any], ...]) -> Document:
    """With values for what is absent or null."""
    missing = {key: value for key, value in values if document.get(key) is None}
    return {**document, **missing} if missing else document


def storage_class(document: Document) -> Document:
    return _filled(document, (("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")))


def csi_driver(document: Document) -> Document:
    spec = _filled(document.get("spec") or {}, _DRIVER)
    if not spec.get("volumeLifecycleModes"):
        spec = {**spec, "volumeLifecycleModes": ["Persistent"]}
    return {**document, "spec": spec}


_COUNTED: Final = (
    "tokenRequests", "requiresRepublish", "seLinuxMount", "nodeAllocatableUpdatePeriodSeconds",
)  # fmt: skip


def driver_changed(new: Document, old: Document) -> bool:
    """Whether the generation counts the change; a new CSIDriver has none yet."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return any(after.get(key) != before.get(key) for key in _COUNTED)


def volume_attachment(document: Document) -> Document:
    return {**document, "status": {"attached": False, **(document.get("status") or {})}}


def ingress_class(document: Document) -> Document:
    spec = document.get("spec") or {}
    parameters = spec.get("parameters")
    if parameters is not None:
        spec = {**spec, "parameters": _filled(parameters, (("scope", "Cluster"),))}
    return {**document, "spec": spec}


def pod_template(document: Document) -> Document:
    return template_defaults.pod_template(document)


def volume(document: Document) -> Document:
    spec = dict(document.get("spec") or {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    path = spec.get("hostPath")
    if path is not None and path.get("type") is None:
        spec["hostPath"] = {**path, "type": ""}
    status = document.get("status") or {}
    return {**document, "spec": spec, "status": {"phase": "Pending", **status}}


# --------------------------------------------------------------------------------------------------------------- create
def create_volume(document: Document) -> Document:
    return {**document, "status": {"phase": "Pending"}}


def create_volume_attachment(document: Document) -> Document:
    return {**document, "status": {"attached": False}}
