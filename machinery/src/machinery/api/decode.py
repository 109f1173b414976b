"""Bodies into documents: the door through which everything comes that a client sends.

`decode_body` reads JSON, YAML or protobuf, settles apiVersion and kind, and applies `fieldValidation`: Strict refuses unknown
and duplicate fields, Warn (the default) names them in warnings, Ignore is silent; they are dropped in any case. Wrong types
are always refused. `check_fields` does the same for what a patch produced.

A body of a built kind that needs no tidying is recognised by one msgspec pass over its bytes (see plans.py) and costs the
parse and little more. Own kinds (`custom`) are checked against their own schema here only for unknown fields; their types
are validation's business, as with custom resources upstream.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
import orjson

from machinery.api import plans, schemas, syntax
from machinery.api.conform import Mismatch, Walk
from machinery.api.customresources import pruning
from machinery.api.fieldpath import below, item
from machinery.api.scheme import ServedKind
from machinery.api.validation import structural
from machinery.meta.errors import BadRequest, UnsupportedMediaType, invalid
from machinery.meta.resource import Document, split_api_version

META_NAME: Final = plans.META + "ObjectMeta"
_SCHEME_NAME: Final = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
_STAMP: Final = frozenset({"apiVersion", "kind", "metadata"})
_OLD_NAMES: Final = frozenset({("policy/v1beta1", "Eviction")})
"""Bodies of a version that is no longer served, and still understood."""
_ABSENT: Final = object()
_UNKNOWN_FORMAT: Final = (
    "the body of the request was in an unknown format - accepted media types include:"
    " application/json, application/yaml, application/vnd.kubernetes.protobuf"
)
_CAUSES_MAX: Final = 100
"""How many complaints one answer carries; a hostile body has no end of them."""


class TooDeep(BadRequest):
    """It nests deeper than anything may, and could not even be quoted."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came in, and what the client should be warned of."""

    document: Document
    warnings: tuple[str, ...] = ()


def decode_body(kind: ServedKind, raw: bytes, media_type: str, field_validation: str) -> Decoded:
    """The object in a request's body. Raises BadRequest or UnsupportedMediaType."""
    media = media_type.partition(";")[0].strip().lower()
    if media in ("application/json", ""):
        try:
            document, twice = syntax.parse_json(raw)
        except syntax.BadSyntax as error:
            raise _unrecognized(
                kind, raw, f"couldn't get version/kind; json parse error: {error}"
            ) from None
        complaints = tuple(f'duplicate field "{path}"' for path in twice)
        if not complaints and document.__class__ is dict and _is_tidy(kind, document, raw):
            return Decoded(document)
    elif media == "application/yaml":
        document, complaints = _from_yaml(kind, raw)
    elif media == "application/vnd.kubernetes.protobuf" and not kind.custom:
        document, complaints = _from_protobuf(kind, raw), ()
        if syntax.too_deep(document):
            raise BadRequest(_cannot_be_handled(kind, kind.kind, syntax.TOO_DEEP))
    else:
        raise UnsupportedMediaType(_UNKNOWN_FORMAT)
    return _checked(kind, _envelope(kind, document, raw), complaints, field_validation)


def check_fields(
    kind: ServedKind, document: Document, field_validation: str, live: Document | None = None
) -> tuple[Document, tuple[str, ...]]:
    """A patched object without unknown fields, and the warnings. Raises BadRequest with the bare complaint.

    What the object shares with `live`, the one that was patched, was checked when that was stored: a patch of the status
    is not made to pay for the spec.
    """
    raw = _dumped(document if live is None else _touched(document, live))
    if not kind.custom and _is_quick(kind.schema_name, raw):
        return document, ()
    tidy, unknown = _tidied(kind, document, live)
    complaints = tuple(f'unknown field "{path}"' for path in unknown[:_CAUSES_MAX])
    if complaints and field_validation == "Strict":
        raise BadRequest("strict decoding error: " + ", ".join(complaints))
    return tidy, complaints if field_validation != "Ignore" else ()


def _dumped(touched: Document) -> bytes:
    """Its JSON. Raises TooDeep: patches can nest what no body could."""
    try:
        raw = orjson.dumps(touched)
    except TypeError:  # orjson's own bound
        raise TooDeep(syntax.TOO_DEEP) from None
    if syntax.too_deep(touched, raw):
        raise TooDeep(syntax.TOO_DEEP)
    return raw


def _touched(document: Document, live: Document) -> Document:
    """What of a document is not the very thing that `live` has. Not by `==`: for Python 1, 1.0 and True are equal."""
    found = {key: value for key, value in document.items() if value is not live.get(key, _ABSENT)}
    metadata, before = found.get("metadata"), live.get("metadata")
    if isinstance(metadata, dict) and isinstance(before, dict):
        found["metadata"] = {
            key: value for key, value in metadata.items() if value is not before.get(key, _ABSENT)
        }
    return found


# ------------------------------------------------------------------------------------------------------- the quick way
def _is_tidy(kind: ServedKind, document: Document, raw: bytes) -> bool:
    return (
        not kind.custom
        and document.get("kind") == kind.kind
        and document.get("apiVersion") == kind.api_version
        and _is_quick(kind.schema_name, raw)
    )


@cache
def _decoder(schema_name: str) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(plans.quick_type(schema_name))


@cache
def _kept_falses(schema_name: str) -> "re.Pattern[bytes]":
    names = sorted(plans.kept_when_false(schema_name))
    return re.compile(b'"(?:%b)":false' % "|".join(map(re.escape, names)).encode())


def _is_quick(schema_name: str, raw: bytes) -> bool:
    """Whether the body is already as the server would write it. An explicit `false` may be one that Go leaves out."""
    falses = raw.count(b"false")
    if falses and len(_kept_falses(schema_name).findall(raw)) != falses:
        return False
    try:
        _decoder(schema_name).decode(raw)
    except (
        msgspec.DecodeError,
        RecursionError,
    ):  # numbers out of range as well: the careful way names them
        return False
    return True


# ----------------------------------------------------------------------------------------------------- the careful way
def _checked(
    kind: ServedKind, document: Document, complaints: tuple[str, ...], field_validation: str
) -> Decoded:
    try:
        tidy, unknown = _tidied(kind, document)
    except BadRequest as error:
        raise BadRequest(_cannot_be_handled(kind, kind.kind, error.message)) from None
    complaints += tuple(f'unknown field "{path}"' for path in unknown[:_CAUSES_MAX])
    if complaints and field_validation == "Strict":
        text = "strict decoding error: " + ", ".join(complaints)
        raise BadRequest(_cannot_be_handled(kind, kind.kind, text))
    return Decoded(tidy, complaints if field_validation != "Ignore" else ())


def _tidied(
    kind: ServedKind, document: Document, live: Document | None = None
) -> tuple[Document, list[str]]:
    walk = Walk()
    try:
        if not kind.custom:
            return walk.run(kind.schema_name, document), walk.unknown
        return _custom(kind, document, walk, live or {})
    except Mismatch as error:
        raise BadRequest(str(error)) from None


def _custom(
    kind: ServedKind, document: Document, walk: Walk, live: Document
) -> tuple[Document, list[str]]:
    """An own kind: metadata as everywhere, the rest pruned by its schema, but for what is the very part of `live`."""
    metadata = document.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        raise Mismatch(
            "json: cannot unmarshal "
            + ("array" if isinstance(metadata, list) else "string")
            + " into Go value of type v1.ObjectMeta"
        )
    tidy = metadata or {}
    if not _tidy_metadata(tidy, live.get("metadata")):
        tidy = walk.run(META_NAME, tidy)
    unknown = ["metadata." + path for path in walk.unknown]
    body = {key: value for key, value in document.items() if key not in _STAMP}
    kept = {key: value for key, value in body.items() if value is live.get(key, _ABSENT)}
    touched = {key: value for key, value in body.items() if key not in kept}
    pruned = _pruned(kind, touched, unknown)
    stamp = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": tidy}
    known = {**kept, **pruned}
    return {**stamp, **{key: known[key] for key in body if key in known}}, unknown


def _tidy_metadata(metadata: Document, before: Document | None) -> bool:
    """Whether the metadata needs no walk, but for what is the very part of `before`."""
    if metadata is before:
        return True
    held = before or {}
    touched = {key: value for key, value in metadata.items() if value is not held.get(key, _ABSENT)}
    try:
        raw = orjson.dumps(touched)
    except TypeError:  # nested too deeply, or no JSON at all
        return False
    return _is_quick(META_NAME, raw)


def _pruned(kind: ServedKind, body: Document, unknown: list[str]) -> Document:
    """What the kind knows of a body without apiVersion, kind and metadata."""
    pruned: Document
    if kind.dynamic is not None:
        found: list[str] = []
        pruned = pruning.prune(pruning.without_stamp(schemas.schema_of(kind)), body, found)
        unknown[:] = sorted([*unknown, *found])
        return pruned
    properties = schemas.schema_of(kind).get("properties", {})
    if all(key in properties and structural.plain(properties[key], v) for key, v in body.items()):
        return body
    pruned = prune({"type": "object", "properties": properties}, body, "", unknown)
    return pruned


def prune(schema: Mapping[str, Any], value: Any, path: str, unknown: list[str]) -> Any:
    """What a structural schema knows of a value; the paths of the rest are appended to `unknown`."""
    schema = schemas.resolve(schema)
    if type(value) is list and "items" in schema:
        items = schema["items"]
        return [prune(items, one, item(path, i), unknown) for i, one in enumerate(value)]
    if type(value) is not dict or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    if properties is None:
        if not isinstance(others, Mapping):
            return value
        return {key: prune(others, one, below(path, key), unknown) for key, one in value.items()}
    out: Document = {}
    for key, one in value.items():
        if key in properties:
            out[key] = prune(properties[key], one, below(path, key), unknown)
        else:
            pruning.tell(unknown, path, key)
    return out


# -------------------------------------------------------------------------------------------------- apiVersion and kind
def _from_yaml(kind: ServedKind, raw: bytes) -> tuple[Any, tuple[str, ...]]:
    try:
        document, twice = syntax.parse_yaml(raw)
    except syntax.BadSyntax as error:
        raise _unrecognized(kind, raw, str(error)) from None
    if not twice:
        return document, ()
    return document, ("yaml: unmarshal errors:\n  " + "\n  ".join(twice),)


def _from_protobuf(kind: ServedKind, raw: bytes) -> Document:
    """Its field table is loaded only where clients send protobuf."""
    protobuf = importlib.import_module("machinery.api.protobuf")
    document: Document = protobuf.decode_envelope(raw, kind.kind)
    return document


def _envelope(kind: ServedKind, document: Any, raw: bytes) -> Document:
    """The body as an object of this kind, with apiVersion and kind filled in where a built kind may lack them."""
    if document is None and not kind.custom:
        document = {}
    if type(document) is not dict:
        name = {list: "array", str: "string", bool: "bool"}.get(type(document), "number")
        raise _unrecognized(
            kind,
            raw,
            f"couldn't get version/kind; json parse error: json: cannot unmarshal {name} into Go value of type struct "
            '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }',
        )
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key, ""), (str, type(None))):
            raise _unrecognized(
                kind,
                raw,
                "couldn't get version/kind; json parse error: json: cannot unmarshal "
                f"{_go_name(document[key])} into Go struct field .{key} of type string",
            )
    api_version, name = document.get("apiVersion") or "", document.get("kind") or ""
    if kind.custom:
        _demand_stamp(kind, api_version, name, raw)
    name, api_version = name or kind.kind, api_version or kind.api_version
    if (api_version, name) in _OLD_NAMES:
        api_version = kind.api_version
    if kind.custom and name != kind.kind and api_version == kind.api_version:
        message = f'Invalid value: "{name}": must be {kind.kind}'
        cause = {"reason": "FieldValueInvalid", "message": message, "field": "kind"}
        raise invalid(name, kind.group, _name_of(document), [cause])
    if (name, api_version) != (kind.kind, kind.api_version):
        raise _other_kind(kind, api_version, name)
    return {**document, "apiVersion": api_version, "kind": name}


def _name_of(document: Document) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _go_name(value: Any) -> str:
    return {list: "array", dict: "object", bool: "bool"}.get(type(value), "number")


def _demand_stamp(kind: ServedKind, api_version: str, name: str, raw: bytes) -> None:
    text = raw.decode(errors="replace")
    if not name:
        raise _unrecognized(kind, raw, f"Object 'Kind' is missing in '{text}'")
    if not api_version:
        raise _unrecognized(kind, raw, f"Object 'apiVersion' is missing in '{text}'")


def _other_kind(kind: ServedKind, api_version: str, name: str) -> BadRequest:
    group, version = split_api_version(api_version)
    if name == kind.kind and group == kind.group:
        return BadRequest(
            f"the API version in the data ({api_version}) does not match the expected API version ({kind.api_version})"
        )
    known = any(
        schema.get("x-kubernetes-group-version-kind", [{}])[0]
        == {"group": group, "version": version, "kind": name}
        for schema in schemas.definitions().values()
    )
    if known:
        target = kind.group.partition(".")[0] or "core"
        why = f"converting (v1.{name}) to ({target}.{kind.kind}): unknown conversion"
    else:
        why = (
            f'no kind "{name}" is registered for version "{api_version}" in scheme "{_SCHEME_NAME}"'
        )
    return BadRequest(f'{name} in version "{version}" cannot be handled as a {kind.kind}: {why}')


def _cannot_be_handled(kind: ServedKind, name: str, why: str) -> str:
    return f'{name} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'


def _unrecognized(kind: ServedKind, raw: bytes, why: str) -> BadRequest:
    return BadRequest(
        f"the object provided is unrecognized (must be of type {kind.kind}): {why} ({_summary(raw)})"
    )


def _summary(raw: bytes) -> str:
    """What was sent, cut to 30 bytes; anything that does not begin as an object is shown in hex, as upstream does."""
    if not raw:
        return "<empty>"
    dots = " ..." if len(raw) > 30 else ""
    if raw.startswith(b"{"):
        return raw[:30].decode(errors="replace") + dots
    return raw[:30].hex() + dots
