"""Commands in members' pods, run as the federation itself through the member's link.

The first ready pod of the labels, by name, is asked over the API's own exec, as `kubectl exec` does: both outputs, no input, and a
limit of time after which the connection is cut. What the member answers is not trusted further than to be told: a few hundred
letters of it, without control characters.

In a foreign cluster the agent's user is asked, which has no such right until the cluster's administrator gives it `create` of
`pods/exec`; that is said where it is missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp
import orjson

from federation.clusters.links import Links
from machinery.api.core import PODS, Pod
from machinery.client.interface import ListOptions
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import is_true
from machinery.wire import channels
from machinery.wire.link import LinkDown
from machinery.wire.linkpool import LINK_URL, LinkPool

SAID_MAX = 300
"""Letters of a command's output that are kept."""
OUTPUT_MAX = 4096
"""Bytes of the end of its standard output that are handed on as they are."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be run where: in a ready pod of these labels, in its first container if none is named."""

    cluster: str
    namespace: str
    labels: Mapping[str, str]
    command: tuple[str, ...]
    container: str = ""
    limit_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    ok: bool
    message: str = ""
    output: str = ""
    """The end of its standard output, as the command wrote it; empty when it failed."""


Run = Callable[[Command], Awaitable[Outcome]]


async def no_links(command: Command) -> Outcome:
    """Where there are no members to run anything in."""
    return Outcome(False, f"no way leads to cluster {command.cluster}")


class PodCommands:
    """Runs commands; it never raises, but says what went wrong."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def __call__(self, command: Command) -> Outcome:
        try:
            pool = self._links.get(command.cluster)
            async with asyncio.timeout(command.limit_s):
                pod = await self._ready_pod(command)
                if pod is None:
                    return Outcome(False, "no ready pod is there")
                return await self._exec(pool, command, pod)
        except aiohttp.WSServerHandshakeError as error:
            return Outcome(False, f"the member refused it with {error.status}{hint(error.status)}")
        except TimeoutError:
            return Outcome(False, f"it did not end within {command.limit_s:g} s")
        except (LinkDown, StatusError, aiohttp.ClientError, OSError) as error:
            return Outcome(False, told(str(error) or type(error).__name__))

    async def _ready_pod(self, command: Command) -> Pod | None:
        selector = ",".join(f"{key}={value}" for key, value in sorted(command.labels.items()))
        client = self._links.client(command.cluster)
        try:
            options = ListOptions(label_selector=selector)
            listing = await client.list(PODS, command.namespace, options)
        finally:
            await client.close()
        ready = [
            p for p in listing.items if not p.deleting and is_true(p.status.conditions, "Ready")
        ]
        return min(ready, key=lambda pod: pod.metadata.name, default=None)

    async def _exec(self, pool: LinkPool, command: Command, pod: Pod) -> Outcome:
        container = command.container or pod.spec.containers[0].name
        query = [("stdout", "true"), ("stderr", "true"), ("container", container)]
        query += [("command", part) for part in command.command]
        path = f"/api/v1/namespaces/{quote(command.namespace)}/pods/{quote(pod.metadata.name)}/exec"
        async with (
            aiohttp.ClientSession(connector=pool.connector(), connector_owner=False) as session,
            session.ws_connect(
                f"{LINK_URL}{path}?{urlencode(query)}", protocols=channels.PROTOCOLS
            ) as stream,
        ):
            heard = Heard()
            async for message in stream:
                if message.type == aiohttp.WSMsgType.BINARY and heard.take(message.data):
                    break
            return heard.outcome


def hint(status: int) -> str:
    """What a foreign cluster has to grant."""
    return ": its agent's user may not create pods/exec there" if status == 403 else ""


class Heard:
    """What came over the channels so far."""

    def __init__(self) -> None:
        self._said = b""
        self._output = b""
        self._status: bytes | None = None

    def take(self, message: bytes) -> bool:
        """Whether that was the last word."""
        frame = channels.decode(message)
        if frame is None:
            return False
        if frame.channel in (channels.STDOUT, channels.STDERR):
            self._said = (self._said + frame.data)[-4 * SAID_MAX :]
            if frame.channel == channels.STDOUT:
                self._output = (self._output + frame.data)[-OUTPUT_MAX:]
        elif frame.channel == channels.ERROR and frame.data:
            self._status = frame.data
        return self._status is not None

    @property
    def outcome(self) -> Outcome:
        """Succeeded only if the member says so."""
        said = told(self._said.decode(errors="replace"))
        if self._status is None:
            return Outcome(False, "the connection ended before the command did")
        try:
            status = orjson.loads(self._status)
        except orjson.JSONDecodeError:
            return Outcome(False, told(self._status.decode(errors="replace")))
        if isinstance(status, dict) and status.get("status") == "Success":
            return Outcome(True, said, self._output.decode(errors="replace"))
        why = str(status.get("message", "")) if isinstance(status, dict) else ""
        return Outcome(False, told(f"{why}: {said}" if said else why))


def told(text: str) -> str:
    """One line of printable letters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SAID_MAX else line[: SAID_MAX - 1] + "…"
