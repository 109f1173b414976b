"""ServiceExport: what is exported must be able to stand on the import, in every cluster."""

from collections.abc import Iterable

from machinery.api.fleet.multicluster import reserved
from machinery.api.validation import metadata
from machinery.api.validation.causes import Causes
from machinery.meta.resource import Document

RESERVED = "may not be exported: keys below ubernetes.io and karmada.io are the federation's own"


def service_export(document: Document, causes: Causes) -> None:
    """Labels and annotations by the rules of metadata; none of them the federation's own."""
    spec = document.get("spec") or {}
    if found := spec.get("exportedLabels"):
        metadata.labels(found, "spec.exportedLabels", causes)
        _ours(found, "spec.exportedLabels", causes)
    if found := spec.get("exportedAnnotations"):
        metadata.annotations(found, "spec.exportedAnnotations", causes)
        _ours(found, "spec.exportedAnnotations", causes)


def service_export_update(new: Document, old: Document, causes: Causes) -> None:
    """As on create, where the spec changes: a status can always be written."""
    if new.get("spec") != old.get("spec"):
        service_export(new, causes)


def _ours(keys: Iterable[str], field: str, causes: Causes) -> None:
    for key in keys:
        if reserved(key):
            causes.invalid(field, key, RESERVED)
