"""The agent's certificate: asked for once, renewed in time and in spite of everything, and replaced after it has expired."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.support.loopclock import LoopClock

from cluster_agent.link.identity import AgentIdentity, CertificateExpired, FederationAccess
from machinery.client.identity import Identity, SigningRefused, expires_at
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Unauthorized
from machinery.server.pki import CertificateAuthority

pytestmark = pytest.mark.looptime
DAY = 86_400.0
LIFE_DAYS = 2


class Signing(AgentIdentity):
    """The federation signs at once, or fails as told; what it was asked with is kept."""

    def __init__(self, directory: Path, clock: LoopClock, token: str = "") -> None:
        self._time, self._ca = clock, CertificateAuthority.create("federation", clock)
        access = FederationAccess("https://127.0.0.1:1", self._ca.certificate_pem, token)
        super().__init__("alpha", access, directory, clock)
        self.asked: list[str] = []
        self.failures: list[Exception] = []

    async def _request(self, context: Any, token: str) -> Identity:
        self.asked.append("token" if token else "certificate")
        if self.failures:
            raise self.failures.pop(0)
        pair = self._ca.issue_client("ubernetes:cluster:alpha", (), LIFE_DAYS)
        return Identity(pair.key, pair.certificate)

    def left(self) -> dt.timedelta:
        held = self._held()
        assert held is not None
        return expires_at(held.certificate) - self._time.now()


async def test_the_token_is_used_once(tmp_path: Path) -> None:
    clock = LoopClock()
    first = Signing(tmp_path, clock, "token")
    await first.obtain()
    await first.obtain()
    assert first.asked == ["token"]
    again = Signing(tmp_path, clock)
    await again.obtain()
    assert again.asked == []


async def test_it_is_renewed_although_the_federation_is_away_for_hours(tmp_path: Path) -> None:
    clock, owner = LoopClock(), TaskOwner()
    identity = Signing(tmp_path, clock, "token")
    await identity.obtain()
    identity.failures = [ConnectionError("cut")] * 200 + [
        SigningRefused("not now"),
        Unauthorized("who?"),
    ]
    _ = owner.spawn(identity.renew_forever(), "renewal")
    await asyncio.sleep(LIFE_DAYS * 0.8 * DAY + 6 * 3600)
    assert identity.failures == []
    assert set(identity.asked[1:]) == {"certificate"}
    assert identity.left() > dt.timedelta(hours=30)
    await owner.close()  # fmt: skip


async def test_an_agent_that_was_away_for_longer_than_its_certificate_says_what_it_needs(
    tmp_path: Path,
) -> None:
    clock = LoopClock()
    await Signing(tmp_path, clock, "token").obtain()
    await asyncio.sleep((LIFE_DAYS + 1) * DAY)
    woken = Signing(tmp_path, clock)
    with pytest.raises(CertificateExpired, match="fedctl join alpha"):
        await woken.obtain()
    assert woken.asked == []
    joined = Signing(tmp_path, clock, "fresh token")
    await joined.obtain()
    assert joined.asked == ["token"]
    assert joined.left() > dt.timedelta(hours=LIFE_DAYS * 24 - 1)
    await woken.obtain()


async def test_a_running_agent_takes_up_the_certificate_that_a_join_has_made(
    tmp_path: Path,
) -> None:
    clock, owner = LoopClock(), TaskOwner()
    running = Signing(tmp_path, clock, "token")
    await running.obtain()
    running._access = FederationAccess("https://127.0.0.1:1", running._ca.certificate_pem)  # noqa: SLF001
    running.failures = [ConnectionError("cut")] * 10_000
    before = running._taken  # noqa: SLF001
    _ = owner.spawn(running.renew_forever(), "renewal")
    await asyncio.sleep((LIFE_DAYS + 1) * DAY)
    assert running._taken == before  # noqa: SLF001
    await Signing(tmp_path, clock, "fresh token").obtain()
    await asyncio.sleep(7200)
    assert running._taken != before  # noqa: SLF001
    await owner.close()
