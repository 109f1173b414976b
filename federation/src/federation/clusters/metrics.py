"""What members' pods use now: `metrics.k8s.io` of the members, asked over their links.

Foreign clusters with a metrics server answer; our own members do not serve it yet, and say so by 404. Who does not answer within the
time limit has given nothing: its pods count as not measured.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from federation.clusters.links import Links
from machinery.client.interface import ListOptions, dynamic
from machinery.client.rest import RestClient
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document

POD_METRICS = dynamic("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True)
ANSWER_S = 5.0
NOT_CONNECTED = "it is not connected"
NOT_SERVED = "it serves no metrics.k8s.io"


@dataclass(frozen=True, slots=True)
class Answers:
    """PodMetrics by member, and why others gave none."""

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
        given: dict[str, tuple[Document, ...]] = {}
        failed: dict[str, str] = {}
        options = ListOptions(",".join(f"{k}={v}" for k, v in sorted(labels.items())))

        async def ask(member: str) -> None:
            client = self._links.client(member)
            try:
                given[member] = await _list(client, namespace, options)
            except NotFound:
                failed[member] = NOT_SERVED
            except TimeoutError:
                failed[member] = f"it did not answer in {ANSWER_S:g} s"
            except (StatusError, ConnectionError) as error:
                failed[member] = str(error)
            finally:
                await client.close()

        connected = set(self._links.connected)
        async with asyncio.TaskGroup() as group:
            for member in members:
                if member in connected:
                    _ = group.create_task(ask(member))
                else:
                    failed[member] = NOT_CONNECTED
        return Answers(given, failed)


async def _list(client: RestClient, namespace: str, options: ListOptions) -> tuple[Document, ...]:
    async with asyncio.timeout(ANSWER_S):
        return tuple((await client.list(POD_METRICS, namespace, options)).items)
