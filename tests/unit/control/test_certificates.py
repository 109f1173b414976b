"""Certificates of nodes, and bootstrap tokens that end."""

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.unit.control.builders import NOW, ago

from machinery.api.core import Node, NodeAddress, NodeStatus, Secret
from machinery.controller.action import Delete, RequeueAfter
from machinery.controllers import csr, tokencleaner
from machinery.controllers.csr import (
    RequestSpec,
    RequestStatus,
    SigningRequest,
    Verdict,
)
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, ObjectMeta
from machinery.server.pki import SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING

OURS = (SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING)
CLIENT = ("digital signature", "key encipherment", "client auth")
SERVING = ("digital signature", "key encipherment", "server auth")
KEY = ec.generate_private_key(ec.SECP256R1())


def pem(common: str, organization: str = "system:nodes", *names: str) -> str:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    request = builder.sign(KEY, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


def request(
    text: str,
    *,
    signer: str = SIGNER_KUBELET_CLIENT,
    usages: tuple[str, ...] = CLIENT,
    username: str = "system:bootstrap:abc",
    groups: tuple[str, ...] = ("system:bootstrappers",),
    conditions: tuple[str, ...] = (),
    certificate: str = "",
    age_s: float = 10,
) -> SigningRequest:
    return SigningRequest(
        metadata=ObjectMeta(name="r", uid="r", creation_timestamp=ago(age_s)),
        spec=RequestSpec(
            request=text, signer_name=signer, usages=usages, username=username, groups=groups
        ),
        status=RequestStatus(
            certificate=certificate,
            conditions=tuple(Condition(type=c, status="True") for c in conditions),
        ),
    )


NODE = Node(
    metadata=ObjectMeta(name="n1"),
    status=NodeStatus(addresses=(NodeAddress(type="Hostname", address="n1.example"),)),
)
SELF = "system:node:n1"


@pytest.mark.parametrize(
    ("asked", "node", "verdict"),
    [
        pytest.param(request(pem(SELF)), None, Verdict.APPROVE, id="bootstrap"),
        pytest.param(
            request(pem(SELF), username=SELF, groups=("system:nodes",)),
            None,
            Verdict.APPROVE,
            id="renewal",
        ),
        pytest.param(
            request(pem(SELF), username="system:node:n2", groups=("system:nodes",)),
            None,
            Verdict.NOTHING,
            id="another node's name",
        ),
        pytest.param(request(pem("admin")), None, Verdict.NOTHING, id="not a node"),
        pytest.param(request(pem(SELF, "system:masters")), None, Verdict.NOTHING, id="other group"),
        pytest.param(request(pem(SELF), usages=SERVING), None, Verdict.NOTHING, id="other usages"),
        pytest.param(request("!!!"), None, Verdict.NOTHING, id="unreadable"),
        pytest.param(
            request(pem(SELF), signer="example.com/s"), None, Verdict.NOTHING, id="not our signer"
        ),
        pytest.param(
            request(pem(SELF), conditions=("Approved",)), None, Verdict.SIGN, id="approved"
        ),
        pytest.param(
            request(pem("admin"), conditions=("Approved",)),
            None,
            Verdict.FAIL,
            id="approved, never signable",
        ),
        pytest.param(
            request(pem(SELF), conditions=("Approved",), certificate="x"),
            None,
            Verdict.NOTHING,
            id="signed",
        ),
        pytest.param(
            request(pem(SELF), conditions=("Denied",)), None, Verdict.NOTHING, id="denied"
        ),
        pytest.param(
            request(pem("admin"), age_s=90_000), None, Verdict.DELETE, id="old and pending"
        ),
        pytest.param(
            request(pem(SELF), conditions=("Approved",), certificate="x", age_s=4000),
            None,
            Verdict.DELETE,
            id="old and issued",
        ),
        pytest.param(
            request(
                pem(SELF, "system:nodes", "n1.example", "n1"),
                signer=SIGNER_KUBELET_SERVING,
                usages=SERVING,
                username=SELF,
                groups=("system:nodes",),
            ),
            NODE,
            Verdict.APPROVE,
            id="serving, its own names",
        ),
        pytest.param(
            request(
                pem(SELF, "system:nodes", "other.example"),
                signer=SIGNER_KUBELET_SERVING,
                usages=SERVING,
                username=SELF,
                groups=("system:nodes",),
            ),
            NODE,
            Verdict.NOTHING,
            id="serving, another's name",
        ),
        pytest.param(
            request(
                pem(SELF, "system:nodes", "n1"),
                signer=SIGNER_KUBELET_SERVING,
                usages=SERVING,
                username=SELF,
                groups=("system:nodes",),
            ),
            None,
            Verdict.NOTHING,
            id="serving, no such node yet",
        ),
    ],
)
def test_verdict(asked: SigningRequest, node: Node | None, verdict: Verdict) -> None:
    assert csr.plan(asked, node, OURS, NOW).verdict is verdict


def test_life_is_bounded() -> None:
    assert csr.life_of(request(pem(SELF))) == dt.timedelta(days=365)
    short = SigningRequest(spec=RequestSpec(expiration_seconds=5))
    assert csr.life_of(short) == dt.timedelta(seconds=600)


def test_node_name() -> None:
    assert csr.node_name(request(pem(SELF))) == "n1"
    assert csr.node_name(request(pem("admin"))) == ""
    assert csr.node_name(request("")) == ""


def token(expiration: str | None, kind: str = tokencleaner.TYPE) -> Secret:
    data = (
        {} if expiration is None else {"expiration": base64.b64encode(expiration.encode()).decode()}
    )
    meta = ObjectMeta(name="bootstrap-token-abc", namespace="kube-system", uid="t")
    return Secret(metadata=meta, data=data, type=kind)


def test_tokens_end() -> None:
    assert isinstance(tokencleaner.plan(token(rfc3339(ago(1))), NOW)[0], Delete)
    assert tokencleaner.plan(token(rfc3339(ago(-60))), NOW) == [RequeueAfter(61.0)]
    assert isinstance(tokencleaner.plan(token("soon"), NOW)[0], Delete)
    assert tokencleaner.plan(token(None), NOW) == []
    assert tokencleaner.plan(token(rfc3339(ago(1)), "Opaque"), NOW) == []
