"""How a planner divides replicas over clusters: the policy author's calculator. It asks no server.

It reads one question from standard input, as JSON:

    {"planner": "v1", "total": 50, "clusters": ["A", "B"],
     "preferences": {"*": {"minReplicas": 0, "maxReplicas": 30, "weight": 1}},
     "rebalance": false, "current": {"A": 10}, "capacity": {"B": 20}, "key": "shop/checkout"}

`planner` is v1 (federation v1's, exactly), v2 (the same, mended) or webster (Karmada's static weights). `total` and
`clusters` are needed; without `preferences` all clusters weigh the same; a cluster without a `capacity` has no limit.
With `-o json` it prints {"plan": {...}, "overflow": {...}}, else a table. A question that cannot be read ends with 2.
"""

import argparse
import sys
from collections import Counter
from typing import Annotated, Literal

import msgspec

from federation.placement import planners
from federation.placement.preferences import ANY, EQUAL, Count, Preference

Name = Annotated[str, msgspec.Meta(min_length=1)]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The question as it is written."""

    planner: Literal["v1", "v2", "webster"]
    total: Count
    clusters: list[Name]
    preferences: dict[Name, Preference] = msgspec.field(default_factory=lambda: dict(EQUAL))
    rebalance: bool = False
    current: dict[Name, Count] = {}
    capacity: dict[Name, Count] = {}
    key: str = ""

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(self.clusters).items() if count > 1)
        if twice:
            raise ValueError(f"clusters: {', '.join(twice)} more than once")
        if ANY in self.clusters:
            raise ValueError("clusters: '*' is no cluster")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print the answer"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, divide, print."""
    try:
        asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        print(
            f"error: the question on standard input: {error}\n"
            "`fedctl divide --help` shows what one looks like.",
            file=sys.stderr,
        )
        return 2
    for text in unheard(asked):
        print(f"warning: {text}", file=sys.stderr)
    answer = divided(asked)
    print(
        msgspec.json.encode(document(answer)).decode()
        if arguments.output == "json"
        else table(asked, answer)
    )
    return 0


def divided(asked: Asked) -> planners.Plan:
    """The answer."""
    question = planners.Question(
        asked.total,
        asked.clusters,
        asked.preferences,
        asked.rebalance,
        asked.current,
        asked.capacity,
        asked.key,
    )
    return planners.PLANNERS[asked.planner](question)


def document(answer: planners.Plan) -> dict[str, dict[str, int]]:
    """The answer as it is printed."""
    return {"plan": answer.plan, "overflow": answer.overflow}


def unheard(asked: Asked) -> list[str]:
    """What was said and changes nothing."""
    told = []
    for name, given in (("current", asked.current), ("capacity", asked.capacity)):
        strangers = sorted(given.keys() - set(asked.clusters))
        if strangers:
            told.append(f"{name}: {', '.join(strangers)} is not among the clusters")
    if asked.planner == "webster" and asked.current:
        told.append("current: the planner webster divides by weight, whatever runs")
    return told


def table(asked: Asked, answer: planners.Plan) -> str:
    """One line a cluster, and what is placed nowhere."""
    width = max([len(name) for name in asked.clusters] + [len("CLUSTER")])
    lines = [f"{'CLUSTER':{width}}  {'REPLICAS':>10}  {'OVERFLOW':>10}"]
    for name in asked.clusters:
        over = answer.overflow.get(name, 0)
        lines.append(f"{name:{width}}  {answer.plan[name]:>10}  {over or '-':>10}")
    left = asked.total - sum(answer.plan.values())
    return "\n".join(
        [*lines, f"{left} of {asked.total} replicas have no place."] if left else lines
    )
