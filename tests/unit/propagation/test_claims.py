"""Who has a template: claims that stay, are taken, and end (Karmada's rules of priority and preemption)."""

from typing import Any

import msgspec
import pytest

from federation.controllers import detector
from federation.propagation import claims
from machinery.api.fleet.policy import ClusterPropagationPolicy, PropagationPolicy
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Patch
from machinery.meta.resource import Document

TEMPLATE: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "demo", "labels": {"app": "web"}},
}
KIND = {"apiVersion": "apps/v1", "kind": "Deployment"}


def own(name: str, selector: Document = KIND, /, **spec: Any) -> Any:
    return made(PropagationPolicy, {"name": name, "namespace": "demo"}, selector, spec)


def cluster(name: str, selector: Document = KIND, /, **spec: Any) -> Any:
    return made(ClusterPropagationPolicy, {"name": name}, selector, spec)


def made(kind: Any, metadata: Document, selector: Document, spec: Document) -> Any:
    going = spec.pop("going", False)
    metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
    return msgspec.convert(
        {"metadata": metadata, "spec": {"resourceSelectors": [selector]} | spec}, kind
    )


def held(policy: Any) -> dict[str, str]:
    return {k: v for k, v in claims.annotations(policy).items() if v is not None}


ELSE = KIND | {"name": "other"}


@pytest.mark.parametrize(
    ("before", "policies", "now", "preempted"),
    [
        (None, [own("a"), cluster("z", priority=9)], "a", ""),
        ("a", [own("a"), own("b", KIND | {"name": "web"}, priority=9)], "a", ""),
        ("a", [own("a"), own("b", priority=9, preemption="Always")], "b", "demo/a"),
        ("a", [own("a"), own("b", preemption="Always")], "a", ""),
        ("a", [own("a"), own("b", priority=9, preemption="Always"), own("c", priority=10, preemption="Always")], "c", "demo/a"),
        ("a", [own("a"), own("b", ELSE, priority=9, preemption="Always")], "a", ""),
        ("a", [own("a"), cluster("z", priority=9, preemption="Always")], "a", ""),
        ("z", [cluster("z", priority=9), own("a")], "z", ""),
        ("z", [cluster("z", priority=9), own("a", preemption="Always")], "a", "z"),
        ("z", [cluster("z"), cluster("y", priority=1, preemption="Always")], "y", "z"),
        ("z", [cluster("z"), cluster("y", preemption="Always")], "z", ""),
        ("a", [own("a", going=True), own("b")], "b", ""),
        ("a", [own("a", ELSE), own("b")], "b", ""),
        ("a", [own("a", ELSE)], None, ""),
        ("a", [], None, ""),
        ("default-spread", [cluster("default-spread", priority=-1000), cluster("y", priority=-2000)], "default-spread", ""),
        ("default-spread", [cluster("default-spread", priority=-1000), own("a")], "a", ""),
        ("default-spread", [cluster("default-spread", priority=-1000), cluster("y")], "y", ""),
    ],
    ids=[
        "nobody had it", "a better one comes later", "preempted by priority", "preemption needs a higher priority",
        "the best of the preempting", "who does not select it takes nothing", "a cluster policy takes nothing from a namespace's",
        "a namespace's policy comes later", "and preempts whatever the priority", "cluster policies among themselves",
        "cluster policies of equal priority", "the holder is going", "the holder selects it no more",
        "and nobody else does", "no policy is left", "the default keeps what is worse", "the default yields to a namespace's",
        "the default yields to a cluster policy",
    ],
)  # fmt: skip
def test_whose_the_template_is(
    before: str | None, policies: list[Any], now: str | None, preempted: str
) -> None:
    holder = next((p for p in policies if p.metadata.name == before), own(before or "x"))
    marks = held(holder) if before else {}
    namespaced = [p for p in policies if p.metadata.namespace]
    of_all = [p for p in policies if not p.metadata.namespace]
    claim = claims.decide(TEMPLATE, marks, namespaced, of_all)
    assert (claim.policy.metadata.name if claim else None) == now
    assert (claim.preempted if claim else "") == preempted


@pytest.mark.parametrize(
    ("policy", "overrides", "claimed"),
    [
        (own("a", dependentOverrides=["o"]), [], False),
        (own("a", dependentOverrides=["o"]), [("demo", "o")], True),
        (own("a", dependentOverrides=["o", "p"]), [("demo", "o")], False),
        (own("a", dependentOverrides=["o"]), [("", "o"), ("prod", "o")], False),
        (cluster("a", dependentOverrides=["o"]), [("", "o")], True),
        (cluster("a", dependentOverrides=["o"]), [("demo", "o")], False),
    ],
)
def test_a_policy_waits_for_its_overrides(
    policy: Any, overrides: list[tuple[str, str]], claimed: bool
) -> None:
    own_ones = [policy] if policy.metadata.namespace else []
    of_all = [] if policy.metadata.namespace else [policy]
    found = claims.decide(TEMPLATE, {}, own_ones, of_all, overrides)
    assert (found is not None) == claimed
    kept = claims.decide(TEMPLATE, held(policy), own_ones, of_all, overrides)
    assert kept is not None, "what it has it keeps"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (claims.Claim(own("b"), "demo/a"), "Propagation policy(demo/b) preempted propagation policy(demo/a) successfully"),
        (claims.Claim(own("b"), "z"), "Propagation policy(demo/b) preempted cluster propagation policy(z) successfully"),
        (claims.Claim(cluster("y"), "z"), "Cluster propagation policy(y) preempted cluster propagation policy(z) successfully"),
    ],
)  # fmt: skip
def test_a_preemption_is_told(claim: claims.Claim, said: str) -> None:
    assert claims.preemption_message(claim) == said


def test_what_nobody_claims_any_more_keeps_its_place() -> None:
    bound: Document = {
        "metadata": {"name": "web-deployment", "namespace": "demo", "annotations": held_by("a")},
        "spec": {"clusters": [{"name": "alpha", "replicas": 6}], "placement": {}},
    }
    (patch,) = detector.plan(TEMPLATE, None, msgspec.convert(bound, ResourceBinding), bound)
    assert isinstance(patch, Patch)
    assert patch.patch == {"metadata": {"annotations": dict.fromkeys(held_by("a"))}}
    left = bound | {"metadata": bound["metadata"] | {"annotations": {}}}
    assert detector.plan(TEMPLATE, None, msgspec.convert(left, ResourceBinding), left) == []


def held_by(name: str) -> dict[str, str]:
    return held(own(name))


# ------------------------------------------------------------------------------------------------------- what stays on Works
def work_of(metadata: Document, **spec: Any) -> Document:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": spec}
    return {"metadata": {"name": "w"}, "spec": {"workload": {"manifests": [manifest]}}}


HELD = work_of(
    {
        "name": "c",
        "annotations": {claims.POLICY_NAME: "p", "note": "x"},
        "labels": {claims.POLICY_ID: "1"},
    },
    colour="blue",
)


def test_a_policy_that_lets_go_writes_no_work_anew() -> None:
    made = work_of({"name": "c", "annotations": {"note": "x"}}, colour="blue")
    assert claims.released(made, HELD)["spec"] == HELD["spec"]


def test_its_marks_go_with_the_next_change() -> None:
    made = work_of({"name": "c", "annotations": {"note": "x"}}, colour="green")
    assert claims.released(made, HELD) is made
    assert claims.released(made, None) is made
