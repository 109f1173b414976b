"""ServiceImport controller, the acting half: the only one that gives clusterset addresses.

There is one worker, and before an address is chosen all imports are read from the API itself, not from the copy: what a
pass before this one, or a leader before this one, has given is then seen. An address that the API does not take is not
given; the pass is repeated.
"""

from collections.abc import Sequence

from cluster_agent.control.controllers.serviceimport.plan import holders, plan, wanted
from machinery.api.fleet.multicluster import SERVICE_IMPORTS, ServiceImport
from machinery.controller.action import Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.resource import ObjectKey
from machinery.server.services.ranges import AddressRange

ADDRESS_INDEX = "clusterset-address"


class ServiceImportReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, ranges: Sequence[AddressRange]) -> None:
        self._client, self._executor, self._clock = manager.client, manager.executor, manager.clock
        self._ranges = ranges
        self._imports = manager.informer(SERVICE_IMPORTS)
        self._imports.add_index(ADDRESS_INDEX, lambda one: one.spec.ips)

    async def reconcile(self, key: ObjectKey) -> Result:
        one = self._imports.get(key)
        if one is None:
            return Result()
        taken = self._sharing(one)
        if wanted(one, self._ranges, taken).ips != one.spec.ips:
            listing = await self._client.list(SERVICE_IMPORTS)
            taken = holders(listing.items)
            one = next((i for i in listing.items if i.key == key), None)
        now = rfc3339(self._clock.now())
        return await self._executor.apply(plan(one, self._ranges, taken, now))

    def _sharing(self, one: ServiceImport) -> dict[str, ServiceImport]:
        """Who holds this import's addresses, by the copy: enough to see that nothing is to be given."""
        found = {
            i.key: i for text in one.spec.ips for i in self._imports.by_index(ADDRESS_INDEX, text)
        }
        return holders(found.values())


def setup(manager: Manager, ranges: Sequence[AddressRange]) -> None:
    """Watch imports, and those that share an address with one that changed."""
    reconciler = ServiceImportReconciler(manager, ranges)
    builder = manager.controller("serviceimport", reconciler, workers=1)
    builder.watches(SERVICE_IMPORTS)
    imports = manager.informer(SERVICE_IMPORTS)

    def on_change(old: ServiceImport | None, new: ServiceImport | None) -> None:
        for one in (old, new):
            for text in one.spec.ips if one is not None else ():
                for sharing in imports.by_index(ADDRESS_INDEX, text):
                    builder.enqueue(sharing.key)

    imports.on_change(on_change)
