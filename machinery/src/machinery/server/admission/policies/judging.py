"""What expressions are given of a write, who answers what they ask of the authorizer, and whom a policy and its bindings are about."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from machinery.api.expressions.admission import Evaluation, Given
from machinery.api.scheme import ServedKind
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document
from machinery.server.admission.asking import answer_of, question_of
from machinery.server.admission.interface import AdmissionRequest, forbidden
from machinery.server.admission.matching import Criteria, Equivalents
from machinery.server.admission.policies.params import Misconfigured, Params
from machinery.server.admission.policies.plans import Binding, Policy
from machinery.server.admission.policies.registered import Bound
from machinery.server.admission.seen import Seen
from machinery.server.authz import Authorizer
from machinery.server.user import UserInfo

Peek = Callable[[str, str, str], Document | None]


class Meant(NamedTuple):
    """A policy that is about the write, by one binding and one set of parameters; or why it cannot be asked."""

    policy: Policy
    binding: Binding | None
    kind: ServedKind
    params: Document | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """What policies of both sorts look at besides the write."""

    authorizer: Authorizer
    params: Params
    peek: Peek
    equivalents: Equivalents

    def meant(self, bound: Bound, seen: Seen) -> Iterator[Meant]:
        """By whom the write is to be judged of those that may be."""
        policy = bound.policy
        try:
            kind = self._matched(policy.criteria, policy.fault, seen)
        except Misconfigured as why:
            yield _misconfigured(policy, None, seen, why)
            return
        if kind is None:
            return
        try:
            of = None if policy.param_kind is None else self.params.kind(policy.param_kind)
        except Misconfigured as why:
            yield _misconfigured(policy, None, seen, why)
            return
        for binding in bound.bindings:
            try:
                if (binding.criteria or binding.fault) and not self._matched(
                    binding.criteria, binding.fault, seen
                ):
                    continue
                params = self._params(of, binding, seen)
            except Misconfigured as why:
                yield _misconfigured(policy, binding, seen, why)
                continue
            for one in params:
                yield Meant(policy, binding, kind, one)

    def _params(
        self, kind: ServedKind | None, binding: Binding, seen: Seen
    ) -> list[Document | None]:
        if kind is None:
            return [None]
        return self.params.of(kind, binding.ref, seen.asked.namespace)

    def _matched(self, criteria: Criteria | None, fault: str, seen: Seen) -> ServedKind | None:
        if criteria is None:
            raise Misconfigured(fault)
        try:
            return criteria.matched(
                seen.asked, seen.document, seen.old, self._labels, self.equivalents
            )
        except NotFound as error:
            raise Misconfigured(error.message) from None

    def _labels(self, name: str) -> Mapping[str, str] | None:
        namespace = self.peek("core/namespaces", "", name)
        return None if namespace is None else namespace["metadata"].get("labels") or {}

    def evaluation(self, meant: Meant, seen: Seen, user: UserInfo) -> Evaluation:
        """Where the policy's expressions run."""
        asked, kind = seen.asked, meant.kind
        namespace = "" if asked.of_namespace else asked.namespace
        given = Given(
            seen.shown(seen.document, kind),
            seen.shown(seen.old, kind),
            seen.request(kind),
            self.peek("core/namespaces", "", namespace) if namespace else None,
            meant.params,
            answer_of(self.authorizer, user),
            question_of(asked),
        )
        return Evaluation(given, meant.policy.variables)


def _misconfigured(policy: Policy, binding: Binding | None, seen: Seen, why: Exception) -> Meant:
    what = "policy" if binding is None else "binding"
    return Meant(policy, binding, seen.asked.kind, fault=f"failed to configure {what}: {why}")


def refusal(request: AdmissionRequest, seen: Seen, why: str) -> Document:
    """The `message` and `details` of a refusal as upstream names the object, whose name may not be made yet."""
    metadata = (seen.document or {}).get("metadata") or {}
    name = seen.asked.name or metadata.get("name") or metadata.get("generateName") or "Unknown"
    error = forbidden(request.call.face or request.kind, name, why)
    return {"message": error.message, "details": error.details}
