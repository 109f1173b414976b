"""Kinds that are another face of a stored one: the same objects under another version, or under other names of fields.

`ServedKind.stored_as` says which kind the objects lie as. What comes in through a face is turned into that kind before
anything is judged or recorded, so both faces share rules, field managers and watch cache; what goes out is turned back.
Field managers therefore name the stored version, whichever face was written through.

Kinds of CustomResourceDefinitions are different: each version has its own rules, so they are judged and recorded as the version
that was written, and are turned into the storage version only as bytes (`live`, and codec.encode).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from machinery.api import autoscaling_v1
from machinery.api.customresources import conversion
from machinery.api.scheme import ServedKind
from machinery.meta.errors import MethodNotAllowed
from machinery.meta.resource import Document
from machinery.server import events_view

Turn = Callable[[Document], Document]
_BUILT: Final[dict[str, tuple[Turn, Turn]]] = {
    events_view.NEW_API: (events_view.to_new, events_view.to_core),
    autoscaling_v1.OLD_API: (autoscaling_v1.to_v1, autoscaling_v1.to_v2),
}
"""Faces with other fields than the stored kind, by apiVersion: outward and inward."""


def outward(kind: ServedKind) -> Turn | None:
    """How a stored document becomes the served one; None when it is the same."""
    if kind.dynamic is not None:
        return partial(conversion.outward, kind)
    if kind.stored_as is None:
        return None
    built = _BUILT.get(kind.api_version)
    if built is not None:
        return built[0]
    version = kind.api_version
    return lambda document: {**document, "apiVersion": version}


def inward(kind: ServedKind, document: Document) -> Document:
    """A document that came as `kind`, as it is judged and recorded."""
    if kind.stored_as is None or kind.dynamic is not None:
        return document
    built = _BUILT.get(kind.api_version)
    if built is not None:
        return built[1](document)
    group, version = kind.stored_as
    return {**document, "apiVersion": f"{group}/{version}" if group else version}


def through(kind: ServedKind, change: Turn) -> Turn:
    """A change of the served document as a change of the stored one."""
    if kind.dynamic is not None:
        return change
    out = outward(kind)
    if out is None:
        return change
    return lambda live: inward(kind, change(out(live)))


def live(kind: ServedKind, document: Document) -> Document:
    """A stored document as the rules of `kind` see it."""
    return document if kind.dynamic is None else conversion.outward(kind, document)


def check_lasting(kind: ServedKind) -> None:
    """Raises MethodNotAllowed for a new object of a kind whose definition is being deleted."""
    if kind.dynamic is not None and kind.dynamic.terminating:
        raise MethodNotAllowed(
            "create not allowed while custom resource definition is terminating", details={}
        )
