"""A CustomResourceDefinition in protobuf, as a typed Go client sends it: schemas, choices, doubles, any JSON."""

from typing import Any

import pytest
from tests.support.protowriter import double, envelope, number, part, text

from machinery.api import decode, protobuf
from machinery.api.kinds import CUSTOM_RESOURCE_DEFINITION
from machinery.api.protobuf.wire import NESTING_MAX
from machinery.meta.errors import BadRequest, UnsupportedMediaType

MEDIA = "application/vnd.kubernetes.protobuf"


def raw(field: int, value: str) -> bytes:
    return part(field, text(1, value))


def definition(*schema: bytes) -> bytes:
    """Zeros stand where gogo writes them."""
    version = (
        text(1, "v1"),
        number(2, 1),
        number(3, 0),
        part(4, part(1, *schema)),
        part(5, part(1), part(2, text(1, ".spec.n"), text(2, ".status.n"))),
        part(
            6,
            text(1, "N"),
            text(2, "integer"),
            text(3, ""),
            text(4, ""),
            number(5, 0),
            text(6, ".n"),
        ),
        number(7, 0),
        part(9, text(1, ".spec.colour")),
    )
    names = part(3, text(1, "widgets"), text(2, ""), text(4, "Widget"), text(5, ""))
    spec = part(
        2, text(1, "example.com"), names, text(4, "Namespaced"), part(7, *version), number(10, 0)
    )
    status = part(3, part(2, text(1, ""), text(2, ""), text(4, ""), text(5, "")))
    meta = part(1, text(1, "widgets.example.com"))
    return envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", meta, spec, status)


def schema_of(*schema: bytes) -> Any:
    document = protobuf.decode_envelope(definition(*schema))
    return document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_a_definition() -> None:
    found = decode.decode_body(
        CUSTOM_RESOURCE_DEFINITION, definition(text(5, "object")), MEDIA, "Strict"
    )
    assert found.warnings == ()
    assert found.document == {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": False,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                    },
                    "additionalPrinterColumns": [
                        {"name": "N", "type": "integer", "jsonPath": ".n"}
                    ],
                    "selectableFields": [{"jsonPath": ".spec.colour"}],
                }
            ],
        },
        "status": {
            "acceptedNames": {"plural": "", "kind": ""},
            "conditions": None,
            "storedVersions": None,
        },
    }


STRING = text(5, "string")
RULE = part(44, text(1, "self > 1"), text(2, ""), text(4, "FieldValueInvalid"), number(6, 0))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (double(9, 5.0), {"maximum": 5}),
        (double(9, 0.0), {"maximum": 0}),
        (double(11, -0.5), {"minimum": -0.5}),
        (double(19, 1e21), {"multipleOf": 1e21}),
        (number(10, 0) + number(12, 1), {"exclusiveMinimum": True}),
        (number(13, 0), {"maxLength": 0}),
        (raw(8, "false"), {"default": False}),
        (raw(8, "0"), {"default": 0}),
        (raw(8, '""'), {"default": ""}),
        (raw(8, '{"a":[]}'), {"default": {"a": []}}),
        (raw(8, "null"), {"default": None}),
        (raw(20, '"a"') + raw(20, "1"), {"enum": ["a", 1]}),
        (part(24, part(1, STRING)), {"items": {"type": "string"}}),
        (part(24, part(2, STRING), part(2, STRING)), {"items": [{"type": "string"}] * 2}),
        (part(30, number(1, 0)), {"additionalProperties": False}),
        (part(30, number(1, 1)), {"additionalProperties": True}),
        (part(30, number(1, 1), part(2, STRING)), {"additionalProperties": {"type": "string"}}),
        (part(30, number(1, 1), part(2)), {"additionalProperties": {}}),
        (part(32, text(1, "a"), part(2, text(2, "b"))), {"dependencies": {"a": ["b"]}}),
        (part(32, text(1, "a"), part(2, part(1, STRING))), {"dependencies": {"a": {"type": "string"}}}),
        (part(29, text(1, "a"), part(2, STRING)), {"properties": {"a": {"type": "string"}}}),
        (text(2, "s") + text(3, "r"), {"$schema": "s", "$ref": "r"}),
        (number(38, 1), {"x-kubernetes-preserve-unknown-fields": True}),
        (number(38, 0), {"x-kubernetes-preserve-unknown-fields": False}),
        (number(40, 1) + number(39, 0), {"x-kubernetes-int-or-string": True}),
        (text(42, "map") + text(41, "k"), {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
        (RULE, {"x-kubernetes-validations": [{"rule": "self > 1", "reason": "FieldValueInvalid", "optionalOldSelf": False}]}),
    ],
)  # fmt: skip
def test_fields_of_a_schema(field: bytes, expected: Any) -> None:
    found = schema_of(field)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def nested(levels: int) -> bytes:
    schema = text(5, "object")
    for _ in range(levels):
        schema = text(5, "object") + part(29, text(1, "a"), part(2, schema))
    return schema


def test_a_deep_schema() -> None:
    found = schema_of(nested(60))
    for _ in range(60):
        found = found["properties"]["a"]
    assert found == {"type": "object"}
    with pytest.raises(BadRequest, match="nested too deep"):
        schema_of(nested(NESTING_MAX))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (double(9, float("nan")), "unsupported value"),
        (double(9, float("inf")), "unsupported value"),
        (double(9, 1.0)[:-1], "unexpected EOF"),
        (number(9, 1), "wrong wireType = 0 for field 9"),
    ],
)
def test_bad_doubles(field: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        schema_of(field)


def test_another_media_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="application/vnd.kubernetes.protobuf"):
        decode.decode_body(CUSTOM_RESOURCE_DEFINITION, b"\xa0", "application/cbor", "Warn")
