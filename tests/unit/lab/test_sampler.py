"""What the acceptance tests conclude from samples: a dip, two copies, a side that did not answer."""

import json
from typing import Any

from tests.support.sampler import gaps, parse
from tests.support.survival import dips, in_zone, most, unseen

WEB_A, WEB_B = ("id-1", "web-x-a", "web", 11), ("id-2", "web-x-b", "web", 12)
ONE_A, ONE_B = ("id-3", "one-x-a", "one", 13), ("id-4", "one-x-b", "one", 14)


def line(t: float, zones: dict[str, Any], ready: dict[str, list[str]] | None) -> bytes:
    told = {"ready": ready, "reported": {}, "answered": {"alpha": True}}
    return json.dumps({"t": t, "zones": zones} | told).encode()


BOTH = {"web": ["web-x-a.alpha", "web-x-b.beta"]}
SAMPLES = [
    parse(line(1.0, {"alpha": [WEB_A, ONE_A], "beta": [WEB_B]}, BOTH)),
    parse(line(1.2, {"alpha": [WEB_A, ONE_A], "beta": [WEB_B, ONE_B]}, None)),
    parse(line(1.4, {"alpha": None, "beta": [WEB_B]}, BOTH)),
    parse(line(2.0, {"alpha": [], "beta": [WEB_B]}, BOTH)),
]


def test_what_is_ready_serves_only_where_it_runs() -> None:
    assert [s.serving("web") for s in SAMPLES] == [
        {"web-x-a.alpha", "web-x-b.beta"},
        None,
        {"web-x-b.beta"},
        {"web-x-b.beta"},
    ]
    assert dips(SAMPLES[:2], "web", 2) == []
    assert [told[:4] for told in dips(SAMPLES, "web", 2)] == ["1.40", "2.00"]


def test_two_copies_are_seen_without_the_api() -> None:
    assert most(SAMPLES[:1], "one") == 1
    assert most(SAMPLES, "one") == 2
    assert SAMPLES[1].spread("one") == {"alpha": 1, "beta": 1}


def test_silence_is_counted() -> None:
    assert unseen(SAMPLES) == 2
    assert gaps(SAMPLES) == 2.0 - 1.4
    assert in_zone(SAMPLES[0], "alpha", "web") == {("id-1", 11)}
