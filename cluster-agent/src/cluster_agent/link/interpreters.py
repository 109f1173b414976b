"""What users of the federation say of kinds, as far as the member's side asks: what stays here, what travels back, what is well.

A federation that is older than this agent does not serve ResourceInterpreterCustomizations: they are waited for a moment at
start, since an object that is applied without its `Retain` loses what its cluster has decided, and then done without.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from machinery.api.fleet import reflect, reflection
from machinery.api.fleet.interpretation import (
    CUSTOMIZATIONS,
    HEALTH,
    REFLECT,
    RETAIN,
    ResourceInterpreterCustomization,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document
from machinery.scripts.customizations import BUILT_IN, Customizations, InterpretationFailed, Kind

log = logging.getLogger(__name__)

FIRST_S = 5.0
"""How long Works wait for the first list at start."""

Now = Callable[[], Customizations]


def nobody() -> Customizations:
    """Where only what is built in counts."""
    return BUILT_IN


def retained(scripts: Customizations, manifest: Document, live: Document) -> Document:
    """The manifest with what the member's live object has to keep. Raises InterpretationFailed."""
    if scripts.answers(manifest, RETAIN):
        return scripts.retained(manifest, live)
    return reflection.retained(manifest, live)


def report(scripts: Customizations, live: Document) -> tuple[str, Document | None, list[str]]:
    """Health of a live object, the status that travels back (None: none), and why a user's script did not say one."""
    failures: list[str] = []
    health, status = reflect.UNKNOWN, None
    try:
        health = _health(scripts, live)
    except InterpretationFailed as error:
        failures.append(str(error))
    try:
        reflects = scripts.answers(live, REFLECT)
        status = scripts.reflected(live) if reflects else reflect.reflected(live)
    except InterpretationFailed as error:
        failures.append(str(error))
    return health, status, failures


def _health(scripts: Customizations, live: Document) -> str:
    if not scripts.answers(live, HEALTH):
        return reflect.health(live)
    return reflect.HEALTHY if scripts.healthy(live) else reflect.UNHEALTHY


class Interpreters:
    """The federation's customizations, followed."""

    def __init__(self, federation: Client, clock: Clock) -> None:
        self._held = Informer(federation, CUSTOMIZATIONS, clock)
        self._now: Customizations | None = None
        self._held.on_change(self._forget)

    def now(self) -> Customizations:
        """As of this moment."""
        if self._now is None:
            self._now = Customizations(self._held.list())
        return self._now

    async def follow(self, tasks: TaskOwner, changed: Callable[[Kind], None]) -> None:
        """Follow them from now on; `changed` hears of each kind about which something else is said."""
        _ = tasks.spawn(self._held.run(), "link-interpreters")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._held.wait_synced()
        if not self._held.synced:
            log.info("the federation does not show customizations of interpreters")

        def tell(
            old: ResourceInterpreterCustomization | None,
            new: ResourceInterpreterCustomization | None,
        ) -> None:
            for target in {one.spec.target for one in (old, new) if one is not None}:
                changed((target.api_version, target.kind))

        self._held.on_change(tell)

    def _forget(self, *_: object) -> None:
        self._now = None
