"""Which ResiliencePolicy speaks for a workload. Pure.

A policy in the workload's namespace beats one in `ubernetes-system`, which speaks for all namespaces; then the more
precise selector (name, labels, kind alone), then the lower name. Without a policy: failover is on, a cluster that returns
gives up what was replaced, and the fleet is balanced again after the stabilisation window. The mode of who says none is
consistency for StatefulSets, Jobs and CronJobs, whose copies do harm when two run, and availability for the rest.

`stopAfterDisconnect` (Nomad's stop_on_client_after, for a whole cluster): in a cluster that lost the federation the
kubelets stop the workload so long after the last grant, as they do in mode consistency, but nothing waits for it: a dead
cluster's replicas start elsewhere at once, and both may run for that time. It is for copies that do harm when they serve
alone for long (stale caches, leases of their own), and it is what ends the old copies of a partition that lasts. Setting
or removing it, as any change of grants, rolls the workload's pods once, for they carry it as annotations.

A link that is cut in one direction only: where heartbeats arrive and their answers do not, the cluster counts as heard and is
granted nothing, so what runs on grants stops there and starts nowhere else. Fewer copies than wanted, never more.

The time to wait is that of the policy as it is now. Whoever turns mode consistency on for what runs already, or shortens
`grantSeconds`, does so while the clusters are heard, and waits for the rollout: a cluster that was cut off before runs by
what it was told.
"""

from collections.abc import Iterable, Mapping
from typing import TypeGuard

import msgspec

from federation.propagation import interpreter
from federation.propagation.matching import precision
from machinery.api.fleet.resilience import ResiliencePolicy, ResilienceSpec, ScoreRule, SpreadRule
from machinery.meta.objectmeta import View
from machinery.meta.resource import Document

FLEET_WIDE = "ubernetes-system"
DEFAULT = ResilienceSpec()
CONSISTENCY = "consistency"
AVAILABILITY = "availability"
NEVER_TWICE = frozenset({("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("batch/v1", "CronJob")})
"""Kinds whose mode is consistency unless their policy says otherwise."""
GRANT_S = 30
"""How long a replica of mode consistency may run on a grant, where the policy says nothing."""


def speaker(document: Document, policies: Iterable[ResiliencePolicy]) -> ResiliencePolicy | None:
    """The policy that holds for the workload."""
    namespace = document["metadata"].get("namespace", "")
    found = []
    for policy in policies:
        home = policy.metadata.namespace
        if policy.deleting or home not in (namespace, FLEET_WIDE):
            continue
        default = home if home == namespace else ""
        score = max(
            (precision(s, document, default) for s in policy.spec.resource_selectors), default=0
        )
        if score:
            found.append(((home != namespace, -score, policy.metadata.name), policy))
    return min(found, key=lambda item: item[0])[1] if found else None


def resilience(document: Document | None, policies: Iterable[ResiliencePolicy]) -> ResilienceSpec:
    """How the workload shall outlive failures."""
    policy = speaker(document, policies) if document is not None else None
    spec = policy.spec if policy is not None else DEFAULT
    return spec if spec.mode else msgspec.structs.replace(spec, mode=mode_of(document))


def mode_of(document: Document | None) -> str:
    """The mode of a workload of which nobody says it."""
    if document is None:
        return AVAILABILITY
    kind = (document["apiVersion"], document["kind"])
    return CONSISTENCY if kind in NEVER_TWICE else AVAILABILITY


# ----------------------------------------------------------------------------------------------- what placement is asked
DEMANDS = "ubernetes.io/resilience"
"""Annotation of a binding: `spread`, `headroom` and `scores` of the policy that speaks for the workload, as JSON."""


class Demands(View):
    """What a decision has to keep for the workload to outlive failures."""

    spread: tuple[SpreadRule, ...] = ()
    headroom: str = ""
    scores: tuple[ScoreRule, ...] = ()
    """A preference, which no demand yields to."""

    @property
    def headroom_key(self) -> str:
        """`zone` of `N-1 zone`."""
        return self.headroom.removeprefix("N-1 ")


def demanded(spec: ResilienceSpec) -> str | None:
    """The annotation; None when nothing is demanded."""
    if not (spec.spread or spec.headroom or spec.scores):
        return None
    asked: Document = {"spread": spec.spread, "headroom": spec.headroom}
    if spec.scores:  # apart: what asks for none has the words that it had before there were any
        asked["scores"] = spec.scores
    return msgspec.json.encode(asked).decode()


def demands(annotations: Mapping[str, str]) -> Demands:
    """What a binding's annotation says; one that somebody spoiled says nothing, and is written again."""
    text = annotations.get(DEMANDS)
    if not text:
        return Demands()
    try:
        return msgspec.json.decode(text, type=Demands)
    except msgspec.MsgspecError:
        return Demands()


# ------------------------------------------------------------------------------------------------------------- grants
DRIFT = 0.02
"""How much slower a member's clock may run than ours."""
STOP_MARGIN_S = 5.0
"""From the end of a grant until the containers have ended, besides their own grace."""
GRACE_S = 30.0


def stopped_s(spec: ResilienceSpec, document: Document | None) -> float | None:
    """Silence after which every replica in a cluster that lost the federation has stopped by itself; None: never.

    The grant, the replica's own grace and the drift of the member's clock while both run, and a margin. In mode
    consistency this is the fence; elsewhere (`stopAfterDisconnect`) it only says when nothing runs there any more.
    """
    seconds = grant_s(spec)
    if seconds is None:
        return None
    return (seconds + stop_s(document) - STOP_MARGIN_S) * (1 + DRIFT) + STOP_MARGIN_S


def has_pods(document: Document | None) -> TypeGuard[Document]:
    return document is not None and interpreter.has_pods(document)


def stop_s(document: Document | None) -> float:
    """How long a replica may take to end once it is told to."""
    pod = interpreter.template_of(document)["spec"] if has_pods(document) else {}
    grace = pod.get("terminationGracePeriodSeconds")
    return (GRACE_S if grace is None else float(grace)) + STOP_MARGIN_S


def grant_s(spec: ResilienceSpec) -> int | None:
    """Seconds that a replica may run without hearing of the federation; None: for ever."""
    if spec.mode != CONSISTENCY:
        return spec.stop_after_disconnect or None
    return spec.grant_seconds or GRANT_S
