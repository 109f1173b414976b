"""Services as tables of tests write them, and a table over the twin of nftables."""

from cluster_agent.node.proxy.layout import TABLE
from cluster_agent.node.proxy.model import Endpoint, ProxyConfig, Service, ServicePort
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.table import FamilyTable

CONFIG = ProxyConfig("here", ("10.77.1.0/24",), bridge_filters=True, debounce_s=0.0, check_s=0.05)


def endpoint(number: int, *, weight: int = 1, node: str = "here", ready: bool = True) -> Endpoint:
    return Endpoint(f"10.77.1.{number}", 8080, ready=ready, node=node, weight=weight)


def service(
    ip: str,
    *numbers: int,
    protocol: str = "tcp",
    node_port: int = 0,
    external_ips: tuple[str, ...] = (),
    affinity_s: int = 0,
    external_local: bool = False,
    internal_local: bool = False,
    node: str = "here",
) -> Service:
    ends = tuple(endpoint(n, node=node) for n in numbers)
    port = ServicePort(80, protocol, node_port=node_port, endpoints=ends)
    return Service((ip,), (port,), external_ips, affinity_s, internal_local, external_local)


def table(nft: MemoryNft | None = None) -> tuple[FamilyTable, MemoryNft]:
    door = nft or MemoryNft()
    return FamilyTable("ip", CONFIG, door), door


def contents(nft: MemoryNft) -> dict[str, dict[str, str]]:
    """Elements by map, without generations and empty maps."""
    found = nft.tables["ip", TABLE].holders
    cut = {n.rpartition("-")[0] if n != "affinity" else n: h for n, h in found.items()}
    return {name: dict(h.elements) for name, h in cut.items() if h.elements}
