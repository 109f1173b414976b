"""The journal in a running fleet: who decided writes it down, it comes out the same, the oldest go, and nothing is left over."""

import asyncio
import datetime as dt

import pytest
from tests.unit.controllers_federation.moving_fleet import WEB, Fleet, play

from federation.controllers import journal
from federation.controllers.journal import HOUSE, PER_WORKLOAD, plan, unneeded
from federation.placement import journal as codec
from federation.placement.journal import PLACE, Asked, recorded
from federation.placement.model import Candidate, Request
from federation.placement.plan import place
from federation.propagation.replays import replays
from federation.propagation.templates import DEPLOYMENTS
from federation.simulator.rules import Broken, Rules
from federation.simulator.seen import Seen, Written
from machinery.api.fleet.decision import (
    DECISIONS,
    FLEET_RECORDS,
    RECORDED,
    DecidedBinding,
    Decision,
    FleetRecord,
    Recorded,
    RecordedSpec,
)
from machinery.api.fleet.operations import FEDERATED_RESOURCE_QUOTAS
from machinery.api.fleet.policy import Placement
from machinery.client.interface import dynamic
from machinery.controller.action import Delete
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import Document, ObjectKey

AS_DOCUMENTS = dynamic("ubernetes.io", "v1alpha1", "decisions", "Decision", True)
RECORD_DOCUMENTS = dynamic("ubernetes.io", "v1alpha1", "fleetrecords", "FleetRecord", False)
NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)


async def decisions(fleet: Fleet) -> list[Decision]:
    """The oldest first."""
    found = (await fleet.client.list(DECISIONS, "demo")).items
    return sorted(found, key=lambda d: d.spec.decided_at or NOW)


async def differing(fleet: Fleet) -> list[str]:
    """Decisions that do not come out the same."""
    records = {r["metadata"]["name"]: r for r in (await fleet.client.list(RECORD_DOCUMENTS)).items}
    documents: list[Document] = list((await fleet.client.list(AS_DOCUMENTS)).items)
    return [told for one in documents if (told := replays(one, records.get))]


def test_a_decision_is_written_with_all_that_it_was_made_of():
    async def told(fleet: Fleet) -> None:
        await fleet.deploy()
        await asyncio.sleep(5)
        (one,) = await decisions(fleet)
        spec = one.spec
        assert (spec.controller, spec.function, spec.result) == ("placer", "place", "Scheduled")
        assert spec.message == "alpha:2, beta:2, gamma:2"
        assert (spec.workload.kind, spec.workload.name) == ("Deployment", "web")
        assert spec.version and spec.question and spec.inputs.hash and spec.inputs.fleet
        assert await differing(fleet) == []

    play(told)


def test_a_refusal_is_written_too():
    async def told(fleet: Fleet) -> None:
        await fleet.deploy(replicas=500)
        await asyncio.sleep(5)
        (one,) = await decisions(fleet)
        assert one.spec.result == "Unschedulable" and "not enough" in one.spec.message
        assert one.spec.clusters == ()
        assert await differing(fleet) == []

    play(told)


def test_what_a_quota_refuses_is_written_with_what_it_would_have_been():
    async def told(fleet: Fleet) -> None:
        quota = {
            "apiVersion": FEDERATED_RESOURCE_QUOTAS.api_version,
            "kind": FEDERATED_RESOURCE_QUOTAS.kind,
            "metadata": {"name": "q", "namespace": "demo"},
            "spec": {"overall": {"pods": "10"}},
        }
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, quota)
        await fleet.deploy()
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 12}})
        await asyncio.sleep(10)
        first, refused = await decisions(fleet)
        assert (first.spec.result, refused.spec.result) == ("Scheduled", "QuotaExceeded")
        assert refused.spec.message == (
            "FederatedResourceQuota(demo/q) exceeded for resource pods: requested sum 12, limit 10. "
            "(without it: alpha:4, beta:4, gamma:4)"
        )
        assert refused.spec.clusters == ()
        assert await differing(fleet) == []

    play(told)


def test_a_record_that_somebody_deletes_is_written_anew():
    async def told(fleet: Fleet) -> None:
        await fleet.deploy()
        await asyncio.sleep(5)
        for record in (await fleet.client.list(FLEET_RECORDS)).items:
            await fleet.client.delete(FLEET_RECORDS, record.key)
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 7}})
        await asyncio.sleep(10)
        first, second = await decisions(fleet)
        (told_of_first,) = await differing(fleet)
        assert told_of_first == "the fleet that it was decided of is in the journal no more"
        there = [r.metadata.name for r in (await fleet.client.list(FLEET_RECORDS)).items]
        assert second.spec.inputs.fleet in there
        assert first.spec.inputs.fleet not in there

    play(told)


def test_the_oldest_go_and_all_go_with_the_workload():
    async def told(fleet: Fleet) -> None:
        await fleet.deploy()
        for count in range(7, 7 + PER_WORKLOAD + 2):
            await asyncio.sleep(10)
            await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": count}})
        await asyncio.sleep(10)
        held = await decisions(fleet)
        assert len(held) == PER_WORKLOAD
        last = held[-1].spec
        assert sum(t.replicas for t in last.clusters) == 6 + PER_WORKLOAD + 2
        assert sum(last.before.values()) == 6 + PER_WORKLOAD + 1
        assert await differing(fleet) == []
        await fleet.client.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(20)
        assert await decisions(fleet) == []
        await asyncio.sleep(2 * journal.KEPT_S)
        records = (await fleet.client.list(FLEET_RECORDS)).items
        assert len(records) <= journal.RECORDS_LATELY, "only what the next decision may go out from"

    play(told)


def one(name: str, seconds: int) -> Recorded:
    at = NOW + dt.timedelta(seconds=seconds)
    meta = ObjectMeta(name=name, namespace="demo", uid=f"uid-{name}")
    return Recorded(metadata=meta, spec=RecordedSpec(DecidedBinding("web-deployment"), at))


@pytest.mark.parametrize(
    ("ages", "limit", "gone"),
    [({"a": 1, "b": 2}, 2, []), ({"a": 3, "b": 1, "c": 2}, 1, ["b", "c"]), ({}, 0, [])],
)
def test_plan_lets_the_oldest_go(ages, limit, gone):
    actions = plan([one(name, seconds) for name, seconds in ages.items()], limit)
    wanted = [Delete(DECISIONS, ObjectKey("demo", n), uid=f"uid-{n}") for n in gone]
    assert actions == wanted


@pytest.mark.parametrize(
    ("age_s", "needed", "gone", "young"),
    [(100, False, True, False), (100, True, False, False), (10, False, False, True)],
    ids=["old", "needed", "young"],
)
def test_records_that_nobody_needs_go(age_s, needed, gone, young):
    made = NOW - dt.timedelta(seconds=age_s)
    record = FleetRecord(metadata=ObjectMeta(name="abc", uid="u", creation_timestamp=made))
    names = frozenset({"abc"}) if needed else frozenset()
    actions, later = unneeded([record], names, NOW)
    wanted = [Delete(FLEET_RECORDS, ObjectKey("", "abc"), uid="u")] if gone else []
    assert (actions, later) == (wanted, young)


def test_a_decision_of_which_the_fleet_is_gone_says_so():
    record, _ = recorded([Candidate("a")])
    document = {
        "metadata": {"name": "x"},
        "spec": {"function": "place", "inputs": {"hash": "h", "fleet": record.name, "data": "{}"}},
    }
    assert replays(document, lambda _: None).startswith("the fleet that it was decided of is in")


def test_the_simulator_finds_a_decision_that_does_not_replay():
    fleet = [Candidate("a", free={"pods": 9}), Candidate("b", free={"pods": 9})]
    request = Request("u", "apps/v1", "Deployment", Placement(), 3)
    decision = place(request, fleet)
    asked = Asked(PLACE, request, fleet)
    data = codec.entry(asked, codec.NO_RECORD, codec.changed(fleet, codec.NO_RECORD))
    inputs = {"hash": codec.Digests().of(asked), "encoding": "json", "data": data.decode()}
    answer = codec.answered(decision)
    spec = {"function": PLACE, "result": answer.result, "message": answer.message, **answer.fields}
    spec["binding"] = {"name": "web-deployment"}
    honest = {"metadata": {"name": "x"}, "spec": spec | {"inputs": inputs}}
    judge = Rules(Seen())
    judge.on_write(Written("decisions", WEB, None, honest, 0.0))
    forged = honest | {"spec": honest["spec"] | {"clusters": [{"name": "a", "replicas": 3}]}}
    with pytest.raises(Broken, match="replays: demo/web: clusters: a:3 was recorded, a:3, b:3"):
        judge.on_write(Written("decisions", WEB, None, forged, 0.0))


def test_the_key_of_the_house_is_nobodys():
    assert HOUSE.namespace == "" and RECORDED.namespaced


def test_moves_are_written_by_who_makes_them():
    async def told(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=True)
        await fleet.pass_time(30)
        made = {d.spec.controller: d for d in await decisions(fleet)}
        left = made["evictor"].spec
        assert (left.function, left.result) == ("evict", "Evicted")
        assert left.message.startswith("alpha is left: the cluster is dead")
        assert (left.before, left.kept) == ({"alpha": 2, "beta": 2, "gamma": 2}, {"alpha": 2})
        fleet.members["alpha"].start()
        await fleet.pass_time(60)
        made = {d.spec.controller: d for d in await decisions(fleet)}
        back = made["failover"].spec
        assert (back.function, back.result) == ("settle", "Settled")
        assert back.message.startswith("alpha is not left any more")
        home = made["failback"].spec
        assert (home.function, home.message) == ("place", "alpha:2, beta:2, gamma:2")
        assert await differing(fleet) == []

    play(told)
