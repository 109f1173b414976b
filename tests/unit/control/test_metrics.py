"""From what kubelets say to metrics.k8s.io: parsing, rates, silence, whom a node is believed about, and hostile answers."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.control.metrics import FromEntries, Held
from cluster_agent.control.metrics_gather import Asker, Gatherer, Pipe, Unreadable, worth_asking
from cluster_agent.control.metrics_points import (
    Point,
    Scrape,
    Use,
    cores,
    duration,
    nanoseconds,
    octets,
    parse,
    pod_use,
    use,
)
from machinery.api.core import Node, NodeStatus
from machinery.kit.clock import FakeClock
from machinery.meta.errors import InternalError
from machinery.meta.objectmeta import Condition, ObjectMeta
from machinery.meta.quantity import Quantity
from machinery.server.cache import Entry, Selection

NANO = 1_000_000_000
STAMP = 1_767_225_600_000


# ---------------------------------------------------------------------------------------------------------------- parsing
def test_an_answer_is_read() -> None:
    labels = '{container="c",namespace="demo",pod="web"}'
    text = "\n".join(
        [
            "# HELP node_cpu_usage_seconds_total CPU.",
            f"container_cpu_usage_seconds_total{labels} 12.345678901 {STAMP}",
            f"container_memory_working_set_bytes{labels} 4.096e+06 {STAMP}",
            f"container_start_time_seconds{labels} 1.7672255e+09",
            f"node_cpu_usage_seconds_total 7 {STAMP}",
            f"node_memory_working_set_bytes 2048 {STAMP}",
            f'container_swap_usage_bytes{{container="c"}} 1 {STAMP}',
            "resource_scrape_error 0",
        ]
    )
    at = STAMP / 1000
    web = Point(at, 12_345_678_901, 4_096_000, 1_767_225_500.0)
    assert parse(text) == Scrape(Point(at, 7 * NANO, 2048), {("demo", "web"): {"c": web}})


def test_half_a_point_is_none() -> None:
    found = parse(f'container_cpu_usage_seconds_total{{container="c",pod="p"}} 1 {STAMP}\n')
    assert found == Scrape(None, {})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<html>", id="no exposition"),
        pytest.param("node_cpu_usage_seconds_total NaN 1", id="no number"),
        pytest.param("node_cpu_usage_seconds_total -1 1", id="a counter below nought"),
        pytest.param(f"node_cpu_usage_seconds_total 1 {'9' * 14}", id="a time beyond all time"),
        pytest.param(
            "node_cpu_usage_seconds_total 1e99 1\nnode_memory_working_set_bytes 1 1",
            id="more than 64 bits",
        ),
        pytest.param("x{" + 'a="b",' * 1000 + "} 1", id="too many labels"),
    ],
)
def test_no_answer_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError, match="no value of a metric|64 bits"):
        parse(text)


PIECES = ["node_cpu_usage_seconds_total", "container_memory_working_set_bytes", "{", "}", 'pod="x"', '"', "\\",
          " ", "\n", "1", "-", "e9", "1e99", ".", "9" * 13, "NaN", "#", ",", "=", "\u0664", "\x85"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=24).map("".join))
def test_whatever_a_node_says_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    if found.node is not None:
        assert duration(found.node.at)
        assert octets(found.node.memory)


def test_large_counters_keep_their_nanoseconds() -> None:
    assert nanoseconds("123456789.123456789") == 123_456_789_123_456_789
    assert nanoseconds("1.5e-1") == 150_000_000


# ------------------------------------------------------------------------------------------------------------------ rates
def point(at: float, cpu_s: float, start: float = 1.0) -> Point:
    return Point(at, round(cpu_s * NANO), 100, start)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(point(100, 5), point(115, 20), (15.0, NANO), id="one core"),
        pytest.param(
            point(100, 5), point(130, 5), (30.0, 0), id="a missed scrape: a longer window"
        ),
        pytest.param(point(100, 5), point(115, 4), None, id="went back"),
        pytest.param(point(100, 5), point(100, 5), None, id="no time"),
        pytest.param(point(100, 5), point(90, 6), None, id="the node's clock went back"),
        pytest.param(point(100, 5), point(300, 6), None, id="too long ago"),
        pytest.param(
            point(100, 500), point(115, 6, start=103), (12.0, NANO // 2), id="started since"
        ),
        pytest.param(point(100, 500), point(110, 6, start=103), None, id="started just now"),
        pytest.param(None, point(115, 6, start=103), (12.0, NANO // 2), id="new"),
        pytest.param(None, point(500, 6, start=103), None, id="seen for the first time, old"),
        pytest.param(None, point(500, 6, start=0), None, id="start unknown"),
    ],
)
def test_use(before: Point | None, after: Point, expected: tuple[float, int] | None) -> None:
    found = use(before, after)
    assert (found and (found.window, found.nanocores)) == expected


def test_a_pod_is_known_when_all_its_containers_are() -> None:
    before = {"a": point(100, 1)}
    after = {"a": point(115, 2), "b": point(115, 2, start=110)}
    assert pod_use(before, after) is None
    assert pod_use(before, {"a": after["a"]}) == {"a": Use(115, 15.0, NANO // 15 + 1, 100)}
    assert pod_use(before, {}) is None


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1024, 4096, 123_456, 3 << 20, 5 << 40, 10**9])
def test_quantities_are_canonical(number: int) -> None:
    assert cores(number) == str(Quantity(Fraction(number, NANO)))
    assert octets(number) == str(Quantity(Fraction(number), "binary"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(15.0, "15s"), (15.0214, "15.021s"), (60.0, "1m0s"), (83.5, "1m23.5s"), (0.25, "0.25s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ------------------------------------------------------------------------------------------------------------------- held
def entry(name: str, node: str, **labels: str) -> Entry:
    document = {
        "metadata": {"name": name, "namespace": "demo", "labels": labels},
        "spec": {"nodeName": node},
    }
    return Entry(f"demo/{name}", orjson.dumps(document), 7, pod=True)


def scrape(at: float, cpu_s: float, *pods: str) -> Scrape:
    each = {("demo", pod): {"c": point(at, cpu_s)} for pod in pods}
    return Scrape(point(at, cpu_s, start=0.0), each)


def test_a_pod_in_two_scrapes_has_metrics() -> None:
    clock = FakeClock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    held = Held(clock)
    held.heard("n", scrape(1000, 5, "web"))
    assert held.pod(entry("web", "n")) is None
    held.heard("n", scrape(1015, 12.5, "web"))
    assert held.pod(entry("web", "n", app="web")) == {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web"},
        },
        "timestamp": "1970-01-01T00:16:55Z",
        "window": "15s",
        "containers": [{"name": "c", "usage": {"cpu": "500m", "memory": "100"}}],
    }


def test_a_node_is_believed_of_its_own_pods_only() -> None:
    held = Held(FakeClock())
    for at in (100, 115):
        held.heard("liar", scrape(at, at, "web"))
    assert held.pod(entry("web", "honest")) is None
    assert held.pod(entry("web", "liar")) is not None


def test_the_metrics_of_a_silent_node_go_after_a_minute() -> None:
    clock = FakeClock()
    held = Held(clock)
    for at in (100, 115):
        held.heard("n", scrape(at, 1, "web"))
    clock.advance(60)
    assert held.pod(entry("web", "n")) is not None
    assert held.node(Entry("/n", b'{"metadata":{}}', 1, pod=False)) is not None
    clock.advance(1)
    assert held.pod(entry("web", "n")) is None
    assert held.node(Entry("/n", b'{"metadata":{}}', 1, pod=False)) is None


def test_one_missed_scrape_is_no_silence() -> None:
    held = Held(FakeClock())
    held.heard("n", scrape(100, 1, "web"))
    held.heard("n", scrape(130, 16, "web"))
    found = held.pod(entry("web", "n"))
    assert found is not None
    assert (found["window"], found["containers"][0]["usage"]["cpu"]) == ("30s", "500m")


def test_the_same_sample_again_takes_nothing_away() -> None:
    held = Held(FakeClock())
    for at in (100, 115, 115):
        held.heard("n", scrape(at, 1, "web"))
    assert held.pod(entry("web", "n")) is not None


def test_a_node_that_is_gone_is_forgotten() -> None:
    held = Held(FakeClock())
    held.heard("n", scrape(100, 1))
    held.forget_others({"other"})
    assert held.of("n") is None


async def test_objects_without_metrics_are_left_out() -> None:
    held = Held(FakeClock())
    for at in (100, 115):
        held.heard("n", scrape(at, 1, "b"))

    def entries(selection: Selection) -> Iterable[Entry]:
        known = [entry("a", "n"), entry("b", "n"), entry("c", "")]
        return [one for one in known if not selection.name or one.name == selection.name]

    source = FromEntries(entries, held.pod)
    listed = await source.list(Selection("demo"))
    assert [one["metadata"]["name"] for one in listed.items] == ["b"]
    assert await source.get("demo", "a") is None
    assert (await source.get("demo", "b")) is not None


# ----------------------------------------------------------------------------------------------------------------- asking
ANSWER = f"node_cpu_usage_seconds_total 1 {STAMP}\nnode_memory_working_set_bytes 1 {STAMP}\n"
OK = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}"


class Kubelets:
    """Kubelets that give the answers of a list, one a request; `dialled` counts connections."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.dialled, self.port = list(answers), 0, 0
        self.cut = False

    async def open(self, node: str) -> Pipe:
        if node == "dead":
            raise InternalError("no route")
        self.dialled += 1
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers and await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answers.pop(0).encode())
            if self.cut:
                break
        writer.close()


@asynccontextmanager
async def kubelets(*answers: str) -> AsyncIterator[Kubelets]:
    made = Kubelets(*answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


async def test_a_connection_is_kept() -> None:
    async with kubelets(OK, OK) as made:
        asker = Asker(made)
        for _ in range(2):
            assert (await asker.scrape("n")).node == Point(STAMP / 1000, NANO, 1)
        assert made.dialled == 1
        asker.close()


async def test_a_connection_that_ended_is_made_anew() -> None:
    async with kubelets(OK, OK) as made:
        made.cut = True
        asker = Asker(made)
        for _ in range(2):
            assert (await asker.scrape("n")).node is not None
        assert made.dialled == 2
        asker.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(
            "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "HTTP 403: no", id="refused"
        ),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "no value", id="nonsense"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + "# x\n" * 1_200_000,
            "longer than",
            id="too long",
        ),
    ],
)
async def test_bad_answers(answer: str, why: str) -> None:
    async with kubelets(answer) as made:
        with pytest.raises(Unreadable, match=why):
            await Asker(made).scrape("n")


class Nodes:
    """A client that knows nodes."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes

    async def list(self, _: object) -> "Nodes":
        return self

    @property
    def items(self) -> tuple[Node, ...]:
        return self.nodes


def node(name: str, ready: str = "True") -> Node:
    status = NodeStatus(conditions=(Condition(type="Ready", status=ready),))
    return Node(metadata=ObjectMeta(name=name), status=status)


@pytest.mark.parametrize(("ready", "asked"), [("True", True), ("False", True), ("Unknown", False)])
def test_who_is_asked(ready: str, asked: bool) -> None:
    assert worth_asking(node("n", ready)) is asked
    assert not worth_asking(replace_status(node("n")))


def replace_status(made: Node) -> Node:
    return Node(metadata=made.metadata)


async def test_one_dead_node_does_not_stop_the_others() -> None:
    heard: dict[str, Scrape] = {}
    known: set[str] = set()
    async with kubelets(OK) as made:
        client = Nodes(node("dead"), node("n"), node("silent", "Unknown"))
        gatherer = Gatherer(client, made, FakeClock(), heard.__setitem__, known.update)  # type: ignore[arg-type]
        await gatherer.run_once()
        gatherer.close()
    assert set(heard) == {"n"}
    assert known == {"dead", "n", "silent"}
