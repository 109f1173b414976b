"""The certificate of the member's gateways: asked of the federation, kept in one Secret, renewed in good time.

A key is made here, the request goes to the federation's signer of gateways with the agent's own identity, and key,
certificate and the federation's CA stand in Secret `kube-system/ubernetes-gateway`, which every node of the member may read.
A new one is asked for at two thirds of its life, or when what stands there is not what it should be: another cluster's,
another CA's, a key that does not belong to it. With the federation away the old one stays in use; a third of its life
(30 days) is left for the federation to come back.
"""

import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from machinery.api.core import SECRETS, Secret
from machinery.api.fleet.multicluster import (
    GATEWAY_SECRET,
    GATEWAY_SIGNER,
    GATEWAY_USER_PREFIX,
    gateway_name,
    gateway_uri,
)
from machinery.client.identity import (
    Identity,
    SigningRefused,
    SigningTimeout,
    Subject,
    new_key,
    renew_at,
    request_certificate,
)
from machinery.client.interface import Client, dynamic
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.meta.errors import AlreadyExists, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

LIFE_S = 90 * 86_400
RENEW_AT_SHARE = 2 / 3
CHECK_S = 30.0
SIGNING_TIMEOUT_S = 60.0
RETRY = Backoff(base_s=1.0, cap_s=120.0, jitter=0.5)
USAGES = ("digital signature", "client auth", "server auth")
READER_ROLE = "ubernetes:gateway-certificate"
RBAC = "rbac.authorization.k8s.io"
ROLES = dynamic(RBAC, "v1", "roles", "Role", True)
ROLE_BINDINGS = dynamic(RBAC, "v1", "rolebindings", "RoleBinding", True)
_AWAY = (StatusError, ConnectionError, TimeoutError, SigningRefused, SigningTimeout)


@dataclass(frozen=True, slots=True)
class Held:
    """What stands in the Secret, as bytes; empty where it is missing."""

    certificate: bytes = b""
    key: bytes = b""
    ca: bytes = b""


def subject(cluster: str) -> Subject:
    """What the certificate says: names, and no organization."""
    return Subject(
        GATEWAY_USER_PREFIX + cluster,
        dns_names=(gateway_name(cluster),),
        uris=(gateway_uri(cluster),),
    )


def held_in(secret: Secret | None) -> Held:
    """The three parts; what cannot be read counts as missing."""
    data = secret.data if secret is not None else {}
    return Held(*(_decoded(data.get(name, "")) for name in ("tls.crt", "tls.key", "ca.crt")))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def fault(held: Held, cluster: str, ca: bytes) -> str:
    """Why these are not the certificate and key of this cluster's gateways; empty if they are. Pure."""
    if not held.certificate or not held.key:
        return "there is none"
    if held.ca != ca:
        return "it is of another authority"
    try:
        certificate = x509.load_pem_x509_certificate(held.certificate)
        key = serialization.load_pem_private_key(held.key, None)
        authorities = x509.load_pem_x509_certificates(ca)
    except (ValueError, TypeError):
        return "it cannot be read"
    if not any(_issued(certificate, authority) for authority in authorities):
        return "it is not signed by the authority"
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [str(one.value) for one in common] != [GATEWAY_USER_PREFIX + cluster]:
        return "it is another cluster's"
    return "" if certificate.public_key() == key.public_key() else "its key is another one's"


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def secret_document(identity: Identity, ca: bytes) -> Document:
    """The Secret to write."""
    parts = {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": ca}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": GATEWAY_SECRET.name, "namespace": GATEWAY_SECRET.namespace},
        "data": {name: base64.b64encode(content).decode() for name, content in parts.items()},
    }


def reader_documents() -> list[Document]:
    """Nodes may read this one Secret of the namespace."""
    metadata = {"name": READER_ROLE, "namespace": GATEWAY_SECRET.namespace}
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [GATEWAY_SECRET.name],
        "verbs": ["get", "list", "watch"],
    }
    head = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
    return [
        head | {"kind": "Role", "rules": [rule]},
        head
        | {
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": READER_ROLE},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:nodes"}],
        },
    ]


class GatewayCertificate:
    """Keeps the Secret; `run_once` is one look."""

    def __init__(  # noqa: PLR0913 - both sides and who we are
        self,
        federation: Client,
        member: Client,
        clock: Clock,
        cluster: str,
        ca: bytes,
        roll: Callable[[], float],
    ) -> None:
        """`ca` is the federation's, PEM; `roll` gives jitter."""
        self._federation, self._member, self._clock = federation, member, clock
        self._cluster, self._ca, self._roll = cluster, ca, roll
        self._readable = False

    async def run_forever(self) -> None:
        """Look every CHECK_S; what fails is tried again with growing pauses."""
        failures = 0
        while True:
            try:
                await self.run_once()
                failures = 0
            except _AWAY as error:
                failures += 1
                extra = {"error": str(error), "failures": failures}
                log.warning("no certificate for the gateways yet", extra=extra)
            pause = RETRY.delay(failures, self._roll) if failures else CHECK_S
            await self._clock.sleep(pause)

    async def run_once(self) -> None:
        """Let nodes read the Secret, and ask for what it should hold if it is time.

        Raises StatusError, ConnectionError, SigningRefused, SigningTimeout.
        """
        await self._make_readable()
        try:
            secret: Secret | None = await self._member.get(SECRETS, GATEWAY_SECRET)
        except NotFound:
            secret = None
        held = held_in(secret)
        why = fault(held, self._cluster, self._ca)
        if not why and self._clock.now() >= renew_at(held.certificate, RENEW_AT_SHARE):
            why = "it is time for the next one"
        if not why:
            return
        log.info("asking for the gateways' certificate", extra={"why": why})
        identity = await request_certificate(
            self._federation,
            self._clock,
            new_key(),
            subject(self._cluster),
            signer=GATEWAY_SIGNER,
            usages=USAGES,
            name_prefix=f"gateway-{self._cluster}-",
            life_s=LIFE_S,
            timeout_s=SIGNING_TIMEOUT_S,
        )
        await self._write(secret, secret_document(identity, self._ca))

    async def _write(self, present: Secret | None, document: Document) -> None:
        """Three parts in one write, so that readers never see halves of two certificates."""
        if present is None:
            await self._member.create(SECRETS, document, GATEWAY_SECRET.namespace)
            return
        guard = {"uid": present.metadata.uid, "resourceVersion": present.metadata.resource_version}
        patch = {"metadata": guard, "data": document["data"]}
        await self._member.patch(SECRETS, GATEWAY_SECRET, patch)

    async def _make_readable(self) -> None:
        if self._readable:
            return
        for resource, document in zip((ROLES, ROLE_BINDINGS), reader_documents(), strict=True):
            key = ObjectKey(GATEWAY_SECRET.namespace, READER_ROLE)
            try:
                await self._member.get(resource, key)
            except NotFound:
                try:
                    await self._member.create(resource, document, key.namespace)
                except AlreadyExists:
                    continue
        self._readable = True
