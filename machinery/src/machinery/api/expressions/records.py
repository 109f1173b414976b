"""Types with fields: of `request` and `namespaceObject`, and of `object` out of its kind's schema.

The checker asks for descriptors of protobuf messages, so that is what they become; values stay maps.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

Fields = Mapping[str, str]
"""From fields to types, as functions write them; a name of another record is its type."""
_STAMP: Final = "timestamp"
_SCALARS: Final = {"bool": 8, "bytes": 12, "double": 1, "int": 3, "string": 9, "uint": 4}
_WELL_KNOWN: Final = {
    "timestamp": (".google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
    "duration": (".google.protobuf.Duration", "google/protobuf/duration.proto"),
    "dyn": (".google.protobuf.Value", "google/protobuf/struct.proto"),
}
_VERSIONED: Final = {"group": "string", "version": "string"}
REQUEST: Final = "kubernetes.AdmissionRequest"
NAMESPACE: Final = "kubernetes.Namespace"
ADMISSION: Final[Mapping[str, Fields]] = {
    "kubernetes.GroupVersionKind": {**_VERSIONED, "kind": "string"},
    "kubernetes.GroupVersionResource": {**_VERSIONED, "resource": "string"},
    "kubernetes.UserInfo": {
        "username": "string", "uid": "string", "groups": "list<string>", "extra": "map<string,list<string>>",
    },
    REQUEST: {
        "kind": "kubernetes.GroupVersionKind", "resource": "kubernetes.GroupVersionResource", "subResource": "string",
        "requestKind": "kubernetes.GroupVersionKind", "requestResource": "kubernetes.GroupVersionResource",
        "requestSubResource": "string", "name": "string", "namespace": "string", "operation": "string",
        "userInfo": "kubernetes.UserInfo", "dryRun": "bool", "options": "dyn",
    },
    "kubernetes.NamespaceSpec": {"finalizers": "list<string>"},
    "kubernetes.NamespaceCondition": {
        "status": "string", "type": "string", "lastTransitionTime": _STAMP, "message": "string", "reason": "string",
    },
    "kubernetes.NamespaceStatus": {"conditions": "list<kubernetes.NamespaceCondition>", "phase": "string"},
    "kubernetes.NamespaceMetadata": {
        "name": "string", "generateName": "string", "namespace": "string", "labels": "map<string,string>",
        "annotations": "map<string,string>", "UID": "string", "creationTimestamp": _STAMP,
        "deletionGracePeriodSeconds": "int", "deletionTimestamp": _STAMP, "generation": "int",
        "resourceVersion": "string", "finalizers": "list<string>",
    },
    NAMESPACE: {
        "metadata": "kubernetes.NamespaceMetadata", "spec": "kubernetes.NamespaceSpec",
        "status": "kubernetes.NamespaceStatus",
    },
}  # fmt: skip
"""What is known of `request` and `namespaceObject`."""


class Records:
    """A set of records; `pool` has their descriptors."""

    def __init__(self, records: Mapping[str, Fields]) -> None:
        self._records = records
        self.pool = _copied_pool()
        for name, fields in _ordered(records):
            self.pool.AddSerializedFile(self._file(name, fields))

    def _file(self, name: str, fields: Fields) -> bytes:
        from google.protobuf import descriptor_pb2  # noqa: PLC0415 - only where there are expressions

        package, _, title = name.rpartition(".")
        file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=package)
        file.syntax = "proto3"
        message = file.message_type.add(name=title)
        for number, (field, kind) in enumerate(fields.items(), 1):
            self._add(file, message, field, number, kind)
        written: bytes = file.SerializeToString()
        return written

    def _add(self, file: Any, message: Any, name: str, number: int, kind: str) -> None:
        field = message.field.add(name=name, number=number, label=1, json_name=name)
        if kind.startswith("map<string,"):
            kind, inner = self._map_entry(file, message, field, kind[len("map<string,") : -1])
            field.label = 3
            field.type, field.type_name = 11, kind
            del inner
            return
        if kind.startswith("list<"):
            field.label, kind = 3, kind[5:-1]
        self._type(file, field, kind)

    def _type(self, file: Any, field: Any, kind: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
            return
        known = kind in self._records
        title, where = (
            (f".{kind}", f"{kind}.proto") if known else _WELL_KNOWN.get(kind, _WELL_KNOWN["dyn"])
        )
        field.type, field.type_name = 11, title
        if where not in file.dependency and where != file.name:
            file.dependency.append(where)

    def _map_entry(self, file: Any, message: Any, field: Any, inner: str) -> tuple[str, str]:
        title = "".join(part.title() for part in field.name.split("_")) + "Entry"
        entry = message.nested_type.add(name=title)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=9)
        value = entry.field.add(name="value", number=2, label=1)
        self._type(file, value, inner if not inner.startswith(("list<", "map<")) else "dyn")
        prefix = f"{file.package}." if file.package else ""
        return f".{prefix}{message.name}.{title}", inner


def _copied_pool() -> Any:
    from google.protobuf import (
        any_pb2,
        descriptor_pool,  # noqa: PLC0415
        duration_pb2,
        empty_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )  # noqa: PLC0415

    found = descriptor_pool.DescriptorPool()
    for module in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        found.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return found


def _ordered(records: Mapping[str, Fields]) -> list[tuple[str, Fields]]:
    """Each after those that it names; of a circle the rest is as it comes."""
    out: dict[str, Fields] = {}

    def add(name: str, above: frozenset[str]) -> None:
        if name in out or name in above:
            return
        for kind in records[name].values():
            inner = kind.rpartition("<")[2].rstrip(">").rpartition(",")[2]
            if inner in records:
                add(inner, above | {name})
        out[name] = records[name]

    for name in records:
        add(name, frozenset())
    return list(out.items())


@cache
def admission() -> Records:
    """The types of `request` and `namespaceObject`."""
    return Records(ADMISSION)
