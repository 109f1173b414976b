"""Snapshots and restores as tables: what is kept, what a move waits for, and what a new copy begins with."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from federation.propagation import restores, volumes
from federation.propagation.checkpoints import NEVER, Mark
from federation.propagation.restores import CONTAINER, Facts, Restore, Step
from federation.propagation.volumes import Shelf, Snapshot
from machinery.api.fleet.resilience import Volumes
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
RESTORE = {"command": ["/bin/restore"]}


def ago(seconds: float) -> str:
    return rfc3339(NOW - dt.timedelta(seconds=seconds))


def hook(**fields: Any) -> Volumes:
    body = {"snapshot": {"command": ["/bin/snap"]}, "restore": RESTORE} | fields
    return msgspec.convert(body, Volumes)


def template(**pod: Any) -> Document:
    containers = [
        {
            "name": "app", "image": "db:1", "env": [{"name": "A", "value": "b"}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}], "ports": [{"containerPort": 1}],
        },
        {"name": "side", "image": "side:1"},
    ]  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "demo"},
        "spec": {"template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": containers} | pod}},
    }  # fmt: skip


def task(cluster: str, reason: str, began: float, replicas: int = 1) -> Document:
    return {
        "fromCluster": cluster, "reason": reason, "replicas": replicas, "producer": "ubernetes-failover",
        "creationTimestamp": ago(began),
    }  # fmt: skip


def binding(clusters: list[str], *tasks: Document, **more: Any) -> ResourceBinding:
    """Placed in these clusters; `before` is the placement that stood, `runs` the replicas that clusters report."""
    before = {
        t["fromCluster"]: {"question": "", "clusters": more["before"]}
        for t in tasks
        if "before" in more
    }
    annotations = (
        {"ubernetes.io/placed-before": msgspec.json.encode(before).decode()} if before else {}
    )
    told = [{"clusterName": n, "status": {"replicas": c}} for n, c in more.get("runs", {}).items()]
    body = {
        "metadata": {"name": "db-statefulset", "namespace": "demo", "annotations": annotations},
        "spec": {
            "replicas": 1,
            "clusters": [{"name": name, "replicas": 1} for name in clusters],
            "gracefulEvictionTasks": list(tasks),
        },
        "status": {"aggregatedStatus": told},
    }
    return msgspec.convert(body, ResourceBinding)


def shelf(*kept: tuple[str, str, float], tried: float | None = None, ok: bool = True) -> Shelf:
    """Snapshots (identifier, cluster, seconds ago); `tried`: when the last try in alpha was."""
    held = tuple(Snapshot(i, c, ago(s)) for i, c, s in kept)
    last = {} if tried is None else {"alpha": Mark(ago(tried), 1.0, ok, "" if ok else "disk full")}
    return Shelf(last, held)


HOME = {"alpha": Restore()}
DEAD = task("alpha", "ClusterUnreachable", 5)
DRAINED = task("alpha", "ClusterDrained", 5)
SURPLUS = task("alpha", "Rebalanced", 5)
ONE = shelf(("s1", "alpha", 40.0))


def given(
    lost: float | None, identifier: str = "s1", source: str = "alpha", at: float = 40
) -> Step:
    return Step(record=Restore(identifier, source, ago(at), lost, command=("/bin/restore",)))


@pytest.mark.parametrize(
    ("bound", "fields", "known", "facts", "expected"),
    [
        pytest.param(binding(["alpha"]), {}, Shelf(), {}, Step(record=Restore()), id="new"),
        pytest.param(binding(["beta"], DEAD), {}, ONE, {"silent": 12}, given(28.0), id="dead: as of its last word"),
        pytest.param(
            binding(["beta"], DEAD), {}, Shelf(), {},
            Step(record=Restore(source="alpha", told="no snapshot of it was made in alpha")),
            id="dead, and there is none",
        ),
        pytest.param(
            binding(["beta"], DEAD), {"requireRecoveryPoint": True}, Shelf(), {},
            Step(wait="it comes from alpha: its policy asks for a recovery point, and no snapshot of it is there", again_s=60),
            id="dead, there is none, and the policy asks for one",
        ),
        pytest.param(
            binding(["beta"], DEAD), {"maxAgeSeconds": 20}, ONE, {"silent": 12},
            Step(wait="it comes from alpha: its newest snapshot is 28 s old, and its policy allows 20 s", again_s=60),
            id="dead, and too old",
        ),
        pytest.param(binding(["beta"], DRAINED), {}, ONE, {}, Step(first="alpha"), id="drained: a fresh one first"),
        pytest.param(
            binding(["beta"], DRAINED), {}, shelf(("s1", "alpha", 40), ("s2", "alpha", 3), tried=3), {},
            given(None, "s2", at=3), id="drained: made",
        ),
        pytest.param(
            binding(["beta"], DRAINED), {}, shelf(("s1", "alpha", 40), tried=3, ok=False), {}, given(None),
            id="drained: it failed, and the move goes on",
        ),
        pytest.param(
            binding(["beta"], DRAINED), {"onFailure": "Abort"}, shelf(("s1", "alpha", 40), tried=3, ok=False), {},
            Step(wait="a snapshot in alpha has to succeed first: disk full", again_s=57),
            id="drained: it failed, and the move waits",
        ),
        pytest.param(
            binding(["beta"], task("alpha", "ClusterDrained", 90)), {"onFailure": "Abort"},
            shelf(tried=61, ok=False), {}, Step(first="alpha"), id="drained: it failed, and is tried again",
        ),
        pytest.param(
            binding(["beta"], DRAINED), {}, ONE, {"seen": ["beta"]}, given(None), id="drained, and not heard of",
        ),
        pytest.param(binding(["beta"], SURPLUS), {}, ONE, {}, Step(first="alpha"), id="rebalanced: a fresh one first"),
        pytest.param(
            binding(["beta"], runs={"alpha": 1}), {}, ONE, {"fenced": True},
            Step(wait="the copy in alpha has not stopped yet", again_s=60), id="consistency: the old copy has not ended",
        ),
        pytest.param(
            binding(["beta"], task("alpha", "ClusterDrained", 5, 0), runs={"alpha": 0}), {}, ONE, {"fenced": True},
            given(None), id="consistency: it has",
        ),
        pytest.param(
            binding(["beta", "gamma"], DEAD), {}, ONE, {"records": HOME | {"gamma": Restore()}},
            Step(record=Restore(told="it runs in gamma as well, and a snapshot is of one cluster")),
            id="it runs in another one too",
        ),
        pytest.param(
            binding(["alpha", "beta"]), {}, ONE, {}, Step(record=Restore()), id="it grows into one more",
        ),
        pytest.param(
            binding(["gamma"], DEAD, task("beta", "ClusterUnreachable", 4), before={"alpha": 1, "beta": 1}), {}, ONE,
            {"records": HOME | {"beta": Restore()}},
            Step(record=Restore(told="it ran in alpha, beta, and a snapshot is of one cluster")),
            id="it ran in two that died",
        ),
        pytest.param(
            binding(["gamma"], DEAD, task("beta", "ClusterUnreachable", 2)), {}, ONE,
            {"records": HOME | {"beta": Restore("s1", "alpha", ago(40))}}, given(40.0, "s1", "beta"),
            id="one after the other, and no snapshot between: the one that the second began with",
        ),
        pytest.param(
            binding(["gamma"], DEAD, task("beta", "ClusterUnreachable", 2)), {},
            shelf(("s1", "alpha", 40), ("s9", "beta", 9)),
            {"records": HOME | {"beta": Restore("s1", "alpha", ago(40))}}, given(9.0, "s9", "beta", 9),
            id="one after the other: the newest of the second",
        ),
        pytest.param(
            binding(["beta"], DEAD), {"restore": RESTORE | {"container": "gone"}}, ONE, {},
            Step(
                record=Restore(source="alpha", told="its pods have no container gone, which the restore hook names")
            ),
            id="a container that is not there",
        ),
    ],
)  # fmt: skip
def test_what_a_new_copy_begins_with(
    bound: ResourceBinding,
    fields: dict[str, Any],
    known: Shelf,
    facts: dict[str, Any],
    expected: Step,
) -> None:
    seen = frozenset(facts.get("seen", ["alpha", "beta", "gamma"]))
    silent = {"alpha": float(facts.get("silent", 0))}
    said = Facts(seen, NOW, facts.get("fenced", False), silent)
    found = restores.step(
        bound, template(), hook(**fields), known, facts.get("records", HOME), said
    )
    assert found == expected


@pytest.mark.parametrize(
    ("bound", "known", "held"),
    [
        (binding(["beta"], SURPLUS), ONE, True),
        (binding(["beta"], SURPLUS), shelf(("s2", "alpha", 3), tried=3), False),
        (binding(["beta"], SURPLUS), shelf(tried=3, ok=False), False),
        (binding(["beta"], DEAD), ONE, False),
        (binding(["alpha"]), ONE, False),
    ],
    ids=["not made", "made", "failed", "nobody can make it", "nothing moves"],
)
def test_the_old_copy_goes_on_for_its_snapshot(
    bound: ResourceBinding, known: Shelf, held: bool
) -> None:
    text = msgspec.json.encode(HOME).decode()
    meta = msgspec.structs.replace(
        bound.metadata, annotations=bound.metadata.annotations | {restores.RESTORES: text}
    )
    marked = msgspec.structs.replace(bound, metadata=meta)
    assert restores.saving(marked, hook(), known, frozenset({"alpha", "beta"})) is held


@pytest.mark.parametrize(
    ("kept", "running", "used", "gone"),
    [
        ([("1", "alpha"), ("2", "alpha")], ["alpha"], [], []),
        ([("1", "alpha"), ("2", "alpha"), ("3", "alpha")], ["alpha"], [], ["1"]),
        ([("1", "alpha"), ("2", "alpha"), ("3", "alpha")], ["alpha"], ["1"], []),
        ([("1", "alpha"), ("2", "beta"), ("3", "beta")], ["alpha", "beta"], [], []),
        ([("1", "alpha"), ("2", "beta"), ("3", "beta")], ["beta"], [], ["1"]),
    ],
    ids=["few", "one too many", "a copy began with it", "each cluster's own", "of one that was left"],
)  # fmt: skip
def test_how_long_snapshots_are_kept(
    kept: list[tuple[str, str]], running: list[str], used: list[str], gone: list[str]
) -> None:
    known = shelf(*((i, c, 10.0) for i, c in kept))
    assert [s.identifier for s in volumes.expired(known, 2, running, used)] == gone


@pytest.mark.parametrize(
    ("output", "identifier", "wrong"),
    [
        ("saving\n  s3://b/42 \n\n", "s3://b/42", ""),
        ("", "", "the snapshot command printed no identifier"),
        ("\n \n", "", "the snapshot command printed no identifier"),
        ("x" * 1025, "", "the identifier that it printed has more than 1024 letters"),
        ("a\x1b[0m", "", "the identifier that it printed has letters that cannot be printed"),
    ],
    ids=["the last line", "nothing", "blanks", "too long", "controls"],
)
def test_the_identifier_is_the_last_line(output: str, identifier: str, wrong: str) -> None:
    assert volumes.identifier_of(output) == (identifier, wrong)


@pytest.mark.parametrize(
    ("held", "mark", "word"),
    [
        ("", NEVER, "drain after none"),
        ("drain after none", NEVER, "drain after none"),
        ("drain after none", Mark(ago(5), word="drain after none"), "drain after none"),
        ("drain after none", Mark(ago(500), word="drain after none"), f"drain after {ago(500)}"),
        ("", Mark(ago(5)), f"drain after {ago(5)}"),
        ("other after none", Mark(ago(5), word="other after none"), f"drain after {ago(5)}"),
    ],
    ids=["first", "asked for", "made", "made too long ago", "one in time does not do", "another move's"],
)  # fmt: skip
def test_each_planned_move_has_a_snapshot_of_its_own(held: str, mark: Mark, word: str) -> None:
    assert volumes.word_of("drain", held, mark, NOW) == word


def test_the_init_container_is_like_the_one_whose_volumes_it_fills() -> None:
    record = Restore("a$b", "alpha", "then", command=("/bin/restore", "x"))
    body = template(initContainers=[{"name": "migrate"}])
    changed = restores.injected(body, record)
    init, other = changed["spec"]["template"]["spec"]["initContainers"]
    assert other == {"name": "migrate"}
    assert init == {
        "name": CONTAINER, "image": "db:1", "command": ["/bin/restore", "x"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "env": [
            {"name": "A", "value": "b"},
            {"name": "UBERNETES_SNAPSHOT", "value": "a$$b"},
            {"name": "UBERNETES_SNAPSHOT_CLUSTER", "value": "alpha"},
            {"name": "UBERNETES_SNAPSHOT_TAKEN", "value": "then"},
        ],
    }  # fmt: skip
    assert body == template(initContainers=[{"name": "migrate"}]), "the input stays as it is"
    assert restores.injected(body, Restore(source="alpha", told="none")) is body


def test_pods_are_found_by_their_template_where_there_is_no_selector() -> None:
    assert volumes.pod_labels(template()) == {"app": "db"}
