"""From objects in the API and words of the gateway to the proxy's table, names and the gateway's plan."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.clusterset.feed import (
    FIRST_WORD_S,
    LAME_S,
    PATIENCE_S,
    SOURCE,
    ClustersetFeed,
    Inputs,
    Outputs,
)
from cluster_agent.node.clusterset.plan import Remark
from cluster_agent.node.dns import wire
from cluster_agent.node.dns.directory import Directory
from cluster_agent.node.dns.inputs import DnsFeed, Sources, import_of
from cluster_agent.node.dns.model import DnsConfig
from cluster_agent.node.gateway.model import EgressKey, GatewayPlan, PeerState, Target
from cluster_agent.node.proxy.conntrack import NoConntrack
from cluster_agent.node.proxy.model import ProxyConfig, Service
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api.core import NAMESPACES, SECRETS
from machinery.api.discovery_kinds import ENDPOINTSLICES
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    GATEWAY_NODE,
    GATEWAY_SECRET,
    PEERS,
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    SERVICE_NAME_LABEL,
    SOURCE_CLUSTER_LABEL,
    ServiceImport,
    port_name,
)
from machinery.api.service_kinds import SERVICES
from machinery.client.informer import Informer
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document, ObjectKey

WEB = ObjectKey("demo", "web")
LISTENER = Target("169.254.20.11", 20_000)
SITE = '{"address":"192.0.2.1"}'


class Gateway:
    """The gateway by hand: a plan is served when the test says so."""

    def __init__(self) -> None:
        self.ready = True
        self.slow = False
        self.states: dict[str, PeerState] = {}
        self.plans: list[GatewayPlan] = []
        self.certificates: list[tuple[str, ...]] = []
        self.trouble = "haproxy is not installed"
        self.served: set[EgressKey] = set()
        self._told: list[Callable[[], None]] = []

    def apply(self, plan: GatewayPlan) -> None:
        self.plans.append(plan)
        if self.slow:
            self.ready = False
        else:
            self.served = set(plan.egress)

    def set_certificate(self, cert_pem: str, key_pem: str, ca_pem: str) -> None:
        self.certificates.append((cert_pem, key_pem, ca_pem))

    def listener(self, key: EgressKey) -> Target:
        return LISTENER

    def serves(self, key: EgressKey) -> bool:
        return key in self.served

    def on_change(self, callback: Callable[[], None]) -> None:
        self._told.append(callback)

    def say(self, *, ready: bool | None = None, **peers: str) -> None:
        """`beta="1/0"`: its node answers, its gateway does not."""
        for name, word in peers.items():
            node, _, gateway = word.partition("/")
            self.states[name] = PeerState({"192.0.2.9:15443": gateway == "1"}, {"n0": node == "1"})
        if ready is not None:
            self.ready = ready
            self.served = set(self.plans[-1].egress) if ready and self.plans else set()
        for told in self._told:
            told()


class Proxy(ServiceProxy):
    """Remembers what it was told, and when it was let go."""

    def __init__(self) -> None:
        config = ProxyConfig("here", ("10.0.0.0/24",), bridge_filters=True)
        super().__init__(
            config, LoopClock(), nft=MemoryNft(), conntrack=NoConntrack(), sources=("", SOURCE)
        )
        self.states: list[set[str]] = []
        self.services: dict[str, Service] = {}

    def set_state(self, services: Mapping[str, Service], source: str = "") -> None:
        super().set_state(services, source)
        self.states.append(set(services))
        self.services = dict(services)

    def set_service(self, key: str, service: Service | None, source: str = "") -> None:
        super().set_service(key, service, source)
        self.services.pop(key, None)
        if service is not None:
            self.services[key] = service

    def shares(self, key: str = "demo/web") -> dict[str, int]:
        return {e.target: e.weight for e in self.services[key].ports[0].endpoints}


class Node:
    """The parts of a node that the feed joins, over an API that is a dict."""

    def __init__(self) -> None:
        clock, self.client = LoopClock(), FakeClient()
        self.inputs = Inputs(
            imports=Informer(self.client, SERVICE_IMPORTS, clock),
            exports=Informer(self.client, SERVICE_EXPORTS, clock),
            networks=Informer(self.client, CLUSTER_NETWORKS, clock),
            secret=Informer(self.client, SECRETS, clock, namespace=GATEWAY_SECRET.namespace),
            services=Informer(self.client, SERVICES, clock),
            slices=Informer(self.client, ENDPOINTSLICES, clock),
        )
        self.proxy, self.gateway, self.annotations = Proxy(), Gateway(), Annotations()
        self.directory = Directory(DnsConfig(("127.0.0.1",)))
        self.dns = DnsFeed(self.directory)
        self.remarks: list[Remark] = []
        outputs = Outputs(self.proxy, self.dns, self.gateway, self.annotations, self._remark)
        self.feed = ClustersetFeed("alpha", SITE, clock, self.inputs, outputs)
        self.tasks = TaskOwner()

    def _remark(self, view: ServiceImport, remark: Remark) -> None:
        self.remarks.append(remark)

    def start(self, *without: str) -> None:
        for name in ("imports", "exports", "networks", "secret", "services", "slices"):
            if name not in without:
                _ = self.tasks.spawn(getattr(self.inputs, name).run(), name)
        _ = self.tasks.spawn(self.feed.run(), "feed")

    def told(self, name: str) -> Any:
        value = self.annotations.missing({}).get(name)
        return msgspec.json.decode(value) if value is not None else None

    # ------------------------------------------------------------------------------------------------ objects
    async def imported(self, **spec: Any) -> None:
        whole = {
            "type": "ClusterSetIP",
            "ips": ["10.99.0.1"],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }
        await self.client.create(
            SERVICE_IMPORTS, _document(SERVICE_IMPORTS, "web", spec=whole | spec), "demo"
        )

    async def slice(self, cluster: str, *ips: str) -> None:
        labels = {SERVICE_NAME_LABEL: "web", SOURCE_CLUSTER_LABEL: cluster}
        document = _document(ENDPOINTSLICES, f"web-{cluster}", labels, addressType="IPv4")
        document |= _ends(ips)
        await self.client.create(ENDPOINTSLICES, document, "demo")

    async def network(self, cluster: str, number: int, routes: str = "Enabled") -> None:
        spec = {
            "gateways": [{"node": "n0", "address": "192.0.2.9", "port": 15_443}],
            "nodes": [
                {"node": "n0", "cidrs": [f"10.{number}.0.0/24"], "probe": f"10.{number}.0.1"}
            ],
            "directRoutes": routes,
        }
        await self.client.create(CLUSTER_NETWORKS, _document(CLUSTER_NETWORKS, cluster, spec=spec))

    async def export(self) -> None:
        service = _document(SERVICES, "web", spec={"ports": [{"port": 80, "protocol": "TCP"}]})
        await self.client.create(SERVICES, service, "demo")
        await self.client.create(SERVICE_EXPORTS, _document(SERVICE_EXPORTS, "web"), "demo")
        labels = {"kubernetes.io/service-name": "web"}
        document = _document(ENDPOINTSLICES, "own", labels, addressType="IPv4") | _ends(
            ("10.0.0.5",)
        )
        await self.client.create(ENDPOINTSLICES, document, "demo")


def _document(
    resource: Any, name: str, labels: Mapping[str, str] | None = None, **more: Any
) -> Document:
    metadata = {"name": name, "labels": dict(labels or {})}
    if resource.namespaced:
        metadata["namespace"] = "demo"
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **more}


def _ends(ips: tuple[str, ...]) -> Document:
    ports = [{"name": "", "protocol": "TCP", "port": 8080}]
    return {"endpoints": [{"addresses": [ip], "nodeName": "n0"} for ip in ips], "ports": ports}


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    await made.tasks.close()


pytestmark = pytest.mark.looptime


async def settle(seconds: float = 0.5) -> None:
    await asyncio.sleep(seconds)


async def test_a_peers_pods_by_the_way_that_answers(node: Node) -> None:
    await node.network("beta", 1)
    await node.imported()
    await node.slice("alpha", "10.0.0.5")
    await node.slice("beta", "10.1.0.5", "10.1.0.6")
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    own, direct = {"10.0.0.5 . 8080": 1}, {"10.1.0.5 . 8080": 1, "10.1.0.6 . 8080": 1}
    gateway = {"169.254.20.11 . 20000": 2}
    assert node.proxy.shares() == own | direct
    node.gateway.say(beta="0/1")
    await settle()
    assert node.proxy.shares() == own | gateway
    node.gateway.say(beta="0/0")
    await settle()
    assert node.proxy.shares() == own
    node.gateway.say(beta="1/1")
    await settle()
    assert node.proxy.shares() == own | gateway, "not trusted yet"
    await settle(11.0)
    assert node.proxy.shares() == own | direct, "without anybody's word, by the clock"


async def test_a_gateway_that_is_gone_says_nothing_about_pods_that_are_routed(node: Node) -> None:
    await node.network("beta", 1)
    await node.imported()
    await node.slice("alpha", "10.0.0.5")
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    direct = {"10.0.0.5 . 8080": 1, "10.1.0.5 . 8080": 1}
    node.gateway.say(ready=False, beta="0/0")
    await settle(60.0)
    assert node.proxy.shares() == direct
    node.gateway.say(ready=True)
    await settle()
    assert node.proxy.shares() == direct, "it has just begun to ask"
    await settle(FIRST_WORD_S)
    assert node.proxy.shares() == {"10.0.0.5 . 8080": 1}, "nobody has answered"


async def test_disabled_routes_are_not_used_and_not_probed(node: Node) -> None:
    await node.network("beta", 1, "Disabled")
    await node.imported()
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    assert node.proxy.shares() == {"169.254.20.11 . 20000": 1}
    assert node.gateway.plans[-1].peers[0].nodes == ()


async def test_slots_wait_for_the_listener(node: Node) -> None:
    await node.network("beta", 1, "Disabled")
    await node.imported()
    await node.slice("beta", "10.1.0.5")
    node.gateway.slow = True
    node.gateway.say(beta="0/1")
    node.start()
    await settle(4.0)
    assert node.proxy.shares() == {}
    assert node.gateway.plans[-1].egress == (EgressKey("demo", "web", 80, "beta"),)
    node.gateway.say(ready=True)
    await settle()
    assert node.proxy.shares() == {"169.254.20.11 . 20000": 1}


async def test_listeners_that_are_served_stay_in_use_while_others_are_added(node: Node) -> None:
    await node.network("beta", 1, "Disabled")
    await node.imported()
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="0/1")
    node.start()
    await settle()
    node.gateway.slow = True
    await node.network("gamma", 2)
    await settle()
    await node.slice("gamma", "10.2.0.5")
    await settle()
    assert not node.gateway.ready
    assert node.proxy.shares() == {"169.254.20.11 . 20000": 1}


async def test_the_first_plan_is_whole_and_the_first_state_waits_for_the_gateways_word(
    node: Node,
) -> None:
    await node.network("beta", 1)
    await node.imported()
    await node.slice("beta", "10.1.0.5")
    await node.export()
    node.start()
    await settle(1.0)
    assert node.proxy.states == []
    assert len(node.gateway.plans) == 1
    plan = node.gateway.plans[0]
    assert (len(plan.egress), [i.server_name for i in plan.ingress]) == (
        1,
        [port_name("alpha", "demo", "web", 80)],
    )
    node.gateway.say(beta="1/1")
    await settle()
    assert node.proxy.states == [{"demo/web"}]
    assert node.proxy.shares() == {"10.1.0.5 . 8080": 1}


async def test_a_gateway_that_never_speaks_holds_nobody_up(node: Node) -> None:
    await node.network("beta", 1)
    await node.imported()
    await node.slice("alpha", "10.0.0.5")
    await node.slice("beta", "10.1.0.5")
    node.gateway.ready = False
    node.start()
    await settle(4.0)
    assert node.proxy.shares() == {"10.0.0.5 . 8080": 1}
    (told,) = node.told(PEERS)
    assert told["reason"] == "this node's gateway cannot ask: haproxy is not installed"


async def test_the_clusters_own_services_do_not_wait_for_kinds_that_are_not_served(
    node: Node,
) -> None:
    node.start("imports")
    await settle(PATIENCE_S - 0.1)
    assert node.proxy.states == []
    await settle(0.2)
    assert node.proxy.states == [set()]
    await node.imported()
    await node.slice("alpha", "10.0.0.5")
    _ = node.tasks.spawn(node.inputs.imports.run(), "imports")
    await settle()
    assert node.proxy.states == [set(), {"demo/web"}]


async def test_exports_follow_their_service(node: Node) -> None:
    await node.export()
    node.start()
    await settle()
    (ingress,) = node.gateway.plans[-1].ingress
    assert ingress.targets == (Target("10.0.0.5", 8080),)
    await node.client.delete(ENDPOINTSLICES, ObjectKey("demo", "own"))
    await settle()
    assert node.gateway.plans[-1].ingress[0].targets == ()
    await node.client.delete(SERVICE_EXPORTS, WEB)
    await settle()
    assert node.gateway.plans[-1].ingress == ()


async def test_an_import_that_goes_takes_everything_along(node: Node) -> None:
    await node.network("beta", 1)
    await node.imported()
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    assert node.gateway.plans[-1].egress
    await node.client.delete(SERVICE_IMPORTS, WEB)
    await settle()
    assert node.proxy.services == {}
    assert node.gateway.plans[-1].egress == ()


async def test_an_idle_node_applies_nothing(node: Node) -> None:
    await node.network("beta", 1)
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    count = len(node.gateway.plans)
    await settle(60.0)
    assert len(node.gateway.plans) == count


async def test_what_cannot_be_done_is_said_once(node: Node) -> None:
    await node.network("beta", 1, "Disabled")
    await node.imported(sessionAffinity="ClientIP")
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="0/1")
    node.start()
    await settle()
    await node.slice("gamma", "10.2.0.5")
    await settle()
    assert [r.reason for r in node.remarks] == ["AffinityByCluster"]


async def test_an_import_that_makes_no_sense_hurts_itself_only(node: Node) -> None:
    await node.imported(ips=["nonsense"])
    await node.export()
    node.start()
    await settle()
    assert [r.reason for r in node.remarks] == ["Invalid"]
    assert node.proxy.states == [set()]
    assert node.gateway.plans[-1].ingress


async def test_the_certificate_comes_from_the_secret(node: Node) -> None:
    node.start()
    await settle()
    data = {"tls.crt": "Yw==", "tls.key": "aw==", "ca.crt": "YQ=="}
    metadata = {"name": GATEWAY_SECRET.name, "namespace": GATEWAY_SECRET.namespace}
    broken = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": {"tls.crt": "Yw=="},
    }
    await node.client.create(SECRETS, broken, GATEWAY_SECRET.namespace)
    await settle()
    assert node.gateway.certificates == []
    await node.client.patch(SECRETS, GATEWAY_SECRET, {"data": data})
    await node.client.patch(SECRETS, GATEWAY_SECRET, {"metadata": {"labels": {"a": "b"}}})
    await settle()
    assert node.gateway.certificates == [("c", "k", "a")]


async def test_what_the_node_tells(node: Node) -> None:
    await node.network("beta", 1)
    await node.network("alpha", 0)
    node.gateway.say(beta="1/1")
    node.start()
    await settle()
    (told,) = node.told(PEERS)
    assert (told["cluster"], told["path"], told["nodesUp"], told["gatewaysUp"]) == (
        "beta",
        "Direct",
        1,
        1,
    )
    assert node.told(GATEWAY_NODE) == {"address": "192.0.2.1"}
    node.gateway.say(ready=False)
    await settle(LAME_S - 2)
    assert node.told(GATEWAY_NODE), "a reload is no end"
    await settle(4.0)
    assert node.told(GATEWAY_NODE) is None
    node.gateway.say(ready=True)
    await settle()
    assert node.told(GATEWAY_NODE)


async def test_headless_names_are_those_of_reachable_hosts(node: Node) -> None:
    node.dns.see_imports_as(node.feed.shown)
    namespaces = Informer(node.client, NAMESPACES, LoopClock())
    node.dns.watch(Sources(node.inputs.services, node.inputs.slices, namespaces))
    node.dns.watch_imports(node.inputs.imports, import_of)
    await node.network("beta", 1)
    await node.imported(type="Headless", ips=[])
    await node.slice("alpha", "10.0.0.5")
    await node.slice("beta", "10.1.0.5")
    node.gateway.say(beta="1/1")
    node.start()
    node.directory.mark_ready(imported=True)

    def hosts() -> set[str]:
        found = node.directory.lookup(wire.name_of("web.demo.svc.clusterset.local"), wire.A)
        assert found is not None
        return {str(ipaddress.ip_address(record.rdata)) for record in found.found.answer}

    await settle()
    assert hosts() == {"10.0.0.5", "10.1.0.5"}
    node.gateway.say(beta="0/1")
    await settle()
    assert hosts() == {"10.0.0.5"}
    assert [r.reason for r in node.remarks] == ["HeadlessNotReachable"]
