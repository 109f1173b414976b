"""Which override policies speak for an object in a cluster, in which order, and what is written down of them.

Cluster policies go first, then those of the object's namespace, so that the nearer one has the last word. Within a kind the less
precise selector goes first (everything, kind, labels, name), then the lower name. The rules of one policy go in their order.
What was applied is kept on the Work in Karmada's two annotations.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from federation.placement.filter import matches
from federation.placement.model import Candidate
from federation.propagation.matching import NOT_AT_ALL, precision
from federation.propagation.overrides.apply import overridden
from federation.propagation.overrides.errors import OverrideError, PolicyFailed
from federation.propagation.overrides.texts import compact, ordered
from machinery.api.fleet.policy import (
    ClusterOverridePolicy,
    CommandArgsOverrider,
    FieldOverrider,
    ImageOverrider,
    LabelAnnotationOverrider,
    OverridePolicy,
    Overriders,
    OverrideRule,
    OverrideSpec,
    TextPatch,
)
from machinery.meta.resource import Document

APPLIED: Final = "policy.karmada.io/applied-overrides"
"""Annotation of a Work: which OverridePolicies made it, with their overriders, as JSON."""
APPLIED_CLUSTER: Final = "policy.karmada.io/applied-cluster-overrides"
"""The same of ClusterOverridePolicies."""
_EVERYTHING: Final = 0.5
"""Precision of a policy without selectors: below every selector, above no match."""

Policy = OverridePolicy | ClusterOverridePolicy
_P = TypeVar("_P", OverridePolicy, ClusterOverridePolicy)


@dataclass(frozen=True, slots=True)
class Overridden:
    """The object for one cluster, the annotations for its Work, and the policies that were applied (`namespace/name`)."""

    document: Document
    annotations: dict[str, str] = field(default_factory=dict)
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overrides:
    """All override policies of a federation."""

    cluster_policies: tuple[ClusterOverridePolicy, ...] = ()
    policies: tuple[OverridePolicy, ...] = ()

    def of(self, template: Document) -> "Overrides":
        """Those that select the template, in the order in which they are applied."""
        namespace = (template.get("metadata") or {}).get("namespace", "")
        return Overrides(
            _ordered(self.cluster_policies, template),
            _ordered((p for p in self.policies if p.metadata.namespace == namespace), template),
        )

    def apply(self, document: Document, cluster: Candidate, *, named: bool = False) -> Overridden:
        """The object as it shall be in the cluster, by policies that were ordered by `of`. Raises PolicyFailed.

        `named`: the object must keep its name.
        """
        if not self.cluster_policies and not self.policies:
            return Overridden(document)
        name = _identity(document) if named else None
        document, first, notes = _applied(document, self.cluster_policies, cluster, name)
        annotations = {APPLIED_CLUSTER: notes} if notes else {}
        document, then, notes = _applied(document, self.policies, cluster, name)
        annotations |= {APPLIED: notes} if notes else {}
        return Overridden(document, annotations, (*first, *then))


NO_OVERRIDES: Final = Overrides()


def rules(spec: OverrideSpec) -> tuple[OverrideRule, ...]:
    """The rules of a policy; the deprecated form is one rule."""
    if spec.override_rules:
        return spec.override_rules
    return (OverrideRule(spec.target_cluster, spec.overriders),)


def selected(policy: Policy, template: Document) -> float:
    """How precisely the policy names the template; NOT_AT_ALL when it does not."""
    selectors = policy.spec.resource_selectors
    if not selectors:
        return _EVERYTHING
    namespace = policy.metadata.namespace
    return max(precision(selector, template, namespace) for selector in selectors)


def _ordered(policies: Iterable[_P], template: Document) -> tuple[_P, ...]:
    found = [
        (how, policy.metadata.name, policy)
        for policy in policies
        if not policy.deleting and (how := selected(policy, template)) != NOT_AT_ALL
    ]
    return tuple(policy for _, _, policy in sorted(found, key=lambda item: item[:2]))


def _identity(document: Document) -> tuple[Any, ...]:
    metadata = document.get("metadata") or {}
    return (document.get("kind"), metadata.get("namespace"), metadata.get("name"))


def _applied(
    document: Document,
    policies: Iterable[Policy],
    cluster: Candidate,
    name: tuple[Any, ...] | None,
) -> tuple[Document, list[str], str]:
    names: list[str] = []
    notes: list[Any] = []
    for policy in policies:
        metadata = policy.metadata
        key = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
        for rule in rules(policy.spec):
            if not matches(rule.target_cluster, cluster):
                continue
            try:
                document = overridden(document, rule.overriders)
            except OverrideError as error:
                raise PolicyFailed(key, str(error)) from error
            if name is not None and _identity(document) != name:
                raise PolicyFailed(
                    key, "kind, namespace and name of this object cannot be overridden"
                )
            notes.append({"policyName": metadata.name, "overriders": wire(rule.overriders)})
            if key not in names:
                names.append(key)
    return document, names, compact(notes) if notes else ""


# ---------------------------------------------------------------------------------------------------------- written down
def wire(overriders: Overriders) -> Document:
    """Overriders as Go's encoder writes them: its order of fields, nothing empty, patches with `value: null`."""
    return _given(
        plaintext=[
            {"path": one.path, "operator": one.operator, "value": ordered(one.value)}
            for one in overriders.plaintext
        ],
        imageOverrider=[_image(one) for one in overriders.image_overrider],
        commandOverrider=[_words(one) for one in overriders.command_overrider],
        argsOverrider=[_words(one) for one in overriders.args_overrider],
        labelsOverrider=[_marks(one) for one in overriders.labels_overrider],
        annotationsOverrider=[_marks(one) for one in overriders.annotations_overrider],
        fieldOverrider=[_field(one) for one in overriders.field_overrider],
    )


def _given(**fields: Any) -> Document:
    return {key: value for key, value in fields.items() if value}


def _image(one: ImageOverrider) -> Document:
    head = {} if one.predicate is None else {"predicate": {"path": one.predicate.path}}
    said = {"component": one.component, "operator": one.operator}
    return head | said | _given(value=one.value)


def _words(one: CommandArgsOverrider) -> Document:
    said = {"containerName": one.container_name, "operator": one.operator}
    return said | _given(value=list(one.value))


def _marks(one: LabelAnnotationOverrider) -> Document:
    return {"operator": one.operator} | _given(value=ordered(one.value))


def _field(one: FieldOverrider) -> Document:
    return {"fieldPath": one.field_path} | _given(json=_patches(one.json), yaml=_patches(one.yaml))


def _patches(patches: tuple[TextPatch, ...]) -> list[Document]:
    return [
        {"subPath": one.sub_path, "operator": one.operator, "value": ordered(one.value)}
        for one in patches
    ]
