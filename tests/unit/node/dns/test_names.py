"""Every row of the two schemas: what is answered for each name and type, and what does not exist."""

from dataclasses import replace
from typing import TypeAlias

import pytest
from tests.unit.node.dns.dnsworld import CONFIG, STATE, World, many, told

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.model import DnsConfig, Endpoint, Service, ServiceName, Slice

Z, C = "cluster.local", "clusterset.local"
Told: TypeAlias = tuple[str, list[str]]
NX: Told = ("NXDOMAIN", [])
ND: Told = ("NODATA", [])


def ok(*records: str) -> Told:
    return "NOERROR", sorted(records)


CLUSTER = {
    "version": ("dns-version.Z TXT", ok("dns-version.Z. TXT 1.1.0")),
    "version, other type": ("dns-version.Z A", ND),
    "below version": ("x.dns-version.Z TXT", NX),
    "apex NS": ("Z NS", ok("Z. NS ns.dns.Z.")),
    "apex A": ("Z A", ND),
    "name server": ("ns.dns.Z A", ok("ns.dns.Z. A 10.96.0.10")),
    "name server v6": ("ns.dns.Z AAAA", ok("ns.dns.Z. AAAA fd00:96::a")),
    "dns": ("dns.Z A", ND),
    "svc": ("svc.Z A", ND),
    "pods": ("pod.Z A", ND),
    "unknown child of the apex": ("foo.Z A", NX),
    "namespace": ("demo.svc.Z A", ND),
    "namespace without Services": ("empty.svc.Z SRV", ND),
    "unknown namespace": ("nope.svc.Z A", NX),
    "ClusterIP A": ("web.demo.svc.Z A", ok("web.demo.svc.Z. A 10.96.0.20")),
    "ClusterIP AAAA": ("web.demo.svc.Z AAAA", ok("web.demo.svc.Z. AAAA fd00:96::20")),
    "ClusterIP of one family": ("bare.demo.svc.Z AAAA", ND),
    "ClusterIP, other type": ("web.demo.svc.Z TXT", ND),
    "ClusterIP MX": ("web.demo.svc.Z MX", ND),
    "upper case": ("WEB.Demo.SVC.Cluster.LOCAL A", ok("WEB.Demo.SVC.Cluster.LOCAL. A 10.96.0.20")),
    "Service without an address yet": ("pending.demo.svc.Z A", NX),
    "unknown Service": ("nope.demo.svc.Z A", NX),
    "Service in a wrong namespace": ("web.empty.svc.Z A", NX),
    "SRV": ("_http._tcp.web.demo.svc.Z SRV", ok("_http._tcp.web.demo.svc.Z. SRV 0 100 80 web.demo.svc.Z.")),
    "SRV in upper case": ("_HTTP._TCP.web.demo.svc.Z A", ND),
    "SRV name, other type": ("_http._tcp.web.demo.svc.Z A", ND),
    "SRV of another protocol": ("_http._udp.web.demo.svc.Z SRV", NX),
    "SRV of an unknown port": ("_smtp._tcp.web.demo.svc.Z SRV", NX),
    "SRV without underscore": ("http._tcp.web.demo.svc.Z SRV", NX),
    "SRV of an unnamed port": ("_._tcp.bare.demo.svc.Z SRV", NX),
    "SRV with a label too much": ("x._http._tcp.web.demo.svc.Z SRV", NX),
    "protocol alone": ("_tcp.web.demo.svc.Z SRV", ND),
    "protocol without ports": ("_udp.web.demo.svc.Z SRV", NX),
    "SRV without prefix, two ports alike": ("bare.demo.svc.Z SRV", ok("bare.demo.svc.Z. SRV 0 100 42 bare.demo.svc.Z.")),
    "SRV without prefix": (
        "kube-dns.kube-system.svc.Z SRV",
        ok(
            "kube-dns.kube-system.svc.Z. SRV 0 50 53 kube-dns.kube-system.svc.Z.",
            "kube-dns.kube-system.svc.Z. SRV 0 50 9153 kube-dns.kube-system.svc.Z.",
        ),
    ),
    "endpoint of a ClusterIP": ("10-244-1-5.web.demo.svc.Z A", ok("10-244-1-5.web.demo.svc.Z. A 10.244.1.5")),
    "its unready endpoint": ("10-244-1-6.web.demo.svc.Z A", NX),
    "headless A": (
        "db.demo.svc.Z A",
        ok("db.demo.svc.Z. A 10.244.1.7", "db.demo.svc.Z. A 10.244.1.8", "db.demo.svc.Z. A 10.244.1.9"),
    ),
    "headless AAAA": ("db.demo.svc.Z AAAA", ok("db.demo.svc.Z. AAAA fd00:244::7")),
    "headless, all unready": ("none.demo.svc.Z A", NX),
    "headless, all unready, SRV": ("_http._tcp.none.demo.svc.Z SRV", NX),
    "headless, unready published": (
        "all.demo.svc.Z A",
        ok("all.demo.svc.Z. A 10.244.2.1", "all.demo.svc.Z. A 10.244.2.2"),
    ),
    "headless without ports SRV": ("all.demo.svc.Z SRV", ND),
    "host A": ("db-0.db.demo.svc.Z A", ok("db-0.db.demo.svc.Z. A 10.244.1.7")),
    "host AAAA": ("db-0.db.demo.svc.Z AAAA", ok("db-0.db.demo.svc.Z. AAAA fd00:244::7")),
    "host of one family": ("db-1.db.demo.svc.Z AAAA", ND),
    "host without hostname": ("10-244-1-9.db.demo.svc.Z A", ok("10-244-1-9.db.demo.svc.Z. A 10.244.1.9")),
    "dashed address of a host with a hostname": ("10-244-1-7.db.demo.svc.Z A", NX),
    "unready host": ("db-3.db.demo.svc.Z A", NX),
    "below a host": ("x.db-0.db.demo.svc.Z A", NX),
    "headless SRV": (
        "_pg._tcp.db.demo.svc.Z SRV",
        ok(
            "_pg._tcp.db.demo.svc.Z. SRV 0 33 5432 db-0.db.demo.svc.Z.",
            "_pg._tcp.db.demo.svc.Z. SRV 0 33 5432 db-1.db.demo.svc.Z.",
            "_pg._tcp.db.demo.svc.Z. SRV 0 33 5432 10-244-1-9.db.demo.svc.Z.",
        ),
    ),
    "ExternalName CNAME": ("gone.demo.svc.Z CNAME", ok("gone.demo.svc.Z. CNAME example.com.")),
    "below an ExternalName": ("x.gone.demo.svc.Z A", NX),
    "ExternalName to a Service": (
        "cousin.demo.svc.Z A",
        ok("cousin.demo.svc.Z. CNAME web.demo.svc.Z.", "web.demo.svc.Z. A 10.96.0.20"),
    ),
    "ExternalName to the clusterset": (
        "over.demo.svc.Z AAAA",
        ok("over.demo.svc.Z. CNAME shop.demo.svc.C.", "shop.demo.svc.C. AAAA fd00:112::6"),
    ),
    "ExternalNames in a ring": ("ring-a.demo.svc.Z A", ("SERVFAIL", [])),
    "pod": ("10-244-1-5.demo.pod.Z A", ok("10-244-1-5.demo.pod.Z. A 10.244.1.5")),
    "pod v6": ("fd00-244--5.demo.pod.Z AAAA", ok("fd00-244--5.demo.pod.Z. AAAA fd00:244::5")),
    "pod, other family": ("10-244-1-5.demo.pod.Z AAAA", ND),
    "pod of another namespace": ("10-244-1-5.empty.pod.Z A", NX),
    "no such pod": ("10-244-1-99.demo.pod.Z A", NX),
    "no address": ("web-x.demo.pod.Z A", NX),
    "below a pod": ("x.10-244-1-5.demo.pod.Z A", NX),
    "namespace of pods": ("demo.pod.Z A", ND),
    "unknown namespace of pods": ("nope.pod.Z A", NX),
    "ANY": ("web.demo.svc.Z ANY", ok("web.demo.svc.Z. HINFO 075246433834383200")),
    "ANY of nothing": ("nope.demo.svc.Z ANY", NX),
    "AXFR": ("Z AXFR", ("REFUSED", [])),
}  # fmt: skip

REVERSE = {
    "ClusterIP": ("20.0.96.10.in-addr.arpa PTR", ok("20.0.96.10.in-addr.arpa. PTR web.demo.svc.Z.")),
    "ClusterIP v6": (
        "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa PTR",
        ok("0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa. PTR web.demo.svc.Z."),
    ),
    "host": ("7.1.244.10.in-addr.arpa PTR", ok("7.1.244.10.in-addr.arpa. PTR db-0.db.demo.svc.Z.")),
    "endpoint": ("5.1.244.10.in-addr.arpa PTR", ok("5.1.244.10.in-addr.arpa. PTR 10-244-1-5.web.demo.svc.Z.")),
    "unready endpoint": ("6.1.244.10.in-addr.arpa PTR", NX),
    "other type": ("20.0.96.10.in-addr.arpa A", ND),
    "nobody in a range of ours": ("9.9.96.10.in-addr.arpa PTR", NX),
    "non-terminal in a range of ours": ("1.244.10.in-addr.arpa PTR", ND),
    "ClusterSetIP": ("5.0.112.10.in-addr.arpa PTR", ("REFUSED", [])),
    "endpoint of an import": ("1.9.244.10.in-addr.arpa PTR", NX),
    "outside": ("8.8.8.8.in-addr.arpa PTR", ("REFUSED", [])),
    "no address": ("256.0.96.10.in-addr.arpa PTR", ("REFUSED", [])),
    "leading zero": ("020.0.96.10.in-addr.arpa PTR", ("REFUSED", [])),
    "too long": ("1.20.0.96.10.in-addr.arpa PTR", ("REFUSED", [])),
}  # fmt: skip

CLUSTERSET = {
    "version": ("dns-version.C TXT", ok("dns-version.C. TXT 1.0.0")),
    "apex NS": ("C NS", ok("C. NS ns.dns.C.")),
    "svc": ("svc.C A", ND),
    "no pods": ("pod.C A", NX),
    "no pod names": ("10-244-1-5.demo.pod.C A", NX),
    "namespace": ("demo.svc.C A", ND),
    "namespace of imports alone": ("far.svc.C A", ND),
    "unknown namespace": ("nope.svc.C A", NX),
    "ClusterSetIP A": ("web.demo.svc.C A", ok("web.demo.svc.C. A 10.112.0.5")),
    "ClusterSetIP AAAA": ("shop.demo.svc.C AAAA", ok("shop.demo.svc.C. AAAA fd00:112::6")),
    "ClusterSetIP of one family": ("web.demo.svc.C AAAA", ND),
    "not imported": ("db.demo.svc.C A", NX),
    "SRV": ("_http._tcp.web.demo.svc.C SRV", ok("_http._tcp.web.demo.svc.C. SRV 0 100 80 web.demo.svc.C.")),
    "SRV without prefix, once": ("shop.demo.svc.C SRV", ok("shop.demo.svc.C. SRV 0 100 42 shop.demo.svc.C.")),
    "SRV by protocol": ("_b._udp.shop.demo.svc.C SRV", ok("_b._udp.shop.demo.svc.C. SRV 0 100 42 shop.demo.svc.C.")),
    "cluster of a ClusterSetIP": ("alpha.web.demo.svc.C A", NX),
    "endpoint of a ClusterSetIP": ("10-244-9-1.alpha.web.demo.svc.C A", NX),
    "headless A": (
        "ldb.demo.svc.C A",
        ok(*(f"ldb.demo.svc.C. A {ip}" for ip in ("10.244.4.1", "10.245.4.1", "10.245.4.2", "10.246.4.1"))),
    ),
    "headless AAAA": ("ldb.demo.svc.C AAAA", ok("ldb.demo.svc.C. AAAA fd00:245::1")),
    "headless without endpoints": ("idle.demo.svc.C A", NX),
    "headless without endpoints SRV": ("_http._tcp.idle.demo.svc.C SRV", NX),
    "host": ("ldb-0.alpha.ldb.demo.svc.C A", ok("ldb-0.alpha.ldb.demo.svc.C. A 10.244.4.1")),
    "same host elsewhere": ("ldb-0.beta.ldb.demo.svc.C A", ok("ldb-0.beta.ldb.demo.svc.C. A 10.245.4.1")),
    "same host elsewhere AAAA": ("ldb-0.beta.ldb.demo.svc.C AAAA", ok("ldb-0.beta.ldb.demo.svc.C. AAAA fd00:245::1")),
    "host in a cluster of two labels": ("ldb-0.gamma.east.ldb.demo.svc.C A", ok("ldb-0.gamma.east.ldb.demo.svc.C. A 10.246.4.1")),
    "host without hostname": ("10-245-4-2.beta.ldb.demo.svc.C A", ok("10-245-4-2.beta.ldb.demo.svc.C. A 10.245.4.2")),
    "unready host": ("ldb-1.alpha.ldb.demo.svc.C A", NX),
    "host of another cluster": ("10-245-4-2.alpha.ldb.demo.svc.C A", NX),
    "host without cluster": ("ldb-0.ldb.demo.svc.C A", NX),
    "cluster, reserved": ("alpha.ldb.demo.svc.C A", NX),
    "cluster, reserved, SRV": ("alpha.ldb.demo.svc.C SRV", NX),
    "cluster of two labels, reserved": ("gamma.east.ldb.demo.svc.C A", NX),
    "SRV below a cluster": ("_pg._tcp.alpha.ldb.demo.svc.C SRV", NX),
    "headless SRV": (
        "_pg._tcp.ldb.demo.svc.C SRV",
        ok(*(
            f"_pg._tcp.ldb.demo.svc.C. SRV 0 25 5432 {host}.ldb.demo.svc.C."
            for host in ("ldb-0.alpha", "ldb-0.beta", "10-245-4-2.beta", "ldb-0.gamma.east")
        )),
    ),
    "headless SRV without prefix": (
        "ldb.demo.svc.C SRV",
        ok(*(
            f"ldb.demo.svc.C. SRV 0 25 5432 {host}.ldb.demo.svc.C."
            for host in ("ldb-0.alpha", "ldb-0.beta", "10-245-4-2.beta", "ldb-0.gamma.east")
        )),
    ),
}  # fmt: skip

ROWS = [
    pytest.param(*row, id=f"{table}: {name}")
    for table, rows in (("cluster", CLUSTER), ("reverse", REVERSE), ("clusterset", CLUSTERSET))
    for name, row in rows.items()
]


def spelled(text: str) -> str:
    """`Z` and `C` stand for the zones, as whole labels."""
    parts = [{"Z": Z, "C": C}.get(label, label) for label in text.split(".")]
    return ".".join(parts)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize(("asked", "wanted"), ROWS)
def test_names(world: World, asked: str, wanted: Told) -> None:
    name, qtype = asked.split()
    rcode, records = wanted
    expected = sorted(" ".join(spelled(word) for word in record.split(" ")) for record in records)
    for _ in range(2):  # looked up, then out of what was kept
        got = world.ask(spelled(name), qtype)
        assert (got[0], [r.lower() for r in got[1]]) == (rcode, [r.lower() for r in expected])


@pytest.mark.parametrize("zone", [Z, C])
@pytest.mark.parametrize("missing", ["nope.demo.svc", "demo.svc", "svc"])
def test_a_no_says_how_long_it_holds(world: World, zone: str, missing: str) -> None:
    response = world.response(f"{missing}.{zone}", "A")
    (soa,) = response.authority
    assert (wire.text_of(soa.name), soa.rtype, soa.ttl) == (f"{zone}.", wire.SOA, 5)
    assert int.from_bytes(soa.rdata[-4:], "big") == 5
    assert wire.text_of(soa.rdata).startswith(f"ns.dns.{zone}.")
    assert response.flags & wire.AA


def test_the_reverse_zone_of_a_no_lies_in_the_range(world: World) -> None:
    zones = {
        "9.9.97.10.in-addr.arpa": "97.10.in-addr.arpa.",
        "9.9.244.10.in-addr.arpa": "244.10.in-addr.arpa.",
    }
    for name, zone in zones.items():
        assert [wire.text_of(r.name) for r in world.response(name, "PTR").authority] == [zone]


def test_times_to_live(world: World) -> None:
    assert [r.ttl for r in world.response(f"web.demo.svc.{Z}", "A").answer] == [5]
    assert [r.ttl for r in world.response(f"dns-version.{Z}", "TXT").answer] == [28_800]


def test_srv_brings_the_addresses_along(world: World) -> None:
    extra = world.response(f"_pg._tcp.ldb.demo.svc.{C}", "SRV", udp=False).additional
    names = {(wire.text_of(r.name), r.rtype) for r in extra}
    assert (f"ldb-0.beta.ldb.demo.svc.{C}.", wire.AAAA) in names
    assert len(extra) == 5


@pytest.mark.parametrize(
    ("mode", "name", "wanted"),
    [
        ("insecure", "1-2-3-4.demo.pod", "NOERROR"),
        ("insecure", "1-2-3-4.nope.pod", "NXDOMAIN"),
        ("insecure", "nonsense.demo.pod", "NXDOMAIN"),
        ("disabled", "10-244-1-5.demo.pod", "NXDOMAIN"),
        ("disabled", "pod", "NXDOMAIN"),
    ],
)
def test_pod_modes(mode: str, name: str, wanted: str) -> None:
    assert World(replace(CONFIG, pods=mode)).ask(f"{name}.{Z}", "A")[0] == wanted


def test_before_the_first_state_names_fail_and_do_not_miss() -> None:
    world = World(state=None)
    names = (f"web.demo.svc.{Z}", f"web.demo.svc.{C}", f"nope.{Z}", "20.0.96.10.in-addr.arpa")
    assert {world.ask(name, "A")[0] for name in names} == {"SERVFAIL"}
    world.directory.mark_ready()
    got = [world.ask(name, "A")[0] for name in names]
    assert got == ["NXDOMAIN", "SERVFAIL", "NXDOMAIN", "NXDOMAIN"]
    world.directory.mark_ready(imported=True)
    assert world.ask(names[1], "A")[0] == "NXDOMAIN"


def test_without_a_clusterset_its_names_are_not_ours() -> None:
    world = World(replace(CONFIG, clusterset_domain=""))
    assert world.ask(f"web.demo.svc.{C}", "A")[0] == "REFUSED"


@pytest.mark.parametrize("name", [f"x{Z}", "local", "mycluster.local"])
def test_neighbours_of_a_zone_are_not_ours(name: str) -> None:
    assert World().ask(name, "A")[0] == "REFUSED"


def test_a_label_that_looks_like_the_zone_is_not_the_zone() -> None:
    inner = wire.name_of(Z)
    name = bytes((len(inner) + 1,)) + b"x" + inner[:-1] + inner[-1:]
    data = wire.HEADER.pack(1, wire.RD, 1, 0, 0, 0) + name + b"\0" + wire.TYPE_CLASS.pack(1, 1)
    answer = World().raw(data)
    assert answer is not None and answer[3] & 0xF == wire.REFUSED


# ------------------------------------------------------------------------------------------------------------- order
def test_addresses_come_in_every_order() -> None:
    world = World()
    orders = set()
    for _ in range(60):
        response = world.response(f"db.demo.svc.{Z}", "A")
        assert told(response)[1] == world.ask(f"db.demo.svc.{Z}", "A")[1]
        orders.add(tuple(r.rdata for r in response.answer))
    assert len(orders) == 6


def test_the_same_seed_gives_the_same_order() -> None:
    def orders(seed: int) -> list[list[bytes]]:
        world = World(seed=seed)
        answers = [world.response(f"db.demo.svc.{Z}", "A").answer for _ in range(20)]
        return [[r.rdata for r in answer] for answer in answers]

    assert orders(3) == orders(3) != orders(4)


# -------------------------------------------------------------------------------------------------------------- sizes
def test_an_import_of_many_hosts_is_one_subset_for_all_names() -> None:
    config = replace(CONFIG, headless_hosts_max=50)
    world = World(config, many(400, imported=True))
    addresses = {r.rdata for r in world.response(f"big.demo.svc.{C}", "A", udp=False).answer}
    assert len(addresses) == 50
    named = 0
    for i in range(400):
        rcode, records = world.ask(f"big-{i}.alpha.big.demo.svc.{C}", "A")
        named += rcode == "NOERROR"
        assert (rcode == "NOERROR") == (i.to_bytes(2, "big") in {a[2:] for a in addresses})
        assert len(records) == (rcode == "NOERROR")
    assert named == 50
    assert len(world.response(f"_pg._tcp.big.demo.svc.{C}", "SRV", udp=False).answer) == 50
    other = World(config, many(400, imported=True), seed=9)
    again = {r.rdata for r in other.response(f"big.demo.svc.{C}", "A", udp=False).answer}
    assert again == addresses


def test_both_families_of_a_pod_stay_together_in_a_subset() -> None:
    texts = {"v4": "10.9.0.{}", "v6": "fd09::{:x}"}
    slices = {
        ("demo", family): Slice(
            "demo",
            "big",
            tuple(Endpoint((text.format(i),), pod=f"pod-{i}") for i in range(200)),
            cluster="alpha",
        )
        for family, text in texts.items()
    }
    big = Service("demo", "big", headless=True, imported=True)
    state = replace(STATE, services=(big,), slices=slices)
    world = World(replace(CONFIG, headless_hosts_max=20), state)
    v4, v6 = (world.response(f"big.demo.svc.{C}", t, udp=False).answer for t in ("A", "AAAA"))
    assert {r.rdata[-1] for r in v4} == {r.rdata[-1] for r in v6}
    assert len(v4) == len(v6) == 20


def test_hosts_with_too_long_a_name_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    long = "a" * 63
    name, namespace, cluster = "b" * 63, "c" * 63, "d" * 50
    slices = {
        ("n", "s"): Slice(
            namespace,
            name,
            (Endpoint(("10.0.0.1",), hostname=long), Endpoint(("10.0.0.2",), hostname="ok")),
            cluster=cluster,
        )
    }
    big = Service(namespace, name, headless=True, imported=True)
    world = World(state=replace(STATE, services=(big,), slices=slices))
    assert world.ask(f"{name}.{namespace}.svc.{C}", "A")[1] == [
        f"{name}.{namespace}.svc.{C}. A 10.0.0.2"
    ]
    assert "too long" in caplog.text


# ------------------------------------------------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"addresses": ("0.0.0.0",)}, "wildcard"),
        ({"addresses": ("nowhere",)}, "does not appear to be"),
        ({"pods": "maybe"}, "unknown"),
        ({"ttl_s": 9_999}, "between"),
        ({"reverse_cidrs": ("10.0.0.1/8",)}, "host bits"),
        ({"cluster_domain": ""}, "needs a domain"),
        ({"cluster_domain": "a.Local", "clusterset_domain": "local"}, "inside the other"),
    ],
)
def test_settings_are_checked(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        DnsConfig(**{"addresses": ("127.0.0.1",), **wrong})  # type: ignore[arg-type]


def test_keys_tell_imports_from_services() -> None:
    keys = {service.key for service in STATE.services}
    assert ServiceName("demo", "web") in keys and ServiceName("demo", "web", True) in keys
