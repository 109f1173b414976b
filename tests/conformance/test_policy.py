"""policy.yaml: which policy has a template, how policies are filled in and refused, and what a binding gets from them."""

from typing import Any

import msgspec
import pytest
from tests.support.tables import Row, cases

from federation.controllers import detector
from federation.propagation import claims
from federation.propagation.admission import defaults, rules
from federation.propagation.claims import Claim
from federation.propagation.matching import Policy
from federation.propagation.overrides import steps
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Create, Emit, Patch
from machinery.meta.resource import Document

KIND: Document = {"apiVersion": "apps/v1", "kind": "Deployment"}
TEMPLATE: Document = KIND | {
    "metadata": {
        "name": "web",
        "namespace": "demo",
        "uid": "u",
        "labels": {"app": "web", "tier": "gold"},
    },
    "spec": {"replicas": 2, "template": {"spec": {"containers": []}}},
}
SELECTORS: dict[str, Document] = {
    "kind": KIND,
    "label": KIND | {"labelSelector": {"matchLabels": {"app": "web"}}},
    "name": KIND | {"name": "web"},
    "other": KIND | {"name": "shop"},
    "tin": KIND | {"labelSelector": {"matchLabels": {"tier": "tin"}}},
}
OUTER = ("name", "cluster", "going", "selects")


def policy(said: Document) -> Policy:
    """`selects`: words of SELECTORS or selectors on the wire; what is not in OUTER is the spec's."""
    metadata: Document = {"name": said["name"], "uid": f"uid-{said['name']}"}
    if said.get("going"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    selected = said.get("selects", ["kind"])
    selectors = [SELECTORS[one] if isinstance(one, str) else KIND | one for one in selected]
    spec = {k: v for k, v in said.items() if k not in OUTER} | {"resourceSelectors": selectors}
    if said.get("cluster"):
        return msgspec.convert({"metadata": metadata, "spec": spec}, ClusterPropagationPolicy)
    metadata["namespace"] = "demo"
    return msgspec.convert({"metadata": metadata, "spec": spec}, PropagationPolicy)


@pytest.mark.parametrize("row", cases("policy", "claim"))
def test_claim(row: Row) -> None:
    every = [policy(said) for said in row["policies"]]
    held = [p for p in every if p.metadata.name == row.get("held")]
    marks = {k: v for p in held for k, v in claims.annotations(p).items() if v is not None}
    if row.get("gone"):
        every = [p for p in every if p not in held]
    claim = claims.decide(
        TEMPLATE,
        marks,
        [p for p in every if isinstance(p, PropagationPolicy)],
        [p for p in every if isinstance(p, ClusterPropagationPolicy)],
        [(where, name) for where, name in row.get("overrides", ())],
    )
    assert (claim.policy.metadata.name if claim else None) == row["has"]
    assert (claim.preempted if claim else "") == row.get("preempted", "")


def written(row: Row) -> Document:
    kind = "ClusterPropagationPolicy" if row.get("cluster") else "PropagationPolicy"
    metadata = {"name": "web"} | ({} if row.get("cluster") else {"namespace": "demo"})
    spec = {"resourceSelectors": [KIND]} | row["spec"]
    version = "policy.karmada.io/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("row", cases("policy", "filled"))
def test_filled(row: Row) -> None:
    document = defaults.propagation_policy(written(row), row.get("id", ""))
    for pointer, value in row.get("becomes", {}).items():
        assert steps.resolve(document, pointer) == value, pointer
    for pointer in row.get("without", ()):
        *above, last = pointer.split("/")
        assert last not in steps.resolve(document, "/".join(above)), pointer
    assert defaults.propagation_policy(document, "") == document


@pytest.mark.parametrize("row", cases("policy", "judged"))
def test_judged(row: Row) -> None:
    why = rules.propagation_policy(defaults.propagation_policy(written(row), ""))
    if "denied" in row.said:
        assert row["denied"] in why
    else:
        assert why == ""


def bound(template: Document, said: Document, classes: dict[str, int]) -> list[Any]:
    return detector.plan(template, Claim(policy({"name": "a"} | said)), None, None, None, classes)


@pytest.mark.parametrize("row", cases("policy", "binding"))
def test_binding(row: Row) -> None:
    classes = row.get("classes", {})
    actions = bound(TEMPLATE, row["policy"], classes)
    if "tells" in row.said:
        assert [a.reason for a in actions if isinstance(a, Emit)] == [row["tells"]]
        assert not [a for a in actions if isinstance(a, Create)]
        return
    (created,) = [a for a in actions if isinstance(a, Create)]
    document = dict(created.document)
    for pointer, value in row.get("has", {}).items():
        assert steps.resolve(document["spec"], pointer) == value, pointer
    for field in row.get("without", ()):
        assert field not in document["spec"]
    if "then" not in row.said and "replicas" not in row.said:
        return
    later = TEMPLATE | {"spec": TEMPLATE["spec"] | {"replicas": row.get("replicas", 2)}}
    claim = Claim(policy({"name": "a"} | row.get("then", row["policy"])))
    held = msgspec.convert(document, ResourceBinding)
    actions = detector.plan(later, claim, held, document, None, classes)
    changes = [a.patch for a in actions if isinstance(a, Patch) and isinstance(a.patch, list)]
    assert sorted(op["path"] for ops in changes for op in ops) == row["changes"]
