"""override.yaml: what overriders make of an object, in which order, for which cluster and by which policy."""

import copy
from typing import Any

import msgspec
import pytest
from tests.support import deciding
from tests.support.tables import Row, cases

from federation.propagation.overrides.apply import overridden
from federation.propagation.overrides.errors import OverrideError, PolicyFailed
from federation.propagation.overrides.policies import Overridden, Overrides
from machinery.api.fleet.policy import ClusterOverridePolicy, OverridePolicy, Overriders
from machinery.meta.resource import Document

POD_SPEC: Document = {
    "initContainers": [{"name": "first", "image": "busybox:1"}],
    "containers": [
        {
            "name": "main",
            "image": "registry.example/team/web:v1",
            "command": ["/bin/web"],
            "args": ["-v", "-d", "-v"],
            "env": [{"name": "MODE", "value": "old"}],
        },
        {"name": "side", "image": "busybox"},
    ],
}
METADATA: Document = {
    "name": "web",
    "namespace": "demo",
    "labels": {"app": "web", "tier": "gold"},
    "annotations": {"note": "old"},
}
OBJECTS: dict[str, Document] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {"replicas": 3, "template": {"spec": POD_SPEC}},
    },
    "Pod": {"apiVersion": "v1", "kind": "Pod", "metadata": METADATA, "spec": POD_SPEC},
    "ConfigMap": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "web", "namespace": "demo"},
        "data": {
            "web.json": '{"port": 80, "log": {"level": "info", "rate": 1.50}}',
            "web.yaml": "port: 80\nlog:\n  level: info\nhosts: [a, b]\n",
            "text": "no structure: [",
        },
    },
}


def changed(document: Document, pointer: str, value: Any = None, *, gone: bool = False) -> Document:
    """A copy with one field set or taken away."""
    document = copy.deepcopy(document)
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    here: Any = document
    for part in path:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if isinstance(here, list):
        here[int(last)] = value
    elif gone:
        del here[last]
    else:
        here[last] = value
    return document


def before(row: Row) -> Document:
    document = OBJECTS[row.get("object", "Deployment")]
    for pointer, value in row.get("with", {}).items():
        document = changed(document, pointer, value)
    return document


def after(row: Row) -> Document:
    """The whole object as the row says it shall be."""
    document = before(row)
    for pointer, value in row.get("becomes", {}).items():
        document = changed(document, pointer, value)
    for pointer in row.get("gone", ()):
        document = changed(document, pointer, gone=True)
    return document


@pytest.mark.parametrize("row", cases("override", "overriders"))
def test_overriders(row: Row) -> None:
    given = before(row)
    untouched = copy.deepcopy(given)
    overriders = msgspec.convert(row["overriders"], Overriders)
    if "fails" in row.said:
        with pytest.raises(OverrideError) as failure:
            overridden(given, overriders)
        assert row["fails"] in str(failure.value)
    else:
        assert overridden(given, overriders) == after(row)
    assert given == untouched


def policies(row: Row) -> Overrides:
    own: list[OverridePolicy] = []
    of_all: list[ClusterOverridePolicy] = []
    for said in row["policies"]:
        metadata: Document = {"name": said["name"]}
        if said.get("deleting"):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec = {k: v for k, v in said.items() if k not in ("name", "cluster", "deleting", "in")}
        if said.get("cluster"):
            wire = {"metadata": metadata, "spec": spec}
            of_all.append(msgspec.convert(wire, ClusterOverridePolicy))
        else:
            metadata["namespace"] = said.get("in", "demo")
            own.append(msgspec.convert({"metadata": metadata, "spec": spec}, OverridePolicy))
    return Overrides(tuple(of_all), tuple(own))


def applied(row: Row, given: Document) -> Overridden:
    cluster = deciding.candidate(row.get("in", "member1"), row.get("cluster", 9))
    return policies(row).of(given).apply(given, cluster, named=True)


@pytest.mark.parametrize("row", cases("override", "policies"))
def test_policies(row: Row) -> None:
    given = before(row)
    if "fails" in row.said:
        with pytest.raises(PolicyFailed) as failure:
            applied(row, given)
        assert row["fails"] in str(failure.value)
        assert failure.value.policy == row["blames"]
        return
    found = applied(row, given)
    assert found.document == after(row)
    assert list(found.policies) == row.get("applies", [])
