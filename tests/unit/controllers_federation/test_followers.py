"""Services follow the workloads of their namespace, without what a cluster gave them."""

from federation.controllers.followers import chosen, plan, portable
from machinery.api.fleet.work import ResourceBinding, ResourceBindingSpec, TargetCluster
from machinery.controller.action import Create, Delete
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


def test_the_clusters_are_those_of_all_bindings_that_still_are_members() -> None:
    bindings = [binding("alpha", "gone"), binding("beta", "alpha")]
    assert chosen(bindings, ["alpha", "beta", "gamma"]) == ["alpha", "beta"]


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
