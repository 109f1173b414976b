"""By which fields objects can be selected, kind by kind.

Upstream has two ways of refusing a field, and which one a kind has is visible to clients: kinds with selectable fields of
their own say `field label not supported: x`, the others name the two that every object has. A field that is absent has the
value its zero value prints as: the empty string, `false` or 0.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from machinery.api.scheme import ServedKind
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document

NAME = "metadata.name"
NAMESPACE = "metadata.namespace"

_EVENT_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_ZEROS = {
    "spec.hostNetwork": "false",
    "spec.unschedulable": "false",
    "status.successful": "0",
    "status.replicas": "0",
}
"""What an absent field prints as, where that is not the empty string."""
_ALIASES = {
    ("", "Pod"): {"spec.host": "spec.nodeName"},
    ("", "Event"): {"source": "source.component"},
    ("batch", "Job"): {"status.successful": "status.succeeded"},
}
_FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (
        NAME, NAMESPACE, "spec.nodeName", "spec.restartPolicy", "spec.schedulerName",
        "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP",
        "status.podIPs", "status.nominatedNodeName", "spec.host",
    ),
    ("", "Node"): (NAME, "spec.unschedulable"),
    ("", "Namespace"): (NAME, "status.phase"),
    ("", "Secret"): (NAME, NAMESPACE, "type"),
    ("", "Service"): (NAME, NAMESPACE, "spec.clusterIP", "spec.type"),
    ("", "Event"): (
        NAME, NAMESPACE, *(f"involvedObject.{field}" for field in _EVENT_OBJECT),
        "reason", "reportingComponent", "source", "type",
    ),
    ("events.k8s.io", "Event"): (
        NAME, NAMESPACE, *(f"regarding.{field}" for field in _EVENT_OBJECT),
        "reason", "reportingController", "type",
    ),
    ("certificates.k8s.io", "CertificateSigningRequest"): (NAME, "spec.signerName"),
    ("batch", "Job"): (NAME, NAMESPACE, "status.successful"),
    ("", "ReplicationController"): (NAME, NAMESPACE, "status.replicas"),
}  # fmt: skip


def supported(kind: ServedKind) -> frozenset[str]:
    """The fields by which the kind can be selected."""
    if kind.selectable:
        return frozenset((NAME, NAMESPACE, *kind.selectable))
    return _supported(*kind.group_kind)


@cache
def _supported(group: str, kind: str) -> frozenset[str]:
    return frozenset(_FIELDS.get((group, kind), (NAME, NAMESPACE)))


def check(kind: ServedKind, fields: Iterable[str]) -> None:
    """Raises BadRequest for the first field that the kind cannot be selected by.

    Where a webhook converts, fields are looked up as the object lies, so that only the storage version can be selected by its own.
    """
    known = supported(kind)
    for field in fields:
        if field in known:
            _check_version(kind, field)
            continue
        if kind.custom or kind.group_kind in _FIELDS:
            raise BadRequest(f"field label not supported: {field}")
        raise BadRequest(
            f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )


def _check_version(kind: ServedKind, field: str) -> None:
    custom = kind.dynamic
    if custom is None or custom.convert is None or field in (NAME, NAMESPACE):
        return
    if kind.version != custom.storage_version:
        text = f"field label not supported: {field}: objects are converted to {kind.version} by a webhook"
        raise BadRequest(f"{text}; they can be selected by fields of {custom.storage_version}")


def fields_of(kind: ServedKind, document: Document) -> Mapping[str, str]:
    """Every selectable field with its value; of a custom kind those of all its versions, which share their objects."""
    fields = (
        supported(kind) if kind.dynamic is None else (NAME, NAMESPACE, *kind.dynamic.selectable)
    )
    return {field: value_of(kind, document, field) for field in fields}


def value_of(kind: ServedKind, document: Document, field: str) -> str:
    """One selectable field's value, as the selector compares it."""
    path = _ALIASES.get(kind.group_kind, {}).get(field, field)
    value: Any = document
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None or value == []:
        return _ZEROS.get(field, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(str(item.get("ip", "")) for item in value)
    return str(value)
