"""Whether a member's object is as its manifest says, how a difference is told, and when repairs pause."""

from typing import Any

import pytest

from cluster_agent.link.agreement import (
    Repairs,
    besides,
    differences,
    fingerprint,
    is_mark,
    reports_only,
    told,
    writer,
)
from machinery.api.fleet.work import MANIFEST_DIGEST
from machinery.meta.resource import Document


def deployment(**spec: Any) -> Document:
    containers = [{"name": "web", "image": "whoami:1", "env": [{"name": "A", "value": "1"}]}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo", "labels": {"app": "web"}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}} | spec,
    }


def containers(*items: Document) -> Document:
    return {"template": {"spec": {"containers": list(items)}}}


SIDECAR = {"name": "mesh", "image": "proxy:1"}
WEB = {"name": "web", "image": "whoami:1", "env": [{"name": "A", "value": "1"}]}
IMAGE = "spec.template.spec.containers[0].image"


@pytest.mark.parametrize(
    ("live", "paths"),
    [
        (deployment(), []),
        (deployment(replicas=7), ["spec.replicas"]),
        (deployment(paused=True), []),
        (deployment(**containers(WEB | {"image": "hacked"})), [IMAGE]),
        (deployment(**containers(SIDECAR, WEB)), []),
        (deployment(**containers(SIDECAR)), ["spec.template.spec.containers[0]"]),
        (deployment(**containers()), ["spec.template.spec.containers[0]"]),
        (
            deployment(**containers(WEB | {"env": [{"name": "A", "value": "2"}]})),
            ["spec.template.spec.containers[0].env[0].value"],
        ),
        (deployment() | {"status": {"replicas": 0}}, []),
        (deployment() | {"spec": {}}, ["spec.replicas", "spec.template"]),
    ],
    ids=[
        "the same",
        "scaled by hand",
        "what the manifest leaves open",
        "another image",
        "a sidecar before it",
        "the container is another",
        "no containers",
        "a value of a list in a list",
        "a status",
        "emptied",
    ],
)
def test_paths_that_differ(live: Document, paths: list[str]) -> None:
    assert [one.path for one in differences(deployment(), live)] == paths


@pytest.mark.parametrize(
    ("wanted", "found", "differs"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, False),
        ({"a": "1"}, {"a": "2"}, True),
        ({"a": ""}, {}, False),
        ({"a": None}, {}, False),
        ({"a": {}}, {}, False),
        ({"a": 0}, {}, True),
        ({"a": False}, {}, True),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, True),
        ({"a": ["x"]}, {"a": ["x", "y"]}, True),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": 2}]}, False),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}, {"x": 2}]}, True),
        (
            {"a": [{"port": 80, "protocol": "UDP"}]},
            {"a": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]},
            False,
        ),
        ({"a": [{"name": "x"}, {"name": "x", "v": 1}]}, {"a": [{"name": "x"}, {"name": "x", "v": 2}]}, True),
    ],
)  # fmt: skip
def test_values(wanted: Document, found: Document, differs: bool) -> None:
    head: Document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert bool(differences(head | {"data": wanted}, head | {"data": found})) is differs


def test_labels_and_annotations_are_compared_key_by_key() -> None:
    live = deployment()
    live["metadata"] |= {"labels": {"app": "changed", "extra": "1"}, "annotations": {"mine": "x"}}
    (one,) = differences(deployment(), live)
    assert (one.path, one.wanted, one.found) == ('metadata.labels["app"]', "web", "changed")


@pytest.mark.parametrize(
    ("key", "mark"),
    [
        ("karmada.io/managed", True),
        ("work.karmada.io/name", True),
        ("propagationpolicy.karmada.io/permanent-id", True),
        (MANIFEST_DIGEST, True),
        ("resourcetemplate.karmada.io/uid", True),
        ("resourcetemplate.karmada.io/deletion-protected", False),
        ("ubernetes.io/drift", False),
        ("app", False),
    ],
)
def test_the_federations_own_words_can_be_left_out(key: str, mark: bool) -> None:
    assert is_mark(key) is mark
    stated = deployment()
    stated["metadata"]["labels"] = {key: "x"}
    assert bool(differences(stated, deployment(), marks=False)) is not mark
    assert bool(differences(stated, deployment())) is (key != MANIFEST_DIGEST)


def test_the_report_names_value_and_wish() -> None:
    found = differences(deployment(), deployment(replicas=7))
    assert told(deployment(), found) == "Deployment demo/web: spec.replicas is 7, wanted 2"
    gone = differences(deployment(), deployment() | {"spec": {"replicas": 2}})
    assert "spec.template is missing, wanted" in told(deployment(), gone)


def test_the_report_is_bounded() -> None:
    head: Document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    wanted = head | {"data": {f"k{i}": "v" * 500 for i in range(500)}}
    (gone,) = differences(wanted, head)
    assert gone.path == "data", "a part that is gone is one difference"
    other = head | {"data": {f"k{i}": "w" for i in range(500)}}
    found = differences(wanted, other)
    assert len(found) == 200
    said = told(wanted, found)
    assert said.endswith("and 190 more")
    assert len(said) < 2048


def test_of_a_secret_only_paths_are_told() -> None:
    head: Document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    wanted, live = head | {"data": {"key": "aGlkZGVu"}}, head | {"data": {"key": "b3RoZXI="}}
    said = told(wanted, differences(wanted, live))
    assert said == "Secret x: data.key"


def test_what_the_member_writes_so_by_itself_is_no_drift() -> None:
    settled = differences(deployment(), deployment(replicas=3))
    assert not besides(differences(deployment(), deployment(replicas=3)), settled)
    assert besides(differences(deployment(), deployment(replicas=4)), settled)


def test_a_status_leaves_the_fingerprint_alone() -> None:
    live = deployment() | {"status": {"replicas": 1}}
    live["metadata"] = live["metadata"] | {"resourceVersion": "9", "generation": 3}
    assert fingerprint(live) == fingerprint(deployment())
    assert fingerprint(deployment(replicas=3)) != fingerprint(deployment())


def test_who_wrote_last_is_told() -> None:
    live = deployment()
    live["metadata"]["managedFields"] = [
        {"manager": "ubernetes-federation", "time": "2026-01-01T00:00:09Z"},
        {"manager": "helm", "time": "2026-01-01T00:00:01Z"},
        {"manager": "kubectl-edit", "time": "2026-01-01T00:00:02Z"},
        {"manager": "controller", "time": "2026-01-01T00:00:08Z", "subresource": "status"},
    ]
    assert writer(live, "ubernetes-federation") == "kubectl-edit"
    assert writer(deployment(), "ubernetes-federation") == ""


@pytest.mark.parametrize(
    ("value", "only"), [("Report", True), ("report", True), ("Repair", False), ("", False)]
)
def test_drift_may_be_left_alone(value: str, only: bool) -> None:
    manifest = deployment()
    manifest["metadata"]["annotations"] = {"ubernetes.io/drift": value}
    assert reports_only(manifest) is only


# -------------------------------------------------------------------------------------------------------- repairs
def fought(*times: float) -> Repairs:
    """Repairs made at these moments, each when it was allowed."""
    repairs = Repairs()
    for now in times:
        assert repairs.pause(now) == 0.0, f"not allowed at {now}"
        repairs = repairs.after(now)
    return repairs


@pytest.mark.parametrize(
    ("times", "now", "pause"),
    [
        ((0.0, 1.0, 2.0, 3.0), 3.0, 0.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0), 4.0, 60.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0), 64.0, 0.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 64.0), 64.0, 120.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 64.0, 184.0), 184.0, 240.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 64.0, 184.0, 424.0, 904.0), 904.0, 600.0),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 1000.0), 1000.0, 0.0),
        ((0.0, 30.0, 61.0, 92.0, 123.0, 154.0), 154.0, 0.0),
    ],
    ids=[
        "four in a row",
        "the fifth",
        "after the pause",
        "one soon after it",
        "and again",
        "never more than ten minutes",
        "long after",
        "slowly",
    ],
)
def test_repairs_pause(times: tuple[float, ...], now: float, pause: float) -> None:
    assert fought(*times).pause(now) == pause
