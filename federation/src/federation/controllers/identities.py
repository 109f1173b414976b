"""Identities: which certificate requests of members' agents are approved.

A request is for one cluster, by its common name. It is approved when it comes with a bootstrap token made for that very
cluster, or from the agent that renews its own. The rights of the cluster are made before, so that the certificate is good
from its first second. The certificate of a cluster's gateways is approved for the agent of that very cluster and nobody
else; with it come no rights. Signing is the shared certificates controller's.
"""

from cryptography import x509

from federation.clusters.bootstrap import CLUSTERS_GROUP
from federation.controllers import membership
from machinery.api.fleet.multicluster import GATEWAY_SIGNER, GATEWAY_USER_PREFIX
from machinery.controller.action import Action
from machinery.controller.manager import Manager
from machinery.controllers import csr
from machinery.controllers.csr import Approval, SigningRequest
from machinery.server.pki import AGENT_PREFIX, SIGNER_AGENT, CertificateAuthority, subject_of


def cluster_of(request: SigningRequest, prefix: str = AGENT_PREFIX) -> str:
    """The cluster whose identity is asked for; empty if it is none. `prefix` stands before it in the common name."""
    try:
        common, _ = subject_of(x509.load_pem_x509_csr(csr.pem_of(request)).subject)
    except ValueError:
        return ""
    return common.removeprefix(prefix) if common.startswith(prefix) else ""


def plan(request: SigningRequest) -> Approval | None:
    """The approval, or None when it is left to people."""
    if request.spec.signer_name == GATEWAY_SIGNER:
        return _of_gateway(request)
    cluster = cluster_of(request)
    if not cluster or request.spec.signer_name != SIGNER_AGENT:
        return None
    if request.spec.username == AGENT_PREFIX + cluster:
        return Approval("The agent renews its own certificate.")
    if f"{CLUSTERS_GROUP}:{cluster}" in request.spec.groups:
        return Approval(f"A bootstrap token for cluster {cluster} was presented.", before(cluster))
    return None


def _of_gateway(request: SigningRequest) -> Approval | None:
    cluster = cluster_of(request, GATEWAY_USER_PREFIX)
    if not cluster or request.spec.username != AGENT_PREFIX + cluster:
        return None
    return Approval(f"The agent of cluster {cluster} asks for its gateways.")


def before(cluster: str) -> tuple[Action, ...]:
    """What must stand before the certificate is signed."""
    return tuple(membership.grant(cluster))


def setup(manager: Manager, authority: CertificateAuthority) -> None:
    """The shared controller, with our rule of approval."""
    csr.setup(manager, authority, (SIGNER_AGENT, GATEWAY_SIGNER), plan)
