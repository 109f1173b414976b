"""A table of attacks on the API: each row is something that must not work, tried on a running server over HTTPS."""

import asyncio
import base64
import datetime as dt
import json
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.fuzz.raw import everything, first
from tests.support.apiserver import RunningServer, running_server
from yarl import URL

from machinery.kit.clock import SystemClock
from machinery.server.pki import client_context

pytestmark = pytest.mark.integration
HIDDEN = "dG9wLXNlY3JldA=="
"""What nobody here may read."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CORE = "/api/v1"
PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
Answer = tuple[int, Any]


class Wall(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return super().now() + self.ahead


class Scene:
    """A server with something to steal, and those who would like to."""

    def __init__(self, server: RunningServer, clock: Wall, session: aiohttp.ClientSession) -> None:
        self.server, self.clock, self._session = server, clock, session
        self._tls: dict[str, ssl.SSLContext] = {}

    def tls(self, who: str) -> ssl.SSLContext:
        """The context of a user; groups by slashes: `system:node:n1/system:nodes`."""
        if who not in self._tls:
            name, *groups = who.split("/")
            pair = None if not who else self.server.api.client_pair(name, groups)
            self._tls[who] = (
                client_context(self.server.api.ca_pem, pair)
                if pair
                else client_context(self.server.api.ca_pem)
            )
        return self._tls[who]

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer:
        """(status, document or text)."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = URL(self.server.api.url + path, encoded=True)
        async with self._session.request(
            method, url, data=data, headers=sent, ssl=self.tls(who)
        ) as answer:
            raw = await answer.read()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw.decode(errors="replace")

    async def made(self, path: str, document: Any) -> Any:
        status, told = await self.ask(ADMIN, "POST", path, document)
        assert status == 201, told
        return told


ADMIN = "admin/system:masters"
TENANT = "tenant"
NODE = "system:node:n1/system:nodes"
WRITES = "create get list watch update patch delete"
"""All but `escalate`, `bind` and `impersonate`."""


def rule(verbs: str, resources: str, groups: str = "") -> dict[str, list[str]]:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split(",")}


def pod(name: str, node: str = "", **spec: Any) -> Any:
    found: Any = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }
    if node:
        found["spec"]["nodeName"] = node
    return found


def secret_volume(name: str) -> Any:
    return [{"name": "v", "secret": {"secretName": name}}]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Wall()
    async with running_server(clock=clock) as server, aiohttp.ClientSession() as session:
        found = Scene(server, clock, session)
        for name in ("mine", "other"):
            await found.made(f"{CORE}/namespaces", {"metadata": {"name": name}})
            for account in ("default", "worker"):
                await found.made(
                    f"{CORE}/namespaces/{name}/serviceaccounts", {"metadata": {"name": account}}
                )
            await found.made(
                f"{CORE}/namespaces/{name}/secrets",
                {"metadata": {"name": "s"}, "data": {"k": HIDDEN}},
            )
        await found.made(
            f"{CORE}/namespaces/mine/configmaps", {"metadata": {"name": "c"}, "data": {"k": "v"}}
        )
        held = [
            rule(WRITES, "configmaps pods pods/status serviceaccounts"),
            rule(WRITES, "roles rolebindings", "rbac.authorization.k8s.io"),
        ]
        role = {"metadata": {"name": "tenant"}, "rules": held}
        await found.made(f"{RBAC}/namespaces/mine/roles", role)
        subject = {"kind": "User", "name": TENANT, "apiGroup": "rbac.authorization.k8s.io"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}
        await found.made(
            f"{RBAC}/namespaces/mine/rolebindings",
            {"metadata": {"name": "tenant"}, "subjects": [subject], "roleRef": ref},
        )
        wide = [rule("create get list update patch", "clusterroles clusterrolebindings", "rbac.authorization.k8s.io"), rule("create get patch update", "certificatesigningrequests", "certificates.k8s.io")]  # fmt: skip
        await found.made(f"{RBAC}/clusterroles", {"metadata": {"name": "wide"}, "rules": wide})
        await found.made(
            f"{RBAC}/clusterrolebindings",
            {
                "metadata": {"name": "wide"},
                "subjects": [subject],
                "roleRef": {**ref, "kind": "ClusterRole", "name": "wide"},
            },
        )
        yield found


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
REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
ME = [{"kind": "User", "name": TENANT, "apiGroup": "rbac.authorization.k8s.io"}]
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


# ----------------------------------------------------------------------------------------------------------- a node
@pytest.fixture
async def nodes(scene: Scene) -> Scene:
    for name in ("n1", "n2"):
        await scene.made(f"{CORE}/nodes", {"metadata": {"name": name}})
        await scene.made(
            f"{CORE}/namespaces/other/secrets",
            {"metadata": {"name": f"for-{name}"}, "data": {"k": HIDDEN}},
        )
        body = pod(
            name, name, volumes=secret_volume(f"for-{name}"), serviceAccountName=f"of-{name}"
        )
        await scene.made(
            f"{CORE}/namespaces/other/serviceaccounts", {"metadata": {"name": f"of-{name}"}}
        )
        await scene.made(f"{CORE}/namespaces/other/pods", body)
    return scene


def mirror(**spec: Any) -> Any:
    found = pod("mirror", spec.pop("node", "n1"), **spec)
    found["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    return found


def projected(**source: Any) -> Any:
    return [{"name": "v", "projected": {"sources": [source]}}]


def token_for(pod_name: str = "", uid: str = "") -> Any:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod_name} | (
        {"uid": uid} if uid else {}
    )
    return {
        "spec": {"audiences": [], "boundObjectRef": reference} if pod_name else {"audiences": []}
    }


OTHER = f"{CORE}/namespaces/other"
MERGE = {"Content_Type": PATCHES["merge"]}
NODE_ATTACKS: dict[str, tuple[str, str, Any]] = {
    "secret of another node's pod": ("GET", f"{OTHER}/secrets/for-n2", None),
    "secret of nobody's pod": ("GET", f"{CORE}/namespaces/mine/secrets/s", None),
    "all secrets": ("GET", f"{CORE}/secrets", None),
    "secrets of a namespace": ("GET", f"{OTHER}/secrets", None),
    "secret by a selector": ("GET", f"{OTHER}/secrets?fieldSelector=metadata.name%3Dfor-n2", None),
    "watch of a secret": ("GET", f"{OTHER}/secrets?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dfor-n2", None),
    "write of its own secret": ("PATCH", f"{OTHER}/secrets/for-n1", {"data": {"k": "eA=="}}),
    "pod that is no mirror": ("POST", f"{OTHER}/pods", pod("x", "n1")),
    "mirror elsewhere": ("POST", f"{OTHER}/pods", mirror(node="n2")),
    "mirror with a secret": ("POST", f"{OTHER}/pods", mirror(volumes=secret_volume("for-n2"))),
    "mirror with a projected secret": ("POST", f"{OTHER}/pods", mirror(volumes=projected(secret={"name": "for-n2"}))),
    "mirror with a token": ("POST", f"{OTHER}/pods", mirror(volumes=projected(serviceAccountToken={"path": "t"}))),
    "mirror with a claim": ("POST", f"{OTHER}/pods", mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])),
    "mirror with a secret to pull": ("POST", f"{OTHER}/pods", mirror(imagePullSecrets=[{"name": "for-n2"}])),
    "mirror with a secret in its environment": ("POST", f"{OTHER}/pods", mirror(containers=[{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "for-n2"}}]}])),
    "mirror as an account": ("POST", f"{OTHER}/pods", mirror(serviceAccountName="of-n2")),
    "another's pod": ("DELETE", f"{OTHER}/pods/n2", None),
    "another's pod's status": ("PATCH", f"{OTHER}/pods/n2/status", {"status": {"phase": "Failed"}}),
    "another's pod's eviction": ("POST", f"{OTHER}/pods/n2/eviction", {"metadata": {"name": "n2"}}),
    "its own pod's spec": ("PATCH", f"{OTHER}/pods/n1", {"spec": {"activeDeadlineSeconds": 1}}),
    "a binding": ("POST", f"{OTHER}/pods/n2/binding", {"target": {"name": "n1"}}),
    "another node": ("PATCH", f"{CORE}/nodes/n2", {"metadata": {"labels": {"a": "b"}}}),
    "another node's status": ("PATCH", f"{CORE}/nodes/n2/status", {"status": {"conditions": []}}),
    "its own taints": ("PATCH", f"{CORE}/nodes/n1", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    "a restricted label": ("PATCH", f"{CORE}/nodes/n1", {"metadata": {"labels": {"node-restriction.kubernetes.io/pci": "yes"}}}),
    "a restricted label below it": ("PATCH", f"{CORE}/nodes/n1", {"metadata": {"labels": {"a.node-restriction.kubernetes.io/x": "y"}}}),
    "a role's label": ("PATCH", f"{CORE}/nodes/n1", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
    "a restricted label by its status": ("PATCH", f"{CORE}/nodes/n1/status", {"metadata": {"labels": {"node-restriction.kubernetes.io/pci": "yes"}}}),
    "itself": ("DELETE", f"{CORE}/nodes/n1", None),
    "a node of another name": ("POST", f"{CORE}/nodes", {"metadata": {"name": "n3"}}),
    "another's lease": ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {"metadata": {"name": "n2"}}),
    "a lease elsewhere": ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", {"metadata": {"name": "n1"}}),
    "a token of nobody's": ("POST", f"{OTHER}/serviceaccounts/worker/token", token_for()),
    "a token of another's account": ("POST", f"{OTHER}/serviceaccounts/of-n2/token", token_for("n2")),
    "its account bound to another's pod": ("POST", f"{OTHER}/serviceaccounts/of-n1/token", token_for("n2")),
    "its account bound to nothing": ("POST", f"{OTHER}/serviceaccounts/of-n1/token", token_for()),
    "roles": ("GET", f"{RBAC}/clusterroles", None),
}  # fmt: skip


@pytest.mark.parametrize("name", NODE_ATTACKS)
async def test_a_nodes_hands_are_tied(nodes: Scene, name: str) -> None:
    method, path, body = NODE_ATTACKS[name]
    before = await nodes.ask(ADMIN, "GET", f"{OTHER}/pods/n2")
    headers = MERGE if method == "PATCH" else {}
    status, told = await nodes.ask(NODE, method, path, body, **headers)
    assert status in (400, 403), told
    assert HIDDEN not in str(told)
    assert "token" not in (told.get("status") or ()), told
    assert await nodes.ask(ADMIN, "GET", f"{OTHER}/pods/n2") == before


async def test_what_a_node_does_it_may(nodes: Scene) -> None:
    """The control."""
    for method, path, body in (
        ("GET", f"{OTHER}/secrets/for-n1", None),
        ("POST", f"{OTHER}/pods", mirror()),
        ("PATCH", f"{OTHER}/pods/n1/status", {"status": {"phase": "Running"}}),
        (
            "PATCH",
            f"{CORE}/nodes/n1",
            {"metadata": {"labels": {"topology.kubernetes.io/zone": "a", "mine.io/x": "y"}}},
        ),
        ("POST", f"{OTHER}/serviceaccounts/of-n1/token", token_for("n1")),
        ("POST", f"{OTHER}/pods/n1/eviction", {"metadata": {"name": "n1"}}),
    ):
        status, told = await nodes.ask(
            NODE, method, path, body, **(MERGE if method == "PATCH" else {})
        )
        assert status in (200, 201), (path, told)


async def test_a_token_is_for_the_pod_that_runs_as_the_account(nodes: Scene) -> None:
    status, told = await nodes.ask(
        ADMIN, "POST", f"{OTHER}/serviceaccounts/worker/token", token_for("n1")
    )
    assert (status, told["reason"]) == (400, "BadRequest")
    assert "running with different serviceaccount name" in told["message"]


# ------------------------------------------------------------------------------------------------------------- tokens
AUDIENCE = "https://kubernetes.default.svc.cluster.local"


async def issued(scene: Scene, **spec: Any) -> str:
    status, told = await scene.ask(
        ADMIN,
        "POST",
        f"{CORE}/namespaces/mine/serviceaccounts/worker/token",
        {"spec": {"audiences": [], **spec}},
    )
    assert status == 201, told
    return str(told["status"]["token"])


def part(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def claims_of(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


def unsigned(token: str, **claims: Any) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({**claims_of(token), **claims})}."


def altered(token: str, **claims: Any) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{part({**claims_of(token), **claims})}.{signature}"


def foreign(token: str) -> str:
    return jwt.encode(
        claims_of(token),
        ec.generate_private_key(ec.SECP256R1()),
        algorithm="ES256",
        headers=jwt.get_unverified_header(token),
    )


def flipped(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


ROOT = "system:serviceaccount:kube-system:root"
FORGED = {
    "none": lambda t: unsigned(t),
    "none, with its signature": lambda t: unsigned(t) + t.split(".")[2],
    "None": lambda t: f"{part({'alg': 'NoNe'})}.{t.split('.')[1]}.",
    "another account": lambda t: altered(t, sub=ROOT, **{"kubernetes.io": {"namespace": "kube-system", "serviceaccount": {"name": "root", "uid": "u"}}}),
    "a later end": lambda t: altered(t, exp=9_999_999_999),
    "another audience": lambda t: altered(t, aud=["x", AUDIENCE]),
    "another key": foreign,
    "a bit": flipped,
    "no signature": lambda t: t.rpartition(".")[0] + ".",
    "two parts": lambda t: t.rpartition(".")[0],
    "four parts": lambda t: t + ".e30",
    "a long one": lambda t: t + "A" * 6000,
    "a header that is no object": lambda t: f"{part([])}.{t.split('.')[1]}.",
    "claims that are none": lambda t: f"{t.split('.')[0]}.{part([1])}.{t.split('.')[2]}",
    "hmac of the public key": None,
    "nothing": lambda t: "x",
}  # fmt: skip


async def as_bearer(scene: Scene, token: str) -> int:
    return (
        await scene.ask(
            "", "GET", f"{CORE}/namespaces/mine/configmaps/c", Authorization=f"Bearer {token}"
        )
    )[0]


@pytest.mark.parametrize("name", FORGED)
async def test_a_token_that_is_not_ours(scene: Scene, name: str) -> None:
    token = await issued(scene)
    assert await as_bearer(scene, token) == 403  # known, without rights
    forge = FORGED[name]
    if forge is None:
        public = scene.server.api.issuer._public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        import hmac

        body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{token.split('.')[1]}"
        digest = hmac.digest(public, body.encode(), "sha256")
        forged = f"{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    else:
        forged = forge(token)
    assert await as_bearer(scene, forged) == 401
    status, told = await scene.ask(
        ADMIN, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": forged}}
    )
    assert status == 201
    assert not told["status"].get("authenticated")


async def test_a_token_for_somebody_else_is_none_here(scene: Scene) -> None:
    assert await as_bearer(scene, await issued(scene, audiences=["vault"])) == 401


async def test_a_token_ends_at_its_second(scene: Scene) -> None:
    """Also one that was verified a moment ago, and is remembered."""
    token = await issued(scene, expirationSeconds=600)
    scene.clock.ahead = dt.timedelta(seconds=595)
    assert await as_bearer(scene, token) == 403
    scene.clock.ahead = dt.timedelta(seconds=601)
    assert await as_bearer(scene, token) == 401


async def test_a_token_ends_with_its_account_and_its_pod(scene: Scene) -> None:
    made = await scene.made(f"{CORE}/namespaces/mine/pods", pod("p", serviceAccountName="worker"))
    bound = await issued(
        scene,
        boundObjectRef={
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "p",
            "uid": made["metadata"]["uid"],
        },
    )
    free = await issued(scene)
    assert await as_bearer(scene, bound) == 403
    await scene.ask(ADMIN, "DELETE", f"{CORE}/namespaces/mine/pods/p?gracePeriodSeconds=0")
    assert await as_bearer(scene, bound) == 401
    await scene.ask(ADMIN, "DELETE", f"{CORE}/namespaces/mine/serviceaccounts/worker")
    assert await as_bearer(scene, free) == 401
    await scene.made(f"{CORE}/namespaces/mine/serviceaccounts", {"metadata": {"name": "worker"}})
    assert await as_bearer(scene, free) == 401  # another account of that name


def bootstrap(**data: str) -> Any:
    fields = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        **data,
    }
    return {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": fields,
    }


BOOTSTRAP = "abcdef.0123456789abcdef"
BOOTSTRAPS = {
    "another secret": (bootstrap(), "abcdef.0123456789abcdee"),
    "another id": (bootstrap(), "abcdeg.0123456789abcdef"),
    "expired": (bootstrap(expiration="2020-01-01T00:00:00Z"), BOOTSTRAP),
    "no time": (bootstrap(expiration="soon"), BOOTSTRAP),
    "not for authentication": (bootstrap(**{"usage-bootstrap-authentication": "false"}), BOOTSTRAP),
    "id of another": (bootstrap(**{"token-id": "ghijkl"}), BOOTSTRAP),
    "of another type": ({**bootstrap(), "type": "Opaque"}, BOOTSTRAP),
    "with a path": (bootstrap(), "../abc.0123456789abcdef"),
    "upper case": (bootstrap(), BOOTSTRAP.upper()),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOTSTRAPS)
async def test_a_bootstrap_token_that_is_none(scene: Scene, name: str) -> None:
    document, token = BOOTSTRAPS[name]
    await scene.ask(ADMIN, "POST", f"{CORE}/namespaces/kube-system/secrets", document)
    assert await as_bearer(scene, token) == 401


async def test_a_bootstrap_token_is_for_joining_alone(scene: Scene) -> None:
    await scene.made(
        f"{CORE}/namespaces/kube-system/secrets",
        bootstrap(**{"auth-extra-groups": "system:masters,system:bootstrappers:x"}),
    )
    bearer = {"Authorization": f"Bearer {BOOTSTRAP}"}
    _, me = await scene.ask(
        "", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, **bearer
    )
    told = me["status"]["userInfo"]
    assert told["username"] == "system:bootstrap:abcdef"
    assert "system:masters" not in told["groups"]
    for method, path, body in (
        ("GET", f"{CORE}/secrets", None),
        ("GET", f"{CORE}/namespaces/kube-system/secrets/bootstrap-token-abcdef", None),
        ("GET", f"{CORE}/nodes", None),
        ("POST", f"{CORE}/nodes", {"metadata": {"name": "n1"}}),
        (
            "PUT",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/a/approval",
            {"metadata": {"name": "a"}},
        ),
        ("DELETE", "/apis/certificates.k8s.io/v1/certificatesigningrequests/a", None),
    ):
        status, told = await scene.ask("", method, path, body, **bearer)
        assert status == 403, told


async def test_a_wrong_token_is_no_guest_of_a_good_certificate(scene: Scene) -> None:
    status, _ = await scene.ask(ADMIN, "GET", f"{CORE}/secrets", Authorization="Bearer x")
    assert status == 401


# ------------------------------------------------------------------------------------------------------ certificates
def request_for(name: str, *groups: str) -> str:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    key = ec.generate_private_key(ec.SECP256R1())
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(attributes))
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def csr(request: str, signer: str = "kubernetes.io/kube-apiserver-client", **spec: Any) -> Any:
    return {
        "metadata": {"name": "a"},
        "spec": {"request": request, "signerName": signer, "usages": ["client auth"], **spec},
    }


async def test_a_request_says_who_made_it(scene: Scene) -> None:
    lie = csr(
        request_for("system:node:n1", "system:nodes"),
        username="system:node:n1",
        groups=["system:nodes", "system:masters"],
        uid="u",
        extra={"a": ["b"]},
    )
    status, made = await scene.ask(TENANT, "POST", CSRS, lie)
    assert status == 201, made
    assert (made["spec"]["username"], made["spec"]["groups"]) == (TENANT, ["system:authenticated"])
    assert not {"uid", "extra"} & set(made["spec"])
    change = {"spec": {"username": "system:node:n1", "request": request_for("admin", "system:masters")}, "status": {"certificate": "eA==", "conditions": [{"type": "Approved", "status": "True"}]}}  # fmt: skip
    _, told = await scene.ask(TENANT, "PATCH", f"{CSRS}/a", change, **MERGE)
    _, now = await scene.ask(ADMIN, "GET", f"{CSRS}/a")
    assert now["spec"] == made["spec"], told
    assert not now.get("status")


async def test_nobody_is_made_a_master_by_a_request(scene: Scene) -> None:
    status, told = await scene.ask(ADMIN, "POST", CSRS, csr(request_for("me", "system:masters")))
    assert status == 403, told
    assert "system:masters group is not allowed" in told["message"]


@pytest.mark.parametrize("subresource", ["approval", "status"])
async def test_who_asks_does_not_approve(scene: Scene, subresource: str) -> None:
    await scene.made(
        CSRS,
        csr(
            request_for("system:node:n9", "system:nodes"),
            "kubernetes.io/kube-apiserver-client-kubelet",
        ),
    )
    approved = {
        "status": {
            "conditions": [{"type": "Approved", "status": "True", "reason": "x"}],
            "certificate": "eA==",
        }
    }
    status, told = await scene.ask(TENANT, "PATCH", f"{CSRS}/a/{subresource}", approved, **MERGE)
    assert status == 403, told


@pytest.mark.parametrize("subresource", ["approval", "status"])
async def test_nor_without_the_signers_leave(scene: Scene, subresource: str) -> None:
    """The right to write the endpoint is not the right to make somebody a node."""
    signer = "kubernetes.io/kube-apiserver-client-kubelet"
    await scene.made(CSRS, csr(request_for("system:node:n9", "system:nodes"), signer))
    verbs = rule(
        "get patch update",
        "certificatesigningrequests/approval certificatesigningrequests/status",
        "certificates.k8s.io",
    )
    await scene.made(f"{RBAC}/clusterroles", {"metadata": {"name": "half"}, "rules": [verbs]})
    await scene.made(
        f"{RBAC}/clusterrolebindings",
        {"metadata": {"name": "half"}, "subjects": ME, "roleRef": {**REF, "name": "half"}},
    )
    change = {
        "status": {
            "conditions": [
                {
                    "type": "Approved" if subresource == "approval" else "Failed",
                    "status": "True",
                    "reason": "x",
                }
            ]
        }
    }
    status, told = await scene.ask(TENANT, "PATCH", f"{CSRS}/a/{subresource}", change, **MERGE)
    assert status == 403, told
    verb = "approve" if subresource == "approval" else "sign"
    assert f'user not permitted to {verb} requests with signerName "{signer}"' in told["message"]
    leave = {**rule(verb, "signers", "certificates.k8s.io"), "resourceNames": ["kubernetes.io/*"]}
    await scene.made(f"{RBAC}/clusterroles", {"metadata": {"name": "whole"}, "rules": [leave]})
    await scene.made(
        f"{RBAC}/clusterrolebindings",
        {"metadata": {"name": "whole"}, "subjects": ME, "roleRef": {**REF, "name": "whole"}},
    )
    status, told = await scene.ask(TENANT, "PATCH", f"{CSRS}/a/{subresource}", change, **MERGE)
    assert status == 200, told
