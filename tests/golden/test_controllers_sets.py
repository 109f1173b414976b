"""StatefulSet and DaemonSet: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import pytest
from tests.golden.playing import play, report
from tests.golden.sets_replay import KINDS, SetsReplay

from cluster_agent.control.controllers import serviceaccount
from cluster_agent.control.controllers.daemonset import controller as daemonset
from cluster_agent.control.controllers.statefulset import controller as statefulset
from machinery.api.core import NODES, PODS
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage

STATES_SHARE_MIN = {"statefulset": 0.95, "daemonset": 1.0}
EVENTS_SHARE_MIN = {"statefulset": 0.95, "daemonset": 1.0}


def set_up(manager: Manager) -> None:
    """The controllers that are compared, and those that they need."""
    statefulset.setup(manager, KINDS)
    daemonset.setup(manager)
    garbage.setup(manager, KINDS, (PODS, NODES))
    serviceaccount.setup(manager)


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["statefulset", "daemonset"])
async def test_transcripts(name: str) -> None:
    outcomes = await play(name, set_up, SetsReplay, KINDS)
    total = len(outcomes)
    states = sum(1 for o in outcomes if not o.states)
    events = sum(1 for o in outcomes if not o.states and not o.events)
    print(report(outcomes))
    print(f"{name}: {states} of {total} transcripts settle alike, {events} with the same events")
    assert states >= STATES_SHARE_MIN[name] * total, report(outcomes)
    assert events >= EVENTS_SHARE_MIN[name] * total, report(outcomes)
