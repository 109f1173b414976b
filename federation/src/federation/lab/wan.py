"""A line with latency: every Ethernet frame between two bridges passes this process, which holds it back for a while.

The kernel that the lab runs on may have no netem. So a slow zone's cables are moved to a bridge of their own, and this relay
joins that bridge to the WAN's by two TAP devices. What stays inside the zone never comes here. When the relay dies, its
devices die too and the zone is cut off until the supervisor has started it again.

Limits: about 200 Mbit/s; what waits is bounded, and more is lost, as in a router. Frames keep their order (no jitter).
"""

import argparse
import collections
import fcntl
import os
import select
import struct
import subprocess
import sys

from machinery.kit.clock import Clock, SystemClock

WAITING_MAX_BYTES = 64 * 1024 * 1024
FRAME_MAX_BYTES = 65536
BATCH = 64
"""Frames read from one side before the other has its turn."""

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


class DelayLine:
    """One direction: frames come out in order, each `delay_s` after it went in."""

    def __init__(self, delay_s: float, limit_bytes: int = WAITING_MAX_BYTES) -> None:
        self._delay_s = delay_s
        self._limit = limit_bytes
        self._waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self._bytes = 0
        self.dropped = 0

    def push(self, now: float, frame: bytes) -> None:
        """Take a frame in; one too many is dropped."""
        if self._bytes + len(frame) > self._limit:
            self.dropped += 1
            return
        self._bytes += len(frame)
        self._waiting.append((now + self._delay_s, frame))

    def due(self, now: float) -> list[bytes]:
        """Take out what has waited long enough."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(self._waiting.popleft()[1])
            self._bytes -= len(found[-1])
        return found

    def wait_s(self, now: float) -> float | None:
        """How long until a frame is due; None when none waits."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None


def open_tap(name: str, bridge: str) -> int:
    """A TAP device that hangs on `bridge` and is gone when the descriptor is closed."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    subprocess.run(("ip", "link", "set", name, "master", bridge, "up"), check=True)
    return tap


def relay(one: int, other: int, delay_s: float, clock: Clock) -> None:
    """Pass frames both ways for ever."""
    lines = {one: (DelayLine(delay_s), other), other: (DelayLine(delay_s), one)}
    poll = select.epoll()
    for tap in lines:
        poll.register(tap, select.EPOLLIN)
    while True:
        now = clock.monotonic()
        waits = [w for line, _ in lines.values() if (w := line.wait_s(now)) is not None]
        for tap, _ in poll.poll(min(waits, default=None)):
            _read(tap, lines[tap][0], clock)
        now = clock.monotonic()
        for line, target in lines.values():
            for frame in line.due(now):
                _write(target, frame, line)


def _read(tap: int, line: DelayLine, clock: Clock) -> None:
    for _ in range(BATCH):
        try:
            frame = os.read(tap, FRAME_MAX_BYTES)
        except BlockingIOError:
            return
        line.push(clock.monotonic(), frame)


def _write(tap: int, frame: bytes, line: DelayLine) -> None:
    try:
        os.write(tap, frame)
    except BlockingIOError:
        line.dropped += 1


def main() -> None:
    """The process. It runs in the WAN's namespace."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inside", nargs=2, required=True, metavar=("TAP", "BRIDGE"))
    parser.add_argument("--outside", nargs=2, required=True, metavar=("TAP", "BRIDGE"))
    parser.add_argument("--latency-ms", type=float, required=True)
    arguments = parser.parse_args()
    inside, outside = open_tap(*arguments.inside), open_tap(*arguments.outside)
    sys.stdout.write(f"line with {arguments.latency_ms} ms\n")
    sys.stdout.flush()
    relay(inside, outside, arguments.latency_ms / 1000, SystemClock())


if __name__ == "__main__":
    main()
