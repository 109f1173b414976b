"""What the mutations of a policy make of an object: apply configurations merged, JSON patches applied. Pure; upstream's complaints.

Nobody owns what a policy sets. A configuration may not name atomic lists, maps or structures, because whatever it leaves
out of one would be gone.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

from machinery.api import structure
from machinery.api.expressions import compiling
from machinery.api.managed_fields import typed
from machinery.api.managed_fields.merging import has_null, merged, without_marks
from machinery.api.patch import json_patch
from machinery.api.scheme import ServedKind
from machinery.api.structure import Shape
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document


class Unfit(Exception):
    """The mutation has no place in the object; the message is upstream's."""


def applied(kind: ServedKind, before: Document, made: Any) -> Document:
    """With an apply configuration (the value of an expression) merged in. Raises Unfit."""
    patch = _plain(made)
    if not isinstance(patch, dict):
        raise Unfit(f"unsupported return type from ApplyConfiguration expression: {patch}")
    patch = {**patch, "apiVersion": before.get("apiVersion"), "kind": before.get("kind")}
    shape = structure.of_kind(kind)
    if faults := typed.faults(patch, shape):
        text = faults[0] if len(faults) == 1 else "\n  ".join(["errors:", *faults])
        raise Unfit(f"error applying patch: failed to convert patch object to typed object: {text}")
    if atomics := list(_atomics(patch, shape, "")):
        raise Unfit(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
            + ", ".join(atomics)
        )
    result: Document = merged(before, patch, shape)
    return without_marks(result) if has_null(patch) else result


def _atomics(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(value, dict) and shape.type == "object":
        if shape.atomic:
            yield path
        for key, inner in value.items():
            if shape.fields is not None and key in shape.fields:
                yield from _atomics(inner, shape.fields[key], f"{path}.{key}")
    elif isinstance(value, list) and shape.type == "array":
        if shape.atomic:
            yield path
        for index, inner in enumerate(value):
            yield from _atomics(inner, shape.item, f"{path}[{index}]")


def patched(before: Document, made: Any) -> Document:
    """With a JSON patch (the value of an expression) applied; the same where one of its tests fails. Raises Unfit."""
    operations = _plain(made)
    if not isinstance(operations, list):
        raise Unfit("type mismatch: JSONPatchType.expression should evaluate to array")
    document: Any = before
    for operation in operations:
        step = {key: value for key, value in operation.items() if key != "from" or value}
        try:
            document = json_patch.apply(document, [step])
        except StatusError as error:
            if step.get("op") == "test":
                return before
            raise Unfit(f"JSONPath: {error.message}") from None
    if not isinstance(document, dict):
        raise Unfit("JSONPath: the patch leaves no object")
    return document


def _plain(made: Any) -> Any:
    try:
        found = compiling.plain(made)
    except compiling.Mismatch as error:
        raise Unfit(str(error)) from None
    _check_document(found)
    return found


_UNSAYABLE: Final = "JSONPath valueExpression evaluated to a type that could not marshal to JSON"


def _check_document(value: Any) -> None:
    """Raises Unfit for what no document can hold."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise Unfit(_UNSAYABLE)
            _check_document(one)
    elif isinstance(value, list):
        for one in value:
            _check_document(one)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(_UNSAYABLE)
    elif value is not None and not isinstance(value, (str, int, bool)):
        raise Unfit(_UNSAYABLE)
