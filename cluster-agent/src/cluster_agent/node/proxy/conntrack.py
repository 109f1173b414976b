"""Entries of the kernel's connection table that lead where nobody serves any more.

A TCP client notices a dead endpoint and connects anew; a UDP client that keeps sending from one port keeps its entry
alive and is heard by nobody, also after a service went from no endpoint to one and from one to none. So after every
change the entries of the changed addresses are read and the stale ones deleted, by address and port: never all of
them, and never another's. The tool is Debian's `conntrack`; how old an entry is makes no difference.

Of TCP only what was never answered is stale: a first packet that went to an endpoint that died holds its entry for two
minutes, and whoever knocks from the same port in that time is sent there too (seen: one connection in ten, half a minute
after a zone's death, as the kernel came back to those ports). Without the entry even the first packet's own repetition
finds a living endpoint. What was answered keeps its entry: a pod that ends goes on with the connections it has.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster_agent.node.proxy.plan import Address

log = logging.getLogger(__name__)

_TUPLE = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")
RUN_S_MAX = 20.0
PROTOCOLS = ("udp", "sctp", "tcp")
UNANSWERED = ("--state", "SYN_SENT")
"""Of TCP, the only entries that are looked at."""


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Entries of one kind: where clients knocked and who answers them."""

    protocol: str
    ip: str
    port: int
    answer_ip: str
    answer_port: int

    @property
    def rewritten(self) -> bool:
        return (self.ip, self.port) != (self.answer_ip, self.answer_port)


class Conntrack(Protocol):
    """The kernel's table of connections."""

    async def flows(self, family: str, protocol: str) -> Sequence[Flow]:
        """What is in it. Raises ConntrackError."""
        ...

    async def delete(self, family: str, flow: Flow) -> None:
        """Every entry of this kind; none is as well. Raises ConntrackError."""
        ...


class ConntrackError(Exception):
    """The tool is missing, or it failed; the message holds its words."""


def parse(text: str, protocol: str) -> list[Flow]:
    """Lines of `conntrack -L`, one of each kind."""
    found: set[Flow] = set()
    for line in text.splitlines():
        tuples = _TUPLE.findall(line)
        if len(tuples) == 2:
            (_, ip, _, port), (answer_ip, _, answer_port, _) = tuples
            found.add(Flow(protocol, ip, int(port), answer_ip, int(answer_port)))
    return sorted(found)


def stale(flows: Iterable[Flow], changed: Mapping[Address, frozenset[str]]) -> list[Flow]:
    """Those at a changed address whose answers do not come from one of its targets.

    At a node port, entries that nothing rewrote stay while nobody serves it: they may be the node's own traffic.
    """
    found: list[Flow] = []
    for flow in flows:
        address = Address(flow.ip, flow.protocol, flow.port)
        if address not in changed:
            address = Address("", flow.protocol, flow.port)
        if address not in changed:
            continue
        targets = changed[address]
        if f"{flow.answer_ip} . {flow.answer_port}" in targets:
            continue
        if flow.rewritten or address.ip or targets:
            found.append(flow)
    return found


async def reconcile(
    conntrack: Conntrack, family: str, changed: Mapping[Address, frozenset[str]]
) -> int:
    """Delete what is stale at these addresses; how many kinds of entry it were. Raises ConntrackError."""
    count = 0
    for protocol in PROTOCOLS:
        mine = {a: targets for a, targets in changed.items() if a.protocol == protocol}
        for flow in stale(await conntrack.flows(family, protocol), mine) if mine else ():
            await conntrack.delete(family, flow)
            count += 1
    return count


class ConntrackTool:
    """The command `conntrack`. `prefix` runs it elsewhere, in another network namespace for instance."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._command = (*prefix, "conntrack")

    async def flows(self, family: str, protocol: str) -> Sequence[Flow]:
        listed = await self._run("-L", "-f", _name(family), "-p", protocol, *_state(protocol))
        return parse(listed, protocol)

    async def delete(self, family: str, flow: Flow) -> None:
        where = ("--orig-dst", flow.ip, "--orig-port-dst", str(flow.port))
        answer = ("--reply-src", flow.answer_ip, "--reply-port-src", str(flow.answer_port))
        kind = ("-p", flow.protocol, *_state(flow.protocol))
        _ = await self._run("-D", "-f", _name(family), *kind, *where, *answer)

    async def _run(self, *arguments: str) -> str:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
            )
        except OSError as error:
            raise ConntrackError(
                "conntrack cannot be run: install the package conntrack"
            ) from error
        try:
            async with asyncio.timeout(RUN_S_MAX):
                output, words = await process.communicate()
        except TimeoutError as error:
            raise ConntrackError(f"conntrack took more than {RUN_S_MAX:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                _ = await process.wait()
        text = words.decode(errors="replace").strip()
        if process.returncode and "0 flow entries have been deleted" not in text:
            raise ConntrackError(text)
        return output.decode(errors="replace")


class NoConntrack:
    """A kernel without connections: the twin for tests, which may put flows into it."""

    def __init__(self, flows: Iterable[Flow] = ()) -> None:
        self.entries = set(flows)

    async def flows(self, family: str, protocol: str) -> Sequence[Flow]:
        return [f for f in sorted(self.entries) if f.protocol == protocol]

    async def delete(self, family: str, flow: Flow) -> None:
        self.entries.discard(flow)


def _state(protocol: str) -> tuple[str, ...]:
    return UNANSWERED if protocol == "tcp" else ()


def _name(family: str) -> str:
    return "ipv6" if family == "ip6" else "ipv4"
