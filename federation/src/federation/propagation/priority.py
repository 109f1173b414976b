"""Who is asked first when there is room again. Pure.

A policy's `schedulePriority` names a PriorityClass, whose value the detector writes on the binding. It is no preemption: what runs
stays, and a workload that fits does not wait for one that does not.
"""

from collections.abc import Iterable

from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import rfc3339
from machinery.meta.resource import ObjectKey


def by_priority(waiting: Iterable[ResourceBinding]) -> list[ObjectKey]:
    """The highest first, of equals the older; without a priority it is 0."""
    return [binding.key for binding in sorted(waiting, key=_rank)]


def _rank(binding: ResourceBinding) -> tuple[int, str, ObjectKey]:
    meta, wish = binding.metadata, binding.spec.schedule_priority
    made = rfc3339(meta.creation_timestamp) if meta.creation_timestamp else ""
    return (-wish.priority if wish is not None else 0, made, binding.key)
