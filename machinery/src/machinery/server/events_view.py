"""The two faces of an Event: core/v1 as it is stored, events.k8s.io/v1 as newer clients see it.

One object, two spellings; so kubectl (core) shows what a recorder of events.k8s.io wrote, and the other way round.
"""

from machinery.meta.resource import Document

_NAMES = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
_TO_NEW = dict(_NAMES)
_TO_CORE = {new: core for core, new in _NAMES}
GROUP = "events.k8s.io"
NEW_API, CORE_API = "events.k8s.io/v1", "v1"
FIELD_LABELS = {
    "regarding.kind": "involvedObject.kind",
    "regarding.namespace": "involvedObject.namespace",
    "regarding.name": "involvedObject.name",
    "regarding.uid": "involvedObject.uid",
    "regarding.apiVersion": "involvedObject.apiVersion",
    "regarding.resourceVersion": "involvedObject.resourceVersion",
    "regarding.fieldPath": "involvedObject.fieldPath",
    "reportingController": "reportingComponent",
}
"""Field selectors of the new face in the words of the stored one."""


def to_new(event: Document) -> Document:
    """A core Event as events.k8s.io/v1."""
    return {**{_TO_NEW.get(key, key): value for key, value in event.items()}, "apiVersion": NEW_API}


def to_core(event: Document) -> Document:
    """An events.k8s.io/v1 Event as core."""
    return {
        **{_TO_CORE.get(key, key): value for key, value in event.items()}, "apiVersion": CORE_API,
    }  # fmt: skip
