"""Which endpoint owns which part of an object, and when the generation moves."""

from typing import Any

import pytest

from machinery.api import strategy
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN, CSR, NAMESPACE, NODE, POD
from machinery.api.scheme import Scheme, ServedKind

SCHEME = Scheme(BUILTIN)
DEPLOYMENT = SCHEME.by_plural("apps", "v1", "deployments")
CONFIG_MAP = SCHEME.by_plural("", "v1", "configmaps")
LEASE = SCHEME.by_plural("coordination.k8s.io", "v1", "leases")
assert DEPLOYMENT and CONFIG_MAP and LEASE
META = {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3}


def stored(**parts: Any) -> Any:
    return {"metadata": dict(META)} | parts


def test_a_new_object_brings_nothing_that_the_server_sets() -> None:
    found = strategy.prepare_create(POD, {"metadata": META | {"deletionTimestamp": "x", "resourceVersion": "1"}, "spec": {}, "status": {"phase": "Running"}})  # fmt: skip
    assert found["metadata"] == {"name": "a", "generation": 1}
    assert found["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_generation_is_only_for_the_kinds_that_count() -> None:
    assert "generation" not in strategy.prepare_create(CONFIG_MAP, {"metadata": {}})["metadata"]
    assert strategy.prepare_create(FLEET[0], {"metadata": {}})["metadata"]["generation"] == 1


def test_a_node_may_bring_its_status() -> None:
    assert strategy.prepare_create(NODE, {"metadata": {}, "status": {"x": 1}})["status"] == {"x": 1}


def test_a_namespace_gets_its_finalizer() -> None:
    found = strategy.prepare_create(NAMESPACE, {"metadata": {}, "spec": {"finalizers": ["a/b"]}})
    assert found["spec"]["finalizers"] == ["a/b", "kubernetes"]


ENDPOINTS = [
    ("", {"replicas": 2}, {"replicas": 1}, 4),
    ("status", {"replicas": 1}, {"replicas": 5}, 3),
]


@pytest.mark.parametrize(("subresource", "spec", "status", "generation"), ENDPOINTS)
def test_spec_and_status_have_their_own_endpoints(
    subresource: str, spec: Any, status: Any, generation: int
) -> None:
    old = stored(spec={"replicas": 1}, status={"replicas": 1})
    new = stored(spec={"replicas": 2}, status={"replicas": 5})
    found = strategy.prepare_update(DEPLOYMENT, new, old, subresource)
    assert (found["spec"], found["status"], found["metadata"]["generation"]) == (
        spec,
        status,
        generation,
    )


GENERATIONS: list[tuple[ServedKind, dict[str, Any], int]] = [
    (DEPLOYMENT, {}, 3),
    (DEPLOYMENT, {"metadata": META | {"labels": {"a": "b"}}}, 3),
    (DEPLOYMENT, {"metadata": META | {"annotations": {"a": "b"}}}, 4),
    (DEPLOYMENT, {"metadata": META | {"generation": 9}}, 3),
    (POD, {"spec": {"x": 2}}, 4),
    (POD, {"metadata": META | {"annotations": {"a": "b"}}}, 3),
    (FLEET[0], {"spec": {"x": 2}}, 4),
    (FLEET[0], {"status": {"x": 2}}, 3),
]


@pytest.mark.parametrize(("kind", "change", "expected"), GENERATIONS)
def test_generation(kind: ServedKind, change: dict[str, Any], expected: int) -> None:
    old = stored(spec={"x": 1}, status={"x": 1})
    found = strategy.prepare_update(kind, old | change, old, "")
    assert found["metadata"]["generation"] == expected


def test_identity_is_kept_and_a_foreign_one_left_to_validation() -> None:
    old = stored()
    kept = strategy.prepare_update(CONFIG_MAP, {"metadata": {"name": "a"}}, old, "")["metadata"]
    assert (kept["uid"], kept["creationTimestamp"]) == ("u", META["creationTimestamp"])
    other = {"metadata": {"name": "a", "uid": "other", "creationTimestamp": "x"}}
    found = strategy.prepare_update(CONFIG_MAP, other, old, "")["metadata"]
    assert (found["uid"], found["creationTimestamp"]) == ("other", META["creationTimestamp"])


def test_an_object_that_is_being_deleted_stays_so() -> None:
    old = {"metadata": META | {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 5}}
    found = strategy.prepare_update(CONFIG_MAP, stored(), old, "")["metadata"]
    assert (found["deletionTimestamp"], found["deletionGracePeriodSeconds"]) == ("t", 5)


def test_labels_through_status() -> None:
    labelled = {"metadata": META | {"labels": {"a": "b"}}, "status": {}}
    for kind, let_through in ((POD, True), (NODE, True), (DEPLOYMENT, False), (FLEET[0], False)):
        found = strategy.prepare_update(kind, labelled, stored(status={}), "status")
        assert ("labels" in found["metadata"]) is let_through, kind.kind


def test_finalizers_of_a_namespace_go_through_finalize() -> None:
    old = stored(spec={"finalizers": ["kubernetes"]}, status={"phase": "Terminating"})
    new = stored(spec={"finalizers": []})
    assert strategy.prepare_update(NAMESPACE, new, old, "")["spec"] == old["spec"]
    assert strategy.prepare_update(NAMESPACE, new, old, "finalize")["spec"] == {"finalizers": []}


APPROVED, FAILED = {"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}


def test_approver_and_signer_write_different_conditions() -> None:
    old = stored(spec={}, status={"conditions": [APPROVED], "certificate": "c"})
    signer = strategy.prepare_update(
        CSR, stored(status={"conditions": [FAILED], "certificate": "d"}), old, "status"
    )
    assert signer["status"] == {"conditions": [APPROVED, FAILED], "certificate": "d"}
    approver = strategy.prepare_update(CSR, stored(status={"conditions": [FAILED], "certificate": "d"}), old, "approval")  # fmt: skip
    assert approver["status"] == {"conditions": [FAILED], "certificate": "c"}


def test_ephemeral_containers_take_nothing_else_along() -> None:
    old = stored(spec={"containers": [{"name": "c", "image": "a"}]}, status={"phase": "Running"})
    new = stored(
        spec={"containers": [{"name": "c", "image": "b"}], "ephemeralContainers": [{"name": "e"}]}
    )
    found = strategy.prepare_update(POD, new, old, "ephemeralcontainers")
    assert found["spec"] == old["spec"] | {"ephemeralContainers": [{"name": "e"}]}
    assert (found["status"], found["metadata"]["generation"]) == (old["status"], 4)


def test_resize_takes_resources_only() -> None:
    old = stored(spec={"containers": [{"name": "c", "image": "a", "resources": {}}]})
    new = stored(
        spec={"containers": [{"name": "c", "image": "b", "resources": {"limits": {"cpu": "1"}}}]}
    )
    found = strategy.prepare_update(POD, new, old, "resize")
    assert found["spec"]["containers"] == [
        {"name": "c", "image": "a", "resources": {"limits": {"cpu": "1"}}}
    ]


def test_fields_of_disabled_features_are_dropped() -> None:
    body = {
        "metadata": {},
        "spec": {"strategy": "X", "preferredHolder": "p", "holderIdentity": "h"},
    }
    assert strategy.prepare_create(LEASE, body)["spec"] == {"holderIdentity": "h"}


def test_scale_there_and_back() -> None:
    old = stored(spec={"replicas": 3, "x": 1}, status={"replicas": 2})
    scale = strategy.to_scale(old, "app=a")
    assert (scale["spec"], scale["status"]) == (
        {"replicas": 3},
        {"replicas": 2, "selector": "app=a"},
    )
    assert strategy.from_scale(old, scale | {"spec": {}})["spec"] == {"replicas": 0, "x": 1}


def test_binding() -> None:
    pod = stored(
        spec={},
        status={"conditions": [{"type": "PodScheduled", "status": "False"}, {"type": "Ready"}]},
    )
    found = strategy.bind(pod, {"metadata": {"labels": {"z": "1"}}, "target": {"name": "n"}}, "now")
    assert found["spec"]["nodeName"] == "n"
    assert found["metadata"]["labels"] == {"z": "1"}
    assert [(c["type"], c.get("status")) for c in found["status"]["conditions"]] == [("Ready", None), ("PodScheduled", "True")]  # fmt: skip


@pytest.mark.parametrize(("kind", "creates", "unconditional"), [(LEASE, True, False), (CONFIG_MAP, False, True), (FLEET[0], False, False)])  # fmt: skip
def test_how_an_update_may_come(kind: ServedKind, creates: bool, unconditional: bool) -> None:
    assert strategy.creates_on_update(kind) is creates
    assert strategy.allows_unconditional_update(kind) is unconditional
