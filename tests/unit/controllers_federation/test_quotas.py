"""Quotas: what is refused, also when two decisions race, and what each member gets of a quota."""

import asyncio
import datetime as dt
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, TWO, WEB, Fleet, play

from federation.controllers import quotas
from federation.controllers.quotas import Seen
from federation.propagation import quota
from federation.propagation.admission.foresight import QuotaForesight
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.cluster import execution_namespace
from machinery.api.fleet.operations import FEDERATED_RESOURCE_QUOTAS, FederatedResourceQuota
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS
from machinery.controller.action import Action, Create, Delete, Emit, Patch, SetStatus
from machinery.controller.executor import Executor
from machinery.meta.errors import Conflict
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

NOW = dt.datetime(2026, 1, 1, 0, 1, tzinfo=dt.UTC)
Q = ObjectKey("demo", "q")


def document(share: str = "", status: Document | None = None, **spec: Any) -> Document:
    annotations = {quota.SHARE: share} if share else {}
    return {
        "apiVersion": FEDERATED_RESOURCE_QUOTAS.api_version,
        "kind": FEDERATED_RESOURCE_QUOTAS.kind,
        "metadata": {"name": "q", "namespace": "demo", "annotations": annotations},
        "spec": spec,
    } | ({"status": status} if status else {})


def held(share: str = "", status: Document | None = None, **spec: Any) -> FederatedResourceQuota:
    body = document(share, status, **spec)
    body["metadata"] = body["metadata"] | {"uid": "u-1", "resourceVersion": "5"}
    return msgspec.convert(body, FederatedResourceQuota)


def assigned(**clusters: str) -> list[Document]:
    return [{"clusterName": name, "hard": {"cpu": value}} for name, value in clusters.items()]


def parts(actions: list[Action]) -> dict[str, Document]:
    found = {}
    for action in actions:
        if isinstance(action, Create):
            (manifest,) = action.document["spec"]["workload"]["manifests"]
            cluster = action.document["metadata"]["namespace"].removeprefix("karmada-es-")
            found[cluster] = manifest["spec"]["hard"]
    return found


def status_of(actions: list[Action]) -> dict[str, Any] | None:
    found = [dict(a.status) for a in actions if isinstance(a, SetStatus)]
    return found[0] if found else None


# ------------------------------------------------------------------------------------------------------------------- plan
@pytest.mark.parametrize(
    ("why", "held_", "seen", "wanted"),
    [
        ("each cluster of the list", held(overall={"cpu": "10"}, staticAssignments=assigned(a="6", b="4")),
         Seen(members={"a": True, "b": True, "c": True}), {"a": {"cpu": "6"}, "b": {"cpu": "4"}}),
        ("members that serve no ResourceQuotas get none", held(overall={"cpu": "10"}, staticAssignments=assigned(a="6", b="4")),
         Seen(members={"a": False, "b": True}), {"b": {"cpu": "4"}}),
        ("and those that are no members", held(overall={"cpu": "10"}, staticAssignments=assigned(a="6", z="4")),
         Seen(members={"a": True}), {"a": {"cpu": "6"}}),
        ("no list, no parts", held(overall={"cpu": "10"}), Seen(members={"a": True}), {}),
        ("shared out", held("Dynamic", overall={"cpu": "10"}),
         Seen(members={"a": True, "b": True, "c": False}, placed={"a": {"cpu": Fraction(4)}, "c": {"cpu": Fraction(2)}}),
         {"a": {"cpu": "7"}, "b": {"cpu": "3"}}),
    ],
)  # fmt: skip
def test_what_members_get(
    why: str, held_: FederatedResourceQuota, seen: Seen, wanted: dict[str, Document]
) -> None:
    assert parts(quotas.plan(held_, seen)) == wanted, why


def test_a_quota_that_goes_takes_its_parts_with_it() -> None:
    made = quotas.part_work(held(overall={"cpu": "10"}), "a", {"cpu": "6"})
    made = made | {"metadata": made["metadata"] | {"uid": "u-w"}}
    (action,) = quotas.plan(None, Seen(members={"a": True}, works=[made]))
    assert isinstance(action, Delete)
    assert (action.key.namespace, action.uid) == (execution_namespace("a"), "u-w")
    assert quotas.quota_keys(made) == [Q]


def test_the_status_says_what_is_used_and_what_members_report() -> None:
    limits = held(overall={"cpu": "10", "memory": "1Gi"}, staticAssignments=assigned(a="6", b="4"))
    work = quotas.part_work(limits, "a", {"cpu": "6"})
    told = {"manifestStatuses": [{"status": {"hard": {"cpu": "6"}, "used": {"cpu": "1"}}}]}
    seen = Seen(
        used={"cpu": Fraction(5, 2)},
        members={"a": True, "b": False},
        works=[work | {"status": told}],
    )
    actions = quotas.plan(limits, seen)
    wanted = {
        "overall": {"cpu": "10", "memory": "1Gi"},
        "overallUsed": {"cpu": "2500m"},
        "aggregatedStatus": [{"clusterName": "a", "hard": {"cpu": "6"}, "used": {"cpu": "1"}}],
    }
    assert status_of(actions) == wanted
    (said,) = (a for a in actions if isinstance(a, Emit))
    assert (said.reason, "in b" in said.message) == ("QuotaNotInMember", True)
    settled = held(
        status=wanted,
        overall={"cpu": "10", "memory": "1Gi"},
        staticAssignments=assigned(a="6", b="4"),
    )
    assert quotas.plan(settled, seen) == [], "told once"


# ------------------------------------------------------------------------------------------------------------------ races
def after(cpu: int) -> dict[str, Fraction]:
    return {"cpu": Fraction(cpu)}


def test_two_decisions_that_do_not_see_each_other_do_not_both_fit() -> None:
    """The second is judged by the quota as the first one left it, since its write stands on the version that was read."""
    limits = held(overall={"cpu": "10"})
    nothing: dict[str, Any] = {"a": {}, "b": {}}
    first = quotas.judged([limits], "a", after(6), {}, nothing, NOW)
    assert not first.refusal
    (grant,) = first.actions
    assert isinstance(grant, Patch)
    assert isinstance(grant.patch, dict)
    assert grant.resource_version == "5"
    marked = msgspec.convert(
        document(overall={"cpu": "10"})
        | {
            "metadata": {
                "name": "q",
                "namespace": "demo",
                "annotations": grant.patch["metadata"]["annotations"],
            }
        },
        FederatedResourceQuota,
    )
    second = quotas.judged([marked], "b", after(6), {}, nothing, NOW)
    assert second.refusal.endswith("requested sum 12, limit 10.")
    assert not quotas.judged([marked], "b", after(4), {}, nothing, NOW).refusal
    again = quotas.judged([marked], "a", after(8), {}, nothing, NOW)
    assert not again.refusal, "its own grant is no other's"
    seen = {"a": after(6), "b": {}}
    shown = quotas.judged([marked], "b", after(5), after(6), seen, NOW)
    assert shown.refusal.endswith("requested sum 11, limit 10."), "counted once"


def test_of_two_servers_that_judge_by_the_same_version_one_has_to_judge_again() -> None:
    """Two leads at once, each with its own copy of everything, for two workloads of which one fits."""

    async def story(fleet: Fleet) -> None:
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, document(overall={"pods": "10"}))
        read = await fleet.client.get(FEDERATED_RESOURCE_QUOTAS, Q)
        wanted = {"pods": Fraction(6)}
        bindings: dict[str, Any] = {"a": {}, "b": {}}
        first = quotas.judged([read], "a", wanted, {}, bindings, NOW)
        second = quotas.judged([read], "b", wanted, {}, bindings, NOW)
        assert not first.refusal
        assert not second.refusal
        recorder: Any = None
        executor = Executor(fleet.client, recorder)
        _ = await executor.apply(first.actions)
        with pytest.raises(Conflict):
            _ = await executor.apply(second.actions)
        read = await fleet.client.get(FEDERATED_RESOURCE_QUOTAS, Q)
        again = quotas.judged([read], "b", wanted, {}, bindings, NOW)
        assert again.refusal.endswith("for resource pods: requested sum 12, limit 10.")
        shown: dict[str, Any] = {"a": wanted, "b": {}}
        later = NOW + dt.timedelta(seconds=quota.IN_FLIGHT_S)
        again = quotas.judged([read], "b", wanted, wanted, shown, later)
        assert again.refusal, "by then it is seen"
        lost = quotas.judged([read], "b", wanted, {}, bindings, later)
        assert not lost.refusal, "a decision that never arrived gives its room back"

    play(story)


def test_what_shrinks_needs_no_grant() -> None:
    seen = {"a": after(6)}
    verdict = quotas.judged([held(overall={"cpu": "1"})], "a", after(5), after(6), seen, NOW)
    assert verdict == quotas.Verdict()


def test_every_quota_of_the_namespace_must_allow_it() -> None:
    both = [held(overall={"cpu": "10"}), held(overall={"pods": "2"})]
    wanted = {"cpu": Fraction(3), "pods": Fraction(3)}
    assert "pods" in quotas.judged(both, "a", wanted, {}, {}, NOW).refusal
    assert len(quotas.judged(both[:1], "a", wanted, {}, {}, NOW).actions) == 1


# ------------------------------------------------------------------------------------------------------------------- flow


def placed(found: Any) -> dict[str, int]:
    return {b.metadata.name: sum(t.replicas for t in b.spec.clusters) for b in found.items}


async def used(fleet: Fleet) -> dict[str, Any]:
    found = await fleet.client.get(FEDERATED_RESOURCE_QUOTAS, Q)
    assert found.status.overall == {"pods": "10"}
    return dict(found.status.overall_used)


def test_a_workload_grows_as_far_as_the_quota_and_on_when_it_is_raised() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, document(overall={"pods": "10"}))
        await fleet.deploy()
        assert await used(fleet) == {"pods": "6"}
        grow = {"spec": {"replicas": 12}}
        await fleet.client.patch(DEPLOYMENTS, WEB, grow)
        assert await fleet.pass_time(10) == 6
        binding = await fleet.binding()
        said = condition(binding.status.conditions, "Scheduled")
        assert said is not None
        assert (said.status, said.reason) == ("False", "QuotaExceeded")
        assert said.message == (
            "FederatedResourceQuota(demo/q) exceeded for resource pods: requested sum 12, limit 10."
        )
        assert sum((await fleet.divided()).values()) == 6
        assert "ScheduleBindingFailed" in await fleet.reasons(WEB)
        patch = {"spec": {"overall": {"pods": "12"}}}
        await fleet.client.patch(FEDERATED_RESOURCE_QUOTAS, Q, patch)
        await asyncio.sleep(10)
        assert sum((await fleet.divided()).values()) == 12

    play(story)


def test_of_two_that_come_at_once_one_waits_until_the_other_goes() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, document(overall={"pods": "10"}))
        await asyncio.gather(*(fleet.deploy(name=name) for name in ("web", "api", "job")))
        found = placed(await fleet.client.list(RESOURCE_BINDINGS, "demo"))
        assert sorted(found.values()) == [0, 0, 6]
        assert await used(fleet) == {"pods": "6"}
        (first,) = (name for name, count in found.items() if count)
        key = ObjectKey("demo", first.removesuffix("-deployment"))
        await fleet.client.delete(DEPLOYMENTS, key)
        await asyncio.sleep(10)
        found = placed(await fleet.client.list(RESOURCE_BINDINGS, "demo"))
        assert sorted(found.values()) == [0, 6]

    play(story)


def test_failover_needs_no_room_in_a_quota() -> None:
    async def story(fleet: Fleet) -> None:
        limits = {"pods": "6"}
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, document(overall=limits))
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(40)
        assert await fleet.divided() == TWO
        assert BINDING.name in placed(await fleet.client.list(RESOURCE_BINDINGS, "demo"))

    play(story)


def test_parts_travel_to_members_that_serve_them() -> None:
    async def story(fleet: Fleet) -> None:
        share = assigned(alpha="6", beta="4")
        body = document(overall={"cpu": "10"}, staticAssignments=share)
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, body)
        await asyncio.sleep(5)
        kinds = []
        for name in ("alpha", "beta", "gamma"):
            works = await fleet.client.list(WORK_DOCUMENTS, execution_namespace(name))
            kinds += [w["spec"]["workload"]["manifests"][0]["kind"] for w in works.items]
        assert "ResourceQuota" not in kinds, "modelled members serve no ResourceQuotas, and say so"
        assert "QuotaNotInMember" in await fleet.reasons(Q)

    play(story)


def test_whoever_asks_for_too_much_is_warned_at_once() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, document(overall={"pods": "10"}))
        await fleet.deploy()
        api = fleet.server.api
        assert api is not None
        told: list[str] = []
        plugin = QuotaForesight(lambda: api.committed)
        template = await fleet.client.get(DEPLOYMENTS, WEB)
        more = template | {"spec": template["spec"] | {"replicas": 12}}
        kind = api.scheme.by_gvk(*DEPLOYMENTS.gvk)
        assert kind is not None
        call = Call(user=UserInfo("tester"))
        plugin.validate(AdmissionRequest("update", kind, "demo", "web", "", more, template, call))
        told += call.warnings
        assert len(told) == 1
        assert "exceeded for resource pods: requested sum 12, limit 10." in told[0]

    play(story)
