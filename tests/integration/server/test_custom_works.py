"""A definition and an object of its kind, brought by the link's own hands to a member that did not know the kind."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.unit.controllers_federation.test_wide_and_custom_flow import GUESTBOOKS, definition, of

from cluster_agent.link.interpreters import report
from cluster_agent.link.member import Member, Outcome
from federation.propagation.works import work
from machinery.client.informer import Informer
from machinery.client.interface import dynamic
from machinery.kit.clock import SystemClock
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.scripts.customizations import BUILT_IN

pytestmark = pytest.mark.integration
BOOK = ObjectKey("demo", "book")
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


class Hands:
    """The link's, in the member."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._copies: dict[Resource[Document], Informer[Document]] = {}
        self.member = Member(server.local, self.resolve, self._copy, SystemClock())

    def resolve(self, api_version: str, kind: str) -> Resource[Document] | None:
        """As the agent's program does it: by what its own server serves now."""
        group, _, version = api_version.rpartition("/")
        served = self._server.api.scheme.by_gvk(group, version, kind)
        if served is None:
            return None
        return dynamic(group, version, served.plural, served.kind, served.namespaced)

    def _copy(self, resource: Resource[Document]) -> Informer[Document]:
        if resource not in self._copies:
            self._copies[resource] = Informer(self._server.local, resource, SystemClock())
        return self._copies[resource]

    async def bring(self, template: Document) -> Outcome:
        document = work(template, "alpha")
        (manifest,) = document["spec"]["workload"]["manifests"]
        resource = self.resolve(manifest["apiVersion"], manifest["kind"])
        if resource is not None:
            await self._copy(resource).list_once()
        return await self.member.apply(document, 0, manifest)


async def test_the_kind_comes_with_its_definition(server: RunningServer) -> None:
    hands = Hands(server)
    await server.local.create(NAMESPACES, of(NAMESPACES, "demo"))
    template = of(GUESTBOOKS, "book", spec={"size": 2})
    waits = await hands.bring(template)
    assert waits.homeless
    assert waits.error == "the cluster does not serve webapp.my.domain/v1 Guestbook"
    outcome = await hands.bring(definition(GUESTBOOKS))
    assert outcome.error == ""
    for _ in range(100):
        if hands.resolve(GUESTBOOKS.api_version, "Guestbook") is not None:
            break
        await asyncio.sleep(0.02)
    assert (await hands.bring(template)).error == ""
    held = await server.local.get(GUESTBOOKS, BOOK)
    assert held["spec"] == {"size": 2}
    await server.local.patch(GUESTBOOKS, BOOK, {"status": {"pages": 7}}, subresource="status")
    await server.local.patch(GUESTBOOKS, BOOK, {"spec": {"size": 9}})
    again = await hands.bring(template)
    assert again.live is not None
    assert report(BUILT_IN, again.live) == ("Healthy", {"pages": 7}, [])
    assert (await server.local.get(GUESTBOOKS, BOOK))["spec"] == {"size": 2}
    repeated = await hands.bring(definition(GUESTBOOKS))
    assert (repeated.error, repeated.drift) == ("", None)
