"""Services follow the workloads of their namespace, without what a cluster gave them."""

from collections.abc import Callable

import msgspec
import pytest

from federation.controllers.followers import Occupied, chosen, plan, runs_in
from federation.placement.model import Candidate
from federation.propagation.interpreter import portable
from federation.propagation.overrides.policies import Overrides
from machinery.api.core import ObjectReference
from machinery.api.fleet.policy import OverridePolicy
from machinery.api.fleet.work import (
    BINDING_LABEL,
    ResourceBinding,
    ResourceBindingSpec,
    TargetCluster,
)
from machinery.controller.action import Create, Delete, Emit, Patch, RequeueAfter
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import Document


def service(**spec: object) -> Document:
    ports = [{"name": "http", "port": 80, "targetPort": 80, "nodePort": 30080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "demo", "uid": "u", "resourceVersion": "7"},
        "spec": {"type": "NodePort", "ports": ports, "selector": {"app": "web"}} | spec,
        "status": {"loadBalancer": {}},
    }


def binding(*clusters: str) -> ResourceBinding:
    targets = tuple(TargetCluster(name, 1) for name in clusters)
    return ResourceBinding(
        metadata=ObjectMeta(name="b", namespace="demo"), spec=ResourceBindingSpec(clusters=targets)
    )


def test_addresses_and_node_ports_stay_at_home() -> None:
    spec = portable(service(clusterIP="10.96.0.7", clusterIPs=["10.96.0.7"]))["spec"]
    assert "clusterIP" not in spec
    assert spec["ports"] == [{"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}]


def test_a_headless_service_stays_headless() -> None:
    spec = portable(service(type="ClusterIP", clusterIP="None", clusterIPs=["None"]))["spec"]
    assert spec["clusterIP"] == "None"
    assert "clusterIPs" not in spec


class Told:
    """An informer of bindings by hand, what is counted of them, and whom it told."""

    def __init__(self) -> None:
        self.tell: Callable[[ResourceBinding | None, ResourceBinding | None], None] = print
        self.moved: list[str] = []
        self.occupied = Occupied(self)  # type: ignore[arg-type]
        self.occupied.on_moved(self.moved.append)

    def on_change(
        self, handler: Callable[[ResourceBinding | None, ResourceBinding | None], None]
    ) -> None:
        self.tell = handler


def test_the_clusters_are_those_of_all_bindings() -> None:
    told = Told()
    told.tell(None, named("a", "alpha", "gone"))
    told.tell(None, named("b", "beta", "alpha"))
    assert told.occupied.of("demo") == {"alpha", "beta", "gone"}
    assert told.occupied.of("other") == frozenset()
    assert chosen(told.occupied.of("demo"), ["alpha", "beta", "gamma"]) == ["alpha", "beta"]


def test_followers_hear_only_of_clusters_that_are_new_or_left() -> None:
    told = Told()
    first, second = named("a", "alpha", "beta"), named("b", "alpha")
    told.tell(None, first)
    assert told.moved == ["demo"]
    told.tell(None, second)
    told.tell(second, named("b", "beta"))
    assert told.moved == ["demo"], "all of it ran in both before"
    told.tell(first, named("a", "beta"))
    assert (told.moved, told.occupied.of("demo")) == (["demo", "demo"], {"beta"})
    told.tell(named("a", "beta"), None)
    assert len(told.moved) == 2, "the other one is still there"
    told.tell(named("b", "beta"), None)
    assert (len(told.moved), told.occupied.of("demo")) == (3, frozenset())


def test_who_leaves_is_nowhere() -> None:
    told = Told()
    standing = named("a", "alpha")
    told.tell(None, standing)
    metadata = msgspec.structs.replace(standing.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    told.tell(standing, msgspec.structs.replace(standing, metadata=metadata))
    assert told.occupied.of("demo") == frozenset()


def named(name: str, *clusters: str) -> ResourceBinding:
    found = binding(*clusters)
    return msgspec.structs.replace(
        found, metadata=msgspec.structs.replace(found.metadata, name=name)
    )


def placed(kind: str, name: str, *clusters: str) -> ResourceBinding:
    source = ObjectReference(api_version="v1", kind=kind, namespace="demo", name=name, uid="u")
    return msgspec.structs.replace(
        binding(*clusters),
        spec=ResourceBindingSpec(
            resource=source, clusters=tuple(TargetCluster(name) for name in clusters)
        ),
    )


def test_a_service_is_nothing_that_others_follow_but_its_own_export() -> None:
    own = placed("Service", "web", "beta")
    assert runs_in(placed("ConfigMap", "c", "alpha")) == {"alpha"}
    assert runs_in(own) == frozenset()
    known = ["alpha", "beta"]
    assert chosen(["alpha"], known) == ["alpha"]
    assert chosen(["alpha"], known, own) == ["alpha", "beta"]


FLEET = {name: Candidate(name) for name in ("alpha", "beta")}


def test_a_policy_takes_over_what_stands_there_without_deleting_it() -> None:
    first = [a.document for a in plan(service(), ["alpha", "beta"], []) if isinstance(a, Create)]
    held = [w | {"metadata": w["metadata"] | {"uid": str(i)}} for i, w in enumerate(first)]
    own = placed("Service", "web", "alpha")
    (handed,) = plan(service(), ["alpha", "beta"], held, fleet=FLEET, bound=own)
    assert isinstance(handed, Patch)
    assert handed.key.namespace == "karmada-es-alpha"
    assert isinstance(handed.patch, list)
    labels = {key for op in handed.patch if op["path"] == "/metadata/labels" for key in op["value"]}
    assert BINDING_LABEL in labels


def test_a_policys_clusters_are_the_dispatchers() -> None:
    own = placed("Service", "web", "alpha")
    (made,) = plan(service(), ["alpha", "beta"], [], fleet=FLEET, bound=own)
    assert isinstance(made, Create)
    assert made.document["metadata"]["namespace"] == "karmada-es-beta"
    assert plan(service(), [], [], fleet=FLEET, bound=own) == []


def test_what_a_policy_lets_go_is_waited_for() -> None:
    own = placed("Service", "web", "alpha")
    (later,) = plan(service(), ["beta"], [], fleet=FLEET, bound=own, leaving=lambda _: True)
    assert isinstance(later, RequeueAfter)


def test_works_come_and_go_with_the_clusters() -> None:
    actions = plan(service(), ["alpha", "beta"], [])
    works = [a.document for a in actions if isinstance(a, Create)]
    assert [w["metadata"]["namespace"] for w in works] == ["karmada-es-alpha", "karmada-es-beta"]
    held = [w | {"metadata": w["metadata"] | {"uid": str(i)}} for i, w in enumerate(works)]
    assert plan(service(), ["alpha", "beta"], held) == []
    (gone,) = plan(service(), ["alpha"], held)
    assert isinstance(gone, Delete)
    assert gone.key.namespace == "karmada-es-beta"
    assert len(plan(None, ["alpha"], held)) == 2


def test_the_api_servers_own_service_is_not_propagated() -> None:
    own = service()
    own["metadata"] = {"name": "kubernetes", "namespace": "default"}
    assert plan(own, ["alpha"], []) == []


def overriding(**plaintext: object) -> Overrides:
    rules = [
        {
            "targetCluster": {"clusterNames": ["beta"]},
            "overriders": {"plaintext": [{"operator": "replace"} | plaintext]},
        }
    ]
    metadata = {"name": "o", "namespace": "demo"}
    spec = {"overrideRules": rules}
    return Overrides((), (msgspec.convert({"metadata": metadata, "spec": spec}, OverridePolicy),))


def test_override_policies_change_a_service_for_a_cluster() -> None:
    overrides = overriding(path="/spec/type", value="ClusterIP")
    actions = plan(service(), ["alpha", "beta"], [], overrides)
    works = [a.document for a in actions if isinstance(a, Create)]
    kinds = [w["spec"]["workload"]["manifests"][0]["spec"]["type"] for w in works]
    assert kinds == ["NodePort", "ClusterIP"]
    held = [w | {"metadata": w["metadata"] | {"uid": str(i)}} for i, w in enumerate(works)]
    assert plan(service(), ["alpha", "beta"], held, overrides) == []


@pytest.mark.parametrize(
    ("plaintext", "why"),
    [
        ({"path": "/spec/nope", "value": 1}, "replace operation does not apply"),
        ({"path": "/metadata/name", "value": "x"}, "kind, namespace and name of this object"),
    ],
    ids=["does not fit", "a new name"],
)
def test_where_a_policy_fails_the_service_stays_and_hears_of_it(
    plaintext: Document, why: str
) -> None:
    before = plan(service(), ["alpha", "beta"], [])
    works = [a.document for a in before if isinstance(a, Create)]
    held = [w | {"metadata": w["metadata"] | {"uid": str(i)}} for i, w in enumerate(works)]
    (told,) = plan(service(), ["alpha", "beta"], held, overriding(**plaintext))
    assert isinstance(told, Emit)
    assert told.message.startswith("Apply override policy(demo/o) for cluster(beta) failed: " + why)
