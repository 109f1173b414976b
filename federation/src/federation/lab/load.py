"""The load generator's process: so many new connections a second, each one request, each recorded as one JSON line.

Open loop: a request starts at its moment whether or not the ones before have ended, so a stall is seen in full. It runs
on a host of the lab and dies with it.

Limit: at most IN_FLIGHT_MAX requests at once; one that would be more is recorded as an error of ours.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from federation.lab.requests import (
    Request,
    Target,
    dns_query,
    http_request,
    parse_answer,
    parse_dns,
    parse_target,
)
from machinery.kit.clock import Clock, SystemClock

TIMEOUT_S = 1.0
IN_FLIGHT_MAX = 2000
ANSWER_MAX_BYTES = 65536
_LATE_S = 0.0005


@dataclass(frozen=True, slots=True)
class Load:
    """What to do."""

    target: Target
    rate: float
    seconds: float
    source: str = ""
    dns: str = ""
    timeout_s: float = TIMEOUT_S


class Generator:
    """Makes the requests of one load and hands each to `write`."""

    def __init__(self, load: Load, clock: Clock, write: Callable[[Request], None]) -> None:
        self._load = load
        self._clock = clock
        self._write = write
        self._in_flight = 0

    async def run(self) -> None:
        """Until the time is over and the last request has ended."""
        started = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(round(self._load.rate * self._load.seconds)):
                wait_s = started + number / self._load.rate - self._clock.monotonic()
                if wait_s > _LATE_S:
                    await self._clock.sleep(wait_s)
                if self._in_flight >= IN_FLIGHT_MAX:
                    self._write(self._record(self._clock.now().timestamp(), 0.0, "load: too many"))
                    continue
                self._in_flight += 1
                _ = group.create_task(self._request(number))

    async def _request(self, number: int) -> None:
        wall, begun = self._clock.now().timestamp(), self._clock.monotonic()
        raw, error = b"", ""
        try:
            async with asyncio.timeout(self._load.timeout_s):
                raw = await self._fetch(number)
        except TimeoutError:
            error = "timeout"
        except (OSError, ValueError) as caught:
            error = describe(caught)
        finally:
            self._in_flight -= 1
        took_ms = round((self._clock.monotonic() - begun) * 1000, 2)
        answer = parse_answer(raw) if not error else None
        if answer is None or answer.error:
            self._write(self._record(wall, took_ms, error or (answer.error if answer else "")))
            return
        pod, node, cluster, zone = answer.words
        self._write(
            Request(round(wall, 4), self._load.source, took_ms, True, "", pod, node, cluster, zone)
        )

    def _record(self, wall: float, took_ms: float, error: str) -> Request:
        return Request(round(wall, 4), self._load.source, took_ms, error=error)

    async def _fetch(self, number: int) -> bytes:
        target = self._load.target
        address = target.host if target.is_address else await self._resolve(number)
        reader, writer = await asyncio.open_connection(address, target.port)
        try:
            writer.write(http_request(target))
            await writer.drain()
            raw = b""
            while len(raw) < ANSWER_MAX_BYTES and (data := await reader.read(ANSWER_MAX_BYTES)):
                raw += data
            return raw
        finally:
            writer.close()

    async def _resolve(self, number: int) -> str:
        """Ask the name server anew each time, as a client without a cache does."""
        identity = number & 0xFFFF
        loop = asyncio.get_running_loop()
        received: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Question(received), remote_addr=(self._load.dns, 53)
        )
        try:
            transport.sendto(dns_query(self._load.target.host, identity))
            found = parse_dns(await received, identity)
        finally:
            transport.close()
        return found[number % len(found)]


class _Question(asyncio.DatagramProtocol):
    """The first datagram, or the error, goes into the future."""

    def __init__(self, received: "asyncio.Future[bytes]") -> None:
        self._received = received

    def datagram_received(self, data: bytes, _address: object) -> None:
        if not self._received.done():
            self._received.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._received.done():
            self._received.set_exception(error)


def describe(error: Exception) -> str:
    """Short words of the kernel, without addresses: they are counted."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _print(request: Request) -> None:
    """One write per line: several generators append to one file."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(request) + b"\n")


def main() -> None:
    """The process: lines on standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=parse_target)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--source", default="")
    parser.add_argument("--dns", default="")
    a = parser.parse_args()
    load = Load(a.target, a.rate, a.seconds, a.source, a.dns)
    asyncio.run(Generator(load, SystemClock(), _print).run())


if __name__ == "__main__":
    main()
