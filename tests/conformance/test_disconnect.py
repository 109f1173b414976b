"""disconnect.yaml: who leaves a cluster that is not heard and when, and what happens when it is heard again."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest
from tests.support.tables import Row, cases

from federation.controllers import evictor
from federation.controllers.evictor import Round
from federation.domains.settings import Settings
from federation.placement.model import Candidate
from federation.propagation import moves
from federation.propagation.departures import Due, Workload, cause_of, due_of
from federation.propagation.moves import UNREACHABLE, Facts, Seen, State
from machinery.api.fleet.cluster import GRANTS_ENFORCED, Cluster
from machinery.api.fleet.resilience import FailureDomain, ResilienceSpec
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Emit, Patch
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
BEFORE = {"alpha": 1, "beta": 1}
AFTER = {"beta": 1, "gamma": 1}


# -------------------------------------------- section leaving, played
def cluster(row: Row) -> Cluster:
    heard = "True" if row.get("heard") else "Unknown"
    taints = [{"key": "drain", "effect": "NoExecute"}] if row.get("drained") else []
    enforced = {GRANTS_ENFORCED: "false"} if row.get("foreign") else {}
    wire = {
        "metadata": {"name": "alpha", "annotations": enforced},
        "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": heard}]},
    }
    return msgspec.convert(wire, Cluster)


def template(row: Row) -> Document:
    pod = {"terminationGracePeriodSeconds": row["grace"]} if "grace" in row.said else {}
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return kind | {"metadata": {"name": "web"}, "spec": {"template": {"spec": pod}}}


def due(row: Row, silent_s: float) -> Due | None:
    """What the evictor finds due at so many seconds of silence."""
    verdict = {"metadata": {"name": "cluster.alpha"}, "status": {"verdict": row["verdict"]}}
    seen = cluster(row)
    cause = cause_of(seen, msgspec.convert(verdict, FailureDomain))
    if cause is None:
        return None
    wire = {
        "metadata": {"name": "web-deployment", "namespace": "demo", "uid": "u"},
        "spec": {
            "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "replicas": 2,
            "placement": {},
            "clusters": [{"name": n, "replicas": c} for n, c in BEFORE.items()],
        },
    }
    binding = msgspec.convert(wire, ResourceBinding)
    workload = Workload(template(row), msgspec.convert(row.get("policy", {}), ResilienceSpec))
    return due_of(binding, workload, "alpha", seen, cause, NOW, silent_s)


@pytest.mark.parametrize("row", cases("disconnect", "leaving"))
def test_leaving(row: Row) -> None:
    at_once = due(row, 0.0)
    assert ("never" if at_once is None else round(at_once.wait_s, 1)) == row["leaves"]
    now = due(row, row["silent"])
    survivors = [Candidate(name) for name in ("beta", "gamma")]
    settings = replace(Settings(), failover=row.get("operator", "Enabled"))
    cut_off = row.get("fleet") == "ServerCutOff"
    actions = evictor.plan(Round([now] if now else [], survivors, settings, cut_off, "then"))
    told = {a.reason for a in actions if isinstance(a, Emit)}
    if any(isinstance(a, Patch) for a in actions):
        found = "evicts"
    elif "WouldEvict" in told:
        found = "tells"
    else:
        found = "waits" if actions else "nothing"
    assert found == row["does"]


# -------------------------------------------- section returning, played
def lost(row: Row) -> State:
    """alpha was given up."""
    was = {"alpha": Seen(1, row.get("was", ""))}
    facts = Facts("question", was, fenced=row.get("fenced", False), now="2026-01-01T00:00:00Z")
    state = moves.evict(State(BEFORE), "alpha", UNREACHABLE, "dead", facts)
    return moves.decided(state, AFTER, "then") if row["moved"] else state


def known(row: Row, ready: dict[str, int]) -> Facts:
    since = row.get("since", {})
    return Facts(
        "another" if row.get("changed") else "question",
        {name: Seen(count, since.get(name, ""), counts=True) for name, count in ready.items()},
        drained=frozenset(row.get("drained", ())),
        known=frozenset(row["known"]) if "known" in row.said else None,
        rejoin=row.get("rejoin", "keepReplacement"),
        zone_of=row.get("zones", {name: name for name in ("alpha", "beta", "gamma")}),
        fenced=row.get("fenced", False),
        settled=row["moved"],
        now="2026-01-01T00:01:00Z",
    )


@pytest.mark.parametrize("row", cases("disconnect", "returning"))
def test_returning(row: Row) -> None:
    state, ready = lost(row), dict(row["reports"])
    for _ in range(6):
        facts = known(row, ready)
        if state.clusters == BEFORE:
            facts = replace(facts, settled=True)
        after = moves.settle(state, facts)
        stood = sum(min(n, state.running.get(name, 0)) for name, n in ready.items())
        stands = sum(min(n, after.running.get(name, 0)) for name, n in ready.items())
        if not row.get("fenced"):
            assert stands >= min(stood, 2)
        state = after
        ready = {name: state.running.get(name, 0) for name in ready}
    assert dict(state.clusters) == row["runs"]
    kept = {task.cluster: task.kept for task in state.tasks}
    assert kept == row.get("kept", {})
