"""Kinds that users bring in a history: what is written of them, and what a member does with them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from federation.propagation.admission.interpreters import refusal
from federation.propagation.customized import Customizations
from federation.simulator import kinds
from federation.simulator.fleets import SMALL, fleet, meshed, zones_of
from federation.simulator.kubelet import Copies
from federation.simulator.ledger import Ledger
from federation.simulator.member import DEFINITION, Member, Ref
from federation.simulator.scenario import Scenario, Step
from federation.simulator.server import FederationServer
from federation.simulator.users import written
from federation.simulator.virtual import MemberClock, VirtualClock, run
from machinery.api.fleet.interpretation import ResourceInterpreterCustomization
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document, ObjectKey, document_key

GADGET = kinds.gadget(Step(0.0, "create-gadget", "demo", "gadget-0", "7 whoami:1"))
NAMESPACE: Document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
WORK = ObjectKey("execution", "work")


def steps(*, custom: bool = False, wide: bool = False) -> list[Step]:
    zones = zones_of(SMALL)
    found = [Scenario(seed, zones, custom=custom, wide=wide).steps() for seed in range(1, 6)]
    return [step for history in found for step in history]


def test_every_history_has_prices_and_workloads_that_heed_them() -> None:
    for seed in range(1, 20):
        history = Scenario(seed, zones_of(SMALL)).steps()
        assert any(step.verb == "price" for step in history)
    prefer = {step.extra for step in steps() if step.verb == "create-deployment"}
    assert set(kinds.PREFERS) <= prefer


@pytest.mark.parametrize("what", ["gadget", "role"])
def test_further_kinds_come_where_they_are_asked_for(what: str) -> None:
    verbs = {f"{verb}-{what}" for verb in ("create", "change", "delete")}
    asked = steps(custom=what == "gadget", wide=what == "role")
    assert verbs <= {step.verb for step in asked}
    assert not verbs & {step.verb for step in steps()}


def test_each_member_has_a_price_at_first() -> None:
    said = Scenario(1, zones_of(SMALL)).prices()
    assert {(s.where, s.name) for s in said} == {
        (place.name, figure) for place in SMALL for figure in kinds.FIGURE_OF
    }


def test_the_scripts_are_accepted_and_say_what_is_meant() -> None:
    assert refusal(kinds.interpreter(), []) == ""
    scripts = Customizations(
        [msgspec.convert(kinds.interpreter(), ResourceInterpreterCustomization)]
    )
    assert scripts.replicas(GADGET, {})[0] == 7
    assert scripts.revised(GADGET, 3)["spec"] == {"size": 3, "image": "whoami:1"}
    items: list[Document] = [
        {"clusterName": name, "status": {"replicas": 2, "readyReplicas": count}, "applied": True}
        for name, count in (("alpha", 1), ("beta", 2))
    ]
    assert scripts.aggregated(GADGET, items)["status"] == {"replicas": 4, "readyReplicas": 3}


def in_a_member(look: Callable[[Member], None]) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        server = FederationServer(VirtualClock(loop), SeededIds(1))
        look(Member(SMALL[0], MemberClock(loop), "seed", server, Copies()))

    run(story())


def test_a_member_without_the_definition_refuses_its_objects() -> None:
    def look(part: Member) -> None:
        assert part.apply(WORK, NAMESPACE) == ""
        assert part.apply(WORK, GADGET).startswith('no matches for kind "Gadget"')
        assert part.apply(WORK, kinds.definition()) == ""
        assert part.apply(WORK, GADGET) == ""
        live = part.live(Ref("Gadget", document_key(GADGET)))
        assert live is not None
        assert live["status"] == {"replicas": 7, "readyReplicas": 0}

    in_a_member(look)


def test_with_the_definition_its_objects_go() -> None:
    definition = kinds.definition()
    ref = Ref(DEFINITION, document_key(definition))

    def look(part: Member) -> None:
        for document in (NAMESPACE, definition, GADGET):
            assert part.apply(WORK, document) == ""
        part.objects[ref] = replace(part.objects[ref], gone_at=0.0)
        assert part.remove(WORK, definition) is None
        assert {held.kind for held in part.objects} == {"Namespace"}
        assert part.nodes.bound == 0

    in_a_member(look)


@pytest.mark.parametrize(
    ("step", "plural", "document", "other"),
    [
        (
            Step(0.0, "change-gadget", "demo", "gadget-0", 3),
            "gadgets",
            {"spec": {"size": 3}},
            {"spec": {"size": 4}},
        ),
        (
            Step(0.0, "change-role", "", "viewer-0", "get"),
            "clusterroles",
            {"rules": kinds.rules("get")},
            {"rules": kinds.rules("list")},
        ),
        (
            Step(0.0, "price", "alpha", "cost", "4"),
            "clusters",
            {"metadata": {"annotations": {kinds.FIGURE_OF["cost"]: "4"}}},
            {"metadata": {}},
        ),
    ],
    ids=["size", "verb", "cost"],
)
def test_what_was_written_is_missed_when_it_is_lost(
    step: Step, plural: str, document: Document, other: Document
) -> None:
    ledger = Ledger()
    facts = dict(written(step))
    ledger.wrote(facts, sure=True)
    ((_, key, _),) = facts
    assert ledger.lost({plural: {key: document}}) == ""
    assert ledger.lost({plural: {key: other}})


def test_not_all_of_a_big_fleet_probe_one_another() -> None:
    assert list(meshed(SMALL)) == [place.name for place in SMALL]
    big = fleet(500)
    few = meshed(big)
    assert 10 <= len(few) <= 24
    assert len({place.zone for place in big if place.name in set(few)}) >= 3
