"""JSON merge patch (RFC 7386), with the one habit of upstream's library that clients can see.

Nulls inside objects that are new to the document vanish, also inside lists: the patched object never carries a null that
the patch meant as a deletion.
"""

from collections.abc import Callable
from typing import Any

from machinery.api.patch import gotext
from machinery.api.patch.errors import malformed
from machinery.meta.resource import Document


def apply(document: Document, patch: Any, *, nulls: bool = True) -> Document:
    """The document with the patch merged in. `nulls`: it may have some; the parts of one that has none are taken as they are."""
    if not isinstance(patch, dict):
        raise malformed(
            f"error decoding patch: json: cannot unmarshal {gotext.type_name(patch)}"
            " into Go value of type map[string]interface {}"
        )
    return _merge(document, patch, without_nulls if nulls else _itself)


def _merge(document: Document, patch: Document, taken: Callable[[Any], Any]) -> Document:
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
            continue
        current = result.get(key)
        if isinstance(value, dict) and isinstance(current, dict):
            result[key] = _merge(current, value, taken)
        else:
            result[key] = taken(value)
    return result


def _itself(value: Any) -> Any:
    return value


def without_nulls(value: Any) -> Any:
    """The value without null members, at any depth."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) if isinstance(v, (dict, list)) else v for v in value]
    return value
