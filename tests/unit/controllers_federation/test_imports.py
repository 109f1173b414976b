"""Imports and networks: their plans as tables, then all controllers on an in-process server, with agents' own rights."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.test_flow import Fleet, deployment, fleet_story

from federation.clusters.admission import ExportsNamed
from federation.controllers import imports, membership, networks
from federation.controllers.imports import SERVICE_IMPORTS, Known
from federation.propagation.templates import DEPLOYMENTS, NAMESPACES, SERVICE_EXPORTS
from federation.traffic.conflicts import Export
from machinery.api.fleet.cluster import CLUSTERS, Cluster, execution_namespace
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    CONFLICTS,
    EXPORTED_SERVICES,
    EXPORTING_CLUSTERS,
    ExportedService,
)
from machinery.api.fleet.resilience import FEDERATION_CONFIGS
from machinery.api.fleet.work import PRUNES
from machinery.client.interface import dynamic
from machinery.controller.action import Create, Delete, Emit, Patch, SetStatus
from machinery.meta.errors import Forbidden, NotFound
from machinery.meta.resource import Document, ObjectKey
from machinery.server.user import AUTHENTICATED, UserInfo

RBAC = membership.RBAC
NOW = "2026-01-01T00:01:00Z"
WEB = ObjectKey("demo", "web")
EXPORTED = dynamic("ubernetes.io", "v1alpha1", "exportedservices", "ExportedService", True)
NETWORKS = dynamic("ubernetes.io", "v1alpha1", "clusternetworks", "ClusterNetwork", False)


def exported(cluster: str, *addresses: str, age: int = 0, **spec: Any) -> Document:
    """What a link writes: `web` in `demo`, its endpoints on port 8080 behind 80."""
    endpoints = [{"addresses": [a], "conditions": {"ready": True}} for a in addresses]
    slices = [
        {
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": endpoints,
        }
    ]
    return {
        "apiVersion": EXPORTED_SERVICES.api_version,
        "kind": EXPORTED_SERVICES.kind,
        "metadata": {"name": "web.demo", "namespace": execution_namespace(cluster)},
        "spec": {
            "service": {"namespace": "demo", "name": "web"},
            "exportedAt": f"2026-01-01T00:00:{age:02}Z",
            "type": "ClusterSetIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
            "ipFamilies": ["IPv4"],
            "slices": slices,
        }
        | spec,
    }


def export(cluster: str, *addresses: str, **spec: Any) -> Export:
    view = msgspec.convert(exported(cluster, *addresses, **spec), ExportedService)
    return Export(cluster, view.spec)


def stored(document: Document) -> Document:
    """As a server holds it."""
    more = {"uid": f"u-{document['metadata']['name']}", "resourceVersion": "7", "generation": 1}
    return document | {"metadata": document["metadata"] | more}


def created(actions: list[Any]) -> list[Document]:
    return [stored(dict(a.document)) for a in actions if isinstance(a, Create)]


# ------------------------------------------------------------------------------------------------------- plans
BOTH = (export("alpha", "10.0.0.1"), export("beta", "10.1.0.1", age=1))
MEMBERS = ("alpha", "beta", "gamma")


def test_every_member_gets_one_work_and_the_federation_its_own_import() -> None:
    made = created(imports.plan(WEB, Known(BOTH, members=MEMBERS), NOW))
    *works, own = made
    assert [w["metadata"]["namespace"] for w in works] == [f"karmada-es-{m}" for m in MEMBERS]
    assert all(w["metadata"]["annotations"][PRUNES] == imports.SLICE_KIND for w in works)
    carried = [[m["kind"] for m in w["spec"]["workload"]["manifests"]] for w in works]
    one, two = (
        ["ServiceImport", "EndpointSlice"],
        ["ServiceImport", "EndpointSlice", "EndpointSlice"],
    )
    assert carried == [one, one, two]
    assert own["kind"] == "ServiceImport"
    assert "ips" not in own["spec"]
    settled = Known(BOTH, works, own, MEMBERS)
    (status,) = imports.plan(WEB, settled, NOW)
    assert isinstance(status, SetStatus)
    assert status.status["clusters"] == [{"cluster": "alpha"}, {"cluster": "beta"}]
    again = Known(BOTH, works, own | {"status": dict(status.status)}, MEMBERS)
    assert imports.plan(WEB, again, NOW) == []


def test_what_does_not_fit_in_one_work_goes_into_more() -> None:
    many = [f"10.1.{i // 250}.{i % 250}" for i in range(4500)]
    works = imports.wanted_works(WEB, imports.merge([export("beta", *many)]), ["alpha"])  # type: ignore[arg-type]
    first, second = works.values()
    assert len(first["spec"]["workload"]["manifests"]) == 1 + imports.SLICES_MAX
    assert len(second["spec"]["workload"]["manifests"]) == 5
    assert imports.import_keys(first) == imports.import_keys(second) == [WEB]


def test_without_its_namespace_here_the_import_is_only_the_members() -> None:
    made = created(imports.plan(WEB, Known(BOTH, members=MEMBERS, namespaced=False), NOW))
    assert [d["kind"] for d in made] == ["Work"] * 3


def test_the_last_export_takes_everything_away() -> None:
    *works, own = created(imports.plan(WEB, Known(BOTH, members=MEMBERS), NOW))
    actions = imports.plan(WEB, Known((), works, own, MEMBERS), NOW)
    assert [type(a) for a in actions] == [Delete] * 4
    going = own | {"metadata": own["metadata"] | {"deletionTimestamp": NOW}}
    assert imports.plan(WEB, Known((), (), going, MEMBERS), NOW) == []


def test_works_remember_the_type_that_consumers_have() -> None:
    headless = export("alpha", type="Headless")
    *works, own = created(imports.plan(WEB, Known((headless,), members=MEMBERS), NOW))
    actions = imports.plan(WEB, Known((BOTH[1],), works, own, MEMBERS), NOW)
    own_patch = next(a for a in actions if isinstance(a, Patch) and a.resource == SERVICE_IMPORTS)
    assert [op["path"] for op in own_patch.patch] == ["/metadata/annotations"]  # type: ignore[index,call-overload]
    (said,) = (a for a in actions if isinstance(a, Emit))
    assert (said.type, said.reason) == ("Warning", "ExportConflict")
    assert '"Headless" stays' in said.message


def template(status: Document | None = None) -> Document:
    metadata = {
        "name": "web",
        "namespace": "demo",
        "uid": "u",
        "resourceVersion": "3",
        "generation": 1,
    }
    return {"kind": "ServiceExport", "metadata": metadata} | ({"status": status} if status else {})


def copy(cluster: str, *said: tuple[str, str, str]) -> Document:
    """A Work of the ServiceExport with what its member says."""
    conditions = [{"type": t, "status": s, "reason": r, "message": ""} for t, s, r in said]
    metadata = {"name": "web-1", "namespace": execution_namespace(cluster)}
    status = {"manifestStatuses": [{"status": {"conditions": conditions}}]} if said else {}
    return {"metadata": metadata, "spec": {}, "status": status}


def test_the_template_sums_up_its_copies_and_the_conflict() -> None:
    ok = (("Valid", "True", "Valid"), ("Ready", "True", "Exported"))
    young = export("beta", age=1, type="Headless")
    known = Known(
        (BOTH[0], young),
        members=MEMBERS,
        template=template(),
        copies=[copy("alpha", *ok), copy("beta")],
    )
    *_, status, said = imports.plan(WEB, known, NOW)
    assert isinstance(status, SetStatus)
    assert isinstance(said, Emit)
    found = {c["type"]: (c["status"], c["reason"]) for c in status.status["conditions"]}
    assert found == {
        "Valid": ("True", "Valid"),
        "Ready": ("True", "Exported"),
        "Conflict": ("True", "TypeConflict"),
    }
    assert (said.resource, said.reason) == (SERVICE_EXPORTS, "ExportConflict")
    settled = Known(**{f: getattr(known, f) for f in ("exports", "members", "copies")}, template=template(dict(status.status)))  # fmt: skip
    assert not [a for a in imports.plan(WEB, settled, NOW) if isinstance(a, SetStatus | Emit)]
    over = Known(BOTH, members=MEMBERS, template=settled.template, copies=known.copies)
    (solved,) = (a for a in imports.plan(WEB, over, NOW) if isinstance(a, Emit))
    assert (solved.type, solved.reason) == ("Normal", "ExportConflictResolved")


@pytest.mark.parametrize(
    ("name", "keys"),
    [("web.demo", [WEB]), ("web.shop", []), ("web", [])],
    ids=["right", "wrong", "no name"],
)
def test_an_export_counts_only_under_its_name(name: str, keys: list[ObjectKey]) -> None:
    document = exported("alpha")
    document["metadata"]["name"] = name
    assert imports.service_keys(msgspec.convert(document, ExportedService)) == keys


def network(name: str) -> Document:
    metadata = {"name": name, "uid": "u", "resourceVersion": "3", "generation": 2}
    spec = {"gateways": [{"node": "n1", "address": "192.0.2.1", "port": 15443}]}
    return {
        "apiVersion": "ubernetes.io/v1alpha1", "kind": "ClusterNetwork", "metadata": metadata,
        "spec": spec, "status": {"summary": "beta=Direct"},
    }  # fmt: skip


def test_networks_go_to_all_members_without_their_status() -> None:
    made = created(networks.plan(network("alpha"), MEMBERS, "Disabled", []))
    assert [w["metadata"]["namespace"] for w in made] == [f"karmada-es-{m}" for m in MEMBERS]
    (manifest,) = made[0]["spec"]["workload"]["manifests"]
    assert manifest["spec"] == network("alpha")["spec"] | {"directRoutes": "Disabled"}
    assert "status" not in manifest
    assert networks.network_keys(made[0]) == [ObjectKey("", "alpha")]
    assert networks.plan(network("alpha"), MEMBERS, "Disabled", made) == []
    assert len(networks.plan(network("alpha"), MEMBERS, "Enabled", made)) == 3
    assert {type(a) for a in networks.plan(network("alpha"), ["beta"], "Enabled", made)} == {Delete}


def test_a_cluster_that_leaves_takes_its_network_along() -> None:
    metadata = {"name": "alpha", "deletionTimestamp": NOW, "finalizers": [membership.FINALIZER]}
    cluster = msgspec.convert({"metadata": metadata}, Cluster)
    actions = membership.plan(cluster, [])
    assert Delete(CLUSTER_NETWORKS, ObjectKey("", "alpha")) in actions


# ----------------------------------------------------------------------------------------------------- stories
async def carried(fleet: Fleet, cluster: str) -> list[str]:
    """Addresses of endpoints that a member was sent, by its Works of the import."""
    found = []
    for work in await fleet.works(cluster, "ServiceImport"):
        if not work["metadata"].get("deletionTimestamp"):
            for manifest in work["spec"]["workload"]["manifests"]:
                found += [a for e in manifest.get("endpoints", ()) for a in e["addresses"]]
    return sorted(found)


async def agent_exports(fleet: Fleet, cluster: str, *addresses: str, **spec: Any) -> None:
    document = exported(cluster, *addresses, **spec)
    await fleet.server.agent(cluster).create(EXPORTED, document, document["metadata"]["namespace"])


def test_exports_become_imports_and_leave_with_their_cluster() -> None:
    async def story(fleet: Fleet) -> None:
        await agent_exports(fleet, "alpha", "10.0.0.1", age=1)
        await agent_exports(fleet, "beta", "10.1.0.1", age=2, type="Headless")
        await asyncio.sleep(1)
        assert await carried(fleet, "alpha") == ["10.1.0.1"]
        assert await carried(fleet, "beta") == ["10.0.0.1"]
        assert await carried(fleet, "gamma") == ["10.0.0.1", "10.1.0.1"]
        own = await fleet.client.get(SERVICE_IMPORTS, WEB)
        assert own["metadata"]["annotations"][EXPORTING_CLUSTERS] == "alpha,beta"
        assert json.loads(own["metadata"]["annotations"][CONFLICTS])["reason"] == "TypeConflict"
        assert own["status"]["clusters"] == [{"cluster": "alpha"}, {"cluster": "beta"}]

        await fleet.client.delete(CLUSTERS, ObjectKey("", "alpha"))
        await asyncio.sleep(1)
        assert await carried(fleet, "gamma") == ["10.1.0.1"]
        own = await fleet.client.get(SERVICE_IMPORTS, WEB)
        assert own["spec"]["type"] == "ClusterSetIP"
        assert own["status"]["clusters"] == [{"cluster": "beta"}]
        told = {c["type"]: (c["status"], c["reason"]) for c in own["status"]["conditions"]}
        assert told == {"Ready": ("True", "Ready"), "Conflict": ("True", "TypeConflict")}

        await fleet.server.agent("beta").delete(EXPORTED, ObjectKey("karmada-es-beta", "web.demo"))
        await asyncio.sleep(1)
        works = await fleet.works("gamma", "ServiceImport")
        assert all(w["metadata"]["deletionTimestamp"] for w in works)
        with pytest.raises(NotFound):
            await fleet.client.get(SERVICE_IMPORTS, WEB)

    fleet_story(story)


def test_endpoints_of_a_silent_cluster_stay() -> None:
    async def story(fleet: Fleet) -> None:
        await agent_exports(fleet, "alpha", "10.0.0.1")
        for _ in range(20):
            await asyncio.sleep(2)
            await fleet.beat("beta", "gamma")
        cluster = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
        assert any(c.type == "Ready" and c.status == "Unknown" for c in cluster.status.conditions)
        assert await carried(fleet, "beta") == ["10.0.0.1"]

    fleet_story(story)


def test_a_namespace_that_is_made_later_gets_its_import_and_one_that_goes_loses_it() -> None:
    async def story(fleet: Fleet) -> None:
        document = exported("alpha", "10.0.0.1", service={"namespace": "shop", "name": "web"})
        document["metadata"]["name"] = "web.shop"
        await fleet.server.agent("alpha").create(EXPORTED, document, "karmada-es-alpha")
        await asyncio.sleep(1)
        assert await carried(fleet, "beta") == ["10.0.0.1"]
        key = ObjectKey("shop", "web")
        with pytest.raises(NotFound):
            await fleet.client.get(SERVICE_IMPORTS, key)
        shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        await fleet.client.create(NAMESPACES, shop)
        await asyncio.sleep(1)
        assert (await fleet.client.get(SERVICE_IMPORTS, key))["spec"]["type"] == "ClusterSetIP"
        await fleet.client.delete(NAMESPACES, ObjectKey("", "shop"))
        await asyncio.sleep(10)
        with pytest.raises(NotFound):
            await fleet.client.get(NAMESPACES, ObjectKey("", "shop"))

    fleet_story(story)


def test_the_export_follows_its_service_but_never_into_system_namespaces() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        for namespace in ("demo", "kube-system"):
            document = {
                "apiVersion": SERVICE_EXPORTS.api_version,
                "kind": SERVICE_EXPORTS.kind,
                "metadata": {"name": "web", "namespace": namespace},
            }
            await fleet.client.create(SERVICE_EXPORTS, document, namespace)
        await asyncio.sleep(2)
        for cluster in ("alpha", "beta", "gamma"):
            (work,) = await fleet.works(cluster, "ServiceExport")
            assert work["spec"]["workload"]["manifests"][0]["metadata"]["namespace"] == "demo"
        held = await fleet.client.get(SERVICE_EXPORTS, WEB)
        assert {c["type"]: c["reason"] for c in held["status"]["conditions"]} == {
            "Valid": "Pending",
            "Ready": "Pending",
        }

    fleet_story(story)


def test_networks_follow_the_operators_word() -> None:
    async def story(fleet: Fleet) -> None:
        spec = {"gateways": [{"node": "n1", "address": "192.0.2.1"}]}
        document = {
            "apiVersion": "ubernetes.io/v1alpha1",
            "kind": "ClusterNetwork",
            "metadata": {"name": "alpha"},
            "spec": spec,
        }
        await fleet.server.agent("alpha").create(NETWORKS, document)
        await asyncio.sleep(1)
        (work,) = await fleet.works("beta", "ClusterNetwork")
        assert work["spec"]["workload"]["manifests"][0]["spec"]["directRoutes"] == "Enabled"
        config = {
            "apiVersion": FEDERATION_CONFIGS.api_version,
            "kind": "FederationConfig",
            "metadata": {"name": "default"},
            "spec": {"directRoutes": "Disabled"},
        }
        await fleet.client.create(FEDERATION_CONFIGS, config)
        await asyncio.sleep(1)
        (work,) = await fleet.works("beta", "ClusterNetwork")
        assert work["spec"]["workload"]["manifests"][0]["spec"]["directRoutes"] == "Disabled"
        await fleet.client.delete(CLUSTERS, ObjectKey("", "alpha"))
        await asyncio.sleep(1)
        (work,) = await fleet.works("beta", "ClusterNetwork")
        assert work["metadata"]["deletionTimestamp"]
        with pytest.raises(NotFound):
            await fleet.client.get(NETWORKS, ObjectKey("", "alpha"))

    fleet_story(story)


# ------------------------------------------------------------------------------------------------------ rights
def test_an_agent_writes_its_own_and_nothing_else() -> None:
    async def story(fleet: Fleet) -> None:
        agent = fleet.server.agent("alpha")
        document = exported("alpha", "10.0.0.1")
        home, key = "karmada-es-alpha", ObjectKey("karmada-es-alpha", "web.demo")
        await agent.create(EXPORTED, document, home)
        assert len((await agent.list(EXPORTED, home)).items) == 1
        await agent.patch(EXPORTED, key, {"spec": {"type": "Headless"}})
        held = await agent.get(EXPORTED, key)
        await agent.update(EXPORTED, held)
        await agent.delete(EXPORTED, key)
        for verb in (
            agent.create(EXPORTED, exported("beta"), "karmada-es-beta"),
            agent.list(EXPORTED, "karmada-es-beta"),
            agent.list(EXPORTED),
            agent.get(SERVICE_IMPORTS, WEB),
            agent.create(SERVICE_EXPORTS, {"metadata": {"name": "web"}}, "demo"),
        ):
            with pytest.raises(Forbidden):
                await verb
        own = {
            "apiVersion": "ubernetes.io/v1alpha1",
            "kind": "ClusterNetwork",
            "metadata": {"name": "alpha"},
            "spec": {},
        }
        await agent.create(NETWORKS, own)
        mine, other = ObjectKey("", "alpha"), ObjectKey("", "beta")
        await agent.patch(NETWORKS, mine, {"spec": {"nodes": [{"node": "n1"}]}})
        await agent.patch(NETWORKS, mine, {"status": {"summary": "x"}}, subresource="status")
        assert (await agent.get(NETWORKS, mine))["status"] == {"summary": "x"}
        await fleet.server.agent("beta").create(NETWORKS, own | {"metadata": {"name": "beta"}})
        for verb in (
            agent.create(NETWORKS, own | {"metadata": {"name": "gamma"}}),
            agent.get(NETWORKS, other),
            agent.patch(NETWORKS, other, {"spec": {}}),
            agent.patch(NETWORKS, other, {"status": {}}, subresource="status"),
            agent.delete(NETWORKS, mine),
        ):
            with pytest.raises(Forbidden):
                await verb

    fleet_story(story)


def test_users_export_and_only_controllers_import() -> None:
    async def story(fleet: Fleet) -> None:
        api = fleet.server.api
        assert api is not None
        for role in ("view", "edit", "admin"):
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": "demo"},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": role}],
            }
            await fleet.client.create(membership.KINDS["RoleBinding"], binding, "demo")
        await agent_exports(fleet, "alpha", "10.0.0.1")
        await asyncio.sleep(1)
        document = {
            "apiVersion": SERVICE_EXPORTS.api_version,
            "kind": "ServiceExport",
            "metadata": {"name": "web"},
        }
        for role in ("view", "edit", "admin"):
            user = api.client(UserInfo(role, (AUTHENTICATED,)), role)
            assert len((await user.list(SERVICE_IMPORTS, "demo")).items) == 1
            for verb in (
                user.patch(SERVICE_IMPORTS, WEB, {"spec": {"type": "Headless"}}),
                user.patch(SERVICE_IMPORTS, WEB, {"status": {}}, subresource="status"),
                user.delete(SERVICE_IMPORTS, WEB),
                user.patch(SERVICE_EXPORTS, WEB, {"status": {}}, subresource="status"),
            ):
                with pytest.raises(Forbidden):
                    await verb
            if role == "view":
                with pytest.raises(Forbidden):
                    await user.create(SERVICE_EXPORTS, document, "demo")
            else:
                await user.create(SERVICE_EXPORTS, document, "demo")
                await user.delete(SERVICE_EXPORTS, WEB)

    fleet_story(story)


def test_rights_of_an_older_version_are_renewed() -> None:
    async def story(fleet: Fleet) -> None:
        role, key = (
            membership.KINDS["Role"],
            ObjectKey("karmada-es-alpha", "ubernetes:cluster:alpha"),
        )
        await fleet.client.patch(role, key, {"rules": []})
        with pytest.raises(Forbidden):
            await agent_exports(fleet, "alpha", "10.0.0.1")
        await fleet.server.stop()
        await fleet.server.start()
        await asyncio.sleep(1)
        await agent_exports(fleet, "alpha", "10.0.0.1")

    fleet_story(story)


def test_exports_must_be_named_after_their_service() -> None:
    class Request:
        def __init__(self, name: str, verb: str = "create") -> None:
            document = exported("alpha")
            document["metadata"]["name"] = name
            self.verb, self.name, self.document = verb, name, document
            self.kind = next(k for k in kinds if k.kind == "ExportedService")

    from machinery.api.fleet.multicluster_kinds import MULTICLUSTER as kinds  # noqa: N811

    plugin = ExportsNamed()
    plugin.validate(Request("web.demo"))  # type: ignore[arg-type]
    plugin.validate(Request("other", "delete"))  # type: ignore[arg-type]
    with pytest.raises(Forbidden, match=r'must be named "web\.demo"'):
        plugin.validate(Request("other"))  # type: ignore[arg-type]
