"""Events are counted up, folded and rationed."""

import datetime as dt

import pytest
from tests.support.fake_client import FakeClient

from machinery.api.core import NODES, PODS
from machinery.controller.action import Emit
from machinery.controller.recorder import BURST, EVENTS, EventCorrelator, EventRecorder
from machinery.kit.clock import FakeClock
from machinery.kit.ids import SeededIds
from machinery.meta.errors import ServiceUnavailable
from machinery.meta.resource import ObjectKey

KEY = ObjectKey("demo", "web-1")


def emit(message="pulled", *, key=KEY, resource=PODS, reason="Pulled", uid="u1", type="Normal"):
    return Emit(resource, key, uid, type, reason, message)


def recorder(client, clock=None):
    return EventRecorder(client, clock or FakeClock(), SeededIds(), component="kubelet", host="n1")


def events(client):
    return [d for (kind, _), d in sorted(client.objects.items()) if kind == "events"]


async def test_a_new_event_has_upstreams_shape():
    client = FakeClient()
    events_of = recorder(client)
    events_of.emit(emit())
    await events_of.flush()
    (event,) = events(client)
    name, _, tag = event["metadata"].pop("name").partition(".")
    assert (name, len(tag), int(tag, 16) > 0) == ("web-1", 16, True)
    del event["metadata"]["uid"], event["metadata"]["resourceVersion"]
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "demo"},
        "involvedObject": {
            "kind": "Pod",
            "namespace": "demo",
            "name": "web-1",
            "uid": "u1",
            "apiVersion": "v1",
        },
        "reason": "Pulled",
        "message": "pulled",
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "type": "Normal",
        "reportingComponent": "kubelet",
        "reportingInstance": "n1",
    }


async def test_the_same_event_is_counted_up_by_patch():
    client, clock = FakeClient(), FakeClock()
    events_of = recorder(client, clock)
    for _ in range(3):
        events_of.emit(emit())
        await events_of.flush()
        clock.advance(60)
    (event,) = events(client)
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:02:00Z"
    assert client.verbs() == ["create", "patch", "patch"]


async def test_an_event_that_expired_meanwhile_is_written_anew():
    client = FakeClient()
    events_of = recorder(client)
    events_of.emit(emit())
    await events_of.flush()
    await client.delete(EVENTS, ObjectKey("demo", events(client)[0]["metadata"]["name"]))
    events_of.emit(emit())
    await events_of.flush()
    assert [e["count"] for e in events(client)] == [2]


async def test_cluster_scoped_objects_have_their_events_in_default():
    client = FakeClient()
    events_of = recorder(client)
    events_of.emit(emit(key=ObjectKey("", "n" * 253), resource=NODES))
    await events_of.flush()
    (event,) = events(client)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
    assert len(event["metadata"]["name"]) == 253


async def test_a_failed_write_loses_that_event_only(caplog):
    client = FakeClient()
    events_of = recorder(client)
    client.fail_next("create", ServiceUnavailable("later"))
    events_of.emit(emit("one"))
    events_of.emit(emit("two"))
    await events_of.flush()
    assert [e["message"] for e in events(client)] == ["two"]
    assert "event not recorded" in caplog.text


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_similar_events_are_folded_after_ten():
    correlator = EventCorrelator()
    records = [correlator.correlate(emit(f"try {i}"), NOW, 1.0 * i, f"t{i}") for i in range(14)]
    messages = [r.emit.message for r in records]
    assert messages[:9] == [f"try {i}" for i in range(9)]
    assert messages[9:] == [f"(combined from similar events): try {i}" for i in range(9, 14)]
    assert [r.count for r in records] == [1] * 10 + [2, 3, 4, 5]
    assert len({r.key for r in records[9:]}) == 1
    later = correlator.correlate(emit("try again"), NOW, 5000.0, "x")
    assert later.emit.message == "try again"


def test_each_object_has_a_budget_that_refills_and_each_warning_its_own():
    correlator = EventCorrelator()
    given = [correlator.correlate(emit(), NOW, 0.0, "t") for _ in range(BURST + 5)]
    assert [r is not None for r in given] == [True] * BURST + [False] * 5
    assert correlator.correlate(emit(key=ObjectKey("demo", "other")), NOW, 0.0, "t") is not None
    assert correlator.correlate(emit(reason="Else"), NOW, 0.0, "t") is None
    assert correlator.correlate(emit(reason="Dead", type="Warning"), NOW, 0.0, "t") is not None
    assert correlator.correlate(emit(), NOW, 299.0, "t") is None
    refilled = [correlator.correlate(emit(), NOW, 601.0, "t") for _ in range(3)]
    assert [r is not None for r in refilled] == [True, True, False]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(emit("else"), id="message"),
        pytest.param(emit(reason="Failed"), id="reason"),
        pytest.param(emit(uid="u2"), id="uid"),
        pytest.param(emit(key=ObjectKey("demo", "web-2")), id="object"),
    ],
)
def test_different_events_are_counted_apart(other):
    correlator = EventCorrelator()
    first = correlator.correlate(emit(), NOW, 0.0, "a")
    second = correlator.correlate(other, NOW, 0.0, "b")
    assert (first.count, second.count) == (1, 1)
    assert first.key != second.key
