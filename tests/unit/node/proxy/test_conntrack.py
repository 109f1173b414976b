"""Which entries of the connection table are stale, and how the tool's lines are read."""

import pytest

from cluster_agent.node.proxy.conntrack import (
    ConntrackError,
    ConntrackTool,
    Flow,
    NoConntrack,
    parse,
    reconcile,
)
from cluster_agent.node.proxy.plan import Address

LINES = """\
udp      17 29 src=10.77.1.9 dst=10.96.0.10 sport=40000 dport=53 src=10.77.1.2 dst=10.77.1.9 sport=8053 dport=40000 mark=0 use=1
udp      17 8 src=10.77.1.9 dst=10.96.0.10 sport=40001 dport=53 [UNREPLIED] src=10.77.1.2 dst=10.77.1.9 sport=8053 dport=40001 mark=0 use=2
udp      17 25 src=172.31.9.1 dst=10.97.0.1 sport=5 dport=80 [UNREPLIED] src=10.97.0.1 dst=172.31.9.1 sport=80 dport=5 use=1
conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown.
"""
TO_2 = Flow("udp", "10.96.0.10", 53, "10.77.1.2", 8053)
PLAIN = Flow("udp", "10.97.0.1", 80, "10.97.0.1", 80)
AT_PORT = Flow("udp", "172.31.9.1", 30_053, "10.77.1.2", 8053)
OWN = Flow("udp", "192.0.2.1", 30_053, "192.0.2.1", 30_053)
FAR = Flow("udp", "198.51.100.1", 53, "198.51.100.1", 53)
EVERYTHING = [TO_2, PLAIN, AT_PORT, OWN, FAR]
VIP, NODE_PORT = Address("10.96.0.10", "udp", 53), Address("", "udp", 30_053)


def test_lines_of_the_tool() -> None:
    assert parse(LINES, "udp") == [TO_2, PLAIN]


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({VIP: {"10.77.1.2 . 8053"}}, []),
        ({VIP: {"10.77.1.3 . 8053"}}, [TO_2]),
        ({VIP: set()}, [TO_2]),
        ({Address("10.97.0.1", "udp", 80): {"10.77.1.2 . 80"}}, [PLAIN]),
        ({Address("10.97.0.1", "udp", 80): set()}, [PLAIN]),
        ({NODE_PORT: {"10.77.1.2 . 8053"}}, [OWN]),
        ({NODE_PORT: set()}, [AT_PORT]),
        ({Address("10.96.0.10", "sctp", 53): set()}, []),
        ({}, []),
    ],
    ids=[
        "served",
        "moved",
        "to zero",
        "from none",
        "refused now",
        "port opened",
        "port closed",
        "other protocol",
        "none",
    ],
)
async def test_only_stale_entries_of_changed_addresses_go(
    changed: dict[Address, set[str]], gone: list[Flow]
) -> None:
    table = NoConntrack(EVERYTHING)
    count = await reconcile(table, "ip", {a: frozenset(t) for a, t in changed.items()})
    assert count == len(gone)
    assert table.entries == set(EVERYTHING) - set(gone)


async def test_of_tcp_only_what_was_never_answered_is_looked_at() -> None:
    asked: list[tuple[str, ...]] = []

    class Tool(ConntrackTool):
        async def _run(self, *arguments: str) -> str:
            asked.append(arguments)
            return LINES if "-L" in arguments else ""

    changed = {Address("10.96.0.10", "tcp", 53): frozenset({"10.77.1.3 . 8053"})}
    assert await reconcile(Tool(), "ip", changed) == 1
    assert len(asked) == 2
    assert all(words[3:7] == ("-p", "tcp", "--state", "SYN_SENT") for words in asked)


async def test_a_missing_tool_is_named() -> None:
    with pytest.raises(ConntrackError, match="install the package conntrack"):
        await ConntrackTool(("/nonexistent/nsenter",)).flows("ip", "udp")
