"""Bodies: what is refused, what is warned of, what is tidied; the words are those of the reference server."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api.decode import check_fields, decode_body
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN, CSR, NODE, POD
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.errors import BadRequest, Invalid, UnsupportedMediaType
from machinery.meta.resource import Document

SCHEME = Scheme(BUILTIN)
JSON = "application/json"


def kind(name: str, group: str = "") -> ServedKind:
    found = SCHEME.by_gvk(group, "v1", name)
    assert found is not None
    return found


CONFIG_MAP, EVENT = kind("ConfigMap"), kind("Event")


def pod(**spec: object) -> bytes:
    containers = [{"name": "c", "image": "i"}]
    return orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers} | spec})  # fmt: skip


UNRECOGNIZED = "the object provided is unrecognized (must be of type ConfigMap): "
SYNTAX = [
    (b"", "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
    (b'{"a":', 'couldn\'t get version/kind; json parse error: unexpected end of JSON input ({"a":)'),
    (b"x", "couldn't get version/kind; json parse error: invalid character 'x' looking for beginning of value (78)"),
    (b'{"a":1,}', "couldn't get version/kind; json parse error: invalid character '}' looking for beginning of object key string ({\"a\":1,})"),
    (b'{"a" 1}', "couldn't get version/kind; json parse error: invalid character '1' after object key ({\"a\" 1})"),
    (b'{"a":1 "b":2}', "couldn't get version/kind; json parse error: invalid character '\"' after object key:value pair ({\"a\":1 \"b\":2})"),
    (b'{"a":[1 2]}', "couldn't get version/kind; json parse error: invalid character '2' after array element ({\"a\":[1 2]})"),
    (b"{} x", "couldn't get version/kind; json parse error: invalid character 'x' after top-level value ({} x)"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "why"), SYNTAX, ids=[str(raw) for raw, _ in SYNTAX])
def test_broken_json(raw: bytes, why: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode_body(CONFIG_MAP, raw, JSON, "")
    assert error.value.message == UNRECOGNIZED + why


def test_broken_yaml_says_where() -> None:
    with pytest.raises(BadRequest, match=r"error converting YAML to JSON: yaml: line \d"):
        decode_body(CONFIG_MAP, b"a: b: c\n", "application/yaml", "")


def test_an_array_is_no_object() -> None:
    with pytest.raises(BadRequest, match="cannot unmarshal array into Go value"):
        decode_body(CONFIG_MAP, b"[]", JSON, "")


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/cbor"])
def test_other_media_types(media: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="unknown format - accepted media types include"):
        decode_body(CONFIG_MAP, b"{}", media, "")


TYPES = [
    ({"terminationGracePeriodSeconds": "30"}, "string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"),
    ({"terminationGracePeriodSeconds": 1.5}, "number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"),
    ({"hostNetwork": 1}, "number into Go struct field PodSpec.spec.hostNetwork of type bool"),
    ({"containers": {}}, "object into Go struct field PodSpec.spec.containers of type []v1.Container"),
    ({"containers": ["x"]}, "string into Go struct field PodSpec.spec.containers of type v1.Container"),
    ({"containers": [{"name": 1}]}, "number into Go struct field Container.spec.containers.name of type string"),
    ({"containers": [{"ports": [{"containerPort": "80"}]}]}, "string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
    ({"containers": [{"ports": [{"containerPort": 2**31}]}]}, f"number {2**31} into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
    ({"nodeSelector": {"a": 1}}, "number into Go struct field PodSpec.spec.nodeSelector of type string"),
    ({"securityContext": []}, "array into Go struct field PodSpec.spec.securityContext of type v1.PodSecurityContext"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "why"), TYPES, ids=[str(spec) for spec, _ in TYPES])
@pytest.mark.parametrize("field_validation", ["Strict", "Warn", "Ignore", ""])
def test_wrong_types_are_always_refused(
    spec: dict[str, object], why: str, field_validation: str
) -> None:
    with pytest.raises(BadRequest) as error:
        decode_body(POD, pod(**spec), JSON, field_validation)
    head = 'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal '
    assert error.value.message == head + why


LEAVES = [
    ({"resources": {"limits": {"cpu": "1x"}}}, "quantities must match the regular expression"),
    ({"resources": {"limits": {"cpu": True}}}, "quantities must match the regular expression"),
    (
        {"livenessProbe": {"httpGet": {"port": True}}},
        "cannot unmarshal bool into Go value of type int32",
    ),
]


@pytest.mark.parametrize(("part", "why"), LEAVES)
def test_values_of_special_form(part: dict[str, object], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        decode_body(POD, pod(containers=[{"name": "c", "image": "i"} | part]), JSON, "")


TIMES = [
    ("bad", 'parsing time "bad" as "2006-01-02T15:04:05Z07:00": cannot parse "bad" as "2006"'),
    ("2026-01-01", 'cannot parse "" as "T"'),
    ("2026-01-01T00:00:00", 'cannot parse "" as "Z07:00"'),
    ("2026-13-01T00:00:00Z", "month out of range"),
    ("2026-01-01T00:00:00Zx", 'extra text: "x"'),
]


@pytest.mark.parametrize(("text", "why"), TIMES)
def test_times(text: str, why: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "creationTimestamp": text},
    }
    with pytest.raises(BadRequest) as error:
        decode_body(CONFIG_MAP, orjson.dumps(body), JSON, "")
    assert why in error.value.message


TIDIED = [
    (CONFIG_MAP, {"metadata": {"name": "a", "labels": {}, "creationTimestamp": None}, "data": None}, {"metadata": {"name": "a"}}),
    (CONFIG_MAP, {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T01:00:00.5+01:00"}}, {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
    (CONFIG_MAP, {"metadata": {}, "immutable": False}, {"metadata": {}, "immutable": False}),
    (CONFIG_MAP, {"metadata": {}, "data": {"k": None}, "binaryData": {"a": "AA=="}}, {"metadata": {}, "data": {"k": ""}, "binaryData": {"a": "AA=="}}),
    (NODE, {"metadata": {"name": "n"}, "spec": {"unschedulable": False, "podCIDR": ""}}, {"metadata": {"name": "n"}, "spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"), "")}}),
]  # fmt: skip


@pytest.mark.parametrize(("of", "body", "expected"), TIDIED)
def test_what_go_would_not_write_is_dropped_and_what_it_always_writes_is_there(
    of: ServedKind, body: dict[str, object], expected: dict[str, object]
) -> None:
    stamp = {"apiVersion": of.api_version, "kind": of.kind}
    decoded = decode_body(of, orjson.dumps(stamp | body), JSON, "Strict")
    assert decoded.document == stamp | expected


def test_pointers_keep_an_explicit_zero() -> None:
    raw = pod(
        automountServiceAccountToken=False, terminationGracePeriodSeconds=0, hostNetwork=False
    )
    spec = decode_body(POD, raw, JSON, "Strict").document["spec"]
    assert (spec["automountServiceAccountToken"], spec["terminationGracePeriodSeconds"]) == (
        False,
        0,
    )
    assert "hostNetwork" not in spec


def test_quantities_take_their_canonical_form() -> None:
    resources = {"requests": {"cpu": 0.5, "memory": "1024Ki"}}
    spec = decode_body(
        POD, pod(containers=[{"name": "c", "resources": resources}]), JSON, ""
    ).document["spec"]
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Mi"}


UNKNOWN = (
    b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","x":1},"data":{"k":"1"},"y":{}}'
)


def test_unknown_fields_by_field_validation() -> None:
    named = ('unknown field "metadata.x"', 'unknown field "y"')
    assert decode_body(CONFIG_MAP, UNKNOWN, JSON, "").warnings == named
    assert decode_body(CONFIG_MAP, UNKNOWN, JSON, "Warn").warnings == named
    ignored = decode_body(CONFIG_MAP, UNKNOWN, JSON, "Ignore")
    assert (ignored.warnings, "y" in ignored.document) == ((), False)
    with pytest.raises(BadRequest) as error:
        decode_body(CONFIG_MAP, UNKNOWN, JSON, "Strict")
    assert error.value.message.endswith(
        ': strict decoding error: unknown field "metadata.x", unknown field "y"'
    )


@pytest.mark.parametrize("blank", ["", " ", "\n", "\t "], ids=repr)
@pytest.mark.parametrize("colon", [":", " :", ": "], ids=repr)
def test_duplicate_fields_are_found_however_the_body_is_written(blank: str, colon: str) -> None:
    text = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","j":"x:\\":","k":"2"}}'
    raw = text.replace('":', '"' + colon).replace(",", "," + blank).encode()
    decoded = decode_body(CONFIG_MAP, raw, JSON, "")
    assert decoded.warnings == ('duplicate field "data.k"',)
    assert decoded.document["data"]["k"] == "2"


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=5), st.booleans())
def test_no_body_of_an_encoder_has_duplicates(data: dict[str, str], indented: bool) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
    raw = orjson.dumps(body, option=orjson.OPT_INDENT_2 if indented else 0)
    decoded = decode_body(CONFIG_MAP, raw, JSON, "Strict")
    assert decoded.document.get("data", {}) == data


MISMATCHES = [
    ({"apiVersion": "v1", "kind": "Secret"}, "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
    ({"apiVersion": "apps/v1", "kind": "Deployment"}, "converting (v1.Deployment) to (core.ConfigMap): unknown conversion"),
    ({"apiVersion": "v1", "kind": "Foo"}, 'no kind "Foo" is registered for version "v1" in scheme'),
    ({"apiVersion": "v2", "kind": "ConfigMap"}, "the API version in the data (v2) does not match the expected API version (v1)"),
]  # fmt: skip


@pytest.mark.parametrize(("stamp", "why"), MISMATCHES)
def test_another_kind_than_the_url_says(stamp: dict[str, str], why: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode_body(CONFIG_MAP, orjson.dumps(stamp | {"metadata": {"name": "a"}}), JSON, "")
    assert why in error.value.message


@pytest.mark.parametrize("body", [{"metadata": {"name": "a"}}, {"kind": "ConfigMap"}, None])
def test_a_built_kind_may_lack_its_stamp(body: dict[str, object] | None) -> None:
    document = decode_body(CONFIG_MAP, orjson.dumps(body), JSON, "").document
    assert (document["apiVersion"], document["kind"]) == ("v1", "ConfigMap")


def test_yaml() -> None:
    raw = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: 'yes'}\n"
    assert decode_body(CONFIG_MAP, raw, "application/yaml", "Strict").document["data"] == {
        "k": "yes"
    }


def test_events_have_all_their_fields() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod"},
    }
    document = decode_body(EVENT, orjson.dumps(body), JSON, "").document
    assert (document["source"], document["firstTimestamp"], document["reportingComponent"]) == (
        {},
        None,
        "",
    )


def test_check_fields_of_a_patched_object() -> None:
    document = orjson.loads(UNKNOWN)
    tidy, warnings = check_fields(CONFIG_MAP, document, "Warn")
    assert (warnings, "y" in tidy, "y" in document) == (('unknown field "metadata.x"', 'unknown field "y"'), False, True)  # fmt: skip
    with pytest.raises(BadRequest, match="^strict decoding error: unknown field"):
        check_fields(CONFIG_MAP, document, "Strict")


def test_secret_data_must_be_base64() -> None:
    body = {"apiVersion": "v1", "kind": "CertificateSigningRequest", "spec": {"request": "%%"}}
    body["apiVersion"] = CSR.api_version
    with pytest.raises(BadRequest, match="illegal base64 data at input byte 0"):
        decode_body(CSR, orjson.dumps(body), JSON, "")


# ------------------------------------------------------------------------------------------------------------- own kinds
OWN = FLEET[0]


def own(**more: object) -> bytes:
    return orjson.dumps(
        {"apiVersion": OWN.api_version, "kind": OWN.kind, "metadata": {"name": "a"}} | more
    )


def test_own_kinds_are_pruned_by_their_schema() -> None:
    decoded = decode_body(OWN, own(bogus=1), JSON, "")
    assert (decoded.warnings, "bogus" in decoded.document) == (('unknown field "bogus"',), False)


def test_metadata_of_own_kinds_is_typed() -> None:
    with pytest.raises(
        BadRequest, match=r"number into Go struct field ObjectMeta\.labels of type string"
    ):
        decode_body(OWN, own(metadata={"name": "a", "labels": {"a": 1}}), JSON, "")


def test_own_kinds_must_say_what_they_are() -> None:
    with pytest.raises(BadRequest, match="Object 'Kind' is missing in"):
        decode_body(OWN, b'{"spec":{}}', JSON, "")
    with pytest.raises(Invalid, match='kind: Invalid value: "Wodget": must be ' + OWN.kind):
        decode_body(OWN, own(kind="Wodget"), JSON, "")


def test_a_patch_of_the_status_is_not_judged_by_the_spec() -> None:
    """What the patched object shares with the live one was judged when that was stored."""
    live: Document = {"metadata": {"name": "a"}, "spec": {"odd": 1}, "status": {"phase": "Pending"}}
    patched = {**live, "status": {"phase": "Running"}}
    assert check_fields(POD, patched, "Strict", live) == (patched, ())
    with pytest.raises(BadRequest, match='unknown field "spec.more"'):
        check_fields(POD, {**patched, "spec": {"more": 1}}, "Strict", live)
    truth = {**live, "metadata": {**live["metadata"], "generation": True}}
    with pytest.raises(BadRequest, match="cannot unmarshal bool"):
        check_fields(POD, truth, "Strict", {**live, "metadata": {"name": "a", "generation": 1}})
    wrong = {**live, "status": {"phase": 1}}
    with pytest.raises(BadRequest, match="cannot unmarshal number"):
        check_fields(POD, wrong, "Strict", live)


@pytest.mark.parametrize(
    ("container", "kept"),
    [
        ({"securityContext": {"privileged": False}}, True),
        ({"stdin": False}, False),
        ({"command": ['"privileged":false']}, True),
    ],
)
def test_an_explicit_false_is_kept_where_go_keeps_it(container: dict[str, Any], kept: bool) -> None:
    one = {"name": "c", "image": "a:1", "resources": {}, **container}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": [one]}}
    found, warnings = check_fields(POD, pod, "Warn")
    assert warnings == ()
    assert (found["spec"]["containers"][0] == one) is kept
