"""What a claim or an Ingress without a class gets."""

from typing import Any

import pytest
from tests.support.apiserver import running_server

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import dynamic
from machinery.meta.resource import Document

pytestmark = pytest.mark.integration
CLASSES = {
    "storageclasses": dynamic("storage.k8s.io", "v1", "storageclasses", "StorageClass", False),
    "ingressclasses": dynamic("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False),
}
CLAIMS = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
INGRESSES = dynamic("networking.k8s.io", "v1", "ingresses", "Ingress", True)
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
INGRESS = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}


async def make_class(server: Any, plural: str, name: str, *, default: bool) -> None:
    resource = CLASSES[plural]
    group = "storageclass" if plural == "storageclasses" else "ingressclass"
    marks = {f"{group}.kubernetes.io/is-default-class": "true" if default else "false"}
    more: Document = (
        {"provisioner": "p"} if plural == "storageclasses" else {"spec": {"controller": "a.io/b"}}
    )
    body = {
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": name, "annotations": marks}, **more,
    }  # fmt: skip
    await server.rest.create(resource, body)


@pytest.mark.parametrize(
    ("resource", "plural", "field", "spec"),
    [
        (CLAIMS, "storageclasses", "storageClassName", CLAIM),
        (INGRESSES, "ingressclasses", "ingressClassName", INGRESS),
    ],
    ids=["claim", "ingress"],
)
async def test_the_newest_default_is_taken(
    resource: Any, plural: str, field: str, spec: Document
) -> None:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as server:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
        before = await server.rest.create(resource, {**body, "metadata": {"name": "a"}}, "default")
        await make_class(server, plural, "plain", default=False)
        await make_class(server, plural, "wanted", default=True)
        after = await server.rest.create(resource, {**body, "metadata": {"name": "b"}}, "default")
        said = {**spec, field: "plain"}
        named = {**body, "metadata": {"name": "c"}, "spec": said}
        kept = await server.rest.create(resource, named, "default")
    found = [one["spec"].get(field) for one in (before, after, kept)]
    assert found == [None, "wanted", "plain"]


async def test_a_claim_that_wants_no_class_gets_none() -> None:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as server:
        await make_class(server, "storageclasses", "wanted", default=True)
        spec = {**CLAIM, "storageClassName": ""}
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "a"},
            "spec": spec,
        }
        made = await server.rest.create(CLAIMS, body, "default")
    assert made["spec"]["storageClassName"] == ""
