"""Writes to mirrors: what is passed on to the member, and that nothing changes an image alone."""

from types import SimpleNamespace
from typing import Any

import pytest

from federation.clusters.admission import MembersObjects
from federation.clusters.forward import APPLY, member_path, portable
from federation.clusters.mirroring import mirrored
from machinery.api.kinds import BUILTIN
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.user import ADMIN, LOOPBACK, UserInfo

MERGE = "application/merge-patch+json"
NODE: Document = {
    "kind": "Node",
    "metadata": {"name": "node-1", "resourceVersion": "7"},
    "spec": {},
}


def written(verb: str, kind: str, old: Document | None, user: UserInfo) -> AdmissionRequest:
    served = next(k for k in BUILTIN if k.kind == kind and k.group in ("", "apps"))
    call: Any = SimpleNamespace(user=user)
    return AdmissionRequest(verb, served, "", "node-1.alpha", "", old or {}, old, call)


@pytest.mark.parametrize(
    ("content_type", "body", "passed"),
    [
        (MERGE, b'{"spec":{"unschedulable":true}}', True),
        ("application/strategic-merge-patch+json", b'{"spec":{"taints":[{"key":"a"}]}}', True),
        ("application/json-patch+json", b'[{"op":"add","path":"/metadata/labels/a","value":"b"}]', True),
        (MERGE, b'{"metadata":{"resourceVersion":"7"}}', False),
        ("application/json-patch+json", b'[{"op":"test","path":"/metadata/resourceVersion","value":"7"}]', False),
        (APPLY, b'{"metadata":{"labels":{"a":"b"}}}', False),
    ],
)  # fmt: skip
def test_which_patches_say_the_same_at_the_member(content_type: str, body: bytes, passed: bool) -> None:  # fmt: skip
    assert portable(content_type, body) is passed


def test_paths() -> None:
    assert member_path("a", "b", "log", {"follow": ["true"]}) == "/api/v1/namespaces/a/pods/b/log?follow=true"  # fmt: skip
    assert member_path("", "node-1", "", {}) == "/api/v1/nodes/node-1"


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize("kind", ["Node", "Pod", "ReplicaSet", "Event"])
def test_an_image_alone_is_not_changed(verb: str, kind: str) -> None:
    image = mirrored({**NODE, "kind": kind, "involvedObject": {}}, "alpha")
    with pytest.raises(Forbidden, match='it is "node-1" of cluster "alpha"'):
        MembersObjects().validate(written(verb, kind, image, ADMIN))
    MembersObjects().validate(written(verb, kind, image, LOOPBACK))


def test_what_is_the_federations_own_is_changed() -> None:
    MembersObjects().validate(written("update", "ReplicaSet", NODE, ADMIN))
    MembersObjects().validate(written("update", "ConfigMap", mirrored(NODE, "alpha"), ADMIN))
