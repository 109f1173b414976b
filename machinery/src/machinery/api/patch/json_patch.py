"""JSON patch (RFC 6902) by path-copy, with the habits of upstream's library.

Habits that clients may lean on: the first step of a path is ignored (`spec/replicas` sets `/replicas`), negative indices
count from the end, `replace` of a missing map key sets it, `add` without a value sets null, `test` of a missing member
against null holds. Everything that does not fit is one answer, 422, without the reason.
"""

from typing import Any, TypeAlias

import orjson

from machinery.api.patch import errors, gotext
from machinery.api.syntax import DEPTH_MAX
from machinery.meta.resource import Document

_FIELDS = ("op", "path", "from")
_OPERATION = "handlers.jsonPatchOp"
_APPENDING = "-"


Mine: TypeAlias = dict[int, Any]
"""Maps and lists that were copied for this patch, by identity, and held so that it stays theirs: each is copied once, or ten
thousand operations on a list of a hundred thousand would copy it as often."""


class _Unfit(Exception):
    """An operation has no place in the document."""


def check(operations: Any) -> list[Document]:
    """The operations, if they are a list of objects of the right size; BadRequest or TooLarge otherwise."""
    if not isinstance(operations, list):
        raise _undecodable(operations, f"value of type []{_OPERATION}")
    for operation in operations:
        if not isinstance(operation, dict):
            raise _undecodable(operation, f"value of type {_OPERATION}")
        for name in _FIELDS:
            value = operation.get(name)
            if value is not None and not isinstance(value, str):
                raise _undecodable(value, f"struct field jsonPatchOp.{name} of type string")
    if len(operations) > errors.JSON_PATCH_OPERATIONS_MAX:
        raise errors.too_many_operations(len(operations))
    return operations


def _undecodable(value: Any, target: str) -> Exception:
    return errors.malformed(
        f"error decoding patch: json: cannot unmarshal {gotext.type_name(value)} into Go {target}"
    )


def apply(document: Document, operations: Any) -> Any:
    """The document after all operations; none of them applies when one does not fit."""
    result: Any = document
    copied = 0
    mine: Mine = {}
    try:
        for operation in check(operations):
            if operation.get("op") == "copy":
                value = _member(result, _path(operation, "from"))
                copied += _size(value)
                _check_copied(copied)
                _shared(value, mine)
                result = _changed(result, _path(operation), _add, value, mine)
            else:
                result = _step(result, operation, mine)
    except _Unfit:
        raise errors.rejected() from None
    return result


def _size(value: Any) -> int:
    """Bytes of its JSON."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # nested deeper than orjson goes, by copies of copies
        raise _Unfit from None


def _check_copied(size: int) -> None:
    if size > errors.JSON_PATCH_COPY_BYTES_MAX:
        raise _Unfit


def _shared(value: Any, mine: Mine) -> None:
    """From now on it stands in two places, and neither may be changed where it stands."""
    mine.pop(id(value), None)
    if isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            _shared(one, mine)


def _step(document: Any, operation: Document, mine: Mine) -> Any:
    path = _path(operation)
    match operation.get("op"):
        case "add":
            return _changed(document, path, _add, operation.get("value"), mine)
        case "replace":
            value = operation.get("value")
            if path:
                return _changed(document, path, _replace, value, mine)
            if not isinstance(value, (dict, list)):
                raise _Unfit
            return value
        case "remove":
            return _changed(document, path, _remove, None, mine)
        case "move":
            origin = _path(operation, "from")
            value = _member(document, origin)
            document = _changed(document, origin, _remove, None, mine)
            return _changed(document, path, _add, value, mine)
        case "test":
            held = document if not path else _member(document, path)
            if not _same(held, operation.get("value")):
                raise _Unfit
            return document
        case _:
            raise _Unfit


def _path(operation: Document, name: str = "path") -> list[str]:
    """The steps of a pointer; an empty list is the whole document."""
    pointer = operation.get(name)
    if pointer is None:
        raise _Unfit
    if not pointer:
        return []
    steps = pointer.split("/")[1:]
    if not steps or len(steps) > DEPTH_MAX:
        raise _Unfit
    return [step.replace("~1", "/").replace("~0", "~") for step in steps]


def _member(document: Any, path: list[str]) -> Any:
    """The value at a path, None for an absent member of a map."""
    if not path:
        raise _Unfit
    holder = document
    for step in path[:-1]:
        holder = _get(holder, step)
    return _get(holder, path[-1], last=True)


def _get(holder: Any, step: str, *, last: bool = False) -> Any:
    if isinstance(holder, dict):
        found = holder.get(step)
        if found is None and not last:
            raise _Unfit
        return found
    if isinstance(holder, list):
        return holder[_index(step, len(holder))]
    raise _Unfit


def _index(step: str, length: int) -> int:
    """A position among `length`; negative ones count from the end."""
    try:
        index = int(step)
    except ValueError:
        raise _Unfit from None
    if not -length <= index < length:
        raise _Unfit
    return index + length if index < 0 else index


def _changed(document: Any, path: list[str], change: Any, value: Any, mine: Mine) -> Any:
    """The document with the last step of the path changed; copied along the path, but for what is a copy already."""
    if not path:
        raise _Unfit
    copy = _own(document, mine)
    if len(path) == 1:
        change(copy, path[0], value)
    elif isinstance(copy, dict):
        copy[path[0]] = _changed(copy.get(path[0]), path[1:], change, value, mine)
    else:
        index = _index(path[0], len(copy))
        copy[index] = _changed(copy[index], path[1:], change, value, mine)
    return copy


def _own(holder: Any, mine: Mine) -> Any:
    """The map or list itself, if it was copied for this patch; else a copy of it."""
    if id(holder) in mine:
        return holder
    if not isinstance(holder, (dict, list)):
        raise _Unfit
    copy = dict(holder) if isinstance(holder, dict) else list(holder)
    mine[id(copy)] = copy
    return copy


def _add(holder: Any, step: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    elif step == _APPENDING:
        holder.append(value)
    else:
        holder.insert(_index(step, len(holder) + 1), value)


def _replace(holder: Any, step: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    else:
        holder[_index(step, len(holder))] = value


def _remove(holder: Any, step: str, _value: Any) -> None:
    if isinstance(holder, dict):
        if step not in holder:
            raise _Unfit
        del holder[step]
    else:
        del holder[_index(step, len(holder))]


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 is neither true nor 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(v, right[k]) for k, v in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and bool(left == right)
