"""Which objects a quota with scopes looks at: pods by how long they run, how they are served, and their priority."""

from typing import Any

from machinery.api.qos import qos_class
from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document

_AFFINITIES = ("podAffinity", "podAntiAffinity")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def selectors(quota: Document) -> list[Document]:
    """The scopes of a quota as requirements: `scopes`, each of which must hold, and `scopeSelector`."""
    spec = quota.get("spec") or {}
    plain = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return [*plain, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def selects(quota: Document, kind: ServedKind, document: Document) -> bool:
    """Whether the quota looks at the object, as far as its scopes go."""
    return all(_holds(one, kind, document) for one in selectors(quota))


def _holds(requirement: Document, kind: ServedKind, document: Document) -> bool:
    scope, spec = requirement.get("scopeName", ""), document.get("spec") or {}
    if kind.group_kind == ("", "PersistentVolumeClaim"):
        return scope == "VolumeAttributesClass" and _chosen(
            requirement, _attributes_classes(document)
        )
    if kind.group_kind != ("", "Pod"):
        return False
    match scope:
        case "Terminating":
            return _is_terminating(spec)
        case "NotTerminating":
            return not _is_terminating(spec)
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "PriorityClass":
            name = spec.get("priorityClassName", "")
            return _chosen(requirement, {name} if name else set())
        case "CrossNamespacePodAffinity":
            return _reaches_out(spec)
        case _:
            return False


def _is_terminating(spec: Document) -> bool:
    seconds = spec.get("activeDeadlineSeconds")
    return seconds is not None and seconds >= 0


def _chosen(requirement: Document, held: set[str]) -> bool:
    values = set(requirement.get("values") or ())
    match requirement.get("operator"):
        case "Exists":
            return bool(held)
        case "DoesNotExist":
            return not held
        case "In":
            return bool(held & values)
        case "NotIn":
            return not held & values
        case _:
            return False


def _attributes_classes(claim: Document) -> set[str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    found = {
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    return {name for name in found if name}


def _reaches_out(spec: Document) -> bool:
    """Whether any term of affinity looks at pods of other namespaces."""
    affinity = spec.get("affinity") or {}
    for side in _AFFINITIES:
        rules: dict[str, Any] = affinity.get(side) or {}
        terms = list(rules.get(_REQUIRED) or ())
        terms += [one.get("podAffinityTerm") or {} for one in rules.get(_PREFERRED) or ()]
        if any(
            term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms
        ):
            return True
    return False
