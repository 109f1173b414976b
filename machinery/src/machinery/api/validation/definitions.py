"""Whether a CustomResourceDefinition may be stored: names, versions, subresources, conversion; the schema is definition_schemas.py's.

What is the same in all versions is told as if it stood once above them (`spec.validation`, `spec.subresources` …), for that is
the form in which upstream judges.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from machinery.api import jsonpath
from machinery.api.customresources.naming import APPROVAL, is_protected
from machinery.api.validation import listed
from machinery.api.validation.causes import Causes
from machinery.api.validation.definition_schemas import validate_schema
from machinery.api.validation.webhooks import REVIEW_VERSIONS, client_config
from machinery.meta import names
from machinery.meta.resource import Document

_SHARED: Final = {
    "schema": "validation",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}
"""A version's part, and what it is called where all versions share it."""
_COLUMN_TYPES: Final = ("integer", "number", "string", "boolean", "date")
_COLUMN_FORMATS: Final = ("int32", "int64", "float", "double", "byte", "date", "date-time", "password")  # fmt: skip
SELECTABLE_MAX: Final = 8


def definition(document: Document, causes: Causes) -> None:
    """A new one."""
    _definition(document, causes, ())


def _definition(document: Document, causes: Causes, before: Sequence[Any]) -> None:
    """`before`: the schemas that it had."""
    spec = document.get("spec") or {}
    wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    name = document["metadata"].get("name", "")
    if name and name != wanted:
        causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    _spec(spec, causes, before)
    _stored(document, causes)
    _approved(document, causes)


def definition_update(new: Document, old: Document, causes: Causes) -> None:
    """A changed one: what objects hang on stays once it is established."""
    versions = (old.get("spec") or {}).get("versions") or ()
    _definition(new, causes, [one.get("schema") for one in versions])
    status = old.get("status") or {}
    established = any(
        c.get("type") == "Established" and c.get("status") == "True"
        for c in status.get("conditions") or ()
    )
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    fixed = [("group", spec, before)]
    if established:
        fixed.append(("scope", spec, before))
        pair = (spec.get("names") or {}, before.get("names") or {})
        fixed.append(("plural", *pair))
        fixed.append(("kind", *pair))
    for key, now, was in fixed:
        if now.get(key) != was.get(key):
            at = f"spec.names.{key}" if key in ("plural", "kind") else f"spec.{key}"
            causes.invalid(at, now.get(key), "field is immutable")


# ----------------------------------------------------------------------------------------------------------------- spec
def _spec(spec: Document, causes: Causes, before: Sequence[Any]) -> None:
    group = spec.get("group") or ""
    if not group:
        causes.required("spec.group")
    elif faults := names.dns_subdomain(group):
        causes.invalid("spec.group", group, ",".join(faults))
    elif "." not in group:
        causes.invalid("spec.group", group, "should be a domain with at least one dot")
    if not spec.get("scope"):
        causes.required("spec.scope")
    else:
        causes.one_of("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        text = 'cannot set to true, set x-preserve-unknown-fields to true in spec.versions[*].schema instead'  # fmt: skip
        causes.invalid("spec.preserveUnknownFields", True, text)
    versions = spec.get("versions") or []
    shared = {key for key in _SHARED if all(v.get(key) == versions[0].get(key) for v in versions)}
    _versions(versions, shared, causes, before)
    _names(spec.get("names") or {}, causes)
    for key in _SHARED:
        if versions and key in shared:
            schema = (versions[0].get("schema") or {}).get("openAPIV3Schema") or {}
            _part(key, versions[0].get(key), schema, f"spec.{_SHARED[key]}", causes, before)
    _conversion(spec.get("conversion") or {}, causes)


def _versions(
    versions: Sequence[Document], shared: set[str], causes: Causes, before: Sequence[Any]
) -> None:
    for index, version in enumerate(versions):
        at = f"spec.versions[{index}]"
        name = version.get("name", "")
        if faults := names.dns_1035_label(name):
            causes.invalid(f"{at}.name", name, ",".join(faults))
        if (warning := version.get("deprecationWarning")) is not None:
            if not version.get("deprecated"):
                text = "can only be set for deprecated versions"
                causes.invalid(f"{at}.deprecationWarning", warning, text)
            elif not warning or len(warning) > 256:
                text = "must be between 1 and 256 characters"
                causes.invalid(f"{at}.deprecationWarning", warning, text)
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            causes.required(f"{at}.schema.openAPIV3Schema", "schemas are required")
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        for key in _SHARED:
            if key not in shared:
                _part(key, version.get(key), schema, f"{at}.{key}", causes, before)
    told = [_told(version, shared) for version in versions]
    if len({version.get("name") for version in versions}) < len(versions):
        causes.invalid("spec.versions", told, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        causes.invalid("spec.versions", told, text)


def _told(version: Document, shared: set[str]) -> Document:
    """A version as Go shows it."""
    parts = {key: None if key in shared else version.get(key) for key in _SHARED}
    return {
        "Name": version.get("name", ""),
        "Served": bool(version.get("served")),
        "Storage": bool(version.get("storage")),
        "Deprecated": bool(version.get("deprecated")),
        "DeprecationWarning": version.get("deprecationWarning"),
        "Schema": parts["schema"],
        "Subresources": parts["subresources"],
        "AdditionalPrinterColumns": parts["additionalPrinterColumns"],
        "SelectableFields": parts["selectableFields"],
    }


def _names(found: Document, causes: Causes) -> None:
    """`plural`, `singular` and short names are labels; a kind is one too, but for its capitals."""
    for key in ("plural", "singular", "kind", "listKind"):
        if not found.get(key):
            causes.required(f"spec.names.{key}")
    for key in ("plural", "singular"):
        if (value := found.get(key)) and (faults := names.dns_1035_label(value)):
            causes.invalid(f"spec.names.{key}", value, ",".join(faults))
    for index, value in enumerate(found.get("shortNames") or ()):
        if faults := names.dns_1035_label(value):
            causes.invalid(f"spec.names.shortNames[{index}]", value, ",".join(faults))
    for key in ("kind", "listKind"):
        if (value := found.get(key)) and (faults := names.dns_1035_label(value.lower())):
            text = f"may have mixed case, but should otherwise match: {','.join(faults)}"
            causes.invalid(f"spec.names.{key}", value, text)
    if found.get("kind") and found.get("kind") == found.get("listKind"):
        causes.invalid(
            "spec.names.listKind", found["kind"], "kind and listKind may not be the same"
        )
    for index, value in enumerate(found.get("categories") or ()):
        if faults := names.dns_1035_label(value):
            causes.invalid(f"spec.names.categories[{index}]", value, ",".join(faults))


def _part(
    key: str,
    part: Any,
    schema: Mapping[str, Any],
    path: str,
    causes: Causes,
    before: Sequence[Any],
) -> None:
    if not part:
        return
    if key == "schema":
        if (found := part.get("openAPIV3Schema")) is not None:
            validate_schema(found, f"{path}.openAPIV3Schema", causes, unchanged=part in before)
    elif key == "subresources":
        _scale(part.get("scale"), f"{path}.scale", causes)
    elif key == "additionalPrinterColumns":
        for index, column in enumerate(part):
            _column(column, f"{path}[{index}]", causes)
    else:
        _selectable(part, schema, path, causes)


def _scale(scale: Document | None, path: str, causes: Causes) -> None:
    if scale is None:
        return
    for key, below, needed in (
        ("specReplicasPath", ".spec", True),
        ("statusReplicasPath", ".status", True),
        ("labelSelectorPath", ".spec or .status", False),
    ):
        value = scale.get(key) or ""
        if not value:
            if needed:
                causes.required(f"{path}.{key}")
            continue
        roots = below.split(" or ")
        if not any(value.startswith(f"{root}.") for root in roots) or "[" in value:
            text = f"should be a json path under {'either ' if len(roots) > 1 else ''}{below}"
            causes.invalid(f"{path}.{key}", value, text)


def _column(column: Document, path: str, causes: Causes) -> None:
    for key in ("name", "type"):
        if not column.get(key):
            causes.required(f"{path}.{key}")
    if kind := column.get("type"):
        causes.one_of(f"{path}.type", kind, _COLUMN_TYPES)
    if form := column.get("format"):
        causes.one_of(f"{path}.format", form, _COLUMN_FORMATS)
    found = column.get("jsonPath") or ""
    if not found:
        causes.required(f"{path}.JSONPath")


def _selectable(
    fields: Sequence[Document], schema: Mapping[str, Any], path: str, causes: Causes
) -> None:
    if len(fields) > SELECTABLE_MAX:
        causes.too_many(path, len(fields), SELECTABLE_MAX)
    seen: set[str] = set()
    for index, one in enumerate(fields):
        at, found = f"{path}[{index}].jsonPath", one.get("jsonPath") or ""
        if not found:
            causes.required(at)
            continue
        fault = _selectable_fault(schema, found)
        if fault:
            causes.invalid(at, found, fault)
        if found in seen:
            causes.duplicate(at, found)
        seen.add(found)


def _selectable_fault(schema: Mapping[str, Any], path: str) -> str:
    try:
        jsonpath.compile_path(path)
    except ValueError as error:
        return f"is an invalid path: {error}"
    node: Mapping[str, Any] = schema
    for step in path.removeprefix(".").split("."):
        inner = (node.get("properties") or {}).get(step)
        if inner is None:
            return "is an invalid path: does not refer to a valid field"
        node = inner
    if path.startswith(".metadata"):
        return "must not point to fields in metadata"
    if node.get("type") not in ("string", "boolean", "integer"):
        return "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
    return ""


def _conversion(conversion: Document, causes: Causes) -> None:
    strategy = conversion.get("strategy") or ""
    webhook = conversion.get("webhook") or {}
    config, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    at = "spec.conversion"
    if not strategy:
        causes.required(f"{at}.strategy")
    causes.one_of(f"{at}.strategy", strategy or "None", ("None", "Webhook"))
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        for name, value in (
            ("webhookClientConfig", config),
            ("conversionReviewVersions", versions),
        ):
            if value:
                causes.forbidden(f"{at}.{name}", text)
        return
    if config is None:
        causes.required(f"{at}.webhookClientConfig", "required when strategy is set to Webhook")
    else:
        client_config(config, f"{at}.webhookClientConfig", causes)
        _bundle(config.get("caBundle"), f"{at}.webhookClientConfig.caBundle", causes)
    _review_versions(versions, f"{at}.conversionReviewVersions", causes)


def _bundle(bundle: str | None, field: str, causes: Causes) -> None:
    """Certificates in PEM, as far as their frame says."""
    if not bundle:
        return
    try:
        text = base64.b64decode(bundle, validate=True)
    except binascii.Error:
        text = b""
    if b"-----BEGIN CERTIFICATE-----" not in text or b"-----END CERTIFICATE-----" not in text:
        told = "unable to load root certificates: unable to parse bytes as PEM block"
        causes.invalid(field, bundle, told)


def _review_versions(versions: Sequence[str], field: str, causes: Causes) -> None:
    if not versions:
        causes.required(field)
        return
    accepted = ", ".join(REVIEW_VERSIONS)
    none = f"none of the versions accepted by this server. accepted version(s) are {accepted}"
    listed.review_versions(versions, REVIEW_VERSIONS, field, none, causes)


# --------------------------------------------------------------------------------------------------------------- status
def _stored(document: Document, causes: Causes) -> None:
    """Nothing may lie in a version that is no more, and the storage version is among those that things lie in."""
    stored = (document.get("status") or {}).get("storedVersions") or []
    versions = (document.get("spec") or {}).get("versions") or ()
    known = {version.get("name") for version in versions}
    storage = [version.get("name", "") for version in versions if version.get("storage")]
    if not stored:
        causes.invalid("status.storedVersions", stored, "must have at least one stored version")
        return
    for name in storage:
        if name not in stored:
            causes.invalid("status.storedVersions", stored, f"must have the storage version {name}")
    for index, name in enumerate(stored):
        if name not in known:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions "
                f"until a storage migration ensures no data remains persisted in {name} and removes {name} from "
                "status.storedVersions"
            )
            causes.invalid(f"status.storedVersions[{index}]", name, text)


def _approved(document: Document, causes: Causes) -> None:
    group = (document.get("spec") or {}).get("group") or ""
    if not is_protected(group):
        return
    if not (document["metadata"].get("annotations") or {}).get(APPROVAL):
        text = (
            'protected groups must have approval annotation "api-approved.kubernetes.io", see '
            "https://github.com/kubernetes/enhancements/pull/1111"
        )
        causes.required(f"metadata.annotations[{APPROVAL}]", text)
