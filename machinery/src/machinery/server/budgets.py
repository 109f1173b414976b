"""What an eviction takes of the pod's disruption budget: by compare-and-swap, so that rivals never take the same one."""

from machinery.api import disruption
from machinery.api.scheme import Scheme
from machinery.kit.clock import rfc3339
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.call import Call
from machinery.server.registry import Registry
from machinery.server.user import LOOPBACK

MANAGER = "kube-apiserver"
TRIES = 20
"""Each is five tries of a compare-and-swap."""


class Budgets:
    """The budgets of one server; a server that serves none lets every pod go."""

    def __init__(self, registry: Registry, scheme: Scheme) -> None:
        self._registry = registry
        self._kind = scheme.by_plural("policy", "v1", "poddisruptionbudgets")

    async def take(self, pod: Document, *, dry_run: bool) -> None:
        """Take one disruption for the pod. Raises TooManyRequests, Forbidden, InternalError (more than one budget)."""
        if self._kind is None or disruption.is_unprotected(pod):
            return
        budgets = self._of(pod)
        if len(budgets) > 1:
            raise errors.StatusError(disruption.TWO_BUDGETS, code=500, reason="")
        if budgets and not disruption.is_free(budgets[0], pod):
            await self._take(budgets[0]["metadata"]["name"], pod, dry_run=dry_run)

    def _of(self, pod: Document) -> list[Document]:
        """Those that are about the pod, as they are committed."""
        assert self._kind is not None, "somebody asked"
        cache, namespace = self._registry.cache.of(self._kind), pod["metadata"]["namespace"]
        found = (
            self._registry.peek(self._kind, namespace, key.rpartition("/")[2])
            for key in cache.ordered(namespace)
        )
        return [one for one in found if one is not None and disruption.protects(one, pod)]

    async def _take(self, name: str, pod: Document, *, dry_run: bool) -> None:
        assert self._kind is not None, "it was found there"
        metadata, now = pod["metadata"], rfc3339(self._registry.clock.now())
        call = Call(LOOPBACK, MANAGER, dry_run=dry_run)

        def make(live: Document) -> Document:
            return disruption.taken(live, metadata["name"], now)

        for attempt in range(TRIES):
            try:
                await self._registry.change(
                    self._kind, metadata["namespace"], name, make, call, "status"
                )
            except errors.NotFound:
                return
            except errors.Conflict:
                if attempt == TRIES - 1:
                    raise
            else:
                return
