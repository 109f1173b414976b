"""What counts as a change of the wish, for documents and for views."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from machinery.controller.predicates import wish_changed
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document


def document(status: int = 1, version: int = 1, **metadata: Any) -> Document:
    meta = {"name": "x", "resourceVersion": str(version), "managedFields": [version]}
    return {"metadata": meta | metadata, "spec": {"a": 1}, "status": {"n": status}}


def view(version: int = 1, generation: int = 1, **metadata: Any) -> Object:
    meta = {"name": "x", "resourceVersion": str(version), "generation": generation}
    return msgspec.convert({"metadata": meta | metadata}, Object)


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OLD = document()
ROWS = {
    "a status": (OLD, document(2, 2), False),
    "the first status": ({k: v for k, v in OLD.items() if k != "status"}, document(1, 2), False),
    "a spec": (OLD, document(1, 2) | {"spec": {"a": 2}}, True),
    "data of a kind without a spec": (OLD | {"data": {}}, document(1, 2) | {"data": {"a": 1}}, True),
    "a part that is new": (OLD, document(1, 2) | {"immutable": True}, True),
    "a part that is gone": (OLD | {"data": {}}, document(1, 2), True),
    "a label": (OLD, document(1, 2, labels={"a": "b"}), True),
    "an annotation that is gone": (document(annotations={"a": "b"}), document(1, 2), True),
    "a deletion": (OLD, document(1, 2, deletionTimestamp="2026-01-01T00:00:00Z"), True),
    "a view's status": (view(), view(2), False),
    "a view's spec": (view(), view(2, generation=2), True),
    "a view without a generation": (view(1, 0), view(2, 0), True),
    "a view's label": (view(), view(2, labels={"a": "b"}), True),
    "a view's deletion": (view(), view(2, deletionTimestamp=NOW), True),
    "one that comes": (None, OLD, True),
    "one that goes": (OLD, None, True),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "changed"), ROWS.values(), ids=ROWS)
def test_a_report_is_no_wish(old: Any, new: Any, changed: bool) -> None:
    assert wish_changed(old, new) is changed
