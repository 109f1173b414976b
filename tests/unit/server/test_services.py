"""Addresses and ports of Services: exact under races, between servers too, and nothing leaks for ever."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SeededIds
from machinery.meta.errors import InternalError, Invalid, StatusError
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.interface import Admission
from machinery.server.cache import WatchCache
from machinery.server.call import Call, Deletion
from machinery.server.config import ServerConfig
from machinery.server.registry import Registry
from machinery.server.services.allocator import parse_ranges
from machinery.server.services.choosing import Choice, choose
from machinery.server.services.claims import AllocationLost, Claims
from machinery.server.services.families import with_families
from machinery.server.services.ranges import ROOT, AddressRange, PortRange, pick
from machinery.server.user import LOOPBACK
from machinery.store.interface import Row, Store, StoreUnavailable
from machinery.store.memory import MemoryStore

SCHEME = Scheme(BUILTIN)
KIND = SCHEME.by_plural("", "v1", "services")
assert KIND is not None
CALL = Call(LOOPBACK, "test")
SMALL = ServerConfig(service_cidr="10.96.0.0/28", node_ports="30000-30003")


def server(store: Store, config: ServerConfig = SMALL, seed: int = 1) -> Registry:
    """One API server's registry over a store that others may share."""
    cache = WatchCache(store, SCHEME.kinds, config)
    return Registry(store, cache, SCHEME, Admission(()), config, SystemClock(), SeededIds(seed))


@asynccontextmanager
async def memory() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def service(name: str, **spec: Any) -> Document:
    ports = spec.pop("ports", [{"port": 80}])
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": ports, **spec},
    }


async def make(registry: Registry, document: Document, call: Call = CALL) -> Document:
    assert KIND is not None
    return (await registry.create(KIND, document, "demo", call)).read()


async def change(registry: Registry, name: str, **spec: Any) -> Document:
    assert KIND is not None

    def asked(live: Document) -> Document:
        return apply_defaults(KIND, {**live, "spec": {**live["spec"], **spec}})

    return (await registry.change(KIND, "demo", name, asked, CALL)).read()


async def remove(registry: Registry, name: str) -> None:
    assert KIND is not None
    _ = await registry.deleter.delete(KIND, "demo", name, Deletion(), CALL)


def claims_in(store: Store) -> set[str]:
    return {row.key.removeprefix(ROOT) for row in store.list(ROOT).rows}


# ------------------------------------------------------------------------------------------------------------- races
async def test_no_address_is_given_twice_by_two_servers() -> None:
    async with memory() as store:
        servers = [server(store, seed=1), server(store, seed=2)]

        async def attempt(number: int) -> str:
            made = await make(servers[number % 2], service(f"s{number}"))
            return str(made["spec"]["clusterIP"])

        tasks = [asyncio.ensure_future(attempt(number)) for number in range(20)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        given = [text for text in found if isinstance(text, str)]
        refused = [error for error in found if not isinstance(error, str)]
        assert len(given) == len(set(given)) == 13, "a /28 less network, broadcast and the server's"
        assert all(isinstance(e, InternalError) and "range is full" in e.message for e in refused)
        assert "10.96.0.1" not in given
        assert claims_in(store) == {f"serviceips//{text}" for text in given}


async def test_one_of_many_gets_the_address_that_all_ask_for() -> None:
    async with memory() as store:
        servers = [server(store, seed=1), server(store, seed=2)]

        async def attempt(number: int) -> bool:
            try:
                await make(servers[number % 2], service(f"s{number}", clusterIP="10.96.0.9"))
            except Invalid as error:
                assert "provided IP is already allocated" in error.message
                return False
            return True

        found = await asyncio.gather(*(asyncio.ensure_future(attempt(n)) for n in range(12)))
        assert sum(found) == 1


# --------------------------------------------------------------------------------------------------------- give back
async def test_what_a_service_leaves_is_free_again() -> None:
    async with memory() as store:
        registry = server(store)
        made = await make(registry, service("a", type="NodePort"))
        port = made["spec"]["ports"][0]["nodePort"]
        assert f"servicenodeports//{port}" in claims_in(store)
        after = await change(registry, "a", type="ClusterIP")
        assert "nodePort" not in after["spec"]["ports"][0]
        assert claims_in(store) == {f"serviceips//{made['spec']['clusterIP']}"}
        again = await change(registry, "a", type="NodePort", ports=[{"port": 80, "nodePort": port}])
        assert again["spec"]["ports"][0]["nodePort"] == port
        gone = await change(registry, "a", type="ExternalName", externalName="x.example.com")
        assert "clusterIP" not in gone["spec"]
        assert claims_in(store) == set()
        back = await change(registry, "a", type="ClusterIP")
        assert claims_in(store) == {f"serviceips//{back['spec']['clusterIP']}"}
        await remove(registry, "a")
        assert claims_in(store) == set()


async def test_a_rehearsal_claims_nothing_and_headless_has_nothing() -> None:
    async with memory() as store:
        registry = server(store)
        tried = await make(
            registry, service("a", type="NodePort"), Call(LOOPBACK, "test", dry_run=True)
        )
        assert ipaddress.ip_address(tried["spec"]["clusterIP"]) in ipaddress.ip_network(
            "10.96.0.0/28"
        )
        made = await make(registry, service("b", clusterIP="None", selector={"a": "b"}))
        assert made["spec"]["clusterIPs"] == ["None"]
        assert claims_in(store) == set()


async def test_a_refused_object_keeps_nothing() -> None:
    async with memory() as store:
        registry = server(store)
        with pytest.raises(Invalid):
            await make(registry, service("a", sessionAffinity="X"))
        await make(registry, service("a"))
        with pytest.raises(StatusError):
            await make(registry, service("a"))
        assert len(claims_in(store)) == 1


class Failing(MemoryStore):
    """Refuses to write what is under `prefix`."""

    prefix = ""

    async def create(self, key: str, value: bytes, *more: Any) -> Row:
        if self.prefix and key.startswith(self.prefix):
            raise StoreUnavailable("no disk")
        return await super().create(key, value, *more)


async def test_a_store_that_does_not_take_the_service_leaves_no_claim() -> None:
    store = Failing()
    await store.start()
    store.prefix = "/registry/core/services/"
    with pytest.raises(StatusError, match="unavailable"):
        await make(server(store), service("a"))
    assert claims_in(store) == set()
    await store.close()


# ------------------------------------------------------------------------------------------------------------ repair
async def test_repair_gives_back_what_a_crash_left_and_claims_what_is_used() -> None:
    async with memory() as store:
        registry = server(store)
        made = await make(registry, service("a"))
        held = f"{ROOT}serviceips//{made['spec']['clusterIP']}"
        leaked = f"{ROOT}serviceips//10.96.0.14"
        _ = await Claims(store).take([leaked], ObjectKey("demo", "killed"))
        row = store.get(held)
        assert row is not None
        _ = await store.delete(held, row.revision)
        assert registry.services is not None
        await registry.services.repair()
        assert claims_in(store) == {held.removeprefix(ROOT), leaked.removeprefix(ROOT)}
        await registry.services.repair()
        assert claims_in(store) == {held.removeprefix(ROOT)}


async def test_a_retry_after_a_crash_takes_its_own_claim_over() -> None:
    async with memory() as store:
        key = f"{ROOT}serviceips//10.96.0.9"
        _ = await Claims(store).take([key], ObjectKey("demo", "a"))
        registry = server(store)
        with pytest.raises(Invalid, match="already allocated"):
            await make(registry, service("b", clusterIP="10.96.0.9"))
        made = await make(registry, service("a", clusterIP="10.96.0.9"))
        assert made["spec"]["clusterIP"] == "10.96.0.9"


async def test_who_takes_a_claim_over_keeps_it_from_who_gives_it_back() -> None:
    async with memory() as store:
        claims, owner = Claims(store), ObjectKey("demo", "a")
        key = f"{ROOT}servicenodeports//30000"
        before = await claims.take([key], owner)
        _ = await claims.take([key], owner)
        await claims.give_back(before)
        assert store.get(key) is not None
        with pytest.raises(AllocationLost):
            _ = await claims.take([key], ObjectKey("demo", "b"))


# -------------------------------------------------------------------------------------------------------- the choices
def choice(**given: Any) -> Choice:
    usual: Mapping[str, Any] = {
        "addresses": parse_ranges("10.96.0.0/16"),
        "ports": PortRange(),
        "taken": lambda _key: False,
        "pending": lambda _key: False,
        "draw": lambda _below: 0,
    }
    return Choice(**{**usual, **given})


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param([{"port": 80}], [30086], id="chosen-above-the-static-band"),
        pytest.param(
            [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], [30086, 30086],
            id="one-number-for-both-protocols",
        ),
        pytest.param(
            [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}],
            [30053, 30053], id="a-later-wish-counts-for-both",
        ),
        pytest.param([{"port": 1}, {"port": 2}], [30086, 30087], id="two-ports-two-numbers"),
    ],
)  # fmt: skip
def test_node_ports(ports: list[Document], expected: list[int]) -> None:
    spec = choose({"type": "NodePort", "ports": ports}, None, "s", choice())
    assert [port["nodePort"] for port in spec["ports"]] == expected


@pytest.mark.parametrize(
    ("number", "rehearsal", "message"),
    [
        (80, False, "not in the valid range. The range of valid ports is 30000-32767"),
        (30080, False, "provided port is already allocated"),
        (80, True, ""),
    ],
)
def test_a_node_port_that_cannot_be_had(number: int, rehearsal: bool, message: str) -> None:
    taken = choice(taken=lambda key: key.endswith("30080"), rehearsal=rehearsal)
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
    if not message:
        assert choose(spec, None, "s", taken)["ports"] == spec["ports"]
        return
    with pytest.raises(Invalid, match=message):
        choose(spec, None, "s", taken)


def test_a_full_range_says_so() -> None:
    with pytest.raises(InternalError, match="failed to allocate a serviceIP: range is full"):
        spec = {"type": "ClusterIP", "ipFamilies": ["IPv4"], "ports": [{"port": 1}]}
        choose(spec, None, "s", choice(taken=lambda _key: True))


def test_the_last_free_value_is_found() -> None:
    held = AddressRange.parse("10.96.0.0/20")
    free = held.key("10.96.15.254")
    assert pick(held, lambda key: key != free, lambda _below: 0) == "10.96.15.254"
    assert pick(held, lambda _key: True, lambda _below: 0) is None


@pytest.mark.parametrize(
    ("spec", "configured", "families", "policy"),
    [
        ({}, ("IPv4",), ["IPv4"], "SingleStack"),
        ({}, ("IPv4", "IPv6"), ["IPv4"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ("IPv4",), ["IPv4"], "PreferDualStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ("IPv6", "IPv4"), ["IPv6", "IPv4"], "PreferDualStack"),
        ({"ipFamilies": ["IPv6", "IPv4"]}, ("IPv4", "IPv6"), ["IPv6", "IPv4"], "RequireDualStack"),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, ("IPv4",), ["IPv4", "IPv6"], "RequireDualStack"),
        ({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}, ("IPv4", "IPv6"), ["IPv6"], "SingleStack"),
    ],
)  # fmt: skip
def test_families(
    spec: Document, configured: tuple[str, ...], families: list[str], policy: str
) -> None:
    found = with_families({"type": "ClusterIP", **spec}, None, configured, "s")
    assert (found["ipFamilies"], found["ipFamilyPolicy"]) == (families, policy)


async def test_dual_stack_gets_an_address_of_each_family() -> None:
    async with memory() as store:
        registry = server(store, ServerConfig(service_cidr="10.96.0.0/24,fd00::/112"))
        made = await make(registry, service("a", ipFamilyPolicy="RequireDualStack"))
        assert [":" in text for text in made["spec"]["clusterIPs"]] == [False, True]
        less = await change(registry, "a", ipFamilyPolicy="SingleStack")
        assert less["spec"]["clusterIPs"] == made["spec"]["clusterIPs"][:1]
        assert claims_in(store) == {f"serviceips//{made['spec']['clusterIP']}"}


async def test_templates_have_an_address_to_show_and_keep_one_of_another_cluster() -> None:
    async with memory() as store:
        config = ServerConfig(service_cidr="240.0.0.0/28,100::/96", service_templates=True)
        registry = server(store, config)
        both = await make(registry, service("a", ipFamilyPolicy="RequireDualStack"))
        assert [text[:3] for text in both["spec"]["clusterIPs"]] == ["240", "100"]
        copied = service("b", clusterIP="10.96.0.9")
        for name in ("b", "c"):
            made = await make(registry, copied | {"metadata": {"name": name}})
            assert made["spec"]["clusterIPs"] == ["10.96.0.9"]
        kept = await change(registry, "b", sessionAffinity="ClientIP")
        assert kept["spec"]["clusterIP"] == "10.96.0.9"
        headless = await make(registry, service("d", clusterIP="None"))
        assert headless["spec"]["clusterIPs"] == ["None"]
        assert claims_in(store) == {f"serviceips//{text}" for text in both["spec"]["clusterIPs"]}
        with pytest.raises(Invalid, match="already allocated"):
            await make(registry, service("e", clusterIP=both["spec"]["clusterIP"]))
        assert registry.services is not None
        assert registry.services.own_address == ""


async def test_templates_of_before_there_was_a_range_have_an_address_from_their_next_write_on() -> (
    None
):
    async with memory() as store:
        made = await make(server(store, ServerConfig(service_cidr="")), service("a"))
        assert "clusterIP" not in made["spec"]
        registry = server(store, ServerConfig(service_templates=True))
        assert (await change(registry, "a"))["spec"]["clusterIP"].startswith("10.96.")


async def test_without_a_range_services_have_no_address() -> None:
    async with memory() as store:
        made = await make(server(store, ServerConfig(service_cidr="")), service("a"))
        assert "clusterIP" not in made["spec"]
        assert claims_in(store) == set()
