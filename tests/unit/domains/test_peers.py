"""Peers' words as evidence: the truth table of silence and reach, cut links that are remembered, and zones with them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.domains.clock import LOOK_LATE_S, FailureClock, State, judge
from federation.domains.peers import Cut, counts_in_s, follow, joined, words
from federation.domains.settings import Settings, effective
from federation.domains.verdict import Evidence, Finding, Verdict, judge_fleet, next_look
from machinery.api.fleet.multicluster import ClusterNetwork, ClusterNetworkStatus, Peer
from machinery.api.fleet.resilience import ClockOverrides, FederationConfig, FederationConfigSpec

CLOCK = FailureClock()
NAMES = "abcdef"
H, S, L, D = Finding.HEALTHY, Finding.SUSPECT, Finding.LINK_CUT, Finding.DEAD
C, G, U = Finding.CUT_OFF, Finding.DEGRADED, Finding.UNKNOWN


def fleet(
    silent: tuple[float | None, ...], said: Mapping[str, str] | None = None
) -> list[Evidence]:
    """Members a, b, c ... in zones of their own. `said`: `bc` -> what b says of c: D(irect), G(ateway), U(nreachable)."""
    paths = {"D": "Direct", "G": "Gateway", "U": "Unreachable"}
    told: dict[str, dict[str, str]] = {}
    for pair, path in (said or {}).items():
        told.setdefault(pair[0], {})[pair[1]] = paths[path]
    return [
        Evidence(NAMES[i], (f"zone-{NAMES[i]}",), seconds, peers=told.get(NAMES[i], {}))
        for i, seconds in enumerate(silent)
    ]


@pytest.mark.parametrize(
    ("silent", "said", "findings"),
    [
        # heard
        ((0, 0, 0), {"ba": "D", "ca": "G"}, (H, H, H)),
        ((0, 0, 0), {"ba": "U", "ca": "G"}, (H, H, H)),
        ((0, 0, 0), {"ba": "U", "ca": "U"}, (G, H, H)),
        ((0, 0, 0), {"ba": "U"}, (G, H, H)),
        ((0, 0, 0), {"ba": "U", "ca": "U", "ab": "U", "ac": "U", "bc": "D", "cb": "D"}, (G, H, H)),
        ((0, 0), {"ba": "U", "ab": "U"}, (G, G)),
        # silent, not long enough: what peers say does not matter yet
        ((7, 0, 0), {"ba": "D"}, (S, H, H)),
        ((7, 0, 0), {"ba": "U", "ca": "U"}, (S, H, H)),
        # silent long enough
        ((10, 0, 0), {"ba": "D", "ca": "G"}, (L, H, H)),
        ((10, 0, 0), {"ba": "G"}, (L, H, H)),
        ((10, 0, 0), {"ba": "U", "ca": "G"}, (L, H, H)),
        ((10, 0, 0), {"ba": "U", "ca": "U"}, (D, H, H)),
        ((10, 0, 0), {"bc": "D", "cb": "D"}, (D, H, H)),
        ((86400, 0, 0), {"ba": "D"}, (L, H, H)),
        ((10, 0), {"ba": "D"}, (L, H)),
        ((10, 0), {"ba": "U"}, (D, H)),
        # one way: it does not reach them, they reach it; and the other way round
        ((10, 0, 0), {"ab": "U", "ac": "U", "ba": "D", "ca": "D"}, (L, H, H)),
        ((10, 0, 0), {"ab": "D", "ac": "D", "ba": "U", "ca": "U"}, (D, H, H)),
        # a word of a member that is silent itself counts nothing
        ((10, 7, 0), {"ba": "D", "ca": "U"}, (C, S, H)),
        ((60, 7, 0, 0), {"ba": "D", "ca": "U"}, (D, S, H, H)),
        ((3600, 10, 0), {"ba": "D", "ab": "D", "ca": "U", "cb": "U"}, (D, D, H)),
        # many at once: each that is reached by one who is heard is no loss; the rest is the server's own doubt
        ((10, 10, 0), {"ca": "D", "cb": "D"}, (L, L, H)),
        ((10, 10, 0), {"ca": "U", "cb": "U"}, (C, C, H)),
        ((10, 10, 0), {"ab": "D", "ba": "D"}, (C, C, H)),
        ((10, 10, 0), {"ca": "D", "cb": "U"}, (L, C, H)),
        ((10, 10, 10), {"ab": "D", "ba": "D", "ca": "D"}, (C, C, C)),
        ((12, 12, 0, 0, 0), {"ca": "D", "cb": "U", "db": "U"}, (L, D, H, H, H)),
        ((12, 12, 0, 0, 0), {"ca": "U", "cb": "U", "da": "U"}, (D, D, H, H, H)),
        ((None, 0, 0), {"ba": "D"}, (U, H, H)),
    ],
)
def test_the_truth_table(
    silent: tuple[float | None, ...], said: dict[str, str], findings: tuple[Finding, ...]
) -> None:
    verdict = judge_fleet(fleet(silent, said), CLOCK)
    assert tuple(v.finding for v in verdict.clusters.values()) == findings
    for one in (*verdict.clusters.values(), *verdict.zones.values(), verdict.fleet):
        assert one.message.endswith(".")


def test_the_sentences() -> None:
    said = judge_fleet(fleet((12, 0, 0), {"ba": "D", "ca": "G"}), CLOCK).clusters["a"].message
    assert said == (
        "No heartbeat for more than 10 s, but b and c reach it: only its link is cut; "
        "nothing that runs there is moved."
    )
    said = judge_fleet(fleet((12, 0, 0), {"ba": "U", "ca": "U"}), CLOCK).clusters["a"].message
    assert said == "No heartbeat for more than 10 s, and b and c do not reach it."
    said = judge_fleet(fleet((0, 0, 0), {"ba": "U"}), CLOCK).clusters["a"].message
    assert said == (
        "Heartbeats arrive, but b does not reach it: its Services are cut off from theirs; nothing is moved."
    )


def cut(silent_s: float, lost_s: float | None = None) -> Evidence:
    """A member whose link was found to be cut."""
    return Evidence("a", ("zone-a",), silent_s, was_silent=True, cut=True, lost_s=lost_s)


UNHEARD = {"silent_s": 600.0}
PENDING = {"peers": None}


@pytest.mark.parametrize(
    ("own", "others", "finding"),
    [
        (cut(600), ({"peers": {"a": "Direct"}}, {}), L),
        # nobody can say: a witness that is silent, or back but not settled, is no loss
        (cut(600), (UNHEARD, {}), L),
        (cut(600), (PENDING, {}), L),
        (cut(600), ({"silent_s": 6.0, "peers": {"a": "Direct"}}, {}), L),
        # everybody could say, and nobody has anything to say: as without words
        (cut(600), ({}, {}), D),
        # lost by those who are heard: its silence counts from then
        (cut(600, 0.0), ({"peers": {"a": "Unreachable"}}, {}), S),
        (cut(600, 9.9), ({"peers": {"a": "Unreachable"}}, {}), S),
        (cut(600, 10.0), ({"peers": {"a": "Unreachable"}}, {}), D),
        (cut(600, 10.0), ({"peers": {"a": "Unreachable"}}, {"peers": {"a": "Gateway"}}), L),
        # lost together with another one: the server doubts itself though their links were cut at different times
        (cut(600, 10.0), ({"silent_s": 11.0}, {"peers": {"a": "Unreachable"}}), C),
    ],
)
def test_a_cut_link_is_remembered(
    own: Evidence, others: tuple[dict[str, object], ...], finding: Finding
) -> None:
    rest = [
        replace(Evidence(NAMES[i + 1], silent_s=0.0), **changes)  # type: ignore[arg-type]
        for i, changes in enumerate(others)
    ]
    assert judge_fleet([own, *rest], CLOCK).clusters["a"].finding is finding


def test_whoever_hears_nobody_is_cut_off_itself() -> None:
    """The last member falls silent long after the others' links were cut: they live, so this one may as well."""
    last = Evidence("c", silent_s=12.0)
    held = [cut(600), replace(cut(300), cluster="b"), last]
    verdict = judge_fleet(held, CLOCK)
    assert [v.finding for v in verdict.clusters.values()] == [L, L, C]
    assert verdict.fleet.finding is C


@pytest.mark.parametrize(
    ("silent_s", "said", "finding"),
    [(299, "D", L), (300, "D", D), (300, "U", D), (12, "U", D)],
)
def test_the_operator_may_give_up_a_cluster_whose_link_stays_cut(
    silent_s: float, said: str, finding: Finding
) -> None:
    clock = replace(CLOCK, link_cut_s=300.0)
    held = fleet((silent_s, 0, 0), {"ba": said})
    assert judge_fleet(held, clock).clusters["a"].finding is finding
    wait = next_look(held[:1], clock)
    assert (wait is None) == (silent_s >= 300)


@pytest.mark.parametrize(
    ("places", "silent", "said", "zone", "finding"),
    [
        ("xxyyy", (12, 12, 0, 0, 0), {"ca": "D", "cb": "D"}, "x", L),
        ("xxyyy", (12, 12, 0, 0, 0), {"ca": "D", "cb": "U"}, "x", G),
        ("xxyyy", (12, 12, 0, 0, 0), {"ca": "U", "cb": "U"}, "x", D),
        ("xxyyy", (12, 0, 0, 0, 0), {"ca": "D"}, "x", G),
        ("xxyyy", (0, 0, 0, 0, 0), {"ca": "U"}, "x", G),
        ("xxyyy", (12, 0, 0, 0, 0), {"ca": "D"}, "y", H),
        ("xxyyyz", (12, 12, 12, 0, 0, 0), {"da": "D", "db": "D", "dc": "D"}, "x", L),
        ("xxyyzz", (12, 12, 0, 0, 0, 0), {"ca": "U", "cb": "U", "db": "U"}, "x", D),
        ("xxyyzz", (12, 7, 0, 0, 0, 0), {"ca": "D"}, "x", S),
    ],
)
def test_zones_of_several_clusters(
    places: str, silent: tuple[float, ...], said: dict[str, str], zone: str, finding: Finding
) -> None:
    held = [replace(e, zones=(places[i],)) for i, e in enumerate(fleet(silent, said))]
    assert judge_fleet(held, CLOCK).zones[zone].finding is finding


def test_the_fleet_names_what_is_cut() -> None:
    verdict = judge_fleet(fleet((12, 0, 0), {"ba": "D"}), CLOCK)
    assert verdict.fleet == Verdict(G, "Only the link is cut: a.")
    assert verdict.words["a"] == {"b": "Direct"}


# ------------------------------------------------------------------------------------------------- reports
def network(*peers: Peer) -> ClusterNetwork:
    return ClusterNetwork(status=ClusterNetworkStatus(peers))


def test_a_report_says_nothing_where_nothing_is_probed() -> None:
    report = network(
        Peer("a", "Direct", gateways_up=1, gateways=1, nodes_up=2, nodes=2),
        Peer("b", "Unreachable", gateways=2),
        Peer("c", "Unreachable"),
    )
    assert words(report) == {"a": "Direct", "b": "Unreachable"}
    assert words(None) == {}


@pytest.mark.parametrize(
    ("heard_for_s", "told_since", "left"),
    [(0, False, 6), (4, False, 2), (9, False, 0), (0, True, 0)],
)
def test_an_old_report_of_a_member_that_was_away_waits(
    heard_for_s: float, told_since: bool, left: float
) -> None:
    assert counts_in_s(heard_for_s, told_since, 6.0) == left


@pytest.mark.parametrize(
    ("held", "reached", "lost", "after"),
    [
        (Cut(0), "a", "", Cut(0)),
        (Cut(0), "", "", Cut(0)),
        (Cut(0), "", "a", Cut(0, 100)),
        (Cut(95), "", "a", None),  # the words were late: it was dead from the start
        (Cut(0, 60), "", "a", Cut(0, 60)),
        (Cut(0, 60), "a", "", Cut(0)),
        (Cut(0, 60), "", "", Cut(0)),
    ],
)
def test_cuts_are_followed(held: Cut, reached: str, lost: str, after: Cut | None) -> None:
    assert follow({"a": held}, reached, lost, 100.0, 10.0) == (
        {} if after is None else {"a": after}
    )


def test_names_are_joined() -> None:
    assert [joined(n) for n in ("", "a", "ba", "cab")] == ["", "a", "a and b", "a, b and c"]


# ------------------------------------------------------------------------------------------------- the condition
@pytest.mark.parametrize(
    ("silent_s", "said", "state"),
    [
        (0.0, "cut", State.READY),
        (7.0, "cut", State.SUSPECT),
        (10.0, "cut", State.LINK_CUT),
        (10.0, "", State.UNREACHABLE),
        (None, "cut", State.NEVER_SEEN),
    ],
)
def test_a_cut_link_is_the_reason_of_not_ready(
    silent_s: float | None, said: str, state: State
) -> None:
    found = judge(silent_s, CLOCK, said)
    assert found.state is state
    assert (found.status == "Unknown") == (state not in (State.READY, State.SUSPECT))


@pytest.mark.parametrize(("told", "limit"), [(None, 0), (0, 0), (3, 10), (300, 300)])
def test_the_limit_is_the_operators(told: float | None, limit: float) -> None:
    spec = FederationConfigSpec(clock=ClockOverrides(link_cut_seconds=told))
    assert effective(Settings(), FederationConfig(spec=spec)).clock.link_cut_s == limit


# ------------------------------------------------------------------------------------------------- properties
SILENCE = st.one_of(st.none(), st.floats(0, 5), st.floats(5, 13), st.floats(13, 2000))
MEMBER = st.tuples(
    SILENCE,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.floats(0, 100)),
    st.one_of(
        st.none(),
        st.dictionaries(
            st.sampled_from(NAMES), st.sampled_from(["Direct", "Gateway", "Unreachable"])
        ),
    ),
)
FLEETS = st.lists(MEMBER, min_size=1, max_size=6)


def made(
    drawn: list[tuple[float | None, bool, bool, bool, float | None, dict[str, str] | None]],
) -> list[Evidence]:
    return [
        Evidence(
            NAMES[i],
            (f"z{i // 2}",),
            silent,
            heard,
            was_silent,
            peers=peers,
            cut=cut,
            lost_s=lost_s if cut else None,
        )
        for i, (silent, heard, was_silent, cut, lost_s, peers) in enumerate(drawn)
    ]


@given(FLEETS)
def test_nobody_that_a_heard_member_reaches_is_dead(drawn: list[Any]) -> None:
    fleet_ = made(drawn)
    verdict = judge_fleet(fleet_, CLOCK)
    for name, said in verdict.words.items():
        if set(said.values()) & {"Direct", "Gateway"}:
            assert verdict.clusters[name].finding is not D


@given(FLEETS)
def test_without_words_verdicts_are_those_of_silence_alone(drawn: list[Any]) -> None:
    """Nobody says anything and no link was cut: no verdict names peers."""
    fleet_ = [replace(e, peers={}, cut=False, lost_s=None) for e in made(drawn)]
    found = {v.finding for v in judge_fleet(fleet_, CLOCK).clusters.values()}
    assert not found & {L, G}


@given(FLEETS, st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_one_more_word_of_reach_kills_nobody_else(drawn: list[Any], who: str, whom: str) -> None:
    before = made(drawn)
    after = [
        replace(e, peers={**(e.peers or {}), whom: "Direct"}) if e.cluster == who else e
        for e in before
        if e.peers is not None or e.cluster != who
    ]
    if len(after) != len(before):
        return
    was, now = judge_fleet(before, CLOCK).clusters, judge_fleet(after, CLOCK).clusters
    assert all(was[n].finding is D for n, v in now.items() if v.finding is D)


@given(FLEETS)
def test_every_sentence_stands_by_itself(drawn: list[Any]) -> None:
    verdict = judge_fleet(made(drawn), CLOCK)
    for said in (*verdict.clusters.values(), *verdict.zones.values(), verdict.fleet):
        assert said.message.endswith(".")
        assert "  " not in said.message


@given(FLEETS)
def test_no_verdict_changes_between_two_looks(drawn: list[Any]) -> None:
    fleet_ = made(drawn)
    wait = next_look(fleet_, CLOCK)
    if wait is None or wait <= 3 * LOOK_LATE_S:
        return
    later = wait - 2 * LOOK_LATE_S
    aged = [
        replace(
            e,
            silent_s=None if e.silent_s is None else e.silent_s + later,
            lost_s=None if e.lost_s is None else e.lost_s + later,
        )
        for e in fleet_
    ]
    was, now = judge_fleet(fleet_, CLOCK).clusters, judge_fleet(aged, CLOCK).clusters
    assert {n: v.finding for n, v in was.items()} == {n: v.finding for n, v in now.items()}
