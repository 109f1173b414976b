"""What a plan may ask for: a small closed vocabulary of values, applied by one executor.

Plans return lists of these; tests compare lists, dry runs print them, the executor alone touches the API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from machinery.client.interface import PatchType
from machinery.meta.resource import ObjectKey, Resource


@dataclass(frozen=True, slots=True)
class Create:
    """POST `document`. With `exists_ok` a 409 AlreadyExists counts as done."""

    resource: Resource[Any]
    document: Mapping[str, Any]
    exists_ok: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """PATCH of the object; `resource_version` makes it a compare-and-swap, `uid` a precondition.

    A JSON merge patch by default: null removes a field, lists are replaced whole. `note` says for what it is done to those
    who listen to the executor; it is no part of what is done.
    """

    resource: Resource[Any]
    key: ObjectKey
    patch: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    patch_type: PatchType = PatchType.MERGE
    resource_version: str = ""
    uid: str = ""
    note: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Merge patch of the status subresource: `status` holds the fields to set (null removes).

    `resource_version` makes it a compare-and-swap; `note` is as in `Patch`.
    """

    resource: Resource[Any]
    key: ObjectKey
    status: Mapping[str, Any]
    resource_version: str = ""
    note: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE; `uid` and `resource_version` are preconditions. A 404 counts as done."""

    resource: Resource[Any]
    key: ObjectKey
    uid: str = ""
    resource_version: str = ""
    propagation_policy: str = ""
    grace_period_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Emit:
    """An Event on an object, for people. Repeated ones are counted up, as upstream's recorder does."""

    resource: Resource[Any]
    key: ObjectKey
    uid: str
    type: str
    reason: str
    message: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Look at this key again after `seconds`."""

    seconds: float


Action: TypeAlias = Create | Patch | SetStatus | Delete | Emit | RequeueAfter


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile came to. None: wait for the next event."""

    requeue_after: float | None = None
    applied: Sequence[Action] = field(default=())


class TerminalError(Exception):
    """Trying again will not help; the key is dropped until its next event."""
