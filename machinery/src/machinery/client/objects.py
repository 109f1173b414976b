"""The few metadata that generic code reads, of a typed view or of a plain document alike.

Informers, executor and expectations serve every kind, also those known only at run time (`interface.dynamic`), whose
view is the document itself. Everything else about an object is read through its own view.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from machinery.meta.objectmeta import Object, ObjectMeta, OwnerReference
from machinery.meta.resource import Document, ObjectKey


def key_of(value: Any) -> ObjectKey:
    """Namespace and name."""
    if isinstance(
        value, Object
    ):  # asked first: of a view the other question takes ten times as long
        return value.key
    if isinstance(value, Mapping):
        metadata = _metadata(value)
        return ObjectKey(metadata.get("namespace") or "", metadata.get("name") or "")
    return ObjectKey(value.metadata.namespace, value.metadata.name)


def uid_of(value: Any) -> str:
    """metadata.uid."""
    if isinstance(value, Object):
        return value.metadata.uid
    if isinstance(value, Mapping):
        return str(_metadata(value).get("uid") or "")
    return str(value.metadata.uid)


def version_of(value: Any) -> str:
    """metadata.resourceVersion."""
    if isinstance(value, Object):
        return value.metadata.resource_version
    if isinstance(value, Mapping):
        return str(_metadata(value).get("resourceVersion") or "")
    return str(value.metadata.resource_version)


def status_of(value: Any) -> Document | None:
    """The status of a document; None where there is no document, or none in it."""
    return value.get("status") if isinstance(value, dict) else None


def deleting(value: Any) -> bool:
    """Whether a deletionTimestamp is set."""
    if isinstance(value, Mapping):
        return _metadata(value).get("deletionTimestamp") is not None
    return value.metadata.deletion_timestamp is not None


def controller_reference(value: Any) -> OwnerReference | None:
    """The one owner that manages the object, or None."""
    return next((owner for owner in _owners(value) if owner.controller), None)


def _owners(value: Any) -> Sequence[OwnerReference]:
    if not isinstance(value, Mapping):
        meta: ObjectMeta = value.metadata
        return meta.owner_references
    return [
        OwnerReference(
            api_version=owner.get("apiVersion", ""),
            kind=owner.get("kind", ""),
            name=owner.get("name", ""),
            uid=owner.get("uid", ""),
            controller=bool(owner.get("controller")),
        )
        for owner in _metadata(value).get("ownerReferences") or ()
    ]


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("metadata") or {}
