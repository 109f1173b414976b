"""Workloads of several components on their bindings: interpreted, decided, moved, dispatched and counted by quotas."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from tests.unit.propagation.test_customized import SHARD, document, saying, view

from federation.cli import drain
from federation.cli.leave import last_copy
from federation.controllers import detector, placer, reservations
from federation.controllers.dispatcher import wanted_works
from federation.domains.settings import Settings, effective
from federation.placement.model import Candidate
from federation.propagation import components, customized, departures, moves, questions, quota
from federation.propagation.customized import BUILT_IN, Customizations, InterpretationFailed
from federation.propagation.resilience import resilience
from machinery.api.fleet.policy import PropagationPolicy
from machinery.api.fleet.resilience import FederationConfig
from machinery.api.fleet.work import (
    AggregatedStatusItem,
    ResourceBinding,
    ResourceBindingStatus,
)
from machinery.controller.action import Patch
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document

PARTS = """
local kube = require("kube")
function GetComponents(obj)
  local wants = kube.accuratePodRequirements(obj.spec.template)
  return {
    {name = 'head', replicas = 1, replicaRequirements = {resourceRequest = {cpu = 0.5}}},
    {name = 'body', replicas = obj.spec.count, replicaRequirements = wants},
  }
end
"""
HEAD = {"name": "head", "replicas": 1, "replicaRequirements": {"resourceRequest": {"cpu": "0.5"}}}
BODY = {"name": "body", "replicas": 3, "replicaRequirements": {"resourceRequest": {"cpu": "500m"}}}
ONE = [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 1}]
GIVEN = [{"name": "head", "replicas": 1}, {"name": "body", "replicas": 3}]
NOW = "2026-01-01T00:00:00Z"


def binding(
    clusters: list[Document] | None = None, constraints: Any = ONE, **more: Any
) -> ResourceBinding:
    spec = {
        "resource": {"apiVersion": "example.io/v1", "kind": "Shard", "name": "s", "uid": "u"},
        "components": [HEAD, BODY],
        "placement": {
            "spreadConstraints": constraints,
            "replicaScheduling": {
                "replicaSchedulingType": "Divided",
                "weightPreference": {"dynamicWeight": "AvailableReplicas"},
            },
        },
        "clusters": clusters or [],
    }
    metadata = {"name": "s-shard", "namespace": "demo", "uid": "b", "resourceVersion": "1"}
    return msgspec.convert({"metadata": metadata, "spec": spec | more}, ResourceBinding)


def member(name: str, cpu: int) -> Candidate:
    return Candidate(name, free={"cpu": cpu * 1000, "pods": 50})


# ----------------------------------------------------------------------------------------------------------- interpreted
def test_a_script_tells_the_components() -> None:
    scripts = saying(componentResource=PARTS)
    assert customized.components(scripts, SHARD) == [HEAD, BODY]
    assert customized.is_workload(scripts, SHARD)
    assert customized.components(BUILT_IN, SHARD) == []


def test_an_expression_tells_them_too() -> None:
    text = "[{'name': 'a', 'replicas': object.spec.count}, {'name': 'b', 'replicas': 1}]"
    said = Customizations([view(document(language="expression", componentResource=text))])
    assert customized.components(said, SHARD) == [
        {"name": "a", "replicas": 3},
        {"name": "b", "replicas": 1},
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("'both'", "no list"),
        ("{'a', 'b'}", "no table"),
        ("{{replicas = 1}}", "the name of a component is None"),
        ("{{name = 'a', replicas = -1}}", "the number of replicas of a is -1"),
        ("{{name = 'a', replicas = 1}, {name = 'a', replicas = 1}}", "the same name"),
    ],
)
def test_what_is_no_answer(given: str, why: str) -> None:
    scripts = saying(componentResource=f"function GetComponents(o) return {given} end")
    with pytest.raises(InterpretationFailed, match=why):
        customized.components(scripts, SHARD)


def test_the_detector_writes_them_in_place_of_replicas() -> None:
    policy = msgspec.convert({"metadata": {"name": "p"}, "spec": {}}, PropagationPolicy)
    both = saying(componentResource=PARTS, replicaResource="function GetReplicas() return 4 end")
    spec = detector.wanted_spec(SHARD, policy, scripts=both)
    assert [one["name"] for one in spec["components"]] == ["head", "body"]
    assert (spec["replicas"], spec["replicaRequirements"]) == (None, None)


def test_a_single_component_is_a_workload_like_any_other() -> None:
    policy = msgspec.convert({"metadata": {"name": "p"}, "spec": {}}, PropagationPolicy)
    script = "function GetComponents(o) return {{name = 'a', replicas = 4}} end"
    both = saying(componentResource=script, replicaResource="function GetReplicas() return 4 end")
    spec = detector.wanted_spec(SHARD, policy, scripts=both)
    assert (len(spec["components"]), spec["replicas"]) == (1, 4)


# --------------------------------------------------------------------------------------------------------------- decided
def decided(of: ResourceBinding, fleet: list[Candidate]) -> Document:
    (patch,) = (a for a in placer.plan(of, fleet, NOW) if isinstance(a, Patch))
    assert isinstance(patch.patch, dict)
    found: Document = patch.patch["spec"]
    return found


def test_the_decision_says_what_the_cluster_was_given() -> None:
    found = decided(binding(), [member("alpha", 1), member("beta", 9)])
    assert found["clusters"] == [{"name": "beta", "components": GIVEN}]


def test_in_several_clusters_nothing_is_counted() -> None:
    found = decided(binding(constraints=[]), [member("alpha", 1), member("beta", 9)])
    assert found["clusters"] == [{"name": "alpha"}, {"name": "beta"}]


def test_other_components_are_another_question() -> None:
    first = binding()
    other = binding(components=[HEAD, BODY | {"replicas": 4}])
    assert questions.question(first) != questions.question(other)


def test_room_is_reserved_for_the_set() -> None:
    actions = placer.plan(binding(), [member("beta", 9)], NOW)
    given = reservations.written(actions)
    assert given is not None
    assert given.running == {"beta": 1}
    assert reservations.standing(binding(), given).asks == {"cpu": 2000}


# ----------------------------------------------------------------------------------------------------------------- moved
def test_a_set_leaves_a_dead_cluster_and_is_written_again_elsewhere() -> None:
    held = binding([{"name": "alpha", "components": GIVEN}])
    workload = departures.Workload(SHARD, resilience(SHARD, []))
    cause = departures.Cause(moves.UNREACHABLE, "it is dead")
    due = departures.due_of(held, workload, "alpha", None, cause, parse_time(NOW))
    assert due is not None
    facts = moves.Facts(questions.question(held), {}, now=NOW)
    out = moves.evict(moves.state_of(held), "alpha", moves.UNREACHABLE, "it is dead", facts)
    left = moves.spec(held, out)
    assert left["clusters"] is None
    assert [(t["fromCluster"], t["replicas"]) for t in left["gracefulEvictionTasks"]] == [
        ("alpha", 1)
    ]
    gone = binding(gracefulEvictionTasks=left["gracefulEvictionTasks"])
    found = decided(gone, [member("alpha", 9), member("beta", 9)])
    assert found["clusters"] == [{"name": "beta", "components": GIVEN}]


@pytest.mark.parametrize(("health", "ready"), [("Healthy", 1), ("Unhealthy", 0), ("Unknown", 0)])
def test_a_set_is_ready_when_it_is_healthy(health: str, ready: int) -> None:
    told = {"clusterName": "alpha", "status": {"phase": "x"}, "health": health}
    held = msgspec.convert(
        {
            "metadata": {"name": "b"},
            "spec": msgspec.to_builtins(binding().spec),
            "status": {"aggregatedStatus": [told]},
        },
        ResourceBinding,
    )
    assert moves.reported(held, frozenset({"alpha"}))["alpha"].ready == ready


@pytest.mark.parametrize(("health", "lost"), [("Healthy", False), ("Unhealthy", True)])
def test_the_last_set_is_not_left_behind(health: str, lost: bool) -> None:
    held = binding([{"name": "alpha", "components": GIVEN}])
    told = AggregatedStatusItem(cluster_name="beta", health=health)
    status = ResourceBindingStatus(aggregated_status=(told,))
    held = msgspec.structs.replace(held, status=status)
    assert bool(last_copy(held, "alpha")) == lost
    assert not last_copy(held, "beta")
    assert drain.runs(held, "alpha")
    assert not drain.runs(held, "beta")


def test_the_work_carries_the_object_as_it_is() -> None:
    held = binding([{"name": "alpha", "components": GIVEN}])
    works = wanted_works(held, SHARD, ["alpha"])
    (manifest,) = works["alpha"]["spec"]["workload"]["manifests"]
    assert manifest["spec"] == SHARD["spec"]


def test_replicas_are_counted_as_ever() -> None:
    plain = binding([{"name": "alpha", "replicas": 2}], components=[], replicas=2)
    assert components.placed(plain) == {"alpha": 2}
    assert components.written(plain, [("alpha", 2), ("beta", 0)]) == [
        {"name": "alpha", "replicas": 2},
        {"name": "beta"},
    ]


# ---------------------------------------------------------------------------------------------------------------- quotas
@pytest.mark.parametrize(
    ("clusters", "constraints", "cpu"),
    [
        pytest.param([{"name": "alpha", "components": GIVEN}], ONE, 2, id="in one cluster"),
        pytest.param([{"name": "alpha"}, {"name": "beta"}], [], 4, id="whole in two"),
        pytest.param([], ONE, 0, id="nowhere"),
    ],
)
def test_a_quota_counts_every_component(
    clusters: list[Document], constraints: list[Document], cpu: int
) -> None:
    used = quota.usage(binding(clusters, constraints))
    assert used.get("cpu", 0) == Fraction(cpu)
    assert used.get(quota.PODS, 0) == cpu * 2


# --------------------------------------------------------------------------------------------------------------- empties
@pytest.mark.parametrize(("said", "empties"), [("Propagated", True), ("Skipped", False)])
def test_the_operator_says_whether_empty_workloads_travel(said: str, empties: bool) -> None:
    config = msgspec.convert(
        {"metadata": {"name": "default"}, "spec": {"emptyWorkloads": said}}, FederationConfig
    )
    assert effective(Settings(), config).empties is empties


def test_who_moves_replicas_keeps_clusters_without_any() -> None:
    plain = binding([{"name": "alpha", "replicas": 2}, {"name": "beta"}], components=[], replicas=2)
    assert questions.request_of(plain, fresh=False).empties
    assert not questions.request_of(plain, fresh=False, empties=False).empties
    assert not questions.request_of(binding(components=[]), fresh=False).empties
