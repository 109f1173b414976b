"""Clusters as namespaces on one wire, each with a gateway of its own, and pods that are addresses of its loopback.

    alpha (172.31.20.1, pods 10.81.1.0/24) --- wire --- beta (172.31.20.2, pods 10.81.2.0/24) --- gamma (… .3)

HAProxy is started inside the namespace by a script; its admin socket is a file, so the tests reach it from outside.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.integration.node.proxy.netns import Namespace
from tests.support.tls import TestAuthority

from cluster_agent.node.gateway.gateway import Gateway
from cluster_agent.node.gateway.model import (
    EgressKey,
    GatewayConfig,
    GatewayPlan,
    Ingress,
    PeerSites,
    Target,
)
from machinery.api.fleet.multicluster import GatewayAddress, NodeRange, port_name
from machinery.kit.clock import SystemClock

T = TypeVar("T")
LIMIT_S = 25.0
CLUSTERS = ("alpha", "beta", "gamma")
WEB = 80
needs_haproxy = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("haproxy") or not shutil.which("ip"),
    reason="needs root, haproxy and ip",
)


class Site:
    """One cluster's host."""

    def __init__(self, stem: str, number: int, folder: Path) -> None:
        self.cluster, self.number, self.folder = CLUSTERS[number - 1], number, folder
        self.address = f"172.31.20.{number}"
        self.pod = f"10.81.{number}.5"
        self.probe = f"10.81.{number}.1"
        self.space = Namespace(f"{stem}{number}")
        for address in (self.pod, self.probe):
            self.space.sh("ip", "address", "add", f"{address}/32", "dev", "lo")
        self.binary = folder / f"haproxy-{self.cluster}"
        _ = self.binary.write_text(f'#!/bin/sh\nexec {" ".join(self.space.prefix)} haproxy "$@"\n')
        self.binary.chmod(0o755)

    @property
    def config(self) -> GatewayConfig:
        return GatewayConfig(
            self.cluster, self.folder / self.cluster, binary=str(self.binary),
            debounce_s=0.02, poll_s=0.1, reload_gap_s=0.05, drain_s=60,
        )  # fmt: skip

    def gateway(self, notes: list[tuple[str, str]] | None = None) -> Gateway:
        def note(reason: str, message: str) -> None:
            if notes is not None:
                notes.append((reason, message))

        return Gateway(self.config, SystemClock(), own=self.own, on_note=note)

    async def own(self, address: str) -> None:
        self.space.sh("ip", "address", "replace", f"{address}/32", "dev", "lo")

    @property
    def as_peer(self) -> PeerSites:
        return PeerSites(
            self.cluster,
            (GatewayAddress("n1", self.address),),
            (NodeRange("n1", (f"10.81.{self.number}.0/24",), self.probe),),
        )

    def exported(self, *targets: Target) -> Ingress:
        """The Service web in shop, as this cluster exports it."""
        return Ingress(port_name(self.cluster, "shop", "web", WEB), targets)

    async def run(self, work: Callable[[], T]) -> T:
        """A blocking call, in the namespace."""
        return await asyncio.get_running_loop().run_in_executor(self.space.executor, work)

    async def dial(self, target: Target) -> socket.socket:
        def connect() -> socket.socket:
            return socket.create_connection((target.ip, target.port), timeout=LIMIT_S)

        return await self.run(connect)

    async def read(self, target: Target) -> bytes:
        """What a new connection says first; nothing where it is closed or reset."""
        with await self.dial(target) as link:
            try:
                return await self.run(lambda: link.recv(200))
            except ConnectionError:
                return b""


class World:
    """Three sites, a CA that they share, and the gateways that run."""

    def __init__(self, folder: Path) -> None:
        stem = f"gw{os.getpid() % 100_000}x"
        self.ca = TestAuthority()
        self.wire = Namespace(f"{stem}w")
        self.wire.sh("ip", "link", "add", "wire", "type", "bridge")
        self.wire.sh("ip", "link", "set", "wire", "up")
        self.sites = [Site(stem, number, folder) for number in (1, 2, 3)]
        for site in self.sites:
            port = f"s{site.number}"
            self.wire.sh(
                "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", site.space.name,
            )  # fmt: skip
            self.wire.sh("ip", "link", "set", port, "master", "wire", "up")
            site.space.sh("ip", "address", "add", f"{site.address}/24", "dev", "eth0")
            site.space.sh("ip", "link", "set", "eth0", "up")
        for site in self.sites:
            for other in self.sites:
                if other is not site:
                    self.route(site, other, other)
        self._tasks: dict[Gateway, asyncio.Task[None]] = {}

    def route(self, site: Site, destination: Site, via: Site) -> None:
        """`site` sends packets for the pods of `destination` to the host of `via`."""
        cidr = f"10.81.{destination.number}.0/24"
        site.space.sh("ip", "route", "replace", cidr, "via", via.address)

    def plan(self, site: Site, *ingress: Ingress, peers: tuple[Site, ...] = ()) -> GatewayPlan:
        """`site` exports these, and imports web of every peer."""
        egress = tuple(EgressKey("shop", "web", WEB, peer.cluster) for peer in peers)
        return GatewayPlan(site.cluster, ingress, egress, tuple(peer.as_peer for peer in peers))

    def certify(self, gateway: Gateway, cluster: str, ca: TestAuthority | None = None) -> None:
        """With a certificate of `ca`; it believes the CA of the world."""
        identity = (ca or self.ca).gateway(cluster)
        gateway.set_certificate(
            identity.certificate.decode(), identity.key.decode(), self.ca.pem.decode()
        )

    def start(self, gateway: Gateway) -> None:
        self._tasks[gateway] = asyncio.create_task(gateway.run())

    async def stop(self, gateway: Gateway) -> None:
        """End the gateway's task; its HAProxy stays."""
        task = self._tasks.pop(gateway)
        task.cancel()
        _ = await asyncio.gather(task, return_exceptions=True)

    async def serve(self, site: Site, plan: GatewayPlan, *, ca: TestAuthority | None = None) -> Gateway:  # fmt: skip
        """A gateway that serves the plan."""
        gateway = site.gateway()
        self.certify(gateway, site.cluster, ca)
        gateway.apply(plan)
        self.start(gateway)
        await until(gateway, lambda: gateway.ready)
        return gateway

    async def close(self) -> None:
        for gateway in [*self._tasks]:
            await self.stop(gateway)
            await gateway.end()

    def remove(self) -> None:
        for space in (*(site.space for site in self.sites), self.wire):
            space.close()


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    made = World(folder)
    try:
        yield made
    finally:
        await made.close()
        made.remove()


async def until(gateway: Gateway, holds: Callable[[], bool]) -> None:
    """Wait until a change makes it so."""
    changed = asyncio.Event()
    gateway.on_change(changed.set)
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            _ = await changed.wait()
            changed.clear()


def up(gateway: Gateway, site: Site) -> tuple[bool, bool]:
    """Whether the peer's gateway and its node answer."""
    state = gateway.states[site.cluster]
    return state.gateways[f"{site.address}:15443"], state.nodes["n1"]
