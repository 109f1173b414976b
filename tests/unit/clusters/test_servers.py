"""Several federation servers announce themselves."""

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from federation.clusters import servers
from machinery.api.core import CONFIGMAPS
from machinery.api.fleet.servers import SERVERS
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import not_found

OWN = [
    ("198.19.0.11:6443", "", "https://198.19.0.11:6443"),
    ("0.0.0.0:6443", "", ""),
    ("[::]:6443", "", ""),
    ("0.0.0.0:6443", "https://fed-1.example:6443", "https://fed-1.example:6443"),
]


@pytest.mark.parametrize(("listen", "given", "url"), OWN)
def test_own_url(listen: str, given: str, url: str) -> None:
    assert servers.own_url(listen, given) == url


def test_an_entry_is_a_key_of_a_configmap() -> None:
    assert servers.entry("https://fed-1.example:6443") == "fed-1.example-6443"
    assert servers.entry("https://[fd00::1]:6443") == ".fd00--1.-6443"


@pytest.mark.looptime
async def test_announced_beside_the_others_and_again_when_it_is_gone() -> None:
    client, clock = FakeClient(), LoopClock()
    client.fail_next("create", not_found("", "namespaces", "ubernetes-system"))
    owner = TaskOwner()
    try:
        for url in ("https://one:1", "https://two:1"):
            _ = owner.spawn(servers.announce(client, clock, url), url)
        await clock.sleep(2)
        held = await client.get(CONFIGMAPS, SERVERS)
        assert held.data == {"one-1": "https://one:1", "two-1": "https://two:1"}
        await client.delete(CONFIGMAPS, SERVERS)
        await clock.sleep(servers.REFRESH_S + 6)
        held = await client.get(CONFIGMAPS, SERVERS)
        assert set(held.data) == {"one-1", "two-1"}
    finally:
        await owner.close()
