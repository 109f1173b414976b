"""Real HAProxies in namespaces: what passes between clusters, what is refused, and what a node process's end changes."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.integration.node.gateway.sites import (
    LIMIT_S,
    WEB,
    Site,
    World,
    needs_haproxy,
    until,
    up,
    world,
)
from tests.support.tls import TestAuthority

from cluster_agent.node.gateway.model import EgressKey, GatewayPlan, Ingress, PeerSites, Target
from cluster_agent.node.gateway.process import find
from machinery.api.fleet.multicluster import port_name, probe_name

pytestmark = [needs_haproxy, pytest.mark.root, pytest.mark.integration]

FROM_BETA = EgressKey("shop", "web", WEB, "beta")
BOTH, NONE = (True, True), (False, False)


@pytest.fixture
async def clusters(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def pair(clusters: World) -> tuple[Site, Site]:
    alpha, beta, _ = clusters.sites
    beta.space.serve("beta-web", 8080, 9)
    return alpha, beta


def pod(site: Site, port: int = 8080) -> Target:
    return Target(site.pod, port)


async def test_a_pod_reaches_the_other_clusters_service_through_both_gateways(
    clusters: World,
) -> None:
    alpha, beta = await pair(clusters)
    far = await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    await until(near, lambda: up(near, beta) == BOTH)
    assert near.serves(FROM_BETA)
    assert await alpha.read(near.listener(FROM_BETA)) == f"beta-web {beta.pod}\n".encode()
    # alpha exports nothing: its gateway answers probes, and closes what asks for a Service.
    await until(far, lambda: up(far, alpha) == BOTH)
    assert await beta.read(far.listener(EgressKey("shop", "web", WEB, "alpha"))) == b""


async def test_connections_that_the_proxy_turned_here_find_their_listener(clusters: World) -> None:
    """As a client means it: to the Service's address and port, which netfilter remembers and would tell HAProxy."""
    alpha, beta = await pair(clusters)
    await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    await until(near, lambda: up(near, beta) == BOTH)
    listener = near.listener(FROM_BETA)
    alpha.space.sh("ip", "route", "replace", "10.96.0.0/16", "dev", "eth0")
    alpha.space.sh("nft", "add", "table", "ip", "turn")
    hook = "{ type nat hook output priority -100 ; }"
    alpha.space.sh("nft", f"add chain ip turn output {hook}")
    turned = f"tcp dport 80 dnat to {listener}"
    alpha.space.sh("nft", f"add rule ip turn output ip daddr 10.96.0.1 {turned}")
    assert await alpha.read(Target("10.96.0.1", 80)) == f"beta-web {beta.pod}\n".encode()


async def test_endpoints_come_and_go_without_a_reload(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    far = await clusters.serve(beta, clusters.plan(beta, beta.exported(), peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    await until(near, lambda: up(near, beta) == BOTH)
    before = process_of(beta)
    assert await alpha.read(near.listener(FROM_BETA)) == b""
    far.apply(clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    await until(far, lambda: far.ready)
    assert await alpha.read(near.listener(FROM_BETA)) != b""
    far.apply(clusters.plan(beta, beta.exported(), peers=(alpha,)))
    await until(far, lambda: far.ready)
    assert await alpha.read(near.listener(FROM_BETA)) == b""
    assert process_of(beta) == before
    # So do exports: one more, and none at all.
    more = Ingress(port_name("beta", "shop", "more", WEB), (pod(beta),))
    far.apply(clusters.plan(beta, more, peers=(alpha,)))
    await until(far, lambda: far.ready)
    from_more = EgressKey("shop", "more", WEB, "beta")
    near.apply(GatewayPlan("alpha", (), (FROM_BETA, from_more), (beta.as_peer,)))
    await until(near, lambda: near.serves(from_more))
    assert await alpha.read(near.listener(from_more)) != b""
    assert await alpha.read(near.listener(FROM_BETA)) == b""
    assert process_of(beta) == before
    # An import more is a line of a map.
    before = process_of(alpha)
    other = EgressKey("shop", "other", WEB, "beta")
    near.apply(GatewayPlan("alpha", (), (FROM_BETA, other), (beta.as_peer,)))
    await until(near, lambda: near.serves(other))
    assert near.listener(other) != near.listener(FROM_BETA)
    assert process_of(alpha) == before


async def test_what_is_no_longer_exported_is_refused_and_cut(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    other = Ingress(port_name("beta", "shop", "other", WEB), (pod(beta, 9),))
    plan = clusters.plan(beta, beta.exported(pod(beta, 9)), other, peers=(alpha,))
    far = await clusters.serve(beta, plan)
    from_other = EgressKey("shop", "other", WEB, "beta")
    near = await clusters.serve(
        alpha, GatewayPlan("alpha", (), (FROM_BETA, from_other), (beta.as_peer,))
    )
    await until(near, lambda: up(near, beta) == BOTH)
    before = process_of(beta)
    with (
        await alpha.dial(near.listener(FROM_BETA)) as link,
        await alpha.dial(near.listener(from_other)) as kept,
    ):
        for each in (link, kept):
            assert (await alpha.run(lambda each=each: each.recv(100))).startswith(b"beta-web")
        far.apply(clusters.plan(beta, other, peers=(alpha,)))
        await until(far, lambda: far.ready)
        assert await alpha.run(lambda: received(link)) == b""
        assert await alpha.read(near.listener(FROM_BETA)) == b""
        await alpha.run(lambda: kept.sendall(b"still here"))
        assert await alpha.run(lambda: kept.recv(100)) == b"still here"
    assert process_of(beta) == before


async def test_a_reload_keeps_connections_and_states(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    gamma = clusters.sites[2]
    exported = beta.exported(pod(beta, 9))
    far = await clusters.serve(beta, clusters.plan(beta, exported, peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    await until(near, lambda: up(near, beta) == BOTH)
    before = process_of(alpha), process_of(beta)
    fell = []
    near.on_change(lambda: fell.append(True) if up(near, beta) != BOTH else None)
    with await alpha.dial(near.listener(FROM_BETA)) as link:
        assert (await alpha.run(lambda: link.recv(100))).startswith(b"beta-web")
        far.apply(clusters.plan(beta, exported, peers=(alpha, gamma)))
        near.apply(clusters.plan(alpha, peers=(beta, gamma)))
        await until(far, lambda: far.ready)
        await until(near, lambda: near.ready)
        assert not {process_of(alpha), process_of(beta)} & {*before}
        await alpha.run(lambda: link.sendall(b"still here"))
        assert await alpha.run(lambda: link.recv(100)) == b"still here"
    # An export that goes together with a reload is cut as well.
    with await alpha.dial(near.listener(FROM_BETA)) as link:
        assert (await alpha.run(lambda: link.recv(100))).startswith(b"beta-web")
        far.apply(clusters.plan(beta, peers=(alpha,)))
        await until(far, lambda: far.ready)
        assert await alpha.run(lambda: received(link)) == b""
    assert not fell
    assert up(near, gamma) == NONE


def received(link: socket.socket) -> bytes:
    """Nothing where it was closed or reset."""
    try:
        return link.recv(100)
    except ConnectionError:
        return b""


async def test_names_and_clients_that_are_unknown_are_refused(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    good = clusters.ca.gateway("alpha")
    web = port_name("beta", "shop", "web", WEB)

    async def says(name: str, ca: TestAuthority, cluster: str = "alpha") -> bytes:
        identity = good if (ca, cluster) == (clusters.ca, "alpha") else ca.gateway(cluster)
        context = clusters.ca.client_context(identity)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return await alpha.run(lambda: over_tls(context, beta.address, name))

    assert (await says(web, clusters.ca)).startswith(b"beta-web")
    assert await says(probe_name("beta"), clusters.ca) == b"", "answers requests, and says nothing"
    assert await says(port_name("beta", "shop", "web", 81), clusters.ca) == b""
    assert await says(web, TestAuthority("another")) == b""
    assert await says(web, clusters.ca, "gamma") == b"", "of the same CA, but no peer"
    assert await alpha.run(lambda: over_tls(None, beta.address, web)) == b"", (
        "without a certificate"
    )


def over_tls(context: ssl.SSLContext | None, address: str, name: str) -> bytes:
    """What the server sends first; nothing where it refuses. A bare client trusts anybody and has no certificate."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, 15443), timeout=3) as plain,
            context.wrap_socket(plain, server_hostname=name) as link,
        ):
            return link.recv(100)
    except (ConnectionError, ssl.SSLError, TimeoutError):
        return b""


async def test_a_dead_peer_is_seen_and_its_listeners_close_at_once(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    far = await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    await until(near, lambda: up(near, beta) == BOTH)
    process = find(process_of(beta))
    assert process is not None
    process.signal(signal.SIGSTOP)  # the kernel still accepts connections, and nobody answers
    await until(near, lambda: up(near, beta) == NONE)
    assert await alpha.read(near.listener(FROM_BETA)) == b""
    process.signal(signal.SIGCONT)
    await until(near, lambda: up(near, beta) == BOTH)
    assert far.ready


async def test_only_the_certificate_says_which_cluster_answers(clusters: World) -> None:
    """gamma has the range that alpha believes to be beta's, and alpha's packets go there."""
    alpha, beta = await pair(clusters)
    gamma = clusters.sites[2]
    gamma.space.sh("ip", "address", "add", f"{beta.probe}/32", "dev", "lo")
    for site, peer in ((beta, alpha), (gamma, alpha)):
        await clusters.serve(site, clusters.plan(site, peers=(peer,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta, gamma)))
    await until(near, lambda: up(near, beta) == up(near, gamma) == BOTH)
    clusters.route(alpha, beta, gamma)
    await until(near, lambda: up(near, beta) == (True, False))
    assert up(near, gamma) == BOTH
    clusters.route(alpha, beta, beta)
    await until(near, lambda: up(near, beta) == BOTH)


async def test_a_peer_of_another_federation_never_answers(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    gamma = clusters.sites[2]
    await clusters.serve(beta, clusters.plan(beta, peers=(alpha,)), ca=TestAuthority("another"))
    await clusters.serve(gamma, clusters.plan(gamma, peers=(alpha,)))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta, gamma)))
    await until(near, lambda: up(near, gamma) == BOTH)
    assert up(near, beta) == NONE


async def test_haproxy_outlives_its_owner_and_is_found_again(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta, 9)), peers=(alpha,)))
    plan = clusters.plan(alpha, alpha.exported(pod(alpha)), peers=(beta,))
    identity = clusters.ca.gateway("alpha")
    document = {
        "folder": str(alpha.config.directory), "binary": str(alpha.binary),
        "plan": msgspec.json.encode(plan).decode(), "certificate": identity.certificate.decode(),
        "key": identity.key.decode(), "ca": clusters.ca.pem.decode(),
        "drain_s": str(alpha.config.drain_s),
    }  # fmt: skip
    await alpha.own("169.254.20.11")
    await asyncio.to_thread(own_until_ready_then_die, json.dumps(document))
    before = process_of(alpha)
    successor = alpha.gateway()
    clusters.start(successor)
    successor.apply(plan)  # and the certificate is the one that is there
    await until(successor, lambda: successor.ready)
    await until(successor, lambda: up(successor, beta) == BOTH)
    assert process_of(alpha) == before, "nothing was started anew"
    assert await alpha.read(successor.listener(FROM_BETA)) != b""
    # Killed, it comes back by itself; so does everything that it served.
    os.kill(before, signal.SIGKILL)
    await until(successor, lambda: not successor.ready)
    await until(successor, lambda: successor.ready and up(successor, beta) == BOTH)
    assert process_of(alpha) != before
    assert await alpha.read(successor.listener(FROM_BETA)) != b""


def own_until_ready_then_die(document: str) -> None:
    """A node process that gets as far as serving, and is killed."""
    owner = Path(__file__).with_name("owner.py")
    with subprocess.Popen(
        [sys.executable, str(owner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(document)
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        process.kill()


async def test_one_that_hangs_is_ended_by_the_next_owner(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    plan = clusters.plan(alpha, peers=(beta,))
    first = await clusters.serve(alpha, plan)
    await clusters.stop(first)
    hung = find(process_of(alpha))
    assert hung is not None
    hung.signal(signal.SIGSTOP)
    successor = alpha.gateway()
    clusters.start(successor)
    successor.apply(plan)
    await until(successor, lambda: successor.ready)
    assert not hung.alive()
    assert process_of(alpha) != hung.pid


async def test_a_port_that_is_taken_is_told_and_tried_again(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    notes: list[tuple[str, str]] = []
    gateway = alpha.gateway(notes)
    other = await alpha.run(lambda: socket.create_server((alpha.address, 15443)))
    with other:
        clusters.certify(gateway, "alpha")
        gateway.apply(clusters.plan(alpha, peers=(beta,)))
        clusters.start(gateway)
        await until(gateway, lambda: bool(notes))
        assert notes[0][0] == "GatewayFailed"
        assert "15443" in gateway.trouble
    await until(gateway, lambda: gateway.ready)
    assert not gateway.trouble


async def test_without_haproxy_the_reason_is_told(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    alpha.binary.unlink()
    gateway = alpha.gateway()
    clusters.certify(gateway, "alpha")
    gateway.apply(clusters.plan(alpha, peers=(beta,)))
    clusters.start(gateway)
    await until(gateway, lambda: "not installed" in gateway.trouble)


async def test_what_haproxy_refuses_changes_nothing_and_is_told(clusters: World) -> None:
    alpha, beta = await pair(clusters)
    notes: list[tuple[str, str]] = []
    gateway = alpha.gateway(notes)
    clusters.certify(gateway, "alpha")
    gateway.apply(clusters.plan(alpha, peers=(beta,)))
    clusters.start(gateway)
    await until(gateway, lambda: gateway.ready)
    before = process_of(alpha)
    gateway.set_certificate("no certificate", "no key", clusters.ca.pem.decode())
    await until(gateway, lambda: gateway.ready)
    assert [reason for reason, _ in notes] == ["GatewayCertificateRefused"]
    assert process_of(alpha) == before
    clusters.certify(gateway, "alpha")
    await until(gateway, lambda: gateway.ready and process_of(alpha) != before)
    key = next(alpha.config.directory.glob("live/gateway.pem"))
    assert key.stat().st_mode & 0o777 == 0o600
    assert (alpha.config.directory / "admin.sock").stat().st_mode & 0o777 == 0o600
    # It reads the key as root and lets go of that a moment after it has begun, which is no change of the gateway's.
    async with asyncio.timeout(LIMIT_S):
        while Path(f"/proc/{process_of(alpha)}").stat().st_uid == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_peer_that_is_a_stranger_to_us_is_not_let_in(clusters: World) -> None:
    """beta does not know alpha (yet): alpha's probes see that it would refuse the connections."""
    alpha, beta = await pair(clusters)
    far = await clusters.serve(beta, clusters.plan(beta, beta.exported(pod(beta))))
    near = await clusters.serve(alpha, clusters.plan(alpha, peers=(beta,)))
    assert up(near, beta) == NONE
    far.apply(clusters.plan(beta, beta.exported(pod(beta)), peers=(alpha,)))
    await until(near, lambda: up(near, beta) == BOTH)
    near.apply(GatewayPlan("alpha", (), (FROM_BETA,), (PeerSites("beta"),)))
    await until(near, lambda: near.ready)
    assert await alpha.read(near.listener(FROM_BETA)) == b"", "a peer without gateways"


def process_of(site: Site) -> int:
    """The HAProxy that serves."""
    return int(json.loads((site.config.directory / "process.json").read_text())[0][0])
