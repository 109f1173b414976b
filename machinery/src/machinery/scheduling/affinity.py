"""Inter-pod affinity and anti-affinity, required and preferred, of the pod and of those already placed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from machinery.api.core import PodAffinityTerm
from machinery.scheduling.filters import Rejection, Verdict
from machinery.scheduling.selection import Matcher, compile_selector
from machinery.scheduling.snapshot import Ints, Mask, PodInfo, Snapshot

NO_AFFINITY = Rejection(("node(s) didn't match pod affinity rules",))
ANTI_AFFINITY = Rejection(("node(s) didn't match pod anti-affinity rules",), True)
EXISTING_ANTI = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",), True)
HARD_AFFINITY_WEIGHT = 1
"""What a required affinity of a placed pod is worth to a pod that it asks for (hardPodAffinityWeight)."""

NamespaceLabels = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Term:
    """A term with its selectors compiled, from the viewpoint of the pod that states it."""

    key: str
    matcher: Matcher
    namespaces: frozenset[str]
    namespace_matcher: Matcher | None
    weight: int = 0

    def selects(self, info: PodInfo, namespaces: NamespaceLabels) -> bool:
        """Whether the other pod is one that the term speaks of."""
        inside = info.namespace in self.namespaces or (
            self.namespace_matcher is not None
            and self.namespace_matcher(namespaces.get(info.namespace, {}))
        )
        return inside and self.matcher(info.labels)


def compile_term(term: PodAffinityTerm, info: PodInfo, weight: int = 0) -> Term:
    matcher = compile_selector(term.label_selector)
    labels = info.labels
    same = {key: labels[key] for key in term.match_label_keys if key in labels}
    other = {key: labels[key] for key in term.mismatch_label_keys if key in labels}
    matcher = matcher.with_equal(same) if same else matcher
    matcher = matcher.without(other) if other else matcher
    named = frozenset(term.namespaces)
    if not named and term.namespace_selector is None:
        named = frozenset({info.namespace})
    selector = term.namespace_selector
    return Term(
        term.topology_key,
        matcher,
        named,
        compile_selector(selector) if selector is not None else None,
        weight,
    )


def required_terms(info: PodInfo) -> tuple[list[Term], list[Term]]:
    """Affinity terms, anti-affinity terms."""
    affinity = info.pod.spec.affinity
    if affinity is None:
        return [], []
    near, away = affinity.pod_affinity, affinity.pod_anti_affinity
    near_terms = near.required_during_scheduling_ignored_during_execution if near else ()
    away_terms = away.required_during_scheduling_ignored_during_execution if away else ()
    return [compile_term(t, info) for t in near_terms], [compile_term(t, info) for t in away_terms]


def preferred_terms(info: PodInfo) -> list[Term]:
    """Preferred terms; anti-affinity with a negative weight."""
    affinity = info.pod.spec.affinity
    if affinity is None:
        return []
    found = []
    for side, sign in ((affinity.pod_affinity, 1), (affinity.pod_anti_affinity, -1)):
        terms = side.preferred_during_scheduling_ignored_during_execution if side else ()
        found += [compile_term(t.pod_affinity_term, info, sign * t.weight) for t in terms]
    return found


def required_filter(
    info: PodInfo, snapshot: Snapshot, namespaces: NamespaceLabels
) -> Verdict | None:
    """The three required rules; None when neither the pod nor any placed pod states one."""
    near, away = required_terms(info)
    if not near and not away and not snapshot.with_affinity:
        return None
    ok_near = _near_mask(info, near, snapshot, namespaces)
    ok_away = _away_mask(away, snapshot, namespaces)
    ok_existing = _existing_mask(info, snapshot, namespaces)

    def reason(row: int) -> Rejection:
        if not ok_near[row]:
            return NO_AFFINITY
        return EXISTING_ANTI if ok_away[row] else ANTI_AFFINITY

    return Verdict(ok_near & ok_away & ok_existing, reason)


def _rows_with(infos: Iterable[PodInfo], terms: list[Term], namespaces: NamespaceLabels) -> int:
    return sum(1 for info in infos if all(term.selects(info, namespaces) for term in terms))


def _near_mask(
    info: PodInfo, terms: list[Term], snapshot: Snapshot, namespaces: NamespaceLabels
) -> Mask:
    mask = np.ones(len(snapshot), np.bool_)
    if not terms:
        return mask
    counts = np.array(
        [_rows_with(pods.values(), terms, namespaces) for pods in snapshot.pods], np.int64
    )
    labelled = mask.copy()
    anywhere = False
    for term in terms:
        codes, values = snapshot.topology(term.key)
        with_key = codes >= 0
        sums = np.bincount(codes[with_key], weights=counts[with_key], minlength=len(values))
        anywhere = anywhere or bool(sums.sum() > 0)
        here = np.zeros(len(snapshot), np.bool_)
        here[with_key] = sums[codes[with_key]] > 0 if len(values) else False
        mask &= here
        labelled &= with_key
    if not anywhere and all(term.selects(info, namespaces) for term in terms):
        return labelled  # the first of a group that wants to be near itself
    return mask


def _away_mask(terms: list[Term], snapshot: Snapshot, namespaces: NamespaceLabels) -> Mask:
    mask = np.ones(len(snapshot), np.bool_)
    for term in terms:
        codes, values = snapshot.topology(term.key)
        counts = np.array(
            [_rows_with(pods.values(), [term], namespaces) for pods in snapshot.pods], np.int64
        )
        with_key = codes >= 0
        sums = np.bincount(codes[with_key], weights=counts[with_key], minlength=len(values))
        if len(values):
            mask[with_key] &= sums[codes[with_key]] == 0
    return mask


def _existing_mask(info: PodInfo, snapshot: Snapshot, namespaces: NamespaceLabels) -> Mask:
    mask = np.ones(len(snapshot), np.bool_)
    for node, other in snapshot.with_affinity.values():
        row = snapshot.row(node)
        if row is None:
            continue
        for term in required_terms(other)[1]:
            codes, _ = snapshot.topology(term.key)
            if codes[row] >= 0 and term.selects(info, namespaces):
                mask &= codes != codes[row]
    return mask


def preferred_score(
    info: PodInfo, snapshot: Snapshot, feasible: Mask, namespaces: NamespaceLabels
) -> Ints | None:
    """Weights of matched terms by topology, normalised to 0..100; None when no term speaks."""
    raw = np.zeros(len(snapshot), np.int64)
    spoke = False
    for term in preferred_terms(info):
        spoke = True
        for row, pods in enumerate(snapshot.pods):
            matching = sum(1 for other in pods.values() if term.selects(other, namespaces))
            if matching:
                _spread_weight(raw, snapshot, term.key, row, term.weight * matching)
    for node, other in snapshot.with_affinity.values():
        home = snapshot.row(node)
        for term, weight in _terms_of_placed(other) if home is not None else ():
            if home is not None and term.selects(info, namespaces):
                spoke = True
                _spread_weight(raw, snapshot, term.key, home, weight)
    if not spoke:
        return None
    inside = raw[feasible]
    lowest, highest = int(inside.min()), int(inside.max())
    if highest == lowest:
        return np.zeros(len(snapshot), np.int64)
    return (100 * (raw - lowest) / (highest - lowest)).astype(np.int64)


def _terms_of_placed(other: PodInfo) -> list[tuple[Term, int]]:
    hard = [(term, HARD_AFFINITY_WEIGHT) for term in required_terms(other)[0]]
    return hard + [(term, term.weight) for term in preferred_terms(other)]


def _spread_weight(raw: Ints, snapshot: Snapshot, key: str, row: int, weight: int) -> None:
    codes, _ = snapshot.topology(key)
    if codes[row] >= 0:
        raw[codes == codes[row]] += weight
