"""Plans meet the API in order; the two liberties (batches, side by side) and the guards are what they should be."""

import asyncio

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from machinery.api.core import CONFIGMAPS, PODS
from machinery.client.interface import PatchType
from machinery.controller.action import Create, Delete, Emit, Patch, RequeueAfter, SetStatus
from machinery.controller.executor import Executor, guarded_patch
from machinery.controller.recorder import EventRecorder
from machinery.kit.ids import SeededIds
from machinery.meta.errors import AlreadyExists, Conflict, Forbidden, NotFound
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.looptime
KEY = ObjectKey("demo", "a")


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def executor(client):
    recorder = EventRecorder(client, LoopClock(), SeededIds(), component="test")
    return Executor(client, recorder)


def create(name, **options):
    document = {"metadata": {"name": name, "namespace": "demo"}}
    return Create(PODS, document, **options)


class Flight(FakeClient):
    """Counts how many creates are in flight together."""

    def __init__(self):
        super().__init__()
        self.batches, self._now = [], 0

    async def create(self, *args, **kwargs):
        self._now += 1
        await asyncio.sleep(1)
        if self._now:
            self.batches.append(self._now)
            self._now = 0
        return await super().create(*args, **kwargs)


async def test_creates_start_slowly():
    client = Flight()
    executor = Executor(client, EventRecorder(client, LoopClock(), SeededIds(), component="t"))
    result = await executor.apply([create(f"p{i}") for i in range(150)])
    assert client.batches == [1, 2, 4, 8, 16, 32, 64, 23]
    assert len(result.applied) == len(client.objects) == 150


async def test_a_refused_create_ends_the_plan_after_its_batch(client, executor):
    told = []
    client.fail_next("create", Forbidden("exceeded quota"))
    with pytest.raises(Forbidden):
        await executor.apply(
            [create(f"p{i}") for i in range(100)] + [RequeueAfter(1)],
            on_done=lambda action, answer: told.append(action),
        )
    assert client.verbs() == ["create"]
    assert told == []


async def test_of_a_failed_batch_the_others_are_told_and_the_first_error_is_raised(
    client, executor
):
    await executor.apply([create("p1"), create("p2")])
    told = []
    with pytest.raises(AlreadyExists, match='"p1"'):
        await executor.apply(
            [create("p0"), create("p1"), create("p3"), create("p2")],
            on_done=lambda action, answer: told.append(answer.metadata.name),
        )
    assert told == ["p0", "p3"]


async def test_deletes_run_side_by_side_and_a_missing_one_is_done(client, executor):
    await executor.apply([create("a"), create("b")])
    result = await executor.apply([Delete(PODS, ObjectKey("demo", n)) for n in ("a", "x", "b")])
    assert len(result.applied) == 3
    assert client.objects == {}


@pytest.mark.parametrize(
    ("action", "error"),
    [
        pytest.param(Delete(PODS, KEY, uid="other"), Conflict, id="delete-uid"),
        pytest.param(Delete(PODS, KEY, resource_version="0"), Conflict, id="delete-version"),
        pytest.param(Patch(PODS, KEY, {}, uid="other"), Conflict, id="patch-uid"),
        pytest.param(SetStatus(PODS, KEY, {}, resource_version="0"), Conflict, id="status-version"),
        pytest.param(Patch(PODS, ObjectKey("demo", "x"), {}), NotFound, id="patch-missing"),
        pytest.param(create("a"), AlreadyExists, id="create-exists"),
    ],
)
async def test_preconditions_hold(client, executor, action, error):
    await executor.apply([create("a")])
    before = dict(client.objects)
    with pytest.raises(error):
        await executor.apply([action])
    assert client.objects == before


async def test_exists_ok_counts_as_done(client, executor):
    await executor.apply([create("a")])
    answers = []
    await executor.apply([create("a", exists_ok=True)], on_done=lambda _, a: answers.append(a))
    assert answers == [None]


async def test_order_is_kept_and_the_earliest_requeue_wins(client, executor):
    plan = [
        RequeueAfter(30),
        create("a"),
        SetStatus(PODS, KEY, {"phase": "Running", "message": None}),
        RequeueAfter(5),
        Create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "demo"}}),
        Delete(PODS, KEY),
        create("a"),
    ]
    result = await executor.apply(plan)
    assert result.requeue_after == 5
    assert list(result.applied) == plan
    assert [call[:2] for call in client.calls] == [
        ("create", "pods"),
        ("patch", "pods"),
        ("create", "configmaps"),
        ("delete", "pods"),
        ("create", "pods"),
    ]
    assert client.calls[1][3:] == ({"status": {"phase": "Running", "message": None}}, "status")


async def test_emit_never_fails_a_plan(client, executor):
    client.fail_next("create", Forbidden("no events for you"))
    emit = Emit(PODS, KEY, "uid", "Normal", "Tested", "it was")
    assert (await executor.apply([emit])).applied == [emit]
    await executor._recorder.flush()
    assert client.verbs() == ["create"]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        pytest.param(Patch(PODS, KEY, {"a": 1}), {"a": 1}, id="bare"),
        pytest.param(
            Patch(PODS, KEY, {"metadata": {"labels": {"x": None}}}, resource_version="7", uid="u"),
            {"metadata": {"labels": {"x": None}, "resourceVersion": "7", "uid": "u"}},
            id="merge",
        ),
        pytest.param(
            Patch(
                PODS, KEY, [{"op": "remove", "path": "/a"}], PatchType.JSON, resource_version="7"
            ),
            [
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "remove", "path": "/a"},
            ],
            id="json",
        ),
    ],
)
def test_guards_become_part_of_the_patch(action, expected):
    assert guarded_patch(action) == expected


async def test_listeners_hear_of_what_was_applied_and_why(client, executor):
    heard = []
    executor.listen(lambda action, answer: heard.append((getattr(action, "note", None), answer)))
    patch = Patch(PODS, KEY, {"metadata": {"labels": {"x": "y"}}}, note="because")
    await executor.apply([create("a")])
    await executor.apply([patch])
    assert [note for note, _ in heard] == [None, "because"]
    assert heard[1][1].metadata.labels == {"x": "y"}
    with pytest.raises(NotFound):
        await executor.apply([Patch(PODS, ObjectKey("demo", "no"), {}, note="lost")])
    assert len(heard) == 2, "what was refused was not done"
    assert patch == Patch(PODS, KEY, {"metadata": {"labels": {"x": "y"}}}), "a note changes nothing"
