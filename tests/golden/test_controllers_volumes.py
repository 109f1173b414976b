"""persistentvolume-binder: ours plays the real one's transcripts.

What differs, and why, stands in DIFFERENCES.md.
"""

import pytest
from tests.golden.playing import play, report
from tests.golden.volumes_replay import KINDS, VolumesReplay

from cluster_agent.control.controllers import volumeprotection
from cluster_agent.control.controllers.persistentvolume import controller as persistentvolume
from machinery.controller.manager import Manager
from machinery.server.admission.protection import StorageObjectInUseProtection
from machinery.server.app import Extensions


def set_up(manager: Manager) -> None:
    """The controller that is compared, and the one that lets go what is not used."""
    persistentvolume.setup(manager, KINDS)
    volumeprotection.setup(manager, KINDS)


@pytest.mark.looptime
@pytest.mark.timeout(180)
async def test_transcripts() -> None:
    extensions = Extensions(admission=[StorageObjectInUseProtection()])
    outcomes = await play("pv", set_up, VolumesReplay, KINDS, extensions=extensions)
    assert len(outcomes) == 11
    assert not any(one.states or one.events for one in outcomes), report(outcomes)
