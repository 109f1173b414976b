"""The record on a binding: which pod template each cluster has, and how far the run has come. Pure.

The rollouts controller writes it, the dispatcher gives each cluster the template that it names. A workload that is staged
and has no record yet is dispatched nowhere: nobody has said yet what its clusters have. A cluster that the record does
not name (one that failover has just chosen) gets the stable template: the one that was rolled out everywhere last.
"""

from collections.abc import Mapping

import msgspec

from machinery.api.fleet.rollouts import ClusterUpdate, StagedUpdateRunStatus
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.objectmeta import View

RECORD = "ubernetes.io/staged-update"
"""Annotation of a binding: a Record as JSON."""
IN_FLIGHT = ("Updating", "Soaking")
TOLD = (*IN_FLIGHT, "Succeeded", "Failed")
"""States of clusters that have the run's template."""


class Record(View, omit_defaults=True):
    """Hashes are of pod templates."""

    stable: str
    seen: str = ""
    """Of the template that the last decision was about; another one is a change."""
    number: int = 0
    """Of the last run that was made by itself."""
    run: str = ""
    """The run that acts, or acted last."""
    open: bool = False
    """Whether it is not over."""
    clusters: dict[str, str] = {}
    """Clusters that have another template than the stable one."""
    updating: tuple[str, ...] = ()
    """Clusters whose update is not judged yet: they count as away."""
    accepted: tuple[str, ...] = ()
    """Clusters of finished stages that have the newest template."""
    failed: str = ""
    """Why the newest template goes no further."""

    def of(self, cluster: str) -> str:
        """What the cluster has."""
        return self.clusters.get(cluster, self.stable)

    @property
    def hashes(self) -> frozenset[str]:
        """Templates that some cluster has: their snapshots must stay."""
        return frozenset((self.stable, self.seen, *self.clusters.values())) - {""}

    def newest_in(self, cluster: str, newest: str) -> bool:
        """Whether the cluster counts as updated to `newest`, the template as the user has it."""
        if self.seen != newest:
            return self.stable == newest and not self.clusters
        if self.open:
            return cluster in self.accepted
        return self.of(cluster) == newest and not self.failed


def record_of(binding: ResourceBinding | None) -> Record | None:
    """What the binding says; nothing, where somebody spoiled it."""
    text = binding.metadata.annotations.get(RECORD) if binding is not None else None
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Record)
    except msgspec.MsgspecError:
        return None


def encoded(record: Record) -> str:
    """The annotation."""
    return msgspec.json.encode(record, order="sorted").decode()


def projected(record: Record, status: StagedUpdateRunStatus) -> Record:
    """The record that follows from the status of the run that acts."""
    if not status.target_template or not record.open:
        return record
    if status.state == "Succeeded":
        return msgspec.structs.replace(
            record, stable=status.target_template, open=False,
            clusters={}, updating=(), accepted=(), failed="",
        )  # fmt: skip
    updates = [cluster for stage in status.stages for cluster in stage.clusters]
    clusters = dict(record.clusters)
    if status.state == "RolledBack":
        # No cluster keeps what was taken back, not even one that has it from an earlier run and is away.
        clusters = {n: d for n, d in clusters.items() if d != status.target_template}
    for update in updates:
        if update.state in TOLD:
            clusters[update.cluster_name] = status.target_template
        elif update.state == "RolledBack":
            clusters[update.cluster_name] = update.from_template
    over = status.state in ("Superseded", "RolledBack")
    # A failed run can still be rolled back: it stays the one that acts, but nothing is in flight.
    still = status.state != "Failed" and not over
    return msgspec.structs.replace(
        record,
        open=not over,
        clusters=_deviating(clusters, record.stable),
        updating=tuple(sorted(u.cluster_name for u in updates if still and u.state in IN_FLIGHT)),
        accepted=_accepted(record, status),
        failed=status.message if status.state in ("Failed", "RolledBack") else "",
    )


def _deviating(clusters: Mapping[str, str], stable: str) -> dict[str, str]:
    return {name: digest for name, digest in sorted(clusters.items()) if digest != stable}


def _accepted(record: Record, status: StagedUpdateRunStatus) -> tuple[str, ...]:
    if status.target_template != record.seen or status.state in ("Superseded", "RolledBack"):
        return ()

    def good(update: ClusterUpdate) -> bool:
        return update.state == "Succeeded"

    finished = [stage for stage in status.stages if stage.state == "Succeeded"]
    return tuple(sorted(u.cluster_name for stage in finished for u in stage.clusters if good(u)))
