"""Verbs of their own kind on pods and accounts: binding, eviction, token."""

import datetime as dt
from dataclasses import replace
from typing import Any

from machinery.api import strategy
from machinery.api.scheme import Scheme
from machinery.kit.clock import rfc3339
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.authn import API_AUDIENCE
from machinery.server.authz import references
from machinery.server.budgets import Budgets
from machinery.server.call import Call
from machinery.server.deletion import deletion_of
from machinery.server.registry import Registry
from machinery.server.replies import success_status
from machinery.server.tokens import SECONDS_MAX, SECONDS_MIN, Bound, TokenIssuer
from machinery.server.user import UserInfo

DEFAULT_SECONDS = 3600
EXTENDED_SECONDS = 365 * 24 * 3600
_BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class PodVerbs:
    """Answers POSTs to subresources that are not part of the object."""

    def __init__(self, registry: Registry, scheme: Scheme, issuer: TokenIssuer) -> None:
        self._registry = registry
        self._issuer = issuer
        pods = scheme.by_plural("", "v1", "pods")
        accounts = scheme.by_plural("", "v1", "serviceaccounts")
        self._pods = pods
        self._budgets = Budgets(registry, scheme)
        self._accounts = accounts
        self._scheme = scheme

    async def bind(self, binding: Document, namespace: str, name: str, call: Call) -> Document:
        """pods/binding: the scheduler's decision. 409 when the pod has a node already."""
        assert self._pods is not None
        target = (binding.get("target") or {}).get("name", "")
        kind = (binding.get("target") or {}).get("kind") or "Node"
        metadata = binding.get("metadata") or {}
        given = metadata.get("name") or name
        if given != name:
            raise errors.BadRequest("name in URL does not match name in Binding object")
        causes = []
        if kind != "Node":
            message = f'Unsupported value: "{kind}": supported values: "Node", "<empty>"'
            causes.append(
                {"reason": "FieldValueNotSupported", "message": message, "field": "target.kind"}
            )
        if not target:
            causes.append(
                {
                    "reason": "FieldValueRequired",
                    "message": "Required value",
                    "field": "target.name",
                }
            )
        if causes:
            raise errors.invalid("Binding", "", name, causes)

        def bound(live: Document) -> Document:
            self._check_bindable(live, name, target)
            wanted = strategy.bind(live, binding, rfc3339(self._registry.clock.now()))
            if version := metadata.get("resourceVersion"):
                wanted["metadata"] = {**wanted["metadata"], "resourceVersion": version}
            if (uid := metadata.get("uid")) and uid != live["metadata"]["uid"]:
                raise errors.conflict(
                    "pods/binding", "", name,
                    f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live['metadata']['uid']}",
                )  # fmt: skip
            return wanted

        await self._registry.change(
            self._pods, namespace, name, bound, call, "binding", verb="bind"
        )
        return success_status(code=201)

    def _check_bindable(self, live: Document, name: str, target: str) -> None:
        why = ""
        if live["metadata"].get("deletionTimestamp"):
            why = f"pod {name} is being deleted, cannot be assigned to a host"
        elif held := (live.get("spec") or {}).get("nodeName"):
            why = f'pod {name} is already assigned to node "{held}"'
        elif (live.get("spec") or {}).get("schedulingGates"):
            why = f"pod {name} has non-empty .spec.schedulingGates"
        if why:
            raise errors.conflict("pods/binding", "", name, why)

    async def evict(self, eviction: Document, namespace: str, name: str, call: Call) -> Document:
        """pods/eviction: a deletion that the pod's disruption budget may refuse. Raises TooManyRequests."""
        assert self._pods is not None
        given = (eviction.get("metadata") or {}).get("name", "")
        if given and given != name:
            raise errors.BadRequest("name in URL does not match name in Eviction object")
        options = deletion_of(eviction.get("deleteOptions") or {})
        options = replace(options, dry_run=options.dry_run or call.dry_run)
        live = self._registry.peek(self._pods, namespace, name)
        if live is not None:  # who may not delete it may not mark it either
            self._registry.deleter.judge(self._pods, namespace, name, live, call)
            await self._budgets.take(live, dry_run=options.dry_run)
        if not options.dry_run and not options.uid and not options.resource_version:
            await self._registry.change(
                self._pods, namespace, name, self._disrupted, call, "status", verb="bind"
            )
        await self._registry.deleter.delete(
            self._pods, namespace, name, options, call, outside=False
        )
        return success_status(code=201)

    def _disrupted(self, live: Document) -> Document:
        """The pod with the condition that tells its controllers: it was evicted, it did not fail."""
        status = live.get("status") or {}
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(self._registry.clock.now()),
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
        conditions = status.get("conditions") or ()
        others = [c for c in conditions if c.get("type") != "DisruptionTarget"]
        return {**live, "status": {**status, "conditions": [*others, condition]}}

    async def token(self, request: Document, namespace: str, name: str, call: Call) -> Document:
        """serviceaccounts/token: a JWT of the account, bound to an object if asked."""
        assert self._accounts is not None
        account = (await self._registry.get(self._accounts, namespace, name)).read()
        metadata = dict(request.get("metadata") or {})
        self._check_token_request(request, metadata, namespace, name)
        spec = dict(request.get("spec") or {})
        seconds = spec.get("expirationSeconds") or DEFAULT_SECONDS
        audiences = spec.get("audiences") or [API_AUDIENCE]
        bound = self._bound(spec.get("boundObjectRef"), namespace, name, call.user)
        token, expiry = self._issuer.issue(
            namespace, name, account["metadata"]["uid"], audiences, seconds, bound
        )
        now = self._registry.clock.now()
        answer: dict[str, Any] = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                **metadata, "name": name, "namespace": namespace,
                "uid": account["metadata"]["uid"], "creationTimestamp": rfc3339(now),
            },
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {
                "token": token,
                "expirationTimestamp": rfc3339(dt.datetime.fromtimestamp(expiry, dt.UTC)),
            },
        }  # fmt: skip
        return answer

    def _check_token_request(
        self, request: Document, metadata: Document, namespace: str, name: str
    ) -> None:
        causes = []
        seconds = (request.get("spec") or {}).get("expirationSeconds") or DEFAULT_SECONDS
        if seconds < SECONDS_MIN:
            causes.append(
                (
                    seconds,
                    "may not specify a duration less than 10 minutes",
                    "spec.expirationSeconds",
                )
            )
        if seconds > SECONDS_MAX:
            causes.append(
                (
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                    "spec.expirationSeconds",
                )
            )
        for given, expected, what in (
            (metadata.get("name", ""), name, "name"),
            (metadata.get("namespace", ""), namespace, "namespace"),
        ):
            if given and given != expected:
                text = f"must match the service account {what} if specified"
                causes.append((f'"{given}"', text, f"metadata.{what}"))
        if causes:
            shown = name if any(field.startswith("metadata") for _, _, field in causes) else ""
            raise errors.invalid(
                "TokenRequest", "authentication.k8s.io", shown,
                [
                    {"reason": "FieldValueInvalid", "message": f"Invalid value: {value}: {text}", "field": field}
                    for value, text, field in causes
                ],
            )  # fmt: skip

    def _bound(
        self, reference: Document | None, namespace: str, account: str, user: UserInfo
    ) -> list[Bound]:
        if not reference:
            return []
        kind, name = reference.get("kind", ""), reference.get("name", "")
        plural = _BINDABLE.get(kind)
        served = self._scheme.by_plural("", "v1", plural) if plural else None
        if served is None:
            group = reference.get("apiVersion", "").replace("v1", "/v1")
            raise errors.BadRequest(f"cannot bind token to object of type {group}, Kind={kind}")
        found = self._registry.peek(served, namespace if served.namespaced else "", name)
        if found is None:
            raise errors.not_found(served.plural, "", name)
        uid = found["metadata"]["uid"]
        if reference.get("uid") and reference["uid"] != uid:
            raise errors.conflict(
                served.plural, "", name,
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )  # fmt: skip
        bound = [Bound(kind, name, uid)]
        node = _node_of(found, account, user) if kind == "Pod" else ""
        nodes = self._scheme.by_plural("", "v1", "nodes")
        if node and nodes is not None and (held := self._registry.peek(nodes, "", node)):
            bound.append(Bound("Node", node, held["metadata"]["uid"]))
        return bound


def _node_of(pod: Document, account: str, user: UserInfo) -> str:
    """The node of a pod that a token is bound to. Raises BadRequest, Forbidden where the token is not this pod's to have."""
    spec = pod.get("spec") or {}
    if ("serviceaccounts", pod["metadata"].get("namespace", ""), account) not in references(pod):
        raise errors.BadRequest(
            f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
        )
    node = str(spec.get("nodeName") or "")
    if user.node and node != user.node:
        raise errors.Forbidden(
            f'serviceaccounts "{account}" is forbidden: node requested token bound to a pod scheduled on a different node',
            details={"name": account, "kind": "serviceaccounts"},
        )
    return node


def may_request_token(user: UserInfo, request: Document) -> str:
    """Why a kubelet must not have this token; empty if it may. A node's token is bound to a pod."""
    if not user.node:
        return ""
    bound = (request.get("spec") or {}).get("boundObjectRef") or {}
    return "" if bound.get("kind") == "Pod" else "node requested token not bound to a pod"
