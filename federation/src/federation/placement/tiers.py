"""Overflow tiers of an affinity group (Karmada's overflowAffinities): where replicas go that the group has no room for."""

from collections.abc import Mapping, Sequence

from federation.placement.filter import matches
from federation.placement.model import Candidate
from machinery.api.fleet.policy import ClusterAffinity, ClusterAffinityTerm


def of(affinity: ClusterAffinity | None) -> tuple[ClusterAffinity, ...]:
    """The group itself and its tiers, in order; empty where there are none."""
    if isinstance(affinity, ClusterAffinityTerm) and affinity.overflow_affinities:
        return affinity, *affinity.overflow_affinities
    return ()


def numbers(tiers: Sequence[ClusterAffinity], candidates: Sequence[Candidate]) -> Mapping[str, int]:
    """The tier of each cluster, from 0; one that is in two counts in the first. Empty where there are no tiers."""
    if not tiers:
        return {}
    return {
        candidate.name: number
        for candidate in candidates
        if (number := _number(tiers, candidate)) is not None
    }


def split(tiers: Sequence[ClusterAffinity], chosen: Sequence[Candidate]) -> list[list[Candidate]]:
    """Clusters by tier."""
    number = numbers(tiers, chosen)
    return [[c for c in chosen if number[c.name] == tier] for tier in range(len(tiers))]


def _number(tiers: Sequence[ClusterAffinity], candidate: Candidate) -> int | None:
    return next((i for i, tier in enumerate(tiers) if matches(tier, candidate)), None)
