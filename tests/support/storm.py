"""Many writers against one API server that is killed under them, and the account of what it promised.

A 201 is a promise: this name, this uid, this resourceVersion. A write whose answer was lost promises nothing; it may
exist or not. No revision may ever be given to two objects, whichever was told to anybody.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.fleet import Api, Document, Fleet, Refused, core

WRITERS = 4
GIVE_UP_S = 120.0


@dataclass
class Account:
    """What was promised, and what the writers went through."""

    promised: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name to (uid, resourceVersion)."""
    unknown: list[str] = field(default_factory=list)
    """Names whose answer was lost."""
    revisions: list[str] = field(default_factory=list)
    """Every revision of every answered write, changes of Events included."""
    longest_silence_s: float = 0.0
    """The longest time a writer went without an answer."""
    failures: list[str] = field(default_factory=list)


class Storm:
    """`count` ConfigMaps, and as many Events (whose durability is relaxed), by several writers at once."""

    def __init__(self, fleet: Fleet, context: str, namespace: str, count: int) -> None:
        self.account = Account()
        self._fleet, self._context, self._namespace = fleet, context, namespace
        self._lock = threading.Lock()
        self._left = [f"storm-{i:04d}" for i in reversed(range(count))]
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def run(self, kill: Callable[[], object], at: int) -> Account:
        """Write all of it; call `kill` when `at` of them are answered."""
        for thread in self._threads:
            thread.start()
        try:
            deadline = time.monotonic() + GIVE_UP_S
            while len(self.account.promised) < at and any(t.is_alive() for t in self._threads):
                assert time.monotonic() < deadline, "the writers do not get on"
                time.sleep(0.002)
            kill()
        finally:
            for thread in self._threads:
                thread.join()
        assert not self.account.failures, self.account.failures[:5]
        return self.account

    def _write(self) -> None:
        api = self._fleet.own_api(self._context)
        try:
            while name := self._take():
                self._one(api, name)
        except Exception as error:
            with self._lock:
                self.account.failures.append(repr(error))
        finally:
            api.close()

    def _take(self) -> str:
        with self._lock:
            return self._left.pop() if self._left else ""

    def _one(self, api: Api, name: str) -> None:
        """One ConfigMap and one Event. A lost answer is noted and the next name taken once the server is back."""
        begun = time.monotonic()
        body = {"metadata": {"name": name}, "data": {"a": "b"}}
        made = self._try(api, "configmaps", body)
        told = self._try(api, "events", event(name, self._namespace))
        while made is None and not self._back(api):
            assert time.monotonic() - begun < GIVE_UP_S, "the server did not come back"
            time.sleep(0.02)
        with self._lock:
            silence = time.monotonic() - begun
            self.account.longest_silence_s = max(self.account.longest_silence_s, silence)
            for answer in (made, told):
                if answer is not None:
                    self.account.revisions.append(answer["metadata"]["resourceVersion"])
            if made is None:
                self.account.unknown.append(name)
            else:
                meta = made["metadata"]
                self.account.promised[name] = (meta["uid"], meta["resourceVersion"])

    def _try(self, api: Api, plural: str, body: Document) -> Document | None:
        try:
            return api.create(core(self._namespace, plural), body)
        except (OSError, http.client.HTTPException):
            return None
        except Refused as refused:
            if refused.code < 500:
                raise
            return None

    def _back(self, api: Api) -> bool:
        try:
            api.get("/readyz")
        except (OSError, http.client.HTTPException, Refused):
            return False
        return True


def event(name: str, namespace: str) -> Document:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"kind": "ConfigMap", "name": name, "namespace": namespace},
        "reason": "Storm",
        "type": "Normal",
        "message": "written while the server is killed",
    }


def verify(api: Api, namespace: str, account: Account, count: int) -> None:
    """Every promise is kept, and every revision is one object's alone."""
    held = {
        item["metadata"]["name"]: item["metadata"]
        for item in api.list(core(namespace, "configmaps"))
        if item["metadata"]["name"].startswith("storm-")
    }
    kept = {n: (m["uid"], m["resourceVersion"]) for n, m in held.items() if n in account.promised}
    assert kept == account.promised
    assert len(account.promised) + len(account.unknown) == count
    assert set(held) <= set(account.promised) | set(account.unknown)
    twice = [r for r, times in Counter(account.revisions).items() if times > 1]
    assert not twice, f"issued twice: {twice}"
    unheard = [m["resourceVersion"] for n, m in held.items() if n not in account.promised]
    assert not set(unheard) & set(account.revisions), "a lost answer's revision was issued again"
    assert len(set(unheard)) == len(unheard)
