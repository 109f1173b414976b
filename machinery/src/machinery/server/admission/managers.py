"""What becomes of field managers when webhooks have changed an object: what they change has no owner, and what they spoil is mended."""

from collections.abc import Mapping
from typing import Any, Final

from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest

_INVALID: Final = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission "
    "controller; please fix your requests: {}"
)
_OPERATIONS: Final = ("Apply", "Update")


def judged_managers(before: Document, request: AdmissionRequest) -> list[Document] | None:
    """The managers that webhooks have written, None where they left them; for those that make no sense a warning, and the old ones."""
    were = before["metadata"].get("managedFields")
    are = request.document["metadata"].get("managedFields")
    if are == were:
        return None
    fault = _fault(are or [])
    if fault:
        request.call.warnings.append(_INVALID.format(fault))
        return were or []
    return are or []


def _fault(managers: Any) -> str:
    for index, entry in enumerate(managers):
        at = f"metadata.managedFields[{index}]"
        if not isinstance(entry, Mapping) or entry.get("operation") not in _OPERATIONS:
            return f"{at}.operation: Invalid value: must be `Apply` or `Update`"
        if entry.get("fieldsType", "FieldsV1") != "FieldsV1":
            return f"{at}.fieldsType: Invalid value: must be `FieldsV1`"
        if not isinstance(entry.get("fieldsV1", {}), Mapping):
            return f"{at}.fieldsV1: Invalid value: must be an object"
    return ""


def managed_by(document: Document, managers: list[Document] | None) -> Document:
    """The document with these managers; None: with its own."""
    if managers is None:
        return document
    metadata = {k: v for k, v in document["metadata"].items() if k != "managedFields"}
    if managers:
        metadata["managedFields"] = managers
    return {**document, "metadata": metadata}
