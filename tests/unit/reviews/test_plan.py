"""What differs between two states: by path, by cluster, by workload; and the patch that an apply would send."""

from typing import Any

import pytest

from federation.reviews import plan
from federation.reviews.plan import CREATE, DELETE, UNCHANGED, UPDATE, World, changes, merged
from machinery.meta.resource import Document, ObjectKey


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", "1", "2")]),
        ({"a": {"b": "x"}}, {"a": {}}, [("a.b", "x", "")]),
        ({"a": {}}, {"a": {"b": {"c": 1}}}, [("a.b", "", '{"c":1}')]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a[1]", "2", "3")]),
        ({"a": [1]}, {"a": [1, 3]}, [("a", "[1]", "[1,3]")]),
        (
            {"c": [{"name": "x", "image": "1"}, {"name": "y"}]},
            {"c": [{"name": "y"}, {"name": "x", "image": "2"}]},
            [("c[x].image", "1", "2")],
        ),
        (
            {"c": [{"name": "x"}]},
            {"c": [{"name": "x"}, {"name": "y", "image": "1"}]},
            [("c[y]", "", '{"name":"y","image":"1"}')],
        ),
        ({"m": {"a/b": "1"}}, {"m": {"a/b": "2"}}, [("m[a/b]", "1", "2")]),
        ({"a": "text"}, {"a": ["t"]}, [("a", "text", '["t"]')]),
        ({"a": "x" * 300}, {"a": ""}, [("a", "x" * 199 + "…", "")]),
        ({"a": False}, {"a": None}, [("a", "false", "null")]),
    ],
)
def test_paths(before: Any, after: Any, told: list[tuple[str, str, str]]) -> None:
    assert [(d.path, d.before, d.after) for d in plan.compared(before, after)] == told


def work(cluster: str, body: Document, binding: str = "web-deployment", **more: Any) -> Document:
    marks = {
        "resourcebinding.karmada.io/name": binding,
        "resourcebinding.karmada.io/namespace": "demo",
    }
    return {
        "metadata": {
            "name": "w",
            "namespace": f"karmada-es-{cluster}",
            "annotations": marks if binding else {},
        },
        "spec": {"workload": {"manifests": [body]}} | more,
    }


def manifest(
    replicas: int = 1, generation: str = "1", kind: str = "Deployment", **more: Any
) -> Document:
    marks = {"resourcetemplate.karmada.io/generation": generation}
    metadata = {"name": "web", "namespace": "demo", "annotations": marks, "labels": {"app": "web"}}
    return {"kind": kind, "metadata": metadata, "spec": {"replicas": replicas}} | more


def binding(
    clusters: dict[str, int], policy: str = "", kept: dict[str, int] | None = None
) -> Document:
    marks = {"propagationpolicy.karmada.io/name": policy} if policy else {}
    tasks = [{"fromCluster": n, "replicas": c} for n, c in (kept or {}).items()]
    return {
        "metadata": {"name": "web-deployment", "namespace": "demo", "annotations": marks},
        "spec": {
            "resource": {"kind": "Deployment", "namespace": "demo", "name": "web"},
            "clusters": [{"name": n, "replicas": c} for n, c in clusters.items()],
            "gracefulEvictionTasks": tasks,
        },
    }


KEY = ObjectKey("demo", "web-deployment")


def world(clusters: dict[str, int], works: dict[str, Document], **more: Any) -> World:
    found = {ObjectKey(f"karmada-es-{name}", "w"): work(name, body) for name, body in works.items()}
    return World({KEY: binding(clusters, **more)}, found)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (world({"a": 1}, {"a": manifest()}), world({"a": 1}, {"a": manifest()}), None),
        (
            world({"a": 1}, {"a": manifest()}),
            world({"a": 1}, {"a": manifest(generation="2")}),
            None,
        ),
        (
            world({"a": 1}, {"a": manifest()}),
            world({"a": 2}, {"a": manifest(2)}),
            {"a": (UPDATE, [("spec.replicas", "1", "2")])},
        ),
        (
            world({"a": 1}, {"a": manifest()}),
            world({"b": 1}, {"b": manifest()}),
            {"a": (DELETE, []), "b": (CREATE, [])},
        ),
        (
            world({"a": 1}, {"a": manifest()}),
            world({"b": 1}, {"a": manifest(), "b": manifest()}, kept={"a": 1}),
            {"a": (UNCHANGED, []), "b": (CREATE, [])},
        ),
        (
            world({"a": 1}, {"a": manifest()}),
            world({"a": 1}, {"a": manifest()}, policy="mine"),
            {"a": (UNCHANGED, [])},
        ),
    ],
    ids=["same", "only the generation", "scaled", "moved", "moving", "claimed by another"],
)
def test_changes(
    before: World, after: World, told: dict[str, tuple[str, list[tuple[str, str, str]]]] | None
) -> None:
    found = changes(before, after)
    if told is None:
        assert found == []
        return
    (change,) = found
    assert change.identity == ("Deployment", "demo", "web")
    shown = {
        name: (
            plan.work_change(was, now),
            [(d.path, d.before, d.after) for d in plan.differences(was, now)],
        )
        for name, (was, now) in change.works.items()
    }
    assert shown == told


def test_contents_of_secrets_are_not_shown() -> None:
    old = work("a", manifest(kind="Secret", data={"key": "c2VjcmV0"}))
    new = work("a", manifest(kind="Secret", data={"key": "b3RoZXI="}))
    (found,) = plan.differences(old, new)
    assert (found.path, found.before, found.after) == ("data.key", "(hidden)", "(hidden)")


def test_of_many_paths_the_number_is_told() -> None:
    old = work("a", manifest(spec={str(i): 0 for i in range(60)}))
    new = work("a", manifest(spec={str(i): 1 for i in range(60)}))
    first, more = plan.told(plan.differences(old, new))
    assert (len(first), more) == (plan.DIFFERENCES_MAX, 10)


def test_suspension_is_a_difference() -> None:
    (found,) = plan.differences(
        work("a", manifest(), suspendDispatching=False),
        work("a", manifest(), suspendDispatching=True),
    )
    assert found.path == "suspendDispatching"


def live(last: str) -> Document:
    marks = {plan.LAST_APPLIED: last} if last else {}
    return {"metadata": {"annotations": marks}}


@pytest.mark.parametrize(
    ("manifest_", "last", "strategic", "patch"),
    [
        ({"a": 1}, "", True, {"a": 1}),
        ({"a": 1}, '{"a": 1, "b": 2}', True, {"a": 1, "b": None}),
        ({"a": {"x": 1}}, '{"a": {"x": 1, "y": 2}}', False, {"a": {"x": 1, "y": None}}),
        (
            {"c": [{"name": "x"}]},
            '{"c": [{"name": "x", "image": "1"}, {"name": "y"}]}',
            True,
            {"c": [{"name": "x", "image": None}, {"name": "y", "$patch": "delete"}]},
        ),
        (
            {"c": [{"name": "x"}]},
            '{"c": [{"name": "x"}, {"name": "y"}]}',
            False,
            {"c": [{"name": "x"}]},
        ),
        ({"args": ["a"]}, '{"args": ["a", "b"]}', True, {"args": ["a"]}),
        ({"a": 1}, "{spoiled", True, {"a": 1}),
    ],
    ids=[
        "first",
        "a field is gone",
        "deep",
        "an item is gone",
        "lists are whole",
        "plain list",
        "spoiled",
    ],
)
def test_the_patch_of_an_apply(
    manifest_: Document, last: str, strategic: bool, patch: Document
) -> None:
    assert merged(manifest_, live(last), strategic=strategic) == patch
