"""Nodes: silence by receive time, taints, zones and their pace, evictions by toleration, leftovers of pods."""

import datetime as dt

import pytest
from tests.unit.control.builders import NOW, ago, pod

from cluster_agent.control.controllers import podgc, tainteviction
from cluster_agent.control.controllers.nodelifecycle import health, taints, zones
from cluster_agent.control.controllers.nodelifecycle.controller import not_ready
from cluster_agent.control.controllers.nodelifecycle.zones import Mode, Pace, Zones
from cluster_agent.control.controllers.tainteviction import Pending
from machinery.api.coordination import Lease, LeaseSpec
from machinery.api.core import (
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    Taint,
    Toleration,
)
from machinery.controller.action import Delete, Emit, RequeueAfter, SetStatus
from machinery.meta.objectmeta import Condition, ObjectMeta


def node(
    name: str = "n1",
    ready: str = "True",
    *marks: Taint,
    zone: str = "a",
    beat: dt.datetime | None = None,
    pressure: str = "",
    unschedulable: bool = False,
) -> Node:
    told = Condition(type="Ready", status=ready, reason="KubeletReady", last_heartbeat_time=beat)
    conditions: tuple[Condition, ...] = (told,)
    if pressure:
        conditions += (Condition(type=pressure, status="True"),)
    return Node(
        metadata=ObjectMeta(
            name=name, uid=name, labels={zones.ZONE_LABEL: zone, zones.REGION_LABEL: "r"}
        ),
        spec=NodeSpec(taints=marks, unschedulable=unschedulable),
        status=NodeStatus(conditions=conditions if ready else ()),
    )


def lease(renewed: dt.datetime) -> Lease:
    return Lease(spec=LeaseSpec(renew_time=renewed))


# ----------------------------------------------------------------------------------------------------- health
def test_a_heartbeat_counts_from_when_it_arrives() -> None:
    seen = health.observe(None, node(beat=ago(5)), lease(ago(3000)), 100.0)
    same = health.observe(seen, node(beat=ago(5)), lease(ago(3000)), 140.0)
    assert same.at == 100.0
    assert not health.is_silent(same, 150.0, 50.0, 60.0)
    assert health.is_silent(same, 150.1, 50.0, 60.0)
    by_lease = health.observe(same, node(beat=ago(5)), lease(ago(2990)), 151.0)
    assert by_lease.at == 151.0
    by_status = health.observe(by_lease, node(beat=ago(1)), lease(ago(2990)), 170.0)
    assert by_status.at == 170.0


def test_a_node_that_never_reported_is_given_more_time() -> None:
    seen = health.observe(None, node(ready=""), None, 0.0)
    assert not health.is_silent(seen, 55.0, 50.0, 60.0)
    assert health.is_silent(seen, 61.0, 50.0, 60.0)
    told = {c["type"]: c["reason"] for c in health.unknown_conditions(node(ready=""), NOW) or []}
    assert set(told.values()) == {"NodeStatusNeverUpdated"}
    assert set(told) == set(health.WATCHED)


def test_silence_makes_conditions_unknown_once() -> None:
    documents = health.unknown_conditions(node(beat=ago(90), pressure="MemoryPressure"), NOW)
    assert documents is not None
    told = {c["type"]: (c["status"], c["reason"]) for c in documents}
    assert told["Ready"] == ("Unknown", "NodeStatusUnknown")
    assert told["MemoryPressure"] == ("Unknown", "NodeStatusUnknown")
    written = tuple(Condition(type=c["type"], status=c["status"]) for c in documents)
    silent = Node(metadata=ObjectMeta(name="n1"), status=NodeStatus(conditions=written))
    assert health.unknown_conditions(silent, NOW) is None


def test_pods_of_a_silent_node_are_not_ready() -> None:
    actions = not_ready(pod("p", ready_s=5), "T")
    assert isinstance(actions[0], SetStatus)
    assert actions[0].status["conditions"][0]["status"] == "False"
    assert isinstance(actions[1], Emit)
    assert actions[1].message == "Node is not ready"
    assert not_ready(pod("p"), "T") == []


# ------------------------------------------------------------------------------------------------------ taints
def marks(n: Node, *, evict: bool = True, all_disrupted: bool = False) -> tuple[set[str], bool]:
    """key:effect of the taints that the node then has, and whether an eviction waits."""
    outcome = taints.plan(n, all_disrupted=all_disrupted, may_evict=lambda: evict, now=NOW)
    if outcome.patch is None:
        return {f"{t.key.rpartition('/')[2]}:{t.effect}" for t in n.spec.taints}, outcome.waits
    wire = dict(outcome.patch.patch)["spec"]["taints"] or []  # type: ignore[arg-type]
    return {f"{t['key'].rpartition('/')[2]}:{t['effect']}" for t in wire}, outcome.waits


NOT_READY_EXECUTE = Taint(key=taints.NOT_READY, effect="NoExecute")
UNREACHABLE_EXECUTE = Taint(key=taints.UNREACHABLE, effect="NoExecute")
USERS = Taint(key="dedicated", value="x", effect="NoExecute")


@pytest.mark.parametrize(
    ("n", "evict", "expected", "waits"),
    [
        pytest.param(node(), True, set(), False, id="ready"),
        pytest.param(
            node(ready="False"),
            True,
            {"not-ready:NoSchedule", "not-ready:NoExecute"},
            False,
            id="not ready",
        ),
        pytest.param(
            node(ready="Unknown"), False, {"unreachable:NoSchedule"}, True, id="no permission yet"
        ),
        pytest.param(
            node("n1", "Unknown", NOT_READY_EXECUTE),
            False,
            {"unreachable:NoSchedule", "unreachable:NoExecute"},
            False,
            id="a taint given follows without a new permission",
        ),
        pytest.param(
            node("n1", "True", UNREACHABLE_EXECUTE, USERS),
            True,
            {"dedicated:NoExecute"},
            False,
            id="back",
        ),
        pytest.param(
            node(pressure="DiskPressure"), True, {"disk-pressure:NoSchedule"}, False, id="pressure"
        ),
        pytest.param(
            node(unschedulable=True), True, {"unschedulable:NoSchedule"}, False, id="cordoned"
        ),
    ],
)
def test_taints(n: Node, evict: bool, expected: set[str], waits: bool) -> None:
    assert marks(n, evict=evict) == (expected, waits)


def test_nothing_is_emptied_when_everything_is_silent() -> None:
    silent = node("n1", "Unknown", UNREACHABLE_EXECUTE)
    assert marks(silent, all_disrupted=True) == ({"unreachable:NoSchedule"}, False)


# ------------------------------------------------------------------------------------------------------- zones
@pytest.mark.parametrize(
    ("ready", "silent", "mode"),
    [
        (4, 0, Mode.NORMAL),
        (2, 2, Mode.NORMAL),
        (1, 3, Mode.PARTIAL),
        (1, 2, Mode.NORMAL),
        (5, 6, Mode.NORMAL),
        (9, 11, Mode.PARTIAL),
        (0, 1, Mode.FULL),
        (0, 0, Mode.NORMAL),
    ],
)
def test_mode_of_a_zone(ready: int, silent: int, mode: Mode) -> None:
    assert zones.mode_of([True] * ready + [False] * silent, Pace()) is mode


def fleet(**by_zone: tuple[int, int]) -> list[tuple[Node, bool]]:
    found = []
    for zone, (ready, silent) in by_zone.items():
        for index in range(ready + silent):
            name = f"{zone}-last" if index == ready + silent - 1 else f"{zone}{index}"
            found.append((node(name, zone=zone), index < ready))
    return found


def silent(zone: str) -> Node:
    """The node of the zone that falls silent first."""
    return node(f"{zone}-last", zone=zone)


def test_pace_by_mode() -> None:
    z = Zones(Pace())
    z.update(fleet(a=(3, 1), b=(3, 1)), 0.0)
    assert not z.may_evict(node("a0"), 0.0), "it is not known to be silent"
    assert z.may_evict(silent("a"), 0.0)
    assert not z.may_evict(silent("a"), 9.9)
    assert z.may_evict(silent("a"), 10.0)
    assert z.update(fleet(a=(1, 3), b=(3, 1)), 10.0) == {"r/a"}
    assert z.is_paused("r/a")
    assert not z.may_evict(silent("a"), 1e6)
    z.update(fleet(a=(0, 4), b=(3, 1)), 20.0)
    assert z.may_evict(silent("a"), 20.0), "one whole zone is believed"
    z.update(fleet(a=(0, 4), b=(0, 4)), 30.0)
    assert z.all_disrupted
    assert not z.may_evict(silent("a"), 1e6)
    assert not z.may_evict(silent("b"), 1e6)
    z.update(fleet(a=(0, 4), b=(1, 3)), 40.0)
    assert set(z.modes.values()) == {Mode.FULL, Mode.PARTIAL}
    assert z.may_evict(silent("a"), 40.0)


def test_large_zone_slows_down_instead_of_stopping() -> None:
    z = Zones(Pace())
    z.update(fleet(a=(20, 40), b=(1, 0)), 0.0)
    assert z.modes["r/a"] is Mode.PARTIAL
    assert z.may_evict(silent("a"), 0.0)
    assert not z.may_evict(silent("a"), 99.0)
    assert z.may_evict(silent("a"), 100.0)


# ---------------------------------------------------------------------------------------------------- eviction
TAINT = Taint(key="k", value="v", effect="NoExecute")


def tolerating(**fields: object) -> Toleration:
    return Toleration(effect="NoExecute", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        pytest.param((), 0.0, id="none"),
        pytest.param((tolerating(key="k", operator="Exists"),), None, id="for ever"),
        pytest.param(
            (tolerating(key="k", operator="Exists", toleration_seconds=6),), 6.0, id="a while"
        ),
        pytest.param((tolerating(key="k", value="w"),), 0.0, id="other value"),
        pytest.param(
            (Toleration(key="k", operator="Exists", effect="NoSchedule"),), 0.0, id="other effect"
        ),
        pytest.param((Toleration(operator="Exists"),), None, id="everything"),
        pytest.param(
            (tolerating(key="k", operator="Exists", toleration_seconds=-3),), 0.0, id="negative"
        ),
    ],
)
def test_tolerated_time(tolerations: tuple[Toleration, ...], expected: float | None) -> None:
    assert tainteviction.tolerated_s(tolerations, [TAINT]) == expected


def test_shortest_time_of_several_taints_counts() -> None:
    other = Taint(key="l", effect="NoExecute")
    both = (
        tolerating(key="k", operator="Exists", toleration_seconds=9),
        tolerating(key="l", operator="Exists", toleration_seconds=4),
    )
    assert tainteviction.tolerated_s(both, [TAINT, other]) == 4.0


def patient(seconds: int) -> Pod:
    toleration = tolerating(key="k", operator="Exists", toleration_seconds=seconds)
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="p"),
        spec=PodSpec(node_name="n1", tolerations=(toleration,)),
    )


def test_eviction_waits_marks_and_deletes() -> None:
    actions, pending = tainteviction.plan(patient(6), [TAINT], None, 100.0, NOW)
    assert actions == [RequeueAfter(6.0)]
    assert pending == Pending("p", 100.0)
    actions, pending = tainteviction.plan(patient(6), [TAINT], pending, 106.0, NOW)
    assert [type(a) for a in actions] == [Emit, SetStatus, Delete]
    assert isinstance(actions[0], Emit)
    assert actions[0].message == "Marking for deletion Pod ns/p"
    assert pending is not None
    assert pending.marked
    assert tainteviction.plan(patient(6), [TAINT], pending, 107.0, NOW) == ([], pending)


def test_eviction_is_cancelled_when_the_taint_goes() -> None:
    actions, pending = tainteviction.plan(patient(6), [], Pending("p", 100.0), 103.0, NOW)
    assert pending is None
    assert [a.message for a in actions if isinstance(a, Emit)] == [
        "Cancelling deletion of Pod ns/p"
    ]
    assert tainteviction.plan(patient(6), [], None, 103.0, NOW) == ([], None)


# --------------------------------------------------------------------------------------------------- leftovers
def test_surplus_of_ended_pods_goes_oldest_first_evicted_before_all() -> None:
    ended = [pod(f"t{i}", phase="Succeeded", age_s=1000 - i) for i in range(4)]
    evicted = Pod(
        metadata=ObjectMeta(name="ev", namespace="ns", uid="ev", creation_timestamp=NOW),
        spec=PodSpec(node_name="n1"),
        status=PodStatus(phase="Failed", reason="Evicted"),
    )
    chores = podgc.plan([*ended, evicted, pod("live")], {"n1": node()}, (), NOW, 3)
    assert [c[-1].key.name for c in chores if isinstance(c[-1], Delete)] == ["ev", "t0"]


def test_pods_of_a_gone_node_fail_and_go() -> None:
    (chore,) = podgc.plan([pod("p", node="gone")], {"n1": node()}, ["gone"], NOW, 100)
    assert isinstance(chore[0], SetStatus)
    assert chore[0].status["phase"] == "Failed"
    assert chore[0].status["conditions"][-1]["message"] == "PodGC: node no longer exists"
    assert isinstance(chore[1], Delete)
    assert chore[1].grace_period_seconds == 0


def test_missing_nodes() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2"), pod("c", node="")]
    assert podgc.missing_nodes(pods, {"n1": node()}) == {"n2"}


@pytest.mark.parametrize(("ready", "goes"), [("Unknown", True), ("True", False)])
def test_out_of_service(ready: str, goes: bool) -> None:
    mark = Taint(key=podgc.OUT_OF_SERVICE, effect="NoExecute")
    chores = podgc.plan([pod("p", deleting=True)], {"n1": node("n1", ready, mark)}, (), NOW, 100)
    assert bool(chores) == goes


def test_deleted_before_it_had_a_node() -> None:
    chores = podgc.plan([pod("p", node="", deleting=True), pod("q", node="")], {}, (), NOW, 100)
    assert [c[0].key.name for c in chores if isinstance(c[0], Delete)] == ["p"]
