"""A staged update told in a few words, for tables: what happens in the fleet, and what the run comes to.

    tick 30         30 s pass
    well a          cluster a runs what it was told, all replicas ready     ill a     it does not
    stuck a         it says itself that its rollout does not go on
    lost a, back a  its heartbeat stops, stands again
    gone a, come a  the placement leaves it, comes (back) to it
    grow a, shrink a, dip a   one replica more or less wanted (or one ready less)
    approve N, deny N   ApprovalRequest
    state S, skip   the run's spec.state; skipUnreachable
    pause, resume   kubectl rollout pause, resume
    open, decided   the placement is being decided anew, and stands again

After each word the run advances until nothing more happens, and the record follows.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import msgspec

from federation.placement.model import Candidate
from federation.propagation.rollouts import plan
from federation.propagation.rollouts.record import Record, projected
from federation.propagation.rollouts.sights import Sight
from machinery.api.fleet.rollouts import (
    PlacementDisruptionBudget,
    StagedUpdateRun,
    StagedUpdateRunSpec,
    StagedUpdateStrategySpec,
)
from machinery.meta.objectmeta import ObjectMeta

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OLD, NEW = "old", "new"
ZONES = {"a": "zone-1", "b": "zone-1", "c": "zone-2", "d": "zone-3"}
LETTERS = {
    "Pending": ".", "Updating": "u", "Soaking": "s", "Succeeded": "Y",
    "Failed": "F", "Skipped": "-", "RolledBack": "R",
}  # fmt: skip


def strategy(**spec: Any) -> StagedUpdateStrategySpec:
    """A strategy from its wire shape; by default zone by zone, one cluster at once, 5 s of soaking."""
    body = {
        "stages": [{"name": "z", "groupBy": "zone"}],
        "healthGate": {"progressDeadline": "60s", "minSuccessTime": "5s"},
    } | spec
    return msgspec.convert(body, StagedUpdateStrategySpec)


def budget(**spec: Any) -> PlacementDisruptionBudget:
    """One that speaks of every Deployment."""
    selectors = [{"apiVersion": "apps/v1", "kind": "Deployment"}]
    document = {
        "metadata": {"name": "b", "namespace": "demo"},
        "spec": {"resourceSelectors": selectors} | spec,
    }
    return msgspec.convert(document, PlacementDisruptionBudget)


def candidate(name: str) -> Candidate:
    """A cluster; its label `ring` is its letter's number, from the end."""
    zone = ZONES[name]
    labels = {"ring": str(9 - "abcd".index(name)), "zone": zone}
    return Candidate(name, labels, "local", "region", (zone,))


class Story:
    """Clusters a and b in zone-1, c in zone-2, d in zone-3; two replicas in each."""

    def __init__(
        self,
        spec: StagedUpdateStrategySpec,
        clusters: str = "abcd",
        budgets: Iterable[PlacementDisruptionBudget] = (),
        record: Record | None = None,
    ) -> None:
        self.now, self.budgets = START, tuple(budgets)
        self.approved: set[str] = set()
        self.denied: dict[str, str] = {}
        self.paused, self.settled = False, True
        self.sights = {name: Sight(2, template=OLD, healthy=True, ready=2) for name in clusters}
        self.record = record or Record(stable=OLD, seen=NEW, run="web-1", open=True)
        status = plan.initialised(spec, self.facts(), NEW, "2")
        meta = ObjectMeta(name="web-1", namespace="demo", uid="u")
        self.run = StagedUpdateRun(
            metadata=meta, spec=StagedUpdateRunSpec(state="Run"), status=status
        )
        self.asked: set[str] = set()
        self.wait_s: float | None = None
        self.settle()

    def facts(self) -> plan.Facts:
        fleet = {name: candidate(name) for name in self.sights}
        return plan.Facts(
            self.now, self.sights, self.record, fleet, self.budgets,
            frozenset(self.approved), self.denied, self.paused, self.settled,
        )  # fmt: skip

    def settle(self) -> None:
        """Until a step changes nothing."""
        for _ in range(20):
            step = plan.advance(self.run, self.facts())
            self.asked |= {name for name, _ in step.requests}
            self.wait_s = step.wait_s
            record = projected(self.record, step.status)
            if (step.status, record) == (self.run.status, self.record):
                return
            self.run = msgspec.structs.replace(self.run, status=step.status)
            self.record = record
        raise AssertionError("the run never settles")

    def tell(self, words: str) -> "Story":
        """`tick 5; well a; …`."""
        for word in filter(None, (w.strip() for w in words.split(";"))):
            what, _, about = word.partition(" ")
            getattr(self, f"_{what}")(about)
            self.settle()
        return self

    def show(self) -> str:
        """`Progressing a:u b:. | a=new`: the run, its clusters, and what the record gives them."""
        updates = [c for stage in self.run.status.stages for c in stage.clusters]
        clusters = " ".join(f"{c.cluster_name}:{LETTERS[c.state]}" for c in updates)
        given = " ".join(f"{n}={self.record.of(n)}" for n in sorted(self.sights))
        return f"{self.run.status.state} {clusters} | {given}"

    # ------------------------------------------------------------------------------------------------- words
    def _tick(self, seconds: str) -> None:
        self.now += dt.timedelta(seconds=float(seconds))

    def _well(self, names: str) -> None:
        for name in names.split(","):
            held = self.sights[name]
            self.sights[name] = Sight(
                held.wanted, template=self.record.of(name), healthy=True, ready=held.wanted
            )

    def _ill(self, name: str) -> None:
        held = self.sights[name]
        self.sights[name] = Sight(held.wanted, template=self.record.of(name), ready=held.ready)

    def _dip(self, name: str) -> None:
        held = self.sights[name]
        self.sights[name] = Sight(held.wanted, template=self.record.of(name), ready=held.ready - 1)

    def _stuck(self, name: str) -> None:
        self.sights[name] = Sight(2, template=self.record.of(name), ready=1, failing="it is stuck")

    def _lost(self, name: str) -> None:
        self.sights[name] = Sight(self.sights[name].wanted, seen=False)

    def _back(self, name: str) -> None:
        held = self.sights[name]
        self.sights[name] = Sight(held.wanted, template=OLD, healthy=True, ready=held.wanted)

    def _gone(self, name: str) -> None:
        del self.sights[name]

    def _come(self, name: str) -> None:
        self.sights[name] = Sight(2)

    def _grow(self, name: str) -> None:
        held = self.sights[name]
        self.sights[name] = Sight(held.wanted + 1, template=held.template, ready=held.ready)

    def _shrink(self, name: str) -> None:
        held = self.sights[name]
        self.sights[name] = Sight(
            held.wanted - 1, template=held.template, healthy=True, ready=held.ready - 1
        )

    def _approve(self, name: str) -> None:
        self.approved.add(name)

    def _deny(self, name: str) -> None:
        self.denied[name] = "not today"

    def _state(self, state: str) -> None:
        spec = msgspec.structs.replace(self.run.spec, state=state)
        self.run = msgspec.structs.replace(self.run, spec=spec)

    def _skip(self, _: str) -> None:
        spec = msgspec.structs.replace(self.run.spec, skip_unreachable=True)
        self.run = msgspec.structs.replace(self.run, spec=spec)

    def _pause(self, _: str) -> None:
        self.paused = True

    def _resume(self, _: str) -> None:
        self.paused = False

    def _open(self, _: str) -> None:
        self.settled = False

    def _decided(self, _: str) -> None:
        self.settled = True
