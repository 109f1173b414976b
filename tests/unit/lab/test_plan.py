"""The address plan as a table: who sits where, and what is refused."""

import ipaddress
from dataclasses import replace

import pytest

from federation.lab.plan import (
    LabSpec,
    PlanError,
    choose_slot,
    lab_id,
    make_plan,
    preferred_slot,
    slot_network,
)

SPEC = LabSpec(directory="/somewhere/.lab", nodes=2)

ADDRESSES = [
    # slot, host name, address
    (0, "federation-1", "198.18.0.11"),
    (0, "alpha-control", "198.18.1.1"),
    (0, "alpha-node-1", "198.18.1.11"),
    (0, "alpha-node-2", "198.18.1.12"),
    (0, "gamma-node-1", "198.18.3.11"),
    (1, "alpha-control", "198.18.17.1"),
    (31, "gamma-node-2", "198.19.243.12"),
]


@pytest.mark.parametrize(("slot", "host", "address"), ADDRESSES)
def test_addresses(slot: int, host: str, address: str) -> None:
    hosts = {found.name: found for found in make_plan(SPEC, slot).hosts}
    assert hosts[host].address == address


def test_the_default_fleet() -> None:
    plan = make_plan(SPEC, 0)
    assert [(c.name, c.zone, c.region) for c in plan.clusters] == [
        ("alpha", "zone-a", "region-1"),
        ("beta", "zone-b", "region-1"),
        ("gamma", "zone-c", "region-2"),
    ]
    assert plan.root_address == "198.18.0.1"
    assert len(plan.root_link) <= 15


@pytest.mark.parametrize(
    ("change", "hosts", "hollow"),
    [
        pytest.param({}, 10, 0, id="default"),
        pytest.param({"nodes": 1}, 7, 0, id="one node"),
        pytest.param({"hollow_nodes": 50}, 13, 50, id="hollow nodes beside real ones"),
        pytest.param({"runtime": "hollow"}, 7, 2, id="hollow runtime turns nodes hollow"),
        pytest.param({"runtime": "hollow", "hollow_nodes": 3}, 7, 5, id="both add up"),
        pytest.param({"nodes": 0}, 4, 0, id="no node at all"),
    ],
)
def test_hosts_and_hollow_nodes(change: dict[str, object], hosts: int, hollow: int) -> None:
    plan = make_plan(replace(SPEC, **change), 0)
    assert len(plan.hosts) == hosts
    assert plan.clusters[0].hollow_count == hollow


def test_nothing_overlaps_in_the_largest_lab() -> None:
    names = tuple(f"c{i}" for i in range(14))
    spec = replace(SPEC, clusters=names, nodes=240, hollow_nodes=1000)
    plan = make_plan(spec, 7)
    addresses = [host.address for host in plan.hosts] + [plan.root_address]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in slot_network(7) for address in addresses)
    pods = [ipaddress.ip_network(host.pod_cidr) for host in plan.hosts if host.pod_cidr]
    assert len(set(pods)) == 14 * 240
    for cluster in plan.clusters:
        own = ipaddress.ip_network(cluster.pod_cidr)
        assert all(ipaddress.ip_network(node.pod_cidr).subnet_of(own) for node in cluster.nodes)
    ranges = [ipaddress.ip_network(c.pod_cidr) for c in plan.clusters]
    ranges += [ipaddress.ip_network(c.hollow_cidr) for c in plan.clusters]
    ranges += [ipaddress.ip_network(c.service_cidr) for c in plan.clusters]
    ranges += [ipaddress.ip_network(c.clusterset_cidr) for c in plan.clusters]
    assert len(set(ranges)) == 56


def test_without_root_everything_is_on_loopback() -> None:
    plan = make_plan(replace(SPEC, runtime="hollow", rooted=False), 31)
    assert all(ipaddress.ip_address(host.address).is_loopback for host in plan.hosts)


REFUSED = [
    ({"clusters": ()}, "1 to 14 clusters, not 0"),
    ({"clusters": tuple(f"c{i}" for i in range(15))}, "1 to 14 clusters, not 15"),
    ({"clusters": ("Alpha",)}, "'Alpha' is not a cluster name"),
    ({"clusters": ("a.b",)}, "'a.b' is not a cluster name"),
    ({"clusters": ("-a",)}, "'-a' is not a cluster name"),
    ({"clusters": ("a", "a")}, "given twice"),
    ({"clusters": ("federation",)}, "federation's own context"),
    ({"nodes": 241}, "--nodes: 0 to 240, not 241"),
    ({"nodes": -1}, "--nodes: 0 to 240, not -1"),
    ({"hollow_nodes": 1001}, "--hollow-nodes: 0 to 1000"),
    ({"servers": 2}, "--database-url postgresql"),
    ({"servers": 9, "database_url": "postgresql:///x"}, "1 to 8"),
    ({"database_url": "postgresql://a,b/x"}, "lead to one host, not to several"),
    ({"server_zones": ("zone-a", "zone-b")}, "one for each of the 1 servers, not 2"),
    ({"server_zones": ("zone-z",)}, "no zone 'zone-z'; there is zone-a, zone-b, zone-c"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(replace(SPEC, **change), 0)


def test_two_labs_choose_different_slots() -> None:
    first = choose_slot("/a/.lab", [])
    assert first == preferred_slot("/a/.lab")
    second = choose_slot("/a/.lab", [slot_network(first)])
    assert second == (first + 1) % 32


def test_a_machine_that_uses_the_whole_range_is_told() -> None:
    with pytest.raises(PlanError, match="fedctl lab down"):
        choose_slot("/a/.lab", [ipaddress.IPv4Network("198.18.0.0/15")])


def test_lab_ids_differ_by_directory() -> None:
    assert lab_id("/a/.lab") != lab_id("/b/.lab")
    assert len(lab_id("/a/.lab")) == 6
