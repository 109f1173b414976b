"""A node in network namespaces: a host with a bridge for pods, pods behind it, and a client beyond it.

    outside (172.31.9.2) --- host (172.31.9.1) --- cni0 (10.77.1.1) --- pods (10.77.1.x), hairpin on

Every namespace is made here under a name of its own and removed again, with the processes that run in it.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
HOST_IP = "172.31.9.1"
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"),
    reason="needs root, nft and ip",
)

SERVER = """
import socket, selectors, sys
name, ports = sys.argv[1].encode(), [int(p) for p in sys.argv[2:]]
chooser = selectors.DefaultSelector()
for port in ports:
    stream = socket.socket(socket.AF_INET6); stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    stream.bind(("::", port)); stream.listen(512)
    packet = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    packet.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); packet.bind(("::", port))
    chooser.register(stream, selectors.EVENT_READ, "tcp"); chooser.register(packet, selectors.EVENT_READ, "udp")
print("ready", flush=True)
while True:
    for key, _ in chooser.select():
        if key.data == "tcp":
            link, peer = key.fileobj.accept()
            link.sendall(name + b" " + peer[0].removeprefix("::ffff:").encode() + b"\\n")
            if ports[-1] == 9:  # echo: keep it, and answer what comes
                chooser.register(link, selectors.EVENT_READ, "link")
            else:
                link.close()
        elif key.data == "link":
            data = key.fileobj.recv(100)
            if data: key.fileobj.sendall(data)
            else: chooser.unregister(key.fileobj); key.fileobj.close()
        else:
            data, peer = key.fileobj.recvfrom(2000)
            key.fileobj.sendto(name + b" " + data, peer)
"""


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Namespace:
    """One network namespace and a thread that lives in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        sh("ip", "netns", "add", name)
        self.executor = ThreadPoolExecutor(1, name, initializer=self._enter)
        self.servers: list[subprocess.Popen[str]] = []
        self.sh("ip", "link", "set", "lo", "up")

    def _enter(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if library.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(handle)

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def sh(self, *words: str) -> str:
        return sh(*self.prefix, *words)

    def run(self, work: Callable[[], T]) -> T:
        """In the namespace's thread: sockets made there belong to it."""
        return self.executor.submit(work).result(timeout=50)

    def serve(self, name: str, *ports: int) -> None:
        """Answer TCP with `name peer` and UDP with `name data`."""
        command = [*self.prefix, sys.executable, "-c", SERVER, name, *map(str, ports)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        self.executor.shutdown()
        sh("ip", "netns", "del", self.name)


class Lab:
    """The node and who is around it."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self._open: list[Namespace] = []
        self.host = self._add("h")
        self.outside = self._add("o")
        self.pods: dict[int, Namespace] = {}
        self._link(self.outside, "out0", "172.31.9.2/24", "fd31:9::2/64")
        self.host.sh("ip", "addr", "add", f"{HOST_IP}/24", "dev", "out0")
        self.host.sh("ip", "addr", "add", "fd31:9::1/64", "dev", "out0", "nodad")
        self.host.sh("ip", "route", "add", "default", "via", "172.31.9.2")
        self.host.sh("ip", "-6", "route", "add", "default", "via", "fd31:9::2")
        self.outside.sh("ip", "route", "add", "10.77.1.0/24", "via", HOST_IP)
        self.outside.sh("ip", "route", "add", "10.96.0.0/16", "via", HOST_IP)
        self.host.sh("ip", "link", "add", "cni0", "type", "bridge")
        self.host.sh("ip", "addr", "add", "10.77.1.1/24", "dev", "cni0")
        self.host.sh("ip", "addr", "add", "fd77:1::1/64", "dev", "cni0", "nodad")
        self.host.sh("ip", "link", "set", "cni0", "up")
        self.host.sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def _add(self, tail: str) -> Namespace:
        made = Namespace(f"{self.stem}{tail}")
        self._open.append(made)
        return made

    def _link(self, space: Namespace, host_end: str, *addresses: str) -> None:
        self.host.sh(
            "ip",
            "link",
            "add",
            host_end,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space.name,
        )
        self.host.sh("ip", "link", "set", host_end, "up")
        for address in addresses:
            nodad = ("nodad",) if ":" in address else ()
            space.sh("ip", "addr", "add", address, "dev", "eth0", *nodad)
        space.sh("ip", "link", "set", "eth0", "up")

    def pod(self, number: int, *ports: int) -> Namespace:
        """A pod 10.77.1.`number` (fd77:1::`number`) that serves these ports as `pod-number`."""
        pod = self.pods[number] = self._add(f"p{number}")
        self._link(pod, f"pod{number}", f"10.77.1.{number}/24", f"fd77:1::{number}/64")
        self.host.sh("ip", "link", "set", f"pod{number}", "master", "cni0")
        self.host.sh("bridge", "link", "set", "dev", f"pod{number}", "hairpin", "on")
        pod.sh("ip", "route", "add", "default", "via", "10.77.1.1")
        pod.sh("ip", "-6", "route", "add", "default", "via", "fd77:1::1")
        if ports:
            pod.serve(f"pod-{number}", *ports)
        return pod

    def bridge_filters(self, on: bool) -> None:
        """br_netfilter in the host's namespace."""
        for name in ("iptables", "ip6tables"):
            self.host.sh("sysctl", "-qw", f"net.bridge.bridge-nf-call-{name}={int(on)}")

    def close(self) -> None:
        for space in reversed(self._open):
            space.close()


@contextlib.contextmanager
def lab(stem: str) -> Iterator[Lab]:
    made = Lab(f"{stem}{os.getpid() % 100_000}")
    try:
        yield made
    finally:
        made.close()
