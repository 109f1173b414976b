"""The door to an API server. HTTP (`client.rest`) and in-process (`server.local`) implement the same Protocol.

Reads give typed views: `await client.get(PODS, key)` is a `Pod`. Writes take wire-shaped documents: a view never goes
back as a PUT, so a field that we do not know is never lost. Every method raises `machinery.meta.errors.StatusError`.
For kinds known only at run time use `dynamic(...)`: a `Resource[Document]`, whose view is the document itself.
"""

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from machinery.meta.resource import Document, ObjectKey, Resource

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class PatchType(enum.Enum):
    """The Content-Type of a PATCH."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Selectors in their text form, and where to begin."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    limit: int = 0
    continue_: str = ""
    packed: bool = False
    """Documents may come as `Packed`, from a client that has them at hand: for informers, which keep them."""


class State(Protocol):
    """One state of one object, with the bytes it is made of."""

    namespace: str
    name: str
    revision: int
    value: bytes
    """JSON, without the resourceVersion."""


class _Status(msgspec.Struct):
    """What of an object members and controllers report; the rest is skipped, which takes a sixth of the time."""

    status: Any = None


_status = msgspec.json.Decoder(_Status)


class Packed:
    """A document that is not decoded before it is read: a fifth of the memory, for some µs a reading."""

    __slots__ = ("_decode", "_state")

    def __init__(self, state: State, decode: Callable[[Any], Document]) -> None:
        self._state = state
        self._decode = decode

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self._state.namespace, self._state.name)

    @property
    def version(self) -> str:
        """metadata.resourceVersion."""
        return str(self._state.revision)

    def read(self) -> Document:
        """The document; shared, so never to be mutated."""
        return self._decode(self._state)

    def status(self) -> Any:
        """The document's status alone; None where it has none."""
        return _status.decode(self._state.value).status


@dataclass(frozen=True, slots=True)
class Listing(Generic[T_co]):
    """One page of a list."""

    items: Sequence[T_co]
    resource_version: str
    continue_: str = ""
    warnings: Sequence[str] = ()


class EventType(enum.Enum):
    """What a watch says happened."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T_co]):
    """One event; of a BOOKMARK only `resource_version` counts."""

    type: EventType
    object: T_co
    resource_version: str


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """metav1.DeleteOptions."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class Client(Protocol):
    """An API client, bound to one identity. Methods raise StatusError; a lost connection raises ConnectionError."""

    async def get(self, resource: Resource[T], key: ObjectKey, *, subresource: str = "") -> T: ...

    async def list(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = ListOptions()
    ) -> Listing[T]: ...

    def watch(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = ListOptions()
    ) -> AsyncIterator[WatchEvent[T]]:
        """Events after `options.resource_version`, bookmarks included. Raises Expired when that is too old.

        Ends without an error when the server ends it; the informer starts it again from the last revision.
        """
        ...

    async def create(
        self,
        resource: Resource[T],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        """`name` and `subresource` together POST to a subresource (binding, eviction, token)."""
        ...

    async def update(
        self, resource: Resource[T], document: Mapping[str, Any], *, subresource: str = ""
    ) -> T:
        """PUT; metadata.resourceVersion in `document` makes it a compare-and-swap."""
        ...

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
        """`force` only with APPLY; with `dry_run` the answer is what would be, and nothing is written."""
        ...

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = DeleteOptions()
    ) -> None: ...

    async def close(self) -> None: ...


def dynamic(
    group: str, version: str, plural: str, kind: str, namespaced: bool
) -> Resource[Document]:
    """A kind known only at run time, read as plain documents."""
    return Resource(group, version, plural, kind, namespaced, dict)
