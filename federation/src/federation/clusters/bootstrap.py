"""Bootstrap tokens: the short-lived secret with which a machine asks for its own identity (kubeadm's format and Secret).

A token admits to nothing but asking for a certificate, as a member of the group it names.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from machinery.api.core import SECRETS
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.ids import Ids

NAMESPACE = "kube-system"
CLUSTERS_GROUP = "system:bootstrappers:clusters"
"""May ask the federation for a certificate; for which member's, the group of its name says."""
NODES_GROUP = "system:bootstrappers:nodes"
"""May ask a member for a node's identity."""


def cluster_groups(cluster: str) -> str:
    """The groups of a token with which only `cluster` can join."""
    return f"{CLUSTERS_GROUP},{CLUSTERS_GROUP}:{cluster}"


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """`identity` is public, `secret` is not; the wire form joins them with a dot."""

    identity: str
    secret: str

    def __str__(self) -> str:
        return f"{self.identity}.{self.secret}"


def new_token(ids: Ids) -> BootstrapToken:
    """A fresh random token."""
    return BootstrapToken(ids.suffix(6), ids.suffix(16))


def secret_document(
    token: BootstrapToken, group: str, expires: dt.datetime, description: str
) -> dict[str, Any]:
    """The Secret that makes an API server believe the token."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{token.identity}", "namespace": NAMESPACE},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": description,
            "token-id": token.identity,
            "token-secret": token.secret,
            "expiration": rfc3339(expires),
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": group,
        },
    }


async def mint(
    client: Client, group: str, life: dt.timedelta, description: str, clock: Clock, ids: Ids
) -> BootstrapToken:
    """Make a token that the server behind `client` believes for `life`."""
    token = new_token(ids)
    document = secret_document(token, group, clock.now() + life, description)
    await client.create(SECRETS, document, NAMESPACE)
    return token
