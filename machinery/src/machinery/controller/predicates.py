"""Which changes of an object are worth a look: those who act on a wish need not hear of every report about it.

A status is written far more often than what it is about, and a controller that reads only the wish does the same work again for
each. What is skipped here is never lost: a copy's old and new object are compared, whatever lay between them.
"""

from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document

UNASKED = ("resourceVersion", "managedFields")
"""Of metadata: differs with every write, and says nothing of what is wanted."""


def wish_changed(old: Object | Document | None, new: Object | Document | None) -> bool:
    """Whether anything but the status differs; what comes or goes does. Views of kinds that count no generation always do."""
    if isinstance(old, Object) and isinstance(new, Object):
        return _view_changed(old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        return _document_changed(old, new)
    return True


def _view_changed(old: Object, new: Object) -> bool:
    """The spec is not compared: that it changed is what a generation counts."""
    before, after = old.metadata, new.metadata
    return (
        not after.generation
        or before.generation != after.generation
        or before.deletion_timestamp != after.deletion_timestamp
        or before.labels != after.labels
        or before.annotations != after.annotations
        or before.finalizers != after.finalizers
        or before.owner_references != after.owner_references
    )


def _document_changed(old: Document, new: Document) -> bool:
    before, after = old["metadata"], new["metadata"]
    if old.keys() - {"status"} != new.keys() - {"status"} or any(
        before.get(k) != after.get(k) for k in (before.keys() | after.keys()).difference(UNASKED)
    ):
        return True
    return any(old[k] != v for k, v in new.items() if k not in ("status", "metadata"))
