"""Protobuf bodies: what kubectl sent, what the wire leaves open, and garbage."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.protowriter import envelope, number, part, text, varint

from machinery.api import decode, protobuf
from machinery.api.kinds import BUILTIN, CUSTOM_RESOURCE_DEFINITION
from machinery.api.protobuf.forms import fields_of
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import RUN_BY_MEMBERS, TEMPLATE_KINDS
from machinery.meta.errors import BadRequest

RECORDED = Path(__file__).parents[2] / "golden" / "api-protobuf"
SCHEME = Scheme(BUILTIN)


# ------------------------------------------------------------------------------------------------------ recorded
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "namespace",
            {
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"},
                "spec": {}, "status": {},
            },
        ),
        (
            "configmap",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}},
        ),
        (
            "token",
            {
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                "spec": {"expirationSeconds": 1200}, "status": {},
            },
        ),
        (
            "deployment",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {
                            "containers": [{"name": "nginx", "image": "nginx", "resources": {}}]
                        },
                    },
                    "strategy": {},
                },
                "status": {},
            },
        ),
    ],
)  # fmt: skip
def test_what_kubectl_sent(name: str, expected: Any) -> None:
    assert protobuf.decode_envelope((RECORDED / f"{name}.bin").read_bytes()) == expected


def test_a_body_passes_the_door() -> None:
    kind = SCHEME.by_gvk("apps", "v1", "Deployment")
    assert kind is not None
    raw = (RECORDED / "deployment.bin").read_bytes()
    decoded = decode.decode_body(kind, raw, "application/vnd.kubernetes.protobuf", "Strict")
    assert decoded.document["spec"]["replicas"] == 0
    assert decoded.warnings == ()


# -------------------------------------------------------------------------------------------------- forms of values
META = part(1, text(1, "x"))


@pytest.mark.parametrize(
    ("raw", "path", "expected"),
    [
        pytest.param(
            envelope("v1", "Secret", META, part(2, text(1, "k"), part(2, b"\xff\x00"))),
            ("data",), {"k": "/wA="}, id="bytes-in-a-map",
        ),
        pytest.param(
            envelope("v1", "Pod", part(1, part(9, number(1, 60), number(2, 0)))),
            ("metadata", "deletionTimestamp"), "1970-01-01T00:01:00Z", id="time",
        ),
        pytest.param(
            envelope("v1", "Pod", part(1, text(1, "x"), part(8))),
            ("metadata",), {"name": "x"}, id="zero-time-is-nothing",
        ),
        pytest.param(
            envelope("coordination.k8s.io/v1", "Lease", part(2, part(4, number(1, 1), number(2, 5000)))),
            ("spec", "renewTime"), "1970-01-01T00:00:01.000005Z", id="micro-time",
        ),
        pytest.param(
            envelope("v1", "Pod", part(2, part(2, part(8, part(1, text(1, "cpu"), part(2, text(1, "1"))))))),
            ("spec", "containers", 0, "resources", "limits"), {"cpu": "1"}, id="quantity",
        ),
        pytest.param(
            envelope("v1", "Pod", part(2, part(1, text(1, "v"), part(2, part(2, text(1, "")))))),
            ("spec", "volumes", 0), {"name": "v", "emptyDir": {}}, id="inlined-source",
        ),
        pytest.param(
            envelope("v1", "Pod", part(2, part(2, part(10, part(1, part(2, text(1, "/"), part(2, number(1, 1), text(3, "http")))))))),
            ("spec", "containers", 0, "livenessProbe", "httpGet"),
            {"path": "/", "port": "http"}, id="int-or-string",
        ),
        pytest.param(
            envelope("v1", "Pod", part(1, part(17, text(1, "m"), part(7, part(1, b'{"f:x":{}}'))))),
            ("metadata", "managedFields", 0, "fieldsV1"), {"f:x": {}}, id="raw-json",
        ),
        pytest.param(
            envelope("scheduling.k8s.io/v1", "PriorityClass", META, number(2, -5)),
            ("value",), -5, id="negative",
        ),
        pytest.param(
            envelope("authentication.k8s.io/v1", "TokenReview", part(3, part(2, part(4, text(1, "k"), part(2, text(1, "a"), text(1, "b")))))),
            ("status", "user", "extra"), {"k": ["a", "b"]}, id="named-slice",
        ),
        pytest.param(
            envelope("policy/v1", "Eviction", META, part(2, number(1, 0), text(4, "Orphan"))),
            ("deleteOptions",), {"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"},
            id="pointer-keeps-zero",
        ),
        pytest.param(
            envelope("apps/v1", "DeleteOptions", part(2, text(1, "u"))),
            ("preconditions",), {"uid": "u"}, id="delete-options-of-any-group",
        ),
        pytest.param(
            envelope("v1", "Pod", META, number(99, 7), part(98, b"zz"), varint(97 << 3 | 5) + b"1234"),
            ("metadata",), {"name": "x"}, id="unknown-fields",
        ),
    ],
)  # fmt: skip
def test_forms(raw: bytes, path: tuple[Any, ...], expected: Any) -> None:
    found: Any = protobuf.decode_envelope(raw)
    for step in path:
        found = found[step]
    assert found == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty data"),
        (b"{}", "expected prefix [107 56 115 0]"),
        (b"k8s\x00", "empty body"),
        (b"k8s\x00\x0a\x7f", "unexpected EOF"),
        (b"k8s\x00" + b"\xff" * 11, "proto: integer overflow"),
        (b"k8s\x00\x00\x00", "proto: illegal tag 0 (wire type 0)"),
        (b"k8s\x00\x08\x01", "proto: wrong wireType = 0 for field 1"),
        (b"k8s\x00\x5e\x01", "proto: illegal wireType 6"),
        (envelope("v1", "Nope"), 'no kind "Nope" is registered for version "v1"'),
        (envelope("v1", "Pod", part(1, part(9, number(1, 1 << 50)))), "year outside of range"),
    ],
)
def test_malformed(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        protobuf.decode_envelope(raw)
    assert message in raised.value.message
    with pytest.raises(BadRequest, match="the object provided is unrecognized") as raised:
        protobuf.decode_envelope(raw, "Pod")
    assert "must be of type Pod" in raised.value.message


@given(st.binary(max_size=200))
def test_garbage_is_a_bad_request(garbage: bytes) -> None:
    for raw in (garbage, b"k8s\x00" + garbage, envelope("v1", "Pod", garbage)):
        try:
            found = protobuf.decode_envelope(raw)
        except BadRequest:
            continue
        assert isinstance(found, dict)


@given(st.data())
def test_a_damaged_body_is_a_bad_request_or_a_document(data: st.DataObject) -> None:
    raw = bytearray((RECORDED / "deployment.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for body in (bytes(raw), bytes(raw[:cut])):
        try:
            assert isinstance(protobuf.decode_envelope(body), dict)
        except BadRequest as error:
            assert error.message


def test_deep_nesting_is_bounded() -> None:
    inner = b"{}"
    for _ in range(200):
        inner = envelope("apps/v1", "ControllerRevision", part(2, part(1, inner)))
    with pytest.raises(BadRequest, match="nested too deep"):
        protobuf.decode_envelope(inner)


@pytest.mark.parametrize(
    "kind",
    [
        *(k for k in BUILTIN if k is not CUSTOM_RESOURCE_DEFINITION),
        *TEMPLATE_KINDS,
        *RUN_BY_MEMBERS,
    ],
    ids=lambda k: f"{k.kind}.{k.group}",
)
def test_every_built_kind_is_in_the_table(kind: Any) -> None:
    group = kind.group.split(".")[0] or "core"
    assert fields_of(f"{group}/{kind.version}.{kind.kind}")
