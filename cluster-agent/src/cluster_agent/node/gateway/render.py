"""HAProxy's files for a plan: one frontend in, one frontend out, and maps between names, ports and backends. Pure.

    pod -> 169.254.20.11:PORT -> frontend egress -> peer:CLUSTER -> (TLS, server name) -> frontend ingress -> in:NUMBER -> pod

All listeners share one server per peer gateway, whose TLS server name comes from a map by port. That server is also the one
that is checked, so nothing has to follow its state, and a thousand imported Services cost a thousand lines of a map.
A check is a whole request over TLS: it proves that the peer has its cluster's certificate, and that it accepts ours.

Server states are right after a reload because HAProxy reads them from a file. Exports, endpoints and imports are changed at
run time. `shape` is a hash of all the rest: a process with another shape must be replaced.

HAProxy 2.6 compares a peer's certificate with the server name it sends, before any `verifyhost`: hence the wildcard names of
`machinery.api.fleet.multicluster`.

Limits: IPv4, TCP. Pods see the gateway's address as their client's. Large packets are not probed.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from cluster_agent.node.gateway.allocation import BLOCK, Allocation, Berths, Lines
from cluster_agent.node.gateway.model import (
    EGRESS_PORTS,
    Certificate,
    GatewayConfig,
    GatewayPlan,
    PeerSites,
    Target,
)
from machinery.api.fleet.multicluster import (
    GATEWAY_PORT,
    GATEWAY_USER_PREFIX,
    port_name,
    probe_name,
)

CONFIG = "haproxy.cfg"
EGRESS_MAP, NAMES_MAP = "egress.map", "names.map"
"""Port of a listener -> backend; -> the server name that it sends."""
INGRESS_MAP, CLIENTS_MAP = "ingress.map", "clients.map"
"""Server name -> backend; common name of a client's certificate -> its cluster."""
MAPS = (EGRESS_MAP, NAMES_MAP, INGRESS_MAP, CLIENTS_MAP)
KEY_FILE, CA_FILE = "gateway.pem", "ca.pem"
SOCKET, STATES = "admin.sock", "servers.state"
"""Beside the folder of the files, not in it: they pass from one configuration to the next."""

CHECK_MS, FLAP_MS, RISE = 680, 1_300, 2
"""Failures that span less than `FLAP_MS` make nobody down: three of them, 680 ms apart. HAProxy counts the pause from the
end of a check, and one that hears nothing ends after `CONNECT_MS`: so silence of less than 2.7 s makes nobody down
either, and 4.1 s always do (4.6 s with our poll)."""
GATEWAYS_A_S, NODES_A_S = 30, 20
"""Checks a second from one node. Where peers have more gateways or nodes than that allows, each is asked less often."""
CONNECT_MS = 660
PORT = f"so_id,add({EGRESS_PORTS.start - 1})"
"""The listener's port: sockets are counted as they are bound. Not `dst_port`, which asks netfilter and gets the port of the
Service's address, from which the node's proxy sent the connection here."""
NOBODY = 65_534
BERTH = "in:"
UNUSED = Target("127.0.0.1", 9)
"""What an unused server line says."""

AES_FIRST = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
CHACHA_FIRST = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in the folder that HAProxy starts in."""

    shape: str
    """Of everything that cannot be changed at run time; HAProxy tells it as its `description`."""
    config: str
    maps: Mapping[str, Mapping[str, str]]
    """By file name."""
    berths: Berths
    certificate: Certificate

    def texts(self) -> dict[str, str]:
        """File name -> content."""
        return {
            CONFIG: self.config,
            **{name: _map_text(content) for name, content in self.maps.items()},
            KEY_FILE: _ended(self.certificate.certificate) + _ended(self.certificate.key),
            CA_FILE: _ended(self.certificate.ca),
        }


def render(  # noqa: PLR0913 - all that the files depend on, by name
    config: GatewayConfig,
    plan: GatewayPlan,
    allocation: Allocation,
    berths: Berths,
    certificate: Certificate,
    *,
    aes: bool = True,
    root: bool = True,
) -> Files:
    """`aes`: the machine has instructions for AES. `root`: HAProxy is started by root and is to become nobody. Pure."""
    peers = tuple(sorted(plan.peers, key=lambda peer: peer.cluster))
    body = _sections(config, peers, allocation.blocks)
    blank = "\n".join([*_global(config, "", aes, root), *body, *_backends(berths, blank=True)])
    pem = "\n".join(map(_ended, (certificate.certificate, certificate.key, certificate.ca)))
    shape = hashlib.sha256(f"{blank}\n{pem}".encode()).hexdigest()[:32]
    whole = [*_global(config, shape, aes, root), *body, *_backends(berths)]
    return Files(
        shape, "\n".join(whole) + "\n", _maps(plan, allocation, berths), berths, certificate
    )


def berth_name(number: int) -> str:
    """The backend of a berth."""
    return f"{BERTH}{number}"


def gateways_of(cluster: str) -> str:
    """The backend of a peer's gateways."""
    return f"peer:{cluster}"


def nodes_of(cluster: str) -> str:
    """The backend of probes of a peer's nodes; it carries no traffic."""
    return f"nodes:{cluster}"


def pace(checked: int, a_second: int) -> tuple[int, int]:
    """Milliseconds between checks of one server, and how many failures make it down. Pure."""
    gap = max(CHECK_MS, math.ceil(checked * 1_000 / a_second))
    return gap, max(2, math.ceil(FLAP_MS / gap) + 1)


# ------------------------------------------------------------------------------------------------------------- maps
def _maps(plan: GatewayPlan, allocation: Allocation, berths: Berths) -> dict[str, dict[str, str]]:
    known = {peer.cluster for peer in plan.peers if peer.gateways}
    out = [(key, allocation.ports[key]) for key in plan.egress if key.cluster in known]
    names = {
        str(port): port_name(key.cluster, key.namespace, key.service, key.port) for key, port in out
    }
    ingress = {berth.name: berth_name(i) for i, berth in enumerate(berths) if berth.name}
    return {
        EGRESS_MAP: {str(port): gateways_of(key.cluster) for key, port in out},
        NAMES_MAP: names,
        INGRESS_MAP: {**ingress, probe_name(plan.cluster): "probe"},
        CLIENTS_MAP: {GATEWAY_USER_PREFIX + peer.cluster: peer.cluster for peer in plan.peers},
    }


def _map_text(content: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(content.items()))


def _ended(text: str) -> str:
    return text.strip() + "\n"


# ----------------------------------------------------------------------------------------------------------- config
def _global(config: GatewayConfig, shape: str, aes: bool, root: bool) -> list[str]:
    ciphers = AES_FIRST if aes else CHACHA_FIRST
    unprivileged = ["chroot ../empty", f"uid {NOBODY}", f"gid {NOBODY}"] if root else []
    return _section(
        "global",
        f"description {shape}",
        f"nbthread {config.threads}",
        f"maxconn {config.connections_max}",
        f"hard-stop-after {config.drain_s}s",
        f"stats socket unix@../{SOCKET} mode 600 level admin expose-fd listeners",
        "stats timeout 10s",
        f"server-state-file ../{STATES}",
        f"ssl-default-bind-ciphersuites {ciphers}",
        f"ssl-default-server-ciphersuites {ciphers}",
        *unprivileged,
    )


def _section(head: str, *rows: str) -> list[str]:
    return [head, *(f"    {row}" for row in rows)]


def _sections(config: GatewayConfig, peers: tuple[PeerSites, ...], blocks: int) -> list[str]:
    return [
        *_section(
            "defaults",
            "mode tcp",
            "timeout connect 3s",
            "timeout client 30s",
            "timeout server 30s",
            # From here on, once both ends are connected. Dead peers are found by keep-alive, not by silence.
            "timeout tunnel 24h",
            "timeout client-fin 1h",
            "timeout server-fin 1h",
            "option clitcpka",
            "clitcpka-idle 60s",
            "clitcpka-intvl 15s",
            "clitcpka-cnt 4",
            "option srvtcpka",
            "srvtcpka-idle 60s",
            "srvtcpka-intvl 15s",
            "srvtcpka-cnt 4",
            "retries 2",
            "option redispatch 1",
        ),
        *_frontends(config, blocks),
        *_section("backend refused", "tcp-request content reject"),
        *_section("backend probe", "mode http", "http-request return status 200"),
        *_peers(peers),
    ]


def _frontends(config: GatewayConfig, blocks: int) -> list[str]:
    known = f"ssl_c_s_dn(CN),map_str({CLIENTS_MAP})"
    backend = f"ssl_fc_sni,lower,map_str({INGRESS_MAP})"
    last = min(EGRESS_PORTS.start + blocks * BLOCK, EGRESS_PORTS.stop) - 1
    return [
        *_section(
            "frontend ingress",
            # Whoever opens connections from outside cannot take away the way out.
            f"maxconn {config.connections_max * 3 // 4}",
            # A client without AES instructions asks for ChaCha20 first, and gets it.
            f"bind 0.0.0.0:{config.port} ssl crt {KEY_FILE} ca-file {CA_FILE} verify required"
            " ssl-min-ver TLSv1.3 prefer-client-ciphers",
            f"tcp-request session reject unless {{ {known} -m found }}",
            f"tcp-request session reject unless {{ {backend} -m found }}",
            f"use_backend %[{backend}]",
            "default_backend refused",
        ),
        *_section(
            "frontend egress",
            f"bind {config.address}:{EGRESS_PORTS.start}-{last}",
            f"use_backend %[{PORT},map_int({EGRESS_MAP})]",
            "default_backend refused",
        ),
    ]


def _peers(peers: tuple[PeerSites, ...]) -> list[str]:
    gateways = pace(sum(len(peer.gateways) for peer in peers), GATEWAYS_A_S)
    nodes = pace(sum(len(peer.nodes) for peer in peers), NODES_A_S)
    return [line for peer in peers for line in _peer(peer, gateways, nodes)]


def _peer(
    peer: PeerSites, gateways_pace: tuple[int, int], nodes_pace: tuple[int, int]
) -> list[str]:
    gateways = sorted({Target(g.address, g.port) for g in peer.gateways})
    nodes = sorted({(n.node, Target(n.probe, GATEWAY_PORT)) for n in peer.nodes})
    name = f"sni {PORT},map_int({NAMES_MAP})"
    return [
        *_section(
            f"backend {gateways_of(peer.cluster)}",
            "balance leastconn",
            *_checks(peer.cluster, *gateways_pace),
            *(f"server {target} {target} {name}" for target in gateways),
        ),
        *_section(
            f"backend {nodes_of(peer.cluster)}",
            *_checks(peer.cluster, *nodes_pace),
            *(f"server {node} {target}" for node, target in nodes),
        ),
    ]


def _checks(cluster: str, gap_ms: int, fall: int) -> tuple[str, ...]:
    probe = probe_name(cluster)
    return (
        "load-server-state-from-file global",
        f"timeout connect {CONNECT_MS}ms",
        f"timeout check {CONNECT_MS}ms",
        "option httpchk",
        "http-check send meth GET uri /",
        "http-check expect status 200",
        f"default-server check inter {gap_ms}ms fall {fall} rise {RISE} check-sni {probe} verifyhost {probe}"
        f" ssl crt {KEY_FILE} ca-file {CA_FILE} verify required ssl-min-ver TLSv1.3",
    )


def _backends(berths: Berths, *, blank: bool = False) -> list[str]:
    return [
        line
        for number, berth in enumerate(berths)
        for line in _section(
            f"backend {berth_name(number)}", "balance leastconn", *_servers(berth.lines, blank)
        )
    ]


def _servers(lines: Lines, blank: bool) -> list[str]:
    return [_server(i, None if blank else target) for i, target in enumerate(lines, 1)]


def _server(number: int, target: Target | None) -> str:
    return f"server s{number} {target}" if target else f"server s{number} {UNUSED} disabled"
