"""The clients of the table of resources, each reduced to the verbs that a person would use it for.

All are asked the same (`exercise.py`); how each says it is here. An answer is the document that the client itself shows.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.matrix.kinds import Document, Resource
from tests.matrix.record import Absent, require
from tests.matrix.truth import Truth, until

JSON, MERGE, STRATEGIC = "json", "merge", "strategic"
MANAGER = "matrix-applier"
LIMIT_S = 60.0


class Events(Protocol):
    """What a client's watch has said so far: (type, name), types only where the client shows them."""

    def told(self, kind: str, name: str) -> None:
        """Wrong unless the client is told within a while."""


class Client(Protocol):
    """Raises whatever the client raises."""

    label: str

    def create(self, r: Resource, document: Document) -> Document: ...
    def get(self, r: Resource, namespace: str, name: str) -> Document: ...
    def names(self, r: Resource, namespace: str, selector: str) -> list[str]: ...
    def watching(self, r: Resource, namespace: str, selector: str) -> contextlib.AbstractContextManager[Events]: ...  # fmt: skip
    def replace(self, r: Resource, document: Document) -> Document: ...
    def patch(self, r: Resource, namespace: str, name: str, kind: str, body: Any, subresource: str = "") -> None: ...  # fmt: skip
    def apply(self, r: Resource, document: Document) -> None: ...
    def scale(self, r: Resource, namespace: str, name: str, replicas: int) -> None: ...
    def delete(self, r: Resource, namespace: str, name: str) -> None: ...
    def delete_collection(self, r: Resource, namespace: str, selector: str) -> None: ...


class Failed(Exception):
    """A command's end with another code than 0: what it said."""


class Kubectl:
    """kubectl of one version against one context. `cache` keeps discovery between commands, as a person's does."""

    def __init__(self, binary: str, truth: Truth, cache: Path, label: str) -> None:
        self.binary, self.truth, self.label = binary, truth, label
        self._cache = cache

    @property
    def _base(self) -> list[str]:
        where = ["--kubeconfig", self.truth.kubeconfig, "--context", self.truth.context]
        return [self.binary, *where, "--cache-dir", str(self._cache)]

    def argv(self, *words: str) -> list[str]:
        return [*self._base, *words]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "NO_PROXY": "*", "KUBECTL_KUBERC": "false"}

    def run(self, *words: str, stdin: str | bytes = "", code: int = 0, env: dict[str, str] | None = None) -> str:  # fmt: skip
        """Standard output; Failed with both outputs if it ended otherwise than with `code`."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            self.argv(*words), input=data, capture_output=True, check=False, timeout=LIMIT_S,
            env={**self.env, **(env or {})},
        )  # fmt: skip
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode != code:
            raise Failed(f"{' '.join(words)}: exit {done.returncode}: {err.strip()} {out.strip()}")
        return out if code == 0 else out + err

    # ------------------------------------------------------------------------------------------------ verbs
    def create(self, r: Resource, document: Document) -> Document:
        return _json(self.run("create", "-f", "-", "-o", "json", stdin=json.dumps(document)))

    def get(self, r: Resource, namespace: str, name: str) -> Document:
        shown = self.run("get", r.typed, name, *_in(r, namespace), "-o", "wide")
        require(name in shown, lambda: f"the table does not show it: {shown}")
        return _json(self.run("get", r.typed, name, *_in(r, namespace), "-o", "json"))

    def names(self, r: Resource, namespace: str, selector: str) -> list[str]:
        out = self.run("get", r.typed, *_in(r, namespace), "-l", selector, "-o", "name")
        return [line.rpartition("/")[2] for line in out.split()]

    @contextlib.contextmanager
    def watching(self, r: Resource, namespace: str, selector: str) -> Iterator[Events]:
        words = ("get", r.typed, *_in(r, namespace), "-l", selector, "-w", "--output-watch-events", "-o", "json")  # fmt: skip
        with subprocess.Popen(
            self.argv(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env
        ) as process:
            printed = Printed(process)
            try:
                yield printed
            finally:
                process.terminate()
                process.wait(10)

    def replace(self, r: Resource, document: Document) -> Document:
        return _json(self.run("replace", "-f", "-", "-o", "json", stdin=json.dumps(document)))

    def patch(self, r: Resource, namespace: str, name: str, kind: str, body: Any, subresource: str = "") -> None:  # fmt: skip
        extra = (f"--subresource={subresource}",) if subresource else ()
        self.run(
            "patch", r.typed, name, *_in(r, namespace), f"--type={kind}", "-p", json.dumps(body), *extra
        )  # fmt: skip

    def apply(self, r: Resource, document: Document) -> None:
        self.run(
            "apply", "--server-side", f"--field-manager={MANAGER}", "-f", "-", stdin=json.dumps(document)
        )  # fmt: skip

    def scale(self, r: Resource, namespace: str, name: str, replicas: int) -> None:
        self.run("scale", r.typed, name, *_in(r, namespace), f"--replicas={replicas}")

    def delete(self, r: Resource, namespace: str, name: str) -> None:
        out = self.run("delete", r.typed, name, *_in(r, namespace), "--timeout=40s")
        require("deleted" in out, lambda: f"it said {out!r}")

    def delete_collection(self, r: Resource, namespace: str, selector: str) -> None:
        raise Absent("kubectl deletes what it has listed one by one")


class Printed:
    """The events that `kubectl get -w` prints, read by a thread."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process, self._text = process, ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            while piece := os.read(self._process.stdout.fileno(), 65536):
                self._text += piece.decode(errors="replace")

    def told(self, kind: str, name: str) -> None:
        until(
            lambda: (kind, name) in self._pairs(),
            lambda: f"{kind} was not printed, but {self._pairs()}",
        )

    def _pairs(self) -> list[tuple[str, str]]:
        decoder, at, found = json.JSONDecoder(), 0, []
        text = self._text
        while match := re.compile(r"\S").search(text, at):
            try:
                event, at = decoder.raw_decode(text, match.start())
            except ValueError:
                break
            found.append((event["type"], event["object"]["metadata"]["name"]))
        return found


def _json(text: str) -> Document:
    document: Document = json.loads(text)
    return document


def _in(r: Resource, namespace: str) -> Sequence[str]:
    return ("-n", namespace) if r.namespaced else ()


def scratch() -> Path:
    """A directory for one client's files, below the run's."""
    return Path(tempfile.mkdtemp(prefix="matrix-"))
