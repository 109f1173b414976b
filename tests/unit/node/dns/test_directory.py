"""Changes: every sequence of them leads to what a fresh start would say, and each touches only its own names."""

import random
from dataclasses import replace
from typing import Any

from tests.unit.node.dns.dnsworld import CONFIG, SERVICES, SLICES, STATE, World

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.directory import Directory
from cluster_agent.node.dns.model import Endpoint, PodName, Service, ServiceName, Slice, State

NAMES = [
    (name, qtype)
    for service in SERVICES
    for zone in ("cluster.local", "clusterset.local")
    for name in (f"{service.name}.{service.namespace}.svc.{zone}",)
    for qtype in ("A", "AAAA", "SRV")
] + [
    (f"{ip}.in-addr.arpa", "PTR")
    for ip in ("20.0.96.10", "7.1.244.10", "5.1.244.10", "6.1.244.10", "1.2.244.10", "2.2.244.10", "1.4.244.10")
]  # fmt: skip


def told(directory: Directory) -> list[object]:
    found = [directory.lookup(wire.name_of(n), wire.A if t == "A" else {"AAAA": wire.AAAA, "SRV": wire.SRV, "PTR": wire.PTR}[t]) for n, t in NAMES]  # fmt: skip
    return [(f.found.rcode, sorted(f.found.answer)) if f is not None else None for f in found]


def fresh(state: State) -> list[object]:
    directory = Directory(CONFIG)
    directory.set_state(state)
    return told(directory)


def test_any_order_of_changes_leads_to_the_same_names() -> None:
    rng = random.Random(5)
    directory = Directory(CONFIG)
    directory.mark_ready()
    directory.mark_ready(imported=True)
    services = {s.key: s for s in SERVICES}
    there: dict[ServiceName, Service] = {}
    slices: dict[tuple[str, str], Slice] = {}
    for step in range(600):
        if rng.random() < 0.5:
            key = rng.choice(list(services))
            if rng.random() < 0.4:
                directory.remove_service(key)
                there.pop(key, None)
            else:
                flip = rng.random() < 0.5
                there[key] = replace(services[key], publish_not_ready=flip)
                directory.put_service(there[key])
        else:
            slice_key = rng.choice(list(SLICES))
            if rng.random() < 0.4:
                directory.remove_slice(slice_key)
                slices.pop(slice_key, None)
            else:
                given = SLICES[slice_key]
                kept = tuple(e for e in given.endpoints if rng.random() < 0.7)
                slices[slice_key] = replace(given, endpoints=kept)
                directory.put_slice(slice_key, slices[slice_key])
        if step % 20 == 0:
            assert told(directory) == fresh(State(tuple(there.values()), dict(slices)))
    assert told(directory) == fresh(State(tuple(there.values()), dict(slices)))


def test_set_state_replaces_everything() -> None:
    directory = Directory(CONFIG)
    directory.set_state(STATE)
    other = State(SERVICES[:4], {k: s for k, s in SLICES.items() if s.service == "db"})
    directory.set_state(other)
    assert told(directory) == fresh(other)
    directory.set_state(State())
    assert told(directory) == fresh(State())
    directory.set_state(STATE)
    assert told(directory) == fresh(STATE)


def test_a_slice_may_move_to_another_service() -> None:
    world = World()
    moved = replace(SLICES["demo", "db-1"], service="none")
    world.directory.put_slice(("demo", "db-1"), moved)
    assert world.ask("db-0.none.demo.svc.cluster.local", "A")[0] == "NOERROR"
    assert world.ask("db.demo.svc.cluster.local", "A")[0] == "NODATA"


def test_an_answer_that_was_kept_does_not_outlive_a_change() -> None:
    world = World()
    name = "web.demo.svc.cluster.local"
    before = world.ask(name, "A")
    world.directory.put_service(replace(SERVICES[0], ips=("10.96.0.99",)))
    assert world.ask(name, "A") == ("NOERROR", [f"{name}. A 10.96.0.99"]) != before
    world.directory.remove_service(SERVICES[0].key)
    assert world.ask(name, "A")[0] == "NXDOMAIN"
    assert world.ask("20.0.96.10.in-addr.arpa", "PTR")[0] == "NXDOMAIN"


def test_what_is_equal_changes_nothing() -> None:
    directory = Directory(CONFIG)
    directory.set_state(STATE)
    before = directory.generation
    for service in SERVICES:
        directory.put_service(replace(service))
    for key, slice_ in SLICES.items():
        directory.put_slice(key, replace(slice_))
    directory.put_namespace("demo")
    directory.put_pod(PodName("demo", "db-0"), ("10.244.1.7",))
    directory.remove_pod(PodName("demo", "never"))
    assert directory.generation == before


def test_one_address_of_several_services_has_several_reverse_names() -> None:
    world = World()
    second = Service("demo", "second", headless=True)
    world.directory.put_service(second)
    world.directory.put_slice(
        ("demo", "s"), Slice("demo", "second", (Endpoint(("10.244.1.7",), hostname="x"),))
    )
    name = "7.1.244.10.in-addr.arpa"
    assert world.ask(name, "PTR")[1] == [
        f"{name}. PTR db-0.db.demo.svc.cluster.local.",
        f"{name}. PTR x.second.demo.svc.cluster.local.",
    ]
    world.directory.remove_service(second.key)
    assert len(world.ask(name, "PTR")[1]) == 1


def test_pods_come_and_go() -> None:
    world = World()
    name = "10-244-1-7.demo.pod.cluster.local"
    host = PodName("demo", "twin")
    world.directory.put_pod(host, ("10.244.1.7",))
    world.directory.remove_pod(PodName("demo", "db-0"))
    assert world.ask(name, "A")[0] == "NOERROR"
    world.directory.put_pod(host, ("10.244.1.8",))
    assert world.ask(name, "A")[0] == "NXDOMAIN"
    assert world.ask("10-244-1-8.demo.pod.cluster.local", "A")[0] == "NOERROR"
    world.directory.put_pod(host, ())
    assert world.ask("10-244-1-8.demo.pod.cluster.local", "A")[0] == "NXDOMAIN"


def test_namespaces_come_and_go() -> None:
    world = World()
    assert world.ask("later.svc.cluster.local", "A")[0] == "NXDOMAIN"
    world.directory.put_namespace("later")
    assert world.ask("later.svc.cluster.local", "A")[0] == "NODATA"
    world.directory.remove_namespace("later")
    assert world.ask("later.svc.cluster.local", "A")[0] == "NXDOMAIN"


def test_the_serial_grows_with_every_change() -> None:
    world = World()

    def serial() -> int:
        (soa,) = world.response("cluster.local", "SOA").answer
        return int.from_bytes(soa.rdata[-20:-16], "big")

    first = serial()
    world.directory.put_namespace("later")
    assert serial() == first + 1


def test_a_change_costs_the_same_among_many_services() -> None:
    """Counted in work, not in time: thirty thousand Services are not looked at for one change."""

    class Counted(dict[Any, Any]):
        looks = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counted.looks += 1
            return super().__iter__()

    directory = Directory(CONFIG)
    for i in range(3_000):
        directory.put_service(Service("demo", f"s{i}", (f"10.96.{i // 250}.{i % 250}",)))
    directory.mark_ready()
    directory._services = Counted(directory._services)
    directory._views = Counted(directory._views)
    directory._services_at = Counted(directory._services_at)
    for i in range(1_000):
        directory.put_service(Service("demo", "s7", (f"10.97.{i // 250}.{i % 250}",)))
        assert directory.lookup(wire.name_of("s7.demo.svc.cluster.local"), wire.A) is not None
    assert Counted.looks == 0
