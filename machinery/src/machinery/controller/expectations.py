"""What a controller has done but its informer has not yet shown: without it, a ReplicaSet creates its Pods twice.

By uid, and level-triggered: nothing is counted and no event has to be heard. After a create, the object's uid is
expected to appear; after a delete, its uid to go or to carry a deletionTimestamp. `satisfied` asks the informer each
time, so an event that came before the answer of the write does no harm. A created object that came and went unseen is
recognised by the informer having passed its revision. Expectations older than five minutes are dropped: a lost watch
event must not stop a controller for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from machinery.client.informer import Informer
from machinery.client.objects import deleting, uid_of, version_of
from machinery.controller.action import Action, Create, Delete
from machinery.kit.clock import Clock
from machinery.meta.resource import ObjectKey

TIMEOUT_S = 300.0
UID_INDEX = "uid"


@dataclass(frozen=True, slots=True)
class _Expected:
    revision: int
    """Of a create: the revision that shows it. -1: a delete."""
    until: float


class Expectations:
    """Per owner key, the uids whose appearance or departure the informer still owes."""

    def __init__(
        self, informer: Informer[Any], clock: Clock, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._informer, self._clock, self._timeout_s = informer, clock, timeout_s
        self._expected: dict[ObjectKey, dict[str, _Expected]] = {}
        informer.add_index(UID_INDEX, lambda item: (uid_of(item),))

    def note(self, owner: ObjectKey) -> Callable[[Action, Any], None]:
        """For `Executor.apply(on_done=…)`: expects whatever Creates and Deletes were applied."""

        def on_done(action: Action, answer: Any) -> None:
            if isinstance(action, Create) and answer is not None:
                self.created(owner, answer)
            elif isinstance(action, Delete) and action.uid:
                self.deleted(owner, action.uid)

        return on_done

    def created(self, owner: ObjectKey, value: Any) -> None:
        """`value`, as the server answered it, is to appear."""
        self._expect(owner, uid_of(value), _revision(version_of(value)))

    def deleted(self, owner: ObjectKey, uid: str) -> None:
        """The object is to go, or to be seen going."""
        self._expect(owner, uid, -1)

    def satisfied(self, owner: ObjectKey) -> bool:
        """Whether the informer shows all that was done for `owner`; if not, its next event will."""
        expected = self._expected.get(owner)
        if expected is None:
            return True
        now = self._clock.monotonic()
        for uid in [u for u, e in expected.items() if e.until <= now or self._shown(u, e)]:
            del expected[uid]
        if expected:
            return False
        del self._expected[owner]
        return True

    def forget(self, owner: ObjectKey) -> None:
        """The owner is gone."""
        self._expected.pop(owner, None)

    def _expect(self, owner: ObjectKey, uid: str, revision: int) -> None:
        until = self._clock.monotonic() + self._timeout_s
        self._expected.setdefault(owner, {})[uid] = _Expected(revision, until)

    def _shown(self, uid: str, expected: _Expected) -> bool:
        found = self._informer.by_index(UID_INDEX, uid)
        if expected.revision < 0:
            return not found or deleting(found[0])
        return bool(found) or 0 < expected.revision <= _revision(self._informer.resource_version)


def _revision(text: str) -> int:
    """Resource versions of one server compare as integers (KEP-5504); anything else never has passed."""
    return int(text) if text.isdecimal() else 0
