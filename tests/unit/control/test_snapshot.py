"""The scheduler's picture stays right through any row of changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from machinery.api.core import (
    Container,
    LabelSelector,
    Node,
    NodeStatus,
    Pod,
    PodSpec,
    ResourceRequirements,
)
from machinery.meta.objectmeta import ObjectMeta
from machinery.scheduling.selection import compile_selector
from machinery.scheduling.snapshot import PodInfo, Snapshot

WEB = compile_selector(LabelSelector(match_labels={"app": "web"}))
NODES = ("n1", "n2", "n3")


def node(name: str, cpu: str) -> Node:
    return Node(
        metadata=ObjectMeta(name=name),
        status=NodeStatus(allocatable={"cpu": cpu, "memory": "8Gi", "pods": "10"}),
    )


def pod(number: int, app: str) -> PodInfo:
    asks = ResourceRequirements(requests={"cpu": f"{100 + number}m", "example.com/gpu": "1"})
    return PodInfo(
        Pod(
            metadata=ObjectMeta(
                name=f"p{number}", namespace="d", uid=str(number), labels={"app": app}
            ),
            spec=PodSpec(containers=(Container(name="c", resources=asks),)),
        )
    )


STEP = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 7), st.sampled_from(NODES), st.sampled_from("wx")),
    st.tuples(st.just("remove"), st.integers(0, 7)),
    st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(("1", "4"))),
    st.tuples(st.just("gone"), st.sampled_from(NODES)),
    st.tuples(st.just("count")),
)


@given(st.lists(STEP, max_size=40))
def test_sums_and_counts_equal_a_recount(steps: list[tuple[object, ...]]) -> None:
    snapshot = Snapshot()
    placed: dict[str, tuple[str, PodInfo]] = {}
    there: set[str] = set()
    for step in steps:
        match step:
            case ("add", int(number), str(where), str(app)):
                info = pod(number, "web" if app == "w" else "x")
                placed[info.uid] = (where, info)
                snapshot.add_pod(info, where)
            case ("remove", int(number)):
                placed.pop(str(number), None)
                snapshot.remove_pod(str(number))
            case ("node", str(name), str(cpu)):
                there.add(name)
                snapshot.set_node(node(name, cpu))
            case ("gone", str(name)):
                there.discard(name)
                snapshot.remove_node(name)
            case _:
                snapshot.counts("d", WEB)
    assert set(snapshot.names) == there
    for row, name in enumerate(snapshot.names):
        here = [info for where, info in placed.values() if where == name]
        assert snapshot.used[row, snapshot.columns["pods"]] == len(here)
        assert snapshot.used[row, snapshot.columns["cpu"]] == sum(i.requests["cpu"] for i in here)
        webs = sum(1 for info in here if WEB(info.labels))
        assert snapshot.counts("d", WEB)[row] == webs
        if here:
            assert snapshot.used[row, snapshot.columns["example.com/gpu"]] == len(here)
    assert np.all(snapshot.used >= 0)
