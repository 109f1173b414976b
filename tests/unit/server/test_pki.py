"""Certificates: what is issued, what a request may ask for."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from machinery.api.fleet.multicluster import GATEWAY_SIGNER
from machinery.kit.clock import FakeClock
from machinery.server import pki
from machinery.server.pki import CertificateAuthority

CLIENT = ("digital signature", "client auth")
SERVING = ("digital signature", "server auth")


def request(
    common: str, *groups: str, names: tuple[str, ...] = (), uris: tuple[str, ...] = ()
) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names or uris:
        given = [
            *(x509.DNSName(name) for name in names),
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
        ]
        alternative = x509.SubjectAlternativeName(given)
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


BOTH = ("digital signature", "client auth", "server auth")
NAMED = ("*.alpha.gateway.ubernetes.internal",)
URI = ("spiffe://ubernetes/cluster/alpha",)


def gateway(common: str = "ubernetes:gateway:alpha", *groups: str, **given: tuple[str, ...]) -> bytes:  # fmt: skip
    return request(common, *groups, **{"names": NAMED, "uris": URI, **given})


@pytest.mark.parametrize(
    ("signer", "pem", "usages", "expected"),
    [
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:n1", "system:nodes"), CLIENT, ""),
        (pki.SIGNER_KUBELET_CLIENT, request("admin", "system:nodes"), CLIENT, "common name"),
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:", "system:nodes"), CLIENT, "common name"),
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:n1", "system:masters"), CLIENT, "organization"),
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:n1", "system:nodes", "x"), CLIENT, "organization"),
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:n1", "system:nodes"), SERVING, "usage client auth"),
        (pki.SIGNER_KUBELET_CLIENT, request("system:node:n1", "system:nodes", names=("n1",)), CLIENT, "no DNS names"),
        (pki.SIGNER_KUBELET_SERVING, request("system:node:n1", "system:nodes", names=("n1",)), SERVING, ""),
        (pki.SIGNER_KUBELET_SERVING, request("system:node:n1", "system:nodes"), SERVING, "at least one"),
        (pki.SIGNER_KUBELET_SERVING, request("system:node:n1", "system:nodes", names=("n1",)), CLIENT, "usage server auth"),
        (pki.SIGNER_AGENT, request("ubernetes:cluster:alpha", "ubernetes:clusters"), CLIENT, ""),
        (pki.SIGNER_AGENT, request("system:node:n1", "system:nodes"), CLIENT, "organization"),
        (pki.SIGNER_AGENT, request("ubernetes:cluster:", "ubernetes:clusters"), CLIENT, "common name"),
        (pki.SIGNER_AGENT, request("ubernetes:cluster:alpha", "ubernetes:clusters", uris=URI), CLIENT, "no URIs"),
        (GATEWAY_SIGNER, gateway(), BOTH, ""),
        (GATEWAY_SIGNER, gateway("ubernetes:gateway:beta"), BOTH, "DNS *.beta.gateway"),
        (GATEWAY_SIGNER, gateway("ubernetes:cluster:alpha"), BOTH, "common name"),
        (GATEWAY_SIGNER, gateway("ubernetes:gateway:"), BOTH, "common name"),
        (GATEWAY_SIGNER, gateway("ubernetes:gateway:alpha", "system:masters"), BOTH, "nothing else"),
        (GATEWAY_SIGNER, gateway(names=(*NAMED, "*.beta.gateway.ubernetes.internal")), BOTH, "nothing else"),
        (GATEWAY_SIGNER, gateway(names=()), BOTH, "nothing else"),
        (GATEWAY_SIGNER, gateway(uris=()), BOTH, "nothing else"),
        (GATEWAY_SIGNER, gateway(uris=(*URI, "spiffe://ubernetes/cluster/beta")), BOTH, "nothing else"),
        (GATEWAY_SIGNER, gateway(), CLIENT, "client auth and server auth"),
        (pki.SIGNER_CLIENT, request("bob", "devs"), CLIENT, ""),
        (pki.SIGNER_CLIENT, request("bob", "system:masters"), CLIENT, "never signed"),
        (pki.SIGNER_CLIENT, request("bob"), ("code signing", "client auth"), "not allowed"),
        ("example.com/x", request("bob"), CLIENT, "not ours"),
        (pki.SIGNER_CLIENT, b"nonsense", CLIENT, "not a PEM"),
    ],
)  # fmt: skip
def test_refusal(signer: str, pem: bytes, usages: tuple[str, ...], expected: str) -> None:
    said = pki.refusal(signer, pem, usages)
    assert (expected in said) if expected else not said


def test_signed_request_carries_subject_names_and_usages() -> None:
    clock = FakeClock()
    authority = CertificateAuthority.create("c", clock)
    pem = request("system:node:n1", "system:nodes", names=("n1.local",))
    signed = authority.sign_request(pem, SERVING, dt.timedelta(days=30))
    certificate = x509.load_pem_x509_certificate(signed)
    assert pki.subject_of(certificate.subject) == ("system:node:n1", ("system:nodes",))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.local"]
    assert certificate.not_valid_after_utc - clock.now() == dt.timedelta(days=30)
    assert clock.now() - certificate.not_valid_before_utc == dt.timedelta(days=1), "clocks may lag"
    assert certificate.issuer == x509.load_pem_x509_certificate(authority.certificate_pem).subject


def test_a_gateway_carries_its_names_and_no_group() -> None:
    authority = CertificateAuthority.create("c", FakeClock())
    signed = authority.sign_request(gateway(), BOTH, dt.timedelta(days=30))
    certificate = x509.load_pem_x509_certificate(signed)
    assert pki.subject_of(certificate.subject) == ("ubernetes:gateway:alpha", ())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(names.get_values_for_type(x509.DNSName)) == NAMED
    assert tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) == URI


def test_the_authority_survives_a_restart(tmp_path: Path) -> None:
    first = CertificateAuthority.load_or_create(str(tmp_path / "pki"), "c", FakeClock())
    again = CertificateAuthority.load_or_create(str(tmp_path / "pki"), "c", FakeClock())
    assert again.certificate_pem == first.certificate_pem
    assert (tmp_path / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600
    pair = again.issue_client("bob", ("devs",))
    assert isinstance(pki.client_context(first.certificate_pem.decode(), pair), ssl.SSLContext)


def test_no_certificate_outlives_its_authority() -> None:
    clock = FakeClock()
    authority = CertificateAuthority.create("c", clock)
    clock.advance(3640 * 86400)
    pair = authority.issue_client("bob", days=365)
    end = x509.load_pem_x509_certificate(authority.certificate_pem).not_valid_after_utc
    assert pair.expiry() == end
