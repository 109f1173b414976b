"""Members are asked what would really fit: whom, what, how long, and what of it a decision sees."""

from typing import Any

import msgspec
import pytest
from tests.support.loopclock import LoopClock

from federation.clusters.estimates import ANSWERS_S, GOOD_S, MUTE_S, Estimates
from federation.placement import capacity
from federation.placement.estimates import ASKED_MAX, question, question_hash, to_ask
from federation.placement.ledger import less
from federation.placement.model import Candidate, Request, Shape
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.work import NodeClaim
from machinery.meta.errors import BadRequest, NotFound
from machinery.meta.resource import Document

pytestmark = pytest.mark.looptime
SSD = msgspec.convert({"nodeSelector": {"disk": "ssd"}}, NodeClaim)
ROOM = {"cpu": 8000, "pods": 20}
CUT_UP = (Shape(8, {"cpu": 500}), Shape(1, {"cpu": 4000}))


def request(claim: NodeClaim | None = SSD, **more: Any) -> Request:
    given: dict[str, Any] = {"replicas": 6, "asks": {"cpu": 1000}, "key": "demo/web"} | more
    placement = given.pop("placement", Placement())
    return Request("u", "apps/v1", "Deployment", placement, node_claim=claim, **given)


def member(name: str = "a", **more: Any) -> Candidate:
    return Candidate(name, **({"free": ROOM} | more))


@pytest.mark.parametrize(
    ("asked", "fleet", "names"),
    [
        (request(), [member("a"), member("b", free={"cpu": 9000, "pods": 20})], ["b", "a"]),
        (request(None), [member()], []),
        (request(None), [member(shapes=CUT_UP)], ["a"]),
        (request(None, replicas=4), [member(shapes=CUT_UP)], []),
        (request(None, asks={"cpu": 500}), [member(shapes=CUT_UP)], []),
        (request(replicas=0), [member()], []),
        (request(), [member(cut=True), member("b", free=None), member("c", free={"cpu": 0})], []),
        (request(evicting=frozenset("a")), [member(), member("b")], ["b"]),
        (request(), [member(f"m{n:02}") for n in range(40)], [f"m{n:02}" for n in range(ASKED_MAX)]),
    ],
    ids=["a node claim", "nothing to doubt", "cut up", "enough in the shapes", "shapes and sums agree",
         "nothing to run", "nothing to be had", "left out", "many"],
)  # fmt: skip
def test_whom_to_ask(asked: Request, fleet: list[Candidate], names: list[str]) -> None:
    assert to_ask(asked, fleet) == names


def test_the_question() -> None:
    claim = msgspec.convert(
        {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "hardNodeAffinity": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "x", "operator": "Exists"}]}]
            },
        },
        NodeClaim,
    )
    asked = question(request(claim, asks={"memory": 5, "cpu": 1500, "gpu": 0}))
    assert asked == {
        "replicaRequirements": {
            "resourceRequest": {"cpu": "1500m", "memory": "5"},
            "namespace": "demo",
            "nodeClaim": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "hardNodeAffinity": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "x", "operator": "Exists"}]}
                    ]
                },
            },
        }
    }
    same = question(request(claim, asks={"cpu": 1500, "memory": 5}, key="other/web", replicas=99))
    assert question_hash(asked) == question_hash(same)
    assert question_hash(asked) != question_hash(question(request(claim)))


@pytest.mark.parametrize(
    ("seen", "room"),
    [
        (member(estimate=3), 3),
        (member(estimate=30), 8),
        (member(estimate=0), 0),
        (member(estimate=5, shapes=CUT_UP), 5),
        (less(member(estimate=5), {"cpu": 2000, "pods": 2}), 3),
        (less(member(estimate=5), {"cpu": 7000, "pods": 1}), 0),
        (member(estimate=5, cut=True), 0),
    ],
    ids=["fewer", "no more than the sums", "none", "rather than shapes", "less what is reserved",
         "less all of it", "cut off"],
)  # fmt: skip
def test_the_room_by_an_answer(seen: Candidate, room: int) -> None:
    assert capacity.available(seen, {"cpu": 1000}) == room


class Members:
    """Answers by name: a number, an error, or nothing for ever."""

    def __init__(self, clock: LoopClock, **answers: Any) -> None:
        self._clock, self.answers = clock, answers
        self.asked: list[str] = []

    async def ask(self, cluster: str, spec: Document) -> int:
        self.asked.append(cluster)
        answer = self.answers[cluster]
        if answer is None:
            await self._clock.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)


async def told(estimates: Estimates, asked: Request, *fleet: Candidate) -> dict[str, int | None]:
    return {c.name: c.estimate for c in await estimates.told(asked, fleet)}


async def test_answers_are_kept_until_the_member_reports_something_else() -> None:
    clock = LoopClock()
    members = Members(clock, a=3)
    estimates = Estimates(clock, members)
    assert await told(estimates, request(), member()) == {"a": 3}
    members.answers["a"] = 1
    assert await told(estimates, request(), member()) == {"a": 3}
    assert await told(estimates, request(asks={"cpu": 1}), member()) == {"a": 1}
    less_room = member(free=ROOM | {"cpu": 7000})
    assert await told(estimates, request(), less_room) == {"a": 1}
    members.answers["a"] = 2
    await clock.sleep(GOOD_S + 0.1)
    assert await told(estimates, request(), less_room) == {"a": 2}
    assert members.asked == ["a"] * 4


async def test_who_does_not_answer_is_not_waited_for_again() -> None:
    clock = LoopClock()
    members = Members(clock, a=3, b=None, c=NotFound("not served"), d=ConnectionError("away"))
    estimates = Estimates(clock, members)
    fleet = [member(name) for name in "abcd"]
    before = clock.monotonic()
    assert await told(estimates, request(), *fleet) == {"a": 3, "b": None, "c": None, "d": None}
    assert clock.monotonic() - before == pytest.approx(ANSWERS_S)
    members.asked.clear()
    assert await told(estimates, request(asks={"cpu": 1}), *fleet) == {
        "a": 3, "b": None, "c": None, "d": None,
    }  # fmt: skip
    assert members.asked == ["a"]
    members.answers["b"] = 7
    await clock.sleep(MUTE_S)
    assert (await told(estimates, request(), *fleet))["b"] == 7


async def test_a_question_that_is_refused_spoils_no_other_one() -> None:
    clock = LoopClock()
    members = Members(clock, a=BadRequest("what?"))
    estimates = Estimates(clock, members)
    assert await told(estimates, request(), member()) == {"a": None}
    members.answers["a"] = 3
    assert await told(estimates, request(), member()) == {"a": None}
    assert await told(estimates, request(asks={"cpu": 1}), member()) == {"a": 3}
