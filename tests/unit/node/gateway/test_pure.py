"""What is decided without I/O: values, ports and berths, what is said to HAProxy, what its answers mean."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.node.gateway.fakehaproxy import API, BETA, OTHER, POD, WEB, exported, plan

from cluster_agent.node.gateway import process, render, runtime, states
from cluster_agent.node.gateway.allocation import (
    BERTHS,
    LISTENERS_MAX,
    RETIRED_MAX,
    Allocation,
    Berth,
    Berths,
    TooManyListeners,
    allocate,
    dump,
    load,
    place,
)
from cluster_agent.node.gateway.model import (
    Certificate,
    EgressKey,
    GatewayConfig,
    GatewayPlan,
    Ingress,
    PeerSites,
    Target,
)
from machinery.api.fleet.multicluster import GatewayAddress, NodeRange, port_name

CONFIG = GatewayConfig("alpha", Path("unused"))
PEM = Certificate("cert", "key", "ca")


# ----------------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    "make",
    [
        lambda: Target("10.0.0.256", 80),
        lambda: Target("fd00::1", 80),
        lambda: Target("10.0.0.1", 0),
        lambda: Ingress("two words", ()),
        lambda: Ingress("line\nbreak", ()),
        lambda: Ingress("semi;colon", ()),
        lambda: Ingress("", ()),
        lambda: EgressKey("shop", "Web", 80, "beta"),
        lambda: EgressKey("shop", "web", 65_536, "beta"),
        lambda: PeerSites("be ta"),
        lambda: PeerSites("beta", (GatewayAddress("n", "name.example"),)),
        lambda: PeerSites("beta", (), (NodeRange("n", (), ""),)),
        lambda: GatewayPlan("alpha", (exported("web"), exported("web", POD))),
        lambda: GatewayPlan("alpha", (), (WEB, WEB)),
        lambda: GatewayPlan("alpha", (), (), (BETA, PeerSites("beta"))),
        lambda: dataclasses.replace(CONFIG, address="::1"),
        lambda: dataclasses.replace(CONFIG, probe="none"),
    ],
)
def test_what_could_not_be_written_into_haproxys_files_is_no_value(make: Callable[[], object]) -> None:  # fmt: skip
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        make()


# ------------------------------------------------------------------------------------------------------------ ports
def keys(*numbers: int) -> list[EgressKey]:
    return [EgressKey("shop", f"s{number}", 80, "beta") for number in numbers]


def test_ports_stay_and_are_not_given_to_others_soon() -> None:
    one, two, three = keys(1, 2, 3)
    first = allocate(Allocation(), (two, one))
    assert first.ports == {one: 20_000, two: 20_001}
    second = allocate(first, (two, three))
    assert second.ports == {two: 20_001, three: 20_002}
    assert second.retired == ((one, 20_000),)
    assert allocate(second, (one,)).ports == {one: 20_000}, "it finds its own again"
    many = allocate(second, keys(*range(10, 10 + RETIRED_MAX)))
    assert 20_000 not in many.ports.values()
    later = allocate(allocate(many, ()), keys(1_000))
    assert later.ports == {keys(1_000)[0]: 20_000}
    assert len(later.retired) == RETIRED_MAX


def test_ports_are_opened_by_blocks() -> None:
    assert Allocation().blocks == 1
    assert allocate(Allocation(), keys(*range(64))).blocks == 1
    full = allocate(Allocation(), keys(*range(65)))
    assert (full.blocks, allocate(full, keys(1)).blocks) == (2, 2)


def test_more_listeners_than_ports_are_refused() -> None:
    with pytest.raises(TooManyListeners):
        allocate(Allocation(), keys(*range(LISTENERS_MAX + 1)))
    most = allocate(Allocation(), keys(*range(LISTENERS_MAX)))
    assert len(set(allocate(most, keys(*range(5, LISTENERS_MAX + 5))).ports.values())) == LISTENERS_MAX  # fmt: skip


def test_listeners_are_kept_as_a_document() -> None:
    allocation = allocate(allocate(Allocation(), (WEB, API)), (API,))
    assert load(dump(allocation)) == allocation


# ----------------------------------------------------------------------------------------------------------- berths
def targets(*numbers: int) -> tuple[Target, ...]:
    return tuple(Target("10.1.0.1", number) for number in numbers)


def taken(berths: Berths) -> list[Berth]:
    return [berth for berth in berths if berth.name]


def test_exports_and_endpoints_stay_where_they_are() -> None:
    a, b = targets(1, 2)
    first = place((), (Ingress("x", (a,)), Ingress("y", (b,))))
    assert len(first) == BERTHS
    assert first[:2] == (Berth("x", (a, None, None, None)), Berth("y", (b, None, None, None)))
    second = place(first, (Ingress("z", ()), Ingress("y", (a, b))))
    assert second[:2] == (Berth("z", (None,) * 4), Berth("y", (b, a, None, None)))
    assert len(second) == BERTHS


def test_a_berth_grows_and_stays_large() -> None:
    first = place((), (Ingress("x", targets(1, 2, 3, 4, 5)),))
    assert [len(berth.lines) for berth in first[:2]] == [8, 4]
    freed = place(first, (Ingress("y", targets(1)),))
    assert freed[1].name == "y", "the small berth will do"
    again = place(freed, (Ingress("y", targets(1)), Ingress("z", targets(*range(1, 7)))))
    assert (again[0].name, len(again[0].lines)) == ("z", 8)


def test_berths_are_added_when_all_are_taken() -> None:
    full = place((), [Ingress(f"x{i}", ()) for i in range(BERTHS)])
    assert len(full) == len(taken(full)) == BERTHS
    more = place(full, [*(Ingress(f"x{i}", ()) for i in range(BERTHS)), Ingress("y", ())])
    assert (len(more), len(taken(more))) == (2 * BERTHS, BERTHS + 1)
    assert more[:BERTHS] == full


def test_an_endpoint_that_is_named_twice_has_one_line() -> None:
    assert place((), (Ingress("x", targets(1, 1)),))[0].lines == (*targets(1), None, None, None)


# ----------------------------------------------------------------------------------------------------------- checks
def test_silence_is_judged_within_four_seconds_and_a_flap_of_two_is_none() -> None:
    gap, fall = render.pace(1, render.GATEWAYS_A_S)
    assert (fall - 1) * gap >= 1_300, "refused meanwhile"
    silent = gap + render.CONNECT_MS
    assert (fall - 1) * silent >= 2_600
    assert fall * silent + CONFIG.poll_s * 1_000 <= 4_600
    assert render.CONNECT_MS < gap <= 700


@pytest.mark.parametrize(
    ("checked", "expected"),
    [
        (0, (680, 3)),
        (13, (680, 3)),
        (20, (1_000, 3)),
        (30, (1_500, 2)),
        (40, (2_000, 2)),
        (200, (10_000, 2)),
    ],
)
def test_many_probes_are_paced(checked: int, expected: tuple[int, int]) -> None:
    gap, fall = render.pace(checked, 20)
    assert (gap, fall) == expected
    assert (fall - 1) * gap >= 1_300
    assert checked * 1_000 / gap <= 20


# --------------------------------------------------------------------------------------------------------- commands
def files(given: GatewayPlan, before: Berths = (), certificate: Certificate = PEM) -> render.Files:
    allocation = allocate(Allocation(), given.egress)
    return render.render(CONFIG, given, allocation, place(before, given.ingress), certificate)


def running(of: render.Files) -> runtime.Running:
    lines = {
        render.berth_name(number): {f"s{i}": target for i, target in enumerate(berth.lines, 1)}
        for number, berth in enumerate(of.berths)
    }
    return runtime.Running(lines, of.maps)


def test_a_process_that_serves_what_is_wanted_is_told_nothing() -> None:
    wanted = files(plan(exported("web", POD)))
    assert runtime.changes(wanted, running(wanted)) == []
    assert runtime.cuts(wanted, running(wanted)) == []
    assert runtime.berths_of(running(wanted)) == wanted.berths


def test_an_endpoint_that_goes_keeps_its_connections() -> None:
    before = files(plan(exported("web", POD, OTHER)))
    after = files(plan(exported("web", OTHER)), before.berths)
    assert runtime.changes(after, running(before)) == ["set server in:0/s1 state maint"]
    moved = files(plan(exported("web", Target("10.1.1.7", 8080))), after.berths)
    assert runtime.changes(moved, running(after)) == [
        "set server in:0/s1 addr 10.1.1.7 port 8080",
        "set server in:0/s1 state ready",
        "set server in:0/s2 state maint",
    ]


def test_an_export_that_goes_is_closed_before_another_takes_its_berth() -> None:
    before = files(plan(exported("web", POD)))
    after = files(plan(exported("api", POD)), before.berths)
    web, api = (port_name("alpha", "shop", name, 80) for name in ("web", "api"))
    assert runtime.changes(after, running(before)) == [
        f"del map ingress.map {web}",
        "set server in:0/s1 state maint",
        "shutdown sessions server in:0/s1",
        "set server in:0/s1 addr 10.1.1.5 port 8080",
        "set server in:0/s1 state ready",
        f"add map ingress.map {api} in:0",
    ]
    assert runtime.cuts(after, running(before)) == [
        f"del map ingress.map {web}",
        *(f"shutdown sessions server in:0/s{i}" for i in (1, 2, 3, 4)),
    ]


def test_an_import_has_its_server_name_before_its_way_out() -> None:
    none, one = files(plan(egress=())), files(plan())
    name = port_name("beta", "shop", "web", 80)
    assert runtime.changes(one, running(none)) == [
        f"add map names.map 20000 {name}",
        "add map egress.map 20000 peer:beta",
    ]
    assert runtime.changes(none, running(one)) == ["del map egress.map 20000", "del map names.map 20000"]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        files(GatewayPlan("alpha", (), (WEB,), (PeerSites("beta"),))),
        files(plan(), certificate=Certificate("cert", "key", "other ca")),
        files(plan(exported("web", *targets(1, 2, 3, 4, 5)))),
        files(plan(egress=tuple(keys(*range(65))))),
    ],
)
def test_the_rest_has_another_shape(other: render.Files) -> None:
    assert other.shape != files(plan()).shape


@pytest.mark.parametrize(
    "other",
    [
        plan(exported("web", POD)),
        plan(exported("web", POD), exported("api")),
        plan(egress=(WEB, API)),
    ],
)
def test_what_can_be_told_has_the_same_shape(other: GatewayPlan) -> None:
    assert files(other).shape == files(plan()).shape
    spaced = Certificate(" cert\n", "key\n\n", "ca")
    assert files(other, certificate=spaced).shape == files(plan()).shape


def test_commands_are_sent_by_lines_of_bounded_length() -> None:
    commands = [f"show map {'x' * 500}{i}" for i in range(40)]
    lines = runtime.batches(commands)
    assert ";".join(lines).split(";") == commands
    assert len(lines) > 1
    assert max(map(len, lines)) <= runtime.COMMAND_MAX
    assert runtime.batches([]) == []


# ---------------------------------------------------------------------------------------------------------- answers
STAT = """# pxname,svname,qcur,scur,dses,status,check_status,last_chk,
ingress,FRONTEND,,3,7,OPEN,,,

No such proxy.

# pxname,svname,qcur,scur,dses,status,check_status,last_chk,
peer:beta,10.0.0.2:15443,0,1,,UP 2/4,* L4TOUT,"timeout, at step 1",
peer:beta,10.0.0.3:15443,0,0,,DOWN,L6RSP,,
nodes:beta,b1,0,0,,UP,INI,,
"""


def test_statistics_are_read_by_their_names() -> None:
    rows = runtime.parse_stat(STAT)
    assert [(r.proxy, r.server, r.sessions, r.refused, r.up, r.checked) for r in rows] == [
        ("ingress", "FRONTEND", 3, 7, False, False),
        ("peer:beta", "10.0.0.2:15443", 1, 0, True, True),
        ("peer:beta", "10.0.0.3:15443", 0, 0, False, True),
        ("nodes:beta", "b1", 0, 0, True, False),
    ]
    assert states.merged({}, rows) == {
        ("peer:beta", "10.0.0.2:15443"): True,
        ("peer:beta", "10.0.0.3:15443"): False,
        ("nodes:beta", "b1"): False,
    }
    assert states.merged({("nodes:beta", "b1"): True}, rows)["nodes:beta", "b1"]
    assert runtime.parse_stat("") == runtime.parse_stat("Unknown command.\n") == []


def test_servers_maps_and_facts_are_read() -> None:
    text = (
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n"
        "6 in:0 1 s1 10.1.1.5 2 0 8080\n6 in:0 2 s2 127.0.0.1 0 5 9\n7 peer:beta 1 b1 10.0.0.2 2 0 15443\n\n"
    )
    assert runtime.parse_lines(text) == {"in:0": {"s1": POD, "s2": None}}
    assert runtime.parse_map("0x5 20000 peer:beta\n0x6 20001 peer:gamma\n\n") == {
        "20000": "peer:beta", "20001": "peer:gamma",
    }  # fmt: skip
    assert runtime.parse_info("Pid: 7\ndescription: abc\n\n")["description"] == "abc"


# ---------------------------------------------------------------------------------------------------------- process
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu aes sse2\n", True),
        ("flags\t\t: fpu sse2\n", False),
        ("Features\t: fp asimd evtstrm crc32 cpuid\n", False),
        ("Features\t: fp asimd aes\n", True),
        ("processor : 0\n", True),
    ],
)
def test_a_machine_without_aes_is_known(text: str, expected: bool) -> None:
    assert process.has_aes(text) is expected


def test_without_aes_another_cipher_comes_first() -> None:
    assert (
        "ciphersuites TLS_CHACHA20"
        in render.render(CONFIG, plan(), allocate(Allocation(), (WEB,)), (), PEM, aes=False).config
    )


def test_a_process_is_known_by_when_it_started() -> None:
    me = process.find(1)
    assert me is not None
    assert me.alive()
    assert not dataclasses.replace(me, started=me.started + 1).alive()
    assert not dataclasses.replace(me, boot="another").alive()
    dataclasses.replace(me, started=me.started + 1).signal(9)  # nobody is hurt
    assert process.find(2**22 + 1) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("[NOTICE] (7) : version\n[ALERT]    (7) : config : bad word\n[ALERT] (7) : config : Fatal errors found.\n", "config : bad word"),
        ("[ALERT]    (7) : cannot bind\n[ALERT] (7) : [main()] no.\n", "cannot bind; [main()] no."),
        ("Segmentation fault\n", "Segmentation fault"),
        ("", ""),
    ],
)  # fmt: skip
def test_errors_are_told_without_decoration(said: str, expected: str) -> None:
    assert process.alerts(said) == expected
