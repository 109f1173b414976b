"""The choice of the way to a peer, at first sight and over time."""

import pytest
from tests.unit.node.clusterset.sets import path, site, state

from cluster_agent.node.clusterset.paths import (
    SETTLE_S,
    UNROUTED_S,
    PeerPath,
    Ranges,
    choose_path,
    held_path,
)
from machinery.api.fleet.multicluster import (
    DIRECT,
    GATEWAY,
    UNREACHABLE,
    ClusterNetworkSpec,
    NodeRange,
)


@pytest.mark.parametrize(
    ("routes", "nodes", "gateways", "way", "direct"),
    [
        ("Enabled", "1", "1", DIRECT, {"n0"}),
        ("Enabled", "1", "0", DIRECT, {"n0"}),
        ("Enabled", "1", "", DIRECT, {"n0"}),
        ("Enabled", "01", "11", DIRECT, {"n1"}),
        ("Enabled", "0", "1", GATEWAY, set()),
        ("Enabled", "", "01", GATEWAY, set()),
        ("Enabled", "00", "00", UNREACHABLE, set()),
        ("Enabled", "", "", UNREACHABLE, set()),
        ("Disabled", "1", "1", GATEWAY, set()),
        ("Disabled", "1", "0", UNREACHABLE, set()),
    ],
)
def test_at_first_sight(routes: str, nodes: str, gateways: str, way: str, direct: set[str]) -> None:
    found = path(1, "beta", nodes, gateways, routes)
    assert (found.path, found.direct) == (way, direct)


def story(*looks: tuple[float, str, str]) -> PeerPath:
    """One look after the other at a peer: (time, nodes that answer, gateways that answer)."""
    found: PeerPath | None = None
    for now, nodes, gateways in looks:
        spec = site(1, len(nodes), len(gateways))
        found = choose_path("beta", spec, state(spec, nodes, gateways), found, now)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("looks", "way", "direct"),
    [
        pytest.param([(0, "0", "0"), (1, "1", "1")], DIRECT, {"n0"}, id="first answer"),
        pytest.param([(0, "1", "1"), (1, "0", "1")], GATEWAY, set(), id="routes gone, at once"),
        pytest.param([(0, "1", "1"), (1, "0", "0")], UNREACHABLE, set(), id="all gone, at once"),
        pytest.param(
            [(0, "1", "1"), (1, "0", "0"), (5, "1", "1")], GATEWAY, set(), id="back: gateways first"
        ),
        pytest.param(
            [(0, "1", "1"), (1, "0", "0"), (5, "1", "1"), (5 + SETTLE_S, "1", "1")],
            DIRECT, {"n0"}, id="back for long enough",
        ),
        pytest.param(
            [(0, "1", "1"), (1, "0", "0"), (5, "1", "1"), (9, "0", "1"), (10, "1", "1"), (19, "1", "1")],
            GATEWAY, set(), id="each loss begins anew",
        ),
        pytest.param(
            [(0, "1", "1"), (1, "0", "0"), (5, "1", "0")], DIRECT, {"n0"}, id="back without gateways"
        ),
        pytest.param(
            [(0, "11", "1"), (1, "01", "1")], DIRECT, {"n1"}, id="one node lost"
        ),
    ],
)  # fmt: skip
def test_over_time(looks: list[tuple[float, str, str]], way: str, direct: set[str]) -> None:
    found = story(*looks)
    assert (found.path, found.direct) == (way, direct)


@pytest.mark.parametrize(
    ("looks", "dead"),
    [
        pytest.param([(0, "11", "1"), (1, "01", "1")], {"n0"}, id="lost beside others"),
        pytest.param([(0, "01", "1")], set(), id="never answered: not routed"),
        pytest.param([(0, "11", "1"), (1, "00", "1")], set(), id="all lost: routes, not nodes"),
        pytest.param(
            [(0, "11", "1"), (1, "01", "1"), (1 + UNROUTED_S, "01", "1")], set(), id="for a minute"
        ),
    ],
)
def test_dead_nodes(looks: list[tuple[float, str, str]], dead: set[str]) -> None:
    assert story(*looks).dead == dead


@pytest.mark.parametrize(
    ("looks", "last"),
    [
        pytest.param([(0, "0", "0")], set(), id="never anything"),
        pytest.param([(0, "1", "1"), (1, "0", "0")], {"n0"}, id="direct before"),
        pytest.param([(0, "1", "1"), (1, "0", "1"), (2, "0", "0")], set(), id="gateways before"),
    ],
)
def test_the_last_way_that_led_there(looks: list[tuple[float, str, str]], last: set[str]) -> None:
    assert story(*looks).last_direct == last


def test_what_a_node_tells_of_it() -> None:
    told = path(1, "beta", "10", "01").told()
    assert (told.cluster, told.path) == ("beta", DIRECT)
    assert (told.nodes_up, told.nodes, told.gateways_up, told.gateways) == (1, 2, 1, 2)
    assert told.reason == "1 of 2 nodes' pods answer directly, 1 of 2 gateways answer"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (path(1, "beta", "0", "1"), "no node's pods answer directly, 1 of 1 gateways answer"),
        (
            path(1, "beta", "1", "1", "Disabled"),
            "direct routes are disabled, 1 of 1 gateways answer",
        ),
        (path(1, "beta", "0", "0"), "neither gateways (0 of 1) nor nodes' pods (0 of 1) answer"),
        (path(1, "beta"), "it has neither gateways nor nodes that could be asked"),
        (
            story((0, "1", "1"), (1, "0", "1"), (2, "1", "1")),
            "1 of 1 nodes' pods answer again, but not for long yet; 1 of 1 gateways answer",
        ),
    ],
)
def test_reasons(found: PeerPath, reason: str) -> None:
    assert found.reason == reason


def test_a_lame_gateway_is_the_reason() -> None:
    spec = site(1)
    found = choose_path("beta", spec, state(spec), None, 0.0, "no certificate")
    assert found.reason == "this node's gateway cannot ask: no certificate"


@pytest.mark.parametrize(
    ("before", "spec", "kept"),
    [
        pytest.param(path(1, "beta", "1", "1"), site(1), True, id="direct"),
        pytest.param(path(1, "beta", "0", "1"), site(1), False, id="a gateway is reached by ours"),
        pytest.param(path(1, "beta", "0", "0"), site(1), False, id="nothing to keep"),
        pytest.param(None, site(1), False, id="never seen"),
        pytest.param(
            path(1, "beta", "1", "1"), site(1, routes="Disabled"), False, id="disabled since"
        ),
        pytest.param(path(1, "beta", "1", "1"), site(1, nodes=2), False, id="other nodes since"),
    ],
)
def test_a_way_that_nobody_looks_at_any_more(
    before: PeerPath | None, spec: ClusterNetworkSpec, kept: bool
) -> None:
    found = held_path(before, spec, "haproxy ended")
    assert (found is not None) == kept
    if found is not None:
        assert found.same_way(before)
        assert found.reason == "as it was last seen, this node's gateway cannot ask: haproxy ended"


def test_only_what_moves_slots_is_another_way() -> None:
    first, later = story((0, "1", "11")), story((0, "1", "11"), (1, "1", "01"))
    assert later.gateways_up == 1
    assert later.same_way(first)
    assert not story((0, "1", "00")).same_way(first)
    assert not first.same_way(None)


@pytest.mark.parametrize(
    ("ip", "node"),
    [
        ("10.1.0.255", "a"),
        ("10.1.1.0", "b"),
        ("10.1.2.1", ""),
        ("10.1.1.130", "c"),
        ("fd00::5", "a"),
        ("fd01::5", ""),
    ],
)
def test_whose_range(ip: str, node: str) -> None:
    ranges = Ranges.of(
        (
            NodeRange("a", ("10.1.0.0/24", "fd00::/64"), "10.1.0.1"),
            NodeRange("b", ("10.1.1.0/24", "nonsense"), "10.1.1.1"),
            NodeRange("c", ("10.1.1.128/25",), "10.1.1.129"),
        )
    )
    assert ranges.node(ip) == node
