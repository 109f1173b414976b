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
    """Raises BadRequest for the first field that the kind cannot be selected by."""
    known = supported(kind)
    for field in fields:
        if field in known:
            continue
        if kind.custom or kind.group_kind in _FIELDS:
            raise BadRequest(f"field label not supported: {field}")
        raise BadRequest(
            f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )


def fields_of(kind: ServedKind, document: Document) -> Mapping[str, str]:
    """Every selectable field with its value."""
    return {field: value_of(kind, document, field) for field in supported(kind)}


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
