"""The pure parts of webhooks: what an answer means, where a service is, why nobody answered, whom a write concerns."""

import base64
import contextlib
import errno
import ssl
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document
from machinery.server.admission import reviews
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.admission.managers import judged_managers
from machinery.server.admission.matching import Asked, Equivalents
from machinery.server.admission.registered import NOBODY, Registered, hooks_of
from machinery.server.admission.seen import Seen
from machinery.server.cache import KindCache
from machinery.server.call import Call, Deletion
from machinery.server.config import ServerConfig
from machinery.server.user import UserInfo
from machinery.server.webhooks import conversion, faults
from machinery.server.webhooks.target import Unresolved, places, target_of
from machinery.store.interface import Row

SCHEME = Scheme(BUILTIN)
UID = "u-1"


def kind(plural: str, group: str = "") -> ServedKind:
    found = SCHEME.by_plural(group, "v1", plural)
    assert found is not None
    return found


def answer(version: str = "v1", **response: Any) -> Document:
    return {
        "kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}",
        "response": {"uid": UID, "allowed": True, **response},
    }  # fmt: skip


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -------------------------------------------------------------------------------------------------------------- answers
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(), (True, b"")),
        (answer(allowed=False), (False, b"")),
        (answer(allowed="yes"), (False, b"")),
        (answer(patch=encoded("[]"), patchType="JSONPatch"), (True, b"[]")),
    ],
)
def test_verdict(given: Document, expected: tuple[bool, bytes]) -> None:
    found = reviews.verdict(given, "v1", UID, mutating=True)
    assert (found.allowed, found.patch) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answer(uid="x"), f'expected response.uid="{UID}", got "x"'),
        (answer("v1beta1"), "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"),
        (answer(patch=encoded("[]")), "webhook returned response.patch but not response.patchType"),
        (answer(patch=encoded("[]"), patchType=""), 'webhook returned invalid response.patchType of ""'),
        (answer(patch=7), "response.patch is no base64"),
    ],
)  # fmt: skip
def test_unfit(given: Document, message: str) -> None:
    with pytest.raises(reviews.Unfit) as refused:
        reviews.verdict(given, "v1", UID, mutating=True)
    assert str(refused.value) == message


def test_the_old_version_is_not_looked_at_closely() -> None:
    found = reviews.verdict(
        {"response": {"allowed": True, "patch": encoded("[]")}}, "v1beta1", UID, mutating=True
    )
    assert (found.patch, found.patch_type) == (b"[]", "JSONPatch")
    found = reviews.verdict(
        {"response": {"allowed": True, "patch": encoded("[]")}}, "v1beta1", UID, mutating=False
    )
    assert found.patch == b""


def test_what_a_webhook_says_beside_is_bounded() -> None:
    notes = {f"k{i}": "x" * 1000 for i in range(1000)}
    found = reviews.verdict(
        answer(warnings=["a\r\nX-Evil: 1", 3, *["w" * 9000] * 99], auditAnnotations=notes),
        "v1", UID, mutating=False,
    )  # fmt: skip
    assert found.warnings[0] == "a X-Evil: 1"
    assert len(found.warnings) < 40
    assert max(map(len, found.warnings)) == reviews.WARNING_LETTERS_MAX
    assert sum(map(len, found.annotations.values())) <= reviews.ANNOTATION_BYTES_MAX


def test_the_review_has_its_objects_before_dry_run() -> None:
    request = {"operation": "CREATE", "dryRun": False, "options": None}
    found = reviews.review("v1", UID, request, {"a": 1}, None)["request"]
    assert list(found) == ["uid", "operation", "object", "oldObject", "dryRun", "options"]


@pytest.mark.parametrize(
    ("given", "expected"), [(["v2", "v1beta1", "v1"], "v1beta1"), (["v1"], "v1")]
)
def test_versions(given: list[str], expected: str) -> None:
    assert reviews.version_of(given) == expected
    with pytest.raises(reviews.Unfit, match="does not accept known AdmissionReview versions"):
        reviews.version_of(["v2"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        key: JSON
        for key in ("uid", "allowed", "patch", "patchType", "warnings", "auditAnnotations", "status")
    },
)  # fmt: skip


@given(response=RESPONSE | JSON, mutating=st.booleans(), version=st.sampled_from(["v1", "v1beta1"]))
def test_no_answer_breaks_anything(response: Any, mutating: bool, version: str) -> None:
    """Whatever a webhook says is a verdict, or no answer; and a refusal is a Status of failure."""
    whole = answer(version) | {"response": response}
    if isinstance(response, dict):
        whole["response"] = {**response, "uid": UID}
    try:
        found = reviews.verdict(whole, version, UID, mutating=mutating)
    except reviews.Unfit:
        return
    told = reviews.refusal("w", found.status).to_status()
    assert 400 <= told["code"] <= 599
    assert told["message"].startswith('admission webhook "w" denied the request')
    orjson.dumps(told)
    with contextlib.suppress(reviews.Unfit, ValueError):
        reviews.operations(found)


@given(response=JSON, converted=JSON)
def test_no_conversion_breaks_anything(response: Any, converted: Any) -> None:
    whole = {"response": response}
    with contextlib.suppress(conversion.Unfit):
        conversion.answered(whole, "v1beta1", UID)
    with contextlib.suppress(conversion.Unfit):
        found = conversion.restored(OBJECT, converted, "g/v2")
        assert found["metadata"]["uid"] == "1"
    if isinstance(converted, dict):
        given_ = {**converted, "apiVersion": "g/v2", "kind": "K", "metadata": converted}
        with contextlib.suppress(conversion.Unfit):
            conversion.restored({**OBJECT, "metadata": {}}, given_, "g/v2")


# -------------------------------------------------------------------------------------------------------------- services
def slice_of(*endpoints: tuple[str, bool | None], port: int = 8443, name: str = "web") -> Document:
    return {
        "ports": [{"name": name, "port": port}],
        "endpoints": [
            {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
            for address, ready in endpoints
        ],
    }


SERVICE: Document = {"spec": {"ports": [{"name": "web", "port": 443}]}}


def test_places() -> None:
    slices = [slice_of(("10.0.0.1", True), ("10.0.0.2", False), ("10.0.0.3", None))]
    assert places("s", 443, SERVICE, slices) == [("10.0.0.1", 8443), ("10.0.0.3", 8443)]
    external = {"spec": {"type": "ExternalName", "externalName": "h.example.com"}}
    assert places("s", 9443, external, []) == [("h.example.com", 9443)]


@pytest.mark.parametrize(
    ("service", "port", "message"),
    [
        (None, 443, 'service "s" not found'),
        (SERVICE, 80, 'no service port 80 found for service "s"'),
        (SERVICE, 443, 'no endpoints available for service "s"'),
    ],
)
def test_no_place(service: Document | None, port: int, message: str) -> None:
    with pytest.raises(Unresolved) as refused:
        places("s", port, service, [slice_of(("10.0.0.1", True), name="other")])
    assert str(refused.value) == message


def test_targets() -> None:
    found = target_of({"url": "https://h:9/p", "caBundle": encoded("pem")})
    assert (found.url, found.ca_pem, found.host, found.port) == ("https://h:9/p", b"pem", "h", 9)
    found = target_of({"service": {"namespace": "n", "name": "s", "path": "/p", "port": 8443}})
    assert (found.url, found.service) == ("https://s.n.svc:8443/p", ("n", "s", 8443))
    assert target_of({"url": "https://h", "caBundle": "?"}).ca_pem != b""


# --------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (404, b"", "the server could not find the requested resource"),
        (403, b"no", "no"),
        (502, b'a "b"\n', 'an error on the server ("a \\"b\\"") has prevented the request from succeeding'),
        (302, b"", "the server asked us to go elsewhere (302); redirects are not followed"),
        (418, b"", "the server responded with the status code 418 but did not return more information"),
    ],
)  # fmt: skip
def test_statuses(code: int, body: bytes, expected: str) -> None:
    assert faults.status(code, body) == expected


def test_connections() -> None:
    refused = OSError(errno.ECONNREFUSED, "x")
    assert faults.dial("::1", 9, refused) == "dial tcp [::1]:9: connect: connection refused"
    assert faults.broken(OSError(errno.EPIPE, "x")) == "broken pipe"
    assert faults.broken(OSError("x")) == "EOF"
    expired = ssl.SSLCertVerificationError(1, "x")
    expired.verify_code = 10
    assert faults.certificate("h", expired).endswith("certificate has expired or is not yet valid")
    assert faults.certificate("h", ssl.SSLError(1, "x")).startswith("tls: ")


# ----------------------------------------------------------------------------------------------------------- registered
def hook(name: str = "w.example.com", **fields: Any) -> Document:
    rule = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    }  # fmt: skip
    return {
        "name": name, "rules": [rule], "clientConfig": {"url": "https://h"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], **fields,
    }  # fmt: skip


def configuration(name: str, *hooks: Document) -> Document:
    return {"metadata": {"name": name}, "webhooks": list(hooks)}


def test_hooks_are_numbered_through() -> None:
    found = hooks_of([configuration("a", hook(), hook()), configuration("b", hook("x.y.z"))])
    assert [one.uid for one in found] == ["a/w.example.com/0", "a/w.example.com/1", "b/x.y.z/0"]
    assert [one.index for one in found] == [0, 1, 2]


def registered(*configurations: Document) -> Registered:
    caches = [KindCache(one, ServerConfig()) for one in (MUTATING, VALIDATING)]
    found = Registered(caches[0], caches[1], Equivalents(SCHEME))
    rows = []
    for number, one in enumerate(configurations):
        name = one["metadata"]["name"]
        rows.append(Row(f"{caches[1].prefix}/{name}", _value(one), number + 1, number + 1))
    caches[1].load(rows, len(rows))
    found.load()
    return found


def _value(document: Document) -> bytes:
    return orjson.dumps(document)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked("CREATE", kind("pods"), "", "n", "p"), ["a", "b"]),
        (Asked("UPDATE", kind("pods"), "", "n", "p"), []),
        (Asked("CREATE", kind("pods"), "status", "n", "p"), []),
        (Asked("CREATE", kind("nodes"), "", "", "p"), []),
        (Asked("CREATE", VALIDATING, "", "", "p"), []),
    ],
)
def test_concerned(asked: Asked, expected: list[str]) -> None:
    found = registered(configuration("b", hook()), configuration("a", hook())).concerned(asked)
    assert [one.configuration for one in found.validating] == expected
    assert (found is NOBODY) is (not expected)


def test_none_at_all() -> None:
    assert registered().none
    assert not registered(configuration("a", hook())).none


# ----------------------------------------------------------------------------------------------------------------- seen
def test_what_is_seen_of_a_delete() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}
    options = Deletion(grace_period_seconds=3, uid="x", dry_run=True)
    call = Call(UserInfo("u", ("g",), "1", {"k": ("v",)}))
    request = AdmissionRequest(
        "delete", kind("pods"), "n", "p", "", pod, pod, call, options=options
    )
    seen = Seen(request)
    assert (seen.document, seen.old) == (None, pod)
    found = seen.request(kind("pods"))
    assert found["dryRun"] is True
    assert found["options"] == {
        "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 3,
        "preconditions": {"uid": "x"}, "dryRun": ["All"],
    }  # fmt: skip
    assert found["userInfo"] == {
        "username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]},
    }  # fmt: skip


def test_managers_are_judged() -> None:
    entry = {"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {}}
    before: Document = {"metadata": {"managedFields": [entry]}}
    call = Call(UserInfo("u"))

    def judged(after: Any) -> Any:
        document = {"metadata": {"managedFields": after}}
        request = AdmissionRequest("create", kind("pods"), "n", "p", "", document, None, call)
        return judged_managers(before, request)

    assert judged([entry]) is None
    assert judged([]) == []
    assert call.warnings == []
    assert judged([{**entry, "fieldsType": "V2"}]) == [entry]
    assert len(call.warnings) == 1


# ----------------------------------------------------------------------------------------------------------- conversion
OBJECT: Document = {
    "apiVersion": "g/v1", "kind": "K",
    "metadata": {"name": "a", "uid": "1", "labels": {"x": "y"}, "finalizers": ["f"]},
}  # fmt: skip


def test_metadata_comes_from_the_original() -> None:
    given = {"name": "a", "uid": "1", "annotations": {"n": "m"}, "finalizers": []}
    converted = {"apiVersion": "g/v2", "kind": "K", "metadata": given, "spec": 1}
    found = conversion.restored(OBJECT, converted, "g/v2")
    assert found["metadata"] == {
        "name": "a", "uid": "1", "finalizers": ["f"], "annotations": {"n": "m"},
    }  # fmt: skip
    assert found["spec"] == 1


def test_a_conversion_without_metadata_is_none() -> None:
    with pytest.raises(conversion.Unfit, match="missing metadata in converted object"):
        conversion.restored(OBJECT, {"apiVersion": "g/v2", "kind": "K"}, "g/v2")
