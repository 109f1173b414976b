"""Manifests in the shapes of Karmada's published samples, applied unchanged to a federation of three: where everything goes.

The samples: nginx, alpine, echo, progressive-rollout (the application, and the objects of its ingress controller),
service_discovery, guestbook. Their fields are kept as they are; names of images are not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from federation.simulator.server import FederationServer
from federation.simulator.virtual import VirtualClock, run
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, execution_namespace
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.client.interface import dynamic
from machinery.kit.clock import rfc3339_micro
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document, ObjectKey
from machinery.server.local import LocalClient

MEMBERS = ("member1", "member2", "member3")
PLURALS = {
    "ConfigMap": ("v1", "configmaps", True),
    "Namespace": ("v1", "namespaces", False),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "Deployment": ("apps/v1", "deployments", True),
    "Job": ("batch/v1", "jobs", True),
    "Ingress": ("networking.k8s.io/v1", "ingresses", True),
    "IngressClass": ("networking.k8s.io/v1", "ingressclasses", False),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "CustomResourceDefinition": (
        "apiextensions.k8s.io/v1", "customresourcedefinitions", False,
    ),
    "Guestbook": ("webapp.my.domain/v1", "guestbooks", True),
    "PropagationPolicy": ("policy.karmada.io/v1alpha1", "propagationpolicies", True),
    "ClusterPropagationPolicy": (
        "policy.karmada.io/v1alpha1", "clusterpropagationpolicies", False,
    ),
    "OverridePolicy": ("policy.karmada.io/v1alpha1", "overridepolicies", True),
    "ServiceExport": ("multicluster.x-k8s.io/v1alpha1", "serviceexports", True),
}  # fmt: skip


def of(kind: str, name: str, namespace: str = "default", **fields: Any) -> Document:
    api_version, _, namespaced = PLURALS[kind]
    metadata: Document = {"name": name} | ({"namespace": namespace} if namespaced else {})
    metadata |= fields.pop("metadata", {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata} | fields


def workload(name: str, replicas: int, namespace: str = "default", **env: str) -> Document:
    labels = {"app": name}
    container: Document = {"name": name, "image": "whoami:1"}
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return of("Deployment", name, namespace, metadata={"labels": labels}, spec=spec)


def policy(
    selected: list[Document], clusters: tuple[str, ...], kind: str = "PropagationPolicy",
    name: str = "p", **placement: Any,
) -> Document:  # fmt: skip
    """A policy that names its objects, as the samples' policies do."""
    selectors = [
        {"apiVersion": one["apiVersion"], "kind": one["kind"], "name": one["metadata"]["name"]}
        for one in selected
    ]
    where = {"clusterAffinity": {"clusterNames": list(clusters)}} | placement
    namespace = selected[0]["metadata"].get("namespace", "default")
    return of(kind, name, namespace, spec={"resourceSelectors": selectors, "placement": where})


class Fleet:
    """A server with three members that are heard of."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.server = FederationServer(self.clock, SeededIds(1))
        self.client: LocalClient

    async def start(self) -> None:
        await self.server.start()
        self.client = self.server.client("samples")
        for name in MEMBERS:
            await self.server.admit(name)
        await asyncio.sleep(1)
        for name in MEMBERS:
            spec = {"syncMode": "Pull", "zones": [f"zone-{name}"], "region": "r"}
            head = {"apiVersion": CLUSTERS.api_version, "kind": "Cluster"}
            await self.client.create(CLUSTERS, head | {"metadata": {"name": name}, "spec": spec})
            room = {"allocatable": {"pods": "100", "cpu": "64", "memory": "64Gi"}}
            await self.client.patch(
                CLUSTERS, ObjectKey("", name), {"status": {"resourceSummary": room}},
                subresource="status",
            )  # fmt: skip
            lease = {"apiVersion": LEASES.api_version, "kind": "Lease"}
            metadata = {"name": name, "namespace": CLUSTER_LEASES}
            renewed = {"renewTime": rfc3339_micro(self.clock.now())}
            await self.client.create(LEASES, lease | {"metadata": metadata, "spec": renewed})
        await asyncio.sleep(1)

    async def apply(self, *documents: Document) -> None:
        for document in documents:
            api_version, plural, namespaced = PLURALS[document["kind"]]
            group, _, version = api_version.rpartition("/")
            kind = dynamic(group, version, plural, document["kind"], namespaced)
            await self.client.create(kind, document)
            if document["kind"] == "CustomResourceDefinition":
                await asyncio.sleep(1)
        await asyncio.sleep(2)

    async def stands(self, kind: str, name: str) -> dict[str, Document]:
        """What is sent to each member of the object."""
        found: dict[str, Document] = {}
        for member in MEMBERS:
            works = await self.client.list(WORK_DOCUMENTS, execution_namespace(member))
            for work in works.items:
                (manifest,) = work["spec"]["workload"]["manifests"]
                if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name):
                    found[member] = manifest
        return found

    async def replicas(self, name: str) -> dict[str, int]:
        found = await self.stands("Deployment", name)
        return {member: manifest["spec"]["replicas"] for member, manifest in found.items()}


def told(story: Callable[[Fleet], Awaitable[None]]) -> None:
    async def whole() -> None:
        fleet = Fleet()
        await fleet.start()
        await story(fleet)
        await fleet.server.stop()

    run(whole())


def even(*clusters: str) -> Document:
    return {
        "replicaDivisionPreference": "Weighted",
        "replicaSchedulingType": "Divided",
        "weightPreference": {
            "staticWeightList": [
                {"targetCluster": {"clusterNames": [name]}, "weight": 1} for name in clusters
            ]
        },
    }


# ------------------------------------------------------------------------------------------------------ nginx, alpine, echo
def test_nginx_is_halved_and_labelled_where_the_override_says() -> None:
    async def story(fleet: Fleet) -> None:
        app = workload("nginx", 2)
        two = MEMBERS[:2]
        rules = [
            {
                "targetCluster": {"clusterNames": ["member2"]},
                "overriders": {
                    "labelsOverrider": [
                        {"operator": "add", "value": {"env": "skoala-dev"}},
                        {"operator": "remove", "value": {"for": "for"}},
                        {"operator": "replace", "value": {"bar": "test"}},
                    ]
                },
            },
            {
                "targetCluster": {"clusterNames": ["member1"]},
                "overriders": {
                    "annotationsOverrider": [{"operator": "add", "value": {"env": "stage"}}]
                },
            },
        ]
        selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nginx"}
        spec = {"resourceSelectors": [selector], "overrideRules": rules}
        await fleet.apply(
            of("OverridePolicy", "nginx-op", spec=spec),
            policy([app], two, replicaScheduling=even(*two)),
            app,
        )
        assert await fleet.replicas("nginx") == {"member1": 1, "member2": 1}
        there = await fleet.stands("Deployment", "nginx")
        assert there["member2"]["metadata"]["labels"]["env"] == "skoala-dev"
        assert there["member1"]["metadata"]["annotations"]["env"] == "stage"

    told(story)


def test_echo_is_duplicated_and_a_weight_beside_that_means_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        app = workload("echo", 2, PORT="80", WHERE="here")
        scheduling = {
            "replicaDivisionPreference": "Weighted",
            "replicaSchedulingType": "Duplicated",
            "weightPreference": {"dynamicWeight": "AvailableReplicas"},
        }
        change = {
            "operator": "replace",
            "path": "/spec/template/spec/containers/0/env/1/value",
            "value": "override",
        }
        rules = [
            {
                "targetCluster": {"clusterNames": ["member2"]},
                "overriders": {"plaintext": [change]},
            }
        ]
        selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "echo"}
        spec = {"resourceSelectors": [selector], "overrideRules": rules}
        await fleet.apply(
            of("OverridePolicy", "echo-op", spec=spec),
            policy([app], MEMBERS[:2], replicaScheduling=scheduling),
            app,
        )
        assert await fleet.replicas("echo") == {"member1": 2, "member2": 2}
        there = await fleet.stands("Deployment", "echo")
        says = {m: d["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] for m, d in there.items()}  # fmt: skip
        assert says == {"member1": "here", "member2": "override"}

    told(story)


# --------------------------------------------------------------------------------------------------- progressive rollout
@pytest.mark.parametrize(
    ("scheduling", "replicas"),
    [
        pytest.param({"replicaSchedulingType": "Divided"}, 2, id="base: divided evenly"),
        pytest.param(None, 6, id="wave: no word of replicas duplicates"),
    ],
)
def test_an_application_with_its_service_and_ingress(
    scheduling: Document | None, replicas: int
) -> None:
    async def story(fleet: Fleet) -> None:
        app = workload("probe", 6)
        ports = [{"port": 80, "targetPort": 8080}]
        service = of("Service", "probe", spec={"ports": ports, "selector": {"app": "probe"}})
        backend = {"service": {"name": "probe", "port": {"number": 80}}}
        paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
        rule = {"host": "probe.local", "http": {"paths": paths}}
        ingress = of("Ingress", "probe", spec={"ingressClassName": "nginx", "rules": [rule]})
        more = {} if scheduling is None else {"replicaScheduling": scheduling}
        await fleet.apply(app, service, ingress)
        await fleet.apply(policy([app, service, ingress], MEMBERS, **more))
        assert await fleet.replicas("probe") == dict.fromkeys(MEMBERS, replicas)
        for kind in ("Service", "Ingress"):
            assert set(await fleet.stands(kind, "probe")) == set(MEMBERS)

    told(story)


def test_a_canary_goes_to_its_one_cluster_only() -> None:
    async def story(fleet: Fleet) -> None:
        app = workload("probe-canary", 1)
        await fleet.apply(app, policy([app], ("member1",)))
        assert await fleet.replicas("probe-canary") == {"member1": 1}

    told(story)


def test_an_ingress_controller_with_all_that_belongs_to_it() -> None:
    async def story(fleet: Fleet) -> None:
        where = "ingress"
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
        account = {"kind": "ServiceAccount", "name": "controller", "namespace": where}
        group = {"apiGroup": "rbac.authorization.k8s.io"}
        pod = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "OnFailure"}
        inside = [
            of("ServiceAccount", "controller", where),
            of("Role", "controller", where, rules=rules),
            of(
                "RoleBinding", "controller", where, subjects=[account],
                roleRef=group | {"kind": "Role", "name": "controller"},
            ),
            of("ConfigMap", "controller", where, data={"a": "b"}),
            workload("controller", 1, where),
            of("Service", "controller", where, spec={"ports": [{"port": 80}]}),
            of("Job", "controller", where, spec={"template": {"spec": pod}}),
        ]  # fmt: skip
        outside = [
            of("ClusterRole", "controller", rules=rules),
            of(
                "ClusterRoleBinding", "controller", subjects=[account],
                roleRef=group | {"kind": "ClusterRole", "name": "controller"},
            ),
            of("IngressClass", "controller", spec={"controller": "example.org/ingress"}),
        ]  # fmt: skip
        await fleet.apply(of("Namespace", where))
        await fleet.apply(policy(inside, MEMBERS))
        await fleet.apply(policy(outside, MEMBERS, "ClusterPropagationPolicy"))
        await fleet.apply(*inside, *outside)
        for document in (*inside, *outside):
            kind = document["kind"]
            assert set(await fleet.stands(kind, "controller")) == set(MEMBERS), kind
        assert set(await fleet.stands("Namespace", where)) == set(MEMBERS)

    told(story)


# ----------------------------------------------------------------------------------------------------- service discovery
def test_a_service_is_exported_where_its_workload_is() -> None:
    async def story(fleet: Fleet) -> None:
        where = "discovery"
        app = workload("serve", 1, where)
        spec = {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "serve"}}
        service, export = of("Service", "serve", where, spec=spec), of("ServiceExport", "serve", where)  # fmt: skip
        await fleet.apply(of("Namespace", where), app, service)
        await fleet.apply(policy([app, service], ("member1",)))
        await fleet.apply(export, policy([export], ("member1",), name="export"))
        assert await fleet.replicas("serve") == {"member1": 1}
        assert set(await fleet.stands("Service", "serve")) == {"member1"}
        assert set(await fleet.stands("ServiceExport", "serve")) == {"member1"}

    told(story)


# ------------------------------------------------------------------------------------------------------------- guestbook
DEFINITION = {
    "group": "webapp.my.domain",
    "names": {
        "kind": "Guestbook", "listKind": "GuestbookList", "plural": "guestbooks",
        "singular": "guestbook",
    },
    "scope": "Namespaced",
    "versions": [
        {
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": {
                            "type": "object", "required": ["configMapName", "size"],
                            "properties": {
                                "alias": {"enum": ["Phone", "Address", "Name"], "type": "string"},
                                "configMapName": {"type": "string", "minLength": 1, "maxLength": 15},
                                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10},
                            },
                        },
                        "status": {
                            "type": "object", "required": ["active", "standby"],
                            "properties": {
                                "active": {"type": "string"},
                                "standby": {"type": "array", "items": {"type": "string"}},
                            },
                        },
                    },
                }
            },
        }
    ],
}  # fmt: skip


def test_a_guestbook_goes_with_its_definition_and_is_changed_where_the_override_says() -> None:
    async def story(fleet: Fleet) -> None:
        nothing = {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}  # fmt: skip
        crd = of(
            "CustomResourceDefinition", "guestbooks.webapp.my.domain", spec=DEFINITION,
            status=nothing, metadata={"creationTimestamp": None},
        )  # fmt: skip
        wide = policy([crd], ("member1",), "ClusterPropagationPolicy", name="example-policy")
        book = of("Guestbook", "sample", spec={"size": 2, "configMapName": "test", "alias": "Name"})
        selector = {"apiVersion": "webapp.my.domain/v1", "kind": "Guestbook"}
        placement = {"clusterAffinity": {"clusterNames": ["member1"]}}
        own = of(
            "PropagationPolicy", "example-policy",
            spec={"resourceSelectors": [selector], "placement": placement},
        )  # fmt: skip
        steps = [
            {"path": "/spec/size", "operator": "replace", "value": 4},
            {"path": "/metadata/annotations", "operator": "add", "value": {"OverridePolicy": "test"}},
        ]  # fmt: skip
        rules = [
            {"targetCluster": {"clusterNames": ["member1"]}, "overriders": {"plaintext": steps}}
        ]
        override = of(
            "OverridePolicy", "guestbook-sample",
            spec={"resourceSelectors": [selector], "overrideRules": rules},
        )  # fmt: skip
        await fleet.apply(crd, wide, override, own, book)
        assert set(await fleet.stands("CustomResourceDefinition", crd["metadata"]["name"])) == {"member1"}  # fmt: skip
        there = await fleet.stands("Guestbook", "sample")
        assert set(there) == {"member1"}
        assert there["member1"]["spec"]["size"] == 4
        assert there["member1"]["metadata"]["annotations"]["OverridePolicy"] == "test"

    told(story)
