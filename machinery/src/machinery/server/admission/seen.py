"""A write as those outside the server see it: what webhooks are sent, and what `request`, `object` and `oldObject` are in CEL.

Within, a write of a Scale is one of its workload, a face of a kind is the kind that it lies as, and a name that is still to be made
is made. Outside there is the Scale, the version that was asked for or that a rule names, and no name. Pure.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from machinery.api.customresources import conversion
from machinery.api.kinds import subresource_body
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document
from machinery.server import faces
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.admission.matching import CONNECT, CREATE, DELETE, UPDATE, Asked
from machinery.server.audit.event import user_document
from machinery.server.call import Call, Deletion
from machinery.server.scale import scale_of, scaled

_OPERATIONS: Final = {"create": CREATE, "update": UPDATE, "delete": DELETE, "connect": CONNECT}
_OPTIONS: Final = {CREATE: "CreateOptions", UPDATE: "UpdateOptions"}
META: Final = "meta.k8s.io/v1"


class Seen:
    """One write; made when somebody looks."""

    def __init__(self, request: AdmissionRequest) -> None:
        self._request = request
        self.asked = asked_of(request)

    @cached_property
    def document(self) -> Document | None:
        """What is to be, None for a DELETE; in the version in which it is judged here (`request.kind`)."""
        if self.asked.operation == DELETE:
            return None
        document = self._part(self._request.document)
        if self._request.generated:
            metadata = {k: v for k, v in document["metadata"].items() if k != "name"}
            return {**document, "metadata": metadata}
        return document

    @cached_property
    def old(self) -> Document | None:
        """What was before, None for a CREATE or CONNECT."""
        return None if self._request.old is None else self._part(self._request.old)

    def _part(self, document: Document) -> Document:
        if self._request.subresource == "scale":
            return scale_of(self._request.kind, document)
        return document

    def written(self, document: Document) -> Document:
        """The reverse of `document`: what the server goes on with when it was changed outside. Raises Invalid."""
        request = self._request
        if request.subresource == "scale":
            assert request.old is not None, "a scale is never created"
            return scaled(request.kind, request.document, document, request.name)
        metadata = document.get("metadata")
        if request.generated and isinstance(metadata, dict) and not metadata.get("name"):
            return {**document, "metadata": {**metadata, "name": request.name}}
        return document

    def shown(self, document: Document | None, kind: ServedKind) -> Document | None:
        """`document` or `old` in the version of `kind`, one under which the object is served."""
        if document is None or self._own_body:
            return document
        if kind.dynamic is not None:
            return conversion.between(self._request.kind, kind, document)
        turn = faces.outward(kind)
        return document if turn is None else turn(document)

    def taken(self, document: Document, kind: ServedKind) -> Document:
        """The reverse of `shown`."""
        if self._own_body:
            return document
        if kind.dynamic is not None:
            return conversion.between(kind, self._request.kind, document)
        return faces.inward(kind, document)

    @property
    def _own_body(self) -> bool:
        """Whether the object is no version of the kind: a Scale, a Binding, options."""
        sub = self.asked.kind.subresource(self.asked.subresource)
        return sub is not None and sub.kind != self.asked.kind.kind

    def body_kind(self, kind: ServedKind) -> ServedKind | None:
        """What the object is when `kind` is meant; None for options, which no kind describes."""
        sub = kind.subresource(self.asked.subresource)
        if sub is None or sub.kind == kind.kind:
            return kind
        try:
            return subresource_body(kind, sub)
        except KeyError:
            return None

    def gvk(self, kind: ServedKind) -> tuple[str, str, str]:
        """(group, version, kind) of the object that is shown when `kind` is meant."""
        sub = kind.subresource(self.asked.subresource)
        if sub is None or sub.kind == kind.kind:
            return (kind.group, kind.version, kind.kind)
        return (sub.group or kind.group, sub.version or kind.version, sub.kind)

    @cached_property
    def options(self) -> Document | None:
        """CreateOptions, UpdateOptions or DeleteOptions; None for a CONNECT."""
        operation, request = self.asked.operation, self._request
        if operation == CONNECT:
            return None
        if operation == DELETE:
            return deletion_document(request.options or Deletion(dry_run=request.call.dry_run))
        return options_document(_OPTIONS[operation], request.call)

    def request(self, kind: ServedKind) -> Document:
        """The AdmissionRequest (v1) without uid, object and oldObject, for whom `kind` is meant."""
        asked, call = self.asked, self._request.call
        found: Document = {"kind": _gvk(*self.gvk(kind)), "resource": _gvr(kind)}
        if asked.subresource:
            found["subResource"] = asked.subresource
        found["requestKind"] = _gvk(*self.gvk(asked.kind))
        found["requestResource"] = _gvr(asked.kind)
        if asked.subresource:
            found["requestSubResource"] = asked.subresource
        if asked.name:
            found["name"] = asked.name
        if asked.namespace:
            found["namespace"] = asked.namespace
        found["operation"] = asked.operation
        found["userInfo"] = user_document(call.user)
        dry = call.dry_run or (self._request.options is not None and self._request.options.dry_run)
        return {**found, "dryRun": dry, "options": self.options}


def asked_of(request: AdmissionRequest) -> Asked:
    """The write as rules see it. A Namespace is in itself."""
    kind = request.call.face or request.kind
    namespace = request.namespace
    if (kind.group, kind.plural) == ("", "namespaces"):
        namespace = request.name
    name = "" if request.generated else request.name
    return Asked(_OPERATIONS[request.verb], kind, request.subresource, namespace, name)


def options_document(kind: str, call: Call) -> Document:
    """CreateOptions or UpdateOptions as the client gave them."""
    found: Document = {"kind": kind, "apiVersion": META}
    if call.dry_run:
        found["dryRun"] = ["All"]
    for name in ("fieldManager", "fieldValidation"):
        if given := call.query.get(name):
            found[name] = given[0]
    return found


def deletion_document(options: Deletion) -> Document:
    """DeleteOptions as the client gave them."""
    found: Document = {"kind": "DeleteOptions", "apiVersion": META}
    if options.grace_period_seconds is not None:
        found["gracePeriodSeconds"] = options.grace_period_seconds
    conditions: Mapping[str, Any] = {
        "uid": options.uid, "resourceVersion": options.resource_version,
    }  # fmt: skip
    if any(conditions.values()):
        found["preconditions"] = {key: value for key, value in conditions.items() if value}
    if options.propagation_policy:
        found["propagationPolicy"] = options.propagation_policy
    if options.dry_run:
        found["dryRun"] = ["All"]
    return found


def _gvk(group: str, version: str, kind: str) -> Document:
    return {"group": group, "version": version, "kind": kind}


def _gvr(kind: ServedKind) -> Document:
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}
