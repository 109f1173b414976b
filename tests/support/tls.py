"""A throw-away certificate authority for tests on loopback."""

import datetime as dt
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from machinery.api.fleet.multicluster import GATEWAY_USER_PREFIX, gateway_name, gateway_uri
from machinery.client.identity import Identity, client_context, server_context

BEFORE = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
AFTER = dt.datetime(2044, 1, 1, tzinfo=dt.UTC)


class TestAuthority:
    """Issues certificates for `localhost` and 127.0.0.1, and for clients."""

    __test__ = False

    def __init__(self, name: str = "test-ca") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject, public_key) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEFORE)
            .not_valid_after(AFTER)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def sign(self, request_pem: bytes) -> bytes:
        """A client certificate for a CSR."""
        request = x509.load_pem_x509_csr(request_pem)
        assert request.is_signature_valid
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            self._builder(request.subject, request.public_key())
            .add_extension(usage, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str = "localhost", *organizations: str) -> Identity:
        """A key with a certificate good as server on loopback and as client."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            certificate.public_bytes(serialization.Encoding.PEM),
        )

    def gateway(self, cluster: str) -> Identity:
        """A key with the certificate of a cluster's gateways."""
        key = ec.generate_private_key(ec.SECP256R1())
        common = x509.NameAttribute(NameOID.COMMON_NAME, GATEWAY_USER_PREFIX + cluster)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        names = x509.SubjectAlternativeName(
            [
                x509.DNSName(gateway_name(cluster)),
                x509.UniformResourceIdentifier(gateway_uri(cluster)),
            ]
        )
        certificate = (
            self._builder(x509.Name([common]), key.public_key())
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(private, certificate.public_bytes(pem))

    def server_context(self) -> ssl.SSLContext:
        return server_context(self.issue(), self.pem)

    def client_context(self, identity: Identity | None = None) -> ssl.SSLContext:
        if identity is None:
            return client_context(ca=self.pem)
        return client_context(ca=self.pem, certificate=identity.certificate, key=identity.key)
