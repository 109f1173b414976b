"""Deployment, ReplicaSet, garbage collection and namespaces: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import pytest
from tests.golden.playing import play, report

from cluster_agent.control.controllers import rootca, serviceaccount
from cluster_agent.control.controllers.deployment import controller as deployment
from cluster_agent.control.controllers.replicaset import controller as replicaset
from cluster_agent.control.controllers.workloads import DEPLOYMENTS, REPLICASETS
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import REPLICATION_CONTROLLER
from machinery.controller.manager import Manager
from machinery.controllers import namespace
from machinery.controllers.garbagecollector import controller as garbage

STATES_SHARE_MIN = {"deployment": 0.98, "replicaset": 1.0, "gc": 1.0, "namespace": 1.0}
EVENTS_SHARE_MIN = {"deployment": 0.9, "replicaset": 1.0, "gc": 1.0, "namespace": 1.0}

KINDS = (*BUILTIN, REPLICATION_CONTROLLER)


def set_up(manager: Manager) -> None:
    """The controllers that are compared, and those that they need."""
    deployment.setup(manager)
    replicaset.setup(manager)
    replicaset.setup_replication_controllers(manager)
    garbage.setup(manager, BUILTIN, (PODS, DEPLOYMENTS, REPLICASETS))
    namespace.setup(manager, BUILTIN)
    serviceaccount.setup(manager)
    rootca.setup(manager, "PEM")


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["deployment", "replicaset", "gc", "namespace"])
async def test_transcripts(name: str) -> None:
    outcomes = await play(name, set_up, kinds=KINDS)
    total = len(outcomes)
    states = sum(1 for o in outcomes if not o.states)
    events = sum(1 for o in outcomes if not o.states and not o.events)
    print(report(outcomes))
    print(f"{name}: {states} of {total} transcripts settle alike, {events} with the same events")
    assert states >= STATES_SHARE_MIN[name] * total, report(outcomes)
    assert events >= EVENTS_SHARE_MIN[name] * total, report(outcomes)
