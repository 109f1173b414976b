"""Clients that the kernel remembers (sessionAffinity ClientIP), and forgetting those whose endpoint is gone.

The kernel itself adds to the map on every new connection; we only take away. An element may expire between the look
and the deletion, so it is added (which is nothing if it is there) before it is deleted.
"""

from collections.abc import Iterable

from cluster_agent.node.proxy.layout import Frame, Transaction
from cluster_agent.node.proxy.nft import Row
from cluster_agent.node.proxy.plan import Address, Ledger

CLIENTS_PER_COMMAND_MAX = 1_000


def stale(rows: Iterable[Row], ledger: Ledger) -> list[Row]:
    """Remembered clients whose endpoint no longer serves the address they asked for."""
    return [row for row in rows if " . ".join(row[1]) not in _allowed(row, ledger)]


def _allowed(row: Row, ledger: Ledger) -> frozenset[str]:
    _, ip, protocol, port = row[0]
    address = Address(ip, protocol, int(port))
    if address not in ledger.owners:
        address = Address("", protocol, int(port))
    return ledger.sticky(address)


def forget(rows: Iterable[Row], frame: Frame) -> Transaction:
    """The commands that take these elements away."""
    all_rows, commands = list(rows), list[str]()
    for start in range(0, len(all_rows), CLIENTS_PER_COMMAND_MAX):
        part = all_rows[start : start + CLIENTS_PER_COMMAND_MAX]
        keys = [" . ".join(key) for key, _ in part]
        full = [f"{k} timeout 60s : {' . '.join(v)}" for k, (_, v) in zip(keys, part, strict=True)]
        commands.append(f"add element {frame.table} affinity {{ {' , '.join(full)} }}")
        commands.append(f"delete element {frame.table} affinity {{ {' , '.join(keys)} }}")
    return tuple(commands)
