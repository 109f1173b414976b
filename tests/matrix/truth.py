"""The second pair of eyes: what every check compares with, by plain HTTP and one watch for each kind.

Clients under test ask for a change; whether it came about is read here. Documents are compared without what servers and
controllers write by themselves (`quiet`), so that "changed only what it said" can be asked while controllers are at work.
"""

import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.matrix.record import require
from tests.support.fleet import AWAY, Api, Refused

from machinery.client import kubeconfig

Document = dict[str, Any]
T = TypeVar("T")
PATIENCE_S = 20.0
NOISE = ("resourceVersion", "generation", "managedFields", "finalizers")
MERGE = "merge-patch+json"


class Truth:
    """One server, as its administrator. Any thread may ask: each has a connection of its own."""

    def __init__(self, path: str, context: str) -> None:
        self.kubeconfig, self.context = path, context
        self.space = f"matrix-{context}"
        """The namespace of what is checked there. The federation's travels into the members."""
        self.access = kubeconfig.load(path, context)
        self._local = threading.local()

    @property
    def api(self) -> Api:
        if not hasattr(self._local, "api"):
            self._local.api = Api(self.access, timeout_s=30)
        api: Api = self._local.api
        return api

    def get(self, path: str) -> Document:
        return self.api.get(path)

    def find(self, path: str) -> Document | None:
        """None where there is none."""
        try:
            return self.api.get(path)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def gone(self, path: str, seconds: float = PATIENCE_S) -> None:
        until(lambda: self.find(path) is None, f"{path} is still there", seconds)

    def remove(self, path: str) -> None:
        """Delete it at once, whatever holds it; nothing if it is not there."""
        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        try:
            self.api.request("DELETE", path, options)
            if (left := self.find(path)) is not None and left["metadata"].get("finalizers"):
                self.api.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
        except Refused as refused:
            if refused.code not in (404, 405, 409):
                raise


def until(condition: Callable[[], T], what: str | Callable[[], object], seconds: float = PATIENCE_S) -> T:  # fmt: skip
    """The first true answer; Wrong says what did not come."""
    deadline = time.monotonic() + seconds
    while True:
        error: Exception | None = None
        try:
            if value := condition():
                return value
        except AWAY as caught:
            error = caught
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else str(what())
            require(False, told + (f" ({error})" if error else ""))
        time.sleep(0.1)


class Watching:
    """One kind's changes, from the moment it is entered; a thread reads them."""

    def __init__(self, truth: Truth, collection: str, query: str = "") -> None:
        self._truth, self._collection, self._query = truth, collection, query
        self._events: list[Document] = []
        self._more = threading.Condition()
        self._answer: Any = None

    def __enter__(self) -> "Watching":
        import http.client

        listed = self._truth.get(f"{self._collection}?limit=1&{self._query}")
        version = listed["metadata"]["resourceVersion"]
        place = urllib.parse.urlsplit(self._truth.access.server)
        self._connection = http.client.HTTPSConnection(
            place.hostname or "",
            place.port,
            context=self._truth.access.ssl_context(),
            timeout=900,
        )
        path = f"{self._collection}?watch=1&resourceVersion={version}&{self._query}"
        self._connection.request("GET", path, headers={"Accept": "application/json"})
        self._answer = self._connection.getresponse()
        require(self._answer.status == 200, f"watch: {self._answer.status}")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                with self._more:
                    self._events.append(json.loads(line))
                    self._more.notify_all()
        except (OSError, ValueError, AttributeError):
            return  # closed

    def __exit__(self, *_: object) -> None:
        import contextlib
        import socket

        with contextlib.suppress(OSError):
            if self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()

    def told(self, kind: str, name: str, wanted: Mapping[str, Any] | None = None) -> Document:
        """The first event of that type and name whose object contains `wanted`; Wrong after a while."""

        def found() -> Document | None:
            for event in self._events:
                same = event["type"] == kind and event["object"]["metadata"].get("name") == name
                if same and contains(event["object"], wanted or {}):
                    document: Document = event["object"]
                    return document
            return None

        deadline = time.monotonic() + PATIENCE_S
        with self._more:
            while (event := found()) is None and time.monotonic() < deadline:
                self._more.wait(0.5)
            types = [e["type"] for e in self._events if e["object"]["metadata"].get("name") == name]
        require(
            event is not None, f"a watch was not told of {kind} with {wanted}; it was told {types}"
        )
        assert event is not None
        return event


# ------------------------------------------------------------------------------------------------------ comparisons
def contains(found: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `found`; lists are compared item by item."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and contains(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) >= len(wanted)
            and all(contains(f, w) for f, w in zip(found, wanted, strict=False))
        )
    return bool(found == wanted)


def lacking(found: Any, wanted: Any, path: str = "") -> str:
    """Where `contains` is false, for a message."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return f"{path}: {found!r}"
        for key, value in wanted.items():
            if key not in found:
                return f"{path}.{key} is missing"
            if told := lacking(found[key], value, f"{path}.{key}"):
                return told
        return ""
    if isinstance(wanted, list) and isinstance(found, list) and len(found) >= len(wanted):
        told = (
            lacking(f, w, f"{path}[{i}]")
            for i, (f, w) in enumerate(zip(found, wanted, strict=False))
        )
        return next((t for t in told if t), "")
    return "" if found == wanted else f"{path} is {found!r}, not {wanted!r}"


def quiet(document: Document) -> Document:
    """Without status and what servers and controllers write into metadata."""
    kept = {k: v for k, v in document.items() if k != "status"}
    metadata = {k: v for k, v in document["metadata"].items() if k not in NOISE}
    for part in ("annotations", "labels"):
        ours = {k: v for k, v in metadata.get(part, {}).items() if not _foreign(k)}
        metadata.pop(part, None)
        if ours:
            metadata[part] = ours
    return kept | {"metadata": metadata}


def _foreign(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    return bool(slash) and prefix.endswith(
        (
            "kubernetes.io",
            "karmada.io",
            "ubernetes.io",
            "k8s.io",
            "kopf.dev",
            "zalando.org",
            "helm.sh",
        )
    )


def differences(before: Any, after: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Dotted path -> the value after (None: removed), of everything that differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, Any] = {}
        for key in {**before, **after}:
            found |= differences(before.get(key), after.get(key), (*path, key))
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = {}
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            found |= differences(one, other, (*path, str(index)))
        return found
    if before == after:
        return {}
    if before is None and isinstance(after, Mapping) and after:
        return differences({}, after, path)
    if after is None and isinstance(before, Mapping) and before:
        return differences(before, {}, path)
    return {"|".join(path): after}


def put(document: Document, path: str, value: Any) -> Document:
    """A copy with `value` at `path` (parts joined by `|`; numbers are list positions)."""
    copy: Document = json.loads(json.dumps(document))
    at: Any = copy
    *parents, last = path.split("|")
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return copy


def nested(path: str, value: Any) -> Document:
    """The smallest document with `value` at `path`: a merge patch."""
    for part in reversed(path.split("|")):
        value = {part: value}
    document: Document = value
    return document


def changed_only(before: Document, after: Document, wanted: Mapping[str, Any]) -> None:
    """Wrong unless exactly the paths of `wanted` differ, and have its values."""
    found = differences(quiet(before), quiet(after))
    require(found == dict(wanted), lambda: f"changed {found}, asked for {dict(wanted)}")
