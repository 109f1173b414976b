"""Users: they create, scale, update and delete at the federation, and take a refusal for an answer."""

from collections.abc import Callable
from typing import Any

from federation.propagation.templates import CONFIGMAPS, DEPLOYMENTS, NAMESPACES
from federation.simulator.scenario import Step
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey, Resource


def deployment(step: Step) -> Document:
    """The Deployment of a step: replicas and image in its value, a ConfigMap in `extra`."""
    count, image = str(step.value).split()
    container: Document = {"name": "web", "image": image}
    if step.extra:
        container["envFrom"] = [{"configMapRef": {"name": step.extra, "optional": True}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": step.name, "namespace": step.where},
        "spec": {
            "replicas": int(count),
            "selector": {"matchLabels": {"app": step.name}},
            "template": {
                "metadata": {"labels": {"app": step.name}},
                "spec": {"containers": [container]},
            },
        },
    }


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
    "Pinned": {"clusterAffinity": {"clusterNames": ["gamma"]}},
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
}
MAKERS: dict[str, Callable[[Step], Document]] = {
    "deployment": deployment,
    "config": config,
    "policy": policy,
}


class Users:
    """`client` gives a client of the server that runs, or raises ConnectionError."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    async def perform(self, step: Step) -> str:
        """Why the server refused, or the empty string."""
        try:
            await self._ask(self._client(), step)
        except (StatusError, ConnectionError) as error:
            return str(error)
        return ""

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
            case "scale":
                await client.patch(DEPLOYMENTS, key, {"spec": {"replicas": step.value}})
            case "image":
                path = "/spec/template/spec/containers/0/image"
                change = [{"op": "replace", "path": path, "value": step.value}]
                await client.patch(DEPLOYMENTS, key, change, PatchType.JSON)
            case "label":
                labels = {"metadata": {"labels": {"tier": step.value}}}
                await client.patch(DEPLOYMENTS, key, labels)
            case "change":
                await client.patch(CONFIGMAPS, key, {"data": {"number": str(step.value)}})
            case _:
                raise AssertionError(f"no such step: {step}")
