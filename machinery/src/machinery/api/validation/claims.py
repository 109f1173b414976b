"""PersistentVolumeClaims: how much of what storage, and what of it may change."""

from typing import Final

from machinery.api.validation import internal
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.meta import names, quantity
from machinery.meta.resource import Document

_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES: Final = ("Block", "Filesystem")
_SPEC: Final = "io.k8s.api.core.v1.PersistentVolumeClaimSpec"
_FIXED: Final = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def volume_claim(document: Document, causes: Causes) -> None:
    claim_spec(document.get("spec") or {}, "spec", causes)


def claim_spec(spec: Document, field: str, causes: Causes) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        causes.required(f"{field}.accessModes", "at least 1 access mode is required")
    label_selector(spec.get("selector"), f"{field}.selector", causes)
    for mode in modes:
        causes.one_of(f"{field}.accessModes", mode, _MODES)
    if "ReadWriteOncePod" in modes and set(modes) != {"ReadWriteOncePod"}:
        causes.forbidden(
            f"{field}.accessModes", "may not use ReadWriteOncePod with other access modes"
        )
    _storage((spec.get("resources") or {}).get("requests") or {}, field, causes)
    if name := spec.get("storageClassName"):
        causes.invalid_each(f"{field}.storageClassName", name, names.dns_subdomain(name))
    if (mode := spec.get("volumeMode")) is not None:
        causes.one_of(f"{field}.volumeMode", mode, _VOLUME_MODES)
    for key in ("dataSource", "dataSourceRef"):
        if (source := spec.get(key)) is not None:
            _source(source, f"{field}.{key}", causes)
    if name := spec.get("volumeAttributesClassName"):
        causes.invalid_each(f"{field}.volumeAttributesClassName", name, names.dns_subdomain(name))


def _storage(requests: Document, field: str, causes: Causes) -> None:
    where = f"{field}.resources[storage]"
    asked = requests.get("storage")
    if asked is None:
        causes.required(where)
    elif quantity.quantity_of(asked).value <= 0:
        causes.invalid(where, quantity.canonical_of(asked), "must be greater than zero")


def _source(source: Document, field: str, causes: Causes) -> None:
    for key in ("name", "kind"):
        if not source.get(key):
            causes.required(f"{field}.{key}")
    if not source.get("apiGroup") and source.get("kind") not in ("", None, "PersistentVolumeClaim"):
        causes.invalid(
            field,
            source.get("kind"),
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        )


def volume_claim_update(new: Document, old: Document, causes: Causes) -> None:
    volume_claim(new, causes)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    bound = (old.get("status") or {}).get("phase") == "Bound"
    compared = dict(before)
    if not before.get("volumeName") and after.get("volumeName"):
        compared["volumeName"] = after["volumeName"]
    if bound:
        compared = _following(compared, after)
        _not_less(after, before, causes)
    if compared != after:
        causes.forbidden("spec", f"{_FIXED}\n{internal.struct_diff(_SPEC, after, before)}")


def _following(spec: Document, other: Document) -> Document:
    """The spec with the requests and the attributes class of the other one."""
    out = {**spec, "resources": {**(spec.get("resources") or {})}}
    for key in ("requests",):
        if key in (other.get("resources") or {}):
            out["resources"][key] = other["resources"][key]
    if name := other.get("volumeAttributesClassName"):
        out["volumeAttributesClassName"] = name
    return out


def _not_less(after: Document, before: Document, causes: Causes) -> None:
    sizes = [
        quantity.quantity_of(((s.get("resources") or {}).get("requests") or {}).get("storage", 0))
        for s in (after, before)
    ]
    if sizes[0].value < sizes[1].value:
        causes.forbidden(
            "spec.resources.requests.storage", "field can not be less than status.capacity"
        )
