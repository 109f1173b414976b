"""Kinds of Kubernetes that are data there as well: the API server keeps them, and whoever concerns himself with storage,
Ingresses or histories reads them. Every server serves them.

StorageClasses and the kinds of CSI speak to provisioners, attachers and kubelets' plug-ins that users run; IngressClasses
to users' Ingress controllers; PodTemplates and ControllerRevisions are what controllers (of users too) remember.
"""

from machinery.api.scheme import ServedKind, Subresource

_CORE = "io.k8s.api.core.v1."
_STORAGE = "storage.k8s.io"


def _storage(kind: str, plural: str, *short: str, namespaced: bool = False) -> ServedKind:
    return ServedKind(
        _STORAGE, "v1", kind, plural, kind.lower(), namespaced, f"io.k8s.api.storage.v1.{kind}", short,
    )  # fmt: skip


CORE_DATA: tuple[ServedKind, ...] = (
    ServedKind(
        "", "v1", "PodTemplate", "podtemplates", "podtemplate", True, _CORE + "PodTemplate"
    ),
)  # fmt: skip
APPS_DATA: tuple[ServedKind, ...] = (
    ServedKind(
        "apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision", True,
        "io.k8s.api.apps.v1.ControllerRevision",
    ),
)  # fmt: skip
INGRESS_CLASS = ServedKind(
    "networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass", False,
    "io.k8s.api.networking.v1.IngressClass",
)  # fmt: skip
STORAGE_DATA: tuple[ServedKind, ...] = (
    _storage("CSIDriver", "csidrivers"),
    _storage("CSINode", "csinodes"),
    _storage("CSIStorageCapacity", "csistoragecapacities", namespaced=True),
    _storage("StorageClass", "storageclasses", "sc"),
    ServedKind(
        _STORAGE, "v1", "VolumeAttachment", "volumeattachments", "volumeattachment", False,
        "io.k8s.api.storage.v1.VolumeAttachment",
        subresources=(Subresource("status", "VolumeAttachment"),), has_status=True,
    ),
    _storage("VolumeAttributesClass", "volumeattributesclasses", "vac"),
)  # fmt: skip
