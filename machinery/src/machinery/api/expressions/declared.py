"""What a definition's schema declares for rules: the type of each node, how long or how many it can be, how small its JSON.

The sizes are those that upstream's estimates of cost begin with (apiserver's `SchemaDeclType`): a list without `maxItems` has as
many items as a request of 3 MiB has room for. What has no type is nothing that a rule may name.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from machinery.api.expressions.records import RECORDS_MAX, Fields
from machinery.api.expressions.source import escaped

Schema = Mapping[str, Any]
REQUEST_BYTES: Final = 3 * 1024 * 1024
EMBEDDED: Final = "x-kubernetes-embedded-resource"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_TEXT_BYTES: Final = REQUEST_BYTES - 2
_LETTER_BYTES: Final = 4
_TIMES: Final = {"duration": ("duration", 3, 32), "date": ("timestamp", 12, 12), "date-time": ("timestamp", 21, 32)}  # fmt: skip
"""By format: (type, its shortest JSON, its longest)."""
_SCALARS: Final = {"boolean": ("bool", 4), "number": ("double", 1), "integer": ("int", 1)}
_STAMP: Final[Mapping[str, Schema]] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    },
}


class Declared(NamedTuple):
    """A node."""

    sort: str
    """`list`, `map`, `object`, or the type itself."""
    type: str
    """As functions write it."""
    least: int
    """Bytes of its shortest JSON."""
    most: int = 0
    """Letters, bytes, items or entries; 0 of what is none of these."""
    fields: Mapping[str, "Declared"] = {}
    inner: "Declared | None" = None
    """Of items or values."""

    def at(self, path: tuple[str, ...]) -> "Declared | None":
        """What lies there: names of fields, `@items`, `@values`, `@keys`."""
        node: Declared | None = self
        for name in path:
            if node is None:
                return None
            if name in ("@items", "@values"):
                node = node.inner
            elif name == "@keys":
                node = _KEY if node.sort == "map" else None
            else:
                node = node.fields.get(name)
        return node


_KEY: Final = Declared("string", "string", 2)


class Declarations:
    """Those of one schema. `records` are its objects, `titles` what upstream calls them in complaints."""

    def __init__(self) -> None:
        self.records: dict[str, Fields] = {}
        self.titles: dict[str, str] = {}

    def of(self, schema: Schema, title: str = "selfType", *, root: bool = False) -> Declared | None:
        """What a node declares; None where rules may not see it. `root`: it has apiVersion, kind and metadata."""
        if schema.get(_INT_OR_STRING):
            longest = schema.get("maxLength")
            most = _TEXT_BYTES if longest is None else max(0, longest) * _LETTER_BYTES
            return Declared("dyn", "dyn", 1, most)
        match schema.get("type"):
            case "array":
                return self._list(schema, title)
            case "object":
                others = schema.get("additionalProperties")
                if isinstance(others, Mapping):
                    return self._map(schema, others, title)
                return self._object(with_stamp(schema) if root else schema, title)
            case "string":
                return _text(schema)
            case kind if kind in _SCALARS:
                name, least = _SCALARS[kind]
                return Declared(name, name, least)
            case _:
                return None

    def _inner(self, schema: Schema, title: str) -> Declared | None:
        return self.of(schema, title, root=bool(schema.get(EMBEDDED)))

    def _list(self, schema: Schema, title: str) -> Declared | None:
        items = self._inner(schema.get("items") or {}, f"{title}.@idx")
        if items is None:
            return None
        most = schema.get("maxItems")
        room = (REQUEST_BYTES - 2) // (items.least + 1)
        most = room if most is None else max(0, most)
        return Declared("list", f"list<{items.type}>", 2, most, inner=items)

    def _map(self, schema: Schema, others: Schema, title: str) -> Declared | None:
        values = self._inner(others, f"{title}.@elem")
        if values is None:
            return None
        most = schema.get("maxProperties")
        room = (REQUEST_BYTES - 2) // (values.least + 6)
        most = room if most is None else max(0, most)
        return Declared("map", f"map<string,{values.type}>", 2, most, inner=values)

    def _object(self, schema: Schema, title: str) -> Declared:
        name = f"self.R{len(self.records)}"
        known = len(self.records) < RECORDS_MAX
        if known:
            self.records[name] = {}
            self.titles[name] = title
        required = set(schema.get("required") or ())
        fields: dict[str, Declared] = {}
        least = 2
        for key, part in (schema.get("properties") or {}).items():
            field = escaped(key)
            found = self._inner(part, f"{title}.{field}")
            if found is None:
                continue
            if field.isidentifier() and field.isascii():
                fields[field] = found
            if key in required and part.get("default") is None:
                least += len(key.encode()) + found.least + 4
        if known:
            self.records[name] = {field: found.type for field, found in fields.items()}
        return Declared("object", name if known else "dyn", least, fields=fields)


def with_stamp(schema: Schema) -> Schema:
    """The schema of a whole object, which has these fields whether it says so or not."""
    properties = schema.get("properties") or {}
    named = (properties.get("metadata") or {}).get("properties") or {}
    typed = all((properties.get(key) or {}).get("type") == part["type"] for key, part in _STAMP.items())  # fmt: skip
    if typed and all((named.get(key) or {}).get("type") == "string" for key in ("name", "generateName")):  # fmt: skip
        return schema
    return {**schema, "properties": {**properties, **_STAMP}}


def _text(schema: Schema) -> Declared:
    form, longest = schema.get("format"), schema.get("maxLength")
    if form in _TIMES:
        name, least, most = _TIMES[form]
        return Declared(name, name, least, most)
    if form == "byte":
        return Declared("bytes", "bytes", 2, _TEXT_BYTES if longest is None else max(0, longest))
    if longest is not None:
        return Declared("string", "string", 2, max(0, longest) * _LETTER_BYTES)
    if words := schema.get("enum"):
        most = max((len(word.encode()) for word in words if isinstance(word, str)), default=0)
        return Declared("string", "string", 2, most)
    return Declared("string", "string", 2, _TEXT_BYTES)
