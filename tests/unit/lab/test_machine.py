"""Checks before, traces after: preflight, journal, teardown's readings, state and lock, the forwarder."""

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from federation.lab import forward, hosts, preflight, state, teardown
from federation.lab.fleet import describe, file_system
from federation.lab.journal import Entry, Journal
from federation.lab.plan import LabSpec, make_plan

SPEC = LabSpec(directory="/x/.lab")
WELL = preflight.Facts(root=True)

PROBLEMS = [
    pytest.param(SPEC, WELL, "", id="all is well"),
    pytest.param(SPEC, replace(WELL, root=False), "--runtime hollow", id="no root"),
    pytest.param(
        SPEC,
        replace(WELL, missing_tools=frozenset({"ctr", "runc"})),
        "apt-get install containerd runc",
        id="packages",
    ),
    pytest.param(
        SPEC,
        replace(WELL, missing_plugins=("/usr/lib/cni/bridge",)),
        "containernetworking-plugins",
        id="CNI",
    ),
    pytest.param(SPEC, replace(WELL, free_bytes=5_000_000), "5 MB are free", id="disk"),
    pytest.param(
        SPEC, replace(WELL, programs_missing=("cluster-agent",)), "make setup", id="programs"
    ),
    pytest.param(SPEC, replace(WELL, directory='/a"b/.lab'), "move it", id="odd path"),
    pytest.param(SPEC, replace(WELL, root_is_mount=False), "mount --bind", id="plain chroot"),
    pytest.param(
        replace(SPEC, runtime="hollow"),
        replace(WELL, missing_tools=frozenset({"runc"}), missing_plugins=("x",)),
        "",
        id="hollow nodes need no runtime",
    ),
    pytest.param(
        replace(SPEC, runtime="hollow", rooted=False),
        preflight.Facts(root=False, missing_tools=frozenset({"nsenter"})),
        "",
        id="nor hosts without root",
    ),
]


@pytest.mark.parametrize(("spec", "facts", "sentence"), PROBLEMS)
def test_problems_name_the_remedy(spec: LabSpec, facts: preflight.Facts, sentence: str) -> None:
    found = preflight.problems(spec, facts)
    assert len(found) == (1 if sentence else 0)
    assert sentence in "".join(found)


def test_a_taken_port_is_named() -> None:
    plan = make_plan(replace(SPEC, runtime="hollow", rooted=False), 5)
    address = plan.federation[0].address
    assert preflight.taken_ports(plan) == ()
    with socket.create_server((address, 6443)):
        assert preflight.taken_ports(plan) == (f"{address}:6443",)
    assert preflight.taken_ports(make_plan(SPEC, 5)) == (), (
        "hosts of their own have all their ports"
    )
    assert (
        f"port taken: another program listens on {address}"
        in preflight.port_problems((address,))[0]
    )


MOUNTS = """\
22 28 0:21 / /proc rw,relatime - proc proc rw
28 1 8:1 / / rw,relatime - ext4 /dev/disk rw
"""


def test_a_plain_chroot_is_told_by_its_mounts() -> None:
    assert preflight.has_root(MOUNTS)
    assert not preflight.has_root(MOUNTS.splitlines()[0])


ROUTES = """\
default via 10.0.0.1 dev eth0
10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2
198.18.5.7 dev wg0 scope link
unreachable 198.18.64.0/20
"""


def test_routes_in_use() -> None:
    assert preflight.parse_routes(ROUTES) == [
        ipaddress.IPv4Network(text) for text in ("10.0.0.0/24", "198.18.5.7/32", "198.18.64.0/20")
    ]


PROXIES = [
    ({}, ""),
    ({"HTTPS_PROXY": "http://p"}, "NO_PROXY,198.18.0.0/20"),
    ({"https_proxy": "http://p", "no_proxy": "localhost"}, "NO_PROXY,198.18.0.0/20"),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a,198.18.0.0/20"}, ""),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, ""),
]


@pytest.mark.parametrize(("environ", "hint"), PROXIES)
def test_proxy_hint(environ: dict[str, str], hint: str) -> None:
    said = preflight.proxy_hint(make_plan(SPEC, 0), environ)
    assert (hint in said) if hint else not said


def test_journal_survives_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.record("directory", "/var/lib/x")
    journal.record("link", "ub-1")
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('{"kind": "lin')
    assert journal.entries() == [Entry("directory", "/var/lib/x"), Entry("link", "ub-1")]


def test_mounts_below_the_lab_newest_first() -> None:
    mountinfo = (
        "1 0 8:1 / / rw - ext4 d rw\n2 1 0:4 n /a\\040b/.lab/ns rw - ext4 d rw\n"
        "3 2 0:4 n /a\\040b/.lab/ns/x.net rw - nsfs n rw\n4 1 0:4 / /a\\040b/.labs rw - tmpfs t rw\n"
    )
    assert hosts.mounts_below("/a b/.lab", mountinfo) == ["/a b/.lab/ns/x.net", "/a b/.lab/ns"]


def test_take_down_keeps_the_logs_only(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "data/x").mkdir(parents=True)
    (tmp_path / "lab.json").write_text("{}")
    said: list[str] = []
    teardown.take_down(str(tmp_path), said.append, rooted=False)
    assert os.listdir(tmp_path) == ["log"]
    teardown.take_down(str(tmp_path), said.append, rooted=False)
    teardown.take_down(str(tmp_path / "nowhere"), said.append, rooted=False)
    assert said[0] == "stopping processes"


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = replace(SPEC, directory=str(tmp_path), clusters=("a", "b"), hollow_nodes=3)
    assert state.load(str(tmp_path)) is None
    state.save(state.LabState(spec, 7))
    assert state.load(str(tmp_path)) == state.LabState(spec, 7)
    assert not state.hosts_made(str(tmp_path))
    state.mark_hosts_made(str(tmp_path))
    assert state.hosts_made(str(tmp_path))
    (tmp_path / "hosts.json").write_text("another boot")
    assert not state.hosts_made(str(tmp_path))


def test_two_commands_do_not_meet(tmp_path: Path) -> None:
    directory = str(tmp_path / ".lab")
    held = state.lock(directory)
    with (
        held,
        pytest.raises(state.StateError, match=f"process {os.getpid()}"),
        state.lock(directory),
    ):
        raise AssertionError("the lock was given twice")
    with state.lock(directory):
        assert json.loads(Path(directory, "lock").read_text()) == os.getpid()


def test_options_are_told_as_typed() -> None:
    spec = replace(SPEC, hollow_nodes=5, servers=2, database_url="postgresql://secret@x/y")
    spec = replace(spec, server_zones=("zone-a", "zone-b"))
    assert describe(spec) == (
        "--clusters alpha,beta,gamma --nodes 1 --runtime containerd --hollow-nodes 5 "
        "--servers 2 --server-zones zone-a,zone-b --database-url …"
    )


def test_file_system_of_a_path() -> None:
    assert file_system("/proc/self") == "proc"


@pytest.mark.parametrize(("turn", "first"), [(0, "a"), (1, "b"), (2, "a")])
def test_connections_are_shared(turn: int, first: str) -> None:
    assert forward.order([("a", 1), ("b", 2)], turn)[0] == (first, turn % 2 + 1)


async def test_what_goes_to_a_target_that_is_down_is_cut() -> None:
    """It may have lost its power with connections open: it accepts no new one, and ends no old one."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        await reader.read()
        writer.close()

    target = await asyncio.start_server(greet, "127.0.0.1", 0)
    place = target.sockets[0].getsockname()[:2]
    server = forward.listen_in("", ("127.0.0.1", 0))
    address = server.getsockname()[:2]
    serving = asyncio.ensure_future(forward.Forwarder([place]).run(server))
    old, old_writer = await asyncio.open_connection(*address)
    assert await old.read(5) == b"hello"
    target.close()  # what is accepted stays open, and nobody says good-bye
    fresh, fresh_writer = await asyncio.open_connection(*address)
    assert await fresh.read() == b""
    async with asyncio.timeout(5):
        assert await old.read() == b""
    for writer in (old_writer, fresh_writer):
        writer.close()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_forwarder_skips_a_dead_target() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    target = await asyncio.start_server(shout, "127.0.0.1", 0)
    dead = socket.create_server(("127.0.0.1", 0))
    places = [dead.getsockname()[:2], target.sockets[0].getsockname()[:2]]
    dead.close()
    server = forward.listen_in("", ("127.0.0.1", 0))
    place = server.getsockname()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(forward.Forwarder(places).run(server))
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*place[:2])
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"HELLO"
            writer.close()
            await writer.wait_closed()
        serving.cancel()
    target.close()
    await target.wait_closed()
