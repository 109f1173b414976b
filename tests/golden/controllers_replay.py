"""Plays recorded transcripts of the real controllers against ours, and compares what both settle at.

Our API server, the real controllers and a small stand-in for scheduler and kubelet run in virtual time. Names are
translated: recorded `d-RS2-p3` is whichever of our pods of the second ReplicaSet of `d` stands where the recorded one
stands. Pods that are equal to the controller are told apart by uid alone, so per ReplicaSet their states are compared
as a multiset, and events by the ReplicaSet that they tell of.
"""

import asyncio
import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden.told_events import same_events

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import REPLICATION_CONTROLLER
from machinery.client.interface import (
    Client,
    DeleteOptions,
    EventType,
    ListOptions,
    PatchType,
    dynamic,
)
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import Conflict, Forbidden, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey, Resource

FOLDER = Path(__file__).parent / "controllers"
SETTLE_S = 1.2
BETWEEN_OPS_S = 0.05
SAY_MAX_S = 60.0
NODES = ("base-1", "base-2", "base-3")

RESOURCES: dict[str, Resource[Document]] = {
    k.kind: dynamic(k.group, k.version, k.plural, k.kind, namespaced=k.namespaced)
    for k in reversed((*BUILTIN, REPLICATION_CONTROLLER))
    if {"get", "list", "create"} <= set(k.verbs)
}
POD, RS, DEPLOYMENT = RESOURCES["Pod"], RESOURCES["ReplicaSet"], RESOURCES["Deployment"]
EVENT = dynamic("", "v1", "events", "Event", namespaced=True)
PATCHES = {"merge": PatchType.MERGE, "strategic": PatchType.STRATEGIC, "json": PatchType.JSON}
TIMELESS = ("observedGeneration",)


def transcripts(name: str) -> Iterator[dict[str, Any]]:
    """The recorded transcripts of one file."""
    with (FOLDER / f"{name}.jsonl").open() as lines:
        for line in lines:
            yield json.loads(line)


class QuotaClient:
    """The controllers' client, with the one rule of ResourceQuota that the recordings use: a number of pods.

    Quotas are not served yet; what is compared is how controllers take the refusal.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.pods_max: dict[str, int] = {}
        self._one_at_a_time = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create(
        self, resource: Resource[Any], document: Mapping[str, Any], namespace: str = "", **more: Any
    ) -> Any:
        limit = self.pods_max.get(namespace)
        if limit is None or resource.plural != "pods":
            return await self._client.create(resource, document, namespace, **more)
        async with self._one_at_a_time:
            used = len((await self._client.list(POD, namespace)).items)
            if used >= limit:
                prefix = document["metadata"]["generateName"]
                raise Forbidden(
                    f'pods "{prefix}XXXXX" is forbidden: exceeded quota: q, requested: pods=1, '
                    f"used: pods={used}, limited: pods={limit}"
                )
            return await self._client.create(resource, document, namespace, **more)


@dataclass
class Difference:
    """One recorded thing that came out otherwise."""

    step: int
    what: str
    recorded: Any
    ours: Any

    def __str__(self) -> str:
        return f"step {self.step} {self.what}\n  recorded {self.recorded}\n  ours     {self.ours}"


@dataclass
class Outcome:
    """How a transcript came out."""

    id: str
    states: list[Difference] = field(default_factory=list)
    events: list[Difference] = field(default_factory=list)


class StandIn:
    """Scheduler and kubelet: binds pods at once, and ends those that terminate unless the recording does so."""

    def __init__(self, client: Client, namespace: str, *, removes: bool) -> None:
        self._client, self._namespace, self._removes = client, namespace, removes

    async def run(self) -> None:
        listing = await self._client.list(POD, self._namespace)
        options = ListOptions(resource_version=listing.resource_version)
        async for event in self._client.watch(POD, self._namespace, options):
            if event.type in (EventType.ADDED, EventType.MODIFIED):
                await self._tend(event.object)

    async def _tend(self, pod: Document) -> None:
        key = ObjectKey(self._namespace, pod["metadata"]["name"])
        spec = pod["spec"]
        try:
            if pod["metadata"].get("deletionTimestamp"):
                if self._removes:
                    await self._client.delete(POD, key, DeleteOptions(grace_period_seconds=0))
            elif not spec.get("nodeName") and spec.get("schedulerName") == "default-scheduler":
                await bind(self._client, key, await self._emptiest())
        except (NotFound, Conflict):
            return

    async def _emptiest(self) -> str:
        pods = (await self._client.list(POD, self._namespace)).items
        load = Counter(p["spec"].get("nodeName") for p in pods)
        return min(NODES, key=lambda node: load[node])


async def bind(client: Client, key: ObjectKey, node: str) -> None:
    """What a scheduler writes."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "target": target,
    }
    await client.create(POD, binding, key.namespace, name=key.name, subresource="binding")


class Names:
    """Recorded names and ours."""

    def __init__(self) -> None:
        self.pods: dict[str, str] = {}
        """recorded -> ours"""
        self.sets: dict[str, str] = {}
        """ours -> recorded"""
        self._counts: Counter[str] = Counter()
        self.groups: dict[str, str] = {}
        """our pod -> the recorded name of what made it; itself if a user did"""
        self.order: list[str] = []

    def see_set(self, made: Document, what: str = "RS") -> None:
        """A ReplicaSet, or a Job of a CronJob: those of one owner by number."""
        name = made["metadata"]["name"]
        if name in self.sets:
            return
        owner = _controller(made)
        if owner is None:
            self.sets[name] = name
            return
        self._counts[owner] += 1
        self.sets[name] = f"{owner}-{what}{self._counts[owner]}"

    def see_pod(self, pod: Document) -> None:
        name = pod["metadata"]["name"]
        if name in self.groups:
            return
        made = pod["metadata"].get("generateName", "")
        self.groups[name] = self.sets.get(made.removesuffix("-"), name) if made else name
        self.order.append(name)

    def recorded(self, text: str) -> str:
        """Our text with recorded names; pods by what made them."""

        def translate(match: re.Match[str]) -> str:
            word = match.group()
            bare = word.removesuffix("-XXXXX")
            if bare != word:
                return self.sets.get(bare, bare) + "-XXXXX"
            if word in self.sets:
                return self.sets[word]
            group = self.groups.get(word)
            return word if group in (None, word) else f"{group}-p"

        return re.sub(r"[a-zA-Z0-9][-.a-zA-Z0-9]*", translate, text)


def _controller(document: Document) -> str | None:
    owners = document["metadata"].get("ownerReferences") or ()
    return next((o["name"] for o in owners if o.get("controller")), None)


def group_of(recorded: str) -> str:
    """`d-RS2-p3` -> `d-RS2`; `r-p1` -> `r`; `pod-a` stays."""
    match = re.fullmatch(r"(.+)-p\d+", recorded)
    return match.group(1) if match else recorded


class Replay:
    """One transcript in one namespace."""

    SPEAKERS: tuple[str, ...] = ("Deployment", "ReplicaSet", "ReplicationController")
    """Whose Events are compared."""
    STAND_IN = StandIn

    def __init__(
        self, client: Client, transcript: dict[str, Any], quotas: QuotaClient, clock: Clock
    ) -> None:
        self.client, self.transcript, self.quotas, self.clock = client, transcript, quotas, clock
        self.namespace = re.sub(r"[^-a-z0-9]", "-", transcript["id"].lower())
        self.names = Names()
        self.events_before: dict[str, int] = {}
        text = json.dumps(transcript)
        self.manual = "terminating(" in text or '"kubelet-remove"' in text
        self.with_owner = "owner=" in text
        older = [RESOURCES["ReplicationController"]] if "ReplicationController" in text else []
        self.set_kinds = [RS, *older]
        self.outcome = Outcome(transcript["id"])

    async def run(self) -> Outcome:
        """Play all steps."""
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.client.create(RESOURCES["Namespace"], document)
        await asyncio.sleep(SETTLE_S)
        stand_in = self.STAND_IN(self.client, self.namespace, removes=not self.manual)
        task = asyncio.ensure_future(stand_in.run())
        try:
            for index, step in enumerate(self.transcript["steps"]):
                await self._step(index, step)
        finally:
            task.cancel()
        return self.outcome

    async def _step(self, index: int, step: dict[str, Any]) -> None:
        waited = self.transcript["kind"] == "namespace"
        for op in step["do"]:
            waited = waited or "say" in op
            await self._do(index, op)
            await asyncio.sleep(BETWEEN_OPS_S)
            await self._look()
        await asyncio.sleep(SETTLE_S)
        differences = await self._compare(index, step["then"])
        left = SAY_MAX_S if waited else 0.0
        while differences and left > 0:
            await asyncio.sleep(0.5)
            left -= 0.5
            differences = await self._compare(index, step["then"])
        if index not in self.transcript.get("unstable_steps", ()):
            self.outcome.states += differences
        await self._compare_events(index, step)

    # ------------------------------------------------------------------------------------------------- doing
    async def _do(self, index: int, op: dict[str, Any]) -> None:
        if "say" in op:
            if found := re.fullmatch(r"wait ([\d.]+) s|([\d.]+) s later", op["say"]):
                await asyncio.sleep(float(found.group(1) or found.group(2)))
            return
        action: Callable[[dict[str, Any]], Any] = getattr(self, f"_op_{op['op'].replace('-', '_')}")
        answer: dict[str, Any] = {}
        try:
            await action(op)
        except StatusError as error:
            answer = {
                "code": error.status_code,
                "reason": error.status_reason,
                "message": error.message.replace(f" {self.namespace} ", " NS "),
            }
        expected = op.get("answer") or {}
        if ("reason" in expected or answer) and expected != answer:
            self.outcome.states.append(Difference(index, f"answer of {op}", expected, answer))

    async def _op_create(self, op: dict[str, Any]) -> None:
        obj = op["obj"]
        if obj["kind"] == "ResourceQuota":
            self.quotas.pods_max[self.namespace] = int(obj["spec"]["hard"]["pods"])
            return
        obj = {**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}
        owners = []
        for owner in obj["metadata"].get("ownerReferences") or ():
            key = ObjectKey(self.namespace, owner["name"])
            live = await self.client.get(RESOURCES[owner["kind"]], key)
            owners.append({**owner, "uid": live["metadata"]["uid"]})
        if owners:
            obj["metadata"]["ownerReferences"] = owners
        await self.client.create(RESOURCES[obj["kind"]], obj, self.namespace)

    async def _op_patch(self, op: dict[str, Any]) -> None:
        if op["kind"] == "ResourceQuota":
            self.quotas.pods_max[self.namespace] = int(op["body"]["spec"]["hard"]["pods"])
            return
        await self.client.patch(
            RESOURCES[op["kind"]],
            self._key(op["kind"], op["name"]),
            op["body"],
            PATCHES[op["type"]],
            subresource=op.get("subresource", ""),
        )

    async def _op_delete(self, op: dict[str, Any]) -> None:
        options = DeleteOptions(
            propagation_policy=op.get("propagationPolicy"),
            grace_period_seconds=op.get("gracePeriodSeconds"),
        )
        await self.client.delete(RESOURCES[op["kind"]], self._key(op["kind"], op["name"]), options)

    async def _op_bind(self, op: dict[str, Any]) -> None:
        await bind(self.client, self._key("Pod", op["pod"]), op["node"])

    async def _op_kubelet_remove(self, op: dict[str, Any]) -> None:
        options = DeleteOptions(grace_period_seconds=0)
        await self.client.delete(POD, self._key("Pod", op["pod"]), options)

    async def _op_kubelet(self, op: dict[str, Any]) -> None:
        key = self._key("Pod", op["pod"])
        await self.client.patch(
            POD,
            key,
            {"status": kubelet_status(op, self.clock.now())},
            PatchType.STRATEGIC,
            subresource="status",
        )

    def _key(self, kind: str, name: str) -> ObjectKey:
        if kind == "Namespace":
            return ObjectKey("", self.namespace)
        if kind == "Pod":
            name = self._our_pod(name)
        elif kind == "ReplicaSet":
            name = next((ours for ours, rec in self.names.sets.items() if rec == name), name)
        return ObjectKey(self.namespace, name)

    def _our_pod(self, recorded: str) -> str:
        """The pod that stands for a recorded one; a new one is the oldest of its group that stands for none."""
        known = self.names.pods.get(recorded)
        if known is not None:
            return known
        group, taken = group_of(recorded), set(self.names.pods.values())
        for name in self.names.order:
            if self.names.groups.get(name) == group and name not in taken:
                self.names.pods[recorded] = name
                return name
        return recorded

    # ----------------------------------------------------------------------------------------------- looking
    async def _look(self) -> None:
        """Meet new ReplicaSets and pods, in the order in which they were made."""

        def revision(document: Document) -> int:
            return int(document["metadata"]["resourceVersion"])

        for rs in sorted(
            await self._sets(), key=lambda d: (d["metadata"]["creationTimestamp"], revision(d))
        ):
            self.names.see_set(rs)
        for pod in sorted((await self.client.list(POD, self.namespace)).items, key=revision):
            self.names.see_pod(pod)

    async def _sets(self) -> list[Document]:
        """ReplicaSets, and what is recorded as such."""
        found = [(await self.client.list(kind, self.namespace)).items for kind in self.set_kinds]
        return [one for items in found for one in items]

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        await self._look()
        found: list[Difference] = []

        def check(what: str, recorded: Any, ours: Any) -> None:
            if recorded != ours:
                found.append(Difference(index, what, recorded, ours))

        if not self.transcript["kind"].startswith(("gc", "namespace")) or "replicasets" in then:
            ours = {
                d["metadata"]["name"]: self._deployment(d)
                for d in (await self.client.list(DEPLOYMENT, self.namespace)).items
            }
            if ours or "deployments" in then:
                check("deployments", then.get("deployments", {}), ours)
            sets = {
                self.names.sets[rs["metadata"]["name"]]: self._replica_set(rs)
                for rs in await self._sets()
            }
            check("replicasets", then.get("replicasets", {}), sets)
        pods = (await self.client.list(POD, self.namespace)).items
        if "pods" in then or self.transcript["kind"] in ("deployment", "replicaset"):
            check("pods", _by_group(then.get("pods", {})), self._pods(pods))
            self._match(then.get("pods", {}), pods)
        for key, recorded in then.items():
            if key.startswith("names:"):
                listing = await self.client.list(RESOURCES[key[6:]], self.namespace)
                check(key, sorted(recorded), sorted(self._listed(listing.items)))
            elif key.endswith(".ownerReferences"):
                name = key.removesuffix(".ownerReferences")
                live = await self.client.get(
                    RESOURCES["ConfigMap"], ObjectKey(self.namespace, name)
                )
                check(key, recorded, [o["name"] for o in live["metadata"]["ownerReferences"]])
        if "namespace" in then:
            check("namespace", then["namespace"], await self._namespace())
        return found

    def _listed(self, items: Any) -> list[str]:
        back = {ours: rec for rec, ours in self.names.pods.items()}
        names = [d["metadata"]["name"] for d in items]
        return [back.get(name, self.names.sets.get(name, name)) for name in names]

    async def _namespace(self) -> Any:
        try:
            live = await self.client.get(RESOURCES["Namespace"], ObjectKey("", self.namespace))
        except NotFound:
            return "absent"
        status = live.get("status") or {}
        return {
            "phase": status.get("phase"),
            "conditions": _conditions(status.get("conditions") or ()),
            "finalizers": (live.get("spec") or {}).get("finalizers") or [],
        }

    def _deployment(self, document: Document) -> Document:
        notes = document["metadata"].get("annotations") or {}
        told: Document = {
            "replicas": document["spec"]["replicas"],
            "revision": notes.get("deployment.kubernetes.io/revision"),
            "status": self._status(document.get("status") or {}),
        }
        if document["spec"].get("paused"):
            told["paused"] = True
        return told

    def _replica_set(self, document: Document) -> Document:
        notes = document["metadata"].get("annotations") or {}
        told: Document = {
            "replicas": document["spec"]["replicas"],
            "status": self._status(document.get("status") or {}),
        }
        if owner := _controller(document):
            told["owner"] = f"Deployment/{owner}"
        for name, key in (
            ("revision", "revision"),
            ("desired", "desired-replicas"),
            ("max", "max-replicas"),
            ("history", "revision-history"),
        ):
            if value := notes.get(f"deployment.kubernetes.io/{key}"):
                told[name] = value
        if document["metadata"].get("deletionTimestamp"):
            told["terminating"] = document["metadata"].get("finalizers") or []
        return told

    def _status(self, status: Document) -> Document:
        told = {k: v for k, v in status.items() if k not in (*TIMELESS, "conditions")}
        if status.get("conditions"):
            told["conditions"] = [
                self.names.recorded(text) for text in _conditions(status["conditions"])
            ]
        return told

    def _pods(self, pods: Any) -> dict[str, Counter[str]]:
        groups: dict[str, Counter[str]] = {}
        for pod in pods:
            group = self.names.groups[pod["metadata"]["name"]]
            groups.setdefault(group, Counter())[self._pod(pod)] += 1
        return groups

    def _pod(self, pod: Document) -> str:
        meta, status = pod["metadata"], pod.get("status") or {}
        words = [status.get("phase", "")]
        ready = {c["type"]: c["status"] for c in status.get("conditions") or ()}.get("Ready")
        if ready == "True":
            words.append("ready")
        if not pod["spec"].get("nodeName"):
            words.append("unassigned")
        if meta.get("deletionTimestamp"):
            words.append(f"terminating(grace={meta.get('deletionGracePeriodSeconds')})")
        if meta.get("finalizers"):
            words.append("finalizers=" + ",".join(meta["finalizers"]))
        if self.with_owner:
            owner = _controller(pod)
            told = f"ReplicaSet/{self.names.sets.get(owner, owner)}" if owner else "none"
            words.append(f"owner={told}")
        return " ".join(words)

    def _match(self, recorded: Mapping[str, str], pods: Any) -> None:
        """Let each recorded pod stand for one of ours in the same state, keeping pairs that still fit."""
        ours = {p["metadata"]["name"]: (self._group(p), self._pod(p)) for p in pods}
        wanted = {name: (group_of(name), state) for name, state in recorded.items()}
        pairs = {
            rec: mine
            for rec, mine in self.names.pods.items()
            if rec in wanted and ours.get(mine) == wanted[rec]
        }
        taken = set(pairs.values())
        for rec, (group, state) in wanted.items():
            if rec in pairs:
                continue
            for name in self.names.order:
                fits = ours.get(name) == (group, state) or name == rec
                if fits and name in ours and name not in taken:
                    pairs[rec] = name
                    taken.add(name)
                    break
        self.names.pods = pairs

    def _group(self, pod: Document) -> str:
        return self.names.groups[pod["metadata"]["name"]]

    # ------------------------------------------------------------------------------------------------ events
    async def _compare_events(self, index: int, step: dict[str, Any]) -> None:
        ours: Counter[str] = Counter()
        for event in (await self.client.list(EVENT, self.namespace)).items:
            name, count = event["metadata"]["name"], event.get("count", 1)
            more = count - self.events_before.get(name, 0)
            self.events_before[name] = count
            about = event["involvedObject"]
            if more and about["kind"] in self.SPEAKERS:
                words = (f"{about['kind']}/{about['name']}", event["type"], event["reason"])
                ours[self._our_event(" | ".join((*words, event["message"])))] += more
        recorded: Counter[str] = Counter()
        for line in step["then"].get("events", ()):
            text, _, count = line.rpartition(" | x")
            if text.partition("/")[0] in self.SPEAKERS:
                recorded[self._recorded_event(text)] += int(count)
        unstable = {
            *self.transcript.get("unstable_steps", ()),
            *self.transcript.get("unstable_events_only", ()),
        }
        if index not in unstable and not self._same_events(recorded, ours, step):
            difference = (dict(recorded - ours), dict(ours - recorded))
            self.outcome.events.append(Difference(index, "events", *difference))

    def _our_event(self, text: str) -> str:
        return self.names.recorded(text)

    def _recorded_event(self, text: str) -> str:
        """Pods without their numbers: which of equal ones it is decides nothing."""
        return re.sub(r"(-RS\d+|\brc?)-p\d+", r"\1-p", text)

    def _same_events(
        self, recorded: Counter[str], ours: Counter[str], step: dict[str, Any]
    ) -> bool:
        return same_events(recorded, ours, several=len(step["do"]) > 1)


def _by_group(recorded: Mapping[str, str]) -> dict[str, Counter[str]]:
    groups: dict[str, Counter[str]] = {}
    for name, state in recorded.items():
        groups.setdefault(group_of(name), Counter())[state] += 1
    return groups


def _conditions(conditions: Any) -> list[str]:
    return sorted(
        " | ".join((c["type"], c["status"], c.get("reason", ""), c.get("message", "")))
        for c in conditions
    )


def kubelet_status(op: Mapping[str, Any], now: dt.datetime) -> Document:
    """What the recorder's kubelet wrote."""
    since = rfc3339(now - dt.timedelta(seconds=op.get("since", 0)))
    ready = "True" if op["ready"] else "False"
    state: Document = {"running": {"startedAt": since}}
    if op["phase"] in ("Failed", "Succeeded"):
        code = op.get("exit", 1 if op["phase"] == "Failed" else 0)
        state = {"terminated": {"exitCode": code}}
    return {
        "phase": op["phase"],
        "startTime": since,
        "conditions": [
            {"type": kind, "status": ready, "lastTransitionTime": since}
            for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [
            {
                "name": "c",
                "image": "img",
                "imageID": "",
                "ready": op["ready"],
                "restartCount": op.get("restarts", 0),
                "state": state,
            }
        ],
    }
