"""What the controllers of services over clusters share: who exports, and waking by name."""

from typing import TypeVar

from machinery.api.fleet.multicluster import EXPORTING_CLUSTERS, ServiceImport
from machinery.client.informer import Informer
from machinery.controller.manager import ControllerBuilder
from machinery.meta.objectmeta import Object

T = TypeVar("T", bound=Object)
S = TypeVar("S", bound=Object)


def exporting(imported: ServiceImport) -> tuple[str, ...]:
    """The clusters that export, the federation's order of precedence; each once."""
    text = imported.metadata.annotations.get(EXPORTING_CLUSTERS, "")
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def watch_name(builder: ControllerBuilder, changing: Informer[T], concerned: Informer[S]) -> None:
    """Have a key looked at when an object of `changing` changes and `concerned` has one of the same name."""

    def on_change(old: T | None, new: T | None) -> None:
        either = new or old
        if either is not None and concerned.get(either.key) is not None:
            builder.enqueue(either.key)

    changing.on_change(on_change)
