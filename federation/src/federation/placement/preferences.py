"""Federation v1's preferences: how many replicas of a workload a cluster shall have at least and at most, and its weight.

They stand on the object itself, as JSON in an annotation whose name depends on the kind
(`federation.kubernetes.io/deployment-preferences`, `.../replica-set-preferences`):

    {"rebalance": false, "clusters": {"*": {"minReplicas": 0, "maxReplicas": 10, "weight": 1}}}

A cluster without an entry has that of `*`, and without that gets nothing. Federation v1 logs what it cannot read and goes
on with equal weights; here that is told to the user, unknown fields included, and the policy's own division is used.
With `rebalance` what has found room elsewhere comes back when its own cluster has room again. `planner` is ours: `v1` (the default), or `v2`, which mends what v1 gets wrong (`federation.placement.planners`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

DEPLOYMENT_PREFERENCES = "federation.kubernetes.io/deployment-preferences"
REPLICA_SET_PREFERENCES = "federation.kubernetes.io/replica-set-preferences"
ANNOTATIONS = {"Deployment": DEPLOYMENT_PREFERENCES, "ReplicaSet": REPLICA_SET_PREFERENCES}
"""By the kind that it stands on."""
ANY = "*"

MOST = 2**31 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Preference(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One cluster's. `max_replicas` None: no limit. Without a weight it gets its minimum only."""

    min_replicas: Count = 0
    max_replicas: Count | None = None
    weight: Count = 0

    def __post_init__(self) -> None:
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas {self.min_replicas} is more than maxReplicas {self.max_replicas}"
            )


def stated(document: Mapping[str, Any]) -> dict[str, str | None]:
    """The annotation of an object of a kind that may have one, as its binding is to carry it; None: it has none."""
    name = ANNOTATIONS.get(document.get("kind", ""))
    if name is None:
        return {}
    return {name: (document["metadata"].get("annotations") or {}).get(name)}


EQUAL = {ANY: Preference(weight=1)}
"""What holds where nothing is said."""


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The annotation. `rebalance`: what runs may move for the weights to hold."""

    rebalance: bool = False
    clusters: Mapping[str, Preference] = msgspec.field(default_factory=lambda: dict(EQUAL))
    planner: Literal["v1", "v2"] = "v1"


def parse(text: str) -> Preferences:
    """Raises ValueError with one sentence about what is wrong."""
    try:
        return msgspec.json.decode(text.encode(), type=Preferences)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
