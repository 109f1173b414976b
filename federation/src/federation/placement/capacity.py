"""How many more replicas a member can hold, by what it reported."""

from collections.abc import Mapping

from federation.placement.model import MAX_REPLICAS, Candidate

PODS = "pods"


def available(candidate: Candidate, asks: Mapping[str, int]) -> int:
    """Replicas that the member's free resources hold; 0 when it reported none."""
    if candidate.free is None:
        return 0
    fits = MAX_REPLICAS
    if PODS in candidate.free:
        fits = max(0, candidate.free[PODS])
    for name, asked in asks.items():
        if asked > 0:
            fits = min(fits, max(0, candidate.free.get(name, 0)) // asked)
    return fits
