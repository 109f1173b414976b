"""The status of the federation's ServiceExport, from what members say of theirs."""

import msgspec
import pytest

from federation.traffic import reports
from machinery.api.fleet.multicluster import ServiceExportStatus
from machinery.meta.resource import Document

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def said(status: str = "", reason: str = "", message: str = "") -> ServiceExportStatus:
    """A member's word on Valid; nothing yet without a status."""
    if not status:
        return ServiceExportStatus()
    found = {"type": "Valid", "status": status, "reason": reason, "message": message}
    return msgspec.convert({"conditions": [found]}, ServiceExportStatus)


OK, BAD = said("True", "Valid"), said("False", "NoService", "there is no Service web")
SUMMED = [
    ("nowhere", {}, ("Unknown", "Pending"), "nowhere yet"),
    ("not yet", {"a": said(), "b": said()}, ("Unknown", "Pending"), "(0/2)"),
    ("one of two", {"a": OK, "b": said()}, ("True", "Valid"), "1/2 clusters: a"),
    ("all", {"a": OK, "b": OK}, ("True", "Valid"), "2/2 clusters: a, b"),
    (
        "one refuses", {"a": OK, "b": BAD}, ("False", "NoService"),
        "1/2 clusters: b: NoService: there is no Service web",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "wanted", "told"), [c[1:] for c in SUMMED], ids=[c[0] for c in SUMMED]
)
def test_summed(found: dict[str, ServiceExportStatus], wanted: tuple[str, str], told: str) -> None:
    one = reports.summed("Valid", found)
    assert (one["status"], one["reason"]) == wanted
    assert told in one["message"]


def test_time_stands_while_the_status_does() -> None:
    conflict: Document = {"status": "False", "reason": "NoConflicts", "message": ""}
    first = reports.conditions({"a": OK}, conflict, ServiceExportStatus(), 1, THEN)
    assert [c["type"] for c in first] == ["Valid", "Ready", "Conflict"]
    held = msgspec.convert({"conditions": first}, ServiceExportStatus)
    assert reports.conditions({"a": OK}, conflict, held, 1, NOW) == first
    later = reports.conditions({"a": BAD}, conflict, held, 1, NOW)
    assert [c["lastTransitionTime"] for c in later] == [NOW, THEN, THEN]


def test_nobody_exports_and_there_is_no_word_of_conflicts() -> None:
    found = reports.conditions({}, None, ServiceExportStatus(), 1, NOW)
    assert [c["type"] for c in found] == ["Valid", "Ready"]
