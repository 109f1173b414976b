"""The policies of one sort with their bindings, read from the watch cache at each change, so that one is in effect at once.

They are asked by name. A policy that no binding names is not asked. Which of them a kind and an operation may concern is remembered;
where none is, a write costs one look into a dictionary.
"""

from typing import Final, NamedTuple

from machinery.api.policy_kinds import GROUP_KINDS
from machinery.api.scheme import ServedKind
from machinery.server.admission.matching import Asked, Equivalents, Remembered
from machinery.server.admission.policies.plans import Binding, Policy
from machinery.server.cache import CacheEvent, Entry, KindCache

_REVIEWS: Final = frozenset({"authentication.k8s.io", "authorization.k8s.io"})


class Bound(NamedTuple):
    """A policy and what binds it."""

    policy: Policy
    bindings: tuple[Binding, ...]


def exempt(kind: ServedKind) -> bool:
    """Whether no policy ever judges it: policies themselves, and reviews, which are not kept."""
    return kind.group_kind in GROUP_KINDS or (kind.group in _REVIEWS and not kind.storable)


class Registered:
    """The policies of one sort."""

    def __init__(
        self, policies: KindCache | None, bindings: KindCache | None, equivalents: Equivalents
    ) -> None:
        self._policies, self._bindings = policies, bindings
        self.equivalents = equivalents
        self._all: tuple[Bound, ...] = ()
        self._read_before: dict[str, tuple[Entry, Policy]] = {}
        self._remembered = Remembered(equivalents, self._look)
        for cache in (policies, bindings):
            if cache is not None:
                cache.listeners.append(self._changed)

    def _changed(self, _event: CacheEvent) -> None:
        self.load()

    def load(self) -> None:
        """Everything is read anew; what is the same stays compiled."""
        if self._policies is None or self._bindings is None:
            return
        bound: dict[str, list[Binding]] = {}
        for key in sorted(self._bindings.entries):
            document = self._bindings.entries[key].document()
            name = (document.get("spec") or {}).get("policyName", "")
            bound.setdefault(name, []).append(Binding.of(document))
        known: dict[str, tuple[Entry, Policy]] = {}
        for key in sorted(self._policies.entries):
            entry = self._policies.entries[key]
            held = self._read_before.get(key)
            policy = held[1] if held is not None and held[0] is entry else _read(entry, held)
            known[key] = (entry, policy)
        self._read_before = known
        self._all = tuple(
            Bound(policy, tuple(bound[policy.name]))
            for _, policy in known.values()
            if policy.name in bound
        )
        self._remembered.forget()

    @property
    def none(self) -> bool:
        """Whether nothing is ever judged."""
        return not self._all

    def concerned(self, asked: Asked) -> tuple[Bound, ...]:
        """Which of them the write may be about."""
        return self._remembered.concerned(asked)

    def _look(self, asked: Asked) -> tuple[Bound, ...]:
        if exempt(asked.kind):
            return ()
        return tuple(one for one in self._all if one.policy.may_match(asked, self.equivalents))


def _read(entry: Entry, held: tuple[Entry, Policy] | None) -> Policy:
    """A new status or label compiles nothing anew."""
    policy = Policy(entry.document())
    if held is not None and held[1].spec == policy.spec:
        return held[1]
    return policy
