"""Views of the API become names: tables of the conversion, then whole documents through informers."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock
from tests.unit.node.dns.dnsworld import World

from cluster_agent.node.dns.inputs import (
    DnsFeed,
    Sources,
    addresses_of,
    import_of,
    service_of,
    slice_of,
)
from cluster_agent.node.dns.model import Endpoint, Port, Service, Slice
from machinery.api import core, discovery_kinds, service_kinds
from machinery.api.fleet import multicluster
from machinery.client.informer import Informer
from machinery.kit.tasks import TaskOwner
from machinery.meta.objectmeta import Object
from machinery.meta.resource import ObjectKey, Resource


def service(**spec: Any) -> Service:
    document = {"metadata": {"namespace": "demo", "name": "web"}, "spec": spec}
    return service_of(msgspec.convert(document, service_kinds.Service))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param(
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 80, "name": "http"}]},
            Service("demo", "web", ("10.96.0.1", "fd00::1"), (Port(80, "TCP", "http"),)),
            id="two families",
        ),
        pytest.param({"clusterIP": "10.96.0.1"}, Service("demo", "web", ("10.96.0.1",)), id="old field alone"),
        pytest.param({}, Service("demo", "web"), id="no address yet"),
        pytest.param({"clusterIP": "None", "clusterIPs": ["None"]}, Service("demo", "web", headless=True), id="headless"),
        pytest.param(
            {"clusterIP": "None", "publishNotReadyAddresses": True},
            Service("demo", "web", headless=True, publish_not_ready=True),
            id="unready published",
        ),
        pytest.param(
            {"type": "ExternalName", "externalName": "example.com", "clusterIP": "None"},
            Service("demo", "web", external_name="example.com"),
            id="ExternalName",
        ),
        pytest.param(
            {"type": "NodePort", "externalName": "left.over", "clusterIP": "10.96.0.1"},
            Service("demo", "web", ("10.96.0.1",)),
            id="name left over",
        ),
    ],
)  # fmt: skip
def test_services(spec: dict[str, Any], wanted: Service) -> None:
    assert service(**spec) == wanted


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param(
            {"type": "ClusterSetIP", "ips": ["10.99.0.1"], "ports": [{"port": 80, "name": "http"}]},
            Service("demo", "web", ("10.99.0.1",), (Port(80, "TCP", "http"),), imported=True),
            id="with an address",
        ),
        pytest.param(
            {"type": "ClusterSetIP", "ips": []}, Service("demo", "web", imported=True), id="no address yet"
        ),
        pytest.param(
            {"type": "Headless", "ips": ["10.99.0.1"]},
            Service("demo", "web", headless=True, imported=True),
            id="headless has no address",
        ),
    ],
)  # fmt: skip
def test_imports(spec: dict[str, Any], wanted: Service) -> None:
    document = {"metadata": {"namespace": "demo", "name": "web"}, "spec": {"ports": [], **spec}}
    assert import_of(msgspec.convert(document, multicluster.ServiceImport)) == wanted


def slice_document(labels: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "demo", "name": "web-1", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.244.0.1"], "hostname": "web-0", "targetRef": {"kind": "Pod", "name": "web-0"}},
            {"addresses": ["10.244.0.2"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        ],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "any"}],
        **more,
    }  # fmt: skip


ENDPOINTS = (
    Endpoint(("10.244.0.1",), hostname="web-0", pod="web-0"),
    Endpoint(("10.244.0.2",), ready=False),
)
PORTS = (Port(80, "TCP", "http"),)
LOCAL = {"kubernetes.io/service-name": "web"}
IMPORTED = {
    "multicluster.kubernetes.io/service-name": "web",
    "multicluster.kubernetes.io/source-cluster": "alpha",
}


@pytest.mark.parametrize(
    ("labels", "more", "wanted"),
    [
        pytest.param(LOCAL, {}, Slice("demo", "web", ENDPOINTS, PORTS), id="local"),
        pytest.param(IMPORTED, {}, Slice("demo", "web", ENDPOINTS, PORTS, "alpha"), id="imported"),
        pytest.param(
            {**IMPORTED, **LOCAL}, {}, Slice("demo", "web", ENDPOINTS, PORTS, "alpha"), id="both"
        ),
        pytest.param({}, {}, None, id="nobody's"),
        pytest.param(LOCAL, {"addressType": "FQDN"}, None, id="names"),
    ],
)
def test_slices(labels: dict[str, str], more: dict[str, Any], wanted: Slice | None) -> None:
    document = slice_document(labels, **more)
    assert slice_of(msgspec.convert(document, discovery_kinds.EndpointSlice)) == wanted


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ({}, ()),
        ({"podIP": "10.1.1.1"}, ("10.1.1.1",)),
        ({"podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}, {"ip": "fd00::1"}]}, ("10.1.1.1", "fd00::1")),
        ({"phase": "Succeeded", "podIP": "10.1.1.1"}, ()),
    ],
)  # fmt: skip
def test_pods(status: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert addresses_of(msgspec.convert({"status": status}, core.Pod)) == wanted


# ------------------------------------------------------------------------------------------------------- informers
class ImportView(Object):
    """Stands for the view of an import: ips and ports are the Service's own here."""

    spec: service_kinds.ServiceSpec = service_kinds.ServiceSpec()


IMPORTS: Resource[ImportView] = Resource(
    "multicluster.x-k8s.io", "v1beta1", "serviceimports", "ServiceImport", True, ImportView
)


def as_service(view: ImportView) -> Service:
    return Service(*view.key, ips=view.spec.cluster_ips, imported=True)


def document(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


@pytest.mark.looptime
async def test_names_follow_the_api() -> None:
    client, world, clock, owner = FakeClient(), World(state=None), LoopClock(), TaskOwner()
    sources = Sources(
        Informer(client, service_kinds.SERVICES, clock),
        Informer(client, discovery_kinds.ENDPOINTSLICES, clock),
        Informer(client, core.NAMESPACES, clock),
        Informer(client, core.PODS, clock),
    )
    imports = Informer(client, IMPORTS, clock)
    feed = DnsFeed(world.directory)
    feed.watch(sources)
    feed.watch_imports(imports, as_service)
    await client.create(core.NAMESPACES, {"metadata": {"name": "demo"}})
    await client.create(service_kinds.SERVICES, document("web", clusterIP="10.96.0.1"), "demo")
    name, far = "web.demo.svc.cluster.local", "web.demo.svc.clusterset.local"
    assert [world.ask(n, "A")[0] for n in (name, far)] == ["SERVFAIL", "SERVFAIL"]
    _ = owner.spawn(feed.run(sources), "feed")
    assert sources.pods is not None
    for informer in (sources.services, sources.slices, sources.namespaces, sources.pods):
        _ = owner.spawn(informer.run(), "informer")
    await asyncio.sleep(1)
    assert world.ask(name, "A") == ("NOERROR", [f"{name}. A 10.96.0.1"])
    assert world.ask(far, "A")[0] == "SERVFAIL"
    _ = owner.spawn(feed.run_imports(imports, sources), "imports")
    _ = owner.spawn(imports.run(), "informer")
    await client.create(IMPORTS, document("web", clusterIPs=["10.112.0.1"]), "demo")
    await asyncio.sleep(1)
    assert world.ask(far, "A")[1] == [f"{far}. A 10.112.0.1"]

    slices, pod = discovery_kinds.ENDPOINTSLICES, core.PODS
    await client.create(slices, slice_document(LOCAL), "demo")
    await client.create(pod, document("web-0"), "demo")
    await client.patch(pod, ObjectKey("demo", "web-0"), {"status": {"podIP": "10.244.0.1"}})
    await asyncio.sleep(1)
    host, ip = f"web-0.{name}", "10-244-0-1.demo.pod.cluster.local"
    assert [world.ask(n, "A")[0] for n in (host, ip)] == ["NOERROR", "NOERROR"]
    await client.patch(slices, ObjectKey("demo", "web-1"), {"metadata": {"labels": {next(iter(LOCAL)): None}}})  # fmt: skip
    await client.delete(pod, ObjectKey("demo", "web-0"))
    await client.delete(IMPORTS, ObjectKey("demo", "web"))
    await asyncio.sleep(1)
    assert [world.ask(n, "A")[0] for n in (host, ip, far)] == ["NXDOMAIN"] * 3
    await client.delete(service_kinds.SERVICES, ObjectKey("demo", "web"))
    await asyncio.sleep(1)
    assert world.ask("demo.svc.cluster.local", "A")[0] == "NODATA"
    await client.delete(core.NAMESPACES, ObjectKey("", "demo"))
    await asyncio.sleep(1)
    assert world.ask("demo.svc.cluster.local", "A")[0] == "NXDOMAIN"
    await owner.close()
