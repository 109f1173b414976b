"""StatefulSet: one step towards pods 0 … n-1, each in its place and of its revision. Pure.

With OrderedReady one thing happens at a time: a pod is made when all before it are available, a surplus one goes when all
that stay are, and an update replaces one pod, the highest first, when all are. So a pod that never gets ready stops everything,
an update that would mend it as well: its template must be put right *and* the pod be deleted (upstream's known rule of the
forced rollback). With Parallel pods come and go together; updates are as careful as ever.

A pod is never replaced before it is gone: while one is terminating, on a dead node for ever, nothing of its name is made.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster_agent.control.controllers.pods import ENDED
from cluster_agent.control.controllers.sets import (
    CLAIMS,
    STATEFULSETS,
    PersistentVolumeClaim,
    StatefulSet,
)
from cluster_agent.control.controllers.statefulset import retention
from cluster_agent.control.controllers.statefulset.identity import (
    claim_document,
    claim_name,
    identity_labels,
    lacks_identity,
    ordinal_of,
    pod_document,
    pod_name,
    revision_of,
)
from cluster_agent.control.controllers.statefulset.status import (
    is_available,
    is_rolling,
    is_running_ready,
)
from machinery.api.core import PODS, Pod
from machinery.controller.action import Action, Create, Delete, Emit, Patch
from machinery.meta.resource import Document


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revision that pods had before the update, and the one that they are to have: names and templates."""

    current: str
    current_template: Document
    update: str
    update_template: Document


@dataclass(slots=True)
class _Pass:
    """One pass in the making."""

    set: StatefulSet
    claims: Mapping[str, PersistentVolumeClaim]
    revisions: Revisions
    now: dt.datetime
    places: list[Pod | None]
    """The pods from the first number to the last."""
    condemned: list[Pod]
    """Pods of other numbers, the highest first."""
    made_claims: list[Action] = field(default_factory=list)
    made_pods: list[Action] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    @property
    def ordered(self) -> bool:
        return self.set.spec.pod_management_policy != "Parallel"

    def ordinal(self, place: int) -> int:
        return self.set.spec.ordinals.start + place

    def available(self, pod: Pod | None) -> bool:
        """Whether it stands there, runs, is ready for long enough and is not on its way out."""
        if pod is None or pod.metadata.deletion_timestamp is not None:
            return False
        return is_available(pod, self.set.spec.min_ready_seconds, self.now)

    def delete(self, pod: Pod) -> None:
        self.actions.append(Delete(PODS, pod.key, uid=pod.metadata.uid))

    def all(self) -> list[Action]:
        """Claims before the pods that need them."""
        return [*self.made_claims, *self.made_pods, *self.actions]


def plan(
    set_: StatefulSet,
    pods: Sequence[Pod],
    claims: Mapping[str, PersistentVolumeClaim],
    revisions: Revisions,
    now: dt.datetime,
) -> list[Action]:
    """The next step. `claims` are those of the namespace, by name."""
    places, condemned = _sorted(set_, pods)
    work = _Pass(set_, claims, revisions, now, places, condemned)
    if _settle(work) and _shrink(work) and is_rolling(set_):
        _update(work)
    return work.all()


def _sorted(set_: StatefulSet, pods: Sequence[Pod]) -> tuple[list[Pod | None], list[Pod]]:
    """The pod of each number that is wanted, and the others, the highest number first."""
    first, size = set_.spec.ordinals.start, set_.spec.replicas
    places: list[Pod | None] = [None] * size
    others: list[tuple[int, Pod]] = []
    for pod in pods:
        ordinal = ordinal_of(set_.metadata.name, pod.metadata.name)
        if ordinal is None:
            continue
        if first <= ordinal < first + size:
            places[ordinal - first] = pod
        else:
            others.append((ordinal, pod))
    others.sort(key=lambda one: -one[0])
    return places, [pod for _, pod in others]


# ---------------------------------------------------------------------------------------------- the pods that are wanted
def _settle(work: _Pass) -> bool:
    """Bring every pod that is wanted into its place; False: something must come to pass first."""
    for place, pod in enumerate(work.places):
        if not _settle_one(work, place, pod) and work.ordered:
            return False
    return True


def _settle_one(work: _Pass, place: int, pod: Pod | None) -> bool:
    """Whether an ordered set may go on to the next pod."""
    ordinal = work.ordinal(place)
    if pod is None:
        _make(work, ordinal)
        return False
    if pod.status.phase in ENDED:
        if pod.metadata.deletion_timestamp is None:
            work.delete(pod)
        return False
    if pod.status.phase == "Pending":
        _make_claims(work, ordinal)
    if work.ordered and not work.available(pod):
        return False
    if lacks_identity(pod, ordinal):
        patch = {"metadata": {"labels": identity_labels(pod.metadata.name, ordinal)}}
        work.actions.append(Patch(PODS, pod.key, patch, uid=pod.metadata.uid))
    work.actions += retention.amend(work.set, pod, ordinal, work.claims, condemned=False)
    return True


def _make(work: _Pass, ordinal: int) -> None:
    """The missing pod and its claims; not while a claim of the pod before it is being collected."""
    name = pod_name(work.set, ordinal)
    mine = [claim_name(work.set, c, ordinal) for c in work.set.spec.volume_claim_templates]
    held = [work.claims[claim] for claim in mine if claim in work.claims]
    if any(retention.is_stale(claim, name) for claim in held):
        return
    if going := [claim.metadata.name for claim in held if claim.deleting]:
        text = f"pvc {going[0]} is being deleted"
        work.actions.append(failed_create(work.set, name, text))
        return
    _make_claims(work, ordinal)
    template, revision = _revision_for(work, ordinal)
    work.made_pods.append(Create(PODS, pod_document(work.set, ordinal, template, revision)))


def _make_claims(work: _Pass, ordinal: int) -> None:
    """The claims that the pod of that number lacks."""
    owners = retention.first_owners(work.set)
    for claim in work.set.spec.volume_claim_templates:
        if claim_name(work.set, claim, ordinal) not in work.claims:
            document = claim_document(work.set, claim, ordinal, owners)
            work.made_claims.append(Create(CLAIMS, document, exists_ok=True))


def _revision_for(work: _Pass, ordinal: int) -> tuple[Document, str]:
    """Pods below the partition come back as they were."""
    revisions, rolling = work.revisions, work.set.spec.update_strategy.rolling_update
    if is_rolling(work.set):
        kept = rolling.partition if rolling is not None else work.set.status.current_replicas
        if ordinal < work.set.spec.ordinals.start + kept:
            return revisions.current_template, revisions.current
    return revisions.update_template, revisions.update


# ----------------------------------------------------------------------------------------------- the pods that are not
def _shrink(work: _Pass) -> bool:
    """Delete what is not wanted, the highest first; False: something must come to pass first."""
    for pod in work.condemned:
        ordinal = ordinal_of(work.set.metadata.name, pod.metadata.name) or 0
        work.actions += retention.amend(work.set, pod, ordinal, work.claims, condemned=True)
    unhealthy = _first_unhealthy(work)
    for pod in work.condemned:
        if pod.metadata.deletion_timestamp is not None:
            if work.ordered:
                return False
            continue
        if work.ordered and not work.available(pod) and pod is not unhealthy:
            return False
        work.delete(pod)
        if work.ordered:
            return False
    return True


def _first_unhealthy(work: _Pass) -> Pod | None:
    """The pod with the lowest number that is not well: among surplus pods it may go, though it is not ready."""
    for pod in (*work.places, *reversed(work.condemned)):
        if pod is None or pod.metadata.deletion_timestamp is not None or not is_running_ready(pod):
            return pod
    return None


# --------------------------------------------------------------------------------------------------------- the update
def _update(work: _Pass) -> None:
    """Delete pods of other revisions, the highest first, so that they come back as they are to be."""
    rolling = work.set.spec.update_strategy.rolling_update
    partition = rolling.partition if rolling is not None else 0
    most = unavailable_max(work.set)
    if most > 1:
        _update_several(work, partition, most)
        return
    for place in range(len(work.places) - 1, partition - 1, -1):
        pod = work.places[place]
        if pod is None or pod.status.phase in ENDED:
            return
        if revision_of(pod) != work.revisions.update and pod.metadata.deletion_timestamp is None:
            work.delete(pod)
            return
        if not work.available(pod):
            return


def _update_several(work: _Pass, partition: int, most: int) -> None:
    """As many at once as may be missing, counting those that are missing already."""
    free = most - sum(1 for pod in work.places if not work.available(pod))
    for place in range(len(work.places) - 1, partition - 1, -1):
        pod = work.places[place]
        if free <= 0:
            return
        if pod is None or pod.metadata.deletion_timestamp is not None:
            continue
        if pod.status.phase not in ENDED and revision_of(pod) != work.revisions.update:
            work.delete(pod)
            free -= 1


def unavailable_max(set_: StatefulSet) -> int:
    """Pods that an update may take away at once: a share rounds up, and one is always allowed."""
    rolling = set_.spec.update_strategy.rolling_update
    given: int | str | None = rolling.max_unavailable if rolling is not None else None
    if isinstance(given, str):
        given = -(-int(given.removesuffix("%")) * set_.spec.replicas // 100)
    return max(1, given or 1)


# ------------------------------------------------------------------------------------------------------------- words
def failed_create(set_: StatefulSet, name: str, why: str) -> Emit:
    """Why a pod could not be made."""
    text = f"Create Pod {name} in StatefulSet {set_.metadata.name} failed error: {why}"
    return _emit(set_, "Warning", "FailedCreate", text)


def told(set_: StatefulSet, action: Action, error: str = "") -> Emit | None:
    """What users are told of a write that was done, or that failed with `error`."""
    owner = set_.metadata.name
    how = f"failed error: {error}" if error else "successful"
    kind, outcome = ("Warning", "Failed") if error else ("Normal", "Successful")
    if isinstance(action, Create):
        name = action.document["metadata"]["name"]
        text = f"Create Pod {name} in StatefulSet {owner} {how}"
        if action.resource is CLAIMS:
            pod = f"{owner}-{name.rpartition('-')[2]}"
            if error:
                text = f"Create Claim {name} for Pod {pod} in StatefulSet {owner} {how}"
            else:
                text = f"Create Claim {name} Pod {pod} in StatefulSet {owner} success"
        return _emit(set_, kind, f"{outcome}Create", text)
    if isinstance(action, Delete):
        text = f"Delete Pod {action.key.name} in StatefulSet {owner} {how}"
        return _emit(set_, kind, f"{outcome}Delete", text)
    return None


def _emit(set_: StatefulSet, kind: str, reason: str, text: str) -> Emit:
    return Emit(STATEFULSETS, set_.key, set_.metadata.uid, kind, reason, text)
