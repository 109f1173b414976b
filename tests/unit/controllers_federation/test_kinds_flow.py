"""Kinds beside Deployments through all controllers of the federation: where they go, what follows, what is said of them."""

import asyncio
from typing import Any

from tests.unit.controllers_federation.test_flow import CONFIGMAP, ZONES, Fleet, fleet_story

from federation.propagation.templates import (
    CONFIGMAPS,
    CRONJOBS,
    DEPLOYMENTS,
    INGRESSES,
    NETWORK_POLICIES,
    REPLICATION_CONTROLLERS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
)
from machinery.api.fleet.cluster import CLUSTERS, GRANTS_ENFORCED
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.resilience import FENCED, GRANT_SECONDS
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS, ResourceBinding
from machinery.client.interface import PatchType
from machinery.meta.resource import Document, ObjectKey, Resource

POD = {
    "containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": "settings"}}]}]
}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": POD}
APPLIED = {
    "type": "Applied", "status": "True", "reason": "AppliedSuccessful", "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}  # fmt: skip


def thing(resource: Resource[Document], name: str, **spec: Any) -> Document:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": "demo"},
        "spec": spec,
    }


def stateful_set(replicas: int) -> Document:
    return thing(
        STATEFULSETS, "db", replicas=replicas, serviceName="db",
        selector={"matchLabels": {"app": "x"}}, template=TEMPLATE,
    )  # fmt: skip


async def no_grants(fleet: Fleet) -> None:
    """No member's kubelets enforce grants, as in foreign clusters."""
    for name in ZONES:
        marks = {"metadata": {"annotations": {GRANTS_ENFORCED: "false"}}}
        await fleet.client.patch(CLUSTERS, ObjectKey("", name), marks)
    await asyncio.sleep(1)


async def policy(fleet: Fleet, resource: Resource[Document], *clusters: str) -> None:
    """The kind goes to these clusters, with what it needs."""
    selector = {"apiVersion": resource.api_version, "kind": resource.kind}
    document = {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": PROPAGATION_POLICIES.kind,
        "metadata": {"name": "p", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [selector],
            "propagateDeps": True,
            "placement": {"clusterAffinity": {"clusterNames": list(clusters)}},
        },
    }
    await fleet.client.create(PROPAGATION_POLICIES, document)


async def binding(fleet: Fleet, name: str) -> ResourceBinding:
    return await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", name))


async def report(fleet: Fleet, cluster: str, kind: str, status: Document) -> None:
    """What the cluster's link says of the one object of that kind."""
    (work,) = await fleet.works(cluster, kind)
    (manifest,) = work["spec"]["workload"]["manifests"]
    group, _, version = manifest["apiVersion"].rpartition("/")
    named = {k: manifest["metadata"][k] for k in ("name", "namespace")}
    identifier = {"ordinal": 0, "group": group, "version": version, "kind": kind, **named}
    said = {"identifier": identifier, "status": status, "health": "Healthy"}
    await fleet.client.patch(
        WORK_DOCUMENTS,
        ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"]),
        {"status": {"conditions": [APPLIED], "manifestStatuses": [said]}},
        subresource="status",
    )
    await asyncio.sleep(1)


def test_a_stateful_set_goes_whole_to_one_cluster_on_grants_and_what_it_needs_follows() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await fleet.client.create(STATEFULSETS, stateful_set(3))
        await asyncio.sleep(1)
        (target,) = (await binding(fleet, "db-statefulset")).spec.clusters
        assert target.replicas == 3
        (work,) = await fleet.works(target.name, "StatefulSet")
        assert work["metadata"]["labels"][FENCED] == "true"
        (manifest,) = work["spec"]["workload"]["manifests"]
        assert manifest["spec"]["replicas"] == 3
        assert GRANT_SECONDS in manifest["spec"]["template"]["metadata"]["annotations"]
        assert len(await fleet.works(target.name, "ConfigMap")) == 1

    fleet_story(story)


def test_without_grants_anywhere_it_waits_and_its_binding_says_why() -> None:
    async def story(fleet: Fleet) -> None:
        await no_grants(fleet)
        await fleet.client.create(STATEFULSETS, stateful_set(1))
        await asyncio.sleep(1)
        placed = await binding(fleet, "db-statefulset")
        assert placed.spec.clusters == ()
        scheduled = next(c for c in placed.status.conditions if c.type == "Scheduled")
        assert scheduled.status == "False"
        assert GRANTS_ENFORCED in scheduled.message

    fleet_story(story)


def test_a_cron_job_goes_to_one_cluster() -> None:
    async def story(fleet: Fleet) -> None:
        template = {"spec": {"template": TEMPLATE | {"spec": POD | {"restartPolicy": "Never"}}}}
        await fleet.client.create(
            CRONJOBS, thing(CRONJOBS, "tidy", schedule="@hourly", jobTemplate=template)
        )
        await asyncio.sleep(1)
        (target,) = (await binding(fleet, "tidy-cronjob")).spec.clusters
        (work,) = await fleet.works(target.name, "CronJob")
        assert work["metadata"]["labels"][FENCED] == "true"

    fleet_story(story)


def test_counts_leave_out_who_is_not_heard_of_and_his_entry_says_since_when() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, STATEFULSETS, "alpha", "beta")
        await fleet.client.create(STATEFULSETS, stateful_set(2))
        await asyncio.sleep(1)
        key = ObjectKey("demo", "db")
        generations = {"generation": 1, "observedGeneration": 1, "resourceTemplateGeneration": 1}
        for cluster in ("alpha", "beta"):
            await fleet.beat(*ZONES)
            await report(
                fleet, cluster, "StatefulSet", {"replicas": 2, "readyReplicas": 2} | generations
            )
        status = (await fleet.client.get(STATEFULSETS, key))["status"]
        assert (status["replicas"], status["readyReplicas"]) == (4, 4)
        assert status["observedGeneration"] == 1
        for _ in range(8):
            await fleet.beat("alpha", "gamma")
            await asyncio.sleep(2)
        status = (await fleet.client.get(STATEFULSETS, key))["status"]
        assert (status["replicas"], status["readyReplicas"]) == (2, 2)
        items = {
            i.cluster_name: i
            for i in (await binding(fleet, "db-statefulset")).status.aggregated_status
        }
        assert items["alpha"].applied_message == ""
        assert items["beta"].health == "Unknown"
        assert items["beta"].applied_message.startswith("not heard of since 2")
        assert (items["beta"].status or {})["readyReplicas"] == 2

    fleet_story(story)


def test_replication_controllers_are_divided_as_deployments_are() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await fleet.client.create(
            REPLICATION_CONTROLLERS, thing(REPLICATION_CONTROLLERS, "old", replicas=6, template=TEMPLATE)
        )  # fmt: skip
        await asyncio.sleep(1)
        placed = await binding(fleet, "old-replicationcontroller")
        assert {t.name: t.replicas for t in placed.spec.clusters} == dict.fromkeys(ZONES, 2)
        generations = {"generation": 1, "observedGeneration": 1, "resourceTemplateGeneration": 1}
        for cluster in ZONES:
            assert len(await fleet.works(cluster, "ConfigMap")) == 1
            counts = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}
            await report(fleet, cluster, "ReplicationController", counts | generations)
        held = await fleet.client.get(REPLICATION_CONTROLLERS, ObjectKey("demo", "old"))
        counted = {"replicas": 6, "readyReplicas": 6, "availableReplicas": 3}
        assert held["status"] == counted | {"observedGeneration": 1}

    fleet_story(story)


def test_an_ingress_takes_its_certificate_along_and_shows_its_addresses() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, INGRESSES, "alpha", "beta")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}}
        await fleet.client.create(SECRETS, secret, "demo")
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        ingress = thing(INGRESSES, "web", defaultBackend=backend, tls=[{"secretName": "tls"}])
        await fleet.client.create(INGRESSES, ingress)
        await asyncio.sleep(1)
        assert len(await fleet.works("beta", "Secret")) == 1
        assert await fleet.works("gamma", "Secret") == []
        address = {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}
        await report(fleet, "alpha", "Ingress", address)
        assert (await fleet.client.get(INGRESSES, ObjectKey("demo", "web")))["status"] == address

    fleet_story(story)


def test_a_service_shows_the_addresses_that_clusters_gave_it() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(
            SERVICES, thing(SERVICES, "web", type="LoadBalancer", ports=[{"port": 80}])
        )
        deployment = thing(
            DEPLOYMENTS,
            "web",
            replicas=3,
            selector={"matchLabels": {"app": "x"}},
            template=TEMPLATE,
        )
        await fleet.client.create(DEPLOYMENTS, deployment)
        await asyncio.sleep(1)
        key, point = ObjectKey("demo", "web"), {"ip": "1.1.1.1"}
        await report(fleet, "alpha", "Service", {"loadBalancer": {"ingress": [point]}})
        status = (await fleet.client.get(SERVICES, key))["status"]
        assert status["loadBalancer"]["ingress"][0]["ip"] == "1.1.1.1"
        await report(fleet, "alpha", "Service", {"loadBalancer": {}})
        status = (await fleet.client.get(SERVICES, key))["status"]
        assert not status["loadBalancer"].get("ingress")

    fleet_story(story)


def test_a_policy_brings_a_service_where_nothing_of_its_namespace_runs() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, SERVICES, "alpha", "gamma")
        await fleet.client.create(SERVICES, thing(SERVICES, "web", ports=[{"port": 80}]))
        await asyncio.sleep(1)
        (work,) = await fleet.works("gamma", "Service")
        assert work["metadata"]["annotations"]["resourcebinding.karmada.io/name"] == "web-service"
        assert len(await fleet.works("alpha", "Service")) == 1
        assert await fleet.works("beta", "Service") == []
        point = {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}
        await report(fleet, "gamma", "Service", point)
        status = (await fleet.client.get(SERVICES, ObjectKey("demo", "web")))["status"]
        assert status["loadBalancer"]["ingress"][0]["ip"] == "1.1.1.1"

    fleet_story(story)


def test_a_service_that_a_policy_takes_is_deleted_nowhere_and_still_follows() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(SERVICES, thing(SERVICES, "web", ports=[{"port": 80}]))
        deployment = thing(
            DEPLOYMENTS, "web", replicas=3, selector={"matchLabels": {"app": "x"}},
            template=TEMPLATE,
        )  # fmt: skip
        await fleet.client.create(DEPLOYMENTS, deployment)
        await asyncio.sleep(1)
        before = {c: await fleet.works(c, "Service") for c in ZONES}
        await policy(fleet, SERVICES, "alpha")
        await asyncio.sleep(2)
        after = {c: await fleet.works(c, "Service") for c in ZONES}
        for cluster in ZONES:
            (old,), (new,) = before[cluster], after[cluster]
            assert old["metadata"]["uid"] == new["metadata"]["uid"]
            bound = "resourcebinding.karmada.io/name" in (new["metadata"].get("annotations") or {})
            assert bound == (cluster == "alpha")

    fleet_story(story)


def test_a_policy_that_divides_replicas_sends_what_has_none_whole() -> None:
    async def story(fleet: Fleet) -> None:
        await policy(fleet, CONFIGMAPS, "alpha", "beta")
        divided = {"replicaScheduling": {"replicaSchedulingType": "Divided"}}
        key = ObjectKey("demo", "p")
        await fleet.client.patch(PROPAGATION_POLICIES, key, {"spec": {"placement": divided}})
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await asyncio.sleep(1)
        placed = (await binding(fleet, "settings-configmap")).spec.clusters
        assert {t.name: t.replicas for t in placed} == {"alpha": 0, "beta": 0}

    fleet_story(story)


def test_what_only_a_policy_sends_stays_without_one() -> None:
    async def story(fleet: Fleet) -> None:
        rules = thing(NETWORK_POLICIES, "closed", podSelector={})
        await fleet.client.create(NETWORK_POLICIES, rules)
        await asyncio.sleep(1)
        assert await fleet.works("alpha", "NetworkPolicy") == []
        await policy(fleet, NETWORK_POLICIES, "alpha")
        await asyncio.sleep(1)
        assert len(await fleet.works("alpha", "NetworkPolicy")) == 1
        change = [{"op": "add", "path": "/spec/policyTypes", "value": ["Egress"]}]
        key = ObjectKey("demo", "closed")
        await fleet.client.patch(NETWORK_POLICIES, key, change, PatchType.JSON)
        await asyncio.sleep(1)
        (work,) = await fleet.works("alpha", "NetworkPolicy")
        (manifest,) = work["spec"]["workload"]["manifests"]
        assert manifest["spec"]["policyTypes"] == ["Egress"]

    fleet_story(story)
