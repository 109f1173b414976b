"""PersistentVolumes, and their specs where they stand inline in a VolumeAttachment."""

import posixpath
from typing import Final

from machinery.api.validation import internal, scheduling
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names, quantity
from machinery.meta.resource import Document

_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_POLICIES: Final = ("Delete", "Recycle", "Retain")
_VOLUME_MODES: Final = ("Block", "Filesystem")
SOURCES: Final = (
    "gcePersistentDisk", "awsElasticBlockStore", "hostPath", "glusterfs", "nfs", "rbd", "iscsi",
    "cinder", "cephfs", "fc", "flocker", "flexVolume", "azureFile", "vsphereVolume", "quobyte",
    "azureDisk", "photonPersistentDisk", "portworxVolume", "scaleIO", "local", "storageos", "csi",
)  # fmt: skip
_SPEC: Final = "io.k8s.api.core.v1.PersistentVolumeSpec"
_FIXED: Final = "spec.persistentvolumesource is immutable after creation"


def persistent_volume(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    _access(spec, "spec", causes)
    _capacity(spec, causes)
    policy = spec.get("persistentVolumeReclaimPolicy", "")
    if policy:
        causes.one_of("spec.persistentVolumeReclaimPolicy", policy, _POLICIES)
    _affinity(spec, causes)
    _source(spec, "spec", causes)
    path = (spec.get("hostPath") or {}).get("path", "")
    if path and posixpath.normpath(path) == "/" and policy == "Recycle":
        causes.forbidden(
            "spec.persistentVolumeReclaimPolicy",
            "may not be 'recycle' for a hostPath mount of '/'",
        )
    _names(spec, "spec", causes)


def inline(spec: Document, field: str, causes: Causes) -> None:
    """A volume without an object of its own: what only objects have is forbidden."""
    for key, what in (
        ("claimRef", "claimRef"), ("capacity", "capacity"),
    ):  # fmt: skip
        if spec.get(key):
            causes.forbidden(
                f"{field}.{key}", f"may not specify {what} in the context of inline volumes"
            )
    _access(spec, field, causes)
    if spec.get("persistentVolumeReclaimPolicy"):
        causes.forbidden(
            f"{field}.persistentVolumeReclaimPolicy",
            "may only be \"\" in the context of inline volumes",
        )  # fmt: skip
    if spec.get("nodeAffinity"):
        causes.forbidden(
            f"{field}.nodeAffinity", "may not be specified in the context of inline volumes"
        )
    _source(spec, field, causes)
    _names(spec, field, causes)


def persistent_volume_update(new: Document, old: Document, causes: Causes) -> None:
    """The source and the mode of a volume never change; an affinity may be given once."""
    persistent_volume(new, causes)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    sources = [{k: v for k, v in spec.items() if k in SOURCES} for spec in (after, before)]
    if sources[0] != sources[1]:
        diff = internal.struct_diff(_SPEC, sources[0], sources[1])
        causes.forbidden("spec.persistentvolumesource", f"{_FIXED}\n{diff}")
    if after.get("volumeMode") != before.get("volumeMode"):
        causes.invalid("spec.volumeMode", after.get("volumeMode"), IMMUTABLE)
    if before.get("nodeAffinity") and after.get("nodeAffinity") != before["nodeAffinity"]:
        causes.invalid(
            "spec.nodeAffinity",
            after.get("nodeAffinity"),
            f"{IMMUTABLE}, except for updating from beta label to GA",
        )


def _access(spec: Document, field: str, causes: Causes) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        causes.required(f"{field}.accessModes")
    for mode in modes:
        causes.one_of(f"{field}.accessModes", mode, _MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        causes.forbidden(
            f"{field}.accessModes", "may not use ReadWriteOncePod with other access modes"
        )


def _capacity(spec: Document, causes: Causes) -> None:
    found = spec.get("capacity")
    if not found:
        causes.required("spec.capacity")
    if not found or set(found) != {"storage"}:
        causes.unsupported("spec.capacity", found or None, ("storage",))
    for name, amount in (found or {}).items():
        if quantity.quantity_of(amount).value <= 0:
            causes.invalid(
                f"spec.capacity[{name}]", quantity.canonical_of(amount), "must be greater than zero"
            )


def _affinity(spec: Document, causes: Causes) -> None:
    affinity = spec.get("nodeAffinity")
    if affinity is None:
        return
    required = affinity.get("required")
    if required is None:
        causes.required("spec.nodeAffinity.required", "must specify required node constraints")
    else:
        scheduling.node_selector(required, "spec.nodeAffinity.required", causes)


def _source(spec: Document, field: str, causes: Causes) -> None:
    found = [key for key in SOURCES if spec.get(key) is not None]
    if not found:
        causes.required(field, "must specify a volume type")
    for key in found[1:]:
        causes.forbidden(f"{field}.{key}", "may not specify more than 1 volume type")
    for key in found[:1]:
        _kept(key, spec[key], f"{field}.{key}", spec, causes)


def _kept(key: str, source: Document, field: str, spec: Document, causes: Causes) -> None:
    """The checks of the sources that something mounts: hostPath, local, NFS and CSI."""
    if key in ("hostPath", "local"):
        path = source.get("path", "")
        if not path:
            causes.required(f"{field}.path")
        elif ".." in path.split("/"):
            causes.invalid(f"{field}.path", path, "must not contain '..'")
        if key == "local" and not spec.get("nodeAffinity"):
            causes.required("spec.nodeAffinity", "Local volume requires node affinity")
    elif key == "nfs":
        for name in ("server", "path"):
            if not source.get(name):
                causes.required(f"{field}.{name}")
        if (path := source.get("path")) and not path.startswith("/"):
            causes.invalid(f"{field}.path", path, "must be an absolute path")
    elif key == "csi":
        driver = source.get("driver", "")
        if not driver:
            causes.required(f"{field}.driver")
        else:
            causes.invalid_each(f"{field}.driver", driver, names.dns_subdomain(driver.lower()))
        if not source.get("volumeHandle"):
            causes.required(f"{field}.volumeHandle")


def _names(spec: Document, field: str, causes: Causes) -> None:
    if name := spec.get("storageClassName"):
        causes.invalid_each(f"{field}.storageClassName", name, names.dns_subdomain(name))
    if (mode := spec.get("volumeMode")) is not None:
        causes.one_of(f"{field}.volumeMode", mode, _VOLUME_MODES)
    if (name := spec.get("volumeAttributesClassName")) is not None:
        causes.invalid_each(f"{field}.volumeAttributesClassName", name, names.dns_subdomain(name))
