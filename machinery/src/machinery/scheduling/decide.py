"""One placement decision: filter, score, pick; and the sentence when nothing fits."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from machinery.scheduling import affinity, filters, spread
from machinery.scheduling.filters import Rejection, StaticFilter, Verdict
from machinery.scheduling.scores import Context, StaticScores, scores
from machinery.scheduling.snapshot import Ints, Mask, PodInfo, Snapshot

NO_NODES = "no nodes available to schedule pods"


@dataclass(frozen=True, slots=True)
class Placed:
    """The node for the pod, and how each feasible node scored."""

    node: str
    totals: dict[str, int] = field(default_factory=dict)
    by_plugin: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """No node fits. `rejections` by node; empty when a rule refuses before any node is looked at."""

    message: str
    rejections: dict[str, Rejection] = field(default_factory=dict)


class Decider:
    """Decides pods on one snapshot. `roll(n)` gives a number in [0, n): ties are broken by it."""

    def __init__(self, snapshot: Snapshot, roll: Callable[[int], int]) -> None:
        self.snapshot = snapshot
        self._roll = roll
        self._static = StaticFilter()
        self._static_scores = StaticScores()

    def decide(self, info: PodInfo, context: Context, *, explain: bool = False) -> Placed | Refused:
        """Where the pod goes. `explain` adds the scores of every feasible node to the answer."""
        if not len(self.snapshot):
            return Refused(NO_NODES)
        claim = filters.claims_rejection(info.pod)
        if claim:
            rejection = Rejection((claim,))
            return Refused(
                _sentence(len(self.snapshot), [claim]),
                dict.fromkeys(self.snapshot.names, rejection),
            )
        verdicts = self.verdicts(info, context)
        feasible = _combine(verdicts)
        if not feasible.any():
            return self._refuse(verdicts)
        return self._pick(info, feasible, context, explain=explain)

    def verdicts(self, info: PodInfo, context: Context) -> list[Verdict]:
        """Every filter's answer, in kube-scheduler's order."""
        snapshot = self.snapshot
        found = [
            self._static(info.pod, filters.class_key(info.pod), snapshot),
            filters.ports_filter(info, snapshot),
            filters.fit_filter(info, snapshot),
            spread.hard_filter(info, snapshot),
            affinity.required_filter(info, snapshot, context.namespaces),
        ]
        return [verdict for verdict in found if verdict is not None]

    def _refuse(self, verdicts: list[Verdict]) -> Refused:
        rejections = {
            name: next(v.reason(row) for v in verdicts if not v.mask[row])
            for row, name in enumerate(self.snapshot.names)
        }
        counted = Counter(text for r in rejections.values() for text in r.reasons)
        parts = sorted(f"{count} {text}" for text, count in counted.items())
        return Refused(_sentence(len(rejections), parts), rejections)

    def _pick(self, info: PodInfo, feasible: Mask, context: Context, *, explain: bool) -> Placed:
        rows = np.flatnonzero(feasible)
        if len(rows) == 1 and not explain:
            return Placed(self.snapshot.names[int(rows[0])])
        by_plugin = scores(info, self.snapshot, feasible, context, self._static_scores)
        total: Ints = np.zeros(len(self.snapshot), np.int64)
        for value in by_plugin.values():
            total = total + value
        best = rows[total[rows] == total[rows].max()]
        chosen = int(best[self._roll(len(best)) if len(best) > 1 else 0])
        if not explain:
            return Placed(self.snapshot.names[chosen])
        names = self.snapshot.names
        return Placed(
            names[chosen],
            {names[row]: int(total[row]) for row in rows},
            {names[row]: {p: int(v[row]) for p, v in by_plugin.items()} for row in rows},
        )


def _combine(verdicts: list[Verdict]) -> Mask:
    mask = verdicts[0].mask
    for verdict in verdicts[1:]:
        mask = mask & verdict.mask
    return mask


def _sentence(nodes: int, parts: list[str]) -> str:
    return f"0/{nodes} nodes are available: {', '.join(parts)}."
