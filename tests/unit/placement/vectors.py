"""Published vectors of federation v1's planner, written as a table.

`A(w5 min1 max9)` is a preference, `A10` ten replicas of cluster A, `T`/`F` rebalance. The key is empty.
"""

import re
from dataclasses import dataclass

from federation.placement.planners import Question
from federation.placement.preferences import Preference

TABLE = """
*(w1)                                            | 50     | ABC  | F | -       | -   | A16 B17 C17     | -
*(w1)                                            | 1      | AB   | F | -       | -   | A0 B1           | -
*(w1)                                            | 1      | A    | F | -       | -   | A1              | -
*(w1)                                            | 50     | ABC  | F | C30     | -   | A10 B10 C30     | -
*(w1)                                            | 15     | AB   | F | A0 B8   | -   | A7 B8           | -
*(w1)                                            | 15     | AB   | F | A4 B8   | -   | A7 B8           | -
*(w1)                                            | 15     | AB   | F | A6 B8   | -   | A7 B8           | -
*(w1)                                            | 500000 | AB   | F | A300000 | -   | A300000 B200000 | -
*(w1)                                            | 50     | AB   | F | A10 B70 | -   | A0 B50          | -
*(w1)                                            | 50     | AB   | F | A10 B20 | -   | A25 B25         | -
A(w10000) B(w1)                                  | 50     | BC   | T | -       | B10 | B10 C0          | B40
A(w10000 max10) B(w1) C(w1 max21) D(w1 max10)    | 71     | ABCD | T | -       | C10 | A10 B41 C10 D10 | C11
A(w1) B(w5)                                      | 60     | ABC  | F | -       | B10 | A50 B10 C0      | -
*(w1 min20)                                      | 60     | AB   | T | -       | B10 | A50 B10         | B15
*(w0 min20)                                      | 50     | ABC  | F | -       | -   | A10 B20 C20     | -
*(w1 min10 max12)                                | 50     | ABC  | F | -       | -   | A12 B12 C12     | -
*(w0 max2)                                       | 50     | ABC  | F | -       | -   | A0 B0 C0        | -
A(w10000) B(w1)                                  | 50     | ABC  | F | -       | -   | A50 B0 C0       | -
A(w10000 max10) B(w1) C(w1)                      | 50     | ABC  | F | -       | -   | A10 B20 C20     | -
A(w10000 max10) B(w1) C(w1 max21) D(w1 max10)    | 71     | ABCD | F | -       | -   | A10 B30 C21 D10 | -
"""


@dataclass(frozen=True)
class Vector:
    question: Question
    plan: dict[str, int]
    overflow: dict[str, int]
    text: str


def counts(text: str) -> dict[str, int]:
    """`A10 B20`."""
    return {name: int(n) for name, n in re.findall(r"([A-Z])(\d+)", text)}


def preferences(text: str) -> dict[str, Preference]:
    """`A(w1 max10) *(w0 min2)`."""
    found = {}
    for name, inside in re.findall(r"([A-Z*])\(([^)]*)\)", text):
        said = {key: int(n) for key, n in re.findall(r"(w|min|max)(\d+)", inside)}
        found[name] = Preference(said.get("min", 0), said.get("max"), said.get("w", 0))
    return found


def vector(line: str) -> Vector:
    """One line of the table."""
    wanted, total, clusters, rebalance, current, capacity, plan, overflow = (
        part.strip() for part in line.split("|")
    )
    question = Question(
        int(total),
        list(clusters),
        preferences(wanted),
        rebalance == "T",
        counts(current),
        counts(capacity),
    )
    return Vector(question, counts(plan), counts(overflow), line)


VECTORS = [vector(line) for line in TABLE.strip().splitlines()]
