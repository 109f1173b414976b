"""kopf: an operator over every kind that is served, and one that uses what kopf offers on a custom kind.

The operators run in threads of this process, each with its own loop, registry and settings; what they do is seen by the
second pair of eyes. Peering is off, and once on, with kopf's own CRDs.
"""

import asyncio
import base64
import contextlib
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import kopf
from tests.matrix.desk import Desk
from tests.matrix.exercise import known
from tests.matrix.kinds import Document, Resource, Sample, sample, served
from tests.matrix.owned import OWNED
from tests.matrix.record import Cell, Recorder, require
from tests.matrix.truth import Truth, until

GROUP = "matrix.example.com"
HANDLED = "kopf.zalando.org/last-handled-configuration"
LABEL = "kopf"
OTHER_VERSIONS = (
    "autoscaling/v1 horizontalpodautoscalers", "multicluster.x-k8s.io/v1alpha1 serviceexports",
    "multicluster.x-k8s.io/v1alpha1 serviceimports",
)  # fmt: skip
"""An operator takes each kind in one version: in two it would undo its own notes on the same objects."""


class Lines(logging.Handler):
    """What all operators have logged since it was cleared."""

    def emit(self, record: logging.LogRecord) -> None:
        LINES.append(record.getMessage())


LINES: list[str] = []


class Operator:
    """One operator: what it saw, by kind and name."""

    def __init__(self, truth: Truth, peering: str = "", priority: int = 0) -> None:
        self.truth, self.peering, self.priority = truth, peering, priority
        self.registry = kopf.OperatorRegistry()
        self.seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.settings = kopf.OperatorSettings()
        self.settings.persistence.finalizer = "matrix.example.com/kopf"
        self.settings.posting.level = 10
        self.settings.watching.server_timeout = 120
        self.settings.scanning.disabled = False
        if peering:
            self.settings.peering.name, self.settings.peering.mandatory = peering, True
        else:
            self.settings.peering.standalone = True
        self.settings.peering.priority = priority
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        kopf.on.login(registry=self.registry)(self._login)

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        access = self.truth.access
        return kopf.ConnectionInfo(
            server=access.server,
            ca_data=base64.b64encode(access.ca),
            certificate_data=base64.b64encode(access.certificate),
            private_key_data=base64.b64encode(access.key),
        )

    def note(self, what: str, kind: str, name: str) -> None:
        self.seen[kind, name][what] += 1

    def saw(self, what: str, kind: str, name: str, seconds: float = 30.0) -> None:
        until(lambda: self.seen[kind, name][what], lambda: f"{what} was not seen, but {dict(self.seen[kind, name])} {self._error or ''}", seconds)  # fmt: skip

    def _run(self) -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=self.registry, settings=self.settings, namespaces=[self.truth.space],
                    stop_flag=self._stop, ready_flag=self._ready, memo=kopf.Memo(),
                    clusterwide=False,
                )
            )  # fmt: skip
        except BaseException as error:
            self._error = error

    def paused(self) -> bool:
        """Whether it pauses, for another of higher priority."""
        return any("Pausing operations" in line for line in LINES)

    @contextlib.contextmanager
    def running(self) -> Iterator["Operator"]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        until(lambda: self._ready.is_set() or self._error, "the operator does not start", 40)
        require(self._error is None, lambda: f"the operator ended: {self._error!r}")
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(30)


# ------------------------------------------------------------------------------------------------------- every kind
def over_everything(truth: Truth, server: str, recorder: Recorder) -> None:
    """list, watch, patch and delete of every kind that has a life, by handlers of one operator."""
    rows: list[tuple[Resource, Sample]] = []
    for r in served(truth).values():
        made = (
            sample(r, truth.space, LABEL) if known(r) and (server, r.title) not in OWNED else None
        )
        if made is not None and r.kind != "Event" and r.title not in OTHER_VERSIONS:
            rows.append((r, made))
    operator = Operator(truth)
    for r, made in rows:
        register(operator, r, made)
        path = r.path(truth.space, made.name)
        truth.remove(path)
        truth.gone(path)
        truth.api.create(r.collection(truth.space), made.document)
    with operator.running():
        for r, made in rows:
            follow(operator, server, r, made, recorder)
    for r, made in rows:
        truth.remove(r.path(truth.space, made.name))


def register(operator: Operator, r: Resource, made: Sample) -> None:
    """Handlers of one kind, for the one object."""

    def ours(name: str, **_: Any) -> bool:
        return name == made.name

    where = (r.group, r.version, r.plural)

    def event(type: str | None, name: str, **_: Any) -> None:
        operator.note(type or "LISTED", r.title, name)

    def changed(name: str, patch: kopf.Patch, **_: Any) -> None:
        operator.note("update", r.title, name)
        patch.metadata.annotations["by-kopf"] = "yes"

    def deleted(name: str, **_: Any) -> None:
        operator.note("delete", r.title, name)

    given = {"registry": operator.registry, "when": ours}
    kopf.on.event(*where, **given)(event)
    kopf.on.update(*where, **given)(changed)
    kopf.on.delete(*where, **given)(deleted)


def follow(operator: Operator, server: str, r: Resource, made: Sample, recorder: Recorder) -> None:
    truth, path = operator.truth, r.path(operator.truth.space, made.name)

    def step(verb: str, body: Callable[[], None]) -> None:
        recorder.check(Cell("resources", server, r.title, verb, "kopf", "M", ""), body)

    def patched() -> None:
        until(lambda: truth.get(path)["metadata"].get("finalizers"), "no finalizer was put on it")
        truth.api.request("PATCH", path, {"metadata": {"labels": {"told": "kopf"}}}, "merge-patch+json")  # fmt: skip
        change(truth, r, made)
        operator.saw("update", r.title, made.name)
        until(lambda: truth.get(path)["metadata"]["annotations"].get("by-kopf") == "yes", "not patched")  # fmt: skip

    def deleted() -> None:
        truth.api.request("DELETE", path)
        operator.saw("delete", r.title, made.name)
        truth.gone(path)
        operator.saw("DELETED", r.title, made.name)

    step("list", lambda: operator.saw("LISTED", r.title, made.name))
    step("patch merge", patched)
    step("watch", lambda: operator.saw("MODIFIED", r.title, made.name))
    step("delete", deleted)


def change(truth: Truth, r: Resource, made: Sample) -> None:
    """A change that is no label, where there is one."""
    from tests.matrix.truth import nested

    if made.change and not any(part.isdigit() for part in made.change[0].split("|")):
        body = nested(made.change[0], made.change[1])
        truth.api.request("PATCH", r.path(truth.space, made.name), body, "merge-patch+json")


# ------------------------------------------------------------------------------------------------------ a custom kind
def checks(desk: Desk) -> dict[str, Callable[[Desk], None]]:
    return {
        "create handler: its result in the status": created,
        "update handler: what changed, old and new": updated,
        "delete handler, finalizer": finalized,
        "retries, kept in annotations": retried,
        "timer": timed,
        "daemon, stopped at the end": daemon,
        "Events of an object": posted,
        "resume after a restart, nothing done twice": resumed,
        "peering: who is of lower priority waits": peered,
    }


def try_kopf(desk: Desk) -> None:
    for what, body in checks(desk).items():
        cell = Cell("kopf", desk.server, what, "works", "kopf", "M", "")
        desk.recorder.check(cell, lambda body=body: body(desk))


@contextlib.contextmanager
def widget(desk: Desk, what: str) -> Iterator[str]:
    """A fresh name; the object goes afterwards."""
    path = desk.group(f"{GROUP}/v1", "widgets", f"kopf-{what}")
    desk.fresh(path)
    try:
        yield path
    finally:
        desk.truth.remove(path)


def make(desk: Desk, path: str, **spec: Any) -> Document:
    collection, _, name = path.rpartition("/")
    document = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 1} | spec,
    }
    return desk.truth.api.create(collection, document)


def annotations(desk: Desk, path: str) -> Document:
    found: Document = desk.get(path)["metadata"].get("annotations", {})
    return found


def created(desk: Desk) -> None:
    operator = Operator(desk.truth)

    def on_create(spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> Document:
        patch.status["ready"] = spec["size"]
        return {"told": spec["colour"]}

    kopf.on.create(GROUP, "v1", "widgets", registry=operator.registry, id="made")(on_create)
    with operator.running(), widget(desk, "created") as path:
        before = make(desk, path)
        found = desk.sees(path, {"status": {"ready": 1, "made": {"told": "grey"}}})
        require(found["spec"] == before["spec"], "the spec was changed")
        require(found["metadata"]["generation"] == 1, "a status counted as a change")


def updated(desk: Desk) -> None:
    operator = Operator(desk.truth)
    told: list[tuple[Any, Any]] = []

    def on_update(old: int, new: int, **_: Any) -> None:
        told.append((old, new))

    kopf.on.update(GROUP, "v1", "widgets", registry=operator.registry, field="spec.size")(on_update)
    with operator.running(), widget(desk, "updated") as path:
        make(desk, path)
        until(lambda: HANDLED in annotations(desk, path), "not handled")
        desk.truth.api.request("PATCH", path, {"spec": {"size": 2}}, "merge-patch+json")
        until(lambda: told, "the change was not told")
        require(told == [(1, 2)], str(told))


def finalized(desk: Desk) -> None:
    operator = Operator(desk.truth)
    may_go = threading.Event()

    def on_delete(**_: Any) -> None:
        if not may_go.is_set():
            raise kopf.TemporaryError("not yet", delay=0.5)

    kopf.on.delete(GROUP, "v1", "widgets", registry=operator.registry)(on_delete)
    with operator.running(), widget(desk, "finalized") as path:
        make(desk, path)
        desk.sees(path, {"metadata": {"finalizers": ["matrix.example.com/kopf"]}})
        desk.truth.api.request("DELETE", path)
        require(
            desk.get(path)["metadata"].get("deletionTimestamp"),
            "it does not wait for its finalizer",
        )
        may_go.set()
        desk.truth.gone(path, 40)


def retried(desk: Desk) -> None:
    operator = Operator(desk.truth)
    tries: list[int] = []

    def on_create(retry: int, **_: Any) -> None:
        tries.append(retry)
        if retry < 2:
            raise kopf.TemporaryError("again", delay=0.2)

    kopf.on.create(GROUP, "v1", "widgets", registry=operator.registry, id="again")(on_create)
    with operator.running(), widget(desk, "retried") as path:
        make(desk, path)
        until(lambda: tries == [0, 1, 2], lambda: f"tries: {tries}")
        until(lambda: "kopf.zalando.org/again" not in annotations(desk, path), "its progress stays")


def timed(desk: Desk) -> None:
    operator = Operator(desk.truth)

    def tick(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
        patch.status["ready"] = status.get("ready", 0) + 1

    kopf.timer(GROUP, "v1", "widgets", registry=operator.registry, interval=0.3)(tick)
    with operator.running(), widget(desk, "timed") as path:
        make(desk, path)
        until(lambda: desk.get(path).get("status", {}).get("ready", 0) >= 3, "it does not tick")


def daemon(desk: Desk) -> None:
    operator = Operator(desk.truth)
    # A daemon in a thread has ten turns of the loop to end at once; kopf looks for one that takes longer after this, else a minute.
    operator.settings.background.cancellation_polling = 1

    def runs(name: str, stopped: kopf.DaemonStopped, **_: Any) -> None:
        operator.note("began", "daemon", name)
        stopped.wait(60)
        operator.note("ended", "daemon", name)

    kopf.daemon(GROUP, "v1", "widgets", registry=operator.registry)(runs)
    with operator.running(), widget(desk, "daemon") as path:
        make(desk, path)
        operator.saw("began", "daemon", "kopf-daemon")
        desk.truth.api.request("DELETE", path)
        operator.saw("ended", "daemon", "kopf-daemon")
        desk.truth.gone(path)


def posted(desk: Desk) -> None:
    operator = Operator(desk.truth)

    def on_create(body: kopf.Body, **_: Any) -> None:
        kopf.info(body, reason="Matrix", message="it was made")

    kopf.on.create(GROUP, "v1", "widgets", registry=operator.registry)(on_create)
    with operator.running(), widget(desk, "posted") as path:
        made = make(desk, path)
        query = f"?fieldSelector=involvedObject.uid%3D{made['metadata']['uid']},reason%3DMatrix"
        found = until(lambda: desk.get(desk.core("events") + query)["items"], "no Event")
        require(found[0]["message"] == "it was made", str(found[0]))


def resumed(desk: Desk) -> None:
    with widget(desk, "resumed") as path:
        for turn in ("first", "second"):
            operator = Operator(desk.truth)

            def on_create(name: str, operator: Operator = operator, **_: Any) -> None:
                operator.note("create", "w", name)

            def on_resume(name: str, operator: Operator = operator, **_: Any) -> None:
                operator.note("resume", "w", name)

            kopf.on.create(GROUP, "v1", "widgets", registry=operator.registry)(on_create)
            kopf.on.resume(GROUP, "v1", "widgets", registry=operator.registry)(on_resume)
            with operator.running():
                if turn == "first":
                    make(desk, path)
                    operator.saw("create", "w", "kopf-resumed")
                    until(lambda: HANDLED in annotations(desk, path), "not handled")
                else:
                    operator.saw("resume", "w", "kopf-resumed")
                    require(
                        not operator.seen["w", "kopf-resumed"]["create"], "it was created again"
                    )


PEERINGS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kopfpeerings.kopf.dev"},
    "spec": {
        "scope": "Namespaced",
        "group": "kopf.dev",
        "names": {"kind": "KopfPeering", "plural": "kopfpeerings", "singular": "kopfpeering"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                        },
                    }
                },
            }
        ],
    },
}  # fmt: skip


def peered(desk: Desk) -> None:
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kopfpeerings.kopf.dev"
    desk.fresh(definition)
    desk.truth.api.create(definition.rpartition("/")[0], PEERINGS)
    peering = desk.group("kopf.dev/v1", "kopfpeerings", "matrix")
    desk.truth.api.create(
        peering.rpartition("/")[0], {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "matrix"}}
    )  # fmt: skip
    logger, heard = logging.getLogger("kopf"), Lines()
    LINES.clear()
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    low, high = Operator(desk.truth, "matrix", 1), Operator(desk.truth, "matrix", 100)
    for operator in (low, high):

        def on_create(name: str, operator: Operator = operator, **_: Any) -> None:
            operator.note("create", "w", name)

        kopf.on.create(GROUP, "v1", "widgets", registry=operator.registry)(on_create)
    try:
        with low.running(), high.running(), widget(desk, "peered") as path:
            until(
                lambda: len(desk.get(peering).get("status", {})) == 2,
                "both do not say who they are",
                40,
            )
            until(lambda: low.paused(), "the lower one goes on", 40)
            make(desk, path)
            high.saw("create", "w", "kopf-peered", 40)
            require(not low.seen["w", "kopf-peered"]["create"], "the lower one acted as well")
    finally:
        logger.removeHandler(heard)
        desk.truth.remove(definition)
