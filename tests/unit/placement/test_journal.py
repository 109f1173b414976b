"""Decisions written down and decided again: the same values, the same hash, the same answer; what differs is told."""

import hashlib
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.unit.placement.questions import KINDS, divided, fleets, requests

from federation.placement import journal
from federation.placement.journal import (
    MOST,
    NO_RECORD,
    PLACE,
    PLACEMENTS,
    Asked,
    Digests,
    JournalError,
    Record,
)
from federation.placement.model import Candidate, Request
from federation.placement.plan import most, place
from machinery.api.core import Taint
from machinery.api.fleet.policy import (
    Placement,
)


def written(asked: Asked, record: Record) -> bytes:
    return journal.entry(asked, record, journal.changed(asked.fleet, record))


def stored(fleet: list[Candidate]) -> Record:
    """The fleet as it comes back from the store."""
    record, data = journal.recorded(fleet)
    return journal.read_record(record.name, journal.unpack(*journal.pack(data)))


@given(requests, fleets(), fleets(), st.sampled_from([PLACE, MOST]))
def test_what_was_written_is_decided_again(request, fleet, before, function):
    asked = Asked(function, request, fleet)
    record = stored(before)
    again = journal.read(function, written(asked, record), record)
    assert (again.values, list(again.fleet)) == (request, fleet)
    assert Digests().of(again) == Digests().of(asked)
    answer = PLACEMENTS[function].call(request, fleet)
    assert PLACEMENTS[function].call(again.values, again.fleet) == answer
    spec = {
        "result": answer.result,
        "message": answer.message,
        **answer.fields,
        "inputs": {"hash": Digests().of(asked)},
    }
    through = msgspec.json.decode(msgspec.json.encode(spec))
    assert journal.replay(through, again) == ""


@given(fleets(), fleets(), fleets())
def test_the_hash_is_that_of_the_inputs_however_they_are_written(fleet, before, after):
    request = Request("u", "apps/v1", "Deployment", Placement())
    digests = Digests()
    wanted = digests.of(Asked(PLACE, request, fleet))
    for base in (before, after, fleet):
        record = stored(base)
        again = journal.read(PLACE, written(Asked(PLACE, request, fleet), record), record)
        assert digests.of(again) == wanted
    if before != fleet:
        assert digests.of(Asked(PLACE, request, before)) != wanted


def member(name: str, **more: object) -> Candidate:
    return Candidate(name, zones=("z",), kinds=KINDS, free={"pods": 10}, **more)  # type: ignore[arg-type]


FLEET = [member(f"m{i:02}") for i in range(12)]
ASK = Request("u", "apps/v1", "Deployment", Placement(replica_scheduling=divided()), 6)


def test_only_what_differs_is_written():
    record = stored(FLEET)
    now = [
        *FLEET[:2],
        structs.replace(FLEET[2], free={"pods": 3}),
        structs.replace(FLEET[3], barred="no"),
    ]
    change = journal.changed(now, record)
    assert change["m02"] == {"free": {"pods": 3}}
    assert change["m03"] == {"barred": "no"}
    assert {name for name, one in change.items() if one is None} == {
        f"m{i:02}" for i in range(4, 12)
    }
    assert journal.changed(FLEET, record) == {}


@pytest.mark.parametrize(
    ("other", "due"),
    [
        ([], False),
        ([structs.replace(c, free={"pods": 1}) for c in FLEET[:6]], False),
        ([structs.replace(c, free={"pods": 1}) for c in FLEET[:7]], True),
        ([structs.replace(c, barred="by another workload") for c in FLEET], False),
        ([structs.replace(c, estimate=3) for c in FLEET], False),
        ([structs.replace(c, taints=(Taint(key="k", effect="NoSchedule"),)) for c in FLEET], False),
    ],
    ids=["same", "half", "most", "barred for one", "estimated for one", "tainted for one"],
)
def test_when_another_record_is_due(other, due):
    names = {c.name for c in other}
    fleet = [*other, *(c for c in FLEET if c.name not in names)]
    record = stored(FLEET)
    assert journal.stale(journal.changed(fleet, record), record) is due


def test_the_first_fleet_is_always_due():
    assert journal.stale(journal.changed(FLEET, NO_RECORD), NO_RECORD)


def test_long_inputs_are_packed_and_no_bomb_is_unpacked(monkeypatch):
    long = b"[" + b"1," * 2000 + b"1]"
    encoding, text = journal.pack(long)
    assert encoding == "zlib" and len(text) < len(long) / 10
    assert journal.unpack(encoding, text) == long
    assert journal.pack(b"{}") == ("json", "{}")
    monkeypatch.setattr(journal, "UNPACKED_BYTES_MAX", 100)
    with pytest.raises(JournalError, match="longer than 100 bytes"):
        journal.unpack(encoding, text)


def decision(asked: Asked) -> dict:
    answer = PLACEMENTS[asked.function].call(asked.values, asked.fleet)
    return {
        "result": answer.result,
        "message": answer.message,
        **answer.fields,
        "inputs": {"hash": Digests().of(asked)},
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"clusters": [{"name": "m00", "replicas": 6}]}, "clusters: m00:6 was recorded, m00:1, "),
        ({"result": "NoClusterFit"}, "result: NoClusterFit was recorded, Scheduled comes out"),
        ({"affinityName": "first"}, 'affinityName: "first" was recorded, nothing comes out'),
        ({"message": "m00:6"}, "message: 'm00:6' was recorded"),
        ({"inputs": {"hash": "0" * 32}}, "inputs: their hash is "),
    ],
    ids=["same", "clusters", "result", "group", "message", "inputs"],
)
def test_a_difference_is_told(change, told):
    asked = Asked(PLACE, ASK, FLEET)
    other = journal.replay(decision(asked) | change, asked)
    assert other.startswith(told) and bool(other) == bool(told)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda data, record: journal.read("vote", data, record), "knows no function 'vote'"),
        (lambda data, record: journal.read(PLACE, b"{", record), "cannot be read"),
        (lambda data, record: journal.read(PLACE, b'{"values": 3}', record), "cannot be read"),
        (lambda data, record: journal.unpack("lzma", ""), "unknown encoding 'lzma'"),
        (lambda data, record: journal.unpack("zlib", "!"), "cannot be unpacked"),
        (lambda data, record: journal.read_record("0" * 32, b"{}"), "is not what 0000"),
        (
            lambda data, record: journal.read_record(hashlib.sha256(b"{}").hexdigest()[:32], b"{}"),
            "cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_told(spoil, told):
    record = stored(FLEET)
    with pytest.raises(JournalError, match=told):
        spoil(written(Asked(PLACE, ASK, FLEET), record), record)


def test_an_older_entry_lacks_new_fields_and_has_the_defaults():
    record = stored(FLEET)
    document = msgspec.json.decode(written(Asked(PLACE, ASK, FLEET), record))
    del document["values"]["headroom"]
    document["values"]["forgotten"] = 1
    again = journal.read(PLACE, msgspec.json.encode(document), record)
    assert again.values == ASK


def test_most_is_what_fits_after_a_loss():
    fleet = [member("a"), member("b")]
    asked = replace(ASK, replicas=40, previous={"a": 10}, evicting=frozenset({"c"}))
    found = most(asked, fleet)
    assert found is not None and sum(found.targets.values()) == 30
    assert PLACEMENTS[MOST].call(asked, fleet).result == journal.SHORT
    assert most(replace(asked, replicas=11), fleet) is None, (
        "nothing between what runs and what does not fit"
    )
    assert place(replace(asked, replicas=30), fleet).targets == found.targets
