"""One resource, one client, every verb; each effect is seen by somebody else.

The order is a life: watched, created, read, listed, changed in six ways, deleted; then a collection. A step that fails is
red and the life goes on, as far as it can: what a later step needs is put right by the second pair of eyes.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tests.matrix.clients import JSON, MANAGER, MERGE, STRATEGIC, Client, Events
from tests.matrix.kinds import Document, Resource, Sample, sample
from tests.matrix.record import Absent, Cell, Recorder, Wrong, require
from tests.matrix.truth import (
    Truth,
    Watching,
    changed_only,
    contains,
    differences,
    lacking,
    nested,
    put,
    quiet,
    until,
)
from tests.support.fleet import Refused


class Exercise:
    """A client's life with one kind on one server."""

    def __init__(
        self, truth: Truth, server: str, client: Client, called: str, made: Sample, namespace: str, recorder: Recorder
    ) -> None:  # fmt: skip
        self.called = called
        self.truth, self.server, self.client, self.sample = truth, server, client, made
        self.r, self.namespace, self.recorder = made.resource, namespace, recorder
        self.path = self.r.path(namespace, made.name)
        self.collection = self.r.collection(namespace)
        self.slug = made.document["metadata"]["labels"]["matrix"]
        self.selector = f"matrix={self.slug}"

    def step(self, verb: str, body: Callable[[], Any]) -> bool:
        cell = Cell("resources", self.server, self.r.title, verb, self.client.label, "M", "")
        return self.recorder.check(cell, body)

    def now(self) -> Document:
        return self.truth.get(self.path)

    def run(self) -> None:
        self.truth.remove(self.path)
        self.truth.gone(self.path)
        with ExitStack() as stack:
            seen = stack.enter_context(Watching(self.truth, self.collection))
            events: list[Events] = []
            self.step("watch", lambda: events.append(stack.enter_context(self._watch())))
            made = self.step("create", lambda: self.create(seen))
            if not made and self.truth.find(self.path) is None:
                self.truth.api.create(self.collection, self.sample.document)
            if events:
                self.step("watch", lambda: events[0].told("ADDED", self.sample.name))
            self.step("get", self.get)
            self.step("list", self.list)
            self.step("update", lambda: self.update(seen))
            for kind in (JSON, MERGE, STRATEGIC):
                self.step(f"patch {kind}", lambda kind=kind: self.patch(kind))
            if events:
                self.step("watch", lambda: events[0].told("MODIFIED", self.sample.name))
            self.step("apply", self.apply)
            if "status" in self.r.subresources:
                self.step("status", lambda: self.status(seen))
            if "scale" in self.r.subresources:
                self.step("scale", self.scale)
            self.step("delete", lambda: self.delete(seen))
            if events:
                self.step("watch", lambda: events[0].told("DELETED", self.sample.name))
        if "deletecollection" in self.r.verbs:
            self.step("deletecollection", self.delete_collection)

    def _watch(self) -> Any:
        return self.client.watching(self.r, self.namespace, self.selector)

    # ------------------------------------------------------------------------------------------------ read and made
    def create(self, seen: Watching) -> None:
        answer = self.client.create(self.r, self.sample.document)
        wanted = self._wanted()
        found = self.now()
        require(contains(found, wanted), lambda: f"stored: {lacking(found, wanted)}")
        require(contains(answer, wanted), lambda: f"answered: {lacking(answer, wanted)}")
        require(found["metadata"].get("uid"), "it has no uid")
        seen.told("ADDED", self.sample.name, wanted)

    def _wanted(self) -> Document:
        document = {k: v for k, v in self.sample.document.items() if k != "stringData"}
        return document | (self.sample.read or {})

    def get(self) -> None:
        answer, found = self.client.get(self.r, self.namespace, self.sample.name), self.now()
        for path in self.sample.ignore:  # a controller may have written it between the two
            answer, found = _without(answer, path), _without(found, path)
        told = differences(quiet(found), quiet(answer))
        require(not told, lambda: f"shown otherwise than stored: {told}")

    def list(self) -> None:
        found = self.client.names(self.r, self.namespace, self.selector)
        require(found == [self.sample.name], lambda: f"of {self.selector} it lists {found}")
        found = self.client.names(self.r, self.namespace, "matrix=nobody")
        require(found == [], lambda: f"of matrix=nobody it lists {found}")

    # ------------------------------------------------------------------------------------------------ changed
    def _change(self, which: int) -> tuple[str, Any]:
        if self.sample.change:
            path, *values = self.sample.change
            return path, values[which - 1]
        return "metadata|labels|changed", f"v{which}"

    def _judge(self, before: Document, wanted: Document) -> None:
        after = self.now()
        for path in self.sample.ignore:
            after, before = _without(after, path), _without(before, path)
        changed_only(before, after, wanted)

    def update(self, seen: Watching) -> None:
        path, value = self._change(1)
        before = self._replaced(path, value)
        self._judge(before, _leaves(path, value, before))
        seen.told("MODIFIED", self.sample.name, _seen(path, value))
        stale = put(before, "metadata|labels|stale", "yes")
        try:
            self.client.replace(self.r, stale)
        except Exception as error:
            told = str(error)
            require("the object has been modified" in told or "Conflict" in told, f"stale: {told}")
        else:
            raise Wrong("an update of an older version was taken")

    def _replaced(self, path: str, value: Any) -> Document:
        """As clients do: what a controller has changed meanwhile is read and sent again. The object before."""
        for _ in range(5):
            before = self._calm()
            try:
                self.client.replace(self.r, put(before, path, value))
            except Exception as error:
                if "modified" not in str(error):
                    raise
            else:
                return before
        raise Wrong("five times it was changed meanwhile")

    def _calm(self) -> Document:
        """The object once no controller writes it any more."""
        found: list[Document] = [self.now()]

        def same() -> bool:
            found.append(self.now())
            return found[-1]["metadata"]["resourceVersion"] == found[-2]["metadata"]["resourceVersion"]  # fmt: skip

        until(same, "controllers write it all the time")
        return found[-1]

    def patch(self, kind: str) -> None:
        before = self.now()
        body: Any
        if kind == JSON:
            body = [{"op": "add", "path": "/metadata/annotations/json", "value": "yes"}]
            wanted = {"metadata|annotations|json": "yes"}
        elif kind == MERGE:
            body = {"metadata": {"labels": {"merged": "yes"}, "annotations": {"first": None}}}
            wanted = {"metadata|labels|merged": "yes", "metadata|annotations|first": None}
            if "first" not in before["metadata"].get("annotations", {}):
                wanted.pop("metadata|annotations|first")
        else:
            path, value = self._change(2)
            if any(part.isdigit() for part in path.split("|")):
                path, value = "metadata|labels|changed", "v2"
            body, wanted = nested(path, value), _leaves(path, value, before)
            if not self._strategic(body):
                return
        self.client.patch(self.r, self.namespace, self.sample.name, kind, body)
        self._judge(before, wanted)

    def _strategic(self, body: Document) -> bool:
        """Custom kinds have no strategic merge: whether to go on; it is checked that the refusal is the right one."""
        try:
            self.truth.api.request("PATCH", f"{self.path}?dryRun=All", body, "strategic-merge-patch+json")  # fmt: skip
        except Refused as refused:
            if refused.code != 415:
                raise
            try:
                self.client.patch(self.r, self.namespace, self.sample.name, STRATEGIC, body)
            except Absent:
                raise
            except Exception as error:
                told = str(error)
                require("415" in told or "UnsupportedMediaType" in told or "not supported" in told, told)  # fmt: skip
                raise Absent(
                    "custom kinds take no strategic merge patch (415), as upstream"
                ) from error
            raise Wrong("the client was given what another was refused") from refused
        return True

    def apply(self) -> None:
        before = self.now()
        metadata = {"name": self.sample.name, "annotations": {"applied": "yes"}}
        if self.r.namespaced:
            metadata["namespace"] = self.namespace
        said = {"apiVersion": self.r.api_version, "kind": self.r.kind, "metadata": metadata}
        said |= self._needed(before)
        self.client.apply(self.r, said)
        self._judge(before, {"metadata|annotations|applied": "yes"})
        managers = {(m["manager"], m["operation"]) for m in self.now()["metadata"]["managedFields"]}
        require((MANAGER, "Apply") in managers, lambda: f"managers are {managers}")
        self.client.apply(self.r, {**said, "metadata": {**metadata, "annotations": {}}})
        self._judge(before, {})

    def _needed(self, before: Document) -> Document:
        """Kinds whose validation wants their whole spec get it, as it is."""
        probe = {"metadata": {"annotations": {"probe": "1"}}}
        said = {"apiVersion": self.r.api_version, "kind": self.r.kind, **probe}
        try:
            self.truth.api.request(
                "PATCH", f"{self.path}?dryRun=All&fieldManager=probe", said, "apply-patch+yaml"
            )
        except Refused as refused:
            if refused.code not in (400, 422):
                raise
            return {
                k: v
                for k, v in before.items()
                if k not in ("metadata", "status", "apiVersion", "kind")
            }
        return {}

    def status(self, seen: Watching) -> None:
        said = self.sample.status
        require(said is not None, "the table of samples has no status for it")
        before = self._calm()
        self.client.patch(
            self.r, self.namespace, self.sample.name, MERGE, {"status": said}, "status"
        )
        found = seen.told("MODIFIED", self.sample.name, {"status": said})
        told = differences(quiet(before), quiet(found))
        require(not told, lambda: f"a write to the status changed {told}")
        lie = _other(said)
        self.truth.api.request("PATCH", self.path, {"status": lie}, "merge-patch+json")
        kept = self.now().get("status", {})
        require(lie == said or not contains(kept, lie), "a write to the object changed its status")

    def scale(self) -> None:
        before = self._calm()
        self.client.scale(self.r, self.namespace, self.sample.name, 1)
        wanted = {"spec|replicas": 1} if before["spec"].get("replicas") != 1 else {}
        self._judge(before, wanted)
        shown = self.truth.get(f"{self.path}/scale")
        require(shown["spec"]["replicas"] == 1, lambda: f"the Scale shows {shown}")

    # ------------------------------------------------------------------------------------------------ gone
    def delete(self, seen: Watching) -> None:
        self.client.delete(self.r, self.namespace, self.sample.name)
        self.truth.gone(self.path)
        seen.told("DELETED", self.sample.name)

    def delete_collection(self) -> None:
        made = [sample(self.r, self.namespace, f"{self.called}{letter}") for letter in "xyz"]
        documents = [m.document for m in made if m is not None]
        for number, document in enumerate(documents):
            document["metadata"]["labels"] = {"matrix": f"{self.slug}-{'kept' if number == 2 else 'gone'}"}  # fmt: skip
        paths = [self.r.path(self.namespace, d["metadata"]["name"]) for d in documents]
        if len(set(paths)) == 1:
            self._delete_the_only_one(documents[-1], paths[0])
            return
        try:
            for path, document in zip(paths, documents, strict=True):
                self.truth.remove(path)
                self.truth.gone(path)
                self.truth.api.create(self.collection, document)
            self.client.delete_collection(self.r, self.namespace, f"matrix={self.slug}-gone")
            self.truth.gone(paths[0])
            self.truth.gone(paths[1])
            require(self.truth.find(paths[2]) is not None, "it deleted one that was not selected")
        finally:
            for path in paths:
                self.truth.remove(path)

    def _delete_the_only_one(self, document: Document, path: str) -> None:
        """Of a kind that has one object alone: it stays while others are selected, and goes when it is."""
        self.truth.remove(path)
        self.truth.gone(path)
        self.truth.api.create(self.collection, document)
        try:
            self.client.delete_collection(self.r, self.namespace, f"matrix={self.slug}-gone")
            require(self.truth.find(path) is not None, "it deleted one that was not selected")
            self.client.delete_collection(self.r, self.namespace, f"matrix={self.slug}-kept")
            self.truth.gone(path)
        finally:
            self.truth.remove(path)


def _leaves(path: str, value: Any, before: Document) -> Document:
    """What `differences` says when `path` becomes `value`."""
    return differences(quiet(before), quiet(put(before, path, value)))


def _seen(path: str, value: Any) -> Document:
    """What an event must contain; a list's item cannot be told by its place, so nothing then."""
    return {} if any(part.isdigit() for part in path.split("|")) else nested(path, value)


def _other(value: Any, key: str = "") -> Any:
    """Another status of the same shape: texts of people and numbers differ."""
    if isinstance(value, dict):
        return {k: _other(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_other(v) for v in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 7
    return "Lied" if key in ("reason", "message") else value


def _without(document: Document, path: str) -> Document:
    parts = path.split("|")
    copy = put(document, path, None)
    at: Any = copy
    for part in parts[:-1]:
        at = at[part]
    at.pop(parts[-1], None)
    return copy


def known(r: Resource) -> bool:
    """Whether it is a kind with a life: stored, and changed by clients."""
    return {"create", "get", "list", "watch", "patch", "update", "delete"} <= r.verbs
