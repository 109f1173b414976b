"""The twin refuses what the kernel refuses, whole."""

import pytest

from cluster_agent.node.proxy.layout import TABLE
from cluster_agent.node.proxy.nft import NftError
from cluster_agent.node.proxy.nft_memory import MemoryNft

T = f"ip {TABLE}"
BASE = (
    f"add table {T}",
    f"add map {T} m {{ type ipv4_addr : verdict ; }}",
    f"add set {T} s {{ type ipv4_addr ; }}",
    f"add chain {T} c",
    f"add element {T} s {{ 10.0.0.1 }}",
)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ((f"add element {T} s {{ 10.0.0.1 , 10.0.0.2 }}",), ""),
        (
            (
                f"add element {T} m {{ 10.0.0.1 : drop }}",
                f"add element {T} m {{ 10.0.0.1 : accept }}",
            ),
            "File exists",
        ),
        ((f"delete element {T} s {{ 10.0.0.2 }}",), "No such file"),
        ((f"add element {T} s {{ 10.0.0.2 : drop }}",), "Invalid argument"),
        ((f"add element {T} m {{ 10.0.0.2 : goto away }}",), "No such file"),
        ((f"add rule {T} c ip daddr @none",), "No such file"),
        ((f"add rule {T} c jump none",), "No such file"),
        ((f"add rule {T} c ip daddr @s", f"delete set {T} s"), "busy"),
        ((f"add rule {T} c ip daddr @s", f"delete chain {T} c"), "busy"),
        ((f"add element {T} m {{ 10.0.0.2 : goto c }}", f"delete chain {T} c"), "busy"),
        ((f"add map {T} m {{ type inet_service : verdict ; }}",), "File exists"),
        ((f"add set {T} m {{ type ipv4_addr ; }}",), "File exists"),
        (("add set ip absent s { type ipv4_addr ; }",), "No such file"),
        (("delete table ip absent",), "No such file"),
        ((f"rename chain {T} c d",), "syntax error"),
        ((f"flush set {T} s",), "syntax error"),
    ],
)
def test_what_the_twin_says(commands: tuple[str, ...], words: str) -> None:
    nft = MemoryNft()
    nft.apply(BASE)
    before = nft.form("ip"), nft.elements("ip", "s"), nft.elements("ip", "m")
    if not words:
        nft.apply(commands)
        assert len(nft.elements("ip", "s")) == 2
        return
    with pytest.raises(NftError, match=words):
        nft.apply((f"add element {T} s {{ 10.9.9.9 }}", *commands))
    assert (nft.form("ip"), nft.elements("ip", "s"), nft.elements("ip", "m")) == before
