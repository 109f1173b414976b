"""Which kinds a foreign cluster serves: read from its discovery, aggregated where it can, group by group where it cannot.

Kubernetes 1.30 and newer answer everything in two requests (`apidiscovery.k8s.io/v2`, KEP-3352). Older ones, and
proxies that drop the parameters of Accept, answer with lists of groups, and each version is asked for. A group whose own
server is away just now (metrics, for example) keeps what was known of it: it must not take its kinds out of use.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from machinery.client.interface import dynamic
from machinery.client.rest import RestClient
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, Resource

log = logging.getLogger(__name__)

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ACCEPT = f"{AGGREGATED},application/json"
"""The Accept header of a client that is to be used here."""
APPLY = "patch"
"""The verb without which a kind cannot be applied."""


@dataclass(frozen=True, slots=True)
class Served:
    """One kind of one version."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()


ByVersion = Mapping[str, tuple[Served, ...]]
"""groupVersion -> its kinds."""


def aggregated(document: Mapping[str, Any]) -> dict[str, tuple[Served, ...] | None]:
    """An APIGroupDiscoveryList; None for a version whose server could not be asked."""
    found: dict[str, tuple[Served, ...] | None] = {}
    for group in document.get("items") or ():
        name = (group.get("metadata") or {}).get("name", "")
        for version in group.get("versions") or ():
            api_version = f"{name}/{version['version']}" if name else version["version"]
            kinds = tuple(_aggregated_kinds(api_version, version.get("resources") or ()))
            stale = version.get("freshness") == "Stale"
            found[api_version] = None if stale and not kinds else kinds
    return found


def _aggregated_kinds(api_version: str, resources: Iterable[Mapping[str, Any]]) -> Iterable[Served]:
    for one in resources:
        kind = (one.get("responseKind") or {}).get("kind", "")
        if kind:
            verbs = frozenset(one.get("verbs") or ())
            namespaced = one.get("scope") == "Namespaced"
            yield Served(api_version, kind, one["resource"], namespaced, verbs)


def legacy(document: Mapping[str, Any]) -> tuple[Served, ...]:
    """An APIResourceList, without subresources."""
    api_version = document.get("groupVersion", "")
    return tuple(
        Served(
            api_version,
            one["kind"],
            one["name"],
            bool(one.get("namespaced")),
            frozenset(one.get("verbs") or ()),
        )
        for one in document.get("resources") or ()
        if "/" not in one["name"]
    )


def versions(document: Mapping[str, Any]) -> list[str]:
    """The groupVersions of an APIVersions or APIGroupList."""
    if document.get("kind") == "APIVersions":
        return list(document.get("versions") or ())
    return [
        version["groupVersion"]
        for group in document.get("groups") or ()
        for version in group.get("versions") or ()
    ]


def enabled(kinds: ByVersion) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """What can be listed, as a Cluster's status tells it: (groupVersion, ((kind, plural), …))."""
    told = (
        (version, tuple((s.kind, s.plural) for s in served if "list" in s.verbs))
        for version, served in sorted(kinds.items())
    )
    return tuple((version, names) for version, names in told if names)


class Discovery:
    """The kinds as they were last read; `client` must ask with ACCEPT."""

    def __init__(self, client: RestClient) -> None:
        self._client = client
        self.kinds: dict[str, tuple[Served, ...]] = {}

    def resolve(self, api_version: str, kind: str) -> Resource[Document] | None:
        """How the cluster serves the kind; None if it does not, or does not let it be applied."""
        for served in self.kinds.get(api_version, ()):
            if served.kind == kind and APPLY in served.verbs:
                group, _, version = api_version.rpartition("/")
                return dynamic(group, version, served.plural, kind, served.namespaced)
        return None

    async def refresh(self) -> bool:
        """Read all of it again; whether something is different. Raises StatusError, ConnectionError."""
        fresh: dict[str, tuple[Served, ...]] = {}
        for root in ("/api", "/apis"):
            fresh |= await self._below(root)
        changed, self.kinds = fresh != self.kinds, fresh
        return changed

    async def _below(self, root: str) -> dict[str, tuple[Served, ...]]:
        document = await self._read(root)
        found: dict[str, tuple[Served, ...] | None] = {}
        if document.get("kind") == "APIGroupDiscoveryList":
            found = aggregated(document)
        else:
            for version in versions(document):
                found[version] = await self._version(f"{root}/{version}")
        return {
            version: self.kinds.get(version, ()) if kinds is None else kinds
            for version, kinds in found.items()
        }

    async def _version(self, path: str) -> tuple[Served, ...] | None:
        try:
            return legacy(await self._read(path))
        except StatusError as error:
            log.info("a group does not say its kinds", extra={"path": path, "error": str(error)})
            return None

    async def _read(self, path: str) -> dict[str, Any]:
        raw = await self._client.request("GET", path)
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ConnectionError(f"{path}: not the answer of a Kubernetes API: {error}") from error
        if not isinstance(document, dict):
            raise ConnectionError(f"{path}: not the answer of a Kubernetes API")
        return document
