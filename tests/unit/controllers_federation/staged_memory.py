"""Objects in memory for plans of the rollouts controller: a fleet that gets well at once, and a fuse that burns with every write."""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from federation.controllers import revisions
from federation.controllers.rollouts.plan import World, plan
from federation.propagation import questions
from federation.propagation.rollouts.record import Record, record_of
from federation.propagation.rollouts.snapshots import hash_of
from machinery.api.fleet.cluster import Cluster
from machinery.api.fleet.rollouts import (
    STAGED_UPDATE_RUNS,
    STRATEGY,
    ApprovalRequest,
    StagedUpdateRun,
    StagedUpdateStrategy,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Action, Create, Delete, Emit, Patch, SetStatus
from machinery.meta.resource import Document

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ZONES = {"alpha": "zone-a", "beta": "zone-b", "gamma": "zone-c"}


class Crashed(Exception):
    """The controller died after that many writes."""


def merged(held: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(held) if isinstance(held, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


class Memory:
    """The objects, a fleet that gets well at once, and a fuse that burns with every write."""

    def __init__(self, fuse: int = -1, **strategy: Any) -> None:
        self.now, self.fuse, self.version = START, fuse, 1
        self.template: Document | None = template("whoami:1")
        self.binding = {
            "metadata": {"name": "web-deployment", "namespace": "demo", "resourceVersion": "1"},
            "spec": {
                "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "replicas": 6,
                "placement": {},
                "clusters": [{"name": name, "replicas": 2} for name in ZONES],
            },
        }
        self.runs: dict[str, Document] = {}
        self.requests: dict[str, Document] = {}
        self.settled = True
        self.history: list[Document] = []
        self.well: Callable[[str], bool] = lambda _: True
        self.given: list[dict[str, str]] = []
        self.events: list[str] = []
        self.strategies = [strategy_named("by-zone", **strategy)]

    # ------------------------------------------------------------------------------------------------- the world
    def world(self) -> World:
        binding = self.binding | {"status": {"aggregatedStatus": self.reports()}}
        return World(
            self.now,
            self.template,
            decided(msgspec.convert(binding, ResourceBinding), yes=self.settled),
            [msgspec.convert(run, StagedUpdateRun) for run in self.runs.values()],
            self.history,
            (),
            self.strategies,
            (),
            [msgspec.convert(r, ApprovalRequest) for r in self.requests.values()],
            {name: cluster(name) for name in ZONES},
        )

    def record(self) -> Record | None:
        return record_of(msgspec.convert(self.binding, ResourceBinding))

    def reports(self) -> list[Document]:
        record = self.record()
        told = record.of if record is not None else lambda _: ""
        return [
            {
                "clusterName": name,
                "applied": True,
                "health": "Healthy" if self.well(name) else "Unhealthy",
                "status": {
                    "templateHash": told(name),
                    "generation": 1,
                    "observedGeneration": 1,
                    "availableReplicas": 2 if self.well(name) else 1,
                },
            }
            for name in ZONES
        ]

    # ------------------------------------------------------------------------------------------------- writing
    def apply(self, actions: Iterable[Action]) -> int:
        """In order, as the executor does; the fuse may end it anywhere."""
        writes = 0
        for action in actions:
            if isinstance(action, Emit):
                self.events.append(action.reason)
                continue
            if not isinstance(action, Create | Patch | SetStatus | Delete):
                continue
            if self.fuse == 0:
                self.fuse = -1
                raise Crashed
            self.fuse -= self.fuse > 0
            self.write(action)
            writes += 1
        return writes

    def write(self, action: Create | Patch | SetStatus | Delete) -> None:
        self.version += 1
        stamp = {"metadata": {"resourceVersion": str(self.version)}}
        if isinstance(action, Create):
            document = dict(action.document)
            name = document["metadata"]["name"]
            kind = self.runs if action.resource is STAGED_UPDATE_RUNS else self.requests
            assert action.exists_ok or name not in kind
            born = {"uid": name, "creationTimestamp": self.now.isoformat()}
            kind.setdefault(name, merged(merged(document, stamp), {"metadata": born}))
        elif isinstance(action, Delete):
            del self.runs[action.key.name]
        elif action.resource is RESOURCE_BINDINGS:
            assert isinstance(action, Patch)
            assert action.resource_version == self.binding["metadata"]["resourceVersion"]
            self.binding = merged(merged(self.binding, action.patch), stamp)
            record = self.record()
            if record is not None:
                self.given.append({name: record.of(name) for name in ZONES})
        else:
            assert isinstance(action, SetStatus)
            held = self.runs[action.key.name]
            assert action.resource_version == held["metadata"]["resourceVersion"]
            self.runs[action.key.name] = merged(merged(held, {"status": action.status}), stamp)

    def snapshot(self) -> None:
        """The revisions controller has seen the template."""
        if self.template is not None and self.template["metadata"]["annotations"].get(STRATEGY):
            for action in revisions.plan(self.template, self.history):
                if isinstance(action, Create):
                    self.history.append(merged(action.document, {"metadata": {"uid": "r"}}))

    def settle(self, seconds: int = 0) -> None:
        """Passes until nothing is written, each second anew."""
        for _ in range(seconds + 1):
            self.snapshot()
            for _ in range(50):
                try:
                    if not self.apply(plan(self.world())):
                        break
                except Crashed:
                    continue
            else:
                raise AssertionError("the controller never settles")
            self.now += dt.timedelta(seconds=1)

    def change(self, image: str, **annotations: str) -> None:
        assert self.template is not None
        self.template = template(image, **annotations)

    def by_hand(self, name: str, **spec: Any) -> None:
        body = {"workload": {"name": "web"}, "stagedRolloutStrategyName": "by-zone"} | spec
        self.version += 1
        meta = {
            "name": name, "namespace": "demo", "uid": name,
            "resourceVersion": str(self.version), "creationTimestamp": self.now.isoformat(),
        }  # fmt: skip
        self.runs[name] = {"metadata": meta, "spec": body}

    def states(self) -> dict[str, str]:
        return {name: (run.get("status") or {}).get("state", "") for name, run in self.runs.items()}

    def reason(self, run: str) -> str:
        """Why it is not initialised."""
        (held,) = self.runs[run]["status"]["conditions"]
        return f"{held['type']}={held['status']} {held['reason']}"


def template(image: str, **annotations: str) -> Document:
    marks = {STRATEGY: "by-zone"} | annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "uid": "u-web",
            "annotations": {k: v for k, v in marks.items() if v},
        },
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


def cluster(name: str) -> Cluster:
    return msgspec.convert(
        {
            "metadata": {"name": name},
            "spec": {"zones": [ZONES[name]]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
        Cluster,
    )


def strategy_named(name: str, **spec: Any) -> StagedUpdateStrategy:
    body = {"stages": [{"name": "z", "groupBy": "zone"}]} | spec
    meta = {"name": name, "namespace": "demo"}
    return msgspec.convert({"metadata": meta, "spec": body}, StagedUpdateStrategy)


H1, H2, H3 = (hash_of(template(f"whoami:{n}")) for n in (1, 2, 3))
ORDER = [
    {"alpha": H1, "beta": H1, "gamma": H1},
    {"alpha": H2, "beta": H1, "gamma": H1},
    {"alpha": H2, "beta": H2, "gamma": H1},
    {"alpha": H2, "beta": H2, "gamma": H2},
]


def decided(binding: ResourceBinding, *, yes: bool) -> ResourceBinding:
    """The same with the word that its placement answers the present question, or another one."""
    question = questions.question(binding) if yes else "another"
    marks = binding.metadata.annotations | {questions.QUESTION: question}
    metadata = msgspec.structs.replace(binding.metadata, annotations=marks)
    return msgspec.structs.replace(binding, metadata=metadata)


def seen_once(given: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """What clusters had, without repetitions."""
    return [g for i, g in enumerate(given) if i == 0 or g != given[i - 1]]
