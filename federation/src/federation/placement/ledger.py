"""The capacity ledger: room that decisions have given away and that members' reports do not show yet. Pure.

A member reports its room every two seconds, so that many workloads may be decided within one report; each decision by
reported room alone would give the same room away again. So what a cluster is asked to run of a binding, and has not shown
yet, is reserved there:

    owed = replicas asked of the cluster (decided, and kept by a move) - replicas that it has reported of the workload

    case                       what is reserved
    decision, scale up         what is owed, at once
    scale down                 nothing: the room is free when the member's report says so, no sooner
    move                       what the new cluster owes; the old one shows what it keeps
    replicas were reported     what they ask, for SETTLE_S more: by then the member's sums contain them
    what a replica asks grew   the difference for the replicas that stand, for GROWN_S
    binding deleted            as if its replicas were reported just now
    cluster silent             everything stays: for it time passes only up to its last word (a heartbeat), so that nothing
                               ends in the seconds before anybody can say that its link is cut
    cluster heard again        every wait begins anew, as it could be told nothing meanwhile
    cluster left               nothing
    server restarted           what is owed, since the last decision, and TOLD_S after the cluster's first word at least
    replicas never come        gone UNSEEN_S after the decision (refused by a quota, say), TOLD_S where the kind tells no
                               replicas; never while dispatching is suspended
    evictions                  what a dead cluster keeps is shown by its last report; what it owed stays reserved

It is one-sided on purpose: pods that a member counts a moment before it tells of the replicas are subtracted twice for
that moment. A decision that is refused for it is asked again, and whether a binding could stand better elsewhere is asked
when nothing of its own is reserved any more (`busy_s`). One sum per cluster is kept, so that a decision costs
the same with ten bindings and with ten thousand. Time is given by the caller, in seconds of one clock.
"""

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from federation.placement.capacity import PODS
from federation.placement.model import Candidate
from machinery.meta.resource import ObjectKey

SETTLE_S = 4.0
"""From a workload's report until its pods are in the member's sums, which are sent every 2 s."""
TOLD_S = 8.0
"""By then a member has told of the pods that a decision brought it."""
WORD_S = 2.0
"""From a cluster's word to its next one."""
GROWN_S = 60.0
"""How long replicas may take to be replaced by bigger ones."""
UNSEEN_S = 300.0
"""Replicas that have not come by then are not waited for."""

Amounts = Mapping[str, int]


class Reservation(msgspec.Struct, frozen=True):
    """Room in one cluster for `replicas` that a binding is owed there, since the decision."""

    key: ObjectKey
    uid: str
    cluster: str
    replicas: int
    asks: Amounts
    since: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A binding as the ledger takes it. `asked`: replicas that each cluster is to run, `shown`: what it reported of them."""

    key: ObjectKey
    uid: str
    asks: Amounts = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    shown: Mapping[str, int] = field(default_factory=dict)
    counted: bool = True
    """Whether the kind reports how many replicas there are."""
    held: bool = False
    """Dispatching is suspended: replicas come when somebody lets them."""

    @property
    def patience_s(self) -> float:
        """How long replicas are waited for."""
        if self.held:
            return math.inf
        return UNSEEN_S if self.counted else TOLD_S

    def owed(self, cluster: str) -> int:
        """Replicas that the cluster has not shown yet."""
        return max(0, self.asked.get(cluster, 0) - self.shown.get(cluster, 0))

    def differs(self, before: "Standing") -> Iterable[str]:
        """Clusters of either for which something else may be owed than before."""
        both = self.asked.keys() | before.asked
        if (self.asks, self.counted, self.held) != (before.asks, before.counted, before.held):
            return both
        asked, shown = self.asked.get, self.shown.get
        asked_before, shown_before = before.asked.get, before.shown.get
        if self.shown == before.shown:
            if self.asked == before.asked:
                return ()
            return [name for name in both if asked(name) != asked_before(name)]
        return [
            name
            for name in both
            if asked(name) != asked_before(name) or shown(name) != shown_before(name)
        ]

    def asks_as(self, other: "Standing") -> bool:
        """Whether both ask the same of a cluster that is to run as many of either."""
        return self.asks == other.asks and self.held == other.held


def times(asks: Amounts, replicas: int) -> dict[str, int]:
    """What so many replicas ask."""
    return {name: value * replicas for name, value in asks.items() if value > 0}


def room_of(asks: Amounts, replicas: int) -> dict[str, int]:
    """What so many replicas take, each as one pod."""
    return times(asks, replicas) | {PODS: replicas}


def less(candidate: Candidate, taken: Amounts) -> Candidate:
    """The member without room that is spoken for. What it does not report is not made up."""
    if not taken or candidate.free is None:
        return candidate
    free, reserved = dict(candidate.free), dict(taken)
    for name, value in taken.items():
        if name in free:
            free[name] -= value
    for name, value in candidate.reserved.items():
        reserved[name] = reserved.get(name, 0) + value
    return msgspec.structs.replace(candidate, free=free, reserved=reserved)


def whole(candidate: Candidate) -> Candidate:
    """The member as it reports itself."""
    if not candidate.reserved or candidate.free is None:
        return candidate
    taken = candidate.reserved
    free = {name: value + taken.get(name, 0) for name, value in candidate.free.items()}
    return msgspec.structs.replace(candidate, free=free, reserved={})


class _Hold(msgspec.Struct, order=True):
    """Amounts that are given back at a time: a binding's reservation, or nobody's (no key). No two have one number.

    One for each cluster of each decision, so it is the entry of the book and of its heap in one.
    """

    at: float
    number: int
    lasts_s: float
    amounts: Amounts
    key: ObjectKey | None = None
    uid: str = ""
    replicas: int = 0
    asks: Amounts = {}
    since: float = 0.0


class Book:
    """One cluster: its reservations and their sum. Who does not keep it reads `sums` and `version` only."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.version = 0
        """Grows with every change of the sums."""
        self.open: dict[ObjectKey, _Hold] = {}
        self._ends: list[_Hold] = []
        self._number = 0

    def add(self, amounts: Amounts) -> None:
        self.version += 1
        sums = self.sums
        for name, value in amounts.items():
            if total := sums.get(name, 0) + value:
                sums[name] = total
            else:
                sums.pop(name, None)

    def subtract(self, amounts: Amounts) -> None:
        self.version += 1
        sums = self.sums
        for name, value in amounts.items():
            if total := sums.get(name, 0) - value:
                sums[name] = total
            else:
                sums.pop(name, None)

    def reserve(  # noqa: PLR0913 - called for each cluster of each decision, so nothing is made to carry them
        self,
        binding: Standing,
        key: ObjectKey,
        replicas: int,
        amounts: Amounts,
        since: float,
        lasts_s: float,
    ) -> None:
        """Of a binding that has nothing reserved here."""
        number = self._number = self._number + 1
        self.open[key] = held = _Hold(
            since + lasts_s,
            number,
            lasts_s,
            amounts,
            key,
            binding.uid,
            replicas,
            binding.asks,
            since,
        )
        self.add(amounts)
        heapq.heappush(self._ends, held)

    def release(self, key: ObjectKey) -> None:
        held = self.open.pop(key, None)
        if held is not None:
            self.subtract(held.amounts)

    def linger(self, amounts: Amounts, now: float, lasts_s: float) -> _Hold:
        """Keep amounts for a while."""
        number = self._number = self._number + 1
        self.add(amounts)
        held = _Hold(now + lasts_s, number, lasts_s, amounts)
        heapq.heappush(self._ends, held)
        return held

    def ends(self, now: float) -> bool:
        """Whether anything would have ended by then."""
        return bool(self._ends) and self._ends[0].at <= now

    def expire(self, now: float) -> None:
        """Give back what has ended."""
        while self._ends and self._ends[0].at <= now:
            end = heapq.heappop(self._ends)
            if end.key is None:
                self.subtract(end.amounts)
            elif self.open.get(end.key) is end:
                self.release(end.key)

    def wait(self, now: float, longest_s: float = math.inf) -> None:
        """Every wait begins anew, those that last longer than `longest_s` with so much of their time."""
        for end in self._ends:
            end.at = max(end.at, now + min(end.lasts_s, longest_s))
        heapq.heapify(self._ends)


class _Takes(dict[int, Amounts]):
    """What so many replicas of one binding take; many clusters get equally many."""

    def __init__(self, asks: Amounts) -> None:
        super().__init__()
        self._asks = asks

    def __missing__(self, replicas: int) -> Amounts:
        made = self[replicas] = room_of(self._asks, replicas)
        return made


class Ledger:
    """All clusters. One owner; `stand` with every change of a binding, `heard` with every word of a cluster, `reserved` at
    every decision."""

    def __init__(self, *, listening: bool = False) -> None:
        """Not `listening`: nobody tells of the clusters' words, and time passes for all of them."""
        self._books: dict[str, Book] = {}
        self._words: dict[str, float] = {}
        self._unheard = -math.inf if listening else math.inf
        self._known: dict[ObjectKey, Standing] = {}
        self._lingers: dict[ObjectKey, dict[str, _Hold]] = {}
        """What each cluster may not have in its sums yet of replicas that it has told of."""

    def stand(self, binding: Standing, now: float, since: float | None = None) -> None:
        """The binding is like this now. `since`: when it was decided, if that was earlier."""
        before = self._known.get(binding.key)
        if before is not None and before.uid != binding.uid:
            self.gone(binding.key, now)
            before = None
        self._known[binding.key] = binding
        began = now if since is None else min(since, now)
        key, takes, patience_s = binding.key, _Takes(binding.asks), binding.patience_s
        asked, shown = binding.asked.get, binding.shown.get
        same = before if before is not None and before.asks_as(binding) else None
        for name in binding.asked if before is None else binding.differs(before):
            book = self._books.get(name) or self._book(name)
            held = book.open.get(key)
            if held is not None:
                self._owe_otherwise(book, held, before, binding, name, now)
                continue
            owed = asked(name, 0) - shown(name, 0)
            if owed > 0 and same is not None and same.asked.get(name, 0) == asked(name, 0):
                owed -= same.owed(name)  # that is not waited for any more
            if owed > 0:
                book.reserve(binding, key, owed, takes[owed], began, patience_s)
        if before is not None and before.asks != binding.asks:
            self._grow(before, binding, now)

    def _owe_otherwise(  # noqa: PLR0913
        self,
        book: Book,
        held: _Hold,
        before: Standing | None,
        binding: Standing,
        cluster: str,
        now: float,
    ) -> None:
        """Something is reserved there already."""
        owed = binding.owed(cluster)
        waits = before is None or before.patience_s == binding.patience_s
        if (held.replicas, held.asks) == (owed, binding.asks) and waits:
            return
        book.release(binding.key)
        if owed:
            anew = owed > held.replicas or held.asks != binding.asks or not waits
            began = now if anew else held.since
            amounts = room_of(binding.asks, owed)
            book.reserve(binding, binding.key, owed, amounts, began, binding.patience_s)
        if owed < held.replicas:
            told = book.linger(room_of(held.asks, held.replicas - owed), now, SETTLE_S)
            self._lingers.setdefault(binding.key, {})[cluster] = told

    def _book(self, cluster: str) -> Book:
        book = self._books.get(cluster)
        if book is None:
            book = self._books[cluster] = Book()
        return book

    def _grow(self, before: Standing, binding: Standing, now: float) -> None:
        """Replicas that stand are replaced by ones that ask for more."""
        more = {n: value - before.asks.get(n, 0) for n, value in binding.asks.items()}
        for cluster, asked in binding.asked.items():
            standing = min(asked, binding.shown.get(cluster, 0))
            amounts = times(more, standing)
            if amounts:
                _ = self._books[cluster].linger(amounts, now, GROWN_S)

    def gone(self, key: ObjectKey, now: float) -> None:
        """The binding is no more; what it owed may be in the making."""
        known = self._known.pop(key, None)
        _ = self._lingers.pop(key, None)
        for cluster in known.asked if known is not None else ():
            book = self._books.get(cluster)
            held = book.open.get(key) if book is not None else None
            if book is not None and held is not None:
                book.release(key)
                _ = book.linger(held.amounts, now, SETTLE_S)

    def void(self, key: ObjectKey) -> None:
        """What the binding was said to be asked was never written: nothing of it is in the making."""
        known = self._known.pop(key, None)
        for cluster in known.asked if known is not None else ():
            if (book := self._books.get(cluster)) is not None:
                book.release(key)

    # ------------------------------------------------------------------------------------------------- clusters
    def heard(self, cluster: str, now: float, *, away: bool = False) -> None:
        """A word of the cluster, which was `away` before it."""
        first = cluster not in self._words
        self._words[cluster] = now
        book = self._books.get(cluster)
        if book is None:
            return
        if away:
            book.wait(now)
        elif first:
            book.wait(now, TOLD_S)

    def left(self, cluster: str) -> None:
        """The cluster is no member any more."""
        self._books.pop(cluster, None)
        _ = self._words.pop(cluster, None)

    def _expire(self, book: Book, cluster: str, now: float) -> None:
        if book.ends(now):  # time that has passed for a cluster is never later
            book.expire(self._passed(cluster, now))

    def _passed(self, cluster: str, now: float) -> float:
        """Up to when time has passed for the cluster."""
        return min(now, self._words.get(cluster, self._unheard))

    # ------------------------------------------------------------------------------------------------- reading
    def reserved(self, cluster: str, now: float) -> Amounts:
        """What is given away there and not reported yet. Not to be written."""
        book = self._books.get(cluster)
        if book is None:
            return {}
        self._expire(book, cluster, now)
        return book.sums

    def book(self, cluster: str, now: float) -> Book | None:
        """The cluster's book, where anything is reserved there: its sums are the same as long as its version is. To be read."""
        book = self._books.get(cluster)
        if book is None:
            return None
        self._expire(book, cluster, now)
        return book if book.sums else None

    def busy_s(self, key: ObjectKey, now: float) -> float:
        """Seconds until nothing of the binding's own may be reserved; SETTLE_S at a time while replicas are owed, and WORD_S at
        a time while a cluster is waited for."""
        known = self._known.get(key)
        for cluster in known.asked if known is not None else ():
            book = self._books.get(cluster)
            if book is not None:
                self._expire(book, cluster, now)
                if key in book.open:
                    return SETTLE_S
        left = {
            name: held
            for name, held in self._lingers.pop(key, {}).items()
            if name in self._books and held.at > self._passed(name, now)
        }
        if not left:
            return 0.0
        self._lingers[key] = left
        wait = max(held.at for held in left.values()) - now
        return wait if wait > 0 else WORD_S

    def reservations(self, cluster: str) -> list[Reservation]:
        """Who is owed what there, in order of the decisions."""
        book = self._books.get(cluster)
        return [
            Reservation(key, held.uid, cluster, held.replicas, held.asks, held.since)
            for key, held in (book.open.items() if book is not None else ())
        ]
