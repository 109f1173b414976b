"""A key, a request for it, and the wait for its certificate."""

import asyncio
import base64

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock
from tests.support.tls import TestAuthority

from machinery.client.identity import (
    CSRS,
    CertificateFiles,
    SigningRefused,
    SigningTimeout,
    Subject,
    client_context,
    new_key,
    renew_at,
    request_certificate,
    signing_request,
)
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import ObjectKey

NODE = Subject("system:node:n1", ["system:nodes"], ["n1"], ["10.0.0.1", "fd00::1"])


def test_the_request_says_who_and_where():
    request = x509.load_pem_x509_csr(signing_request(new_key(), NODE))
    assert request.is_signature_valid
    values = {a.oid: a.value for a in request.subject}
    assert values == {
        NameOID.COMMON_NAME: "system:node:n1",
        NameOID.ORGANIZATION_NAME: "system:nodes",
    }
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]


async def ask(client, key):
    return await request_certificate(
        client, LoopClock(), key, NODE, signer="kubernetes.io/kube-apiserver-client-kubelet",
        usages=["client auth"], name_prefix="node-n1-", timeout_s=60,
    )  # fmt: skip


async def answer(client, status):
    await asyncio.sleep(5)
    ((_, key),) = client.objects
    await client.patch(CSRS, ObjectKey("", key.name), {"status": status})


@pytest.mark.looptime
async def test_a_signed_certificate_is_waited_for_and_fits_the_key():
    client, authority, key, owner = FakeClient(), TestAuthority(), new_key(), TaskOwner()

    async def sign():
        await asyncio.sleep(5)
        (((_, name), csr),) = client.objects.items()
        assert csr["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
        assert name.name.startswith("node-n1-")
        pem = authority.sign(base64.b64decode(csr["spec"]["request"]))
        status = {"certificate": base64.b64encode(pem).decode()}
        await client.patch(CSRS, name, {"status": status})

    owner.spawn(sign(), "signer")
    identity = await ask(client, key)
    context = client_context(ca=authority.pem, certificate=identity.certificate, key=identity.key)
    assert context.check_hostname
    assert renew_at(identity.certificate).year == 2040
    await owner.close()


@pytest.mark.looptime
@pytest.mark.parametrize("verdict", ["Denied", "Failed"])
async def test_a_refusal_is_final(verdict):
    client, owner = FakeClient(), TaskOwner()
    status = {"conditions": [{"type": verdict, "message": "not on my watch"}]}
    owner.spawn(answer(client, status), "refuser")
    with pytest.raises(SigningRefused, match="not on my watch"):
        await ask(client, new_key())
    await owner.close()


@pytest.mark.looptime
async def test_nobody_signs():
    with pytest.raises(SigningTimeout):
        await ask(FakeClient(), new_key())


def test_rotated_files_are_taken_up_and_half_written_ones_are_not(tmp_path):
    authority = TestAuthority()
    one, two = authority.issue("one"), authority.issue("two")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(one.certificate)
    key.write_bytes(one.key)
    files = CertificateFiles(client_context(ca=authority.pem), certificate, key)
    assert files.reload_if_changed()
    assert not files.reload_if_changed()
    certificate.write_bytes(two.certificate)
    assert not files.reload_if_changed(), "the key does not fit yet"
    key.write_bytes(two.key)
    assert files.reload_if_changed()
