"""Rows of own kinds, from columns by JSONPath as a CustomResourceDefinition states them."""

import datetime as dt
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from machinery.api import jsonpath
from machinery.api.scheme import Column, ServedKind
from machinery.api.table.cells import AGE, NAME, Printer, TableColumn, name_of, parse, since
from machinery.meta.resource import Document

_AGE = Column("Age", "date", ".metadata.creationTimestamp", description=AGE.about)
_Cell = Callable[[Document, dt.datetime], Any]


@lru_cache(maxsize=1024)
def printer(kind: ServedKind) -> Printer:
    """Name, then the kind's columns; Age where it has none."""
    columns = kind.columns or (_AGE,)
    makers = tuple(_cell(column) for column in columns)

    def cells(document: Document, now: dt.datetime) -> list[Any]:
        return [name_of(document), *(make(document, now) for make in makers)]

    return Printer((NAME, *(_header(column) for column in columns)), cells)


def _header(column: Column) -> TableColumn:
    about = column.description or (
        f"Custom resource definition column (in JSONPath format): {column.json_path}"
    )
    return TableColumn(column.name, about, column.type, column.format, column.priority)


def _cell(column: Column) -> _Cell:
    if column.json_path.startswith("{") or "}{" in column.json_path:
        fill = jsonpath.compile_template(column.json_path)
        return lambda document, now: fill(document)
    try:
        find = jsonpath.compile_path(column.json_path)
    except (
        ValueError
    ):  # a user's definition may have any path; such a column is empty, as upstream's
        return lambda document, now: None
    kind = column.type

    def make(document: Document, now: dt.datetime) -> Any:
        found = find(document)
        return None if not found else _value(kind, found[0], now)

    return make


def _value(kind: str, value: Any, now: dt.datetime) -> Any:
    """The value as the column's type wants it; None where it is of another type."""
    match kind:
        case "string":
            return _text(value)
        case "date":
            if not isinstance(value, str):
                return None
            return "<invalid>" if parse(value) is None else since(value, now)
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer":
            return int(value) if _is_number(value) else None
        case "number":
            return value if _is_number(value) else None
        case _:
            return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
