"""The records of templates that workloads ever had: ReplicaSets of Deployments, ControllerRevisions of the other kinds, as one."""

from collections.abc import Callable, Hashable, Iterable, Iterator

from federation.propagation.rollouts.snapshots import BY_OWNER, HISTORY, REVISIONS, owner_uid
from machinery.client.informer import Informer
from machinery.meta.resource import Document, Resource


class Histories:
    """The copies of both kinds of records."""

    def __init__(self, informer: Callable[[Resource[Document]], Informer[Document]]) -> None:
        self._all = (informer(HISTORY), informer(REVISIONS))
        self.add_index(BY_OWNER, owner_uid)

    def add_index(self, name: str, keys_of: Callable[[Document], Iterable[Hashable]]) -> None:
        """As of an informer."""
        for informer in self._all:
            informer.add_index(name, keys_of)

    def by_index(self, name: str, value: Hashable) -> list[Document]:
        """As of an informer."""
        return [record for informer in self._all for record in informer.by_index(name, value)]

    def each(self, workload: Document) -> Iterator[Document]:
        """The records that the workload controls, read when the first is asked for: whoever is not staged has no use for them."""
        yield from self.of(workload)

    def of(self, workload: Document | None) -> list[Document]:
        """The records that the workload controls."""
        return [] if workload is None else self.by_index(BY_OWNER, workload["metadata"]["uid"])
