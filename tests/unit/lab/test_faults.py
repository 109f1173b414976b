"""Faults as values: every command may be repeated, cuts are directed pairs, and their rules name cables and taps."""

from pathlib import Path

import pytest

from federation.lab import faults, inject
from federation.lab.faults import FaultError, Faults, Mark, Slow
from federation.lab.plan import LabSpec, make_plan
from federation.lab.wan import DelayLine
from machinery.kit.clock import FakeClock

PLAN = make_plan(LabSpec(directory="/x/.lab", clusters=("alpha", "beta", "gamma")), 0)
A, B, C, F = "zone-a", "zone-b", "zone-c", "federation"


def test_places_are_the_federation_and_the_zones_with_their_hosts() -> None:
    found = {place: [h.name for h in hosts] for place, hosts in faults.places(PLAN).items()}
    assert found == {
        F: ["federation-1"],
        A: ["alpha-control", "alpha-node-1"],
        B: ["beta-control", "beta-node-1"],
        C: ["gamma-control", "gamma-node-1"],
    }


def test_servers_in_zones_die_with_them_and_their_address_does_not() -> None:
    two = LabSpec("/x/.lab", servers=2, server_zones=(A, C), database_url="postgresql:///x")
    found = {
        place: [h.name for h in hosts] for place, hosts in faults.places(make_plan(two, 0)).items()
    }
    assert found[F] == ["front"]
    assert found[A] == ["alpha-control", "alpha-node-1", "federation-1"]
    assert found[C] == ["gamma-control", "gamma-node-1", "federation-2"]


def test_where_the_only_server_stands_in_a_zone_there_is_no_place_of_its_own() -> None:
    plan = make_plan(LabSpec("/x/.lab", server_zones=(B,)), 0)
    assert list(faults.places(plan)) == [A, B, C]
    with pytest.raises(FaultError, match="no zone 'federation'"):
        faults.place_of(plan, F)


@pytest.mark.parametrize(("word", "place"), [(B, B), ("beta", B), (F, F)])
def test_a_place_is_found_by_its_name_or_its_clusters(word: str, place: str) -> None:
    assert faults.place_of(PLAN, word) == place


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(FaultError, match="no zone 'zone-x'; there is federation, zone-a"):
        faults.place_of(PLAN, "zone-x")


CUTS = [
    pytest.param("", False, {(A, F), (F, A), (A, B), (B, A), (A, C), (C, A)}, id="from all"),
    pytest.param("", True, {(A, F), (A, B), (A, C)}, id="heard by nobody"),
    pytest.param(B, False, {(A, B), (B, A)}, id="from one"),
    pytest.param(F, True, {(A, F)}, id="one direction"),
]


@pytest.mark.parametrize(("other", "one_way", "pairs"), CUTS)
def test_cut_and_heal(other: str, one_way: bool, pairs: set[tuple[str, str]]) -> None:
    once = faults.cut(PLAN, Faults(), A, other, one_way=one_way)
    assert set(once.cuts) == pairs
    assert faults.cut(PLAN, once, A, other, one_way=one_way) == once
    healed = faults.heal(PLAN, once, A, other, one_way=one_way)
    assert healed == Faults()
    assert faults.heal(PLAN, healed, A, other, one_way=one_way) == healed


def test_healing_one_pair_leaves_the_others() -> None:
    whole = faults.cut(PLAN, Faults(), A)
    assert set(faults.heal(PLAN, whole, A, B).cuts) == {(A, F), (F, A), (A, C), (C, A)}
    assert set(faults.heal(PLAN, whole, A, B, one_way=True).cuts) == set(whole.cuts) - {(A, B)}
    assert faults.heal(PLAN, whole, B).cuts == faults.heal(PLAN, whole, A, B).cuts


def test_heal_ends_slowness_too_but_not_when_only_a_pair_is_healed() -> None:
    slow = faults.slow(Faults(), A, Slow(40, 1))
    assert faults.heal(PLAN, slow, A, B) == slow
    assert faults.heal(PLAN, slow, A) == Faults()
    assert faults.slow(slow, A, Slow()) == Faults()


def test_kill_and_revive_may_be_repeated() -> None:
    off = faults.kill(faults.kill(Faults(), B), A)
    assert off.off == (A, B)
    assert faults.kill(off, B) == off
    assert faults.revive(faults.revive(off, B), B).off == (A,)


REFUSED = [
    pytest.param(lambda: faults.cut(PLAN, Faults(), A, A), "cut from itself", id="itself"),
    pytest.param(lambda: faults.slow(Faults(), A, Slow(-1)), "--latency: 0 to 5000", id="early"),
    pytest.param(lambda: faults.slow(Faults(), A, Slow(0, 100)), "less than 100", id="all lost"),
]


@pytest.mark.parametrize(("command", "said"), REFUSED)
def test_refused(command: object, said: str) -> None:
    assert callable(command)
    with pytest.raises(FaultError, match=said):
        command()


def test_described_in_words() -> None:
    found = faults.kill(faults.cut(PLAN, Faults(), A, B), C)
    found = faults.slow(faults.cut(PLAN, found, F, A, one_way=True), B, Slow(40, 2.5))
    assert faults.describe(found) == [
        "zone-c is off",
        "nothing from federation reaches zone-a",
        "zone-a and zone-b are cut off from each other",
        "zone-b is slow: 40 ms later, 2.5 % lost, each way",
    ]


def test_the_rules_of_a_cut_name_cables_and_outer_taps_in_its_direction() -> None:
    text = faults.ruleset(PLAN, faults.cut(PLAN, Faults(), F, A, one_way=True))
    assert text.splitlines()[:2] == [
        "add table bridge ubernetes",
        "delete table bridge ubernetes",
    ]
    pairs = [(one, other) for one in ("h0", "z0out") for other in ("h1", "h2", "z1out")]
    told = ", ".join(f'"{one}" . "{other}"' for one, other in pairs)
    assert f"add element bridge ubernetes cut {{ {told} }}" in text.splitlines()
    assert "add rule bridge ubernetes forward iifname . oifname @cut drop" in text


def test_loss_counts_what_crosses_the_zones_border_only() -> None:
    text = faults.ruleset(PLAN, faults.slow(Faults(), A, Slow(0, 2.5)))
    ours = '{ "h1", "h2", "z1out", "z1in" }'
    for here, there in (("iifname", "oifname"), ("oifname", "iifname")):
        assert f"{here} {ours} {there} != {ours} numgen random mod 10000 < 250 drop" in text


def test_without_faults_no_rule_is_left() -> None:
    assert faults.ruleset(PLAN, faults.kill(Faults(), A)).splitlines() == [
        "add table bridge ubernetes",
        "delete table bridge ubernetes",
    ]


def test_faults_come_back_as_they_were(tmp_path: Path) -> None:
    assert faults.load(str(tmp_path)) == Faults()
    found = faults.slow(faults.cut(PLAN, faults.kill(Faults(), B), A), C, Slow(1.5, 2))
    faults.save(str(tmp_path), found)
    assert faults.load(str(tmp_path)) == found
    faults.forget(str(tmp_path))
    faults.forget(str(tmp_path))
    assert faults.load(str(tmp_path)) == Faults()


def test_the_history_is_read_by_time(tmp_path: Path) -> None:
    assert faults.history(str(tmp_path), 0, 10) == []
    for t in (1.0, 2.0, 3.0):
        faults.record(str(tmp_path), Mark(t, f"kill {t}"))
    assert faults.history(str(tmp_path), 2, 9) == [Mark(2.0, "kill 2.0"), Mark(3.0, "kill 3.0")]


def test_a_lab_without_root_has_no_lines() -> None:
    plan = make_plan(LabSpec("/x/.lab", runtime="hollow", rooted=False), 0)
    with pytest.raises(FaultError, match="only freeze and thaw"):
        inject.Injector(plan, FakeClock()).kill(A)


def test_no_lab_no_faults(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="no lab runs here"):
        inject.injector(str(tmp_path), FakeClock())


def test_the_relay_runs_in_the_wans_namespace_with_both_bridges() -> None:
    spec = inject.line_spec(PLAN, B, Slow(40))
    assert spec.name == "line-zone-b"
    assert "--net=/x/.lab/ns/wan.net" in spec.argv
    words = " ".join(spec.argv)
    assert "--latency-ms 40 --inside z2in z2 --outside z2out wan" in words


def test_a_delay_line_keeps_frames_in_order_until_they_are_due() -> None:
    line = DelayLine(0.5)
    assert line.wait_s(0.0) is None
    line.push(1.0, b"a")
    line.push(1.2, b"b")
    assert line.wait_s(1.1) == pytest.approx(0.4)
    assert line.due(1.4) == []
    assert line.due(1.5) == [b"a"]
    assert line.wait_s(9.0) == 0.0
    assert line.due(9.0) == [b"b"]


def test_a_delay_line_is_bounded() -> None:
    line = DelayLine(1.0, limit_bytes=4)
    for frame in (b"abc", b"de", b"f"):
        line.push(0.0, frame)
    assert line.dropped == 1
    assert line.due(1.0) == [b"abc", b"f"]
    line.push(2.0, b"wxyz")
    assert line.dropped == 1
