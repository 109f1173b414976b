"""OpenAPI: closed documents, what kubectl looks for, and hashes that follow the content."""

from typing import Any

import orjson
import pytest

from machinery.api import openapi
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.api.openapi.reach import references
from machinery.api.scheme import Scheme, ServedKind

SCHEME = Scheme((*BUILTIN, *FLEET))
VERSIONS = [(group, version) for group, versions in SCHEME.groups().items() for version in versions]
WIDGET = ServedKind(
    "example.com", "v1", "Widget", "widgets", "widget", True, "com.example.v1.Widget",
    custom=True, schema={"type": "object", "properties": {"spec": {"type": "object"}}},
)  # fmt: skip


def document(group: str, version: str) -> dict[str, Any]:
    found = openapi.group_document(SCHEME, group, version)
    assert found is not None
    return found


@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_every_reference_is_there(group: str, version: str) -> None:
    found = document(group, version)
    schemas = found["components"]["schemas"]
    assert set(references(found)) == set(schemas)


@pytest.mark.parametrize(("group", "version"), VERSIONS)
def test_operation_ids_are_unique(group: str, version: str) -> None:
    ids = [
        operation["operationId"]
        for item in document(group, version)["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))


def test_what_kubectl_looks_for() -> None:
    path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    patch = document("apps", "v1")["paths"][path]["patch"]
    assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= {
        p["name"] for p in patch["parameters"]
    }
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    schema = document("apps", "v1")["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert gvk in schema["x-kubernetes-group-version-kind"]


def test_own_kinds_take_no_strategic_merge_patch() -> None:
    found = document("cluster.karmada.io", "v1alpha1")
    patch = found["paths"]["/apis/cluster.karmada.io/v1alpha1/clusters/{name}"]["patch"]
    assert set(patch["requestBody"]["content"]) == {
        "application/apply-patch+yaml",
        "application/json-patch+json",
        "application/merge-patch+json",
    }
    names = [n for n in found["components"]["schemas"] if n.endswith("Cluster")]
    schema = found["components"]["schemas"][names[0]]
    assert "metadata" in schema["properties"]


def test_subresources_speak_their_own_kind() -> None:
    paths = document("", "v1")["paths"]
    eviction = paths["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]
    assert eviction["x-kubernetes-group-version-kind"] == {
        "group": "policy",
        "version": "v1",
        "kind": "Eviction",
    }
    exec_ = paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]
    assert {exec_[m]["x-kubernetes-action"] for m in ("get", "post")} == {"connect"}


def test_the_index_follows_the_content() -> None:
    small = Scheme(BUILTIN)
    before = openapi.index(small)["paths"]
    small.register(WIDGET)
    after = openapi.index(small)["paths"]
    assert set(after) - set(before) == {"apis/example.com/v1"}
    assert all(after[path] == before[path] for path in before)
    other = Scheme([ServedKind(**{**_fields(WIDGET), "schema": {"type": "object"}})])
    assert openapi.index(other)["paths"]["apis/example.com/v1"] != after["apis/example.com/v1"]


def _fields(kind: ServedKind) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in kind.__dataclass_fields__}


def test_not_served() -> None:
    assert openapi.group_bytes(SCHEME, "nope", "v1") == (b"", "")
    assert openapi.group_document(SCHEME, "nope", "v1") is None


def test_swagger_is_closed_too() -> None:
    raw, digest = openapi.swagger_bytes(SCHEME)
    found = orjson.loads(raw)
    assert (found["swagger"], len(digest)) == ("2.0", 64)
    wanted = {name.removeprefix("#/definitions/") for name in references(found)}
    assert wanted == set(found["definitions"])
    assert b"#/components" not in raw
    post = found["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"]
    assert post["parameters"][0]["in"] == "body"
