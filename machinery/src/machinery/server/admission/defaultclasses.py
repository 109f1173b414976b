"""Classes that are marked as default: a claim or an Ingress that names none gets the newest of them.

A claim that says "" wants no class, and an Ingress with the annotation of old has one.
"""

from collections.abc import Mapping
from typing import ClassVar

from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds
from machinery.server.cache import KindCache

STORAGE_MARKS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
INGRESS_MARKS = ("ingressclass.kubernetes.io/is-default-class",)
OLD_STORAGE = "volume.beta.kubernetes.io/storage-class"
OLD_INGRESS = "kubernetes.io/ingress.class"


class _Defaults:
    """Fills in one field of a spec."""

    field = ""
    marks: tuple[str, ...] = ()
    old_annotation = ""

    def __init__(self, classes: KindCache | None) -> None:
        self._classes = classes
        self._held = ""
        self._held_at = -1

    def admit(self, request: AdmissionRequest) -> Document:
        if request.verb != "create" or request.subresource:
            return request.document
        document = request.document
        spec = document.get("spec") or {}
        if spec.get(self.field) is not None or self.old_annotation in _marks_of(document):
            return document
        name = self._default()
        return {**document, "spec": {**spec, self.field: name}} if name else document

    def validate(self, request: AdmissionRequest) -> None:
        return None

    def _default(self) -> str:
        """The newest marked class, the first by name of those made together; looked for again when a class has changed."""
        classes = self._classes
        if classes is None or not classes.entries:
            return ""
        if self._held_at != classes.changed:
            found = [
                document["metadata"]
                for entry in classes.entries.values()
                if self._is_marked(document := entry.document())
            ]
            found.sort(key=lambda metadata: str(metadata["name"]))
            newest = max(found, key=lambda m: str(m.get("creationTimestamp", "")), default=None)
            self._held = "" if newest is None else str(newest["name"])
            self._held_at = classes.changed
        return self._held

    def _is_marked(self, document: Document) -> bool:
        marks = _marks_of(document)
        return any(marks.get(mark) == "true" for mark in self.marks)


def _marks_of(document: Document) -> Mapping[str, str]:
    found: Mapping[str, str] = (document.get("metadata") or {}).get("annotations") or {}
    return found


class DefaultStorageClass(_Defaults):
    """Of claims."""

    kinds: ClassVar[Kinds] = frozenset({("", "PersistentVolumeClaim")})
    field = "storageClassName"
    marks = STORAGE_MARKS
    old_annotation = OLD_STORAGE


class DefaultIngressClass(_Defaults):
    """Of Ingresses."""

    kinds: ClassVar[Kinds] = frozenset({("networking.k8s.io", "Ingress")})
    field = "ingressClassName"
    marks = INGRESS_MARKS
    old_annotation = OLD_INGRESS
