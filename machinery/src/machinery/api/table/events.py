"""The row of an event, in its core form and in that of events.k8s.io: the same facts under other names."""

import datetime as dt
from typing import Any

from machinery.api.table.cells import NAME, UNKNOWN, Printer, TableColumn, name_of, since
from machinery.meta.resource import Document

_EVENT = "=io.k8s.api.core.v1.Event/"


def cells(event: Document, now: dt.datetime) -> list[Any]:
    about = event.get("involvedObject") or event.get("regarding") or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = source.get("component") or event.get("reportingComponent") or event.get(
        "reportingController", ""
    )  # fmt: skip
    instance = source.get("host") or event.get("reportingInstance", "")
    first, last, count = _times(event, now)
    target = str(about.get("kind", "")).lower()
    return [
        last,
        event.get("type", ""),
        event.get("reason", ""),
        f"{target}/{about['name']}" if about.get("name") else target,
        about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        str(event.get("message") or event.get("note") or "").strip(),
        first,
        count,
        name_of(event),
    ]


def _times(event: Document, now: dt.datetime) -> tuple[str, str, int]:
    """First seen, last seen, and how often."""
    begun = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp")
    ended = event.get("lastTimestamp") or event.get("deprecatedLastTimestamp")
    first = since(begun or event.get("eventTime"), now)
    last = since(ended, now) if ended else first
    series = event.get("series")
    if series:
        return first, since(series.get("lastObservedTime"), now), int(series.get("count", 0))
    return first, last or UNKNOWN, int(event.get("count") or event.get("deprecatedCount") or 1)


PRINTER = Printer(
    (
        TableColumn("Last Seen", _EVENT + "lastTimestamp"),
        TableColumn("Type", _EVENT + "type"),
        TableColumn("Reason", _EVENT + "reason"),
        TableColumn("Object", _EVENT + "involvedObject"),
        TableColumn("Subobject", "=io.k8s.api.core.v1.ObjectReference/fieldPath", priority=1),
        TableColumn("Source", _EVENT + "source", priority=1),
        TableColumn("Message", _EVENT + "message"),
        TableColumn("First Seen", _EVENT + "firstTimestamp", priority=1),
        TableColumn("Count", _EVENT + "count", priority=1),
        TableColumn("Name", NAME.about, format="name", priority=1),
    ),
    cells,
)
