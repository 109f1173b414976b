"""Steps of a JSON patch (RFC 6902: add, replace, remove) on a copy, with the complaints that Karmada's users read.

Another patch than the API's (`machinery.api.patch`): overrides replace only what is there, and say in the library's words
what was not. Negative indices count from the end.
"""

from collections.abc import Iterable
from typing import Any

from federation.propagation.overrides.errors import OverrideError, PointerError

Step = tuple[str, str, Any]
"""Operator, path, value."""

_MISSING = "missing value"
_BAD_INDEX = "invalid index referenced"


class _Misfit(Exception):
    """Why a step does not fit its container."""


def apply(document: Any, steps: Iterable[Step]) -> Any:
    """The document after all steps; the input is left as it is. Raises OverrideError."""
    for operator, path, value in steps:
        document = _applied(document, operator, path, value)
    return document


def resolve(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901). Raises PointerError."""
    here = document
    for token in tokens(pointer):
        if isinstance(here, dict):
            if token not in here:
                raise PointerError(f'object has no key "{token}"')
            here = here[token]
        elif isinstance(here, list):
            if not token.isdecimal():
                raise PointerError(f'strconv.Atoi: parsing "{token}": invalid syntax')
            if int(token) >= len(here):
                last = len(here) - 1
                raise PointerError(f"index out of bounds array[0,{last}] index '{token}'")
            here = here[int(token)]
        else:
            raise PointerError(f'invalid token reference "{token}"')
    return here


def tokens(pointer: str) -> list[str]:
    """The steps of a JSON pointer. Raises PointerError where it does not begin with a slash."""
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise PointerError('JSON pointer must be empty or start with a "/"')
    return [_unescaped(token) for token in pointer.split("/")[1:]]


def _unescaped(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")


def _applied(document: Any, operator: str, path: str, value: Any) -> Any:
    if not path and operator in ("add", "replace"):
        return value
    parts = [_unescaped(token) for token in path.split("/")[1:]]
    if not parts or not _leads(document, parts[:-1]):
        if operator == "replace":
            raise OverrideError(
                f"replace operation does not apply: doc is missing path: {path}: {_MISSING}"
            )
        raise OverrideError(
            f'{operator} operation does not apply: doc is missing path: "{path}": {_MISSING}'
        )
    try:
        return _changed(document, parts, operator, value)
    except _Misfit as misfit:
        if operator == "replace":
            raise OverrideError(
                f"replace operation does not apply: doc is missing key: {path}: {_MISSING}"
            ) from None
        raise OverrideError(f"error in {operator} for path: '{path}': {misfit}") from None


def _leads(document: Any, parts: list[str]) -> bool:
    """Whether there is a container at the path."""
    here = document
    for part in parts:
        try:
            here = _member(here, part)
        except _Misfit:
            return False
    return isinstance(here, dict | list) or not parts


def _member(holder: Any, part: str) -> Any:
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    if isinstance(holder, list):
        return holder[_index(part, len(holder))]
    raise _Misfit(_MISSING)


def _changed(holder: Any, parts: list[str], operator: str, value: Any) -> Any:
    """A copy along the path."""
    part = parts[0]
    if isinstance(holder, dict):
        copy = dict(holder)
        if len(parts) > 1:
            copy[part] = _changed(copy[part], parts[1:], operator, value)
        else:
            _in_object(copy, part, operator, value)
        return copy
    if isinstance(holder, list):
        items = list(holder)
        if len(parts) > 1:
            index = _index(part, len(items))
            items[index] = _changed(items[index], parts[1:], operator, value)
        else:
            _in_list(items, part, operator, value)
        return items
    raise _Misfit("invalid value, expected object")


def _in_object(holder: dict[str, Any], key: str, operator: str, value: Any) -> None:
    if operator == "remove":
        if key not in holder:
            raise _Misfit(f"unable to remove nonexistent key: {key}: {_MISSING}")
        del holder[key]
    elif operator == "replace" and key not in holder:
        raise _Misfit(_MISSING)
    else:
        holder[key] = value


def _in_list(items: list[Any], key: str, operator: str, value: Any) -> None:
    if operator == "add":
        items.insert(len(items) if key == "-" else _index(key, len(items) + 1), value)
    elif operator == "remove":
        del items[_index(key, len(items))]
    else:
        items[_index(key, len(items))] = value


def _index(part: str, length: int) -> int:
    try:
        index = int(part)
    except ValueError:
        raise _Misfit(
            f"value was not a proper array index: '{part}': strconv.Atoi: parsing \"{part}\": invalid syntax"
        ) from None
    if not -length <= index < length:
        raise _Misfit(f"Unable to access invalid index: {index}: {_BAD_INDEX}")
    return index + length if index < 0 else index
