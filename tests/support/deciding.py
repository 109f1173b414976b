"""Placement decisions written as rows of a table: a fleet and a request in, members and their replicas out.

fleet       {alpha: 10}: free pods of each member, null where it reports nothing; or a mapping
            {pods, cpu, memory, region, zones, provider, labels, taints, cut, shapes, estimate, ...}, and `cost` and
            `carbon` as their annotations tell them
scheduling  duplicated | equal | dynamic | aggregated | {weights: {alpha: 3}} | {rules: [[affinity, weight]]} | as on the wire
placement   what else of the placement, as on the wire
asks        one replica's request; previous, evicting, waiting, fresh, uid, key, affinity, spread, headroom: of the Request
scores      {cost: 5, carbon: 1}: what the workload prefers, and how much
preferences the annotation's JSON as a mapping
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from tests.support.tables import Row

from federation.placement import plan, preferences, scores
from federation.placement.filter import FIELDS
from federation.placement.model import Candidate, Decision, NoFit, Request, Shape
from machinery.api.core import Taint
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.resilience import ScoreRule, SpreadRule
from machinery.meta.resource import Document

RESOURCES = ("pods", "cpu", "memory")
ASCENDING, DESCENDING = "a", "b"
"""Uids whose hash is even and odd: ties go by name forwards and backwards."""
DIVISIONS: Mapping[str, Document | None] = {
    "duplicated": {"replicaSchedulingType": "Duplicated"},
    "equal": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"},
    "dynamic": {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    },
    "aggregated": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"},
}


@dataclass(frozen=True)
class Answer:
    """What came out: a decision, or why there is none."""

    decision: Decision | None
    refused: NoFit | None = None


def scheduling(said: Any) -> Document | None:
    """`replicaScheduling` on the wire."""
    if said is None:
        return None
    if isinstance(said, str):
        return DIVISIONS[said]
    rules = said.get("rules", [])
    for name, weight in said.get("weights", {}).items():
        rules = [*rules, [{"clusterNames": [name]}, weight]]
    if not rules:
        return dict(said)
    listed = [{"targetCluster": target, "weight": weight} for target, weight in rules]
    equal = DIVISIONS["equal"]
    assert equal is not None
    return equal | {"weightPreference": {"staticWeightList": listed}}


def constraint(by: str, least: int, most: int) -> Document:
    """A spread constraint on the wire."""
    bounds = {"minGroups": least, "maxGroups": most}
    known = by in FIELDS or not by
    return bounds | ({"spreadByField": by} if known else {"spreadByLabel": by})


def candidate(name: str, said: Any) -> Candidate:
    """A member of the fleet."""
    if not isinstance(said, Mapping):
        return Candidate(name, free=None if said is None else {"pods": said})
    free = {resource: said[resource] for resource in RESOURCES if resource in said}
    return Candidate(
        name,
        labels=said.get("labels", {}),
        provider=said.get("provider", ""),
        region=said.get("region", ""),
        zones=tuple(said.get("zones", ())),
        taints=tuple(msgspec.convert(taint, Taint) for taint in said.get("taints", ())),
        kinds=frozenset(map(tuple, said["kinds"])) if "kinds" in said else None,
        free=free or None,
        cut=said.get("cut", False),
        barred=said.get("barred", ""),
        shapes=tuple(Shape(count, least) for count, least in said.get("shapes", ())),
        reserved=said.get("reserved", {}),
        estimate=said.get("estimate"),
        figures=scores.figures(
            {scores.FIGURES[by]: str(said[by]) for by in scores.FIGURES if by in said}
        ),
    )


def fleet(row: Row) -> list[Candidate]:
    """The members, in their order in the row."""
    return [candidate(name, said) for name, said in row["fleet"].items()]


def request(row: Row) -> Request:
    """The workload."""
    placement = dict(row.get("placement", {}))
    if (division := scheduling(row.get("scheduling"))) is not None:
        placement["replicaScheduling"] = division
    if "constraints" in row.said:
        placement["spreadConstraints"] = [constraint(*one) for one in row["constraints"]]
    wanted = row.get("preferences")
    text = msgspec.json.encode(wanted).decode()
    return Request(
        row.get("uid", ASCENDING),
        "apps/v1",
        "Deployment",
        msgspec.convert(placement, Placement),
        replicas=row["replicas"],
        asks=row.get("asks", {}),
        previous=row.get("previous", {}),
        evicting=frozenset(row.get("evicting", ())),
        key=row.get("key", ""),
        fresh=row.get("fresh", False),
        affinity_name=row.get("affinity", ""),
        spread=tuple(msgspec.convert(rule, SpreadRule) for rule in row.get("spread", ())),
        preferences=None if wanted is None else preferences.parse(text),
        waiting=row.get("waiting", {}),
        headroom=row.get("headroom", ""),
        scores=tuple(ScoreRule(by, weight) for by, weight in row.get("scores", {}).items()),
    )


def answer(row: Row) -> Answer:
    """What the placer says."""
    try:
        return Answer(plan.place(request(row), fleet(row)))
    except NoFit as refusal:
        return Answer(None, refusal)


def check(row: Row) -> Decision | None:
    """The row's `gives` (replicas by member) or `refused` (the condition's reason), and the words that it tells."""
    found = answer(row)
    if "refused" in row.said:
        assert found.decision is None, f"placed: {found.decision}"
        assert found.refused is not None
        assert found.refused.reason == row["refused"]
        assert row.get("says", "") in str(found.refused)
        return None
    assert found.decision is not None, f"refused: {found.refused}"
    assert dict(found.decision.targets) == row["gives"]
    assert [warned.reason for warned in found.decision.warnings] == row.get("tells", [])
    return found.decision
