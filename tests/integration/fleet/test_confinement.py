"""An agent that tries to leave its own cluster's objects, with a good certificate, over HTTPS, through every verb.

The server is the federation's with all of its admission; `alpha` is the attacker, `beta` the neighbour. Every attempt is refused, and what
it aimed at is as it was. The same requests on alpha's own objects work, so that a refusal is no accident.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.apiserver import RunningServer, running_server

from federation.clusters import access
from federation.controllers import identities, membership, registry
from federation.propagation.works import work
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.client.rest import RestClient
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Conflict, Forbidden, StatusError, Unauthorized
from machinery.meta.resource import Document
from machinery.server.app import Extensions

pytestmark = pytest.mark.integration
AGENT, GROUP = "ubernetes:cluster:{}", "ubernetes:clusters"
WORKS = "/apis/work.karmada.io/v1alpha1/namespaces/{}/works"
CLUSTERS = "/apis/cluster.karmada.io/v1alpha1/clusters"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/karmada-cluster/leases"
EXPORTS = "/apis/ubernetes.io/v1alpha1/namespaces/{}/exportedservices"
NETWORKS = "/apis/ubernetes.io/v1alpha1/clusternetworks"
BINDINGS = "/apis/work.karmada.io/v1alpha2/namespaces/demo/resourcebindings"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ALPHA, BETA = "karmada-es-alpha", "karmada-es-beta"
MERGE = "application/merge-patch+json"


def configmap(name: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "demo", "uid": f"uid-{name}"},
        "data": {"a": "1"},
    }


def cluster(name: str) -> Document:
    return {
        "apiVersion": "cluster.karmada.io/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name, "labels": {"tier": "gold"}},
        "spec": {
            "id": f"id-{name}",
            "syncMode": "Pull",
            "taints": [{"key": "ubernetes.io/drain", "effect": "NoExecute"}],
        },
        "status": {"conditions": [ready("False")]},
    }


def ready(status: str) -> Document:
    return {
        "type": "Ready", "status": status, "reason": "x", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def lease(name: str) -> Document:
    asked = {"ubernetes.io/inventory-wanted": "word"}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "karmada-cluster", "annotations": asked},
        "spec": {"holderIdentity": name},
    }


def export(service: str = "web") -> Document:
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "ExportedService",
        "metadata": {"name": f"{service}.demo"},
        "spec": {"service": {"name": service, "namespace": "demo"}, "type": "ClusterSetIP"},
    }


def network(name: str) -> Document:
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "ClusterNetwork",
        "metadata": {"name": name},
        "spec": {},
    }


def request_for(common: str, signer: str = "ubernetes.io/cluster-agent") -> Document:
    import base64

    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, GROUP),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ]
    pem = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(names))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "try-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": signer,
            "usages": ["client auth", "digital signature"],
        },
    }


class Fleet:
    """The federation with two members, and alpha's client."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.agent = server.rest_as(AGENT.format("alpha"), (GROUP,))

    async def make(self) -> None:
        local = self.server.local
        for name in ("demo", "karmada-cluster"):
            await self.post("/api/v1/namespaces", {"metadata": {"name": name}})
        for name in ("alpha", "beta"):
            for action in membership.grant(name):
                await local.create(
                    action.resource,
                    action.document,
                    action.document["metadata"].get("namespace", ""),
                )  # type: ignore[union-attr]
            await self.post(CLUSTERS, cluster(name))
            await self.send(
                "PATCH", f"{CLUSTERS}/{name}/status", {"status": {"conditions": [ready("False")]}}
            )
            await self.post(LEASES, lease(name))
            made = work(configmap("settings"), name)
            self.work = made["metadata"]["name"]
            await self.post(WORKS.format(f"karmada-es-{name}"), made)
            await self.post(EXPORTS.format(f"karmada-es-{name}"), export())
            await self.post(NETWORKS, network(name))
        await self.post(
            "/api/v1/namespaces/demo/secrets",
            {"metadata": {"name": "key"}, "stringData": {"k": "v"}},
        )
        await self.post("/api/v1/namespaces/demo/configmaps", configmap("settings"))

    async def post(self, path: str, body: Document) -> Document:
        return await self.send("POST", path, body)

    async def send(self, method: str, path: str, body: Document | None = None) -> Document:
        return await send(self.server.rest, method, path, body)

    async def snapshot(self) -> dict[str, Any]:
        """All that an attempt may aim at."""
        found: dict[str, Any] = {}
        for kind in self.server.api.cache.all():
            if kind.kind.kind not in ("Event", "CertificateSigningRequest"):
                found |= {
                    f"{kind.kind.group_resource}/{key}": entry.value
                    for key, entry in kind.entries.items()
                }
        return found  # fmt: skip


async def send(
    client: RestClient, method: str, path: str, body: Document | None = None
) -> Document:
    content = MERGE if method == "PATCH" else "application/json"
    raw = None if body is None else orjson.dumps(body)
    where, _, query = path.partition("?")
    asked = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
    answer = await client.request(method, where, query=asked, body=raw, content_type=content)
    found: Document = orjson.loads(answer) if answer.startswith(b"{") else {}
    return found


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    holder: list[RunningServer] = []
    admission = registry.admission(
        SystemIds(), committed=lambda: holder[0].api.committed if holder else None
    )
    extensions = Extensions(admission=admission, bootstrap=access.common())
    async with running_server(kinds=(*BUILTIN, *FLEET), extensions=extensions) as server:
        holder.append(server)
        found = Fleet(server)
        await found.make()
        yield found


MARK: Document = {"metadata": {"labels": {"mine": "true"}}}
OWNER: Document = {
    "metadata": {
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "nobody"}
        ]
    }
}
HELD: Document = {"metadata": {"finalizers": ["mine.example/forever"]}}
FREE: Document = {"metadata": {"finalizers": None}}
OPTIONS: Document = {"kind": "DeleteOptions", "apiVersion": "v1"}
MASTERS: Document = {
    "metadata": {"name": "mine"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "cluster-admin",
    },
    "subjects": [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": AGENT.format("alpha")}
    ],
}
Attempt = tuple[str, str, Document | None]

READS: list[Attempt] = [
    ("GET", path, None)
    for path in (
        WORKS.format(BETA), WORKS.format(BETA) + "/WORK", WORKS.format(BETA) + "/WORK/status",
        "/apis/work.karmada.io/v1alpha1/works", "/apis/work.karmada.io/v1alpha1/works?watch=1",
        WORKS.format(BETA) + "?watch=1", WORKS.format("demo"),
        CLUSTERS, CLUSTERS + "?watch=1", CLUSTERS + "?fieldSelector=metadata.name%3Dbeta",
        f"{CLUSTERS}/beta", f"{CLUSTERS}/beta/status",
        LEASES, LEASES + "?watch=1", f"{LEASES}/beta",
        EXPORTS.format(BETA), EXPORTS.format(BETA) + "/web.demo", "/apis/ubernetes.io/v1alpha1/exportedservices",
        NETWORKS, f"{NETWORKS}/beta",
        BINDINGS, BINDINGS + "/settings-configmap", "/apis/work.karmada.io/v1alpha2/resourcebindings?watch=1",
        "/api/v1/secrets", "/api/v1/namespaces/demo/secrets", "/api/v1/namespaces/demo/secrets/key",
        f"/api/v1/namespaces/{ALPHA}/secrets", f"/api/v1/namespaces/{BETA}/secrets", "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/namespaces/demo/configmaps/settings", "/api/v1/configmaps?watch=1", "/api/v1/namespaces/kube-system/configmaps",
        "/api/v1/namespaces", "/api/v1/namespaces/karmada-es-beta", "/api/v1/pods", "/api/v1/nodes", "/api/v1/events",
        "/api/v1/namespaces/demo/pods/x/log", "/api/v1/namespaces/demo/pods/x/exec?command=sh",
        "/api/v1/namespaces/demo/serviceaccounts", "/apis/apps/v1/deployments",
        "/apis/policy.karmada.io/v1alpha1/propagationpolicies", "/apis/policy.karmada.io/v1alpha1/clusterpropagationpolicies",
        "/apis/ubernetes.io/v1alpha1/federationconfigs", "/apis/ubernetes.io/v1alpha1/failuredomains",
        CSRS, f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings", f"{RBAC}/namespaces/{BETA}/rolebindings", "/metrics",
    )
]  # fmt: skip

WRITES: list[Attempt] = [
    # Works: other namespaces, and what a Work says
    ("POST", WORKS.format(BETA), work(configmap("evil"), "beta")),
    ("POST", WORKS.format(ALPHA), work(configmap("evil"), "alpha")),
    ("PATCH", WORKS.format(BETA) + "/WORK", MARK),
    ("PATCH", WORKS.format(BETA) + "/WORK/status", {"status": {"conditions": []}}),
    ("PATCH", WORKS.format(BETA) + "/WORK?dryRun=All", MARK),
    ("DELETE", WORKS.format(BETA) + "/WORK", OPTIONS),
    ("DELETE", WORKS.format(BETA), OPTIONS),
    ("DELETE", WORKS.format(ALPHA) + "/WORK", OPTIONS),
    ("DELETE", WORKS.format(ALPHA), OPTIONS),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", MARK),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", OWNER),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", HELD),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", FREE),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", {"metadata": {"annotations": {"resourcebinding.karmada.io/name": "other"}}}),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", {"spec": {"workload": {"manifests": []}}}),
    ("PATCH", WORKS.format(ALPHA) + "/WORK", {"spec": {"suspendDispatching": True}}),
    ("PATCH", WORKS.format(ALPHA) + "/WORK?dryRun=All", {"spec": {"suspendDispatching": True}}),
    # Clusters: other ones, and what is the federation's to say of its own
    ("POST", CLUSTERS, cluster("gamma")),
    ("PATCH", f"{CLUSTERS}/beta", MARK),
    ("PATCH", f"{CLUSTERS}/beta/status", {"status": {"kubernetesVersion": "v0"}}),
    ("PUT", f"{CLUSTERS}/beta", cluster("beta")),
    ("DELETE", f"{CLUSTERS}/beta", OPTIONS),
    ("DELETE", f"{CLUSTERS}/alpha", OPTIONS),
    ("DELETE", CLUSTERS, OPTIONS),
    ("PATCH", f"{CLUSTERS}/alpha", MARK),
    ("PATCH", f"{CLUSTERS}/alpha", OWNER),
    ("PATCH", f"{CLUSTERS}/alpha", HELD),
    ("PATCH", f"{CLUSTERS}/alpha", {"spec": {"taints": []}}),
    ("PATCH", f"{CLUSTERS}/alpha", {"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}}),
    ("PATCH", f"{CLUSTERS}/alpha", {"spec": {"id": "id-beta"}}),
    ("PATCH", f"{CLUSTERS}/alpha/status", {"status": {"conditions": [ready("True")]}}),
    ("PATCH", f"{CLUSTERS}/alpha/status", {"status": {"conditions": []}}),
    # Leases
    ("POST", LEASES, lease("gamma")),
    ("PATCH", f"{LEASES}/beta", {"spec": {"holderIdentity": "alpha"}}),
    ("DELETE", f"{LEASES}/beta", OPTIONS),
    ("DELETE", f"{LEASES}/alpha", OPTIONS),
    ("PATCH", f"{LEASES}/alpha", {"metadata": {"annotations": {"ubernetes.io/inventory-wanted": None}}}),
    ("PATCH", f"{LEASES}/alpha", {"metadata": {"annotations": {"ubernetes.io/inventory-wanted": "mine"}}}),
    ("PATCH", f"{LEASES}/alpha", {"metadata": {"annotations": {"ubernetes.io/cluster-id": "id-beta"}}, "spec": {"holderIdentity": "x"}}),
    ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", lease("alpha") | {"metadata": {"name": "alpha"}}),
    ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/federation-server", {"spec": {"holderIdentity": "a"}}),
    # exports and networks
    ("POST", EXPORTS.format(BETA), export("other")),
    ("PATCH", EXPORTS.format(BETA) + "/web.demo", MARK),
    ("DELETE", EXPORTS.format(BETA) + "/web.demo", OPTIONS),
    ("DELETE", EXPORTS.format(BETA), OPTIONS),
    ("POST", EXPORTS.format("demo"), export("other")),
    ("POST", EXPORTS.format(ALPHA), export("other") | {"metadata": {"name": "web.shop"}}),
    ("POST", NETWORKS, network("gamma")),
    ("PATCH", f"{NETWORKS}/beta", MARK),
    ("PATCH", f"{NETWORKS}/beta/status", {"status": {}}),
    ("DELETE", f"{NETWORKS}/alpha", OPTIONS),
    # what is users' and the federation's
    ("POST", BINDINGS, {"metadata": {"name": "x"}, "spec": {"resource": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}}),
    ("DELETE", BINDINGS, OPTIONS),
    ("POST", "/api/v1/namespaces/demo/secrets", {"metadata": {"name": "mine"}}),
    ("POST", "/api/v1/namespaces/kube-system/secrets", {"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token"}),
    ("PATCH", "/api/v1/namespaces/demo/configmaps/settings", MARK),
    ("POST", f"/api/v1/namespaces/{ALPHA}/configmaps", {"metadata": {"name": "mine"}}),
    ("POST", "/api/v1/namespaces", {"metadata": {"name": "mine"}}),
    ("DELETE", "/api/v1/namespaces/karmada-es-beta", OPTIONS),
    ("POST", "/api/v1/namespaces/demo/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    ("POST", "/api/v1/namespaces/demo/serviceaccounts/default/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
    ("POST", "/apis/policy.karmada.io/v1alpha1/clusterpropagationpolicies", {"metadata": {"name": "x"}, "spec": {"resourceSelectors": [{"apiVersion": "v1", "kind": "Secret"}]}}),
    ("POST", f"{RBAC}/clusterrolebindings", MASTERS),
    ("PATCH", f"{RBAC}/clusterroles/ubernetes:cluster:alpha", {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
    ("POST", f"{RBAC}/namespaces/{BETA}/rolebindings", MASTERS),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"user": "x", "nonResourceAttributes": {"path": "/", "verb": "get"}}}),
]  # fmt: skip


def label(attempt: Attempt) -> str:
    method, path, body = attempt
    return f"{method} {path.split('/apis/')[-1]} {list(body or {})}"[:90]


async def attempt(fleet: Fleet, client: RestClient, one: Attempt) -> StatusError:
    method, path, body = one
    async with asyncio.timeout(10):
        try:
            await send(client, method, path.replace("WORK", fleet.work), body)
        except StatusError as error:
            return error
    raise AssertionError(f"{label(one)} was let through")


async def test_nothing_of_others_is_read(fleet: Fleet) -> None:
    for one in READS:
        error = await attempt(fleet, fleet.agent, one)
        assert isinstance(error, Forbidden), f"{label(one)}: {error.status_code} {error.message}"


async def test_nothing_of_others_is_written(fleet: Fleet) -> None:
    before = await fleet.snapshot()
    for one in WRITES:
        error = await attempt(fleet, fleet.agent, one)
        assert isinstance(error, Forbidden | Conflict), (
            f"{label(one)}: {error.status_code} {error.message}"
        )
        assert await fleet.snapshot() == before, f"{label(one)} changed something"


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "kubernetes-admin"},
        {"Impersonate-User": AGENT.format("beta")},
        {"Impersonate-User": AGENT.format("alpha"), "Impersonate-Group": "system:masters"},
        {"Impersonate-User": "system:serviceaccount:kube-system:default"},
        {"Impersonate-Group": "system:masters"},
    ],
    ids=[
        "the administrator",
        "the neighbour",
        "itself, in another group",
        "an account",
        "a group alone",
    ],
)
async def test_it_speaks_for_nobody(fleet: Fleet, headers: dict[str, str]) -> None:
    pair = fleet.server.api.client_pair(AGENT.format("alpha"), (GROUP,))
    client = RestClient(fleet.server.api.url, fleet.server.tls(pair), headers=headers)
    fleet.server.clients.append(client)
    for path in ("/api/v1/namespaces/demo/secrets/key", WORKS.format(BETA), WORKS.format(ALPHA)):
        error = await attempt(fleet, client, ("GET", path, None))
        assert error.status_code in (400, 403), error.message


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("ubernetes:cluster:gamma", (GROUP,)),
        ("ubernetes:cluster:", (GROUP,)),
        ("ubernetes:cluster:alpha ", (GROUP,)),
        ("ubernetes:cluster:ALPHA", (GROUP,)),
        ("ubernetes:gateway:alpha", ()),
        ("alpha", (GROUP,)),
    ],
    ids=[
        "a cluster that never joined",
        "no name",
        "a space",
        "capitals",
        "a gateway",
        "a bare name",
    ],
)
async def test_no_other_name_opens_what_is_alphas(
    fleet: Fleet, user: str, groups: tuple[str, ...]
) -> None:
    client = fleet.server.rest_as(user, groups)
    for path in (
        WORKS.format(ALPHA),
        f"{CLUSTERS}/alpha",
        f"{LEASES}/alpha",
        EXPORTS.format(ALPHA),
    ):
        error = await attempt(fleet, client, ("GET", path, None))
        assert isinstance(error, Forbidden | Unauthorized), error.message


@pytest.mark.parametrize(
    ("common", "signer", "approved"),
    [
        ("ubernetes:cluster:alpha", "ubernetes.io/cluster-agent", True),
        ("ubernetes:cluster:beta", "ubernetes.io/cluster-agent", False),
        ("ubernetes:cluster:", "ubernetes.io/cluster-agent", False),
        ("kubernetes-admin", "ubernetes.io/cluster-agent", False),
        ("system:masters", "kubernetes.io/kube-apiserver-client", False),
        ("ubernetes:cluster:alpha", "kubernetes.io/kube-apiserver-client", False),
        ("ubernetes:gateway:beta", "ubernetes.io/gateway", False),
    ],
)
async def test_certificates_are_asked_for_by_many_and_given_to_one(
    fleet: Fleet, common: str, signer: str, approved: bool
) -> None:
    made = await send(fleet.agent, "POST", CSRS, request_for(common, signer))
    view = await fleet.server.local.get(identities.csr.REQUESTS, identities_key(made))
    assert (identities.plan(view) is not None) is approved
    name = made["metadata"]["name"]
    for part in ("approval", "status"):
        body = {"status": {"conditions": [ready("True") | {"type": "Approved"}]}}
        error = await attempt(fleet, fleet.agent, ("PATCH", f"{CSRS}/{name}/{part}", body))
        assert isinstance(error, Forbidden)
    claimed = request_for(common, signer)
    claimed["spec"] |= {"username": "kubernetes-admin", "groups": ["system:masters"]}
    made = await send(fleet.agent, "POST", CSRS, claimed)
    assert made["spec"]["username"] == AGENT.format("alpha")
    assert "system:masters" not in made["spec"]["groups"]


def identities_key(made: Document) -> Any:
    from machinery.meta.resource import ObjectKey

    return ObjectKey("", made["metadata"]["name"])


async def test_what_is_its_own_works(fleet: Fleet) -> None:
    agent = fleet.agent
    (mine,) = (await send(agent, "GET", WORKS.format(ALPHA)))["items"]
    path = f"{WORKS.format(ALPHA)}/{mine['metadata']['name']}"
    applied = ready("True") | {"type": "Applied"}
    told = await send(
        agent, "PATCH", f"{path}/status", {"status": {"conditions": [applied]}} | MARK
    )
    assert told["status"]["conditions"][0]["type"] == "Applied"
    assert "mine" not in told["metadata"]["labels"], "a status says nothing else"
    await send(
        agent,
        "PATCH",
        f"{CLUSTERS}/alpha",
        {
            "spec": {"region": "r9"},
            "metadata": {"annotations": {"ubernetes.io/agent-version": "1"}},
        },
    )
    status = {
        "kubernetesVersion": "v1",
        "conditions": [ready("False"), ready("True") | {"type": "MemberAPI"}],
    }
    await send(agent, "PATCH", f"{CLUSTERS}/alpha/status", {"status": status})
    await send(
        agent,
        "PATCH",
        f"{LEASES}/alpha",
        {
            "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"},
            "metadata": {"annotations": {"ubernetes.io/cluster-id": "id-alpha"}},
        },
    )
    await send(agent, "POST", EXPORTS.format(ALPHA), export("other"))
    await send(agent, "DELETE", f"{EXPORTS.format(ALPHA)}/other.demo", OPTIONS)
    await fleet.send("DELETE", path, OPTIONS)
    for body in (MARK, OWNER):
        with pytest.raises(Forbidden):
            await send(agent, "PATCH", path, body)
    await send(agent, "PATCH", path, FREE)
    assert (await send(agent, "GET", WORKS.format(ALPHA)))["items"] == []


async def test_a_late_report_changes_nothing(fleet: Fleet) -> None:
    path = f"{WORKS.format(ALPHA)}/{fleet.work}"
    read = await send(fleet.agent, "GET", path)
    old = {"resourceVersion": read["metadata"]["resourceVersion"]}
    newer = {"metadata": old, "status": {"conditions": [ready("True") | {"type": "Applied"}]}}
    await send(fleet.agent, "PATCH", f"{path}/status", newer)
    late = {"metadata": old, "status": {"conditions": [ready("False") | {"type": "Applied"}]}}
    error = await attempt(fleet, fleet.agent, ("PATCH", f"{path}/status", late))
    assert isinstance(error, Conflict)
    held = await send(fleet.agent, "GET", path)
    assert held["status"]["conditions"][0]["status"] == "True"


async def test_rights_go_with_the_cluster(fleet: Fleet) -> None:
    assert await send(fleet.agent, "GET", WORKS.format(ALPHA))
    for kind in (
        "clusterrolebindings",
        f"namespaces/{ALPHA}/rolebindings",
        "namespaces/karmada-cluster/rolebindings",
    ):
        await fleet.send("DELETE", f"{RBAC}/{kind}/ubernetes:cluster:alpha", OPTIONS)
    await fleet.server.api.cache.fresh()
    for path in (WORKS.format(ALPHA), f"{CLUSTERS}/alpha", f"{LEASES}/alpha"):
        assert isinstance(await attempt(fleet, fleet.agent, ("GET", path, None)), Forbidden)
