"""When did the change happen that a slice is written for? Measured by whoever wants to know how long programming takes.

A pod's moment is the last change of its readiness, a Service's is its creation. The tracker remembers the moments of the
last pass per Service and tells the oldest one that is new. It tells nothing for a pass in which nothing is newer.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster_agent.control.controllers.pods import ready_condition
from machinery.api.core import Pod
from machinery.api.service_kinds import Service
from machinery.kit.clock import rfc3339
from machinery.meta.resource import ObjectKey


@dataclass
class _Seen:
    service: dt.datetime | None = None
    pods: dict[str, dt.datetime] = field(default_factory=dict)


class TriggerTimes:
    """The moments of the last pass, per Service."""

    def __init__(self) -> None:
        self._seen: dict[ObjectKey, _Seen] = {}

    def of(self, service: Service, pods: Iterable[Pod]) -> str:
        """The oldest moment that is newer than in the last pass, in wire shape; empty when there is none."""
        seen = self._seen.setdefault(service.key, _Seen())
        now: dict[str, dt.datetime] = {}
        newer: list[dt.datetime] = []
        for pod in pods:
            moment = _moment(pod)
            if moment is None:
                continue
            now[pod.metadata.name] = moment
            last = seen.pods.get(pod.metadata.name)
            if last is None or moment > last:
                newer.append(moment)
        created = service.metadata.creation_timestamp
        if created is not None and (seen.service is None or created > seen.service):
            newer.append(created)
        seen.pods, seen.service = now, created
        return rfc3339(min(newer)) if newer else ""

    def forget(self, key: ObjectKey) -> None:
        """The Service is gone."""
        self._seen.pop(key, None)


def _moment(pod: Pod) -> dt.datetime | None:
    found = ready_condition(pod)
    return found.last_transition_time if found is not None else None
