"""What members' pods and nodes use now: `metrics.k8s.io` of the members, asked over their links when somebody asks here.

Nothing is kept: `kubectl top` and autoscalers get what members say at that moment. Foreign clusters without a metrics server say
so by 404. Who does not answer within the time limit has given nothing: its pods count as not measured, and lists say whose part is
missing.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from federation.clusters.links import Links
from federation.clusters.mirroring import mirror_name, source_of
from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.api.metrics_kinds import GROUP
from machinery.client.interface import ListOptions, dynamic
from machinery.client.rest import RestClient
from machinery.meta.errors import NotFound, ServiceUnavailable, StatusError
from machinery.meta.quantity import quantity_of
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.meta.selectors import Selector
from machinery.server.cache import Selection
from machinery.server.computed import Computed, Sources

POD_METRICS = dynamic(GROUP, "v1beta1", "pods", "PodMetrics", True)
NODE_METRICS = dynamic(GROUP, "v1beta1", "nodes", "NodeMetrics", False)
ANSWER_S = 5.0
NOT_CONNECTED = "it is not connected"
NOT_SERVED = "it serves no metrics.k8s.io"
ILLEGIBLE = "some of what it gives cannot be read"


@dataclass(frozen=True, slots=True)
class Answers:
    """PodMetrics (or NodeMetrics) by member, and why others gave none."""

    given: Mapping[str, tuple[Document, ...]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


class Metrics(Protocol):
    """Where samples come from."""

    async def read(
        self, namespace: str, labels: Mapping[str, str], members: Iterable[str]
    ) -> Answers:
        """Of pods with these labels. Raises nothing: who fails is told."""
        ...


class NoMetrics:
    """Where there are no links."""

    async def read(
        self, namespace: str, labels: Mapping[str, str], members: Iterable[str]
    ) -> Answers:
        return Answers(failed=dict.fromkeys(members, NOT_CONNECTED))


class MemberMetrics:
    """Over the links, all members at once."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def read(
        self, namespace: str, labels: Mapping[str, str], members: Iterable[str]
    ) -> Answers:
        selector = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
        return await ask_all(self._links, POD_METRICS, namespace, selector, members)


async def ask_all(
    links: Links,
    resource: Resource[Document],
    namespace: str,
    selector: str,
    members: Iterable[str],
) -> Answers:
    """What these members list. Raises nothing."""
    given: dict[str, tuple[Document, ...]] = {}
    failed: dict[str, str] = {}
    options = ListOptions(selector)

    async def ask(member: str) -> None:
        client = links.client(member)
        try:
            async with asyncio.timeout(ANSWER_S):
                given[member] = tuple((await client.list(resource, namespace, options)).items)
        except NotFound:
            failed[member] = NOT_SERVED
        except TimeoutError:
            failed[member] = f"it did not answer in {ANSWER_S:g} s"
        except (StatusError, ConnectionError) as error:
            failed[member] = str(error)
        finally:
            await client.close()

    connected = set(links.connected)
    async with asyncio.TaskGroup() as group:
        for member in members:
            if member in connected:
                _ = group.create_task(ask(member))
            else:
                failed[member] = NOT_CONNECTED
    return Answers(given, failed)


# ---------------------------------------------------------------------------------------------------------- shown here
class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None


class _Container(msgspec.Struct):
    name: str
    usage: dict[str, str]


class _Shape(msgspec.Struct):
    metadata: _Meta
    timestamp: str
    window: str
    usage: dict[str, str] = {}
    containers: list[_Container] = []


def legible(document: object) -> bool:
    """Whether a member's object is what it says it is: what others are shown must not break for one member's answer."""
    try:
        read = msgspec.convert(document, _Shape)
        for usage in (read.usage, *(one.usage for one in read.containers)):
            for amount in usage.values():
                _ = quantity_of(amount)
    except (msgspec.ValidationError, ValueError):
        return False
    return True


def shown(document: Document, member: str) -> Document:
    """A member's metrics under the name that the pod or node has at the federation. The input is left as it is."""
    metadata = document["metadata"]
    labels = (metadata.get("labels") or {}) | {MANAGED_LABEL: member}
    named = metadata | {"name": mirror_name(metadata["name"], member), "labels": labels}
    return document | {"metadata": named}


def chosen(selection: Selection, members: Iterable[str]) -> tuple[list[str], str]:
    """(whom to ask, by which label selector): the cluster's label is known here only."""
    here = [term for term in selection.labels if term.key == MANAGED_LABEL]
    there = tuple(term for term in selection.labels if term.key != MANAGED_LABEL)
    asked = [m for m in members if all(term.matches({MANAGED_LABEL: m}) for term in here)]
    return asked, str(Selector(there))


def missing(failed: Mapping[str, str]) -> tuple[str, ...]:
    """What a list says of those that gave nothing."""
    if not failed:
        return ()
    told = ", ".join(f"{member} ({why})" for member, why in sorted(failed.items()))
    return (f"metrics are missing: {told}",)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Whom this server knows."""

    links: Links
    members: Callable[[], Iterable[str]]
    """The names of all of them."""
    mirror: Callable[[str, ObjectKey], Document | None]
    """The mirror of a kind (`core/pods`) by its key here."""


class FleetMetrics:
    """One kind of metrics, of all members."""

    def __init__(self, fleet: Fleet, resource: Resource[Document]) -> None:
        self._fleet, self._resource = fleet, resource

    async def get(self, namespace: str, name: str) -> Document | None:
        """Asked of the member that the name belongs to. Raises StatusError."""
        path = f"core/{self._resource.plural}"
        mirror = self._fleet.mirror(path, ObjectKey(namespace, name))
        source = source_of(mirror) if mirror is not None else None
        if source is None:
            return None
        member, there = source
        if member not in self._fleet.links.connected:
            raise ServiceUnavailable(f'cluster "{member}" is not connected')
        client = self._fleet.links.client(member)
        try:
            found = await self._one(client, ObjectKey(namespace, there))
            if not legible(found):
                raise ServiceUnavailable(f'no metrics from cluster "{member}": {ILLEGIBLE}')
            return shown(found, member)
        except NotFound:
            return None
        except (TimeoutError, ConnectionError) as error:
            why = str(error) or f"it did not answer in {ANSWER_S:g} s"
            raise ServiceUnavailable(f'no metrics from cluster "{member}": {why}') from error
        finally:
            await client.close()

    async def _one(self, client: RestClient, key: ObjectKey) -> Document:
        async with asyncio.timeout(ANSWER_S):
            return await client.get(self._resource, key)

    async def list(self, selection: Selection) -> Computed:
        """Of all members at once; who gives nothing is told in a warning."""
        members, selector = chosen(selection, self._fleet.members())
        answers = await ask_all(
            self._fleet.links, self._resource, selection.namespace, selector, members
        )
        head = {"kind": self._resource.kind, "apiVersion": self._resource.api_version}
        items, failed = [], dict(answers.failed)
        for member, each in answers.given.items():
            fit = [one for one in each if legible(one)]
            items += [head | shown(one, member) for one in fit]
            if len(fit) < len(each):
                failed[member] = ILLEGIBLE
        return Computed(items, missing(failed))


def sources(fleet: Fleet) -> Sources:
    """What the federation's server is extended by."""
    return {
        (resource.group, resource.plural): FleetMetrics(fleet, resource)
        for resource in (NODE_METRICS, POD_METRICS)
    }
