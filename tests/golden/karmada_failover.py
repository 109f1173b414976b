"""One binding and two members that are told what to report: recorded failovers played through the federation's pure deciders.

After every step detector, account, evictor, placer and failover decide in turn until nothing changes; sleeping passes
virtual time from one wish to be looked at again to the next. A member that has a Work runs what it was told until the next
recorded report.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from federation.clusters.candidates import candidates
from federation.controllers import applications as accounts
from federation.controllers import detector, dispatcher, evictor, failover, placer
from federation.controllers.evictor import Round
from federation.domains.settings import Settings
from federation.propagation import applications, evictions, moves, questions
from federation.propagation.admission import defaults
from federation.propagation.departures import (
    Due,
    Workload,
    cause_of,
    drained,
    due_of,
    dues_of_health,
)
from federation.propagation.resilience import DEFAULT
from machinery.api.fleet.cluster import Cluster
from machinery.api.fleet.policy import PropagationPolicy
from machinery.api.fleet.reflect import health, reflected
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Patch, RequeueAfter, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

NAMES = ("m1", "m2", "m3", "p1", "p2")
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STEP_S = 2
"""How long the recorder waited for a state that stands, after each step."""
ROUNDS = 40


def merged(held: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    out = dict(held) if isinstance(held, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


class Story:
    """The binding of one recorded case."""

    def __init__(self, template: Document, policy: Document) -> None:
        metadata = template["metadata"] | {"uid": "template", "generation": 1}
        self.template = template | {"metadata": metadata}
        filled = msgspec.convert(defaults.propagation_policy(policy, ""), PropagationPolicy)
        spec = detector.wanted_spec(self.template, filled)
        self.binding: Document = {
            "metadata": {
                "name": "web-deployment",
                "namespace": metadata["namespace"],
                "uid": "binding",
                "generation": 1,
                "resourceVersion": "1",
            },
            "spec": {key: value for key, value in spec.items() if value is not None},
            "status": {},
        }
        self.now = START
        self.taints: list[Document] = []
        self.members: dict[str, Document] = {}

    # ------------------------------------------------------------------------------------------------- steps
    def play(self, step: Any) -> None:
        """One recorded step and the time until its state stood."""
        match step:
            case ["sleep", seconds]:
                self.pass_time(float(seconds))
            case ["taint", taints]:
                self.taints = [t | {"timeAdded": rfc3339(self.now)} for t in taints]
            case ["rb", patch, *_]:
                self.binding = merged(self.binding, patch)
            case dict():
                for name, status in step.items():
                    if name in self.members:
                        self.members[name] = status
            case _:
                pass
        self.pass_time(STEP_S)

    def pass_time(self, seconds: float) -> None:
        """Everybody decides whenever somebody asked to be looked at."""
        end = self.now + dt.timedelta(seconds=seconds)
        while True:
            wait = self._settle()
            then = end if wait is None else self.now + dt.timedelta(seconds=max(wait, 0.5))
            self.now = min(end, then)
            if self.now >= end:
                self._settle()
                return

    def _settle(self) -> float | None:
        """Decide until nothing changes; seconds to the next wish, if there is one."""
        for _ in range(ROUNDS):
            before, waits = self.binding, []
            self._report()
            for actions in self._decided():
                waits += [a.seconds for a in actions if isinstance(a, RequeueAfter)]
                if any(self._done(action) for action in actions):
                    break
            if self.binding == before:
                return min(waits, default=None)
        raise AssertionError("it comes to no rest")

    # ------------------------------------------------------------------------------------------------- the members
    def _report(self) -> None:
        view = self.view
        asked = dispatcher.asked(view)
        untouched = moves.untouched(view)
        self.members = {name: self.members.get(name, {}) for name in asked}
        items = []
        for name in sorted(asked):
            count = view.spec.replicas if name in untouched else asked[name]
            live = {
                "apiVersion": self.template["apiVersion"],
                "kind": self.template["kind"],
                "metadata": {"generation": 1},
                "spec": (self.template.get("spec") or {}) | {"replicas": count},
                "status": self.members[name],
            }
            item = {"clusterName": name, "applied": True, "health": health(live)}
            status = reflected(live)
            items.append(item | ({"status": status} if status is not None else {}))
        self.binding = merged(self.binding, {"status": {"aggregatedStatus": items or None}})

    # ------------------------------------------------------------------------------------------------- the deciders
    @property
    def view(self) -> ResourceBinding:
        return msgspec.convert(self.binding, ResourceBinding)

    @property
    def clusters(self) -> dict[str, Cluster]:
        ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}]
        return {
            name: msgspec.convert(
                {
                    "metadata": {"name": name},
                    "spec": {"taints": self.taints if name == "p1" else []},
                    "status": {"conditions": ready},
                },
                Cluster,
            )
            for name in NAMES
        }

    def _decided(self) -> Iterator[list[Action]]:
        fleet = candidates(self.clusters.values())
        now = rfc3339(self.now)
        policy = applications.policy_of(self.view)
        tolerated = applications.limits(policy, DEFAULT, self.template) if policy else None
        yield accounts.plan(self.view, self.template, tolerated, self.now)
        yield evictor.plan(Round(list(self._due()), fleet, Settings(), now=now))
        yield placer.plan(self.view, fleet, now)
        view = self.view
        seen = frozenset(NAMES)
        facts = moves.Facts(
            questions.question(view),
            moves.reported(view, seen),
            frozenset(name for name, c in self.clusters.items() if drained(c)),
            settled=not questions.open_question(view),
            healthy=evictions.healthy(view, seen),
            now=now,
        )
        yield failover.plan(view, facts)

    def _due(self) -> Iterator[Due]:
        view, clusters = self.view, self.clusters
        workload = Workload(self.template, DEFAULT)
        leaving = set()
        for name, cluster in clusters.items():
            cause = cause_of(cluster, None)
            if cause is not None:
                leaving.add(name)
                found = due_of(view, workload, name, cluster, cause, self.now)
                if found is not None:
                    yield found
        settled = {name: 1e6 for name in NAMES if name not in leaving}
        survivors = candidates(c for name, c in clusters.items() if name not in leaving)
        for item in dues_of_health(view, workload, settled, self.now, START):
            if item.wait_s > 0 or not evictor.elsewhere(item, survivors):
                yield item

    def _done(self, action: Action) -> bool:
        """Whether it changed something."""
        before = self.binding
        if isinstance(action, Patch):
            self.binding = merged(self.binding, action.patch)
        elif isinstance(action, SetStatus):
            self.binding = merged(self.binding, {"status": action.status})
        return self.binding != before
