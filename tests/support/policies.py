"""Admission policies for tests: documents of them, and a server that they are registered on over HTTPS."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import Answered, Client, client_of

from machinery.meta.resource import Document

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
API = "admissionregistration.k8s.io/v1"


class Paths(NamedTuple):
    policies: str
    bindings: str


CONFIG_MAPS = Paths(
    f"{GROUP}/validatingadmissionpolicies", f"{GROUP}/validatingadmissionpolicybindings"
)
MUTATING = Paths(f"{GROUP}/mutatingadmissionpolicies", f"{GROUP}/mutatingadmissionpolicybindings")


def rule(**fields: Any) -> Document:
    """About creates and updates of ConfigMaps, unless said otherwise."""
    return {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["configmaps"], **fields,
    }  # fmt: skip


def validation(expression: str, **fields: Any) -> Document:
    return {"expression": expression, **fields}


def policy(
    *validations: Document,
    name: str = "p",
    rules: Sequence[Document] | None = None,
    constraints: Document | None = None,
    **spec: Any,
) -> Document:
    """A ValidatingAdmissionPolicy."""
    about = constraints or {"resourceRules": list(rules or [rule()])}
    return {
        "apiVersion": API, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"matchConstraints": about, "validations": list(validations), **_said(spec)},
    }  # fmt: skip


def mutation(
    *mutations: Document,
    name: str = "p",
    rules: Sequence[Document] | None = None,
    again: bool = False,
    **spec: Any,
) -> Document:
    """A MutatingAdmissionPolicy."""
    return {
        "apiVersion": API, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": list(rules or [rule()])},
            "reinvocationPolicy": "IfNeeded" if again else "Never",
            "mutations": list(mutations), **_said(spec),
        },
    }  # fmt: skip


def _said(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if value is not None}


def apply(expression: str) -> Document:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression: str) -> Document:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def binding(name: str = "b", policy: str = "p", **spec: Any) -> Document:
    """A ValidatingAdmissionPolicyBinding that denies."""
    return {
        "apiVersion": API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": policy, "validationActions": ["Deny"], **spec},
    }  # fmt: skip


def mutating_binding(name: str = "b", policy: str = "p", **spec: Any) -> Document:
    return {
        "apiVersion": API, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": policy, **spec},
    }  # fmt: skip


class Bench:
    """A server under test, as its administrator."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Answered:
        return await self.client.ask(method, path, body, content_type)

    async def made(self, path: str, document: Document) -> None:
        answer = await self.ask("POST", path, document)
        assert answer.status == 201, answer.message

    async def register(
        self, document: Document, bindings: Sequence[Document] | None = None
    ) -> None:
        """A policy of either sort, with a binding of its name unless others are given."""
        mutating = document["kind"].startswith("Mutating")
        paths = MUTATING if mutating else CONFIG_MAPS
        await self.made(paths.policies, document)
        name = document["metadata"]["name"]
        usual = mutating_binding(policy=name) if mutating else binding(policy=name)
        for one in [usual] if bindings is None else bindings:
            await self.made(paths.bindings, one)

    async def bind(self, document: Document) -> None:
        mutating = document["kind"].startswith("Mutating")
        await self.made((MUTATING if mutating else CONFIG_MAPS).bindings, document)

    async def create(self, document: Document) -> Answered:
        """A ConfigMap."""
        return await self.ask("POST", MAPS, document)

    async def list(self) -> list[Document]:
        """All ConfigMaps that tests have made."""
        items: list[Document] = (await self.ask("GET", MAPS)).body["items"]
        return [one for one in items if one["metadata"]["name"] != "kube-root-ca.crt"]

    async def namespace(self, name: str, **labels: str) -> None:
        await self.made("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    async def define(self, kind: str, *, namespaced: bool) -> None:
        """A custom kind of example.com whose spec is open."""
        plural = f"{kind.lower()}s"
        schema = {
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            },
        }
        version = {
            "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        }  # fmt: skip
        document = {
            "metadata": {"name": f"{plural}.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced" if namespaced else "Cluster",
                "names": {"plural": plural, "kind": kind}, "versions": [version],
            },
        }  # fmt: skip
        await self.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)


@contextlib.asynccontextmanager
async def bench(server: RunningServer | None = None) -> AsyncIterator[Bench]:
    """On a server of its own unless one is given."""
    async with contextlib.AsyncExitStack() as held:
        running = server or await held.enter_async_context(running_server())
        yield Bench(await held.enter_async_context(client_of(running)))


def deployment(replicas: int) -> Document:
    """A small Deployment called web."""
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }  # fmt: skip
