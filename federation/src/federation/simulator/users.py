"""Users: they create, scale, update and delete at the federation, and take a refusal for an answer."""

from collections.abc import Callable

from federation.propagation.templates import CONFIGMAPS, DEPLOYMENTS, NAMESPACES
from federation.simulator.scenario import Step
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey


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
        key = ObjectKey(step.where, step.name)
        match step.verb:
            case "create-namespace":
                document = {"apiVersion": "v1", "kind": "Namespace"}
                await client.create(NAMESPACES, document | {"metadata": {"name": step.where}})
            case "delete-namespace":
                await client.delete(NAMESPACES, ObjectKey("", step.where))
            case "create-deployment":
                await client.create(DEPLOYMENTS, deployment(step), step.where)
            case "scale":
                await client.patch(DEPLOYMENTS, key, {"spec": {"replicas": step.value}})
            case "image":
                path = "/spec/template/spec/containers/0/image"
                change = [{"op": "replace", "path": path, "value": step.value}]
                await client.patch(DEPLOYMENTS, key, change, PatchType.JSON)
            case "label":
                labels = {"metadata": {"labels": {"tier": step.value}}}
                await client.patch(DEPLOYMENTS, key, labels)
            case "delete-deployment":
                options = DeleteOptions(propagation_policy=str(step.value))
                await client.delete(DEPLOYMENTS, key, options)
            case "create-config":
                await client.create(CONFIGMAPS, config(step), step.where)
            case "change-config":
                await client.patch(CONFIGMAPS, key, {"data": {"number": str(step.value)}})
            case "delete-config":
                await client.delete(CONFIGMAPS, key)
            case _:
                raise AssertionError(f"no such step: {step}")
