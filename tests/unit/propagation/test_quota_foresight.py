"""Whoever asks for more than a quota has is told so at once."""

from typing import Any

import msgspec
import pytest

from federation.propagation.admission.foresight import foreseen
from machinery.api.fleet.operations import FederatedResourceQuota
from machinery.meta.resource import Document

END = " The workload keeps what it has until there is room"


def quota(overall: Document, used: Document) -> FederatedResourceQuota:
    document = {
        "metadata": {"name": "q", "namespace": "demo"},
        "spec": {"overall": overall},
        "status": {"overall": overall, "overallUsed": used},
    }
    return msgspec.convert(document, FederatedResourceQuota)


def deployment(replicas: int | None, cpu: str = "1") -> Document:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    spec: Document = {"template": {"metadata": {}, "spec": {"containers": [container]}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": spec if replicas is None else spec | {"replicas": replicas},
    }


@pytest.mark.parametrize(
    ("why", "overall", "used", "new", "old", "told"),
    [
        ("room", {"cpu": "10"}, {"cpu": "4"}, deployment(6), None, ""),
        ("too much", {"cpu": "10"}, {"cpu": "4"}, deployment(7), None, "cpu: requested sum 11, limit 10."),
        ("one replica where none is stated", {"cpu": "1"}, {"cpu": "1"}, deployment(None), None, "cpu: requested sum 2, limit 1."),
        ("its own part is known", {"cpu": "10"}, {"cpu": "10"}, deployment(6), deployment(6), ""),
        ("and grows", {"cpu": "10"}, {"cpu": "10"}, deployment(7), deployment(6), "cpu: requested sum 11, limit 10."),
        ("larger replicas", {"cpu": "10"}, {"cpu": "6"}, deployment(6, "2"), deployment(6), "cpu: requested sum 12, limit 10."),
        ("it shrinks", {"cpu": "1"}, {"cpu": "10"}, deployment(5), deployment(6), ""),
        ("pods", {"pods": "3"}, {}, deployment(4), None, "pods: requested sum 4, limit 3."),
        ("under the other name", {"requests.cpu": "3"}, {"requests.cpu": "2"}, deployment(2), None, "requests.cpu: requested sum 4, limit 3."),
        ("it was waiting already: nothing of it is used", {"cpu": "3"}, {}, deployment(5), deployment(4), "cpu: requested sum 5, limit 3."),
    ],
)  # fmt: skip
def test_what_is_told(
    why: str, overall: Document, used: Document, new: Document, old: Any, told: str
) -> None:
    found = list(foreseen([quota(overall, used)], new, old))
    head = f"FederatedResourceQuota(demo/q) exceeded for resource {told}{END}"
    assert found == ([head] if told else []), why
