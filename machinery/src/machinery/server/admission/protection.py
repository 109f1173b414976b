"""StorageObjectInUseProtection: claims, volumes and classes of attributes begin with the finalizer that keeps them while they are used.

For servers beside which a controller takes the finalizers away again (`cluster_agent.control.controllers.volumeprotection`).
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds

FINALIZERS: Final[Mapping[tuple[str, str], str]] = {
    ("", "PersistentVolumeClaim"): "kubernetes.io/pvc-protection",
    ("", "PersistentVolume"): "kubernetes.io/pv-protection",
    ("storage.k8s.io", "VolumeAttributesClass"): "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection:
    """Adds them to what is new."""

    kinds: ClassVar[Kinds] = frozenset(FINALIZERS)

    def admit(self, request: AdmissionRequest) -> Document:
        wanted = FINALIZERS.get(request.kind.group_kind)
        document = request.document
        metadata = document.get("metadata") or {}
        held = metadata.get("finalizers") or []
        if wanted is None or request.verb != "create" or request.subresource or wanted in held:
            return document
        return {**document, "metadata": {**metadata, "finalizers": [*held, wanted]}}

    def validate(self, request: AdmissionRequest) -> None:
        return None
