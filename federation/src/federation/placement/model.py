"""What a placement decision is made of: values in, values out.

A `Candidate` is a member as the decision sees it, a `Request` the workload, a `Decision` the answer with the reason for
every member that was left out. Nothing here knows where the values come from: the server, a review, a simulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from federation.placement.preferences import Preferences
from machinery.api.core import Taint
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.resilience import ScoreRule, SpreadRule
from machinery.api.fleet.work import NodeClaim

MAX_REPLICAS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """`count` nodes of which each has at least this much free."""

    count: int
    least: Mapping[str, int]


class Candidate(msgspec.Struct, frozen=True):
    """A member cluster. Resources as integers (milli-CPU, bytes, counts), free = allocatable - placed - waiting.

    A Struct, since each decision makes a few of every member, and a dataclass takes twenty times as long to make.
    """

    name: str
    labels: Mapping[str, str] = {}
    provider: str = ""
    region: str = ""
    zones: tuple[str, ...] = ()
    taints: tuple[Taint, ...] = ()
    kinds: frozenset[tuple[str, str]] | None = None
    """(apiVersion, kind) that the member serves; None: it has not said."""
    free: Mapping[str, int] | None = None
    """None: the member has not reported resources."""
    cut: bool = False
    """Its link is cut: what it holds serves, and more cannot be told to it."""
    barred: str = ""
    """Why the workload may not be here, by its affinity to others; empty: it may."""
    shapes: tuple[Shape, ...] = ()
    """Its nodes by what they have free, where it tells them."""
    reserved: Mapping[str, int] = {}
    """Given away and not reported yet (`federation.placement.ledger`): `free` is without it, `shapes` are with it."""
    estimate: int | None = None
    """How many more replicas of this very workload would fit, by its own scheduler (CapacityEstimate); None: not asked."""
    platforms: Mapping[str, Mapping[str, int]] = {}
    """What is free on its ready nodes by platform (`linux/amd64`), as it reported; empty: it does not tell."""
    figures: Mapping[str, int] = {}
    """What it costs and emits, in millionths (`federation.placement.scores`), as far as it tells."""

    @property
    def zone(self) -> str:
        """The failure domain of the member: its zones together, since they fail with it."""
        zones = self.zones
        return zones[0] if len(zones) == 1 else "+".join(sorted(zones))


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a workload with several pod templates. `asks` is of one replica."""

    name: str
    replicas: int
    asks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sets:
    """A workload of several components, which are placed together or not at all: a set of them."""

    parts: tuple[Part, ...]
    held: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By member that was given a set: how many of each component it was given."""


@dataclass(frozen=True, slots=True)
class Request:
    """The workload. `asks` is one replica's request as integers; `previous` what each member holds now."""

    uid: str
    api_version: str
    kind: str
    placement: Placement
    replicas: int = 0
    asks: Mapping[str, int] = field(default_factory=dict)
    node_claim: NodeClaim | None = None
    previous: Mapping[str, int] = field(default_factory=dict)
    evicting: frozenset[str] = frozenset()
    key: str = ""
    """Namespace/name: the tie-break of preferences."""
    fresh: bool = False
    """Divide anew instead of keeping what is placed."""
    affinity_name: str = ""
    """The affinity group used last time; the search begins there."""
    spread: tuple[SpreadRule, ...] = ()
    preferences: Preferences | None = None
    """Federation v1's, from the object: they divide in place of the policy's replicaScheduling."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Of `previous`, what the last decision gave a member beyond its room, to wait there."""
    platforms: frozenset[str] = frozenset()
    """What its images are built for; empty: nobody has said."""
    headroom: str = ""
    """By which key the loss of a domain is to find room elsewhere; empty: not asked."""
    scores: tuple[ScoreRule, ...] = ()
    """By what it prefers clusters; empty: by what they hold and by their room alone."""
    sets: Sets | None = None
    """Its components, where it has several (`federation.placement.components`); replicas and division say nothing then."""
    empties: bool = False
    """Clusters that are selected and get no replica are in the decision too, with 0."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that was asked for and that the decision does not give. The message is one sentence without its stop."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Members and their replicas, in order of name; `left_out` says why each other member is not among them."""

    targets: Mapping[str, int]
    left_out: Mapping[str, str] = field(default_factory=dict)
    affinity_name: str = ""
    warnings: tuple[Warned, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Of `targets`, what a member has no room for yet."""


class NoFit(Exception):
    """No member passes the filters (condition reason NoClusterFit)."""

    reason = "NoClusterFit"

    def __init__(self, message: str, left_out: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.left_out = dict(left_out or {})


class Unselectable(NoFit):
    """Members pass, but no selection satisfies the spread constraints (SchedulerError)."""

    reason = "SchedulerError"


class Unschedulable(NoFit):
    """The selected members have too little room (Unschedulable)."""

    reason = "Unschedulable"
