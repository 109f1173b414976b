"""Taints: which ClusterTaintPolicies change a cluster, beside the taints of others."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import Fleet, play

from federation.controllers import taints
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.operations import CLUSTER_TAINT_POLICIES, ClusterTaintPolicy
from machinery.controller.action import Action, Patch
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document, ObjectKey

NOW = dt.datetime(2026, 1, 1, 0, 1, tzinfo=dt.UTC)
MINE = {"key": "mine", "effect": "NoSchedule"}
NET = {"key": "net", "effect": "NoSchedule"}
BAD = [{"conditionType": "Network", "operator": "In", "statusValues": ["False"]}]
GOOD = [{"conditionType": "Network", "operator": "In", "statusValues": ["True"]}]


def cluster(*held: Document, **conditions: str) -> Cluster:
    return msgspec.convert(
        {
            "metadata": {
                "name": "alpha",
                "uid": "u-1",
                "resourceVersion": "3",
                "labels": {"tier": "edge"},
            },
            "spec": {"taints": held, "provider": "lab"},
            "status": {"conditions": [{"type": k, "status": v} for k, v in conditions.items()]},
        },
        Cluster,
    )


def policy(
    name: str = "a", created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> ClusterTaintPolicy:
    document = {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"taints": [NET]} | spec,
    }
    return msgspec.convert(document, ClusterTaintPolicy)


def after(held: Cluster, *policies: ClusterTaintPolicy) -> list[str] | None:
    """`key=value:effect` of each taint that is written; None: nothing is."""
    return written(taints.plan(held, policies, NOW))


def written(actions: list[Action]) -> list[str] | None:
    for action in actions:
        if isinstance(action, Patch) and isinstance(action.patch, dict):
            assert (action.resource_version, action.uid) == ("3", "u-1")
            found = action.patch["spec"]["taints"] or []
            return [f"{t['key']}={t.get('value', '')}:{t['effect']}" for t in found]
    return None


def one(operator: str, *values: str) -> list[Document]:
    return [{"conditionType": "Network", "operator": operator, "statusValues": values}]


@pytest.mark.parametrize(
    ("why", "add", "status", "wanted"),
    [
        ("In", one("In", "False"), "False", True),
        ("In, one of many", one("In", "Unknown", "False"), "False", True),
        ("In, none", one("In", "Unknown"), "False", False),
        ("In of nothing", one("In"), "False", False),
        ("NotIn", one("NotIn", "True"), "False", True),
        ("NotIn, listed", one("NotIn", "True", "False"), "False", False),
        ("NotIn of nothing", one("NotIn"), "False", True),
        ("NotIn, no such condition", one("NotIn", "True"), "", False),
        ("another operator", one("Exists", "False"), "False", False),
        ("all must", [*one("In", "False"), *one("NotIn", "False")], "False", False),
        ("nothing is asked", [], "False", False),
    ],
)
def test_when_conditions_match(why: str, add: list[Document], status: str, wanted: bool) -> None:
    held = cluster(MINE, **({"Network": status} if status else {}))
    found = after(held, policy(addOnConditions=add))
    assert found == (["mine=:NoSchedule", "net=:NoSchedule"] if wanted else None), why


@pytest.mark.parametrize(
    ("why", "target", "wanted"),
    [
        ("by name", {"clusterNames": ["alpha"]}, True),
        ("another", {"clusterNames": ["beta"]}, False),
        ("by label", {"labelSelector": {"matchLabels": {"tier": "edge"}}}, True),
        ("another label", {"labelSelector": {"matchLabels": {"tier": "core"}}}, False),
        ("excluded", {"exclude": ["alpha"]}, False),
        (
            "by field",
            {"fieldSelector": {"matchExpressions": [
                {"key": "provider", "operator": "In", "values": ["lab"]}]}},
            True,
        ),
        (
            "a field that does not exist",
            {"fieldSelector": {"matchExpressions": [
                {"key": "bad", "operator": "In", "values": ["x"]}]}},
            False,
        ),
    ],
)  # fmt: skip
def test_which_clusters_are_meant(why: str, target: Document, wanted: bool) -> None:
    found = after(cluster(Network="False"), policy(addOnConditions=BAD, targetClusters=target))
    assert (found is not None) == wanted, why


@pytest.mark.parametrize(
    ("why", "held", "policies", "wanted"),
    [
        ("added before, kept as it is", [NET | {"value": "old"}],
         [policy(taints=[NET | {"value": "new"}], addOnConditions=BAD)], None),
        ("the same key with another effect is another taint", [NET | {"effect": "NoExecute"}],
         [policy(addOnConditions=BAD)], ["net=:NoExecute", "net=:NoSchedule"]),
        ("removal wins", [NET, MINE], [policy(addOnConditions=BAD, removeOnConditions=BAD)],
         ["mine=:NoSchedule"]),
        ("neither matches: stays", [NET], [policy(addOnConditions=GOOD)], None),
        ("a policy that goes takes nothing away", [NET], [], None),
        ("the younger policy has the last word", [],
         [policy("a", "2026-01-01T00:00:09Z", removeOnConditions=BAD),
          policy("b", addOnConditions=BAD)], None),
        ("of one age by name", [],
         [policy("b", removeOnConditions=BAD), policy("a", addOnConditions=BAD)], None),
        ("and the other way about", [],
         [policy("a", removeOnConditions=BAD), policy("b", addOnConditions=BAD)],
         ["net=:NoSchedule"]),
        ("the failure clock's taint is its own",
         [{"key": "cluster.karmada.io/unreachable", "effect": "NoSchedule"}],
         [policy(taints=[{"key": "cluster.karmada.io/unreachable", "effect": "NoSchedule"}],
                 removeOnConditions=BAD)], None),
    ],
)  # fmt: skip
def test_what_becomes_of_taints(
    why: str, held: list[Document], policies: list[ClusterTaintPolicy], wanted: list[str] | None
) -> None:
    assert after(cluster(*held, Network="False"), *policies) == wanted, why


def test_a_change_is_told_once() -> None:
    actions = taints.plan(cluster(Network="False"), [policy(addOnConditions=BAD)], NOW)
    assert len(actions) == 2
    (patch, _) = actions
    assert isinstance(patch, Patch)
    assert isinstance(patch.patch, dict)
    assert patch.patch["spec"]["taints"] == [NET | {"timeAdded": "2026-01-01T00:01:00Z"}]
    again = cluster(NET | {"timeAdded": "2026-01-01T00:00:00Z"}, Network="False")
    assert taints.plan(again, [policy(addOnConditions=BAD)], NOW) == []


def test_a_silent_cluster_gets_the_operators_taint_too_and_keeps_it() -> None:
    spec = {
        "taints": [{"key": "was-away", "effect": "NoSchedule"}],
        "addOnConditions": [
            {"conditionType": "Ready", "operator": "NotIn", "statusValues": ["True"]}
        ],
    }

    async def story(fleet: Fleet) -> None:
        document = {
            "apiVersion": CLUSTER_TAINT_POLICIES.api_version,
            "kind": CLUSTER_TAINT_POLICIES.kind,
            "metadata": {"name": "away"},
            "spec": spec,
        }
        _ = await fleet.client.create(CLUSTER_TAINT_POLICIES, document)
        fleet.members["beta"].link.cut(fleet.clock.monotonic())
        _ = await fleet.pass_time(20)
        key = ObjectKey("", "beta")
        held = await fleet.client.get(CLUSTERS, key)
        assert {t.key for t in held.spec.taints} == {"cluster.karmada.io/unreachable", "was-away"}
        fleet.members["beta"].link.heal()
        _ = await fleet.pass_time(20)
        held = await fleet.client.get(CLUSTERS, key)
        assert [t.key for t in held.spec.taints] == ["was-away"]
        others = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
        assert others.spec.taints == ()
        document = document | {"metadata": {"name": "drains"}}
        bad = {"taints": [{"key": "x", "effect": "NoExecute"}]}
        with pytest.raises(Forbidden, match="NoExecute effect is not allowed"):
            _ = await fleet.client.create(CLUSTER_TAINT_POLICIES, document | {"spec": bad})

    play(story)
