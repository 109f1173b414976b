"""The certificate authority of a cluster: serving and client certificates, and the signing of requests (CSR).

EC P-256 throughout: a handshake costs a quarter of RSA's and a board has to live with it. Certificates begin a day
before now, because boards without a battery clock are often behind. The CA's key never leaves `pki_dir` (mode 0600).

Which requests may be signed is decided by `refusal`, a pure function of the request: a kubelet may ask only for its
own name, a serving certificate names no client, and the federation's signers give an agent its cluster's name and a
cluster's gateways the one subject that is theirs, and nothing else. Approval is a matter of the CSR's conditions and of RBAC, not of this module.
"""

import base64
import contextlib
import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from machinery.api.fleet.multicluster import (
    GATEWAY_SIGNER,
    GATEWAY_USER_PREFIX,
    gateway_name,
    gateway_uri,
)
from machinery.kit.clock import Clock
from machinery.meta.names import dns_label
from machinery.server.user import NODE_PREFIX, NODES

BACKDATE = dt.timedelta(days=1)
CA_LIFE = dt.timedelta(days=3650)

SIGNER_KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
SIGNER_KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SIGNER_CLIENT = "kubernetes.io/kube-apiserver-client"
SIGNER_AGENT = "ubernetes.io/cluster-agent"
"""Our own: the identity of a member cluster's agent at the federation."""

AGENT_PREFIX = "ubernetes:cluster:"
AGENTS = "ubernetes:clusters"

_USAGES = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
}
_KEY_USAGES = {"digital signature", "key encipherment", *_USAGES}


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, both PEM."""

    certificate: bytes
    key: bytes

    def expiry(self) -> dt.datetime:
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


class CertificateAuthority:
    """Signs. One per cluster, one for the federation."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def private_key_pem(self) -> bytes:
        """The secret itself; for `pki_dir` and for backups."""
        return key_pem(self._key)

    @classmethod
    def create(cls, name: str, clock: Clock) -> "CertificateAuthority":
        """A fresh CA, kept in memory."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-ca")])
        now = clock.now()
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, key_encipherment=False,
            content_commitment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, clock)

    @classmethod
    def load_or_create(cls, directory: str, name: str, clock: Clock) -> "CertificateAuthority":
        """The CA in `directory` (ca.crt, ca.key), made when there is none."""
        folder = Path(directory)
        if (folder / "ca.key").exists():
            certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
            key = load_key((folder / "ca.key").read_bytes())
            return cls(certificate, key, clock)
        authority = cls.create(name, clock)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / "ca.crt", authority.certificate_pem, mode=0o644)
        write_private(folder / "ca.key", authority.private_key_pem())
        return authority

    def issue_serving(self, common_name: str, names: Sequence[str], days: int = 365) -> Pair:
        """A server's certificate, good for `names` (DNS or IP)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = self._sign(
            subject, key.public_key(), dt.timedelta(days=days), ("server auth",), names
        )
        return Pair(certificate, key_pem(key))

    def issue_client(self, user: str, groups: Sequence[str] = (), days: float = 365) -> Pair:
        """A client's certificate: CN is the user, each O a group."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        certificate = self._sign(
            x509.Name(attributes), key.public_key(), dt.timedelta(days=days), ("client auth",), ()
        )
        return Pair(certificate, key_pem(key))

    def sign_request(self, request_pem: bytes, usages: Sequence[str], life: dt.timedelta) -> bytes:
        """The certificate for a CSR that has been approved and that `refusal` did not refuse."""
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey) or hasattr(key, "public_numbers")
        names = _alternative_names(request)
        return self._sign(
            request.subject, key, life, usages, (*names.dns, *names.addresses), names.uris
        )

    def _sign(
        self,
        subject: x509.Name,
        key: object,
        life: dt.timedelta,
        usages: Sequence[str],
        names: Sequence[str],
        uris: Sequence[str] = (),
    ) -> bytes:
        now = self._clock.now()
        purposes = [_USAGES[usage] for usage in usages if usage in _USAGES]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(min(now + life, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        alternatives = [_general_name(name) for name in names]
        alternatives += [x509.UniformResourceIdentifier(uri) for uri in uris]
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def refusal(signer: str, request_pem: bytes, usages: Sequence[str]) -> str:
    """Why this signer must not sign this request; empty if it may. Pure."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
    except ValueError:
        return "the request is not a PEM encoded certificate request"
    if not request.is_signature_valid:
        return "the request's signature is not valid"
    common, groups = subject_of(request.subject)
    try:
        names = _alternative_names(request)
    except ValueError:
        return "the request's alternative names cannot be read"
    unknown = set(usages) - _KEY_USAGES
    if unknown:
        return f"usages not allowed: {', '.join(sorted(unknown))}"
    if names.others:
        return "alternative names other than DNS names, IP addresses and URIs are not signed"
    if signer == GATEWAY_SIGNER:
        plain = len(request.subject) == 1
        return _gateway_refusal(common, names, usages) if plain else _ONE_NAME
    if names.uris:
        return "a certificate of this signer has no URIs"
    if signer == SIGNER_KUBELET_SERVING:
        return _serving_refusal(common, groups, usages, bool(names.dns or names.addresses))
    if names.dns or names.addresses:
        return "a client certificate has no DNS names and no IP addresses"
    if "client auth" not in usages or "server auth" in usages:
        return "a client certificate has the usage client auth and not server auth"
    return _client_refusal(signer, common, groups)


def _serving_refusal(
    common: str, groups: tuple[str, ...], usages: Sequence[str], named: bool
) -> str:
    if groups != (NODES,):
        return f"the organization must be {NODES} alone"
    if not common.startswith(NODE_PREFIX) or common == NODE_PREFIX:
        return f"the common name must be {NODE_PREFIX}<name>"
    if "server auth" not in usages or "client auth" in usages:
        return "a serving certificate has the usage server auth and not client auth"
    return "" if named else "at least one DNS name or IP address is needed"


_ONE_NAME = "the subject of a gateway's certificate is a common name and nothing else"


def _gateway_refusal(common: str, names: "_Names", usages: Sequence[str]) -> str:
    """A gateway serves and asks, under its cluster's own names alone; it belongs to no group, so it has no rights."""
    cluster = common.removeprefix(GATEWAY_USER_PREFIX)
    if cluster == common or dns_label(cluster):
        return f"the common name must be {GATEWAY_USER_PREFIX}<cluster>"
    if names != _Names((gateway_name(cluster),), (), (gateway_uri(cluster),)):
        return (
            f"the alternative names must be DNS {gateway_name(cluster)} and "
            f"URI {gateway_uri(cluster)} and nothing else"
        )
    if not {"client auth", "server auth"} <= set(usages):
        return "a gateway's certificate has the usages client auth and server auth"
    return ""


def _client_refusal(signer: str, common: str, groups: tuple[str, ...]) -> str:
    if signer == SIGNER_KUBELET_CLIENT:
        if groups != (NODES,):
            return f"the organization must be {NODES} alone"
        if not common.startswith(NODE_PREFIX) or common == NODE_PREFIX:
            return f"the common name must be {NODE_PREFIX}<name>"
        return ""
    if signer == SIGNER_AGENT:
        if groups != (AGENTS,):
            return f"the organization must be {AGENTS} alone"
        if not common.startswith(AGENT_PREFIX) or common == AGENT_PREFIX:
            return f"the common name must be {AGENT_PREFIX}<cluster>"
        return ""
    if signer == SIGNER_CLIENT:
        if "system:masters" in groups:
            return "the group system:masters is never signed"
        return "" if common else "a common name is needed"
    return f"the signer {signer} is not ours"


def requested_groups(request_base64: str) -> tuple[str, ...]:
    """The organizations that a CSR's `spec.request` asks for; none if it cannot be read."""
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(request_base64))
    except ValueError:
        return ()
    return subject_of(request.subject)[1]


def subject_of(name: x509.Name) -> tuple[str, tuple[str, ...]]:
    """(common name, organizations) of a certificate's or request's subject."""
    common = [str(a.value) for a in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(a.value) for a in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return (common[-1] if common else "", tuple(groups))


@dataclass(frozen=True, slots=True)
class _Names:
    """What a request wants to be called besides its subject."""

    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    others: int = 0
    """How many are of other kinds: mail addresses, directory names."""


def _alternative_names(request: x509.CertificateSigningRequest) -> _Names:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _Names()
    dns = tuple(names.get_values_for_type(x509.DNSName))
    addresses = tuple(str(a) for a in names.get_values_for_type(x509.IPAddress))
    uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    return _Names(dns, addresses, uris, len(list(names)) - len(dns) - len(addresses) - len(uris))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM (PKCS 8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError on anything but an EC key."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004
    return key


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that appears whole or not at all, readable by its owner alone."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Give a certificate to an SSL context (which takes files only). Repeating it renews for new connections."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)


def server_context(ca_pem: str, pair: Pair) -> ssl.SSLContext:
    """TLS of the HTTPS port: client certificates are welcome, and checked when given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=ca_pem)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.suppress(AttributeError):
        context.num_tickets = 1
    load_pair(context, pair)
    return context


def client_context(
    ca_pem: str, pair: Pair | None = None, *, check_hostname: bool = True
) -> ssl.SSLContext:
    """TLS of a client that trusts `ca_pem` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    context.load_verify_locations(cadata=ca_pem)
    if pair is not None:
        load_pair(context, pair)
    return context
