"""What a ServiceExport may export besides the Service: labels and annotations that can stand on the import."""

import pytest

from machinery.api.fleet.multicluster_kinds import SERVICE_EXPORT
from machinery.api.validation import validate_create, validate_update
from machinery.meta.resource import Document


def export(spec: Document | None = None) -> Document:
    document: Document = {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": {"name": "web", "namespace": "demo", "resourceVersion": "1"},
    }
    return document if spec is None else document | {"spec": spec}


CASES = [
    ("no spec", None, []),
    ("fine", {"exportedLabels": {"app": "web", "example.org/x": ""}}, []),
    ("a bad key", {"exportedLabels": {"a b": "x"}}, ["spec.exportedLabels"]),
    ("a bad value", {"exportedLabels": {"a": "x y"}}, ["spec.exportedLabels"]),
    ("annotations hold anything", {"exportedAnnotations": {"a": "x y"}}, []),
    ("but not any key", {"exportedAnnotations": {"a b": ""}}, ["spec.exportedAnnotations"]),
    ("ours", {"exportedLabels": {"ubernetes.io/cluster": "x"}}, ["spec.exportedLabels"]),
    (
        "below ours",
        {"exportedAnnotations": {"work.karmada.io/name": "x"}},
        ["spec.exportedAnnotations"],
    ),
    ("a namesake", {"exportedLabels": {"myubernetes.io/a": "x"}}, []),
    ("no text", {"exportedLabels": {"a": 7}}, ["spec.exportedLabels.a"]),
]


@pytest.mark.parametrize(("spec", "fields"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_exported_metadata(spec: Document | None, fields: list[str]) -> None:
    found = validate_create(SERVICE_EXPORT, export(spec))
    assert [cause["field"] for cause in found] == fields
    changed = validate_update(SERVICE_EXPORT, export(spec), export({"exportedLabels": {"b": "c"}}))
    assert [cause["field"] for cause in changed] == fields


def test_a_status_is_written_whatever_the_spec_was() -> None:
    old = export({"exportedLabels": {"ubernetes.io/cluster": "x"}})
    assert validate_update(SERVICE_EXPORT, old | {"status": {}}, old, "status") == []
