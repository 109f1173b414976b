"""Which of several replicas acts: a Lease that one of them holds by compare-and-swap.

client-go's rules and numbers: a lease of 15 s, renewed every 2 s, given up by its holder after 10 s without success.
Clocks of machines are never compared: another's lease counts as expired once *this* process has seen the same record
for the whole duration, on its own monotonic clock. The holder, too, measures by that clock, from the moment it *sent*
the renewal that succeeded, so it has stopped before anyone else can start. A lease released on stop is free at once.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from machinery.api.coordination import LEASES, Lease
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339_micro
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ElectionConfig:
    """Times in seconds."""

    lease_duration_s: float = 15.0
    """How long a lease holds after its last renewal, as others see it."""
    renew_deadline_s: float = 10.0
    """How long the holder goes on without a successful renewal."""
    retry_period_s: float = 2.0
    """Between two attempts to renew or to take it."""


def candidate(address: str, ids: Ids) -> str:
    """The identity of a process that stands for a lead: where it serves, for whoever reads the Lease, and who it is.

    Unlike kube-controller-manager's `HOSTNAME_UUID`: a host name says nothing where several servers share a machine.
    """
    return f"{address}_{ids.uid()}"


class LeaderElector:
    """One candidate for one Lease."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        key: ObjectKey,
        identity: str,
        *,
        config: ElectionConfig = ElectionConfig(),
        roll: Callable[[], float] = lambda: 0.0,
    ) -> None:
        assert config.lease_duration_s > config.renew_deadline_s > config.retry_period_s > 0
        self._client, self._clock, self._key, self.identity = client, clock, key, identity
        self._config, self._roll = config, roll
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._held = False

    @property
    def holder(self) -> str:
        """Who holds the lease, as last seen."""
        return self._seen.spec.holder_identity if self._seen is not None else ""

    @property
    def superseded(self) -> bool:
        """Whether another was seen to hold the lease; not where the store just did not answer."""
        return self.holder not in ("", self.identity)

    @property
    def leading(self) -> bool:
        """Whether this candidate holds the lease and its time is not over, by the monotonic clock."""
        return self._held and self._time_left() > 0

    async def run(self, on_started: Callable[[], None]) -> None:
        """Return once leadership was won and lost again; `on_started` is called in between."""
        while not await self.try_once():
            pause = self._config.retry_period_s * (1 + 0.2 * self._roll())
            await self._clock.sleep(pause)
        log.info("leadership won", extra={"lease": str(self._key), "identity": self.identity})
        on_started()
        while self._held and (left := self._time_left()) > 0:
            await self._clock.sleep(min(self._config.retry_period_s, left))
            await self._renew_within(self._time_left())
        self._held = False

    def _time_left(self) -> float:
        """Until leadership ends unless it is renewed."""
        return self._renewed_at + self._config.renew_deadline_s - self._clock.monotonic()

    async def _renew_within(self, seconds: float) -> None:
        """One attempt, dropped at the deadline: a request that hangs must not stretch leadership."""
        tasks = TaskOwner()
        attempt = tasks.spawn(self.try_once(), "lease-renewal")
        limit = tasks.spawn(self._clock.sleep(max(seconds, 0.0)), "lease-deadline")
        try:
            await asyncio.wait({attempt, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.close()

    async def try_once(self) -> bool:
        """One attempt to take or renew; whether the lease is held now."""
        started = self._clock.monotonic()
        try:
            lease = await self._attempt()
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.warning(
                "lease attempt failed", extra={"lease": str(self._key), "error": str(error)}
            )
            return self.leading
        if lease is None:
            self._held = False
            return False
        self._observe(lease)
        self._held, self._renewed_at = True, started
        return True

    async def release(self) -> None:
        """Give the lease up, so that another need not wait; best effort."""
        if not self._held:
            return
        self._held = False
        assert self._seen is not None
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._client.update(LEASES, self._document(self._seen, spec))
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("lease not released", extra={"lease": str(self._key), "error": str(error)})

    # ------------------------------------------------------------------------------------------------- inside
    async def _attempt(self) -> Lease | None:
        """The lease as we hold it now, or None where another does."""
        now = rfc3339_micro(self._clock.now())
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._config.lease_duration_s)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        try:
            lease = await self._client.get(LEASES, self._key)
        except NotFound:
            document = self._document(None, spec)
            return await self._client.create(LEASES, document, self._key.namespace)
        self._observe(lease)
        holder = lease.spec.holder_identity
        if holder == self.identity:
            acquired = lease.spec.acquire_time
            spec["acquireTime"] = rfc3339_micro(acquired) if acquired else now
            spec["leaseTransitions"] = lease.spec.lease_transitions
        elif holder and self._clock.monotonic() < self._seen_at + lease.spec.lease_duration_seconds:
            return None
        else:
            spec["leaseTransitions"] = lease.spec.lease_transitions + 1
        return await self._client.update(LEASES, self._document(lease, spec))

    def _observe(self, lease: Lease) -> None:
        if self._seen is None or self._seen.spec != lease.spec:
            self._seen_at = self._clock.monotonic()
        self._seen = lease

    def _document(self, lease: Lease | None, spec: Document) -> Document:
        metadata: Document = {"namespace": self._key.namespace, "name": self._key.name}
        if lease is not None:
            metadata["resourceVersion"] = lease.metadata.resource_version
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": spec,
        }
