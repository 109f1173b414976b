"""Strategic merge patch: a merge patch that knows which lists are keyed.

Directives: `$patch` (replace, delete, merge) in a map or as a list item, `$retainKeys`, `$setElementOrder/<list>` and
`$deleteFromPrimitiveList/<list>`. The rules are upstream's, also where they surprise: an item that is new to a keyed list
stands *before* the live ones unless `$setElementOrder` says otherwise; a patch whose type differs from the live value's
replaces it; nulls that match nothing vanish. A patch that makes no sense is a 500 without reason, as upstream answers.
"""

from collections.abc import Sequence
from typing import Any

from machinery.api import structure
from machinery.api.patch import errors, gotext
from machinery.api.patch.ordering import (
    in_place,
    merge_sorted,
    order_like,
    partition,
    validate_order,
)
from machinery.api.structure import UNTYPED, Shape
from machinery.meta.resource import Document

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_NOTHING: frozenset[str] = frozenset()


def apply(schema_name: str, document: Document, patch: Any) -> Document:
    """The document of that definition with the patch merged in."""
    if not isinstance(patch, dict):
        raise errors.malformed(
            f"json: cannot unmarshal {gotext.type_name(patch)} into Go value of type map[string]interface {{}}"
        )
    result = _merge_map(document, patch, structure.of(schema_name))
    # the kind is the endpoint's: upstream pours the result into that struct whatever the patch says
    return result | {key: document[key] for key in ("apiVersion", "kind") if key in document}


def _merge_map(original: Document, patch: Document, shape: Shape) -> Document:
    if _DIRECTIVE in patch:
        return _directed(patch)
    result = dict(original)
    if _RETAIN in patch:
        patch = _retain_keys(result, patch)
    ordered = [key for key in patch if key.startswith(_ORDER)]
    done = {key.removeprefix(_ORDER) for key in ordered} if ordered else _NOTHING
    for key in ordered:
        _merge_ordered(result, patch, key, shape)
    for key, value in patch.items():
        if key in done or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE_FROM):
            _delete_primitives(result, key.removeprefix(_DELETE_FROM), value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value, _field(shape, key))
    return result


def _directed(patch: Document) -> Document:
    directive = patch[_DIRECTIVE]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    raise _unknown_directive(directive, patch)


def _unknown_directive(directive: Any, patch: Document) -> Exception:
    return errors.broken(
        f"unknown patch type: {gotext.text(directive)} in map: {gotext.text(patch)}"
    )


def _field(shape: Shape, name: str) -> Shape:
    fields = shape.fields
    if fields is None:
        return shape.item if shape.type == "object" else UNTYPED
    return fields.get(name, UNTYPED)


def _merged(current: Any, value: Any, shape: Shape) -> Any:
    """One field: merged where both sides are of the same form, taken from the patch otherwise."""
    if isinstance(current, dict) and isinstance(value, dict):
        return value if "replace" in shape.strategies else _merge_map(current, value, shape)
    if isinstance(current, list) and isinstance(value, list):
        return _merge_list(current, value, shape) if "merge" in shape.strategies else value
    return _settled(value)


def _settled(value: Any) -> Any:
    """A part of the patch that is new to the document: without directives and without nulls."""
    if isinstance(value, dict):
        return {
            k: _settled(v)
            for k, v in value.items()
            if v is not None
            and k not in (_DIRECTIVE, _RETAIN)
            and not k.startswith((_ORDER, _DELETE_FROM))
        }
    if isinstance(value, list):
        return [
            _settled(item) for item in value if not _is_directive_only(item) and item is not None
        ]
    return value


def _is_directive_only(item: Any) -> bool:
    """An item that says something of the list, and is none of it."""
    return isinstance(item, dict) and (
        item.get(_DIRECTIVE) == "delete" or (_DIRECTIVE in item and len(item) == 1)
    )


def _retain_keys(result: Document, patch: Document) -> Document:
    """Drops from `result` what the directive does not name; returns the patch without it."""
    kept = patch[_RETAIN]
    rest = {key: value for key, value in patch.items() if key != _RETAIN}
    if not isinstance(kept, list):
        raise errors.malformed("invalid patch format of retainKeys")
    kept = set(map(_scalar, kept))
    for key, value in rest.items():
        if value is None or key.startswith((_ORDER, _DELETE_FROM)):
            continue
        if key not in kept:
            raise errors.malformed("invalid patch format of retainKeys")
    for key in [key for key in result if key not in kept]:
        del result[key]
    return rest


def _delete_primitives(result: Document, name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise errors.malformed("invalid patch format of primitive list")
    live = result.get(name)
    if isinstance(live, list):
        gone = set(map(_scalar, values))
        result[name] = [item for item in live if _scalar(item) not in gone]


def _scalar(value: Any) -> Any:
    """What a value is found by, in time that does not grow with their number; what cannot be one says so."""
    if isinstance(value, (dict, list)):
        raise errors.broken(f"not a scalar in a list of scalars: {gotext.text(value)}")
    return value


def _merge_ordered(result: Document, patch: Document, key: str, shape: Shape) -> None:
    """A list together with the order that the patch wants for it."""
    name = key.removeprefix(_ORDER)
    order, live, wanted = patch[key], result.get(name), patch.get(name)
    if not isinstance(order, list) or not isinstance(wanted, (list, type(None))):
        raise errors.malformed("invalid patch format of setElementOrder list")
    if not isinstance(live, (list, type(None))):
        raise errors.broken(f"expected a []interface {{}}, but received a {gotext.text(live)}")
    field = _field(shape, name)
    validate_order(wanted or [], order, field.merge_key)
    if live is None and wanted is None:
        if name in patch:
            result.pop(name, None)
        return
    if wanted is None:
        if name in patch:
            result.pop(name, None)
            return
        merged: list[Any] = list(live or ())
    elif live is None:
        merged = _settled(wanted)
    else:
        merged = _merge_list(live, wanted, field) if "merge" in field.strategies else wanted
    if in_place(merged, order, field.merge_key, whole=True):
        result[name] = merged
        return
    mine, others = partition(merged, order, field.merge_key)
    mine = order_like(mine, order, field.merge_key)
    result[name] = merge_sorted(others, mine, live or [], field.merge_key)


def _merge_list(original: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if not original and not patch:
        return original
    if not _all_maps(original, patch):
        merged = list(dict.fromkeys([*original, *patch]))
        live, wanted, key = original, patch, ""
    else:
        key = shape.merge_key
        if not key:
            raise errors.broken(f"cannot merge lists without merge key for {gotext.text(patch)}")
        live, wanted = _special_items(original, patch, key)
        merged = _merge_items(live, wanted, key, shape.item)
    if len(merged) == len(live) and in_place(live, wanted, key):
        return merged
    mine, others = partition(merged, wanted, key)
    return merge_sorted(order_like(others, live, key), order_like(mine, wanted, key), live, key)


def _all_maps(original: Sequence[Any], patch: Sequence[Any]) -> bool:
    """Whether the elements are maps (True) or scalars (False); mixed lists and lists of lists are refused."""
    kinds = {type(item) for item in (*original, *patch)}
    if list in kinds:
        raise errors.rejected()  # lists of lists are not supported
    if len(kinds) > 1:
        raise errors.broken(
            f"list element types are not identical: {gotext.text([list(original), list(patch)])}"
        )
    return kinds == {dict}


def _special_items(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """The live items and the patch's, after the items that are directives have been obeyed."""
    plain: list[Any] = []
    deleted: set[Any] = set()
    replace = False
    for item in patch:
        directive = item.get(_DIRECTIVE, _DIRECTIVE)
        if directive is _DIRECTIVE:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_merge_key(item, key)
            deleted.add(_scalar(item[key]))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise errors.broken("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, item)
    if deleted:
        original = [live for live in original if _scalar(live.get(key)) not in deleted]
    return (plain, []) if replace else (original, plain)


def _merge_items(original: list[Any], patch: list[Any], key: str, shape: Shape) -> list[Any]:
    result = list(original)
    places: dict[Any, int] = {}
    for index, live in enumerate(result):
        places.setdefault(_scalar(live.get(key)), index)
    for item in patch:
        if key not in item:
            raise _no_merge_key(item, key)
        held = places.setdefault(_scalar(item[key]), len(result))
        if held == len(result):
            result.append(item)
        else:
            result[held] = _merge_map(result[held], item, shape)
    return result


def _no_merge_key(item: Document, key: str) -> Exception:
    return errors.broken(f"map: {gotext.text(item)} does not contain declared merge key: {key}")
