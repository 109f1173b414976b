"""What the planner and the status see: values only, gathered by the pod worker before it decides."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster_agent.node.cri.interface import RuntimePod
from machinery.api.core import Pod


@dataclass(frozen=True, slots=True)
class Health:
    """What probes and hooks say of one running container."""

    started: bool = True
    """The startup probe has passed, or there is none."""
    ready: bool = True
    """The readiness probe passes, or there is none."""
    failed: str = ""
    """Which probe condemned it: `liveness`, `startup`, or `definition` when its image changed."""


HEALTHY = Health()
UNSEEN = Health(started=False, ready=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a container (or, under the name "", the pod's sandbox) does not start, and when to try again."""

    reason: str
    message: str
    tried_at: dt.datetime
    until: dt.datetime
    failures: int = 1


@dataclass(frozen=True, slots=True)
class Ending:
    """The pod shall end: everything stops. `deleted` pods then vanish from the API, others keep their status."""

    since: dt.datetime
    grace_s: float
    deleted: bool
    reason: str = ""
    message: str = ""
    phase: str = ""
    """The phase to report in the end; empty lets the containers' exit codes decide."""


@dataclass(frozen=True, slots=True)
class World:
    """One pod: as wanted, as found, and what was learnt on the way."""

    pod: Pod
    observed: RuntimePod
    health: Mapping[str, Health] = field(default_factory=dict)
    """By container id."""
    waits: Mapping[str, Wait] = field(default_factory=dict)
    """By container name; "" is the sandbox."""
    stopping: frozenset[str] = frozenset()
    """Ids of containers that are being stopped right now."""
    ending: Ending | None = None
    released: bool = False
    """Whether the pod's volumes, cgroup and sandbox have been cleared away."""
    start_time: dt.datetime | None = None
    messages: Mapping[str, str] = field(default_factory=dict)
    """Termination messages by container id."""

    def health_of(self, container_id: str) -> Health:
        return self.health.get(container_id, UNSEEN)
