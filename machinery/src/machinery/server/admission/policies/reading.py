"""Whoever makes a policy lets it read objects: of its kind of parameters for a policy, those that are named for a binding. Nobody may
lend what they cannot read themselves. system:masters read everything.
"""

from typing import ClassVar

from machinery.api.policy_kinds import (
    MUTATING_BINDING,
    MUTATING_POLICY,
    VALIDATING_BINDING,
    VALIDATING_POLICY,
)
from machinery.api.scheme import Scheme
from machinery.api.validation.causes import Causes
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds
from machinery.server.admission.policies.judging import Peek
from machinery.server.authz import Authorizer
from machinery.server.rbac import Attributes
from machinery.server.user import MASTERS

_POLICIES = {VALIDATING_BINDING.kind: VALIDATING_POLICY, MUTATING_BINDING.kind: MUTATING_POLICY}
ANY = "*"


class ParamRights:
    """The plugin."""

    kinds: ClassVar[Kinds] = frozenset(
        kind.group_kind
        for kind in (VALIDATING_POLICY, MUTATING_POLICY, VALIDATING_BINDING, MUTATING_BINDING)
    )

    def __init__(self, authorizer: Authorizer, scheme: Scheme, peek: Peek) -> None:
        self._authorizer, self._scheme, self._peek = authorizer, scheme, peek

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.kind.group_kind not in self.kinds or request.subresource:
            return
        if request.verb not in ("create", "update"):
            return
        if MASTERS in request.call.user.groups:
            return
        policy = _POLICIES.get(request.kind.kind)
        field = "paramKind" if policy is None else "paramRef"
        new = (request.document.get("spec") or {}).get(field)
        if new is None or new == ((request.old or {}).get("spec") or {}).get(field):
            return
        spec = request.document["spec"]
        if policy is None:
            wanted = self._attributes("get", new, ANY, ANY)
            told = (
                f'user {request.call.user.name} must have "get" permission on all objects of the referenced paramKind '
                f"(kind={new.get('kind', '')}, apiVersion={new.get('apiVersion', '')})"
            )
        else:
            path = f"{policy.group}/{policy.plural}"
            held = self._peek(path, "", spec.get("policyName", "")) or {}
            kind = (held.get("spec") or {}).get("paramKind") or {}
            verb = "get" if new.get("name") else "list"
            wanted = self._attributes(
                verb, kind, new.get("namespace") or ANY, new.get("name") or ANY
            )
            told = f'user {request.call.user.name} does not have "{verb}" permission on the object referenced by paramRef'
        if not self._authorizer.allows(request.call.user, wanted):
            causes = Causes()
            causes.forbidden(f"spec.{field}", told)
            raise errors.invalid(request.kind.kind, request.kind.group, request.name, causes)

    def _attributes(self, verb: str, kind: Document, namespace: str, name: str) -> Attributes:
        """Of a kind that is not known everything is asked for."""
        group, _, version = (kind.get("apiVersion") or "").rpartition("/")
        found = self._scheme.by_gvk(group, version, kind.get("kind") or "")
        if found is None:
            return Attributes(verb, group if kind else ANY, ANY, "", namespace, name)
        return Attributes(verb, group, found.plural, "", namespace, name)
