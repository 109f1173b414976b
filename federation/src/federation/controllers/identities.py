"""Identities: which certificate requests of members' agents are approved.

A request is for one cluster, by its common name. It is approved when it comes with a bootstrap token made for that very
cluster, or from the agent that renews its own. The rights of the cluster are made before, so that the certificate is good
from its first second. Signing is the shared certificates controller's.
"""

from cryptography import x509

from federation.clusters.bootstrap import CLUSTERS_GROUP
from federation.controllers import membership
from machinery.controller.action import Action
from machinery.controller.manager import Manager
from machinery.controllers import csr
from machinery.controllers.csr import Approval, SigningRequest
from machinery.server.pki import AGENT_PREFIX, SIGNER_AGENT, CertificateAuthority, subject_of


def cluster_of(request: SigningRequest) -> str:
    """The cluster whose identity is asked for; empty if it is none."""
    try:
        common, _ = subject_of(x509.load_pem_x509_csr(csr.pem_of(request)).subject)
    except ValueError:
        return ""
    return common.removeprefix(AGENT_PREFIX) if common.startswith(AGENT_PREFIX) else ""


def plan(request: SigningRequest) -> Approval | None:
    """The approval, or None when it is left to people."""
    cluster = cluster_of(request)
    if not cluster or request.spec.signer_name != SIGNER_AGENT:
        return None
    if request.spec.username == AGENT_PREFIX + cluster:
        return Approval("The agent renews its own certificate.")
    if f"{CLUSTERS_GROUP}:{cluster}" in request.spec.groups:
        return Approval(f"A bootstrap token for cluster {cluster} was presented.", before(cluster))
    return None


def before(cluster: str) -> tuple[Action, ...]:
    """What must stand before the certificate is signed."""
    return tuple(membership.grant(cluster))


def setup(manager: Manager, authority: CertificateAuthority) -> None:
    """The shared controller, with our rule of approval."""
    csr.setup(manager, authority, (SIGNER_AGENT,), plan)
