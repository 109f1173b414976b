"""The two plugins of one server, put together."""

from machinery.api.policy_kinds import (
    MUTATING_BINDING,
    MUTATING_POLICY,
    VALIDATING_BINDING,
    VALIDATING_POLICY,
)
from machinery.api.scheme import Scheme, ServedKind
from machinery.server.admission.interface import Plugin
from machinery.server.admission.matching import Equivalents
from machinery.server.admission.policies.judging import Judge, Peek
from machinery.server.admission.policies.mutating import MutatingPolicies
from machinery.server.admission.policies.params import Params
from machinery.server.admission.policies.reading import ParamRights
from machinery.server.admission.policies.registered import Registered
from machinery.server.admission.policies.validating import ValidatingPolicies
from machinery.server.authz import Authorizer
from machinery.server.cache import KindCache, WatchCache
from machinery.store.interface import Store


def policies(
    scheme: Scheme, store: Store, cache: WatchCache, authorizer: Authorizer, peek: Peek
) -> list[Plugin]:
    """In their order, and who guards them; on a server that does not serve the kinds they judge nothing."""
    equivalents = Equivalents(scheme)
    judge = Judge(authorizer, Params(scheme, store, cache), peek, equivalents)

    def of(kind: ServedKind) -> KindCache | None:
        return cache.of(kind) if kind in scheme.kinds else None

    def registered(policy: ServedKind, binding: ServedKind) -> Registered:
        found = Registered(of(policy), of(binding), equivalents)
        cache.on_load.append(found.load)
        return found

    return [
        ParamRights(authorizer, scheme, peek),
        MutatingPolicies(registered(MUTATING_POLICY, MUTATING_BINDING), judge),
        ValidatingPolicies(registered(VALIDATING_POLICY, VALIDATING_BINDING), judge),
    ]
