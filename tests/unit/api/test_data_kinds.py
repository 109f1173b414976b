"""Rules of storage and the other data kinds, beyond what the recordings show. Source: API reference of Kubernetes 1.36."""

import datetime as dt
from typing import Any

import pytest

from machinery.api import strategy
from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.table import to_table
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.validation import validate_create, validate_update
from machinery.meta.resource import Document

SCHEME = Scheme((*BUILTIN, *TEMPLATE_KINDS))
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LOCAL = {"required": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}  # fmt: skip
GIB = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}


def kind_of(name: str) -> ServedKind:
    return next(kind for kind in SCHEME.kinds if kind.kind == name)


def made(name: str, body: Document) -> Document:
    """As the server takes a new object in, before it is judged."""
    kind = kind_of(name)
    metadata = {"name": "x"} | ({"namespace": "demo"} if kind.namespaced else {})
    document = {"apiVersion": kind.api_version, "kind": name, "metadata": metadata, **body}
    return strategy.prepare_create(kind, apply_defaults(kind, document))


def complaints(name: str, body: Document) -> list[str]:
    return [
        f"{c['field']}: {c['message']}" for c in validate_create(kind_of(name), made(name, body))
    ]


DRIVER = {"name": "d.example.com", "nodeID": "n1", "topologyKeys": []}


@pytest.mark.parametrize(
    ("name", "body", "wanted"),
    [
        ("StorageClass", {}, ["provisioner: Required value"]),
        (
            "StorageClass",
            {"provisioner": "p", "allowedTopologies": [{"matchLabelExpressions": [{"key": "z", "values": []}]}]},
            ["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
        ),
        ("VolumeAttributesClass", {"driverName": "d"}, ["parameters: Required value: must contain at least one key/value pair"]),
        (
            "CSIDriver",
            {"spec": {"fsGroupPolicy": "X"}},
            ['spec.fsGroupPolicy: Unsupported value: "X": supported values: "File", "None", "ReadWriteOnceWithFSType"'],
        ),
        (
            "CSIDriver",
            {"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]}},
            [
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                'spec.tokenRequests[1].audience: Duplicate value: "a"',
            ],
        ),
        ("CSINode", {"spec": {"drivers": [DRIVER, DRIVER]}}, ['spec.drivers[1].name: Duplicate value: "d.example.com"']),
        ("CSINode", {"spec": {"drivers": [{**DRIVER, "nodeID": ""}]}}, ["spec.drivers[0].nodeID: Required value"]),
        (
            "CSIStorageCapacity",
            {"storageClassName": "s", "capacity": "-1"},
            ['capacity: Invalid value: "-1": must be greater than or equal to 0'],
        ),
        (
            "VolumeAttachment",
            {"spec": {"attacher": "d", "nodeName": "n", "source": {}}},
            ["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
        ),
        (
            "IngressClass",
            {"spec": {"controller": "plain"}},
            ['spec.controller: Invalid value: "plain": must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
        (
            "IngressClass",
            {"spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}},
            ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
        ),
        ("ControllerRevision", {"revision": -1}, ["data: Required value: data is mandatory", "revision: Invalid value: -1: must be greater than or equal to 0"]),
        ("PersistentVolume", {"spec": {**GIB, "local": {"path": "/d"}}}, ["spec.nodeAffinity: Required value: Local volume requires node affinity"]),
        (
            "PersistentVolume",
            {"spec": {**GIB, "hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}},
            ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        ),
        (
            "PersistentVolume",
            {"spec": {**GIB, "hostPath": {"path": "/a"}, "nfs": {"server": "s", "path": "/"}}},
            ["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        ("PersistentVolume", {"spec": {**GIB, "local": {"path": "/d"}, "nodeAffinity": LOCAL}}, []),
    ],
)  # fmt: skip
def test_what_a_new_object_is_told(name: str, body: Document, wanted: list[str]) -> None:
    assert complaints(name, body) == wanted


@pytest.mark.parametrize(
    ("name", "before", "after", "field"),
    [
        ("VolumeAttributesClass", {"driverName": "d", "parameters": {"a": "1"}}, {"driverName": "d", "parameters": {"a": "2"}}, "parameters"),
        ("CSIDriver", {"spec": {"attachRequired": True}}, {"spec": {"attachRequired": False}}, "spec.attachRequired"),
        ("CSINode", {"spec": {"drivers": [DRIVER]}}, {"spec": {"drivers": [{**DRIVER, "nodeID": "n2"}]}}, "CSINodeDrivers"),
        ("CSIStorageCapacity", {"storageClassName": "a"}, {"storageClassName": "b"}, "storageClassName"),
        ("IngressClass", {"spec": {"controller": "a.io/b"}}, {"spec": {"controller": "a.io/c"}}, "spec.controller"),
        ("ControllerRevision", {"data": {"a": 1}, "revision": 1}, {"data": {"a": 2}, "revision": 1}, "data"),
        ("PersistentVolume", {"spec": {**GIB, "hostPath": {"path": "/a"}}}, {"spec": {**GIB, "hostPath": {"path": "/b"}}}, "spec.persistentvolumesource"),
        (
            "VolumeAttachment",
            {"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
            {"spec": {"attacher": "d", "nodeName": "m", "source": {"persistentVolumeName": "v"}}},
            "spec",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_never_changes(name: str, before: Document, after: Document, field: str) -> None:
    held = made(name, before)
    held["metadata"] = {**held["metadata"], "resourceVersion": "1", "uid": "u"}
    wanted = {**made(name, after), "metadata": held["metadata"]}
    assert [cause["field"] for cause in validate_update(kind_of(name), wanted, held)] == [field]


@pytest.mark.parametrize(
    ("name", "body", "path", "wanted"),
    [
        ("CSIDriver", {"spec": {}}, "spec", {
            "attachRequired": True, "podInfoOnMount": False, "storageCapacity": False, "requiresRepublish": False,
            "fsGroupPolicy": "ReadWriteOnceWithFSType", "seLinuxMount": False, "volumeLifecycleModes": ["Persistent"],
        }),
        ("VolumeAttachment", {"spec": {}, "status": {"attached": True}}, "status", {"attached": False}),
        ("PersistentVolume", {"spec": {"hostPath": {"path": "/a"}}, "status": {"phase": "Bound"}}, "status", {"phase": "Pending"}),
        ("IngressClass", {"spec": {"parameters": {"kind": "k", "name": "n"}}}, "spec", {"parameters": {"kind": "k", "name": "n", "scope": "Cluster"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_filled_in(name: str, body: Document, path: str, wanted: Any) -> None:
    assert made(name, body)[path] == wanted


@pytest.mark.parametrize(
    ("name", "first", "second", "generations"),
    [
        ("CSIDriver", {"spec": {"requiresRepublish": False}}, {"spec": {"requiresRepublish": True}}, (None, 1)),
        ("CSIDriver", {"spec": {"podInfoOnMount": False}}, {"spec": {"podInfoOnMount": True}}, (None, None)),
        ("PodTemplate", {"template": {"spec": {"nodeName": "a"}}}, {"template": {"spec": {"nodeName": "b"}}}, (1, 2)),
        ("StorageClass", {"provisioner": "p"}, {"provisioner": "p", "allowVolumeExpansion": True}, (None, None)),
    ],
    ids=["what a driver may change", "what it may change uncounted", "a template", "a class"],
)  # fmt: skip
def test_generations(
    name: str, first: Document, second: Document, generations: tuple[int | None, int | None]
) -> None:
    old = made(name, first)
    new = strategy.prepare_update(
        kind_of(name), {**made(name, second), "metadata": {"name": "x"}}, old, ""
    )
    assert (old["metadata"].get("generation"), new["metadata"].get("generation")) == generations


@pytest.mark.parametrize(
    ("name", "body", "cells"),
    [
        (
            "StorageClass",
            {"provisioner": "p", "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
            ["x (default)", "p", "Delete", "Immediate", False, "<unknown>"],
        ),
        ("CSINode", {"spec": {"drivers": [DRIVER]}}, ["x", 1, "<unknown>"]),
        ("CSIDriver", {"spec": {}}, ["x", True, False, False, "<unset>", False, "Persistent", "<unknown>"]),
        (
            "IngressClass",
            {"spec": {"controller": "a.io/b", "parameters": {"apiGroup": "g.io", "kind": "K", "name": "n"}}},
            ["x", "a.io/b", "K.g.io/n", "<unknown>"],
        ),
        (
            "PersistentVolume",
            {"spec": {**GIB, "hostPath": {"path": "/a"}, "claimRef": {"namespace": "d", "name": "c"}}},
            ["x", "1Gi", "RWO", "Retain", "Pending", "d/c", "", "<unset>", "", "<unknown>", "Filesystem"],
        ),
        (
            "VolumeAttachment",
            {"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
            ["x", "d", "v", "n", False, "<unknown>"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rows(name: str, body: Document, cells: list[Any]) -> None:
    document = made(name, {k: v for k, v in body.items() if k != "metadata"})
    metadata = {**document["metadata"], **(body.get("metadata") or {})}
    table = to_table(kind_of(name), [{**document, "metadata": metadata}], NOW)
    assert table["rows"][0]["cells"] == cells
    assert len(table["columnDefinitions"]) == len(cells)
