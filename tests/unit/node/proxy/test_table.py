"""Steps of a table over the twin of nftables: what ends up in it, and by how few commands."""

import random

import pytest
from tests.unit.node.proxy.nodes import CONFIG, contents, endpoint, service, table

from cluster_agent.node.proxy.affinity import forget, stale
from cluster_agent.node.proxy.layout import TABLE
from cluster_agent.node.proxy.model import ProxyConfig, Service, ServicePort
from cluster_agent.node.proxy.nft import NftError
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.plan import Address, plan_load
from cluster_agent.node.proxy.table import FamilyTable

VIP = "10.96.0.1"


def test_a_full_load_in_its_order() -> None:
    made, nft = table()
    step = made.step({"a": service(VIP, 2)}, 0.0)
    assert step.full
    assert step.transactions == 3
    prepare, elements, switch = nft.applied
    assert not [c for c in prepare if c.startswith("add rule")]
    assert all(c.startswith("add element") for c in elements)
    assert [c for c in switch if c.startswith("add rule")]
    assert contents(nft) == {
        "vip1-tcp": {f"{VIP} . 80": "10.77.1.2 . 8080"},
        "fronts-vip": {f"{VIP} . tcp . 80": ""},
        "cluster-ips": {VIP: ""},
        "hairpin": {"10.77.1.2 . 10.77.1.2": ""},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (service(VIP), {"closed-vip": {f"{VIP} . tcp . 80": "goto refuse"}}),
        (
            service(VIP, 2, node="there", internal_local=True),
            {"closed-vip": {f"{VIP} . tcp . 80": "drop"}},
        ),
        (
            service(VIP, 2, node="there", node_port=30_000, external_local=True),
            {
                "vip1-tcp": {f"{VIP} . 80": "10.77.1.2 . 8080"},
                "port1-tcp": {"30000": "10.77.1.2 . 8080"},
                "closed-outport": {"tcp . 30000": "drop"},
            },
        ),
        (
            service(VIP, 2, external_ips=("192.0.2.1",), external_local=True),
            {
                "vip1-tcp": {
                    f"{VIP} . 80": "10.77.1.2 . 8080",
                    "192.0.2.1 . 80": "10.77.1.2 . 8080",
                },
                "outvip1-tcp": {"192.0.2.1 . 80": "10.77.1.2 . 8080"},
            },
        ),
        (
            service(VIP, 2, affinity_s=600, node_port=30_000),
            {
                "sticky-vip-600": {f"{VIP} . tcp . 80": ""},
                "sticky-port-600": {"tcp . 30000": ""},
                "vip1-tcp": {f"{VIP} . 80": "10.77.1.2 . 8080"},
                "port1-tcp": {"30000": "10.77.1.2 . 8080"},
            },
        ),
        (
            service(VIP, 2, protocol="udp"),
            {"vip1-udp": {f"{VIP} . 80": "10.77.1.2 . 8080"}},
        ),
    ],
    ids=["no endpoints", "internal Local", "external Local", "external ip", "affinity", "udp"],
)
def test_what_a_service_puts_into_the_table(
    given: Service, expected: dict[str, dict[str, str]]
) -> None:
    made, nft = table()
    made.step({"a": given}, 0.0)
    common = ("fronts-vip", "fronts-port", "cluster-ips", "hairpin")
    assert {k: v for k, v in contents(nft).items() if k not in common} == expected


def test_an_endpoint_that_flaps_touches_only_its_slots() -> None:
    made, nft = table()
    made.step({"a": service(VIP, 2, 3, 4, 5), "b": service("10.96.0.2", 2, 3)}, 0.0)
    before = contents(nft)["vip16-tcp"]
    nft.applied.clear()
    made.step({"a": service(VIP, 2, 3, 4, 5, 6, 7, 8, 9)}, 0.0)
    after = contents(nft)["vip16-tcp"]
    assert sum(before[key] != after[key] for key in before) == 8
    assert len(nft.applied) == 1
    touched = [c for c in nft.applied[0] if "vip16" in c]
    assert [c.split()[0] for c in touched] == ["delete", "add"]
    assert all(c.count(f"{VIP} . 80") == 8 for c in touched)


def test_nothing_to_do_sends_nothing() -> None:
    made, nft = table()
    made.step({"a": service(VIP, 2, 3)}, 0.0)
    nft.applied.clear()
    assert made.step({"a": service(VIP, 2, 3)}, 0.0).transactions == 0
    assert nft.applied == []


def test_a_class_change_is_one_transaction() -> None:
    made, nft = table()
    made.step({"a": service(VIP, 2, 3)}, 0.0)
    nft.applied.clear()
    made.step({"a": service(VIP, 2, 3, 4)}, 0.0)
    assert len(nft.applied) == 1
    assert set(contents(nft)) & {"vip16-tcp", "vip128-tcp"} == {"vip128-tcp"}
    assert len(contents(nft)["vip128-tcp"]) == 128


def random_service(dice: random.Random, number: int) -> Service | None:
    if dice.random() < 0.15:
        return None
    count = dice.choice([0, 1, 1, 2, 3, 3, 4, 6])
    ends = tuple(
        endpoint(n, weight=dice.choice([1, 1, 3]), node=dice.choice(["here", "there"]))
        for n in dice.sample(range(2, 30), count)
    )
    ports = [
        ServicePort(80, dice.choice(["tcp", "udp"]), node_port=30_000 + number, endpoints=ends)
    ]
    if dice.random() < 0.3:
        ports.append(ServicePort(443, "tcp", endpoints=ends[:1]))
    return Service(
        (f"10.96.0.{number}",),
        tuple(ports),
        external_ips=(f"192.0.2.{dice.randint(1, 3)}",) if dice.random() < 0.2 else (),
        affinity_s=dice.choice([0, 0, 600, 10_800]),
        internal_local=dice.random() < 0.2,
        external_local=dice.random() < 0.3,
    )


@pytest.mark.parametrize("seed", range(8))
def test_step_by_step_equals_a_fresh_load(seed: int) -> None:
    dice = random.Random(seed)
    made, nft = table()
    for turn in range(25):
        changes = {f"s{n}": random_service(dice, n) for n in dice.sample(range(1, 12), 3)}
        made.step(changes, float(turn * 20))
    assert made.loads == 1, "the kernel refused a step"
    fresh = MemoryNft()
    for transaction in plan_load(made.ledger, made.frame, []):
        fresh.apply(transaction)
    assert contents(nft) == contents(fresh)
    listed = dict(nft.tables["ip", TABLE].chains)
    rules = {name: sorted(rules) for name, (_, rules) in listed.items() if name == "remember"}
    assert rules == {"remember": sorted(fresh.tables["ip", TABLE].chains["remember"][1])}


@pytest.mark.parametrize("seed", range(3))
def test_history_leaves_no_trace_but_in_the_order_of_slots(seed: int) -> None:
    dice = random.Random(100 + seed)
    made, _ = table()
    last: dict[str, Service] = {}
    for turn in range(20):
        number = dice.randint(1, 9)
        one = random_service(dice, number)
        made.step({f"s{number}": one}, float(turn))
        last.pop(f"s{number}", None)
        if one is not None:
            last[f"s{number}"] = one
    other, _ = table()
    other.step(last, 0.0)
    taken = {a for a in made.ledger.owners if made.ledger.owners[a] == other.ledger.owners.get(a)}
    assert made.ledger.owners.keys() == other.ledger.owners.keys()
    for address in taken:
        key = made.ledger.owners[address]
        mine, fresh = made.ledger.entries[key], other.ledger.entries[key]
        assert mine.targets(address) == fresh.targets(address)
    assert made.ledger.shared.keys() == other.ledger.shared.keys()


def test_two_services_on_one_address_the_first_keeps_it() -> None:
    made, nft = table()
    shared = ("192.0.2.1",)
    made.step({"z": service(VIP, 2, external_ips=shared)}, 0.0)
    step = made.step({"a": service("10.96.0.2", 3, external_ips=shared)}, 0.0)
    assert [(n.service, n.reason) for n in step.notes] == [("a", "AddressInUse")]
    assert contents(nft)["vip1-tcp"]["192.0.2.1 . 80"] == "10.77.1.2 . 8080"
    assert made.step({"z": None}, 0.0).notes == ()
    assert contents(nft)["vip1-tcp"] == {
        "192.0.2.1 . 80": "10.77.1.3 . 8080",
        "10.96.0.2 . 80": "10.77.1.3 . 8080",
    }
    made.step({"a": None}, 0.0)
    assert contents(nft) == {}


def test_an_address_moves_between_services_in_one_step() -> None:
    made, nft = table()
    made.step({"b": service(VIP, 2)}, 0.0)
    step = made.step({"a": service(VIP, 3), "b": None}, 0.0)
    assert (step.full, step.notes) == (False, ())
    assert contents(nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.3 . 8080"}
    assert contents(nft)["cluster-ips"] == {VIP: ""}


def test_a_refused_step_loads_everything_anew() -> None:
    made, nft = table()
    made.step({"a": service(VIP, 2)}, 0.0)
    nft.refuse_next = "No such file or directory"
    step = made.step({"a": service(VIP, 3)}, 0.0)
    assert step.full
    assert contents(nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.3 . 8080"}
    names = [name for what, name in nft.form("ip").objects if what != "chain"]
    assert {name.rpartition("-")[2] for name in names} == {"2", "affinity"}


def test_a_load_that_fails_is_repeated_by_the_next_step() -> None:
    made, nft = table()
    nft.refuse_next = "Device or resource busy"
    with pytest.raises(NftError, match="busy"):
        made.step({"a": service(VIP, 2, protocol="udp")}, 0.0)
    step = made.step({}, 0.0)
    assert step.full
    assert contents(nft)["vip1-udp"] == {f"{VIP} . 80": "10.77.1.2 . 8080"}
    assert step.flows == {Address(VIP, "udp", 80): frozenset({"10.77.1.2 . 8080"})}


def test_the_table_of_an_older_version_is_taken_over() -> None:
    nft = MemoryNft()
    mine, other = f"ip {TABLE}", "ip ubernetes-other"
    nft.apply(
        (
            f"add table {other}",
            f"add set {other} keep {{ type ipv4_addr ; }}",
            f"add table {mine}",
            f"add map {mine} ancient-7 {{ type ipv4_addr : verdict ; }}",
            f"add chain {mine} old-helper",
            f"add chain {mine} old {{ type nat hook prerouting priority -100 ; policy accept ; }}",
            f"add rule {mine} old ip daddr vmap @ancient-7",
            f"add element {mine} ancient-7 {{ 10.96.0.9 : goto old-helper }}",
        )
    )
    made, _ = table(nft)
    made.step({"a": service(VIP, 2)}, 0.0)
    names = {name for _, name in nft.form("ip").objects}
    assert names.isdisjoint({"ancient-7", "old", "old-helper"})
    assert "vip1-tcp-8" in names
    assert nft.tables["ip", "ubernetes-other"].holders.keys() == {"keep"}
    made.remove()
    assert set(nft.tables) == {("ip", "ubernetes-other")}


def test_tampering_is_seen() -> None:
    made, nft = table()
    made.step({"a": service(VIP, 2)}, 0.0)
    assert made.intact()
    nft.apply((f"flush chain ip {TABLE} services",))
    assert not made.intact()
    assert made.step({}, 0.0).full
    assert made.intact()


@pytest.mark.parametrize(
    ("before", "after", "flows"),
    [
        (service(VIP, 2, protocol="udp"), service(VIP, 3, protocol="udp"), {"10.77.1.3 . 8080"}),
        (service(VIP, 2, protocol="udp"), service(VIP, protocol="udp"), set()),
        (service(VIP, protocol="udp"), service(VIP, 2, protocol="udp"), {"10.77.1.2 . 8080"}),
        (service(VIP, 2, protocol="udp"), None, set()),
        (service(VIP, 2, protocol="udp"), service(VIP, 2, protocol="udp"), None),
        (service(VIP, 2), service(VIP, 3), {"10.77.1.3 . 8080"}),
        (service(VIP, 2, 3), service(VIP, 3), {"10.77.1.3 . 8080"}),
        (service(VIP, 2), None, set()),
        (service(VIP, 2), service(VIP, 2, 3), None),
        (service(VIP), service(VIP, 2), None),
    ],
    ids=[
        "other endpoint", "to zero", "from zero", "service gone", "no change",
        "tcp: other endpoint", "tcp: one went", "tcp: service gone", "tcp: one more", "tcp: from zero",
    ],
)  # fmt: skip
def test_addresses_whose_connections_must_be_looked_at(
    before: Service, after: Service | None, flows: set[str] | None
) -> None:
    made, _ = table()
    made.step({"a": before}, 0.0)
    step = made.step({"a": after}, 0.0)
    address = Address(VIP, before.ports[0].protocol, 80)
    assert step.flows == ({} if flows is None else {address: frozenset(flows)})


def test_remembered_clients_of_a_lost_endpoint_are_forgotten() -> None:
    made, nft = table()
    made.step(
        {"a": service(VIP, 2, 3, affinity_s=600, node_port=30_000), "b": service("10.96.0.2", 2)},
        0.0,
    )
    clients = {
        f"10.77.1.9 . {VIP} . tcp . 80": "10.77.1.2 . 8080",
        f"10.77.1.8 . {VIP} . tcp . 80": "10.77.1.3 . 8080",
        "192.0.2.7 . 172.31.9.1 . tcp . 30000": "10.77.1.2 . 8080",
    }
    nft.apply(tuple(f"add element ip {TABLE} affinity {{ {k} : {v} }}" for k, v in clients.items()))
    assert stale(nft.clients(), made.ledger) == []
    made.step({"a": service(VIP, 3, affinity_s=600, node_port=30_000)}, 0.0)
    assert contents(nft)["affinity"] == {f"10.77.1.8 . {VIP} . tcp . 80": "10.77.1.3 . 8080"}
    made.step({"a": service(VIP, 3, node_port=30_000)}, 0.0)
    assert "affinity" not in contents(nft)
    assert forget([], made.frame) == ()


def test_too_many_endpoints_are_noted_once() -> None:
    made, _ = table()
    ends = tuple(endpoint(n % 250) for n in range(2))
    many = tuple(
        type(ends[0])(f"10.{n // 60_000 + 1}.{n // 250 % 240}.{n % 250}", 80) for n in range(1_100)
    )
    big = Service((VIP,), (ServicePort(80, endpoints=many),))
    notes = made.step({"a": big}, 0.0).notes
    assert [n.reason for n in notes] == ["EndpointsTruncated"]
    assert "76 endpoints more than the 1024" in notes[0].message
    fewer = Service((VIP,), (ServicePort(80, endpoints=many[:-1]),))
    assert made.step({"a": fewer}, 0.0).notes == ()


def test_ipv6_has_a_table_of_its_own() -> None:
    nft = MemoryNft()
    config = ProxyConfig("here", ("10.77.1.0/24", "fd77::/64"), bridge_filters=True)
    six = FamilyTable("ip6", config, nft)
    four = FamilyTable("ip", config, nft)
    both = Service(
        (VIP, "fd96::1"),
        (ServicePort(80, endpoints=(endpoint(2), type(endpoint(2))("fd77::2", 80))),),
        affinity_s=600,
    )
    for made in (four, six):
        made.step({"a": both}, 0.0)
    held = {n: h.elements for n, h in nft.tables["ip6", TABLE].holders.items() if h.elements}
    assert held == {
        "vip1-tcp-1": {"fd96::1 . 80": "fd77::2 . 80"},
        "fronts-vip-1": {"fd96::1 . tcp . 80": ""},
        "sticky-vip-hash-1": {"fd96::1 . tcp . 80": ""},
        "cluster-ips-1": {"fd96::1": ""},
    }
    assert contents(nft)["vip1-tcp"] == {f"{VIP} . 80": "10.77.1.2 . 8080"}


@pytest.mark.parametrize("filters", [True, False])
def test_source_addresses_are_hidden_only_where_they_must(filters: bool) -> None:
    config = ProxyConfig(
        "here", CONFIG.pod_cidrs, bridge_filters=filters, egress_except=("10.0.0.0/8",)
    )
    made = FamilyTable("ip", config, MemoryNft())
    rules = made.frame.config, made.step({}, 0.0)
    assert rules[1].full
    chain = made.frame.chains()
    local = "ip saddr { 10.77.1.0/24 } ip daddr { 10.77.1.0/24 } masquerade fully-random"
    assert (local in chain["masquerading"][1]) is not filters
    egress = "ip saddr { 10.77.1.0/24 } ip daddr != { 10.0.0.0/8 } masquerade fully-random"
    assert egress in chain["nat-postrouting"][1]
