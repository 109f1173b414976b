"""A HAProxy that only pretends: it runs the files it is given, and understands what is said to it at run time."""

from collections.abc import Sequence

from cluster_agent.node.gateway.model import (
    Certificate,
    EgressKey,
    GatewayPlan,
    Ingress,
    PeerSites,
    Target,
)
from cluster_agent.node.gateway.process import ConfigRefused, GatewayError
from cluster_agent.node.gateway.render import Files, berth_name
from machinery.api.fleet.multicluster import GatewayAddress, NodeRange, port_name

STAT = "# pxname,svname,scur,dses,status,check_status,\n"
STATE = "1\n# be_name srv_name srv_addr srv_op_state srv_port\n"

WEB = EgressKey("shop", "web", 80, "beta")
API = EgressKey("shop", "api", 80, "beta")
BETA = PeerSites(
    "beta",
    (GatewayAddress("b1", "10.0.0.2"), GatewayAddress("b2", "10.0.0.3")),
    (NodeRange("b1", ("10.2.1.0/24",), "10.2.1.1"),),
)
POD, OTHER = Target("10.1.1.5", 8080), Target("10.1.1.6", 8080)


def exported(service: str, *targets: Target) -> Ingress:
    return Ingress(port_name("alpha", "shop", service, 80), targets)


def plan(*ingress: Ingress, egress: tuple[EgressKey, ...] = (WEB,)) -> GatewayPlan:
    return GatewayPlan("alpha", ingress, egress, (BETA,))


class FakeHaproxy:
    """`running` survives the gateway that is given this engine, as a real process does."""

    def __init__(self) -> None:
        self.running: Files | None = None
        self.lines: dict[str, dict[str, Target | None]] = {}
        self.maps: dict[str, dict[str, str]] = {}
        self.said: list[str] = []
        self.starts = 0
        self.checks: dict[tuple[str, str], tuple[str, str]] = {}
        """(backend, server) -> status and check_status."""
        self.refuse: set[str] = set()
        """Certificates that are not accepted."""
        self.broken = ""
        """Why no process starts."""
        self.silent = False
        self.deaf = False
        """Changes at run time have no effect."""
        self.refused = 0
        self.documents: dict[str, object] = {}
        self.disk: Certificate | None = None

    # ------------------------------------------------------------------------------------------------------- Engine
    async def adopt(self) -> str | None:
        return self.running.shape if self.running is not None else None

    async def replace(self, files: Files) -> None:
        if files.certificate.certificate in self.refuse:
            raise ConfigRefused("unable to load the certificate")
        if self.broken:
            raise GatewayError(self.broken)
        self.running, self.disk = files, files.certificate
        self.starts += 1
        self.lines = {
            berth_name(number): {f"s{i}": target for i, target in enumerate(berth.lines, 1)}
            for number, berth in enumerate(files.berths)
        }
        self.maps = {name: dict(content) for name, content in files.maps.items()}

    async def ask(self, commands: Sequence[str]) -> str:
        if self.running is None or self.silent:
            raise ConnectionRefusedError("nobody listens")
        return "\n".join(self._answer(command.split()) for command in commands)

    def alive(self) -> bool:
        return self.running is not None

    def draining(self) -> int:
        return 0

    async def end(self) -> None:
        self.running = None

    def certificate(self) -> Certificate | None:
        return self.disk

    def load(self, name: str) -> object:
        return self.documents.get(name)

    def save(self, name: str, document: object) -> None:
        self.documents[name] = document

    # ------------------------------------------------------------------------------------------------------ talking
    def _answer(self, words: list[str]) -> str:
        match words:
            case ["show", "stat", "ingress", *_]:
                return f"{STAT}ingress,FRONTEND,2,{self.refused},OPEN,,\n"
            case ["show", "stat", backend, *_]:
                rows = [
                    f"{backend},{server},0,,{status},{check},\n"
                    for (name, server), (status, check) in self.checks.items()
                    if name == backend
                ]
                return STAT + "".join(rows) if rows else "No such proxy.\n"
            case ["show", "servers", "state"]:
                return STATE + "".join(
                    f"{backend} {line} {(target or POD).ip} {2 if target else 0} {(target or POD).port}\n"
                    for backend, lines in self.lines.items()
                    for line, target in lines.items()
                )
            case ["show", "map", name]:
                return "".join(f"0x1 {key} {value}\n" for key, value in self.maps[name].items())
        self.said.append(" ".join(words))
        if not self.deaf:
            self._change(words)
        return ""

    def _change(self, words: list[str]) -> None:
        match words:
            case ["add" | "set", "map", name, key, value]:
                self.maps[name][key] = value
            case ["del", "map", name, key]:
                del self.maps[name][key]
            case ["set", "server", server, "addr", ip, "port", port]:
                backend, line = server.split("/")
                self.lines[backend][line] = Target(ip, int(port))
            case ["set", "server", server, "state", "maint"]:
                backend, line = server.split("/")
                self.lines[backend][line] = None
            case ["set", "server", _, "state", "ready"] | ["shutdown", "sessions", "server", _]:
                pass
            case _:
                raise AssertionError(f"unknown command {words}")
