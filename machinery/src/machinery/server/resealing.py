"""After the first key of an EncryptionConfiguration has changed: values that lie as before are written once more, unchanged.

So rotating a key is a file and a restart: the old key may go when this has said that it is done. Several servers may do it at once: the
rows are compared and swapped, and a loser has nothing left to do. Watchers hear of a change that changes nothing.
"""

import logging

from machinery.kit.clock import Clock
from machinery.store.interface import KeyNotFound, RevisionMismatch, Store, StoreUnavailable

log = logging.getLogger(__name__)

RETRY_S = 5.0


async def reseal(store: Store, clock: Clock) -> int:
    """Write every stale row anew; how many this server wrote."""
    written = 0
    for key in store.stale:
        if key in store.stale:
            written += await _rewritten(store, clock, key)
    if written:
        # what they were before lies in the log until then
        await store.compact(store.current_revision())
        log.info("stored values were encrypted anew", extra={"objects": written})
    return written


async def _rewritten(store: Store, clock: Clock, key: str) -> bool:
    """Whether this server wrote it; not, where it is gone or somebody else did."""
    while (row := store.get(key)) is not None:
        try:
            await store.update(key, row.value, row.revision)
        except StoreUnavailable:
            await clock.sleep(RETRY_S)
        except (RevisionMismatch, KeyNotFound):
            return False
        else:
            return True
    return False
