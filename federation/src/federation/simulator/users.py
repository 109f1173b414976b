"""Users and operators: they write at the federation, take a refusal for an answer, and remember what they were told.

Workloads named `one-N` are of mode `consistency` (label `mode`), with the strategy that one copy needs; others say by a label
how they rejoin. Policies of namespace `ubernetes-system` speak for both.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from federation.propagation.resilience import FLEET_WIDE
from federation.propagation.templates import (
    CLUSTER_ROLES,
    CONFIGMAPS,
    DEPLOYMENTS,
    NAMESPACES,
)
from federation.simulator import kinds
from federation.simulator.kubelet import GRACE_S
from federation.simulator.ledger import THERE, Fact, Ledger, Value
from federation.simulator.scenario import ONE, REJOINS, Step
from machinery.api.fleet.cluster import CLUSTERS, CORDON_TAINT, DRAIN_TAINT
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES, PROPAGATION_POLICIES
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS, RESILIENCE_POLICIES
from machinery.client.dynamic_kinds import CUSTOM_RESOURCE_DEFINITIONS
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, Resource

GRANT_SECONDS = 20
CONSISTENCY: Document = {
    "mode": "consistency",
    "grantSeconds": GRANT_SECONDS,
}
TAINTS = {"cordon": (CORDON_TAINT, "NoSchedule"), "drain": (DRAIN_TAINT, "NoExecute")}
TRIES = 5


def deployment(step: Step) -> Document:
    """The Deployment of a step: replicas and image in its value, a ConfigMap or how it rejoins in `extra`."""
    count, image = str(step.value).split()
    container: Document = {"name": "web", "image": image}
    pod: Document = {"containers": [container]}
    spec: Document = {
        "replicas": int(count),
        "selector": {"matchLabels": {"app": step.name}},
        "template": {"metadata": {"labels": {"app": step.name}}, "spec": pod},
    }
    labels: dict[str, str] = {}
    if step.name.startswith(ONE):
        labels["mode"] = "consistency"
        spec["strategy"] = {"type": "Recreate"}
        pod["terminationGracePeriodSeconds"] = int(GRACE_S)
    elif step.extra in REJOINS:
        labels["rejoin"] = step.extra
    elif step.extra in kinds.PREFERS:
        labels["prefers"] = step.extra
    elif step.extra:
        container["envFrom"] = [{"configMapRef": {"name": step.extra, "optional": True}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": step.name, "namespace": step.where, "labels": labels},
        "spec": spec,
    }


def resilience_policies() -> list[Document]:
    """How workloads outlive failures, by their labels."""

    def policy(name: str, label: dict[str, str], spec: Document) -> Document:
        selector = {"apiVersion": "apps/v1", "kind": "Deployment"}
        return {
            "apiVersion": RESILIENCE_POLICIES.api_version,
            "kind": RESILIENCE_POLICIES.kind,
            "metadata": {"name": name, "namespace": FLEET_WIDE},
            "spec": spec
            | {"resourceSelectors": [selector | {"labelSelector": {"matchLabels": label}}]},
        }

    rejoins = [
        policy(f"rejoin-{name.lower()}", {"rejoin": name}, {"rejoin": name}) for name in REJOINS
    ]
    consistency = policy("consistency", {"mode": "consistency"}, CONSISTENCY)
    return [consistency, *rejoins, *kinds.preferences()]


def config(step: Step) -> Document:
    """The ConfigMap of a step."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": step.name, "namespace": step.where},
        "data": {"number": str(step.value)},
    }


DIVIDED: Document = {"replicaSchedulingType": "Divided"}
WEIGHTS = [
    {"targetCluster": {"clusterNames": ["alpha"]}, "weight": 2},
    {"targetCluster": {"clusterNames": ["beta"]}, "weight": 1},
]
PLACEMENTS: dict[str, Document] = {
    "Duplicated": {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}},
    "Aggregated": {"replicaScheduling": DIVIDED | {"replicaDivisionPreference": "Aggregated"}},
    "Static": {
        "replicaScheduling": DIVIDED
        | {
            "replicaDivisionPreference": "Weighted",
            "weightPreference": {"staticWeightList": WEIGHTS},
        }
    },
    "Few": {
        "spreadConstraints": [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 2}],
        "replicaScheduling": DIVIDED
        | {
            "replicaDivisionPreference": "Weighted",
            "weightPreference": {"dynamicWeight": "AvailableReplicas"},
        },
    },
    "Pinned": {"clusterAffinity": {"clusterNames": ["gamma"]}},
    "Tolerant": {
        "replicaScheduling": {"replicaSchedulingType": "Duplicated"},
        "clusterTolerations": [{"key": DRAIN_TAINT, "operator": "Exists"}],
    },
}


def policy(step: Step) -> Document:
    """A PropagationPolicy for the Deployment of that name."""
    return {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": PROPAGATION_POLICIES.kind,
        "metadata": {"name": step.name, "namespace": step.where},
        "spec": {
            "resourceSelectors": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": step.name}
            ],
            "propagateDeps": True,
            "placement": PLACEMENTS[str(step.value)],
        },
    }


KINDS: dict[str, Resource[Any]] = {
    "deployment": DEPLOYMENTS,
    "config": CONFIGMAPS,
    "policy": PROPAGATION_POLICIES,
    "gadget": kinds.GADGETS,
    "role": CLUSTER_ROLES,
}
MAKERS: dict[str, Callable[[Step], Document]] = {
    "deployment": deployment,
    "config": config,
    "policy": policy,
    "gadget": kinds.gadget,
    "role": kinds.role,
}


class Users:
    """`client` gives a client of the server that runs, or raises ConnectionError; `run` is which process that is."""

    def __init__(self, client: Callable[[], Client], run: Callable[[], int]) -> None:
        self._client, self._run = client, run
        self.ledger = Ledger()

    async def prepare(self, prices: Iterable[Step], *, custom: bool, wide: bool) -> None:
        """What the operator sets up before anybody comes: policies, what members cost, and the kinds of `custom` and `wide`
        histories."""
        client = self._client()
        for document in resilience_policies():
            await client.create(RESILIENCE_POLICIES, document, FLEET_WIDE)
        if custom:
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, kinds.definition())
            await client.create(CUSTOMIZATIONS, kinds.interpreter())
        for document in (
            *(kinds.custom_policies() if custom else ()),
            *(kinds.wide_policies() if wide else ()),
        ):
            await client.create(CLUSTER_PROPAGATION_POLICIES, document)
        for step in prices:
            await self._ask(client, step)
            self._note(step, sure=True)

    async def perform(self, step: Step) -> str:
        """Why the server refused, or the empty string."""
        try:
            client, run = self._client(), self._run()
        except ConnectionError as error:
            return str(error)
        try:
            await self._ask(client, step)
        except StatusError as error:
            return str(error)
        except ConnectionError:
            answered = False
        else:
            answered = self._run() == run
        self._note(step, sure=answered)
        return "" if answered else "the server went away before it answered"

    def _note(self, step: Step, *, sure: bool) -> None:
        action, _, what = step.verb.partition("-")
        key = ObjectKey(step.where, step.name)
        match action:
            case "delete" if what == "namespace":
                self.ledger.emptied(step.where, sure=sure)
            case "delete" if what in PLURALS:
                self.ledger.deleted(PLURALS[what], key, sure=sure)
            case _:
                self.ledger.wrote(written(step), sure=sure)

    async def _ask(self, client: Client, step: Step) -> None:
        action, _, what = step.verb.partition("-")
        key = ObjectKey(step.where, step.name)
        match action:
            case "create" if what == "namespace":
                document = {"apiVersion": "v1", "kind": "Namespace"}
                await client.create(NAMESPACES, document | {"metadata": {"name": step.where}})
            case "create":
                await client.create(KINDS[what], MAKERS[what](step), step.where)
            case "delete" if what == "namespace":
                await client.delete(NAMESPACES, ObjectKey("", step.where))
            case "delete":
                options = DeleteOptions(propagation_policy=str(step.value) or None)
                await client.delete(KINDS[what], key, options)
            case "price":
                said = {kinds.FIGURE_OF[step.name]: str(step.value) or None}
                member = ObjectKey("", step.where)
                await client.patch(CLUSTERS, member, {"metadata": {"annotations": said}})
            case "cordon" | "drain" | "uncordon":
                await self._taint(client, step)
            case "switch":
                await self._switch(client, str(step.value))
            case _:
                resource, patch, how = changed(step)
                await client.patch(resource, key, patch, how)

    async def _taint(self, client: Client, step: Step) -> None:
        """As `fedctl cordon`, `drain` and `uncordon`: the list is read, changed and written back as it was read."""
        key = ObjectKey("", step.where)
        for last in (*[False] * (TRIES - 1), True):
            cluster = await client.get(CLUSTER_DOCUMENTS, key)
            taints = list(cluster["spec"].get("taints") or ())
            kept = [t for t in taints if not t["key"].startswith("ubernetes.io/")]
            if step.verb in TAINTS:
                name, effect = TAINTS[step.verb]
                kept.append({"key": name, "effect": effect})
            version = {"resourceVersion": cluster["metadata"]["resourceVersion"]}
            try:
                await client.patch(CLUSTERS, key, {"metadata": version, "spec": {"taints": kept}})
            except Conflict:
                if last:
                    raise
            else:
                return

    async def _switch(self, client: Client, failover: str) -> None:
        key = ObjectKey("", CONFIG_NAME)
        spec = {"spec": {"failover": failover}}
        try:
            await client.patch(FEDERATION_CONFIGS, key, spec)
        except NotFound:
            document = {
                "apiVersion": FEDERATION_CONFIGS.api_version,
                "kind": FEDERATION_CONFIGS.kind,
                "metadata": {"name": CONFIG_NAME},
            }
            await client.create(FEDERATION_CONFIGS, document | spec)


def changed(step: Step) -> tuple[Resource[Any], Any, PatchType]:
    """The object's kind, and the patch that a step is."""
    match step.verb:
        case "scale":
            return DEPLOYMENTS, {"spec": {"replicas": step.value}}, PatchType.MERGE
        case "image":
            path = "/spec/template/spec/containers/0/image"
            change = [{"op": "replace", "path": path, "value": step.value}]
            return DEPLOYMENTS, change, PatchType.JSON
        case "label":
            labels = {"metadata": {"labels": {"tier": step.value}}}
            return DEPLOYMENTS, labels, PatchType.MERGE
        case "change-config":
            return CONFIGMAPS, {"data": {"number": str(step.value)}}, PatchType.MERGE
        case "change-gadget":
            return kinds.GADGETS, {"spec": {"size": step.value}}, PatchType.MERGE
        case "change-role":
            return CLUSTER_ROLES, {"rules": kinds.rules(str(step.value))}, PatchType.MERGE
        case _:
            raise AssertionError(f"no such step: {step}")


PLURALS = {
    "deployment": "deployments",
    "config": "configmaps",
    "gadget": "gadgets",
    "role": "clusterroles",
}
CLUSTER_DOCUMENTS: Resource[Document] = Resource(
    CLUSTERS.group, CLUSTERS.version, CLUSTERS.plural, CLUSTERS.kind, CLUSTERS.namespaced, dict
)


def written(step: Step) -> Mapping[Fact, Value]:
    """The facts that a step writes."""
    key = ObjectKey(step.where, step.name)
    match step.verb:
        case "create-deployment":
            count, image = str(step.value).split()
            facts: dict[str, Value] = {"replicas": int(count), "image": image, "tier": ""}
            return {("deployments", key, n): v for n, v in (facts | {THERE: 1}).items()}
        case "create-config":
            facts = {"number": str(step.value), THERE: 1}
            return {("configmaps", key, n): v for n, v in facts.items()}
        case "scale" | "image" | "label":
            name = {"scale": "replicas", "image": "image", "label": "tier"}[step.verb]
            return {("deployments", key, name): step_value(step)}
        case "change-config":
            return {("configmaps", key, "number"): str(step.value)}
        case "create-gadget":
            facts = {"size": int(str(step.value).split()[0]), THERE: 1}
            return {("gadgets", key, n): v for n, v in facts.items()}
        case "change-gadget":
            return {("gadgets", key, "size"): int(step.value)}
        case "create-role":
            facts = {"verb": str(step.value), THERE: 1}
            return {("clusterroles", key, n): v for n, v in facts.items()}
        case "change-role":
            return {("clusterroles", key, "verb"): str(step.value)}
        case "price":
            return {("clusters", ObjectKey("", step.where), step.name): str(step.value)}
        case "cordon" | "drain" | "uncordon":
            taint = TAINTS[step.verb][0] if step.verb in TAINTS else ""
            return {("clusters", ObjectKey("", step.where), "taints"): taint}
        case "switch":
            return {("federationconfigs", ObjectKey("", CONFIG_NAME), "failover"): str(step.value)}
        case _:
            return {}


def step_value(step: Step) -> Value:
    """The value in the shape in which it is read back."""
    return int(step.value) if step.verb == "scale" else str(step.value)
