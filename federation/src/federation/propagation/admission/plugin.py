"""The admission of Karmada's kinds: filled in, refused, warned about, and guarded against deletion.

What Karmada's samples say and nothing here acts on yet is kept and warned about, never dropped.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from federation.propagation.admission import autoscaling, defaults, operations, rules
from federation.propagation.admission.types import mismatch
from federation.propagation.templates import is_wide, why_unselectable
from machinery.api.fleet.autoscaling_kinds import FEDERATED_HPA_SPEC
from machinery.api.fleet.kinds import OVERRIDE_SPEC, POLICY_SPEC
from machinery.kit.ids import Ids
from machinery.meta.errors import BadRequest, Forbidden
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest

PROTECTED = "resourcetemplate.karmada.io/deletion-protected"
"""Label: with the value Always the object cannot be deleted."""
_PROPAGATION = ("PropagationPolicy", "ClusterPropagationPolicy")
_OVERRIDE = ("OverridePolicy", "ClusterOverridePolicy")
_BINDINGS = ("ResourceBinding", "ClusterResourceBinding")
_GROUPS = ("policy.karmada.io", "work.karmada.io", "autoscaling.karmada.io")
_JUDGED = ("policy.karmada.io", "autoscaling.karmada.io")
_WRITES = ("create", "update")
_STRUCTS = {
    "PropagationPolicy": (POLICY_SPEC, "PropagationSpec"),
    "ClusterPropagationPolicy": (POLICY_SPEC, "PropagationSpec"),
    "OverridePolicy": (OVERRIDE_SPEC, "OverrideSpec"),
    "FederatedHPA": (FEDERATED_HPA_SPEC, "FederatedHPASpec"),
}
"""What is decoded before the schema is asked: schema and struct."""
IDLE_FIELDS = ("association",)
"""Fields of a policy that are kept, and that nothing acts on yet."""


def denied(webhook: str, why: str) -> Forbidden:
    """A refusal as a webhook's."""
    return Forbidden(f'admission webhook "{webhook}" denied the request: {why}')


class KarmadaKinds:
    """Policies, bindings and Works. `no_execute`: ClusterTaintPolicies may drive workloads away."""

    def __init__(self, ids: Ids, *, no_execute: bool = False) -> None:
        self._ids, self._no_execute = ids, no_execute

    def admit(self, request: AdmissionRequest) -> Document:
        document = request.document
        if request.kind.group not in _GROUPS or request.subresource or request.verb not in _WRITES:
            return document
        kind, creating = request.kind.kind, request.verb == "create"
        if kind in _STRUCTS and (why := _undecodable(document, *_STRUCTS[kind])):
            raise BadRequest(str(denied(f"{kind.lower()}.karmada.io", why)))
        if kind in _PROPAGATION:
            return defaults.propagation_policy(document, self._ids.uid() if creating else "")
        if kind == "OverridePolicy":
            return defaults.override_policy(document)
        if kind in _BINDINGS and creating:
            return defaults.binding(document, self._ids.uid())
        if kind == "FederatedHPA":
            return autoscaling.filled(document)
        if kind == "Work" and (request.old is None or _spec_changed(document, request.old)):
            return defaults.work(document, self._ids.uid())
        return document

    def validate(self, request: AdmissionRequest) -> None:
        if request.verb == "delete":
            _guard(request.old)
        if request.kind.group not in _JUDGED or request.verb not in _WRITES:
            return
        document, kind = request.document, request.kind.kind
        why = ""
        if kind in _PROPAGATION:
            if request.old is not None:
                why = rules.policy_changed(document, request.old)
            why = why or rules.propagation_policy(document)
            request.call.warnings.extend(idle(document))
        elif kind in _OVERRIDE:
            why = rules.override_policy(document)
        elif kind == "ClusterTaintPolicy":
            why = operations.cluster_taint_policy(document, no_execute=self._no_execute)
            request.call.warnings.extend(operations.idle_taints(document))
        elif kind == "FederatedResourceQuota":
            why = operations.federated_resource_quota(document)
            request.call.warnings.extend(operations.idle_quota(document))
        elif kind == "CronFederatedHPA":
            why = autoscaling.cron_federated_hpa(document)
        elif kind == "FederatedHPA":
            why = autoscaling.federated_hpa(document)
            request.call.warnings.extend(autoscaling.idle_metrics(document))
        if why:
            raise denied(f"{kind.lower()}.karmada.io", why)


def idle(policy: Document) -> Iterator[str]:
    """Warnings on what a policy says and nothing acts on yet."""
    spec = policy.get("spec") or {}
    for field in IDLE_FIELDS:
        if spec.get(field):
            yield f"spec.{field}: kept, but nothing acts on it yet"
    for index, selector in enumerate(spec.get("resourceSelectors") or ()):
        named = (selector.get("apiVersion", ""), selector.get("kind", ""))
        why = why_unselectable(*named)
        if not why and policy.get("kind") == "PropagationPolicy" and is_wide(*named):
            why = f"a {named[1]} has no namespace; a ClusterPropagationPolicy can select it"
        if why:
            yield f"spec.resourceSelectors[{index}]: it selects nothing: {why}"


def _undecodable(document: Document, schema: Mapping[str, Any], struct: str) -> str:
    spec = document.get("spec")
    return "" if spec is None else mismatch(schema, spec, struct)


def _spec_changed(new: Document, old: Document) -> bool:
    return new.get("spec") is not old.get("spec") and new.get("spec") != old.get("spec")


def _guard(held: Document | None) -> None:
    labels = ((held or {}).get("metadata") or {}).get("labels") or {}
    if labels.get(PROTECTED) == "Always":
        raise denied(
            "resourcedeletionprotection.karmada.io",
            f"This resource is protected, please make sure to remove the label: {PROTECTED}",
        )
