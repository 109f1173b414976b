"""What wakes the detectors: what a binding is about, and no report of a member."""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from federation.controllers.detector import Placed
from machinery.api.fleet.work import ResourceBinding
from machinery.client.informer import Informer
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, ObjectKey

DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)


class Copy:
    """Stands for the copy of the bindings."""

    def __init__(self, *held: ResourceBinding) -> None:
        self.held = list(held)
        self.change: Callable[[Any, Any], None] = lambda old, new: None

    def on_change(self, handler: Callable[[Any, Any], None]) -> None:
        self.change = handler

    def list(self) -> "list[ResourceBinding]":
        return self.held


def binding(generation: int, name: str, kind: str = "Deployment", **status: Any) -> ResourceBinding:
    source = {"apiVersion": "apps/v1", "kind": kind, "namespace": "demo", "name": name}
    document: Document = {
        "metadata": {"name": "web", "namespace": "demo", "generation": generation},
        "spec": {"resource": source},
        "status": status,
    }
    return msgspec.convert(document, ResourceBinding)


BEFORE = binding(1, "web")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (None, BEFORE, ["web"]),
        (BEFORE, None, ["web"]),
        (BEFORE, binding(2, "web"), ["web"]),
        (BEFORE, binding(2, "api"), ["web", "api"]),
        (BEFORE, binding(1, "web", schedulerObservedGeneration=1), []),
        (None, binding(1, "web", "StatefulSet"), []),
        (binding(1, "web", "StatefulSet"), binding(2, "web"), ["web"]),
    ],
)
def test_a_detector_hears_of_bindings_of_its_kind(
    old: ResourceBinding | None, new: ResourceBinding | None, told: list[str]
) -> None:
    copy, found = Copy(), []
    placed = Placed(cast("Informer[ResourceBinding]", copy))
    placed.tell(DEPLOYMENTS, lambda key: found.append(key))
    copy.change(old, new)
    assert found == [ObjectKey("demo", name) for name in told]


def test_a_kind_that_comes_late_hears_of_what_is_there_and_one_that_has_gone_of_nothing() -> None:
    copy, found = Copy(BEFORE, binding(1, "db", "StatefulSet")), []
    placed = Placed(cast("Informer[ResourceBinding]", copy))
    placed.tell(DEPLOYMENTS, lambda key: found.append(key))
    assert found == [ObjectKey("demo", "web")]
    placed.withdraw(DEPLOYMENTS)
    copy.change(None, BEFORE)
    assert found == [ObjectKey("demo", "web")]
