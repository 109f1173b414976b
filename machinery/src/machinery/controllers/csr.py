"""Certificates of nodes: requests that a kubelet may make are approved, signed, and forgotten when they are old.

A client certificate is for a node that comes with a bootstrap token, or for one that renews its own. A serving
certificate is only for the node itself and only for names and addresses that its Node object has: an address that is
not there yet is waited for. Everything else is left for people: `kubectl certificate approve` works, and whatever is
approved for a signer of ours is signed unless the request itself is not one that this signer may ever sign.
"""

import base64
import binascii
import datetime as dt
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from machinery.api.core import NODES, Node
from machinery.client.interface import PatchType
from machinery.controller.action import Action, Delete, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, Object, View, condition
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.pki import SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING, refusal, subject_of
from machinery.server.user import NODE_PREFIX

BOOTSTRAPPERS = "system:bootstrappers"
LIFE_DEFAULT_S = 365 * 86_400
LIFE_MIN_S = 600
ISSUED_KEPT_S = 3_600
DENIED_KEPT_S = 3_600
PENDING_KEPT_S = 86_400
ADDRESS_WAIT_S = 5.0


class RequestSpec(View):
    request: str = ""
    signer_name: str = ""
    usages: tuple[str, ...] = ()
    username: str = ""
    groups: tuple[str, ...] = ()
    expiration_seconds: int | None = None


class RequestStatus(View):
    certificate: str = ""
    conditions: tuple[Condition, ...] = ()


class SigningRequest(Object):
    spec: RequestSpec = RequestSpec()
    status: RequestStatus = RequestStatus()


REQUESTS: Resource[SigningRequest] = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    False,
    SigningRequest,
)


class Signer(Protocol):
    """A certificate authority; `machinery.server.pki.CertificateAuthority` is one."""

    def sign_request(
        self, request_pem: bytes, usages: Sequence[str], life: dt.timedelta
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Approval:
    """Why a request is approved, and what must stand before it is signed."""

    why: str
    first: Sequence[Action] = ()


Approve = Callable[["SigningRequest"], Approval | None]
"""A program's own rule: its approval of a request, or None to leave it to people."""


class Verdict(enum.Enum):
    """What to do with a request."""

    NOTHING = "nothing"
    APPROVE = "approve"
    SIGN = "sign"
    FAIL = "fail"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, its reason, and when to look again."""

    verdict: Verdict
    why: str = ""
    again_s: float | None = None
    first: Sequence[Action] = ()


def plan(
    request: SigningRequest,
    node: Node | None,
    signers: Sequence[str],
    now: dt.datetime,
    approve: Approve | None = None,
) -> Decision:
    """`node` is the Node that the request is for, if there is one; `signers` are the names we sign for."""
    left = _kept_s(request) - _age_s(request, now)
    if left <= 0:
        return Decision(Verdict.DELETE)
    conditions = {c.type for c in request.status.conditions if c.status == "True"}
    done = request.status.certificate or conditions & {"Denied", "Failed"}
    if done or request.spec.signer_name not in signers:
        return Decision(Verdict.NOTHING, again_s=left)
    refused = refusal(request.spec.signer_name, pem_of(request), request.spec.usages)
    if "Approved" in conditions:
        if refused:
            return Decision(Verdict.FAIL, refused, left)
        return Decision(Verdict.SIGN, again_s=left)
    if refused:
        return Decision(Verdict.NOTHING, refused, left)
    if approve is not None:
        approval = approve(request)
        if approval is None:
            return Decision(Verdict.NOTHING, again_s=left)
        return Decision(Verdict.APPROVE, approval.why, left, approval.first)
    return _approval(request, node, left)


def _approval(request: SigningRequest, node: Node | None, left: float) -> Decision:
    asked = x509.load_pem_x509_csr(pem_of(request))
    common, _ = subject_of(asked.subject)
    own = request.spec.username == common
    if request.spec.signer_name == SIGNER_KUBELET_CLIENT:
        if own:
            text = "Auto approving self kubelet client certificate after SubjectAccessReview."
            return Decision(Verdict.APPROVE, text, left)
        if BOOTSTRAPPERS in request.spec.groups:
            text = "Auto approving kubelet client certificate after SubjectAccessReview."
            return Decision(Verdict.APPROVE, text, left)
    if request.spec.signer_name == SIGNER_KUBELET_SERVING and own:
        if node is not None and _names_of(asked) <= _names_had(node):
            text = "Auto approving kubelet serving certificate: every name is the node's own."
            return Decision(Verdict.APPROVE, text, left)
        return Decision(Verdict.NOTHING, "names are not the node's", min(left, ADDRESS_WAIT_S))
    return Decision(Verdict.NOTHING, again_s=left)


def node_name(request: SigningRequest) -> str:
    """The node whose name the request asks for; empty if it asks for none."""
    try:
        common, _ = subject_of(x509.load_pem_x509_csr(pem_of(request)).subject)
    except ValueError:
        return ""
    return common.removeprefix(NODE_PREFIX) if common.startswith(NODE_PREFIX) else ""


def pem_of(request: SigningRequest) -> bytes:
    """The request itself; empty if it cannot be read."""
    try:
        return base64.b64decode(request.spec.request, validate=True)
    except (ValueError, binascii.Error):
        return b""


def life_of(request: SigningRequest) -> dt.timedelta:
    """How long the certificate shall live."""
    asked = request.spec.expiration_seconds or LIFE_DEFAULT_S
    return dt.timedelta(seconds=min(max(asked, LIFE_MIN_S), LIFE_DEFAULT_S))


def _names_of(asked: x509.CertificateSigningRequest) -> set[str]:
    try:
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def _names_had(node: Node) -> set[str]:
    return {node.metadata.name} | {a.address for a in node.status.addresses}


def _kept_s(request: SigningRequest) -> float:
    kinds = {c.type for c in request.status.conditions if c.status == "True"}
    if kinds & {"Denied", "Failed"}:
        return DENIED_KEPT_S
    return ISSUED_KEPT_S if request.status.certificate else PENDING_KEPT_S


def _age_s(request: SigningRequest, now: dt.datetime) -> float:
    since = request.metadata.creation_timestamp or now
    for kind in ("Approved", "Denied", "Failed"):
        found = condition(request.status.conditions, kind)
        if found is not None and found.last_update_time is not None:
            since = max(since, found.last_update_time)
    return (now - since).total_seconds()


class SigningReconciler:
    """Read, plan, act."""

    def __init__(
        self, manager: Manager, signer: Signer, signers: Sequence[str], approve: Approve | None
    ) -> None:
        self._approve = approve
        self._client, self._clock, self._executor = manager.client, manager.clock, manager.executor
        self._signer, self._signers = signer, signers
        self._requests, self._nodes = manager.informer(REQUESTS), manager.informer(NODES)

    async def reconcile(self, key: ObjectKey) -> Result:
        request = self._requests.get(key)
        if request is None:
            return Result()
        now = self._clock.now()
        node = self._nodes.get(ObjectKey("", node_name(request)))
        decision = plan(request, node, self._signers, now, self._approve)
        match decision.verdict:
            case Verdict.DELETE:
                action = Delete(REQUESTS, key, uid=request.metadata.uid)
                return await self._executor.apply([action])
            case Verdict.APPROVE:
                await self._executor.apply(decision.first)
                await self._decide(request, "Approved", "AutoApproved", decision.why, "approval")
            case Verdict.FAIL:
                await self._decide(
                    request, "Failed", "SignerValidationFailure", decision.why, "status"
                )
            case Verdict.SIGN:
                await self._sign(request)
            case Verdict.NOTHING:
                pass
        return Result(requeue_after=decision.again_s)

    async def _sign(self, request: SigningRequest) -> None:
        pem = self._signer.sign_request(pem_of(request), request.spec.usages, life_of(request))
        status = {"certificate": base64.b64encode(pem).decode()}
        await self._patch(request, status, "status")

    async def _decide(
        self, request: SigningRequest, kind: str, reason: str, message: str, subresource: str
    ) -> None:
        moment = rfc3339(self._clock.now())
        fresh = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": moment,
            "lastTransitionTime": moment,
        }
        kept = [_condition_document(c) for c in request.status.conditions]
        await self._patch(request, {"conditions": [*kept, fresh]}, subresource)

    async def _patch(self, request: SigningRequest, status: Document, subresource: str) -> None:
        version = request.metadata.resource_version
        body = {"metadata": {"resourceVersion": version}, "status": status}
        await self._client.patch(
            REQUESTS, request.key, body, PatchType.MERGE, subresource=subresource
        )


def _condition_document(c: Condition) -> Document:
    document: Document = {"type": c.type, "status": c.status}
    if c.last_update_time is not None:
        document["lastUpdateTime"] = rfc3339(c.last_update_time)
    if c.last_transition_time is not None:
        document["lastTransitionTime"] = rfc3339(c.last_transition_time)
    return document | {"reason": c.reason, "message": c.message}


def setup(
    manager: Manager,
    signer: Signer,
    signers: Sequence[str] = (SIGNER_KUBELET_CLIENT, SIGNER_KUBELET_SERVING),
    approve: Approve | None = None,
) -> None:
    """Watch requests; nodes are only looked up. `approve` takes the place of the rule for nodes."""
    reconciler = SigningReconciler(manager, signer, signers, approve)
    manager.controller("certificates", reconciler, workers=1).watches(REQUESTS)
