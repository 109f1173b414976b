"""The in-process client whose writes are recorded as those of anybody else; what it reads is not asked about.

What our own controllers do has no address and no credentials: its user is the server itself, and the field manager stands
where others have their user agent. Limit: answers are not recorded, only what was asked.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import orjson

from machinery.client.interface import DeleteOptions, PatchType
from machinery.meta.errors import StatusError
from machinery.meta.resource import ObjectKey, Resource
from machinery.server.audit.auditor import Auditor
from machinery.server.audit.event import Trail
from machinery.server.local import ANNOTATIONS, Local, LocalClient
from machinery.server.request import EMPTY_QUERY, RequestInfo
from machinery.server.user import UserInfo

T = TypeVar("T")
_AS_USUAL = DeleteOptions()
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


class AuditedLocal(LocalClient):
    """A Client bound to one user, watched by the auditor."""

    def __init__(self, local: Local, user: UserInfo, manager: str, auditor: Auditor) -> None:
        super().__init__(local, user, manager)
        self._auditor = auditor

    async def create(
        self,
        resource: Resource[T],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        metadata = document.get("metadata") or {}
        space = namespace or _of(metadata, "namespace")
        trail = self._seen("create", resource, ObjectKey(space, name), subresource, document)
        work = super().create(resource, document, namespace, name=name, subresource=subresource)
        if trail is None:
            return await work
        trail.found({"name": _of(metadata, "name")})
        answer = await self._told(trail, work)
        trail.found(_metadata(answer))
        self._auditor.completed(trail, 201)
        return answer

    async def update(
        self, resource: Resource[T], document: Mapping[str, Any], *, subresource: str = ""
    ) -> T:
        metadata = document.get("metadata") or {}
        key = ObjectKey(_of(metadata, "namespace"), _of(metadata, "name"))
        trail = self._seen("update", resource, key, subresource, document)
        work = super().update(resource, document, subresource=subresource)
        return await self._whole(trail, work)

    async def patch(
        self,
        resource: Resource[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        *,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> T:
        trail = None if dry_run else self._seen("patch", resource, key, subresource, patch)
        work = super().patch(
            resource, key, patch, patch_type, subresource=subresource, force=force, dry_run=dry_run
        )
        return await self._whole(trail, work)

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = _AS_USUAL
    ) -> None:
        trail = self._seen("delete", resource, key, "", None)
        await self._whole(trail, super().delete(resource, key, options))

    # ------------------------------------------------------------------------------------------------- recording
    def _seen(
        self, verb: str, resource: Resource[Any], key: ObjectKey, subresource: str, body: object
    ) -> Trail | None:
        info = RequestInfo(
            _METHODS[verb], "", EMPTY_QUERY, verb, True, resource.group, resource.version,
            resource.plural, subresource, key.namespace, key.name,
        )  # fmt: skip
        trail = self._auditor.local(self._user, info, self._manager)
        if trail is None:
            return None
        trail.uri = path_of(resource, info)
        if body is not None and self._auditor.wants_bodies(trail):
            trail.request = orjson.loads(orjson.dumps(body, default=msgspec.to_builtins))
        return trail

    async def _whole(self, trail: Trail | None, work: Awaitable[T]) -> T:
        if trail is None:
            return await work
        answer = await self._told(trail, work)
        self._auditor.completed(trail, 200)
        return answer

    async def _told(self, trail: Trail, work: Awaitable[T]) -> T:
        self._auditor.received(trail)
        notes: dict[str, str] = {}
        trail.annotations = notes
        token = ANNOTATIONS.set(notes)
        try:
            return await work
        except StatusError as error:
            self._auditor.completed(trail, error.status_code, error)
            raise
        except BaseException:
            self._auditor.broken(trail)
            raise
        finally:
            ANNOTATIONS.reset(token)


def path_of(resource: Resource[Any], info: RequestInfo) -> str:
    """The path that a client would have asked for."""
    root = f"/apis/{resource.group}" if resource.group else "/api"
    space = f"namespaces/{quote(info.namespace)}/" if info.namespace else ""
    parts = [f"{root}/{resource.version}/{space}{resource.plural}", info.name, info.subresource]
    return "/".join(quote(part) if part is info.name else part for part in parts if part)


def _of(metadata: Any, key: str) -> str:
    found = metadata.get(key) if isinstance(metadata, Mapping) else None
    return found if isinstance(found, str) else ""


def _metadata(answer: object) -> Mapping[str, Any]:
    """Name and uid of a typed view or of a document."""
    if isinstance(answer, Mapping):
        found = answer.get("metadata")
        return found if isinstance(found, Mapping) else {}
    meta = getattr(answer, "metadata", None)
    return {key: getattr(meta, key, "") for key in ("name", "namespace", "uid")}
