"""What bindings are given in each member and the member has not told of yet, for the judge: the ledger seen from outside. Pure."""

from collections import deque
from dataclasses import dataclass, field

from federation.propagation import moves
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import ObjectKey

TOLD_S = 6.0
"""So long after a workload's report the member's own sums may be without its pods."""


@dataclass(slots=True)
class _Member:
    owed: dict[ObjectKey, tuple[int, float]] = field(default_factory=dict)
    """(replicas, since when so many)."""
    told: deque[tuple[float, int]] = field(default_factory=deque)
    """(when, replicas) that the member told of, or that are owed no more."""


class Promised:
    """Replicas by member."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}

    def take(self, key: ObjectKey, binding: ResourceBinding | None, now: float) -> None:
        """The binding is like this now; None: it is gone."""
        asked = moves.running(binding) if binding is not None else {}
        shown = {
            item.cluster_name: int((item.status or {}).get("replicas") or 0)
            for item in (binding.status.aggregated_status if binding is not None else ())
        }
        for name in self._members.keys() | asked:
            member = self._members.setdefault(name, _Member())
            before, since = member.owed.pop(key, (0, now))
            owed = max(0, asked.get(name, 0) - shown.get(name, 0))
            if owed:
                member.owed[key] = owed, since if owed == before else now
            if owed < before:
                member.told.append((now, before - owed))

    def sure(self, name: str, now: float) -> int:
        """Replicas that no decision may have overlooked."""
        member = self._members.get(name, _Member())
        return sum(count for count, since in member.owed.values() if now - since < TOLD_S)

    def most(self, name: str, now: float) -> int:
        """Replicas that a decision may have taken into account."""
        member = self._members.get(name, _Member())
        while member.told and now - member.told[0][0] > TOLD_S:
            _ = member.told.popleft()
        owed = sum(count for count, _ in member.owed.values())
        return owed + sum(count for _, count in member.told)
