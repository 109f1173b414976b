"""Create-only kinds that are answered and forgotten: who am I, may I, is this token good.

Every answer is computed from the same authorizer and authenticator that guard the API itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import BadRequest, invalid
from machinery.meta.resource import Document
from machinery.server.authn import API_AUDIENCE, Authenticator
from machinery.server.authz import Authorizer
from machinery.server.rbac import Attributes, Rule
from machinery.server.user import MASTERS, UserInfo

Review = Callable[[Document, UserInfo, str], Document]
"""(body, who asks, namespace of the URL) -> the answer."""


class Reviews:
    """The reviews by plural."""

    def __init__(self, authorizer: Authorizer, authenticator: Authenticator, clock: Clock) -> None:
        self._authorizer = authorizer
        self._clock = clock
        self._authenticator = authenticator
        self.by_plural: Mapping[str, Review] = {
            "selfsubjectaccessreviews": self._self_access,
            "subjectaccessreviews": self._access,
            "localsubjectaccessreviews": self._local_access,
            "selfsubjectrulesreviews": self._rules,
            "selfsubjectreviews": self._self,
            "tokenreviews": self._token,
        }

    def _self_access(self, body: Document, user: UserInfo, _namespace: str) -> Document:
        spec = body.get("spec") or {}
        _check_attributes(spec, "SelfSubjectAccessReview")
        return _answer(body, self._decide(user, spec))

    def _access(self, body: Document, _user: UserInfo, _namespace: str) -> Document:
        spec = body.get("spec") or {}
        _check_attributes(spec, "SubjectAccessReview")
        if not spec.get("user") and not spec.get("groups"):
            raise _invalid_review(
                "SubjectAccessReview", "spec.user",
                'Invalid value: "": at least one of user or group must be specified',
            )  # fmt: skip
        return _answer(body, self._decide(_subject(spec), spec))

    def _local_access(self, body: Document, user: UserInfo, namespace: str) -> Document:
        asked = (body.get("spec") or {}).get("resourceAttributes") or {}
        if asked.get("namespace", "") != namespace:
            raise _invalid_review(
                "LocalSubjectAccessReview", "spec.resourceAttributes.namespace",
                f'Invalid value: "{asked.get("namespace", "")}": must match metadata.namespace',
            )  # fmt: skip
        answer = self._access(body, user, namespace)
        metadata = {**(answer.get("metadata") or {}), "namespace": namespace}
        return {**answer, "metadata": metadata}

    def _decide(self, user: UserInfo, spec: Document) -> Document:
        resource = spec.get("resourceAttributes")
        if resource is not None:
            asked = Attributes(
                resource.get("verb", ""), resource.get("group", ""), resource.get("resource", ""),
                resource.get("subresource", ""), resource.get("namespace", ""), resource.get("name", ""),
            )  # fmt: skip
        else:
            plain = spec.get("nonResourceAttributes") or {}
            asked = Attributes(plain.get("verb", ""), path=plain.get("path", ""))
        if not self._authorizer.allows(user, asked):
            return {"allowed": False}
        reason = self._authorizer.reason(user, asked)
        return {"allowed": True, **({"reason": reason} if reason else {})}

    def _rules(self, body: Document, user: UserInfo, _namespace: str) -> Document:
        namespace = (body.get("spec") or {}).get("namespace", "")
        if not namespace:
            raise BadRequest("no namespace on request")
        held = list(self._authorizer.grants(user).rules(namespace))
        if MASTERS in user.groups:
            held.insert(0, Rule(frozenset("*"), frozenset("*"), frozenset("*")))
            held.insert(1, Rule(frozenset("*"), urls=("*",)))
        return {
            **body,
            "metadata": body.get("metadata") or {},
            "spec": {},
            "status": {
                "resourceRules": [_resource_rule(rule) for rule in held if not rule.urls],
                "nonResourceRules": [
                    {
                        "verbs": _listed(rule, "verbs", rule.verbs),
                        "nonResourceURLs": list(rule.urls),
                    }
                    for rule in held
                    if rule.urls
                ],
                "incomplete": bool(user.node),
            },
        }

    def _self(self, body: Document, user: UserInfo, _namespace: str) -> Document:
        metadata = {
            **(body.get("metadata") or {}), "creationTimestamp": rfc3339(self._clock.now()),
        }  # fmt: skip
        return {**body, "metadata": metadata, "status": {"userInfo": _user_document(user)}}

    def _token(self, body: Document, _user: UserInfo, _namespace: str) -> Document:
        spec = body.get("spec") or {}
        token = spec.get("token", "")
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        audiences: Sequence[str] = spec.get("audiences") or (API_AUDIENCE,)
        user = self._authenticator.token_user(token, audiences)
        if user is None:
            status: Document = {"user": {}, "error": self._token_fault(token, audiences)}
        else:
            status = {"authenticated": True, "user": _user_document(user)}
            status["audiences"] = list(audiences)
        return {**body, "metadata": body.get("metadata") or {}, "status": status}

    def _token_fault(self, token: str, audiences: Sequence[str]) -> str:
        claims = self._authenticator.claims(token)
        if claims is None:
            return "invalid bearer token"
        listed = [" ".join(f'"{a}"' for a in names) for names in (claims.audiences, audiences)]
        return f"[invalid bearer token, token audiences [{listed[0]}] is invalid for the target audiences [{listed[1]}]]"


def _answer(body: Document, status: Document) -> Document:
    return {**body, "metadata": body.get("metadata") or {}, "status": status}


def _check_attributes(spec: Document, kind: str) -> None:
    both = spec.get("resourceAttributes") is not None, spec.get("nonResourceAttributes") is not None
    if both == (True, True):
        raise _invalid_review(
            kind, "spec.nonResourceAttributes",
            "Invalid value: null: cannot be specified in combination with resourceAttributes",
        )  # fmt: skip
    if both == (False, False):
        raise _invalid_review(
            kind, "spec.resourceAttributes",
            "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )  # fmt: skip


def _invalid_review(kind: str, field: str, message: str) -> Exception:
    cause = {"reason": "FieldValueInvalid", "message": message, "field": field}
    return invalid(kind, "authorization.k8s.io", "", [cause])


def _subject(spec: Document) -> UserInfo:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(
        spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra
    )


def _user_document(user: UserInfo) -> Document:
    found: dict[str, Any] = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    return found


def _resource_rule(rule: Rule) -> Document:
    found: Document = {"verbs": _listed(rule, "verbs", rule.verbs)}
    for key, values in (
        ("apiGroups", rule.groups), ("resources", rule.resources), ("resourceNames", rule.names),
    ):  # fmt: skip
        if values:
            found[key] = _listed(rule, key, values)
    return found


def _listed(rule: Rule, key: str, values: frozenset[str]) -> list[str]:
    """As the role states them; sets have lost the order."""
    given = rule.document.get(key)
    return list(given) if given is not None else sorted(values)
