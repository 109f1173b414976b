"""PATCH: from the live object and a patch to the object that is wanted.

JSON patch and merge patch work on any kind, strategic merge patch on built ones; apply is server-side apply, whose merge
is the field managers' business. The result is checked like a body: unknown fields by fieldValidation, types always.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from machinery.api import decode, defaults, syntax
from machinery.api.managed_fields import apply as apply_managed
from machinery.api.patch import echo, gotext, json_patch, merge, restore, strategic
from machinery.api.patch import errors as patch_errors
from machinery.api.scheme import ServedKind
from machinery.meta.errors import BadRequest, UnsupportedMediaType
from machinery.meta.resource import Document
from machinery.server.call import Call

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def unsupported(custom: bool) -> UnsupportedMediaType:
    """415 with what would have been accepted."""
    types = [JSON, MERGE, APPLY] if custom else [JSON, MERGE, STRATEGIC, APPLY]
    return UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(types)
    )


def patcher(
    kind: ServedKind, media: str, body: bytes, name: str, call: Call
) -> Callable[[Document], Document]:
    """The function from the live object to the wanted one, for every type but apply. Raises BadRequest …"""
    shown: Any = None
    twice: tuple[str, ...] = ()
    if media == JSON:
        operations = _parse(body)
        json_patch.check(operations)

        def make(live: Document) -> Any:
            return json_patch.apply(live, operations)

    elif media == MERGE:
        patch, twice = _parse_object(body)
        nulls = b"null" in body

        def make(live: Document) -> Any:
            return merge.apply(live, patch, nulls=nulls)

    elif media == STRATEGIC and not kind.custom:
        patch, twice = _parse_object(body)
        shown = patch

        def make(live: Document) -> Any:
            return strategic.apply(kind.schema_name, live, patch)

    else:
        raise unsupported(kind.custom)

    def wanted(live: Document) -> Document:
        return _checked(kind, live, make(live), shown, twice, name, call)

    return wanted


def _parse(body: bytes) -> Any:
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"error decoding patch: {_go_words(error, body)}") from None
    if syntax.too_deep(patch, body):
        raise BadRequest(f"error decoding patch: {syntax.TOO_DEEP}")
    return patch


def _go_words(error: orjson.JSONDecodeError, body: bytes) -> str:
    if not body.strip() or error.pos >= len(body.rstrip()):
        return "unexpected end of JSON input"
    letter = body.decode("utf-8", "replace")[error.pos : error.pos + 1]
    return f"invalid character '{letter}' looking for beginning of value"


def _parse_object(body: bytes) -> tuple[Any, tuple[str, ...]]:
    """A patch, and the paths of the fields that it gives twice."""
    try:
        document, twice = syntax.parse_json(body)
    except syntax.BadSyntax:
        return _parse(body), ()
    return document, tuple(twice)


def _checked(  # noqa: PLR0913 - all that a complaint may quote
    kind: ServedKind,
    live: Document,
    document: Any,
    shown: Any,
    twice: Sequence[str],
    name: str,
    call: Call,
) -> Document:
    """`shown` is the patch that a complaint quotes; without one it quotes the result."""
    if not isinstance(document, dict):
        document = {}
    metadata = document.get("metadata")
    if isinstance(metadata, dict) or metadata is None:
        check_name((metadata or {}).get("name", ""), name)
    try:
        tidy, warnings = decode.check_fields(kind, document, call.field_validation, live)
    except decode.TooDeep:
        raise
    except BadRequest as error:
        why = restore.complaint(kind.schema_name, document) if shown is not None else ""
        raise patch_errors.unfit_result(
            _quoted(kind, shown, document, live), why or error.message
        ) from None
    doubled = tuple(f'duplicate field "{path}"' for path in twice)
    if doubled and call.field_validation == "Strict":
        text = "strict decoding error: " + ", ".join(doubled)
        raise patch_errors.unfit_result(_quoted(kind, shown, document, live), text)
    call.warnings[:] = (*doubled, *warnings) if call.field_validation != "Ignore" else ()
    return defaults.apply_defaults(kind, tidy)


def _quoted(kind: ServedKind, shown: Any, document: Document, live: Document) -> str:
    if shown is not None:
        return gotext.text(shown)
    return (
        orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()
        if kind.custom
        else echo.text(kind.schema_name, document, live)
    )


def check_name(given: Any, name: str) -> None:
    """The object in a body must be the one in the URL."""
    if not given:
        raise BadRequest(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if given != name:
        raise BadRequest(
            f"the name of the object ({given}) does not match the name on the URL ({name})"
        )


def applier(
    kind: ServedKind, applied: Document, call: Call, force: bool, time: str, subresource: str
) -> Callable[[Document | None], Document]:
    """Server-side apply of a decoded configuration onto the live object, or onto none."""

    def wanted(live: Document | None) -> Document:
        merged = apply_managed(kind, live, applied, call.manager, force, time, subresource)
        tidy, _ = decode.check_fields(kind, merged, "Ignore")
        return defaults.apply_defaults(kind, tidy)

    return wanted
