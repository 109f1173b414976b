"""A table of attacks on the API: each row is something that must not work, tried on a running server over HTTPS."""

import asyncio
import json
import re
from typing import Any

import pytest
from tests.fuzz.raw import everything, first
from tests.support.attacks import (
    ADMIN,
    CORE,
    HIDDEN,
    ME,
    PATCHES,
    RBAC,
    REF,
    TENANT,
    Scene,
    pod,
    rule,
    scene,
)

pytestmark = pytest.mark.integration
__all__ = ["scene"]  # the fixture


# -------------------------------------------------------------------------------------------------------- path tricks
PATHS = [
    "/api/v1/namespaces/mine/configmaps/../../other/secrets/s",
    "/api/v1/namespaces/mine/configmaps/../secrets/s",
    "/api/v1/namespaces/mine/../other/secrets/s",
    "/api/v1/namespaces/mine%2F..%2Fother/secrets/s",
    "/api/v1/namespaces/mine%2f%2e%2e%2fother/secrets",
    "/api/v1/namespaces/mine/configmaps/%2e%2e%2f%2e%2e%2fsecrets%2fs",
    "/api/v1/namespaces/mine/configmaps/c%2f..%2f..%2fother%2fs",
    "/api/v1/namespaces/mine/configmaps/..%5c..%5csecrets%5cs",
    "/api/v1/namespaces/mine/configmaps/c%00/../../secrets/s",
    "/api/v1/namespaces/mine/secrets%00/s",
    "/api/v1/namespaces/mine/secrets/s%00",
    "/api/v1/namespaces/mine/secrets;configmaps/s",
    "/api/v1/namespaces/mine/configmaps;/../secrets/s",
    "/api/v1/namespaces/mine/secret%73/s",
    "/api/v1/namespaces/mine/Secrets/s",
    "/api/v1/namespaces/mine//secrets/s",
    "/api/v1/namespaces//mine/secrets/s",
    "/api/v1/namespaces//secrets",
    "/api/v1//namespaces/mine/secrets/s",
    "//api/v1/namespaces/mine/secrets/s",
    "/api//v1/secrets",
    "/./api/v1/namespaces/mine/secrets/s",
    "/healthz/../api/v1/namespaces/mine/secrets/s",
    "/healthz/%2e%2e/api/v1/secrets",
    "/livez/..%2fapi%2fv1%2fsecrets",
    "/openapi/../api/v1/secrets",
    "/api/v1/watch/namespaces/mine/secrets/s?timeoutSeconds=1",
    "/api/v1/watch/secrets?timeoutSeconds=1",
    "/api/v1/secrets?fieldSelector=metadata.namespace%3Dmine",
    "/api/v1/namespaces/mine/secrets?fieldSelector=metadata.name%3Ds",
    "/api/v1/namespaces/mine/configmaps/c/../../../mine/secrets/s?x=/../",
    "/apis//v1/namespaces/mine/secrets/s",
    "/apis/core/v1/namespaces/mine/secrets/s",
    "/api/v1/proxy/namespaces/mine/secrets/s",
    "https://elsewhere/api/v1/namespaces/mine/secrets/s",
    "http:/api/v1/namespaces/mine/secrets/s",
    "*",
]  # fmt: skip


@pytest.mark.parametrize("who", ["", TENANT])
async def test_no_path_leads_around_the_rights(scene: Scene, who: str) -> None:
    for path in PATHS:
        for method in ("GET", "DELETE"):
            sent = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", scene.server.api.port, ssl=scene.tls(who)
            )
            writer.write(sent)
            status, _, raw = first(await reader.read())
            writer.close()
            assert HIDDEN.encode() not in raw, (path, raw)
            assert status in (400, 401, 403, 404, 405), (path, status, raw)
    status, _ = await scene.ask(ADMIN, "GET", f"{CORE}/namespaces/mine/secrets/s")
    assert status == 200


# ---------------------------------------------------------------------------------------------------- header smuggling
INNER = b"GET /api/v1/namespaces/mine/secrets/s HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b'{"metadata":{"generateName":"g-"}}'


def post(*lines: bytes, body: bytes = b"", end: bytes = b"\r\n") -> bytes:
    head = [
        b"POST /api/v1/namespaces/mine/configmaps HTTP/1.1",
        b"Host: a",
        b"Content-Type: application/json",
        *lines,
    ]
    return end.join(head) + end * 2 + body


def sized(value: bytes) -> bytes:
    return b"Content-Length: " + value


WHOLE = b"%d" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = {
    "two lengths": post(sized(WHOLE), sized(b"%d" % (len(BODY) + len(INNER))), body=BODY + INNER),
    "two lengths in one": post(sized(WHOLE + b", " + b"%d" % (len(BODY) + len(INNER))), body=BODY + INNER),
    "length and chunked": post(sized(b"%d" % (len(CHUNKS) + len(INNER))), b"Transfer-Encoding: chunked", body=CHUNKS + INNER),
    "chunked and length": post(b"Transfer-Encoding: chunked", sized(b"5"), body=CHUNKS + INNER),
    "odd encoding": post(b"Transfer-Encoding: xchunked", sized(WHOLE), body=BODY + INNER),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=CHUNKS + INNER),
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKS + INNER),
    "encoding with a tab": post(b"Transfer-Encoding:\x0bchunked", sized(WHOLE), body=BODY + INNER),
    "space before the colon": post(b"Transfer-Encoding : chunked", sized(WHOLE), body=BODY + INNER),
    "folded": post(b"X-A: b\r\n Transfer-Encoding: chunked", sized(WHOLE), body=BODY + INNER),
    "bare line feeds": post(sized(WHOLE), body=BODY + INNER, end=b"\n"),
    "bare carriage return": post(b"X-A: b\rTransfer-Encoding: chunked", sized(WHOLE), body=BODY + INNER),
    "zero byte": post(b"X-A: \x00b", sized(WHOLE), body=BODY + INNER),
    "signed length": post(sized(b"+" + WHOLE), body=BODY + INNER),
    "negative length": post(sized(b"-1"), body=BODY + INNER),
    "hexadecimal length": post(sized(b"0x22"), body=BODY + INNER),
    "length of many digits": post(sized(b"9" * 5000), body=BODY + INNER),
    "chunk size with a sign": post(b"Transfer-Encoding: chunked", body=b"+" + CHUNKS + INNER),
    "chunk size 0x": post(b"Transfer-Encoding: chunked", body=b"0x" + CHUNKS + INNER),
    "chunk without its end": post(b"Transfer-Encoding: chunked", body=b"%x\r\n%b" % (len(BODY), BODY) + INNER),
    "chunk with bare line feeds": post(b"Transfer-Encoding: chunked", body=CHUNKS.replace(b"\r\n", b"\n") + INNER),
    "no name": post(b": x", sized(WHOLE), body=BODY + INNER),
    "no colon": post(b"nothing", sized(WHOLE), body=BODY + INNER),
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_request_is_one_request(scene: Scene, name: str) -> None:
    """A proxy before us and we must not disagree where it ends: what is ambiguous is refused, and the connection ends."""
    told = await everything(scene.server, SMUGGLED[name], timeout_s=1)
    assert HIDDEN.encode() not in told, told
    assert told.count(b"HTTP/1.1 ") <= 1, told
    status, _, raw = first(told)
    assert status == 400, (status, raw)
    assert b"Internal Server Error" not in told


async def test_pipelined_requests_are_each_judged(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.server.api.port, ssl=scene.tls(TENANT)
    )
    own = b"GET /api/v1/namespaces/mine/configmaps/c HTTP/1.1\r\nHost: a\r\n\r\n"
    last = INNER.replace(b"Host: a", b"Host: a\r\nConnection: close")
    writer.write(own + INNER + own + last)
    told = await reader.read()
    writer.close()
    assert HIDDEN.encode() not in told
    assert re.findall(rb"HTTP/1.1 (\d+)", told) == [b"200", b"403", b"200", b"403"]


async def test_what_is_quoted_is_no_header(scene: Scene) -> None:
    document = {
        "metadata": {"name": "x"},
        "a\r\nX-Injected: yes\r\n\r\nHTTP/1.1 200 OK": 1,
        "b" * 100_000: 2,
    }
    sent = json.dumps(document).encode()
    told = await everything(
        scene.server, post(sized(b"%d" % len(sent)), b"Connection: close", body=sent)
    )
    head = told.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 201")
    assert b"\r\nX-Injected" not in head
    assert len(head) < 10_000


# ----------------------------------------------------------------------------------------------- more rights than held
MORE = [rule("get", "secrets")]
ALL = [rule("*", "*", "*")]
AGGREGATE = {
    "clusterRoleSelectors": [
        {"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}}
    ]
}
ESCALATIONS = {
    "role": ("POST", f"{RBAC}/namespaces/mine/roles", {"metadata": {"name": "x"}, "rules": MORE}),
    "cluster role": ("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "x"}, "rules": ALL}),
    "binding": ("POST", f"{RBAC}/namespaces/mine/rolebindings", {"metadata": {"name": "x"}, "subjects": ME, "roleRef": REF}),
    "cluster binding": ("POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "x"}, "subjects": ME, "roleRef": REF}),
    "binding to what is not there": ("POST", f"{RBAC}/namespaces/mine/rolebindings", {"metadata": {"name": "x"}, "subjects": ME, "roleRef": {**REF, "name": "later"}}),
    "aggregation": ("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "x"}, "aggregationRule": AGGREGATE}),
    "other namespace": ("POST", f"{RBAC}/namespaces/other/roles", {"metadata": {"name": "x"}, "rules": []}),
    "put of a role": ("PUT", f"{RBAC}/namespaces/mine/roles/tenant", {"metadata": {"name": "tenant"}, "rules": MORE}),
    "put that aggregates": ("PUT", f"{RBAC}/clusterroles/wide", {"metadata": {"name": "wide"}, "aggregationRule": AGGREGATE}),
    "put of another roleRef": ("PUT", f"{RBAC}/namespaces/mine/rolebindings/tenant", {"metadata": {"name": "tenant"}, "subjects": ME, "roleRef": REF}),
}  # fmt: skip


@pytest.mark.parametrize("name", ESCALATIONS)
async def test_nobody_gives_what_he_does_not_hold(scene: Scene, name: str) -> None:
    method, path, body = ESCALATIONS[name]
    status, told = await scene.ask(TENANT, method, path, body)
    assert status in (403, 404, 422), told
    await still_poor(scene)


async def still_poor(scene: Scene) -> None:
    for path in (
        f"{CORE}/namespaces/mine/secrets/s",
        f"{CORE}/namespaces/other/secrets/s",
        f"{CORE}/secrets",
    ):
        status, told = await scene.ask(TENANT, "GET", path)
        assert status == 403, told


PATCHED = {
    "rules": (f"{RBAC}/namespaces/mine/roles/tenant", {"rules": MORE}),
    "cluster rules": (f"{RBAC}/clusterroles/wide", {"rules": ALL}),
    "aggregation": (f"{RBAC}/clusterroles/wide", {"aggregationRule": AGGREGATE}),
    "roleRef": (f"{RBAC}/clusterrolebindings/wide", {"roleRef": REF}),
}


@pytest.mark.parametrize("kind", PATCHES)
@pytest.mark.parametrize("name", PATCHED)
async def test_nor_by_a_patch(scene: Scene, name: str, kind: str) -> None:
    path, change = PATCHED[name]
    body: Any = change
    if kind == "json":
        body = [{"op": "add", "path": f"/{key}", "value": value} for key, value in change.items()]
    if kind == "apply":
        what = {
            "roles": "Role",
            "clusterroles": "ClusterRole",
            "clusterrolebindings": "ClusterRoleBinding",
        }
        plural, own = path.split("/")[-2:]
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": what[plural],
            "metadata": {"name": own},
            **change,
        }
    status, told = await scene.ask(
        TENANT, "PATCH", f"{path}?fieldManager=m&force=true", body, Content_Type=PATCHES[kind]
    )
    assert status in (403, 422), told
    await still_poor(scene)


async def test_who_may_bind_a_role_may(scene: Scene) -> None:
    """The control: the rows above fail for the reason that they name."""
    more = {
        **rule("bind", "clusterroles", "rbac.authorization.k8s.io"),
        "resourceNames": ["cluster-admin"],
    }
    await scene.made(f"{RBAC}/clusterroles", {"metadata": {"name": "binder"}, "rules": [more]})
    await scene.made(
        f"{RBAC}/clusterrolebindings",
        {"metadata": {"name": "binder"}, "subjects": ME, "roleRef": {**REF, "name": "binder"}},
    )
    method, path, body = ESCALATIONS["binding"]
    assert (await scene.ask(TENANT, method, path, body))[0] == 201
    assert (await scene.ask(TENANT, "GET", f"{CORE}/namespaces/mine/secrets/s"))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "admin"},
        {"Impersonate-User": TENANT, "Impersonate-Group": "system:masters"},
        {"Impersonate-User": TENANT, "Impersonate-Uid": "1"},
        {"Impersonate-User": TENANT, "Impersonate-Extra-scopes": "all"},
        {"Impersonate-User": "system:serviceaccount:kube-system:default"},
        {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"},
        {"Impersonate-Group": "system:masters"},
        {"Impersonate-Uid": "1"},
        {"impersonate-user": "admin", "IMPERSONATE-GROUP": "system:masters"},
    ],
    ids=str,
)
async def test_nobody_is_somebody_else(scene: Scene, headers: dict[str, str]) -> None:
    for path in (f"{CORE}/namespaces/mine/configmaps/c", f"{CORE}/namespaces/other/secrets/s"):
        status, told = await scene.ask(TENANT, "GET", path, **headers)
        assert status in (400, 403), told
        assert HIDDEN not in str(told)


# ------------------------------------------------------------------------------------------- what is not the user's field
async def test_the_status_is_not_the_main_endpoints(scene: Scene) -> None:
    pods = f"{CORE}/namespaces/mine/pods"
    status, made = await scene.ask(
        TENANT, "POST", pods, {**pod("p"), "status": {"phase": "Running", "podIP": "1.2.3.4"}}
    )
    assert (status, made["status"]["phase"]) == (201, "Pending")
    assert "podIP" not in made["status"]
    for body, kind in (
        ({"status": {"phase": "Running", "podIP": "1.2.3.4"}}, "merge"),
        ({"status": {"phase": "Running", "podIP": "1.2.3.4"}}, "strategic"),
        ([{"op": "add", "path": "/status/podIP", "value": "1.2.3.4"}], "json"),
    ):
        _, told = await scene.ask(TENANT, "PATCH", f"{pods}/p", body, Content_Type=PATCHES[kind])
        assert "podIP" not in told.get("status", {})


async def test_nor_is_the_rest_the_status_endpoints(scene: Scene) -> None:
    await scene.made(f"{CORE}/namespaces/mine/pods", pod("p"))
    change = {"metadata": {"labels": {"a": "b"}, "finalizers": ["x.io/y"]}, "spec": {"nodeName": "n1", "serviceAccountName": "worker"}, "status": {"podIP": "1.2.3.4"}}  # fmt: skip
    status, told = await scene.ask(
        TENANT,
        "PATCH",
        f"{CORE}/namespaces/mine/pods/p/status",
        change,
        Content_Type=PATCHES["merge"],
    )
    assert (status, told["status"]["podIP"]) == (200, "1.2.3.4")
    assert "nodeName" not in told["spec"]
    assert told["spec"].get("serviceAccountName") != "worker"


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"nodeName": "n9"}},
        {"spec": {"serviceAccountName": "worker"}},
        {"spec": {"hostNetwork": True}},
        {"spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}},
        {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
        {"metadata": {"uid": "11111111-1111-1111-1111-111111111111"}},
        {"metadata": {"name": "q"}},
        {"metadata": {"namespace": "other"}},
        {"metadata": {"resourceVersion": "1"}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": True, "blockOwnerDeletion": True} for name in "ab"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]}},
    ],
    ids=str,
)  # fmt: skip
async def test_what_a_pod_is_stays(scene: Scene, change: Any) -> None:
    """Owners that block a deletion need no further right, as upstream without OwnerReferencesPermissionEnforcement; two
    controllers, an Event as owner or one without uid are refused."""
    made = await scene.made(f"{CORE}/namespaces/mine/pods", pod("p"))
    for kind in ("merge", "strategic"):
        status, told = await scene.ask(
            TENANT, "PATCH", f"{CORE}/namespaces/mine/pods/p", change, Content_Type=PATCHES[kind]
        )
        assert status in (400, 409, 422), told
    _, now = await scene.ask(TENANT, "GET", f"{CORE}/namespaces/mine/pods/p")
    assert now == made


async def test_the_servers_metadata_is_the_servers(scene: Scene) -> None:
    lie = {"uid": "u", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9, "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 1, "selfLink": "/x"}  # fmt: skip
    _, made = await scene.ask(
        TENANT, "POST", f"{CORE}/namespaces/mine/configmaps", {"metadata": {"name": "l", **lie}}
    )
    metadata = made["metadata"]
    assert metadata["uid"] != "u"
    assert not {"deletionTimestamp", "selfLink", "deletionGracePeriodSeconds"} & set(metadata)
    assert metadata["creationTimestamp"] > "2001-01-02"
