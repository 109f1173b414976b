"""Which pod template each cluster of a staged workload carries: what the dispatcher asks. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federation.propagation.rollouts.record import Record, record_of
from federation.propagation.rollouts.snapshots import carrying, hash_of, recorded, strategy_of
from machinery.api.fleet.cluster import execution_namespace
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import Document


@dataclass(frozen=True, slots=True)
class Staged:
    """`newest` is the hash of the template as the user has it, `held` the Works by execution namespace."""

    record: Record
    newest: str
    snapshots: Mapping[str, Document]
    held: Mapping[str, Document]

    def given(self, workload: Document, cluster: str) -> Document:
        """The workload with the cluster's template; one whose snapshot is lost runs the newest, if it runs nothing yet."""
        digest = self.record.of(cluster)
        template = self.snapshots.get(digest)
        if digest == self.newest or template is None:
            return carrying(workload, self.newest, workload["spec"]["template"])
        return carrying(workload, digest, template)

    def kept(self, cluster: str) -> Document | None:
        """The Work that must stay as it is, because somebody deleted the snapshot that it was made from."""
        digest = self.record.of(cluster)
        if digest == self.newest or digest in self.snapshots:
            return None
        return self.held.get(execution_namespace(cluster))


def waits(workload: Document, binding: ResourceBinding) -> bool:
    """Whether the workload is staged and nobody has said yet what its clusters have."""
    return bool(strategy_of(workload)) and record_of(binding) is None


def staged(
    workload: Document,
    binding: ResourceBinding,
    history: Iterable[Document],
    works: Iterable[Document],
) -> Staged | None:
    """None: the workload goes everywhere at once. `history`: its revision records."""
    record = record_of(binding) if strategy_of(workload) else None
    if record is None:
        return None
    held = {work["metadata"]["namespace"]: work for work in works}
    return Staged(record, hash_of(workload), recorded(history), held)
