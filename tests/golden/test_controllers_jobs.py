"""Job and CronJob: our controllers play the real ones' transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import pytest
from tests.golden.jobs_replay import JobReplay
from tests.golden.playing import play, report

from cluster_agent.control.controllers import ttlafterfinished
from cluster_agent.control.controllers.batch import CRONJOBS, JOBS
from cluster_agent.control.controllers.cronjob import controller as cronjob
from cluster_agent.control.controllers.job import controller as job
from machinery.api.core import PODS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage

KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
STATES_DIFFER = {
    "job-fuzz-17": "the real server refuses a status of the real controller, which then stays behind",
}
EVENTS_DIFFER = {
    "cron-failed-history": "the real controller takes a Job that it deleted itself for one that went missing",
    "cron-history": "two Jobs end at once, and the real controller sees them together",
}
"""By id, the reason."""


def set_up(manager: Manager) -> None:
    """The controllers that are compared, and those that they need."""
    job.setup(manager)
    cronjob.setup(manager)
    ttlafterfinished.setup(manager)
    garbage.setup(manager, KINDS, (PODS, JOBS, CRONJOBS))


@pytest.mark.looptime
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["job", "cronjob"])
async def test_transcripts(name: str) -> None:
    outcomes = await play(name, set_up, JobReplay, KINDS)
    states = {o.id for o in outcomes if o.states}
    events = {o.id for o in outcomes if o.events and not o.states}
    print(report(outcomes))
    listed = {o.id for o in outcomes} & STATES_DIFFER.keys()
    told = {o.id for o in outcomes} & EVENTS_DIFFER.keys()
    assert (states, events) == (listed, told)
