"""A modelled node: it runs pods of mode `consistency` only while their grant holds, and everybody sees when a copy ran.

It mirrors, in few words, what a real member does (the two programs may not import each other):

    cluster_agent.node.kubelet.grants      a grant counts from when the node wrote the word of its own Lease that the pod
                                           carries, by this machine's clock; without one nothing starts, at its end it stops
    cluster_agent.node.kubelet.podworker   what is stopped takes its grace; only then it has failed, and is replaced
    cluster_agent.control.controllers      strategy Recreate: a new version starts when the old pods are gone, and where pods
                                           need grants another of the same version waits for the end of the last one too

Pods of other workloads are `federation.simulator.workload`. Power that is lost ends all pods, and all grants with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from federation.simulator.virtual import MemberClock
from federation.simulator.workload import READY_S, Counts, Running, image_of
from machinery.api.fleet.resilience import EPOCH, GRANT_SECONDS, GRANT_WORK
from machinery.api.fleet.work import TEMPLATE_UID
from machinery.meta.resource import Document, ObjectKey

LEASE_S = 10.0
"""A node renews its Lease so often (`cluster_agent.node`)."""
WORDS_MAX = 64
STOP_LATE_S = 2.0
"""How much longer than its grace a container takes to end, at most; the federation allows five seconds."""
LATE_S = 0.001
"""A look is so much late: one that came a rounding error too early would be repeated for ever."""
FOREVER = float("inf")


@dataclass(slots=True)
class Copy:
    """One run of a pod's container: who it is of, and when. `until` is FOREVER while nobody has stopped it."""

    workload: str
    where: str
    since: float
    until: float = FOREVER


class Copies:
    """Every run of every fenced workload in the whole fleet, by the time of the history."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Copy]] = {}
        self.breach = ""
        """Why one copy is not one copy, once it is so."""
        self.started = 0

    def start(self, copy: Copy) -> None:
        """A container starts; nobody else's may run."""
        self.started += 1
        runs = self._runs.setdefault(copy.workload, [])
        for other in runs:
            if other.until > copy.since and not self.breach:
                end = (
                    "goes on"
                    if other.until == FOREVER
                    else f"ends {other.until - copy.since:.2f} s later"
                )
                self.breach = (
                    f"{copy.workload} starts in {copy.where} at {copy.since:.2f} while its copy in {other.where}, "
                    f"which began at {other.since:.2f}, {end}"
                )
        runs[:] = [other for other in runs if other.until > copy.since] + [copy]


@dataclass(slots=True)
class GrantedPod:
    """A pod that needs grants. `ends_at`: what runs was told to stop; one that is not `deleted` has failed then."""

    number: int
    version: str
    epoch: str
    work: str
    seconds: float
    granted_until: float = float("-inf")
    ready_at: float = FOREVER
    ends_at: float = FOREVER
    deleted: bool = False
    bound: bool = False
    """Whether it has a node."""
    copy: Copy | None = None

    @property
    def uid(self) -> str:
        return f"granted-{self.number}"


@dataclass(slots=True)
class Granted:
    """One fenced workload in this member."""

    key: ObjectKey
    uid: str
    work: ObjectKey
    pods: list[GrantedPod] = field(default_factory=list)
    doomed: bool = False
    told: tuple[tuple[int, bool, bool], ...] = ()
    """What was seen of its pods last."""


def template_annotations(manifest: Document) -> Mapping[str, str]:
    """What its pods carry."""
    template = manifest["spec"]["template"]
    found: Mapping[str, str] = (template.get("metadata") or {}).get("annotations") or {}
    return found


def is_fenced(manifest: Document) -> bool:
    """Whether pods of the manifest need grants."""
    return manifest["kind"] == "Deployment" and GRANT_SECONDS in template_annotations(manifest)


class Node:
    """The node and its kubelet. `changed` hears of each workload whose pods changed; `roll` gives numbers in [0, 1)."""

    def __init__(
        self,
        member: str,
        clock: MemberClock,
        now: Callable[[], float],
        copies: Copies,
        roll: Callable[[], float],
        changed: Callable[[ObjectKey], None],
        bind: Callable[[str], bool],
        left: Callable[[str], None],
    ) -> None:
        """`now` is the time of the history, for `copies`; `bind` says whether a pod has a node, `left` hears of its end."""
        self._member, self._clock, self._now, self._copies = member, clock, now, copies
        self._roll, self._changed, self._bind, self._left = roll, changed, bind, left
        self._held: dict[ObjectKey, tuple[Granted, Running]] = {}
        self._words: dict[str, float] = {}
        self._word, self._numbers = "", 0
        self._renewed = float("-inf")
        self._timer_at = FOREVER

    # ------------------------------------------------------------------------------------------------- the link's view
    @property
    def needs_grants(self) -> bool:
        """Whether any pod does."""
        return any(held.pods for held, _ in self._held.values())

    def word(self) -> str:
        """What the node's Lease says; it is renewed when its time has come."""
        now = self._clock.monotonic()
        if now - self._renewed >= LEASE_S:
            # Nobody looked since: it was renewed every LEASE_S all the time.
            missed = (now - self._renewed) // LEASE_S if self._renewed > float("-inf") else 0
            self._renewed = self._renewed + missed * LEASE_S if missed else now
            self._numbers += 1
            self._word = f"renewal-{self._numbers}"
            self._words[self._word] = self._renewed
            while len(self._words) > WORDS_MAX:
                del self._words[next(iter(self._words))]
        return self._word

    def grant(self, word: str, epochs: Mapping[str, str]) -> None:
        """The link writes the word onto the pods of those Works and epochs."""
        written = self._words.get(word)
        if written is None:
            return
        for held, _ in self._held.values():
            for pod in held.pods:
                if epochs.get(pod.work) == pod.epoch:
                    pod.granted_until = max(pod.granted_until, written + pod.seconds)
        self.sync()

    # ------------------------------------------------------------------------------------------------- the API's view
    def apply(self, key: ObjectKey, work: ObjectKey, running: Running) -> None:
        """The Deployment is to be so."""
        uid = str(running.manifest["metadata"]["annotations"][TEMPLATE_UID])
        held, _ = self._held.get(key, (Granted(key, uid, work), running))
        held.uid, held.work, held.doomed = uid, work, False
        self._held[key] = (held, running)
        self.sync()

    def remove(self, key: ObjectKey) -> None:
        """The Deployment is deleted: it goes, and what runs takes its grace, as long as it may be."""
        found = self._held.get(key)
        if found is not None:
            held, _ = found
            held.doomed = True
            for pod in held.pods:
                pod.deleted = True
                self._stop(pod, self._grace())

    def gone(self, key: ObjectKey) -> None:
        """The Deployment is no more; its pods may still be ending."""
        self.remove(key)
        held, _ = self._held.pop(key, (None, None))
        for pod in held.pods if held is not None else ():
            self._left(pod.uid)  # what still ends there takes no room: others may start beside it

    def power_lost(self) -> None:
        """All containers are gone at once, and the grants of this boot."""
        self._words.clear()
        self._word, self._renewed = "", float("-inf")
        for held, _ in self._held.values():
            for pod in held.pods:
                self._stop(pod, 0.0)
                pod.granted_until = float("-inf")
                self._left(pod.uid)
            held.pods.clear()
        self.sync()

    def counts(self, key: ObjectKey) -> Counts:
        """Its pods; those that are being deleted count apart."""
        held, running = self._held[key]
        now, version = self._clock.monotonic(), version_of(running.manifest)
        living = [p for p in held.pods if not p.deleted]
        newest = sum(p.version == version for p in living)
        ready = sum(p.ready_at <= now < p.ends_at == FOREVER for p in living)
        return Counts(len(living), newest, ready, len(held.pods) - len(living))

    @property
    def pods(self) -> int:
        """Pods that take room."""
        return sum(len(held.pods) for held, _ in self._held.values())

    # ------------------------------------------------------------------------------------------------- the kubelet
    def sync(self) -> None:
        """One look at every pod, and when the next one is due."""
        now = self._clock.monotonic()
        due = FOREVER
        for held, running in list(self._held.values()):
            self._look(held, running, now)
            seen = tuple((p.number, p.ready_at <= now, p.ends_at < FOREVER) for p in held.pods)
            if seen != held.told:
                held.told = seen
                self._changed(held.work)
            for pod in held.pods:
                times = (pod.granted_until, pod.ready_at, pod.ends_at)
                due = min([due, *(t for t in times if t > now)])
        if due < self._timer_at or self._timer_at <= now:
            self._timer_at = due
            if due < FOREVER:
                _ = self._clock.call_later(due - now + LATE_S, self._ring)

    def _ring(self) -> None:
        self._timer_at = FOREVER
        self.sync()

    def _look(self, held: Granted, running: Running, now: float) -> None:
        for pod in held.pods:
            if pod.ends_at <= now:
                self._left(pod.uid)
        held.pods = [pod for pod in held.pods if pod.ends_at > now]
        if held.doomed:
            return
        version, wanted = version_of(running.manifest), running.wanted
        living = [pod for pod in held.pods if not pod.deleted]
        fresh = [pod for pod in living if pod.version == version]
        for pod in living:
            if pod.version != version or pod in fresh[wanted:]:
                pod.deleted = True
                self._stop(pod, self._grace())
        old = any(pod.version != version or pod.deleted for pod in held.pods)
        for _ in range(0 if old else wanted - len(fresh)):
            self._numbers += 1
            held.pods.append(_pod(self._numbers, version, running.manifest))
        for pod in held.pods:
            pod.bound = pod.bound or self._bind(pod.uid)
            if pod.ends_at == FOREVER and pod.bound:
                self._obey(held, pod, now)

    def _obey(self, held: Granted, pod: GrantedPod, now: float) -> None:
        """What the pod's grant allows."""
        if pod.granted_until <= now:
            if pod.copy is not None:
                self._stop(pod, self._grace())
        elif pod.copy is None:
            pod.copy = Copy(held.uid, self._member, self._now())
            self._copies.start(pod.copy)
            pod.ready_at = now + READY_S[0] + (READY_S[1] - READY_S[0]) * self._roll()

    def _grace(self) -> float:
        return GRACE_S + STOP_LATE_S * self._roll()

    def _stop(self, pod: GrantedPod, seconds: float) -> None:
        """It has ended `seconds` from now, by this machine's clock."""
        if pod.copy is None:
            seconds = 0.0  # nothing runs yet
        pod.ends_at = min(pod.ends_at, self._clock.monotonic() + seconds)
        if pod.copy is not None:
            pod.copy.until = min(pod.copy.until, self._now() + seconds / self._clock.rate)


GRACE_S = 2.0
"""terminationGracePeriodSeconds of every fenced workload in a history."""


def _pod(number: int, version: str, manifest: Document) -> GrantedPod:
    told = template_annotations(manifest)
    return GrantedPod(number, version, told[EPOCH], told[GRANT_WORK], float(told[GRANT_SECONDS]))


def version_of(manifest: Document) -> str:
    """The template's identity: image and epoch."""
    return f"{image_of(manifest)} {template_annotations(manifest).get(EPOCH, '')}"
