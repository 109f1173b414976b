"""Failback begins in maintenance windows only, and no faster than a policy's own rate."""

import asyncio

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, TWO, Fleet, play

from federation.controllers.failback import Wish, begins
from federation.simulator.server import STABILIZATION_S
from machinery.api.fleet.resilience import FEDERATION_CONFIGS
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.errors import Invalid

BLANK = msgspec.convert({}, ResourceBinding)
GO, STAY = Wish({"alpha": 1}), Wish()


def of(policy: str) -> Wish:
    return Wish({"alpha": 1}, policy=policy)


@pytest.mark.parametrize(
    ("wishes", "quota", "own", "begun"),
    [
        ([GO, STAY, GO, GO], 2, {}, "x-x-"),
        ([GO, of("slow"), of("slow"), GO], 9, {"slow": (1, 5.0)}, "xx-x"),
        ([of("slow"), of("slow"), GO], 2, {"slow": (1, 5.0)}, "x-x"),
        ([of("none"), of("two"), of("two"), of("two")], 9, {"none": (0, 9.0), "two": (2, 0.0)}, "-xx-"),
        ([of("fast"), of("fast")], 1, {"fast": (60, 0.0)}, "x-"),
    ],
)  # fmt: skip
def test_as_many_begin_as_all_quotas_have(
    wishes: list[Wish], quota: int, own: dict[str, tuple[int, float]], begun: str
) -> None:
    found = begins([(BLANK, wish) for wish in wishes], quota, own)
    assert "".join("x" if may else "-" for may in found) == begun


def test_it_goes_back_when_the_window_opens() -> None:
    async def story(fleet: Fleet) -> None:  # histories begin at midnight, UTC
        window = {"start": "00:10", "end": "00:20"}
        await fleet.policy(failback={"windows": [window]})
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(20)
        assert await fleet.divided() == TWO
        fleet.members["alpha"].start()
        await asyncio.sleep(STABILIZATION_S + 60)
        assert await fleet.divided() == TWO
        assert await fleet.pass_time(600 - fleet.clock.monotonic() + 25) == 6
        assert await fleet.divided() == EVEN

    play(story)


def test_a_time_zone_that_nobody_knows_is_refused() -> None:
    async def story(fleet: Fleet) -> None:
        with pytest.raises(Invalid, match="unknown time zone 'Mars/Olympus'"):
            await fleet.configure(failback={"timeZone": "Mars/Olympus"})
        with pytest.raises(Invalid, match="spec.failback.windows"):
            await fleet.configure(failback={"windows": [{"start": "25:00", "end": "01:00"}]})
        await fleet.configure(failback={"timeZone": "Asia/Tokyo"})
        assert len((await fleet.client.list(FEDERATION_CONFIGS)).items) == 1

    play(story)
