"""What an interpreter says that an object needs, and that does not follow it, is told."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.test_flow import CONFIGMAP, Fleet, fleet_story
from tests.unit.controllers_federation.test_wide_and_custom_flow import (
    GUESTBOOKS,
    RINGS,
    definition,
    of,
)

from federation.controllers import references
from federation.controllers.references import CONDITION, FAILED, LEFT
from federation.propagation.customized import Customizations, unfollowed
from federation.propagation.templates import CONFIGMAPS, CUSTOM_RESOURCE_DEFINITIONS
from machinery.api.core import EVENTS
from machinery.api.fleet.interpretation import CUSTOMIZATIONS, ResourceInterpreterCustomization
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import Emit, SetStatus
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import Document, ObjectKey, Resource

NOW = "2026-01-01T00:01:00Z"
BOOK: Document = {
    "apiVersion": GUESTBOOKS.api_version,
    "kind": "Guestbook",
    "metadata": {"name": "book", "namespace": "demo"},
}
NEAR = "{'apiVersion': 'v1', 'kind': 'ConfigMap', 'namespace': 'demo', 'name': 'settings'}"
FAR = "{'apiVersion': 'v1', 'kind': 'Secret', 'namespace': 'other', 'name': 'key'}"
CLASS = "{'apiVersion': 'storage.k8s.io/v1', 'kind': 'StorageClass', 'name': 'fast'}"
LABELS = "{'apiVersion': 'v1', 'kind': 'Secret', 'namespace': 'demo', 'labelSelector': {'matchLabels': {'a': 'b'}}}"


def needing(*what: str, kind: str = "Guestbook") -> Document:
    target = {"apiVersion": GUESTBOOKS.api_version, "kind": kind}
    said = {"dependencyInterpretation": {"expression": f"[{', '.join(what)}]"}}
    return of(CUSTOMIZATIONS, kind.lower(), spec={"target": target, "customizations": said})


def scripts(*what: str) -> Customizations:
    return Customizations([msgspec.convert(needing(*what), ResourceInterpreterCustomization)])


def binding(*, propagate: bool = True, held: Document | None = None) -> ResourceBinding:
    resource = {"apiVersion": BOOK["apiVersion"], "kind": "Guestbook"} | BOOK["metadata"]
    spec = {"resource": resource, "propagateDeps": propagate}
    document = {
        "metadata": {"name": "book-guestbook", "namespace": "demo", "uid": "u"},
        "spec": spec,
        "status": {"conditions": [held] if held else []},
    }
    return msgspec.convert(document, ResourceBinding)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (("v1", "ConfigMap", "demo", "a"), ""),
        (("v1", "Secret", "other", "a"), "Secret other/a: what is in another namespace does not follow"),
        (("v1", "Secret", "", "a"), "Secret a: what is in another namespace does not follow"),
        (("v1", "Secret", "demo", ""), "Secret by labels: what is named by labels does not follow"),
        (("apps/v1", "Deployment", "demo", "a"), "apps/v1 Deployment demo/a: its kind does not follow what refers to it"),
        (("storage.k8s.io/v1", "StorageClass", "", "fast"), "storage.k8s.io/v1 StorageClass fast: its kind does not follow what refers to it"),
    ],
)  # fmt: skip
def test_why_something_stays_behind(reference: tuple[str, str, str, str], why: str) -> None:
    named = dict(zip(("apiVersion", "kind", "namespace", "name"), reference, strict=True))
    assert unfollowed(BOOK, named) == why


def test_nothing_follows_what_is_in_no_namespace() -> None:
    ring = {"metadata": {"name": "one"}}
    named = {"apiVersion": "v1", "kind": "Secret", "namespace": "demo", "name": "a"}
    assert (
        unfollowed(ring, named)
        == "Secret demo/a: nothing follows an object that is in no namespace"
    )


@pytest.mark.parametrize(
    ("what", "reason", "message"),
    [
        ((), "", ""),
        ((NEAR,), "", ""),
        ((NEAR, FAR, FAR), LEFT, "Secret other/key: what is in another namespace does not follow"),
        (("{'kind': 'Secret'}",), FAILED, "an entry is no reference to an object; what followed before goes on"),
    ],
)  # fmt: skip
def test_what_is_left_behind(what: tuple[str, ...], reason: str, message: str) -> None:
    found = references.left_behind(scripts(*what), BOOK)
    assert found[0] == reason
    assert found[1].endswith(message)


def test_only_the_first_are_named() -> None:
    many = [FAR.replace("key", f"key{i}") for i in range(8)]
    _, message = references.left_behind(scripts(*many), BOOK)
    assert message.count("other/key") == references.TOLD_MAX
    assert message.endswith("; and 3 more")


def test_it_is_told_once_with_an_event_and_taken_back() -> None:
    said, *events = references.plan(binding(), LEFT, "Secret other/key: why", NOW)
    assert isinstance(said, SetStatus)
    (fresh,) = said.status["conditions"]
    assert (fresh["type"], fresh["status"], fresh["reason"]) == (CONDITION, "False", LEFT)
    assert {e.reason for e in events if isinstance(e, Emit)} == {"DependencyNotFollowed"}
    told = binding(held=fresh)
    assert references.plan(told, LEFT, "Secret other/key: why", NOW) == []
    (gone,) = references.plan(told, "", "", NOW)
    assert isinstance(gone, SetStatus)
    assert gone.status["conditions"] == []
    assert references.plan(binding(), "", "", NOW) == []


@pytest.mark.parametrize(
    ("held", "said", "concerned"),
    [
        (binding(), scripts(FAR), True),
        (binding(), Customizations(), False),
        (binding(propagate=False), scripts(FAR), False),
        (binding(held={"type": CONDITION, "status": "False"}), Customizations(), True),
    ],
)
def test_whom_it_concerns(held: ResourceBinding, said: Customizations, concerned: bool) -> None:
    assert references.concerned(held, said) == concerned


# ------------------------------------------------------------------------------------------------- with all controllers
async def told(fleet: Fleet, key: ObjectKey) -> Condition | None:
    held = await fleet.client.get(binding_resource(key), key)
    return condition(held.status.conditions, CONDITION)


async def needed(fleet: Fleet, resource: Resource[Any], *what: str) -> None:
    """An object of the kind, placed with what it needs."""
    await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(resource))
    await fleet.client.create(CUSTOMIZATIONS, needing(*what, kind=resource.kind))
    selector = {"apiVersion": resource.api_version, "kind": resource.kind}
    spec = {
        "resourceSelectors": [selector],
        "placement": {"clusterAffinity": {"clusterNames": ["alpha"]}},
        "propagateDeps": True,
    }
    policy = of(CLUSTER_PROPAGATION_POLICIES, "all", spec=spec)
    await fleet.client.create(CLUSTER_PROPAGATION_POLICIES, policy)
    await asyncio.sleep(1)
    await fleet.client.create(resource, of(resource, "one", spec={}))
    await asyncio.sleep(2)


def test_an_object_of_another_namespace_is_told_and_the_rest_follows() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await needed(fleet, GUESTBOOKS, NEAR, FAR)
        assert len(await fleet.works("alpha", "ConfigMap")) == 1
        key = ObjectKey("demo", "one-guestbook")
        held = await told(fleet, key)
        assert held is not None
        assert held.message == "Secret other/key: what is in another namespace does not follow"
        assert "DependencyNotFollowed" in {
            e.reason for e in (await fleet.client.list(EVENTS, "demo")).items
        }
        said = {"dependencyInterpretation": {"expression": f"[{NEAR}]"}}
        body = {"spec": {"customizations": said}}
        await fleet.client.patch(CUSTOMIZATIONS, ObjectKey("", "guestbook"), body)
        await asyncio.sleep(2)
        assert await told(fleet, key) is None
        assert len(await fleet.works("alpha", "ConfigMap")) == 1

    fleet_story(story)


def test_of_an_object_of_a_cluster_everything_is_told() -> None:
    async def story(fleet: Fleet) -> None:
        await needed(fleet, RINGS, NEAR, CLASS)
        held = await told(fleet, ObjectKey("", "one-ring"))
        assert held is not None
        assert held.message == (
            "ConfigMap demo/settings: nothing follows an object that is in no namespace; "
            "storage.k8s.io/v1 StorageClass fast: its kind does not follow what refers to it"
        )

    fleet_story(story)
