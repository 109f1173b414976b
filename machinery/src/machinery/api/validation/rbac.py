"""Roles and their bindings."""

from typing import Final

from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.meta import names
from machinery.meta.resource import Document

GROUP: Final = "rbac.authorization.k8s.io"
_SUBJECTS: Final = ("ServiceAccount", "User", "Group")


def role(document: Document, causes: Causes) -> None:
    for index, rule in enumerate(document.get("rules") or ()):
        _rule(rule, f"rules[{index}]", causes, namespaced=True)


def cluster_role(document: Document, causes: Causes) -> None:
    for index, rule in enumerate(document.get("rules") or ()):
        _rule(rule, f"rules[{index}]", causes, namespaced=False)
    aggregation = document.get("aggregationRule")
    if aggregation is None:
        return
    chosen = aggregation.get("clusterRoleSelectors") or []
    if not chosen:
        causes.required(
            "aggregationRule.clusterRoleSelectors",
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        )
    for index, selector in enumerate(chosen):
        where = f"aggregationRule.clusterRoleSelectors[{index}]"
        label_selector(selector, where, causes)


def _rule(rule: Document, field: str, causes: Causes, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        causes.required(f"{field}.verbs", "verbs must contain at least one value")
    urls = rule.get("nonResourceURLs") or []
    groups, found = rule.get("apiGroups") or [], rule.get("resources") or []
    if urls:
        if namespaced:
            causes.invalid(
                f"{field}.nonResourceURLs",
                urls,
                "namespaced rules cannot apply to non-resource URLs",
            )
        if groups or found or rule.get("resourceNames"):
            causes.invalid(
                f"{field}.nonResourceURLs",
                urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            )
        return
    if not groups:
        causes.required(f"{field}.apiGroups", "resource rules must supply at least one api group")
    if not found:
        causes.required(f"{field}.resources", "resource rules must supply at least one resource")


def role_binding(document: Document, causes: Causes) -> None:
    _binding(document, ("Role", "ClusterRole"), causes, namespaced=True)


def cluster_role_binding(document: Document, causes: Causes) -> None:
    _binding(document, ("ClusterRole",), causes, namespaced=False)


def _binding(
    document: Document, kinds: tuple[str, ...], causes: Causes, *, namespaced: bool
) -> None:
    reference = document.get("roleRef") or {}
    if (group := reference.get("apiGroup", "")) != GROUP:
        causes.unsupported("roleRef.apiGroup", group, (GROUP,))
    causes.one_of("roleRef.kind", reference.get("kind", ""), kinds)
    if not (name := reference.get("name")):
        causes.required("roleRef.name")
    else:
        causes.invalid_each("roleRef.name", name, names.path_segment(name))
    for index, subject in enumerate(document.get("subjects") or ()):
        _subject(subject, f"subjects[{index}]", causes, namespaced=namespaced)


def _subject(subject: Document, field: str, causes: Causes, *, namespaced: bool) -> None:
    name, kind, group = (
        subject.get("name", ""),
        subject.get("kind", ""),
        subject.get("apiGroup", ""),
    )
    if not name:
        causes.required(f"{field}.name")
    if kind == "ServiceAccount":
        if name:
            causes.invalid_each(f"{field}.name", name, names.dns_subdomain(name))
        if group:
            causes.unsupported(f"{field}.apiGroup", group, ("",))
        if not namespaced and not subject.get("namespace"):
            causes.required(f"{field}.namespace")
    elif kind in ("User", "Group"):
        if group != GROUP:
            causes.unsupported(f"{field}.apiGroup", group, (GROUP,))
    else:
        causes.unsupported(f"{field}.kind", kind, _SUBJECTS)


def binding_update(new: Document, old: Document, causes: Causes) -> None:
    """What a binding grants never changes, only to whom."""
    reference = new.get("roleRef") or {}
    if reference != (old.get("roleRef") or {}):
        shown = {
            "APIGroup": reference.get("apiGroup", ""),
            "Kind": reference.get("kind", ""),
            "Name": reference.get("name", ""),
        }
        causes.invalid("roleRef", shown, "cannot change roleRef")
