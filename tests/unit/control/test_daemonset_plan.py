"""DaemonSet: which nodes take a pod, what is made and deleted there, how a rollout goes, and what is reported."""

from typing import Any

import pytest
from tests.unit.control.builders import NOW
from tests.unit.control.set_builders import NEW, OLD, daemon, daemon_set, machine

from cluster_agent.control.controllers.daemonset import status
from cluster_agent.control.controllers.daemonset.backoff import FailedPods
from cluster_agent.control.controllers.daemonset.limits import limits, may_surge
from cluster_agent.control.controllers.daemonset.placement import (
    Placement,
    node_of,
    pod_document,
    tolerations,
)
from cluster_agent.control.controllers.daemonset.plan import (
    BURST_PODS_MAX,
    Changes,
    Sight,
    by_node,
    is_cut,
    manage,
    roll,
    to_actions,
)
from cluster_agent.control.controllers.sets import DaemonSet
from machinery.api.core import (
    PODS,
    Affinity,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodSpec,
)
from machinery.controller.action import Create, Delete, Emit, RequeueAfter, SetStatus
from machinery.meta.objectmeta import ObjectMeta

N1, N2, N3 = machine("n1"), machine("n2"), machine("n3")


def sight(ds: DaemonSet, nodes: list[Node], pods: list[Pod], **waits: float) -> Sight:
    return Sight(ds, NEW, nodes, by_node(pods), NOW, waits)


def told(changes: Changes) -> list[str]:
    """`+n1` made, `-a-n1` deleted."""
    made = [f"+{node}" for node in changes.make_on]
    return made + [f"-{pod.metadata.name}" for pod in changes.delete]


# ----------------------------------------------------------------------------------------------------------- placement
@pytest.mark.parametrize(
    ("node", "spec", "wants", "keeps"),
    [
        pytest.param(machine("n1"), {}, True, True, id="any node"),
        pytest.param(machine("n1", ("k", "NoSchedule")), {}, False, True, id="no new one"),
        pytest.param(machine("n1", ("k", "NoExecute")), {}, False, False, id="none at all"),
        pytest.param(machine("n1", ("k", "PreferNoSchedule")), {}, True, True, id="rather not"),
        pytest.param(
            machine("n1", ("k", "NoExecute")),
            {"tolerations": [{"operator": "Exists"}]},
            True,
            True,
            id="tolerated",
        ),
        pytest.param(
            machine("n1", ("node.kubernetes.io/unschedulable", "NoSchedule")),
            {},
            True,
            True,
            id="a cordoned node has its daemons",
        ),
        pytest.param(
            machine("n1", ("node.kubernetes.io/unreachable", "NoExecute")),
            {},
            True,
            True,
            id="and one that is not heard of",
        ),
        pytest.param(
            machine("n1", ("node.kubernetes.io/network-unavailable", "NoSchedule")),
            {},
            False,
            True,
            id="no network",
        ),
        pytest.param(
            machine("n1", ("node.kubernetes.io/network-unavailable", "NoSchedule")),
            {"hostNetwork": True},
            True,
            True,
            id="which a pod of the host's network does not need",
        ),
        pytest.param(
            machine("n1", disk="ssd"), {"nodeSelector": {"disk": "ssd"}}, True, True, id="selected"
        ),
        pytest.param(
            machine("n1"), {"nodeSelector": {"disk": "ssd"}}, False, False, id="not selected"
        ),
        pytest.param(machine("n1"), {"nodeName": "n2"}, False, False, id="another by name"),
    ],
)
def test_where_a_pod_belongs(node: Node, spec: dict[str, Any], wants: bool, keeps: bool) -> None:
    placement = Placement(daemon_set(pod_spec=spec))
    assert (placement.wants(node), placement.keeps(node)) == (wants, keeps)


def test_the_pod_of_a_node() -> None:
    preferred = [{"weight": 1, "preference": {}}]
    given = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"x": 1}]},
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
        },
        "podAffinity": {"y": 1},
    }
    ds = daemon_set(pod_spec={"affinity": given, "tolerations": [{"key": "mine"}]})
    made = pod_document(ds, "n1", "abc")
    affinity = made["spec"]["affinity"]
    assert affinity["podAffinity"] == {"y": 1}
    assert affinity["nodeAffinity"] == {
        "preferredDuringSchedulingIgnoredDuringExecution": preferred,
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
            ]
        },
    }
    assert made["spec"]["tolerations"][0] == {"key": "mine"}
    assert len(made["spec"]["tolerations"]) == 7
    assert made["metadata"]["generateName"] == "a-"
    assert made["metadata"]["labels"] == {"app": "d", "controller-revision-hash": "abc"}
    assert tolerations({"tolerations": tolerations({})}) == tolerations({}), "none twice"


def test_the_node_that_a_waiting_pod_is_meant_for() -> None:
    names = NodeSelectorRequirement(key="metadata.name", operator="In", values=("n7",))
    required = NodeSelector(node_selector_terms=(NodeSelectorTerm(match_fields=(names,)),))
    affinity = NodeAffinity(required_during_scheduling_ignored_during_execution=required)
    pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(affinity=Affinity(affinity)))
    assert node_of(pod) == "n7"
    assert node_of(daemon("n1")) == "n1"
    assert node_of(Pod(metadata=ObjectMeta(name="p"))) == ""


# -------------------------------------------------------------------------------------------------------------- manage
YOUNG = daemon("n1", name="a-young", age_s=5)
FAILED = daemon("n1", phase="Failed", ready_s=None)


@pytest.mark.parametrize(
    ("nodes", "pods", "wanted"),
    [
        pytest.param([N2, N1], [], ["+n1", "+n2"], id="one on each"),
        pytest.param([N1, N2], [daemon("n1")], ["+n2"], id="where it is missing"),
        pytest.param([N1], [daemon("n1", deleting=True)], [], id="not while one ends"),
        pytest.param([N1], [YOUNG, daemon("n1")], ["-a-young"], id="the oldest of two stays"),
        pytest.param([N1], [FAILED], ["-a-n1"], id="a failed one makes room"),
        pytest.param(
            [N1], [daemon("n1", phase="Succeeded", ready_s=None)], ["-a-n1"], id="an ended one too"
        ),
        pytest.param(
            [N1], [daemon("n1", phase="Failed", deleting=True)], ["+n1"], id="which then is gone"
        ),
        pytest.param(
            [machine("n1", ("k", "NoSchedule"))], [daemon("n1")], [], id="it may stay where it is"
        ),
        pytest.param(
            [machine("n1", ("k", "NoExecute"))], [daemon("n1")], ["-a-n1"], id="or must go"
        ),
        pytest.param([N1], [daemon("n1"), daemon("n9")], [], id="a lost node's is not ours to end"),
    ],
)
def test_one_pod_a_node(nodes: list[Node], pods: list[Pod], wanted: list[str]) -> None:
    ds = daemon_set()
    assert told(manage(sight(ds, nodes, pods), Placement(ds))) == wanted


def test_a_pod_that_waits_for_a_node_that_is_gone_is_deleted() -> None:
    names = NodeSelectorRequirement(key="metadata.name", operator="In", values=("gone",))
    required = NodeSelector(node_selector_terms=(NodeSelectorTerm(match_fields=(names,)),))
    affinity = NodeAffinity(required_during_scheduling_ignored_during_execution=required)
    pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(affinity=Affinity(affinity)))
    ds = daemon_set()
    assert told(manage(sight(ds, [], [pod]), Placement(ds))) == ["-p"]


def test_a_node_where_pods_fail_waits() -> None:
    ds = daemon_set()
    changes = manage(sight(ds, [N1], [FAILED], n1=3.5), Placement(ds))
    assert told(changes) == []
    assert changes.again_s == 3.5
    changes = manage(sight(ds, [N1], [FAILED]), Placement(ds))
    (word,) = changes.words
    assert isinstance(word, Emit)
    text = "Found failed daemon pod ns/a-n1 on node n1, will try to kill it"
    assert (word.type, word.reason, word.message) == ("Warning", "FailedDaemonPod", text)


def test_back_off() -> None:
    failed = FailedPods()
    assert failed.waits(0.0) == {}
    failed.failed("n1", 0.0)
    assert failed.waits(0.25) == {"n1": 0.75}
    failed.failed("n1", 1.0)
    assert failed.waits(1.0) == {"n1": 2.0}
    assert failed.waits(3.0) == {}
    for _ in range(20):
        failed.failed("n1", 4.0)
    assert failed.waits(4.0) == {"n1": 900.0}
    failed.failed("n1", 4.0 + 1801.0)
    assert failed.waits(4.0 + 1801.0) == {"n1": 1.0}, "forgotten after half an hour"


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        pytest.param([daemon("n1", digest=OLD), YOUNG], ["-a-n1"], id="the new one is available"),
        pytest.param(
            [daemon("n1", digest=OLD), daemon("n1", name="a-new", ready_s=None, age_s=1)],
            [],
            id="it is not",
        ),
        pytest.param(
            [
                daemon("n1", digest=OLD, ready_s=None),
                daemon("n1", name="a-new", ready_s=None, age_s=1),
            ],
            ["-a-n1"],
            id="nor is the old one",
        ),
        pytest.param([daemon("n1"), YOUNG], ["-a-young"], id="two new ones"),
    ],
)
def test_two_pods_while_it_surges(pods: list[Pod], wanted: list[str]) -> None:
    ds = daemon_set(surge=1, away=0)
    assert told(manage(sight(ds, [N1], pods), Placement(ds))) == wanted


# ---------------------------------------------------------------------------------------------------------------- roll
def olds(*nodes: str) -> list[Pod]:
    return [daemon(node, digest=OLD) for node in nodes]


@pytest.mark.parametrize(
    ("ds", "pods", "wanted"),
    [
        pytest.param(daemon_set(), olds("n1", "n2", "n3"), ["-a-n1"], id="one at a time"),
        pytest.param(daemon_set(away=2), olds("n1", "n2", "n3"), ["-a-n1", "-a-n2"], id="two"),
        pytest.param(daemon_set(away="34%"), olds("n1", "n2", "n3"), ["-a-n1", "-a-n2"], id="up"),
        pytest.param(
            daemon_set(), [daemon("n1", ready_s=None), *olds("n2", "n3")], [], id="while one starts"
        ),
        pytest.param(
            daemon_set(min_ready_s=200), [daemon("n1"), *olds("n2", "n3")], ["-a-n2", "-a-n3"],
            id="old ones that are not available are no loss",
        ),
        pytest.param(
            daemon_set(),
            [daemon("n1", ready_s=None), daemon("n2", digest=OLD, ready_s=None), *olds("n3")],
            ["-a-n2"],
            id="a broken old one may always go",
        ),
        pytest.param(
            daemon_set(),
            [daemon("n1", digest=OLD, ready_s=None), *olds("n2", "n3")],
            ["-a-n1"],
            id="and counts as missing",
        ),
        pytest.param(daemon_set(on_delete=True), olds("n1", "n2", "n3"), [], id="by hand"),
        pytest.param(daemon_set(), [daemon(n) for n in ("n1", "n2", "n3")], [], id="done"),
        pytest.param(
            daemon_set(surge=1, away=0), olds("n1", "n2", "n3"), ["+n1"], id="surge: one more"
        ),
        pytest.param(
            daemon_set(surge=1, away=0),
            [daemon("n1", name="b", ready_s=None), *olds("n1", "n2", "n3")],
            [],
            id="surge: until it is available",
        ),
        pytest.param(
            daemon_set(surge=1, away=0),
            [daemon("n1", name="b"), *olds("n1", "n2", "n3")],
            ["+n2", "-a-n1"],
            id="surge: then the old one goes",
        ),
        pytest.param(
            daemon_set(surge=1, away=0),
            [daemon("n1", digest=OLD, ready_s=None), *olds("n2", "n3")],
            ["+n1", "+n2"],
            id="surge: a broken one is no surge",
        ),
        pytest.param(
            daemon_set(surge="50%", away=0), olds("n1", "n2", "n3"), ["+n1", "+n2"], id="surge: up"
        ),
    ],
)  # fmt: skip
def test_rollouts(ds: DaemonSet, pods: list[Pod], wanted: list[str]) -> None:
    assert told(roll(sight(ds, [N1, N2, N3], pods), Placement(ds))) == wanted


def test_a_surge_goes_to_no_node_that_takes_no_new_pod() -> None:
    ds, tainted = daemon_set(surge=3, away=0), machine("n1", ("k", "NoSchedule"))
    broken = [daemon("n1", digest=OLD, ready_s=None)]
    assert told(roll(sight(ds, [tainted], broken), Placement(ds))) == ["-a-n1"]


@pytest.mark.parametrize(
    ("second", "wanted"),
    [
        pytest.param(daemon("n2"), ["-a-n1"], id="goes when another is available instead"),
        pytest.param(daemon("n2", ready_s=None), [], id="and stays until then"),
    ],
)
def test_a_pod_of_a_node_that_takes_no_new_one(second: Pod, wanted: list[str]) -> None:
    ds, tainted = daemon_set(surge=1, away=0), machine("n1", ("k", "NoSchedule"))
    pods = [*olds("n1"), second]
    assert told(roll(sight(ds, [tainted, N2], pods), Placement(ds))) == wanted


@pytest.mark.parametrize(
    ("surge", "away", "wanted"),
    [(0, 1, (0, 1)), (0, 0, (0, 1)), ("10%", 0, (1, 0)), (0, "10%", (0, 1)), (0, "100%", (0, 5))],
)
def test_limits(surge: int | str, away: int | str, wanted: tuple[int, int]) -> None:
    ds = daemon_set(surge=surge, away=away)
    assert limits(ds, 5) == wanted
    assert may_surge(ds) is (wanted[0] > 0)


# ------------------------------------------------------------------------------------------------------ actions, status
def test_one_pass_does_no_more_than_it_may() -> None:
    ds = daemon_set()
    changes = Changes(make_on=[f"n{i}" for i in range(300)], delete=[daemon("n1")])
    actions = to_actions(ds, changes, "abc")
    assert sum(isinstance(action, Create) for action in actions) == BURST_PODS_MAX
    assert actions[-1] == Delete(PODS, daemon("n1").key, uid="a-n1-uid")
    assert is_cut(changes)
    assert not is_cut(Changes(make_on=["n1"]))


def test_counts() -> None:
    ds = daemon_set(min_ready_s=50)
    nodes = [N1, N2, N3, machine("n4", ("k", "NoSchedule")), machine("n5")]
    pods = [
        daemon("n1"),
        daemon("n2", ready_s=20),
        daemon("n3", digest=OLD, ready_s=None),
        daemon("n4"),
    ]
    seen = sight(ds, nodes, pods)
    fresh = status.counted(seen, Placement(ds), None, acted=True)
    assert fresh.desired_number_scheduled == 4
    assert fresh.current_number_scheduled == 3
    assert fresh.number_misscheduled == 1
    assert fresh.number_ready == 2
    assert (fresh.number_available, fresh.number_unavailable) == (1, 3)
    assert fresh.updated_number_scheduled == 2
    assert fresh.observed_generation == 2
    actions = status.plan_status(seen, fresh)
    assert [type(action) for action in actions] == [SetStatus, RequeueAfter]
    assert actions[1] == RequeueAfter(30.0)
    waiting = status.counted(seen, Placement(ds), None, acted=False)
    assert waiting.observed_generation == 0, "who did not act has not observed it"
