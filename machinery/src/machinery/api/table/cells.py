"""What cells are made of: columns, ages, and the selectors of workloads in words."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from machinery.api import schemas
from machinery.meta.resource import Document

UNKNOWN = "<unknown>"
NONE = "<none>"
UNSET = "<unset>"
_ACCESS_MODES = (
    ("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)  # fmt: skip
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 86400 * 365

Cells = Callable[[Document, dt.datetime], list[Any]]


def access_modes(modes: Sequence[str]) -> str:
    """Of a volume or a claim, in kubectl's order and letters: `RWO,ROX`."""
    return ",".join(short for mode, short in _ACCESS_MODES if mode in modes)


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column. `about` is its description, or `=<definition>.<field>` to take the schema's."""

    name: str
    about: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self) -> Document:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": _description(self.about),
            "priority": self.priority,
        }


@dataclass(frozen=True)
class Printer:
    """The columns of a kind, and the function that makes a row of an object."""

    columns: tuple[TableColumn, ...]
    cells: Cells

    @cached_property
    def definitions(self) -> list[Document]:
        """The columnDefinitions, shared by all tables of the kind."""
        return [column.definition() for column in self.columns]


_SINCE_V1 = " This field is immutable."
"""Upstream's tables of bindings quote the v1beta1 API, which did not say so yet."""


def _description(about: str) -> str:
    if not about.startswith("="):
        return about
    definition, _, field = about[1:].rpartition("/")
    properties = schemas.definition(definition).get("properties") or {}
    text = str(properties[field].get("description", ""))
    return text.removesuffix(_SINCE_V1)


_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
NAME = TableColumn("Name", f"={_META}/name", format="name")
AGE = TableColumn("Age", f"={_META}/creationTimestamp")
CREATED_AT = TableColumn("Created At", f"={_META}/creationTimestamp", type="date")


def name_of(document: Document) -> str:
    return str((document.get("metadata") or {}).get("name", ""))


def age_of(document: Document, now: dt.datetime) -> str:
    """How long the object exists."""
    return since((document.get("metadata") or {}).get("creationTimestamp"), now)


def since(timestamp: str | None, now: dt.datetime) -> str:
    """How long ago a moment of the API was."""
    if not timestamp:
        return UNKNOWN
    moment = parse(timestamp)
    return UNKNOWN if moment is None else human_duration((now - moment).total_seconds())


@lru_cache(maxsize=4096)  # objects made together share their second
def parse(timestamp: str) -> dt.datetime | None:
    """A moment of the API, None where it is none."""
    try:
        moment = dt.datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def human_duration(seconds: float) -> str:
    """A duration as kubectl shows it: two units while the smaller one matters, then one."""
    s = int(seconds)
    if s < -1:
        return "<invalid>"
    if s < 2 * _MINUTE:
        return f"{max(s, 0)}s"
    if s < 10 * _MINUTE:
        return _two(s // _MINUTE, "m", s % _MINUTE, "s")
    if s < 3 * _HOUR:
        return f"{s // _MINUTE}m"
    if s < 8 * _HOUR:
        return _two(s // _HOUR, "h", s // _MINUTE % 60, "m")
    if s < 2 * _DAY:
        return f"{s // _HOUR}h"
    if s < 8 * _DAY:
        return _two(s // _DAY, "d", s // _HOUR % 24, "h")
    if s < 2 * _YEAR:
        return f"{s // _DAY}d"
    if s < 8 * _YEAR:
        return _two(s // _YEAR, "y", s // _DAY % 365, "d")
    return f"{s // _YEAR}y"


def _two(large: int, unit: str, small: int, sub: str) -> str:
    return f"{large}{unit}{small}{sub}" if small else f"{large}{unit}"


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A label selector in the form of the query parameter."""
    if not selector:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or ():
        parts.append((requirement.get("key", ""), _requirement(requirement)))
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0])) or NONE


def _requirement(requirement: Mapping[str, Any]) -> str:
    key = requirement.get("key", "")
    values = ",".join(sorted(requirement.get("values") or ()))
    match requirement.get("operator"):
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return str(key)


def joined(items: Sequence[Mapping[str, Any]] | None, field: str) -> str:
    """One field of each item, by commas."""
    return ",".join(str(item.get(field, "")) for item in items or ())
