"""From objects in the API to the table: what is watched when, what the kubelet knows first, and who waits for whom."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.fake_client import FakeClient
from tests.unit.node.policy.packets import Packet, passes
from tests.unit.node.policy.worlds import key, ledger, policy

from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.hooks.isolation import KNOWN_WAIT_S, Isolation
from cluster_agent.node.policy.bridge import Bridge
from cluster_agent.node.policy.enforcer import Enforcer, PolicyConfig
from cluster_agent.node.policy.inputs import PolicyFeed
from cluster_agent.node.policy.layout import TABLE
from cluster_agent.node.policy.model import Ruleset
from cluster_agent.node.proxy.nft import NftError
from cluster_agent.node.proxy.nft_memory import MemoryNft
from machinery.api.core import NAMESPACES, Pod
from machinery.api.network_kinds import NETWORK_POLICIES, POLICY_PODS
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document

CONFIG = PolicyConfig("here", debounce_s=0.0, check_s=0.05)
WEB = "10.1.0.2"


def pod(name: str, ip: str = "", node: str = "here", **labels: str) -> Document:
    ips = [{"ip": ip}] if ip else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": ips},
    }


def closed(name: str = "closed", **labels: str) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": name, "uid": f"uid-{name}"},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]},
    }


class Kernel(MemoryNft):
    """One that can be told to take nothing."""

    refusing = False

    def apply(self, transaction: tuple[str, ...]) -> None:
        if self.refusing:
            raise NftError("Operation not supported")
        super().apply(transaction)


class Bench:
    """A feed and its enforcer over a client and a kernel in memory."""

    def __init__(self) -> None:
        self.client, self.nft, self.clock = FakeClient(), Kernel(TABLE), SystemClock()
        self.enforcer = Enforcer(CONFIG, self.clock, nft=self.nft)
        self.feed = PolicyFeed(self.enforcer, self.client, self.clock)
        self.tasks = TaskOwner()

    async def __aenter__(self) -> "Bench":
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        _ = await self.client.create(NAMESPACES, space)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tasks.close()
        await self.enforcer.close()

    def run(self) -> None:
        _ = self.tasks.spawn(self.enforcer.run_forever(), "enforcer")
        _ = self.tasks.spawn(self.feed.run(), "feed")

    @property
    def table(self) -> Ruleset:
        return self.enforcer.table.held or Ruleset()

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(2_000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it never came true")


async def test_nothing_is_watched_but_policies_until_there_is_one_and_after_the_last() -> None:
    async with Bench() as bench:
        _ = await bench.client.create(POLICY_PODS, pod("web", WEB, app="web"), "shop")
        bench.run()
        await bench.until(bench.feed.known.is_set)
        assert bench.feed.pods is None
        assert bench.enforcer.status().pods == 0
        _ = await bench.client.create(NETWORK_POLICIES, closed(app="web"), "shop")
        await bench.until(lambda: bench.table.chains)
        assert not passes(bench.table, Packet("10.9.9.9", WEB))
        _ = await bench.client.create(POLICY_PODS, pod("new", "10.1.0.7", app="web"), "shop")
        await bench.until(lambda: not passes(bench.table, Packet("10.9.9.9", "10.1.0.7")))
        await bench.client.delete(NETWORK_POLICIES, key("shop/closed"))
        await bench.until(lambda: not bench.nft.tables)
        assert bench.feed.pods is None
        assert bench.enforcer.status().pods == 0
        _ = await bench.client.create(NETWORK_POLICIES, closed("again", app="web"), "shop")
        await bench.until(lambda: not passes(bench.table, Packet("10.9.9.9", "10.1.0.7")))


async def test_a_process_that_starts_touches_nothing_before_it_knows_all() -> None:
    async with Bench() as bench:
        bench.nft.apply((f"add table inet {TABLE}", f"add chain inet {TABLE} old"))
        _ = await bench.client.create(NETWORK_POLICIES, closed(app="web"), "shop")
        _ = await bench.client.create(POLICY_PODS, pod("web", WEB, app="web"), "shop")
        bench.client.fail_next("list", ConnectionError("away"))
        bench.run()
        await asyncio.sleep(0.1)
        assert list(bench.nft.tables["inet", TABLE].chains) == ["old"]
        await bench.until(lambda: bench.table.chains)
        assert "old" not in bench.nft.tables["inet", TABLE].chains
        assert not passes(bench.table, Packet("10.9.9.9", WEB))


def kubelets(name: str, uid: str = "", **labels: str) -> Pod:
    made = pod(name, **labels)
    made["metadata"]["uid"] = uid or f"uid-{name}"
    return msgspec.convert(made, Pod)


async def test_a_pod_is_isolated_before_it_starts_and_stays_so_until_its_status_says_where() -> (
    None
):
    async with Bench() as bench:
        _ = await bench.client.create(NETWORK_POLICIES, closed(app="web"), "shop")
        made = await bench.client.create(POLICY_PODS, pod("web", app="web"), "shop")
        bench.run()
        await bench.until(bench.feed.known.is_set)
        mine = kubelets("web", made.metadata.uid, app="web")
        hook = Isolation(bench.feed, bench.clock)
        await hook.connected(mine, (WEB,))
        assert not passes(bench.table, Packet("10.9.9.9", WEB))
        relabelled = {"metadata": {"labels": {"new": "label"}}}
        _ = await bench.client.patch(POLICY_PODS, key("shop/web"), relabelled)
        await bench.until(lambda: "new" in bench.enforcer.ledger.pods[key("shop/web")].labels)
        await bench.enforcer.wait_applied()
        assert not passes(bench.table, Packet("10.9.9.9", WEB))
        await bench.client.delete(POLICY_PODS, key("shop/web"))
        await bench.until(lambda: not bench.nft.tables)
        await hook.release(mine, forget=True)


async def test_a_pod_that_no_policy_selects_waits_for_nothing() -> None:
    async with Bench() as bench:
        bench.run()
        await bench.until(bench.feed.known.is_set)
        bench.nft.refusing = True
        await Isolation(bench.feed, bench.clock).connected(kubelets("web", app="web"), (WEB,))


async def test_an_announced_pod_that_the_api_never_told_of_is_forgotten_with_it() -> None:
    async with Bench() as bench:
        _ = await bench.client.create(NETWORK_POLICIES, closed(app="web"), "shop")
        bench.run()
        await bench.until(bench.feed.known.is_set)
        hook = Isolation(bench.feed, bench.clock)
        await hook.connected(kubelets("web", app="web"), (WEB,))
        await hook.release(kubelets("web", app="web"), forget=False)
        assert bench.enforcer.status().pods == 1
        await hook.release(kubelets("web", app="web"), forget=True)
        assert bench.enforcer.status().pods == 0


async def test_a_pod_does_not_start_where_its_policies_cannot_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster_agent.node.kubelet.hooks.isolation.APPLIED_WAIT_S", 0.05)
    async with Bench() as bench:
        _ = await bench.client.create(NETWORK_POLICIES, closed(app="web"), "shop")
        bench.run()
        await bench.until(bench.feed.known.is_set)
        await bench.enforcer.wait_applied()
        bench.nft.refusing = True
        hook = Isolation(bench.feed, bench.clock)
        with pytest.raises(HookFault, match="not in force on this node: Operation not supported"):
            await hook.connected(kubelets("web", app="web"), (WEB,))
        bench.nft.refusing = False
        await bench.enforcer.wait_applied()
        await hook.connected(kubelets("web", app="web"), (WEB,))
        assert not passes(bench.table, Packet("10.9.9.9", WEB))


async def test_a_node_without_its_api_brings_its_pods_back() -> None:
    bench = Bench()
    hook = Isolation(bench.feed, bench.clock)
    hook._until -= KNOWN_WAIT_S - 0.05
    await hook.connected(kubelets("web", app="web"), (WEB,))
    await hook.connected(kubelets("web", app="web"), (WEB,))


# --------------------------------------------------------------------------------------------------------------- bridge
class Host:
    """What the machine would answer."""

    def __init__(self, settings: Path, module: bool = True, bridge: bool = True) -> None:
        self.settings, self.module, self.bridge = settings, module, bridge
        self.calls: dict[str, int] = {}
        self.obeys = True

    async def run(self, *words: str) -> tuple[int, str]:
        if words[0] == "modprobe":
            if self.module:
                self.settings.mkdir()
            return (0 if self.module else 1), ""
        if "show" in words:
            info = [{"linkinfo": {"info_data": self.calls}}]
            return (0, msgspec.json.encode(info).decode()) if self.bridge else (1, "")
        if self.obeys:
            names = words[words.index("bridge") + 1 :]
            self.calls |= {
                name: int(value) for name, value in zip(names[::2], names[1::2], strict=True)
            }
        return 0, ""


@pytest.mark.parametrize(
    ("module", "bridge", "obeys", "said"),
    [
        pytest.param(True, True, True, "", id="the module is loaded and the bridge asks"),
        pytest.param(False, True, True, "the kernel has no br_netfilter", id="no module"),
        pytest.param(
            True, True, False, "bridge cni0 cannot be made to pass", id="it does not obey"
        ),
        pytest.param(True, False, True, "", id="no bridge yet: no packets"),
    ],
)
async def test_the_bridge_is_opened_or_it_is_said(
    tmp_path: Path, module: bool, bridge: bool, obeys: bool, said: str
) -> None:
    host = Host(tmp_path / "bridge", module, bridge)
    host.obeys = obeys
    why = await Bridge("cni0", host.settings, host.run).open(["ip", "ip6"])
    assert why.startswith(said)
    assert bool(why) == bool(said)
    if module and bridge and obeys:
        assert host.calls == {"nf_call_iptables": 1, "nf_call_ip6tables": 1}


async def test_where_the_namespace_shows_all_bridges_none_is_touched(tmp_path: Path) -> None:
    for name in ("iptables", "ip6tables"):
        (tmp_path / f"bridge-nf-call-{name}").write_text("1\n")
    host = Host(tmp_path)
    assert await Bridge("cni0", tmp_path, host.run).open(["ip", "ip6"]) == ""
    assert host.calls == {}


async def test_what_cannot_be_seen_is_told_once() -> None:
    class Blind(Bridge):
        async def open(self, families: Any) -> str:
            return "the kernel has no br_netfilter"

    told: list[str] = []
    made = Enforcer(
        CONFIG, SystemClock(), nft=MemoryNft(TABLE), bridge=Blind("cni0"), on_unseen=told.append
    )
    made.complete()
    assert await made.run_once()
    assert told == []
    made.ledger = ledger(policy({"podSelector": {}}))
    assert await made.run_once()
    assert await made.run_once()
    assert told == ["the kernel has no br_netfilter"]
    assert made.status().unseen
    await made.close()
