"""The rows of NodeMetrics and PodMetrics, in metrics-server's columns: name, the resources by name, window."""

import datetime as dt
from typing import Any

from machinery.api.table.cells import NAME, Printer, TableColumn, name_of
from machinery.meta.quantity import Quantity, quantity_of
from machinery.meta.resource import Document

RESOURCES = ("cpu", "memory")


def _node(document: Document, _: dt.datetime) -> list[Any]:
    usage = document.get("usage") or {}
    amounts = [str(usage.get(name, "")) for name in RESOURCES]
    return [name_of(document), *amounts, document.get("window", "")]


def _pod(document: Document, _: dt.datetime) -> list[Any]:
    containers = document.get("containers") or ()
    amounts = [
        _sum([one["usage"][name] for one in containers if name in one["usage"]])
        for name in RESOURCES
    ]
    return [name_of(document), *amounts, document.get("window", "")]


def _sum(amounts: list[str]) -> str:
    if not amounts:
        return ""
    parsed = [quantity_of(amount) for amount in amounts]
    return str(
        Quantity(sum((q.value for q in parsed), start=0 * parsed[0].value), parsed[0].family)
    )


_COLUMNS = (
    NAME,
    TableColumn("cpu", "Mean use of CPU over the window, in cores", format="quantity"),
    TableColumn("memory", "Working set, in bytes", format="quantity"),
    TableColumn("Window", "How long was measured", format="duration"),
)
PRINTERS = {
    ("metrics.k8s.io", "NodeMetrics"): Printer(_COLUMNS, _node),
    ("metrics.k8s.io", "PodMetrics"): Printer(_COLUMNS, _pod),
}
