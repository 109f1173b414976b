"""What may travel, and what policies are told of kinds that do not."""

from typing import Any

import pytest

from federation.propagation.admission.plugin import idle
from federation.propagation.templates import propagatable, why_unselectable
from federation.propagation.works import binding_name
from machinery.meta.resource import Document

RBAC = "rbac.authorization.k8s.io/v1"


def wide(kind: str, name: str, **fields: Any) -> Document:
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name}} | fields


@pytest.mark.parametrize(
    ("document", "travels"),
    [
        (wide("ClusterRole", "reader"), True),
        (wide("ClusterRole", "system:node"), False),
        (wide("ClusterRole", "ubernetes:cluster:alpha"), False),
        (wide("ClusterRoleBinding", "karmada:x"), False),
        (wide("PriorityClass", "system-node-critical"), False),
        (wide("PriorityClass", "high"), True),
        (wide("CustomResourceDefinition", "x", spec={"group": "example.io"}), True),
        (wide("CustomResourceDefinition", "x", spec={"group": "policy.karmada.io"}), False),
        (wide("CustomResourceDefinition", "x", spec={"group": "ubernetes.io"}), False),
        (wide("CustomResourceDefinition", "x", spec={"group": "notkarmada.io"}), True),
        (wide("Ring", "one", spec={"group": "policy.karmada.io"}), True),
    ],
)
def test_objects_of_a_cluster(document: Document, travels: bool) -> None:
    assert propagatable(document) is travels


def test_roles_that_every_server_makes_stay() -> None:
    document = wide("ClusterRole", "edit")
    document["metadata"]["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    assert not propagatable(document)


@pytest.mark.parametrize(
    ("api_version", "kind", "why"),
    [
        (RBAC, "ClusterRole", ""),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", ""),
        ("webapp.my.domain/v1", "Guestbook", ""),
        ("gateway.networking.k8s.io/v1", "Gateway", ""),
        ("v1", "Pod", "v1 Pod is not propagated"),
        ("policy.karmada.io/v1alpha1", "OverridePolicy", "speaks to the federation itself"),
    ],
)
def test_why_a_kind_is_selected_in_vain(api_version: str, kind: str, why: str) -> None:
    said = why_unselectable(api_version, kind)
    assert (why in said) if why else not said


def test_a_policy_of_a_namespace_selects_nothing_without_one() -> None:
    selectors = [{"apiVersion": RBAC, "kind": "ClusterRole"}]
    policy = {"kind": "PropagationPolicy", "spec": {"resourceSelectors": selectors}}
    (warning,) = idle(policy)
    assert "a ClusterPropagationPolicy can select it" in warning
    assert list(idle(policy | {"kind": "ClusterPropagationPolicy"})) == []


def test_colons_are_no_part_of_a_bindings_name() -> None:
    assert binding_name("ClusterRole", "team:reader") == "team.reader-clusterrole"
