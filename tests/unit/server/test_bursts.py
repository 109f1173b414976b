"""What is remembered of pods' creates must never show: equal to working it out, wish by wish."""

import json
from typing import Any

import pytest

from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN
from machinery.api.managed_fields import update_manager, with_creator
from machinery.api.validation import proven, validate_create
from machinery.server.bursts import KEPT_MAX, Bursts
from machinery.server.peek import Peek
from machinery.store.memory import MemoryStore

POD = next(kind for kind in BUILTIN if kind.kind == "Pod")
NOW = "2026-01-01T00:00:00Z"
TOKEN = {"name": "kube-api-access-abcde", "projected": {"sources": [{"secret": {"name": "s"}}]}}


def pod(**metadata: Any) -> dict[str, Any]:
    containers = [{"name": "web", "image": "a:1", "ports": [{"containerPort": 80}]}]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "demo", **metadata},
        "spec": {"containers": containers},
    }  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "web-1", "generateName": "web-"},
        {"generateName": "web-", "labels": {"app": "web"}},
        {"name": "db-0"},
        {"name": "db-0", "annotations": {"a": "1"}},
    ],
)
def test_a_remembered_wish_equals_a_fresh_one(metadata: dict[str, Any]) -> None:
    bursts = Bursts()
    for name in ("first", "second"):
        asked = pod(**{**metadata, **({"name": name} if "name" in metadata else {})})
        wish = bursts.wish(POD, asked, asked)
        filled = apply_defaults(POD, asked)
        assert wish.document == filled
        told = update_manager(POD, None, filled, "kubectl", NOW)
        assert with_creator(POD, wish.document, wish.fields, "kubectl", NOW) == told


def test_bodies_are_told_apart_by_every_byte_and_by_how_they_are_checked() -> None:
    bursts = Bursts()
    odd = json.dumps({**pod(name="a"), "nonsense": 1}).encode()
    strict_free = bursts.body(POD, odd, "application/json", "Ignore")
    assert strict_free.warnings == ()
    assert bursts.body(POD, odd, "application/json", "Warn").warnings == (
        'unknown field "nonsense"',
    )
    assert bursts.body(POD, odd, "application/json", "Ignore") is strict_free


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    bursts = Bursts()
    bodies = [json.dumps(pod(name=f"p{n}")).encode() for n in range(KEPT_MAX + 1)]
    first = bursts.body(POD, bodies[0], "application/json", "Warn")
    for body in bodies[1:]:
        bursts.body(POD, body, "application/json", "Warn")
    again = bursts.body(POD, bodies[0], "application/json", "Warn")
    assert again is not first and again == first


def complaints(spec: dict[str, Any]) -> list[str]:
    document = apply_defaults(POD, {**pod(name="a"), "spec": spec})
    return [cause["field"] for cause in validate_create(POD, document)]


def test_a_proven_spec_does_not_prove_another() -> None:
    spec = pod()["spec"] | {"volumes": [TOKEN]}
    other = {**TOKEN, "name": "kube-api-access-fghij"}
    assert complaints(spec) == []
    assert complaints({**spec, "volumes": [other]}) == []
    assert complaints({**spec, "volumes": [TOKEN, other]}) == []
    assert complaints({**spec, "volumes": [TOKEN, TOKEN]}) == ["spec.volumes[1].name"]
    mount = {"name": "kube-api-access-other", "mountPath": "/x"}
    container = {**spec["containers"][0], "volumeMounts": [mount]}
    assert complaints({**spec, "containers": [container]}) == [
        "spec.containers[0].volumeMounts[0].name"
    ]


def test_the_token_volume_s_name_is_no_difference_anything_else_is() -> None:
    spec = {"volumes": [TOKEN]}
    assert proven.key_of(spec) == proven.key_of(
        {"volumes": [{**TOKEN, "name": "kube-api-access-zzzzz"}]}
    )
    assert proven.key_of(spec) != proven.key_of(
        {"volumes": [{**TOKEN, "name": "kube-api-access-zzzzzz"}]}
    )


async def test_peek_sees_every_new_row() -> None:
    store = MemoryStore()
    await store.start()
    peek = Peek(store)
    assert peek("core/namespaces", "", "demo") is None
    key, text = "/registry/core/namespaces//demo", b'{"metadata":{"name":"demo"%b}}'
    row = await store.create(key, text % b"")
    first = peek("core/namespaces", "", "demo")
    assert first == {"metadata": {"name": "demo", "resourceVersion": str(row.revision)}}
    assert peek("core/namespaces", "", "demo") is first
    await store.update(key, text % b',"deletionTimestamp":"x"', row.revision)
    second = peek("core/namespaces", "", "demo")
    assert second is not None and second["metadata"]["deletionTimestamp"] == "x"
    await store.close()
