"""A table of attacks by false identities: nodes beyond their hands, forged tokens, certificates for others. Over HTTPS."""

import base64
import datetime as dt
import json
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.attacks import (
    ADMIN,
    CORE,
    HIDDEN,
    ME,
    MERGE,
    NODE,
    RBAC,
    REF,
    TENANT,
    Scene,
    pod,
    rule,
    scene,
    secret_volume,
)

pytestmark = pytest.mark.integration
__all__ = ["scene"]  # the fixture


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
POLICIES = "/apis/networking.k8s.io/v1/namespaces/other/networkpolicies"
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
    "a policy of the network": ("POST", POLICIES, {"metadata": {"name": "open"}, "spec": {"podSelector": {}, "ingress": [{}]}}),
    "the end of all policies": ("DELETE", POLICIES, None),
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
