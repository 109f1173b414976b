"""Types with fields: of `request` and `namespaceObject`, and of `object` out of its kind's schema.

The checker asks for descriptors of protobuf messages, so that is what they become; values stay maps.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from machinery.api import schemas
from machinery.api.expressions.functions.shape import new_pool
from machinery.api.expressions.source import escaped
from machinery.api.schemas import Schema

Fields = Mapping[str, str]
"""From fields to types, as functions write them; a name of another record is its type."""
_STAMP: Final = "timestamp"
_MAP: Final = "map<string,"
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
    """A set of records; `pool` has their descriptors. Those of one package may name one another in circles."""

    def __init__(self, records: Mapping[str, Fields]) -> None:
        self._records = records
        self.pool = new_pool()
        packages: dict[str, list[str]] = {}
        for name in records:
            packages.setdefault(name.rpartition(".")[0], []).append(name)
        for package, names in packages.items():
            self.pool.AddSerializedFile(self._file(package, names))

    def _file(self, package: str, names: Iterable[str]) -> bytes:
        from google.protobuf import descriptor_pb2  # noqa: PLC0415 - only where there are expressions

        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
        file.syntax = "proto3"
        file.dependency.extend(sorted(where for _, where in _WELL_KNOWN.values()))
        for name in names:
            message = file.message_type.add(name=name.rpartition(".")[2])
            for number, (field, kind) in enumerate(self._records[name].items(), 1):
                self._add(file, message, field, number, kind)
        written: bytes = file.SerializeToString()
        return written

    def _add(self, file: Any, message: Any, name: str, number: int, kind: str) -> None:
        field = message.field.add(name=name, number=number, label=1, json_name=name)
        if kind.startswith(_MAP):
            field.label = 3
            field.type = 11
            field.type_name = self._entry(file, message, name, kind[len(_MAP) : -1])
            return
        if kind.startswith("list<"):
            field.label, kind = 3, kind[5:-1]
        self._type(field, kind)

    def _type(self, field: Any, kind: str) -> None:
        """A list of lists or of maps is one of anything: messages cannot say more."""
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
            return
        field.type = 11
        known = kind in self._records
        field.type_name = f".{kind}" if known else _WELL_KNOWN.get(kind, _WELL_KNOWN["dyn"])[0]

    def _entry(self, file: Any, message: Any, name: str, inner: str) -> str:
        """The message that a map's entries are, whose name is given."""
        title = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=title)
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=9)
        self._type(entry.field.add(name="value", number=2, label=1), inner)
        return f".{file.package}.{message.name}.{title}"


@cache
def admission() -> Records:
    """The types of `request` and `namespaceObject`."""
    return Records(ADMISSION)


# ----------------------------------------------------------------------------------------------------------- of schemas
RECORDS_MAX: Final = 2000
"""Of one schema; what is deeper is anything."""


class FromSchema:
    """The records of schemas, under names of their own."""

    def __init__(self) -> None:
        self.records: dict[str, Fields] = {}
        self._named: dict[str, str] = {}

    def type_of(self, schema: Schema, hint: str) -> str:
        """The type of what the schema describes; structures become records. `hint` is part of their names."""
        reference = schemas.reference_of(schema)
        if reference in self._named:
            return self._named[reference]
        schema = schemas.resolve(schema)
        if schema.get("x-kubernetes-int-or-string") or schema.get(_PRESERVE):
            return "dyn"
        match schema.get("type"):
            case "string":
                return _FORMATS.get(str(schema.get("format")), "string")
            case "integer":
                return "int"
            case "number":
                return "double"
            case "boolean":
                return "bool"
            case "array":
                return f"list<{self.type_of(schema.get('items') or {}, hint)}>"
            case "object":
                return self._object(schema, hint, reference)
            case _:
                return "dyn"

    def _object(self, schema: Schema, hint: str, reference: str) -> str:
        properties = schema.get("properties")
        if not properties:
            inner = schema.get("additionalProperties")
            if isinstance(inner, Mapping) and inner:
                return f"{_MAP}{self.type_of(inner, hint)}>"
            return "dyn"
        if len(self.records) >= RECORDS_MAX:
            return "dyn"
        name = f"object.R{len(self.records)}_{hint}"
        self.records[name] = {}
        if reference:
            self._named[reference] = name
        fields: dict[str, str] = {}
        for key, part in properties.items():
            if (field := escaped(key)) and _IDENTIFIER.fullmatch(field):
                fields[field] = self.type_of(part, _IDLE.sub("", field))
        self.records[name] = fields
        return name


_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_FORMATS: Final = {"date-time": "timestamp", "date": "timestamp", "duration": "duration", "byte": "bytes"}  # fmt: skip
_IDENTIFIER: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_IDLE: Final = re.compile(r"[^A-Za-z0-9]")
