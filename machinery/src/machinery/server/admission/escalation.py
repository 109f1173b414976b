"""Nobody gives away more rights than they hold.

A Role may only be written by who holds all of its rules (or the verb `escalate` on it), a binding only by who holds all
rules of the role it names (or the verb `bind` on that role). A certificate is a right too: approving and signing requests needs
the verbs `approve` and `sign` on the signer. system:masters hold everything.
"""

from typing import ClassVar

from machinery.meta.errors import Forbidden, NotFound
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest, Kinds, refuse
from machinery.server.authz import Authorizer
from machinery.server.rbac import GROUP, Attributes, Rule, compact_text, uncovered
from machinery.server.user import MASTERS, UserInfo

_ROLES = frozenset({"roles", "clusterroles"})


class RbacEscalation:
    """Guards writes of RBAC objects."""

    kinds: ClassVar[Kinds] = frozenset(
        (GROUP, kind) for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    )

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        if request.kind.group != GROUP or request.verb not in ("create", "update"):
            return
        user = request.call.user
        if MASTERS in user.groups:
            return
        if request.kind.plural in _ROLES:
            self._role(request, user)
        else:
            self._binding(request, user)

    def _role(self, request: AdmissionRequest, user: UserInfo) -> None:
        document, old = request.document, request.old
        if old is not None and all(
            (old.get(key) or None) == (document.get(key) or None)
            for key in ("rules", "aggregationRule")
        ):
            return
        asked = Attributes(
            "escalate", GROUP, request.kind.plural, "", request.namespace, request.name
        )
        if self._authorizer.allows(user, asked):
            return
        if document.get("aggregationRule") and not self._holds_everything(user):
            raise refuse(request, "must have cluster-admin privileges to use the aggregationRule")
        wanted = [Rule.read(rule) for rule in document.get("rules") or ()]
        self._check(request, user, wanted)

    def _binding(self, request: AdmissionRequest, user: UserInfo) -> None:
        ref = request.document.get("roleRef") or {}
        plural = "clusterroles" if ref.get("kind") == "ClusterRole" else "roles"
        asked = Attributes("bind", GROUP, plural, "", request.namespace, ref.get("name", ""))
        if self._authorizer.allows(user, asked):
            return
        rules = self._authorizer.index.role_rules(ref, request.namespace)
        if rules is None:
            where = f"{request.kind.plural}.{GROUP}"
            name = ref.get("name", "")
            raise NotFound(
                f'{where} "{name}" not found',
                details={"name": name, "group": GROUP, "kind": request.kind.plural},
            )
        self._check(request, user, rules)

    def _holds_everything(self, user: UserInfo) -> bool:
        everything = Rule(frozenset("*"), frozenset("*"), frozenset("*"))
        held = self._authorizer.grants(user).cluster
        return not uncovered(held, (everything, Rule(frozenset("*"), urls=("*",))))

    def _check(
        self, request: AdmissionRequest, user: UserInfo, wanted: list[Rule] | tuple[Rule, ...]
    ) -> None:
        held = self._authorizer.grants(user).rules(request.namespace)
        missing = uncovered(held, wanted)
        if missing:
            raise self._escalates(request, user, compact_text(missing))

    def _escalates(self, request: AdmissionRequest, user: UserInfo, text: str) -> Forbidden:
        groups = " ".join(f'"{group}"' for group in user.groups)
        return refuse(
            request,
            f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{text}',
        )


_SIGNING = {"approval": "approve", "status": "sign"}


class SignerRights:
    """CertificateApproval and CertificateSigning: who writes a request's conditions or certificate needs the signer's leave."""

    kinds: ClassVar[Kinds] = frozenset({("certificates.k8s.io", "CertificateSigningRequest")})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def admit(self, request: AdmissionRequest) -> Document:
        return request.document

    def validate(self, request: AdmissionRequest) -> None:
        verb = _SIGNING.get(request.subresource)
        if request.verb != "update" or verb is None or request.old is None:
            return
        if (request.old.get("status") or {}) == (request.document.get("status") or {}):
            return
        signer = (request.old.get("spec") or {}).get("signerName", "")
        domain = signer.partition("/")[0]
        allowed = any(
            self._authorizer.allows(
                request.call.user,
                Attributes(verb, "certificates.k8s.io", "signers", name=name),
            )
            for name in (signer, f"{domain}/*")
        )
        if not allowed:
            raise refuse(
                request, f'user not permitted to {verb} requests with signerName "{signer}"'
            )
