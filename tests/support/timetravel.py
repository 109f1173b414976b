"""Months in seconds, with real TLS: a clock that a test moves, and OpenSSL's idea of what time it is.

Certificates are judged by OpenSSL, which asks the machine's clock unless a context says at which moment to verify. Python
does not offer that setting, so it is reached through the library that `ssl` itself has loaded. What the handshakes of a test
say of a certificate is then what they would say on that day.
"""

import _ssl
import asyncio
import ctypes
import datetime as dt
import heapq
import itertools
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_S = 60.0
MOMENT_S = 1.0
"""Sleeps shorter than this are slept: they are a program's breathing, not its waiting."""
SOON_S = 30.0
"""Who sleeps no longer than this waits for an answer or tries again; while a watched one does, time does not leap."""


class _Context(ctypes.Structure):
    """The beginning of CPython's SSLContext object."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


_openssl = ctypes.CDLL(_ssl.__file__)
_openssl.SSL_CTX_get0_param.argtypes = [ctypes.c_void_p]
_openssl.SSL_CTX_get0_param.restype = ctypes.c_void_p
_openssl.X509_VERIFY_PARAM_set_time.argtypes = [ctypes.c_void_p, ctypes.c_long]
_openssl.X509_VERIFY_PARAM_set_time.restype = None


def verify_at(context: ssl.SSLContext, moment: dt.datetime) -> None:
    """Handshakes of this context from now on judge certificates as of that moment."""
    native = _Context.from_address(id(context)).context
    parameters = _openssl.SSL_CTX_get0_param(native)
    _openssl.X509_VERIFY_PARAM_set_time(parameters, int(moment.timestamp()))


class Travel:
    """Time that stands still until the test moves it. It begins now, so that what is made on the way is good at once."""

    def __init__(self, contexts: Callable[[], Iterable[ssl.SSLContext]]) -> None:
        """`contexts` are all those whose handshakes are to be of the day."""
        self.start = dt.datetime.now(dt.UTC).replace(microsecond=0)
        self.passed = 0.0
        self._contexts = contexts
        self._sleepers: list[tuple[float, int, str, float, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._watched: set[str] = set()

    def clock(self, name: str, *, watched: bool = True) -> "TravelClock":
        """A clock of this time; of who has a watched one it is known whether he sleeps."""
        if watched:
            self._watched.add(name)
        return TravelClock(self, name)

    def now(self) -> dt.datetime:
        return self.start + dt.timedelta(seconds=self.passed)

    async def sleep(self, name: str, seconds: float) -> None:
        if seconds < MOMENT_S:
            await asyncio.sleep(seconds)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self.passed + seconds
        heapq.heappush(self._sleepers, (due, next(self._order), name, seconds, woken))
        await woken

    async def advance(self, seconds: float, leap_s: float) -> None:
        """Move on by that much, in leaps; where somebody waits for seconds, no further than he does."""
        until = self.passed + seconds
        await self.settle()
        while self.passed < until:
            self._move(min([until, self.passed + leap_s, *self._soon()]))
            await self.settle()

    def _move(self, passed: float) -> None:
        self.passed = max(passed, self.passed)
        for context in self._contexts():
            verify_at(context, self.now())
        while self._sleepers and self._sleepers[0][0] <= self.passed:
            woken = heapq.heappop(self._sleepers)[-1]
            if not woken.done():
                woken.set_result(None)

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that waits for seconds: they pass as it asks for them, whoever else sleeps."""
        task = asyncio.ensure_future(work)
        while not task.done():
            soon = self._soon()
            if soon:
                self._move(min(soon))
            await asyncio.sleep(0.01)
        return await task

    def _soon(self) -> list[float]:
        return [
            due
            for due, _, name, asked, woken in self._sleepers
            if name in self._watched and asked <= SOON_S and not woken.done()
        ]

    async def settle(self) -> None:
        """Let everybody act until all watched ones sleep again."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for _ in range(5):
                await asyncio.sleep(0)
            asleep = Counter(name for _, _, name, _, woken in self._sleepers if not woken.done())
            if self._watched <= asleep.keys():
                return
            assert time.monotonic() < deadline, f"awake: {self._watched - asleep.keys()}"
            await asyncio.sleep(0.002)


class TravelClock:
    """One's view of it: a Clock."""

    def __init__(self, travel: Travel, name: str) -> None:
        self._travel, self._name = travel, name

    def now(self) -> dt.datetime:
        return self._travel.now()

    def monotonic(self) -> float:
        return 1_000.0 + self._travel.passed

    async def sleep(self, seconds: float) -> None:
        await self._travel.sleep(self._name, seconds)
