"""Metadata, the same for every kind: names, labels, annotations, owners, finalizers, and what of it may never change."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from machinery.api.scheme import ServedKind
from machinery.api.validation.causes import Causes, go_quote
from machinery.meta import names
from machinery.meta.resource import Document

ANNOTATIONS_BYTES_MAX: Final = 256 * 1024
IMMUTABLE: Final = "field is immutable"
_STANDARD_FINALIZERS: Final = frozenset(
    {"kubernetes", "orphan", "foregroundDeletion", "customresourcecleanup.apiextensions.k8s.io"}
)
NameCheck = Callable[[str], Iterable[str]]


_NAME_CHECKS: Final[Mapping[tuple[str, str], NameCheck]] = {
    ("", "Namespace"): names.dns_label,
    ("", "Service"): names.dns_label,
    ("rbac.authorization.k8s.io", "Role"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRole"): names.path_segment,
    ("networking.k8s.io", "IPAddress"): names.ip_address,
    ("rbac.authorization.k8s.io", "RoleBinding"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): names.path_segment,
}

_VALIDATED_AS_NEW: Final = frozenset(
    {
        ("", "ConfigMap"), ("", "Secret"), ("", "ServiceAccount"), *list(_NAME_CHECKS)[1:],
        ("", "Endpoints"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
    }
)  # fmt: skip
"""Kinds whose update runs the checks of create as well."""


def validate(kind: ServedKind, document: Document, causes: Causes) -> None:
    """The metadata of a new object."""
    metadata = document.get("metadata") or {}
    check = _NAME_CHECKS.get(kind.group_kind, names.dns_subdomain)
    if base := metadata.get("generateName"):
        causes.invalid_each("metadata.generateName", base, check(_as_whole(base)))
    validate_name(kind, metadata, causes)
    namespace = metadata.get("namespace")
    if kind.namespaced:
        if namespace:
            causes.invalid_each("metadata.namespace", namespace, names.dns_label(namespace))
        else:
            causes.required("metadata.namespace")
    elif namespace:
        causes.forbidden("metadata.namespace", "not allowed on this type")
    causes.not_negative("metadata.generation", metadata.get("generation"))
    _common(metadata, causes, slash=kind.dynamic is None)


def validate_name(kind: ServedKind, metadata: Document, causes: Causes) -> None:
    """The name alone."""
    name = metadata.get("name")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
        return
    check = _NAME_CHECKS.get(kind.group_kind, names.dns_subdomain)
    # whatever a kind asks of names, a label is one, unless names are addresses
    if check is names.ip_address or not names.is_dns_label(name):
        causes.invalid_each("metadata.name", name, check(name))


def is_sound(kind: ServedKind, document: Document) -> bool:
    """Whether the metadata of a new object has no fault, the name aside."""
    causes = Causes()
    named = {**(document.get("metadata") or {}), "name": "a"}
    validate(kind, {"metadata": named}, causes)
    return not causes


def validate_update(kind: ServedKind, new: Document, old: Document, causes: Causes) -> None:
    """Metadata on the way from `old` to `new`.

    Upstream looks at it in the generic layer and again in the kind's own validation, and lists each complaint as often; the
    message shows it once, but the causes do not, so they are repeated here in the same number.
    """
    changes, plain = Causes(), Causes()
    _changes(new.get("metadata") or {}, old.get("metadata") or {}, changes)
    _common(new.get("metadata") or {}, plain, slash=kind.dynamic is None)
    if changes or plain:
        causes += [*changes, *plain, *plain, *changes, *plain]
        if kind.group_kind in _VALIDATED_AS_NEW:
            causes += plain


def _changes(metadata: Document, before: Document, causes: Causes) -> None:
    _no_new_finalizers(metadata, before, causes)
    for key in ("name", "namespace", "uid", "creationTimestamp"):
        _immutable(f"metadata.{key}", metadata.get(key), before.get(key), causes)
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        _immutable(f"metadata.{key}", metadata.get(key), before.get(key), causes)
    generation = metadata.get("generation") or 0
    causes.not_negative("metadata.generation", generation)
    if generation < (before.get("generation") or 0):
        causes.invalid("metadata.generation", generation, "must not be decremented")


def _as_whole(base: str) -> str:
    """A base name as if something stood behind it: its trailing dash is no fault."""
    return base[:-2] + "a" if len(base) > 1 and base.endswith("-") else base


def _immutable(field: str, new: Any, old: Any, causes: Causes) -> None:
    if new != old:
        causes.invalid(field, new, IMMUTABLE)


def _no_new_finalizers(metadata: Document, before: Document, causes: Causes) -> None:
    if not before.get("deletionTimestamp"):
        return
    known = set(before.get("finalizers") or ())
    extra = sorted(set(metadata.get("finalizers") or ()) - known)
    if extra:
        shown = "[]string{" + ", ".join(go_quote(one) for one in extra) + "}"
        causes.forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            + shown,
        )


def _common(metadata: Document, causes: Causes, *, slash: bool) -> None:
    if found := metadata.get("labels"):
        labels(found, "metadata.labels", causes)
    if found := metadata.get("annotations"):
        annotations(found, "metadata.annotations", causes)
    if found := metadata.get("ownerReferences"):
        _owners(found, causes)
    if found := metadata.get("finalizers"):
        _finalizers(found, causes, slash=slash)


def labels(found: Mapping[str, str], field: str, causes: Causes) -> None:
    """Keys and values of labels, node selectors and matchLabels."""
    for key, value in found.items():
        causes.invalid_each(field, key, names.qualified_name(key))
        causes.invalid_each(field, value, names.label_value(value))


def annotations(found: Mapping[str, str], field: str, causes: Causes) -> None:
    size = 0
    for key, value in found.items():
        causes.invalid_each(field, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_BYTES_MAX:
        causes.too_long(field, ANNOTATIONS_BYTES_MAX)


def _owners(found: list[Document], causes: Causes) -> None:
    field = "metadata.ownerReferences"
    controller: Document | None = None
    for owner in found:
        _owner(owner, field, causes)
        if not owner.get("controller"):
            continue
        if controller is not None:
            causes.invalid(
                field,
                found,
                'Only one reference can have Controller set to true. Found "true" in references for '
                f"{controller.get('name', '')} and {owner.get('name', '')}",
            )
        controller = controller or owner


def _owner(owner: Document, field: str, causes: Causes) -> None:
    api_version, kind = owner.get("apiVersion", ""), owner.get("kind", "")
    if not api_version:
        causes.invalid(f"{field}.apiVersion", "", "version must not be empty")
    elif api_version.count("/") > 1:
        causes.invalid(
            f"{field}.apiVersion", api_version, f"unexpected GroupVersion string: {api_version}"
        )
    if not kind:
        causes.invalid(f"{field}.kind", "", "must not be empty")
    if not owner.get("name"):
        causes.invalid(f"{field}.name", "", "must not be empty")
    if not owner.get("uid"):
        causes.invalid(f"{field}.uid", "", "must not be empty")
    if (api_version, kind) == ("v1", "Event"):
        causes.invalid(field, owner, "/v1, Kind=Event is disallowed from being an owner")


def _finalizers(found: list[str], causes: Causes, *, slash: bool) -> None:
    """With `slash` a name must have one; custom resources may have any qualified name, as upstream."""
    field = "metadata.finalizers"
    for name in found:
        causes.invalid_each(field, name, names.qualified_name(name))
    if {"orphan", "foregroundDeletion"} <= set(found):
        causes.invalid(field, found, "finalizer foregroundDeletion and orphan cannot be both set")
    for index, name in enumerate(found if slash else ()):
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            causes.invalid(
                f"{field}[{index}]",
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            )
