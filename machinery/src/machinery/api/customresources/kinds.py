"""A CustomResourceDefinition as kinds: one for each served version, the preferred one first, the others faces of it."""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.scheme import (
    Column,
    Convert,
    Custom,
    ScalePaths,
    ServedKind,
    Subresource,
    version_priority,
)
from machinery.meta.resource import Document

VERBS: Final = (
    "delete", "deletecollection", "get", "list", "patch", "create", "update", "watch",
)  # fmt: skip
_ANYTHING: Final[Mapping[str, Any]] = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
}


def condition_is_true(definition: Document, kind: str) -> bool:
    """Whether a condition of the definition holds."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def kinds_of(definition: Document, convert: Convert | None = None) -> tuple[ServedKind, ...]:
    """What an established definition has served; nothing of any other. They share one `Custom`, whose objects `convert` converts."""
    if not condition_is_true(definition, "Established"):
        return ()
    spec = definition["spec"]
    versions = sorted(spec["versions"], key=lambda version: version_priority(version["name"]))
    custom = Custom(
        definition["metadata"]["name"],
        next(version["name"] for version in versions if version["storage"]),
        {version["name"]: _schema(version) for version in versions},
        tuple(dict.fromkeys(path for version in versions for path in _selectable(version))),
        condition_is_true(definition, "Terminating"),
        convert=convert,
    )
    served = [version for version in versions if version["served"]]
    return tuple(_kind(definition, custom, version, served[0]["name"]) for version in served)


def _schema(version: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = (version.get("schema") or {}).get("openAPIV3Schema")
    return _ANYTHING if found is None else found


def _kind(definition: Document, custom: Custom, version: Document, preferred: str) -> ServedKind:
    spec, names = definition["spec"], definition["status"]["acceptedNames"]
    group, name, kind = spec["group"], version["name"], names["kind"]
    parts = version.get("subresources") or {}
    scale = parts.get("scale")
    gvk = {"group": group, "version": name, "kind": kind}
    return ServedKind(
        group, name, kind, names["plural"], names.get("singular") or kind.lower(),
        spec["scope"] == "Namespaced",
        f"{'.'.join(reversed(group.split('.')))}.{name}.{kind}",
        tuple(names.get("shortNames") or ()),
        tuple(names.get("categories") or ()),
        verbs=VERBS,
        subresources=_subresources(kind, parts),
        schema={**custom.schemas[name], "x-kubernetes-group-version-kind": [gvk]},
        custom=True,
        columns=tuple(_column(row) for row in version.get("additionalPrinterColumns") or ()),
        has_status=parts.get("status") is not None,
        deprecated=_deprecation(spec, version) if version.get("deprecated") else "",
        stored_as=None if name == preferred else (group, preferred),
        dynamic=custom,
        selectable=_selectable(version),
        scale=None if scale is None else ScalePaths(
            scale["specReplicasPath"], scale["statusReplicasPath"],
            scale.get("labelSelectorPath") or "",
        ),
        list_name=names.get("listKind") or "",
    )  # fmt: skip


def _selectable(version: Document) -> tuple[str, ...]:
    return tuple(row["jsonPath"].lstrip(".") for row in version.get("selectableFields") or ())


def _subresources(kind: str, parts: Mapping[str, Any]) -> tuple[Subresource, ...]:
    found = []
    if parts.get("status") is not None:
        found.append(Subresource("status", kind, verbs=("get", "patch", "update")))
    if parts.get("scale") is not None:
        verbs = ("get", "patch", "update")
        found.append(Subresource("scale", "Scale", "autoscaling", "v1", verbs=verbs))
    return tuple(found)


def _column(row: Mapping[str, Any]) -> Column:
    return Column(
        row["name"], row["type"], row["jsonPath"], row.get("priority") or 0,
        row.get("description") or "", row.get("format") or "",
    )  # fmt: skip


def _deprecation(spec: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    """The warning of a deprecated version: its own, or one that names a better version."""
    if own := version.get("deprecationWarning"):
        return str(own)
    group, kind = spec["group"], spec["names"]["kind"]
    better = [
        other["name"]
        for other in spec["versions"]
        if other["served"]
        and not other.get("deprecated")
        and version_priority(other["name"]) < version_priority(version["name"])
    ]
    text = f"{group}/{version['name']} {kind} is deprecated"
    if not better:
        return text
    return f"{text}; use {group}/{min(better, key=version_priority)} {kind}"
