"""The name server of a node: the directory of names, the way upstream, and the sockets.

It starts before anything is known and says so (SERVFAIL for our zones); whoever feeds it calls `set_state` once with
everything, or changes `directory` object by object and marks the zones ready.
"""

from collections.abc import Callable

from cluster_agent.node.dns.directory import Directory
from cluster_agent.node.dns.forward import Forwarder
from cluster_agent.node.dns.listen import TcpListener, UdpListener, bound_pair
from cluster_agent.node.dns.model import DnsConfig, State
from cluster_agent.node.dns.resolver import Answer, Resolver
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner


class DnsServer:
    """`roll` gives random numbers from 0 to below 1; ids of upstream queries come from it, so it must not be guessable
    (random.SystemRandom().random)."""

    def __init__(self, config: DnsConfig, clock: Clock, roll: Callable[[], float]) -> None:
        self._config = config
        self._tasks = TaskOwner()
        self.directory = Directory(config, serial=int(clock.now().timestamp()))
        self.forwarder = Forwarder(config, clock, roll, self._tasks)
        self.resolver = Resolver(config, self.directory, self.forwarder, roll, clock.monotonic)
        self._udp: list[UdpListener] = []
        self._tcp: list[TcpListener] = []
        self.ports: dict[str, int] = {}
        """Address -> the port it listens on, after `start`."""

    @property
    def ready(self) -> bool:
        """Whether the cluster's names are known and the sockets open."""
        return self.directory.ready and len(self._tcp) == len(self._config.addresses)

    def set_state(self, state: State) -> None:
        """All names at once; only differences are worked on."""
        self.directory.set_state(state)

    async def start(self) -> None:
        """Listen. Raises OSError where an address is not this host's or its port is taken; then on none."""
        try:
            for address in self._config.addresses:
                await self._listen(address)
        except OSError:
            self._close()
            raise

    async def _listen(self, address: str) -> None:
        config = self._config
        udp, tcp = bound_pair(address, config.port, free_bind=config.free_bind)
        self.ports[address] = udp.getsockname()[1]
        self._udp.append(UdpListener(udp, self._handle, self._tasks))
        listener = TcpListener(
            self._handle,
            self._tasks,
            connections_max=config.tcp_connections_max,
            idle_s=config.tcp_idle_s,
        )
        try:
            await listener.start(tcp)
        except OSError:
            tcp.close()
            raise
        self._tcp.append(listener)

    def _handle(self, data: bytes, source: str, udp: bool) -> Answer:
        return self.resolver.answer(data, source, udp=udp)

    def _close(self) -> None:
        for udp in self._udp:
            udp.close()
        for tcp in self._tcp:
            tcp.close()
        self._udp.clear()
        self._tcp.clear()

    async def stop(self) -> None:
        """Close the sockets; questions on their way are given up."""
        self._close()
        await self._tasks.close()
