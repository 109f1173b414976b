"""Who this process is to an API server: a private key that never leaves the machine, and a certificate for it.

The certificate comes through the certificates API: a CertificateSigningRequest is created with whatever identity the
caller has so far (a bootstrap token, or the certificate that is about to expire), and waited for. TLS contexts load
keys from memory; a context of a `CertificateFiles` takes up rotated files in place, for every handshake from then on.
"""

import base64
import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from machinery.client.interface import Client, dynamic
from machinery.kit.clock import Clock
from machinery.meta.resource import Document, ObjectKey

CSRS = dynamic(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False
)
POLL_S = 1.0
SIGNING_TIMEOUT_S = 900.0
RENEW_AT_SHARE = 0.8
"""Of a certificate's life; the rest is time to try."""


class SigningRefused(Exception):
    """The request was denied or failed; asking again with the same identity will not help."""


class SigningTimeout(TimeoutError):
    """Nobody signed the request in time."""


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM of a private key and its certificate chain."""

    key: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """What the certificate is to say. Organisations are groups to the API server."""

    common_name: str
    organizations: Sequence[str] = ()
    dns_names: Sequence[str] = ()
    ip_addresses: Sequence[str] = ()
    uris: Sequence[str] = ()


def new_key() -> bytes:
    """A fresh P-256 key, PKCS#8 PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def signing_request(key: bytes, subject: Subject) -> bytes:
    """The CSR, PEM."""
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in subject.organizations]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.dns_names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in subject.ip_addresses]
    alternatives += [x509.UniformResourceIdentifier(uri) for uri in subject.uris]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey), "our keys are EC"
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def request_certificate(  # noqa: PLR0913 - a CSR's fields, by name
    client: Client,
    clock: Clock,
    key: bytes,
    subject: Subject,
    *,
    signer: str,
    usages: Sequence[str],
    name_prefix: str,
    life_s: int | None = None,
    timeout_s: float = SIGNING_TIMEOUT_S,
    on_created: Callable[[Document], Awaitable[None]] | None = None,
) -> Identity:
    """Ask for a certificate and wait until it is signed. Raises SigningRefused, SigningTimeout, StatusError.

    `life_s` is how long the certificate is to be good, if it is not for the signer to say.
    `on_created` is called with the request as the server has it: an administrator may approve it there and then.
    """
    request = signing_request(key, subject)
    document = _csr_document(request, signer, usages, name_prefix, life_s)
    created = await client.create(CSRS, document)
    if on_created is not None:
        await on_created(created)
    name = ObjectKey("", created["metadata"]["name"])
    deadline = clock.monotonic() + timeout_s
    while True:
        certificate = _signed(created)
        if certificate is not None:
            return Identity(key, certificate)
        if clock.monotonic() >= deadline:
            raise SigningTimeout(f"certificate signing request {name} was not signed in time")
        await clock.sleep(POLL_S)
        created = await client.get(CSRS, name)


def _csr_document(
    pem: bytes, signer: str, usages: Sequence[str], name_prefix: str, life_s: int | None
) -> Document:
    spec: Document = {
        "request": base64.b64encode(pem).decode(),
        "signerName": signer,
        "usages": list(usages),
    }
    return {
        "apiVersion": CSRS.api_version,
        "kind": CSRS.kind,
        "metadata": {"generateName": name_prefix},
        "spec": spec | ({"expirationSeconds": life_s} if life_s is not None else {}),
    }


def _signed(csr: Document) -> bytes | None:
    status: dict[str, Any] = csr.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Denied", "Failed"):
            why = condition.get("message") or condition.get("reason") or "no reason given"
            raise SigningRefused(f"certificate signing request {condition['type'].lower()}: {why}")
    text = status.get("certificate")
    return base64.b64decode(text) if text else None


def expires_at(certificate: bytes) -> dt.datetime:
    """From when on nobody believes the certificate any more."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def renew_at(certificate: bytes, share: float = RENEW_AT_SHARE) -> dt.datetime:
    """When to ask for the next one: at that share of the certificate's life."""
    parsed = x509.load_pem_x509_certificate(certificate)
    life = parsed.not_valid_after_utc - parsed.not_valid_before_utc
    return parsed.not_valid_before_utc + life * share


# ---------------------------------------------------------------------------------------------------- contexts
def client_context(
    *, ca: bytes = b"", certificate: bytes = b"", key: bytes = b"", insecure: bool = False
) -> ssl.SSLContext:
    """TLS towards a server. Without `ca` the machine's roots are trusted; `insecure` trusts anyone."""
    context = ssl.create_default_context(
        ssl.Purpose.SERVER_AUTH, cadata=ca.decode() if ca else None
    )
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        load_identity(context, Identity(key, certificate))
    return context


def server_context(identity: Identity, client_ca: bytes = b"") -> ssl.SSLContext:
    """TLS of a server; with `client_ca` clients may prove themselves by certificate, none is forced to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_identity(context, identity)
    if client_ca:
        context.load_verify_locations(cadata=client_ca.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Give `context` a certificate, replacing what it had. OpenSSL wants a file; it exists for this call only."""
    descriptor, path = tempfile.mkstemp(prefix="identity-")  # 0600 by definition
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity.certificate.rstrip() + b"\n" + identity.key)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()


class CertificateFiles:
    """A context kept in step with a certificate and key on disk, which someone else rotates."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self.context, self._certificate, self._key = context, certificate, key
        self._loaded: tuple[float, float] | None = None

    def reload_if_changed(self) -> bool:
        """Take up new files; whether there were any. A half-written pair is left for the next call."""
        stamp = (self._certificate.stat().st_mtime_ns, self._key.stat().st_mtime_ns)
        if stamp == self._loaded:
            return False
        try:
            self.context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError:
            return False
        self._loaded = stamp
        return True

    async def run(self, clock: Clock, every_s: float = 30.0) -> None:
        """Look again and again until cancelled."""
        while True:
            if self._certificate.exists() and self._key.exists():
                self.reload_if_changed()
            await clock.sleep(every_s)
