"""What is given away in each cluster and may not be in its reports yet: between which bounds, as the judge can know it.

The product keeps a ledger of it (`federation.placement.ledger`). The judge does not read that one: from bindings and
statuses as they were written it works out what surely is owed, and what may count as owed still.
"""

from dataclasses import dataclass, field

from federation.controllers.health import GAP_S
from federation.controllers.reservations import shown as told
from federation.placement.ledger import TOLD_S, UNSEEN_S
from federation.propagation import moves
from federation.propagation.components import wanted
from federation.simulator.seen import Written
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import ObjectKey

SURE_S = 1.0
"""Who decides has heard of what is older."""
DOUBT_S = TOLD_S + 4.0
"""For so long after a change replicas may count as owed and as seen."""


@dataclass(slots=True)
class _Words:
    """A cluster's heartbeats as the store took them: the last one, and the first that came after a pause which nobody missed."""

    last: float
    since: float


@dataclass(slots=True)
class _Stand:
    """One binding. `asked`, `shown`: replicas by cluster; `changed`: when either changed there last, `decided`: the first.

    `open`: replicas that no cluster has been given yet.
    `told`: since when a cluster tells how many replicas there are; until then the ledger waits for none longer than TOLD_S of
    the time in which it hears the cluster.
    `before`: the three first ones as they were before the last write."""

    asked: dict[str, int] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    decided: dict[str, float] = field(default_factory=dict)
    open: int = 0
    told: float = float("inf")
    before: "_Stand | None" = None

    def owed_at_most(self, name: str, now: float) -> int:
        """Replicas that may count as owed there: in doubt, all of them."""
        asked, shown = self.asked.get(name, 0), self.shown.get(name, 0)
        lately = now - self.changed.get(name, float("-inf")) < DOUBT_S
        return max(asked, shown) if lately else max(0, asked - shown)

    def waited_for(self, name: str, word: _Words | None, now: float) -> bool:
        """Whether the ledger surely waits for what was decided there. `word`: the cluster's, if it had one."""
        decided = self.decided.get(name, now)
        if now - decided >= UNSEEN_S - SURE_S:
            return False
        if self.told - decided < TOLD_S - SURE_S:
            return True
        heard = now if word is None else word.last
        since = decided if word is None else max(decided, word.since)
        return heard - since < TOLD_S - SURE_S


class Pledges:
    """Of the whole fleet."""

    def __init__(self) -> None:
        self._stands: dict[ObjectKey, _Stand] = {}
        self._gone: list[tuple[float, str, int]] = []
        self._words: dict[str, _Words] = {}

    def heard(self, name: str, at: float) -> None:
        """A heartbeat of the cluster was written."""
        held = self._words.setdefault(name, _Words(at, float("-inf")))
        if at - held.last >= GAP_S + SURE_S:
            held.since = at
        held.last = at

    def take(self, written: Written, binding: ResourceBinding | None) -> None:
        """A binding was written; `binding` is the new one as the controllers read it."""
        now = written.at
        if binding is None:
            stand = self._stands.pop(written.key, _Stand())
            for name in {*stand.asked, *stand.shown}:
                self._leaves(name, stand, now)
            return
        stand = self._stands.setdefault(written.key, _Stand())
        stand.before = _Stand(stand.asked, stand.shown, dict(stand.changed))
        asked = moves.running(binding)
        shown = {
            item.cluster_name: int((item.status or {}).get("replicas") or 0)
            for item in binding.status.aggregated_status
        }
        for name in {*asked, *shown, *stand.asked, *stand.shown}:
            decided = asked.get(name) != stand.asked.get(name)
            if decided:
                stand.decided[name] = now
            if decided or shown.get(name) != stand.shown.get(name):
                stand.changed[name] = now
                self._leaves(name, stand, now)
        stand.asked, stand.shown = asked, shown
        given = sum(target.replicas for target in binding.spec.clusters)
        stand.open = max(0, wanted(binding) - given)
        _, counted = told(binding)
        stand.told = min(stand.told, now) if counted else float("inf")

    def _leaves(self, name: str, stand: _Stand, now: float) -> None:
        """What stood there may count for a while yet."""
        count = max(stand.asked.get(name, 0), stand.shown.get(name, 0))
        self._gone = [entry for entry in self._gone if now - entry[0] < DOUBT_S]
        self._gone.append((now, name, count))

    def least(self, name: str, but: ObjectKey, now: float) -> int:
        """Replicas that other bindings surely are owed there."""
        return sum(
            max(0, stand.asked.get(name, 0) - stand.shown.get(name, 0))
            for key, stand in self._stands.items()
            if key != but
            and now - stand.changed.get(name, now) > SURE_S
            and stand.waited_for(name, self._words.get(name), now)
        )

    def most(self, name: str, but: ObjectKey, now: float) -> int:
        """Replicas that they may count as owed: what changed lately may be told here and not yet there, and what no cluster has
        yet may be decided in this moment and not written."""
        total = sum(
            count for at, where, count in self._gone if where == name and now - at < DOUBT_S
        )
        others = (stand for key, stand in self._stands.items() if key != but)
        return total + sum(stand.owed_at_most(name, now) + stand.open for stand in others)

    def own(self, name: str, key: ObjectKey, now: float) -> int:
        """Replicas of the binding itself that may have counted as owed when it was decided anew in this moment."""
        stand = self._stands.get(key)
        if stand is None or stand.before is None:
            return 0
        return stand.before.owed_at_most(name, now)
