"""Which workloads belong together, and which apart: `placement.workloadAffinity` (Karmada's, over whole clusters). Pure.

The workloads of a namespace whose policies name the same label key, and that have the same value of it, are a group. With
affinity a workload goes only where others of its group are, and anywhere as long as none is placed; with anti-affinity only
where none of them is. Both are hard, and look at where workloads are decided to be, not at what an eviction keeps for a while.
A workload without the label belongs to no group.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from federation.placement.model import Candidate
from machinery.api.fleet.policy import Placement

NOT_NEAR = "ResourceBinding with the same affinity group does not target this cluster"
NOT_APART = "cluster already has workload with the same anti-affinity group"


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a workload, as `key=value`; empty: none."""

    near: str = ""
    apart: str = ""


NONE = Groups()


def groups(placement: Placement | None, labels: Mapping[str, str]) -> Groups:
    """The groups of a workload with these labels."""
    wanted = placement.workload_affinity if placement is not None else None
    if wanted is None:
        return NONE

    def group(key: str) -> str:
        return f"{key}={labels[key]}" if key and key in labels else ""

    return Groups(
        group(wanted.affinity.group_by_label_key) if wanted.affinity is not None else "",
        group(wanted.anti_affinity.group_by_label_key) if wanted.anti_affinity is not None else "",
    )


def barred(
    fleet: Sequence[Candidate], own: Groups, others: Iterable[tuple[Groups, Iterable[str]]]
) -> list[Candidate]:
    """The fleet, with the reason at each cluster where the workload may not be. `others`: their groups and clusters."""
    near: set[str] = set()
    apart: set[str] = set()
    for group, clusters in others:
        if own.near and group.near == own.near:
            near.update(clusters)
        if own.apart and group.apart == own.apart:
            apart.update(clusters)
    told = []
    for candidate in fleet:
        if near and candidate.name not in near:
            candidate = msgspec.structs.replace(candidate, barred=NOT_NEAR)
        elif candidate.name in apart:
            candidate = msgspec.structs.replace(candidate, barred=NOT_APART)
        told.append(candidate)
    return told
