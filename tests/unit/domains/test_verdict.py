"""Evidence to verdicts: the truth table of clusters, zones and the server itself."""

from dataclasses import replace

import pytest

from federation.domains.clock import LOOK_LATE_S, FailureClock
from federation.domains.settings import Settings, effective
from federation.domains.verdict import Evidence, Finding, judge_fleet, next_look, patience_s
from machinery.api.fleet.resilience import (
    ClockOverrides,
    Failback,
    FederationConfig,
    FederationConfigSpec,
)

CLOCK = FailureClock()
HEALTHY, SUSPECT, DEAD = Finding.HEALTHY, Finding.SUSPECT, Finding.DEAD
CUT_OFF, UNKNOWN, DEGRADED = Finding.CUT_OFF, Finding.UNKNOWN, Finding.DEGRADED


def fleet(*silent: float | None, zones: tuple[str, ...] = ()) -> list[Evidence]:
    """Members a, b, c …, each in its own zone unless told."""
    names = "abcdefghij"
    places = zones or tuple(f"zone-{names[i]}" for i in range(len(silent)))
    return [Evidence(names[i], (places[i],), seconds) for i, seconds in enumerate(silent)]


@pytest.mark.parametrize(
    ("silent", "findings"),
    [
        ((0.0, 1.9, 5.9), (HEALTHY, HEALTHY, HEALTHY)),
        ((4.0, 4.0, 4.0), (HEALTHY, HEALTHY, HEALTHY)),
        ((6.0, 0.0, 0.0), (SUSPECT, HEALTHY, HEALTHY)),
        ((9.99, 0.0, 0.0), (SUSPECT, HEALTHY, HEALTHY)),
        ((10.0, 0.0, 0.0), (DEAD, HEALTHY, HEALTHY)),
        ((3600.0, 0.0, 0.0), (DEAD, HEALTHY, HEALTHY)),
        ((None, 0.0, 0.0), (UNKNOWN, HEALTHY, HEALTHY)),
        ((10.0,), (DEAD,)),
        ((10.0, 0.0), (DEAD, HEALTHY)),
        ((10.0, 10.0), (CUT_OFF, CUT_OFF)),
        ((10.0, 9.0), (CUT_OFF, SUSPECT)),
        ((10.0, 10.0, 0.0), (CUT_OFF, CUT_OFF, HEALTHY)),
        ((10.0, 8.1, 9.9), (CUT_OFF, SUSPECT, SUSPECT)),
        ((600.0, 600.0, 600.0), (CUT_OFF, CUT_OFF, CUT_OFF)),
        ((10.0, 10.0, 0.0, 0.0, 0.0), (DEAD, DEAD, HEALTHY, HEALTHY, HEALTHY)),
        ((11.0, 10.0, 0.0, 0.0), (CUT_OFF, CUT_OFF, HEALTHY, HEALTHY)),
        ((3600.0, 10.0, 0.0), (DEAD, DEAD, HEALTHY)),
        ((3600.0, 10.0, 10.0), (DEAD, CUT_OFF, CUT_OFF)),
        ((10.0, 6.5, 0.0, 0.0, 0.0), (SUSPECT, SUSPECT, HEALTHY, HEALTHY, HEALTHY)),
        ((12.0, 8.5, 0.0, 0.0, 0.0), (DEAD, SUSPECT, HEALTHY, HEALTHY, HEALTHY)),
        ((None, 10.0, 10.0), (UNKNOWN, CUT_OFF, CUT_OFF)),
    ],
    ids=lambda value: "-".join(str(getattr(v, "value", v)) for v in value),
)
def test_clusters(silent: tuple[float | None, ...], findings: tuple[Finding, ...]) -> None:
    verdict = judge_fleet(fleet(*silent), CLOCK)
    assert tuple(v.finding for v in verdict.clusters.values()) == findings
    for said in (*verdict.clusters.values(), *verdict.zones.values(), verdict.fleet):
        assert said.message.endswith(".")


@pytest.mark.parametrize(
    ("silent", "zones", "zone", "finding"),
    [
        ((12.0, 12.0, 0, 0, 0), ("x", "x", "y", "y", "y"), "x", DEAD),
        ((12.0, 11.0, 0, 0, 0), ("x", "x", "y", "y", "y"), "x", SUSPECT),
        ((12.0, 0.0, 0, 0, 0), ("x", "x", "y", "y", "y"), "x", DEGRADED),
        ((12.0, 12.0, 0, 0, 0), ("x", "x", "y", "y", "y"), "y", HEALTHY),
        ((7.0, 0.0, 0, 0, 0), ("x", "x", "y", "y", "y"), "x", SUSPECT),
        ((None, 0.0), ("x", "y"), "x", UNKNOWN),
        ((10.0, 10.0), ("x", "y"), "x", CUT_OFF),
        ((10.0, 0.0, 0.0), ("x", "y", "z"), "x", SUSPECT),
        ((12.0, 0.0, 0.0), ("x", "y", "z"), "x", DEAD),
    ],
)
def test_zones(
    silent: tuple[float | None, ...], zones: tuple[str, ...], zone: str, finding: Finding
) -> None:
    assert judge_fleet(fleet(*silent, zones=zones), CLOCK).zones[zone].finding is finding


def test_a_cluster_that_spans_zones_counts_in_each() -> None:
    both = [Evidence("a", ("x", "y"), 60.0), Evidence("b", ("y",), 0.0), Evidence("c", ("z",), 0.0)]
    zones = judge_fleet(both, CLOCK).zones
    assert (zones["x"].finding, zones["y"].finding) == (DEAD, DEGRADED)


@pytest.mark.parametrize(
    ("silent", "finding"),
    [
        ((0.0, 0.0), HEALTHY),
        ((10.0, 0.0, 0.0), DEGRADED),
        ((10.0, 10.0, 0.0), CUT_OFF),
        ((), HEALTHY),
    ],
)
def test_the_fleet(silent: tuple[float, ...], finding: Finding) -> None:
    assert judge_fleet(fleet(*silent), CLOCK).fleet.finding is finding


@pytest.mark.parametrize(
    ("verdicts", "patience"), [(0, 10), (2, 10), (3, 20), (4, 40), (5, 80), (50, 80)]
)
def test_a_member_that_flaps_is_given_more_time(verdicts: int, patience: float) -> None:
    own = replace(fleet(15.0)[0], verdicts=verdicts)
    assert patience_s(own, CLOCK) == patience
    others = fleet(0.0, 0.0, 0.0)[1:]
    finding = judge_fleet([own, *others], CLOCK).clusters["a"].finding
    assert finding is (DEAD if patience <= 15 else SUSPECT)


@pytest.mark.parametrize(
    ("heard", "was_silent", "finding"),
    [(True, True, HEALTHY), (False, False, HEALTHY), (False, True, SUSPECT)],
)
def test_a_servers_own_absence_brings_nobody_back(
    heard: bool, was_silent: bool, finding: Finding
) -> None:
    own = Evidence("a", ("x",), 1.0, heard, was_silent)
    assert judge_fleet([own, *fleet(0.0, 0.0, 0.0)[1:]], CLOCK).clusters["a"].finding is finding


@pytest.mark.parametrize(
    ("silent", "look"),
    [
        ((0.0, 1.0), 5.0),
        ((6.0, 0.0), 4.0),
        ((10.0, 0.0), 2.0),
        ((12.0, 3.0), 3.0),
        ((60.0,), None),
        ((None,), None),
    ],
)
def test_the_next_look(silent: tuple[float | None, ...], look: float | None) -> None:
    wait = next_look(fleet(*silent), CLOCK)
    assert wait == (None if look is None else pytest.approx(look + LOOK_LATE_S))


@pytest.mark.parametrize("hundredths", range(0, 2000, 37))
def test_looking_at_the_told_times_misses_no_change(hundredths: int) -> None:
    """Between two looks no verdict changes by silence alone."""
    start = fleet(hundredths / 100, 0.3, 5.2, 0.0, 0.0)
    wait = next_look(start, CLOCK)
    assert wait is not None
    before = judge_fleet(start, CLOCK).clusters
    almost = [replace(e, silent_s=(e.silent_s or 0.0) + wait - 2 * LOOK_LATE_S) for e in start]
    if wait > 2 * LOOK_LATE_S:
        assert judge_fleet(almost, CLOCK).clusters == before


def test_settings_of_the_operator_win_and_stay_in_order() -> None:
    spec = FederationConfigSpec(
        "DryRun",
        ClockOverrides(unreachable_seconds=4.0, suspect_seconds=5.0),
        Failback("Never", 7.0, 3),
    )
    found = effective(Settings(), FederationConfig(spec=spec))
    assert (found.clock.suspect_s, found.clock.unreachable_s, found.clock.zone_s) == (
        5.0,
        5.0,
        12.0,
    )
    assert (found.failover, found.failback, found.stabilization_s) == ("DryRun", False, 7.0)
    assert found.failback_per_minute == 3
    assert effective(Settings(), None) == Settings()
