"""Topology spread: pods of a workload over zones and hosts (KEP-895, KEP-3022, KEP-3094, KEP-3243).

A pod without constraints of its own is spread softly by the defaults over hosts and zones when a controller owns it:
that is how replicas leave a single zone with no change to anyone's manifest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from machinery.api.core import TopologySpreadConstraint
from machinery.scheduling.filters import Rejection, Verdict, matches_affinity
from machinery.scheduling.selection import Matcher, compile_selector
from machinery.scheduling.snapshot import Ints, Mask, PodInfo, Snapshot
from machinery.scheduling.tolerations import tolerates

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
DEFAULTS = ((HOSTNAME, 3), (ZONE, 5))
"""Key and maxSkew of the system's default constraints, both ScheduleAnyway."""

SKEWED = Rejection(("node(s) didn't match pod topology spread constraints",), True)
NO_LABEL = Rejection(
    ("node(s) didn't match pod topology spread constraints (missing required label)",)
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint with its selector compiled."""

    key: str
    max_skew: int
    matcher: Matcher
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


def constraints_of(info: PodInfo, when: str) -> list[Constraint]:
    """The pod's own constraints of one kind (`DoNotSchedule`, `ScheduleAnyway`)."""
    found = []
    for raw in info.pod.spec.topology_spread_constraints:
        if raw.when_unsatisfiable == when:
            found.append(_compile(raw, info))
    return found


def _compile(raw: TopologySpreadConstraint, info: PodInfo) -> Constraint:
    matcher = compile_selector(raw.label_selector)
    pairs = {key: info.labels[key] for key in raw.match_label_keys if key in info.labels}
    return Constraint(
        raw.topology_key,
        raw.max_skew,
        matcher.with_equal(pairs) if pairs else matcher,
        raw.min_domains or 1,
        raw.node_affinity_policy != "Ignore",
        raw.node_taints_policy == "Honor",
    )


def default_constraints(owner_selector: Matcher | None) -> list[Constraint]:
    """The system's defaults for pods of a workload; none for a pod of nobody."""
    if owner_selector is None:
        return []
    return [Constraint(key, skew, owner_selector) for key, skew in DEFAULTS]


def eligible(info: PodInfo, constraint: Constraint, snapshot: Snapshot) -> Mask:
    """Rows whose pods count for this constraint: they pass the pod's affinity and taints, as its policies say."""
    spec = info.pod.spec
    selects = constraint.honor_affinity and (spec.node_selector or spec.affinity is not None)
    if not selects and not constraint.honor_taints:
        return np.ones(len(snapshot), np.bool_)
    found = np.empty(len(snapshot), np.bool_)
    for row, node in enumerate(snapshot.nodes):
        ok = not selects or matches_affinity(info.pod, node)
        if ok and constraint.honor_taints:
            ok = all(
                taint.effect == "PreferNoSchedule" or tolerates(spec.tolerations, taint)
                for taint in node.spec.taints
            )
        found[row] = ok
    return found


def has_keys(constraints: Sequence[Constraint], snapshot: Snapshot) -> Mask:
    """Rows that carry the label of every constraint."""
    found = np.ones(len(snapshot), np.bool_)
    for constraint in constraints:
        found &= snapshot.topology(constraint.key)[0] >= 0
    return found


def _domain_sums(codes: Ints, values: int, counts: Ints, rows: Mask) -> Ints:
    return np.bincount(codes[rows], weights=counts[rows], minlength=values).astype(np.int64)


def hard_filter(info: PodInfo, snapshot: Snapshot) -> Verdict | None:
    """DoNotSchedule constraints; None when the pod has none."""
    constraints = constraints_of(info, "DoNotSchedule")
    if not constraints:
        return None
    labelled = has_keys(constraints, snapshot)
    mask = labelled.copy()
    first_missing = np.ones(len(snapshot), np.bool_)
    for constraint in constraints:
        codes, values = snapshot.topology(constraint.key)
        rows = eligible(info, constraint, snapshot) & labelled
        sums = _domain_sums(
            codes, len(values), snapshot.counts(info.namespace, constraint.matcher), rows
        )
        present = np.unique(codes[rows])
        lowest = int(sums[present].min()) if len(present) >= max(1, constraint.min_domains) else 0
        own = 1 if constraint.matcher(info.labels) else 0
        fits = sums + own - lowest <= constraint.max_skew
        has_key = codes >= 0
        here = np.zeros(len(snapshot), np.bool_)
        here[has_key] = fits[codes[has_key]] if len(values) else False
        first_missing &= has_key | ~mask
        mask &= here | ~has_key
    mask &= labelled

    def reason(row: int) -> Rejection:
        for constraint in constraints:
            if snapshot.topology(constraint.key)[0][row] < 0:
                return NO_LABEL
            if not _row_fits(info, constraint, constraints, snapshot, row):
                return SKEWED
        return SKEWED

    return Verdict(mask, reason)


def _row_fits(
    info: PodInfo,
    constraint: Constraint,
    constraints: Sequence[Constraint],
    snapshot: Snapshot,
    row: int,
) -> bool:
    codes, values = snapshot.topology(constraint.key)
    rows = eligible(info, constraint, snapshot) & has_keys(constraints, snapshot)
    sums = _domain_sums(
        codes, len(values), snapshot.counts(info.namespace, constraint.matcher), rows
    )
    present = np.unique(codes[rows])
    lowest = int(sums[present].min()) if len(present) >= max(1, constraint.min_domains) else 0
    own = 1 if constraint.matcher(info.labels) else 0
    return bool(sums[codes[row]] + own - lowest <= constraint.max_skew)


def soft_score(
    info: PodInfo, snapshot: Snapshot, feasible: Mask, owner_selector: Matcher | None
) -> Ints | None:
    """ScheduleAnyway constraints, normalised to 0..100 over the feasible rows; None when there are none."""
    own = bool(info.pod.spec.topology_spread_constraints)
    constraints = (
        constraints_of(info, "ScheduleAnyway") if own else default_constraints(owner_selector)
    )
    if not constraints:
        return None
    labelled = has_keys(constraints, snapshot) if own else None
    counted = feasible & labelled if labelled is not None else feasible
    raw = np.zeros(len(snapshot), np.float64)
    for constraint in constraints:
        raw += _raw_score(info, constraint, snapshot, counted, labelled)
    score = np.floor(raw + 0.5).astype(np.int64)
    inside = score[counted]
    if len(inside) == 0:
        return np.zeros(len(snapshot), np.int64)
    highest, lowest = int(inside.max()), int(inside.min())
    if highest == 0:
        result = np.full(len(snapshot), 100, np.int64)
    else:
        result = 100 * (highest + lowest - score) // highest
    result[~counted] = 0
    return result


def _raw_score(
    info: PodInfo, constraint: Constraint, snapshot: Snapshot, counted: Mask, labelled: Mask | None
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    codes, values = snapshot.topology(constraint.key)
    counts = snapshot.counts(info.namespace, constraint.matcher)
    out = np.zeros(len(snapshot), np.float64)
    with_key = codes >= 0
    if constraint.key == HOSTNAME:
        weight = math.log(np.count_nonzero(counted) + 2)
        found = counts[with_key]
    else:
        rows = eligible(info, constraint, snapshot) & with_key
        if labelled is not None:
            rows &= labelled
        domains = np.bincount(codes[counted & with_key], minlength=len(values))
        weight = math.log(np.count_nonzero(domains) + 2)
        found = _domain_sums(codes, len(values), counts, rows)[codes[with_key]]
    out[with_key] = found * weight + (constraint.max_skew - 1)
    return out
