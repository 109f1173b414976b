"""A Client over dicts, for tests of the client room itself (informers, executor, leader election).

It knows resourceVersions, compare-and-swap, preconditions, watches with a bounded history and merge patches; it has no
schemas, admission, selectors, finalizers or garbage collection. Tests of controllers use the real API server's
in-process client. `fail_next` makes the next matching calls raise, `cut` breaks open watches, `compact` forgets history.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from machinery.client.interface import (
    DeleteOptions,
    EventType,
    Listing,
    ListOptions,
    PatchType,
    WatchEvent,
)
from machinery.client.rest import decode_view
from machinery.kit.ids import SeededIds
from machinery.meta.errors import Expired, already_exists, conflict, not_found
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

EVERYTHING, AS_USUAL = ListOptions(), DeleteOptions()


class FakeClient:
    """One server and its one client."""

    def __init__(self) -> None:
        self.revision = 0
        self.objects: dict[tuple[str, ObjectKey], Document] = {}
        self.history: list[tuple[int, EventType, str, Document]] = []
        self.compacted = 0
        self.calls: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()
        self._failures: list[tuple[str, Exception]] = []
        self._cuts = 0
        self._ids = SeededIds(7)

    # ----------------------------------------------------------------------------------------------- for tests
    def fail_next(self, verb: str, *errors: Exception) -> None:
        """The next calls of `verb` raise these, one each."""
        self._failures += [(verb, error) for error in errors]

    def cut(self) -> None:
        """Break every open watch."""
        self._cuts += 1
        self._wake()

    def compact(self) -> None:
        """Forget the history: a watch from before is Expired."""
        self.compacted = self.revision
        self.history.clear()

    def verbs(self) -> list[str]:
        return [call[0] for call in self.calls]

    # ------------------------------------------------------------------------------------------------- reading
    async def get(self, resource: Resource[Any], key: ObjectKey, *, subresource: str = "") -> Any:
        await self._call("get", resource, key)
        return self._view(resource, self._existing(resource, key))

    async def list(
        self, resource: Resource[Any], namespace: str = "", options: ListOptions = EVERYTHING
    ) -> Listing[Any]:
        await self._call("list", resource, namespace)
        found = [
            document
            for (kind, key), document in sorted(self.objects.items())
            if kind == resource.group_resource and namespace in ("", key.namespace)
        ]
        return Listing([self._view(resource, d) for d in found], str(self.revision))

    async def watch(
        self, resource: Resource[Any], namespace: str = "", options: ListOptions = EVERYTHING
    ) -> AsyncIterator[WatchEvent[Any]]:
        await self._call("watch", resource, namespace)
        position, cuts = int(options.resource_version or 0), self._cuts
        while True:
            if position < self.compacted:
                raise Expired(f"too old resource version: {position} ({self.compacted})")
            for revision, kind, name, document in list(self.history):
                here = namespace in ("", document_key(document).namespace)
                if revision > position and name == resource.group_resource and here:
                    yield WatchEvent(kind, self._view(resource, document), str(revision))
            position = self.revision
            if self._cuts != cuts:
                raise ConnectionError("cut")
            changed = self._changed
            await changed.wait()

    # ------------------------------------------------------------------------------------------------- writing
    async def create(
        self,
        resource: Resource[Any],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> Any:
        await self._call("create", resource, namespace)
        fresh = copy.deepcopy(dict(document))
        metadata = fresh.setdefault("metadata", {})
        if resource.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace", "default")
        if not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + self._ids.suffix()
        key = document_key(fresh)
        if (resource.group_resource, key) in self.objects:
            raise already_exists(resource.plural, resource.group, key.name)
        metadata["uid"] = self._ids.uid()
        return self._put(resource, EventType.ADDED, fresh)

    async def update(
        self, resource: Resource[Any], document: Mapping[str, Any], *, subresource: str = ""
    ) -> Any:
        fresh = copy.deepcopy(dict(document))
        key = document_key(fresh)
        await self._call("update", resource, key)
        old = self._existing(resource, key)
        self._check(resource, old, fresh["metadata"])
        fresh["metadata"]["uid"] = old["metadata"]["uid"]
        return self._put(resource, EventType.MODIFIED, fresh)

    async def patch(
        self,
        resource: Resource[Any],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        *,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Any:
        await self._call("patch", resource, key, patch, subresource)
        assert patch_type is PatchType.MERGE and isinstance(patch, Mapping) and not dry_run
        old = self._existing(resource, key)
        self._check(resource, old, patch.get("metadata") or {})
        return self._put(resource, EventType.MODIFIED, _merge(old, patch))

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = AS_USUAL
    ) -> None:
        await self._call("delete", resource, key)
        old = self._existing(resource, key)
        wanted = {"uid": options.uid, "resourceVersion": options.resource_version}
        self._check(resource, old, {k: v for k, v in wanted.items() if v})
        self._put(resource, EventType.DELETED, copy.deepcopy(old))
        del self.objects[resource.group_resource, key]

    async def close(self) -> None:
        self.cut()

    # -------------------------------------------------------------------------------------------------- inside
    async def _call(self, verb: str, resource: Resource[Any], *rest: Any) -> None:
        self.calls.append((verb, resource.plural, *rest))
        await asyncio.sleep(0)
        for index, (wanted, error) in enumerate(self._failures):
            if wanted == verb:
                del self._failures[index]
                raise error

    def _existing(self, resource: Resource[Any], key: ObjectKey) -> Document:
        found = self.objects.get((resource.group_resource, key))
        if found is None:
            raise not_found(resource.plural, resource.group, key.name)
        return found

    def _check(
        self, resource: Resource[Any], old: Document, preconditions: Mapping[str, Any]
    ) -> None:
        for name in ("uid", "resourceVersion"):
            if preconditions.get(name) not in (None, "", old["metadata"][name]):
                raise conflict(resource.plural, resource.group, old["metadata"]["name"])

    def _put(self, resource: Resource[Any], kind: EventType, document: Document) -> Any:
        self.revision += 1
        document["metadata"]["resourceVersion"] = str(self.revision)
        document.setdefault("apiVersion", resource.api_version)
        document.setdefault("kind", resource.kind)
        self.objects[resource.group_resource, document_key(document)] = document
        self.history.append((self.revision, kind, resource.group_resource, document))
        self._wake()
        return self._view(resource, document)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _view(self, resource: Resource[Any], document: Document) -> Any:
        return decode_view(resource, orjson.dumps(document))


def _merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result
