"""The scheme, the built kinds, and the schema data behind them."""

import pytest

from machinery.api import plans, schemas
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.multicluster_kinds import SERVICE_EXPORT
from machinery.api.kinds import BUILTIN, POD, SUBRESOURCE_KINDS, subresource_body
from machinery.api.scheme import Scheme, ServedKind, face


def test_lookup_by_path_and_by_kind() -> None:
    scheme = Scheme(BUILTIN)
    assert scheme.by_plural("", "v1", "pods") is POD
    assert scheme.by_gvk("", "v1", "Pod") is POD
    assert scheme.by_plural("batch", "v1", "jobs") is None
    assert scheme.groups()["apps"] == ("v1",)


def test_a_face_is_another_version_of_the_same_objects() -> None:
    older = face(SERVICE_EXPORT, "v1alpha1")
    scheme = Scheme([SERVICE_EXPORT, older])
    assert scheme.stored(older) is scheme.stored(SERVICE_EXPORT) is SERVICE_EXPORT
    assert scheme.groups()[older.group] == ("v1beta1", "v1alpha1")
    assert older.schema_name != SERVICE_EXPORT.schema_name
    assert schemas.schema_of(older)["properties"] is schemas.schema_of(SERVICE_EXPORT)["properties"]
    events = Scheme(BUILTIN)
    new = events.by_gvk("events.k8s.io", "v1", "Event")
    assert new is not None
    assert events.stored(new) is events.by_gvk("", "v1", "Event")


def test_a_taken_path_is_refused() -> None:
    with pytest.raises(ValueError, match="already served"):
        Scheme([POD, POD])


@pytest.mark.parametrize("kind", BUILTIN, ids=lambda k: f"{k.group}/{k.kind}")
def test_every_built_kind_has_a_schema_and_a_checker(kind: ServedKind) -> None:
    assert "properties" in schemas.schema_of(kind)
    assert plans.node_of(kind.schema_name).fields
    assert plans.quick_type(kind.schema_name) is not None


@pytest.mark.parametrize("kind", FLEET, ids=lambda k: k.kind)
def test_own_kinds_bring_their_schema(kind: ServedKind) -> None:
    assert kind.custom
    assert schemas.schema_of(kind)["type"] == "object"


def test_bodies_of_subresources() -> None:
    bodies = {
        s.name: subresource_body(POD, s) for s in POD.subresources if not s.kind.endswith("Options")
    }
    assert bodies["status"] is POD
    assert bodies["eviction"].api_version == "policy/v1"
    assert all(name in schemas.definitions() for name in SUBRESOURCE_KINDS.values())


def test_references_lead_to_definitions() -> None:
    definitions = schemas.definitions()
    assert all(
        name in definitions for schema in definitions.values() for name in _references(schema)
    )


def _references(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [name for one in schema for name in _references(one)]
    if not isinstance(schema, dict):
        return []
    found = [name for one in schema.values() for name in _references(one)]
    reference = schema.get("$ref")
    return (
        [*found, reference.removeprefix(schemas.REFERENCE)] if isinstance(reference, str) else found
    )


def test_merge_keys_are_kept() -> None:
    containers = schemas.definition("io.k8s.api.core.v1.PodSpec")["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]


def test_resolve_follows_references() -> None:
    spec = schemas.definition("io.k8s.api.core.v1.Pod")["properties"]["spec"]
    assert "containers" in schemas.resolve(spec)["properties"]
