"""The federation's reviews over HTTPS: plans that change nothing, explanations, replays, and the rights of who asks."""

import pytest
from tests.support.apiserver import RunningServer
from tests.support.placing import (
    KINDS,
    ZONES,
    deployed,
    deployment,
    federation,
    plainly,
    policy,
    state,
    until,
)

from federation.cli import why
from federation.propagation.templates import NAMESPACES
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.decision import (
    DECISION_REPLAYS,
    DECISIONS,
    PLACEMENT_EXPLANATIONS,
    PLACEMENT_PLANS,
)
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.client.interface import Client, dynamic
from machinery.meta.errors import BadRequest, Forbidden, Invalid, NotFound
from machinery.meta.resource import Document, ObjectKey

ROLES = dynamic("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True)


async def planned(client: Client, *manifests: Document) -> Document:
    body = {
        "apiVersion": PLACEMENT_PLANS.api_version,
        "kind": "PlacementPlan",
        "spec": {"objects": list(manifests)},
    }
    return (await client.create(PLACEMENT_PLANS, body))["status"]


async def explained(client: Client, cluster: str = "", **workload: str) -> Document:
    spec: Document = {
        "workload": {"kind": "Deployment", "namespace": "demo", "name": "web"} | workload
    }
    body = {
        "apiVersion": PLACEMENT_EXPLANATIONS.api_version,
        "kind": "PlacementExplanation",
        "spec": spec | ({"cluster": cluster} if cluster else {}),
    }
    return (await client.create(PLACEMENT_EXPLANATIONS, body))["status"]


async def replayed(client: Client, name: str, namespace: str = "demo") -> Document:
    body = {
        "apiVersion": DECISION_REPLAYS.api_version,
        "kind": "DecisionReplay",
        "spec": {"namespace": namespace, "name": name},
    }
    return (await client.create(DECISION_REPLAYS, body))["status"]


def of(status: Document, name: str) -> Document:
    return next(c for c in status["clusters"] if c["name"] == name)


async def test_a_plan_of_what_is_new_says_where_it_would_go_and_writes_nothing() -> None:
    async with federation() as server:
        before = await state(server)
        status = await planned(server.rest, deployment())
        assert await state(server) == before
        assert status["changed"] is True
        (web,) = status["objects"]
        assert (web["change"], web["policy"]) == (
            "Create",
            "ClusterPropagationPolicy/default-spread",
        )
        assert (web["result"], web["message"]) == ("Scheduled", "alpha:2, beta:2, gamma:2")
        alpha = of(web, "alpha")
        assert (alpha["before"], alpha["after"], alpha["work"]) == (0, 2, "Create")
        assert "it has room for 30 more replicas" in alpha["why"]


async def test_a_plan_of_a_change_says_path_by_path_what_clusters_get() -> None:
    async with federation() as server:
        await deployed(server)
        before = await state(server)
        status = await planned(server.rest, deployment(7, "whoami:2"))
        assert await state(server) == before
        (web,) = status["objects"]
        assert web["change"] == "Update"
        more = [c for c in web["clusters"] if c["after"] == 3]
        assert len(more) == 1 and more[0]["before"] == 2
        for one in web["clusters"]:
            assert one["work"] == "Update"
            paths = {d["path"]: (d["before"], d["after"]) for d in one["differences"]}
            image = "spec.template.spec.containers[web].image"
            assert paths[image] == ("whoami:1", "whoami:2")
            assert set(paths) <= {image, "spec.replicas"}


async def test_a_plan_of_a_policy_says_what_moves() -> None:
    async with federation() as server:
        await deployed(server)
        before = await state(server)
        status = await planned(server.rest, policy("alpha", "beta"))
        assert await state(server) == before
        own, web = status["objects"]
        assert (own["change"], own["message"]) == ("Create", "it claims 1 object")
        assert (web["change"], web["policy"]) == ("Unchanged", "PropagationPolicy/web")
        gamma = of(web, "gamma")
        assert (gamma["before"], gamma["after"], gamma["kept"]) == (2, 0, 2)
        assert sum(c["after"] for c in web["clusters"]) == 6
        assert "did not match the placement cluster affinity" in gamma["why"]


async def test_what_is_applied_already_changes_nothing() -> None:
    async with federation() as server:
        await deployed(server)
        status = await planned(server.rest, deployment())
        assert status["changed"] is False
        (web,) = status["objects"]
        assert (web["change"], web["message"]) == ("Unchanged", "no new decision is needed")


async def test_objects_may_need_each_other_and_a_namespace_that_comes_with_them() -> None:
    async with federation() as server:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "shop"},
            "data": {"a": "b"},
        }
        web = deployment()
        web["metadata"]["namespace"] = "shop"
        container = web["spec"]["template"]["spec"]["containers"][0]
        container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
        status = await planned(server.rest, web, config, space)
        found = {one["object"]["kind"]: one for one in status["objects"]}
        assert {c["work"] for c in found["ConfigMap"]["clusters"]} == {"Create"}
        assert {c["name"] for c in found["ConfigMap"]["clusters"]} == set(ZONES)
        assert found["Namespace"]["change"] == "Create"
        with pytest.raises(NotFound):
            await server.local.get(NAMESPACES, ObjectKey("", "shop"))


async def test_a_refusal_is_told_with_the_clusters_that_were_left_out() -> None:
    async with federation() as server:
        status = await planned(server.rest, policy("nowhere"), deployment())
        web = next(o for o in status["objects"] if o["object"]["kind"] == "Deployment")
        assert web["result"] == "NoClusterFit" and web["message"].startswith("0/3 clusters are")
        (group,) = web["leftOut"]
        assert group["clusters"] == ["alpha", "beta", "gamma"]


@pytest.mark.parametrize(
    ("manifests", "error", "told"),
    [
        ([], BadRequest, "give the manifests"),
        ([{"kind": "Deployment"}], BadRequest, "the federation stores no None Deployment"),
        ([{"apiVersion": "apps/v1", "kind": "Deployment"}], BadRequest, "has no metadata.name"),
        ([deployment(-1)], Invalid, "must be greater than or equal to 0"),
        ([policy() | {"spec": {"resourceSelectors": []}}], Invalid, "resourceSelectors"),
    ],
    ids=["nothing", "unknown", "nameless", "invalid", "a policy that selects nothing"],
)
async def test_what_cannot_be_applied_cannot_be_planned(manifests, error, told) -> None:
    async with federation() as server:
        with pytest.raises(error, match=told):
            await planned(server.rest, *manifests)


async def grant(server: RunningServer, user: str, role: str) -> None:
    document = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{user}-{role}", "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    _ = await server.local.create(ROLES, document)


async def test_who_asks_needs_the_rights_to_apply_and_to_read() -> None:
    async with federation() as server:
        await deployed(server)
        await grant(server, "editor", "edit")
        await grant(server, "viewer", "view")
        (one,) = (await server.local.list(DECISIONS, "demo")).items
        editor, viewer, stranger = (server.rest_as(n) for n in ("editor", "viewer", "stranger"))
        assert (await planned(editor, deployment(7)))["changed"] is True
        with pytest.raises(Forbidden, match="cannot patch resource"):
            await planned(viewer, deployment(7))
        with pytest.raises(Forbidden, match="cannot create resource"):
            await planned(editor, policy("alpha"))
        assert (await explained(viewer))["standing"] is True
        assert (await replayed(viewer, one.metadata.name))["same"] is True
        with pytest.raises(Forbidden):
            await explained(stranger)
        with pytest.raises(Forbidden):
            await replayed(stranger, one.metadata.name)


async def test_an_explanation_says_why_and_that_it_still_comes_out_so() -> None:
    async with federation() as server:
        await deployed(server, policy("alpha", "beta"), deployment())
        status = await explained(server.rest)
        assert status["standing"] is True and status["replays"] == "same"
        assert status["message"] in ("alpha:3, beta:3",)
        assert "2 of 3 clusters may run the workload" in status["sentences"][0]
        gamma = of(status, "gamma")
        assert gamma["sentences"] == [
            "left out: it did not match the placement cluster affinity constraint"
        ]
        assert len(status["history"]) == 1
        (only,) = (await explained(server.rest, cluster="beta"))["clusters"]
        assert (only["name"], only["replicas"], only["room"]) == ("beta", 3, 30)
        with pytest.raises(BadRequest, match="no cluster 'delta', it knows alpha, beta, gamma"):
            await explained(server.rest, cluster="delta")
        with pytest.raises(NotFound):
            await explained(server.rest, name="web2")
        with pytest.raises(BadRequest, match="no kind 'Deploy'"):
            await explained(server.rest, kind="Deploy")


async def test_a_replay_finds_a_decision_by_its_end_and_says_when_it_is_another_one() -> None:
    async with federation() as server:
        await deployed(server)
        (one,) = (await server.local.list(plainly(DECISIONS), "demo")).items
        name = one["metadata"]["name"]
        assert (await replayed(server.rest, name))["same"] is True
        assert (await replayed(server.rest, name.rsplit("-", 1)[1], ""))["same"] is True
        with pytest.raises(NotFound):
            await replayed(server.rest, "nothing")
        told = {k: v for k, v in one["metadata"].items() if k in ("namespace", "ownerReferences")}
        forged = one | {"metadata": told | {"name": "web-forged"}}
        forged["spec"] = one["spec"] | {"clusters": [{"name": "alpha", "replicas": 6}]}
        _ = await server.rest.create(plainly(DECISIONS), forged, "demo")
        status = await replayed(server.rest, "web-forged")
        assert status["same"] is False
        assert status["difference"].startswith("clusters: alpha:6 was recorded, alpha:2, beta:2")


# ----------------------------------------------------------------------------------------- objects without a namespace
RBAC = "rbac.authorization.k8s.io/v1"
WIDE = dynamic(
    "policy.karmada.io", "v1alpha1", "clusterpropagationpolicies", "ClusterPropagationPolicy", False
)
CLUSTER_ROLES = dynamic("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)


def role(*verbs: str, **metadata: str) -> Document:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}]
    head = {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "reader"} | metadata}
    return head | {"rules": rules}


def wide(*clusters: str, kind: str = "ClusterRole") -> Document:
    selectors = [{"apiVersion": RBAC, "kind": kind}]
    placement = {"clusterAffinity": {"clusterNames": list(clusters)}}
    return {
        "apiVersion": WIDE.api_version,
        "kind": WIDE.kind,
        "metadata": {"name": "roles"},
        "spec": {"resourceSelectors": selectors, "placement": placement},
    }


async def settled(server: RunningServer) -> None:
    """The only object without a namespace is placed, dispatched and in the journal."""

    async def works() -> bool:
        journaled = (await server.local.list(DECISIONS)).items
        there = (await server.local.list(WORK_DOCUMENTS)).items
        kinds = [w["spec"]["workload"]["manifests"][0]["kind"] for w in there]
        return bool(journaled) and kinds.count("ClusterRole") == 2

    await until(works, "the role is dispatched")


async def serving_roles(client: Client) -> None:
    enabled = [{"groupVersion": RBAC, "resources": [{"kind": "ClusterRole"}]}]
    for name in ZONES:
        status = {"status": {"apiEnablements": [*KINDS, *enabled]}}
        await client.patch(CLUSTERS, ObjectKey("", name), status, subresource="status")


async def test_a_plan_tells_of_objects_without_a_namespace_and_of_their_policies() -> None:
    async with federation() as server:
        await serving_roles(server.rest)
        before = await state(server)
        status = await planned(server.rest, role("get", namespace="default"), wide("alpha", "beta"))
        assert await state(server) == before
        own, rule = status["objects"]
        assert own["object"] == {"apiVersion": RBAC, "kind": "ClusterRole", "name": "reader"}
        assert (own["change"], own["policy"]) == ("Create", "ClusterPropagationPolicy/roles")
        assert (own["result"], own["message"]) == ("Scheduled", "alpha:0, beta:0")
        assert [(c["name"], c["work"]) for c in own["clusters"]] == [
            ("alpha", "Create"),
            ("beta", "Create"),
        ]
        assert rule["message"] == "it claims 1 object"


async def test_a_plan_tells_what_of_them_changes_where() -> None:
    async with federation() as server:
        await serving_roles(server.rest)
        await server.rest.create(WIDE, wide("alpha", "beta"))
        await server.rest.create(CLUSTER_ROLES, role("get"))
        await settled(server)
        (one,) = (await planned(server.rest, role("get", "list")))["objects"]
        assert (one["change"], one["message"]) == ("Update", "no new decision is needed")
        (found,) = of(one, "alpha")["differences"]
        assert found["path"].startswith("rules")
        moved = await planned(server.rest, wide("beta", "gamma"))
        (own,) = [o for o in moved["objects"] if o["object"]["kind"] == "ClusterRole"]
        works = {c["name"]: c["work"] for c in own["clusters"]}
        assert works == {"alpha": "Delete", "beta": "Unchanged", "gamma": "Create"}
        unclaimed = role("get") | {"metadata": {"name": "writer"}}
        (other,) = (await planned(server.rest, unclaimed))["objects"]
        assert other["policy"] == "ClusterPropagationPolicy/roles"


async def test_what_no_policy_selects_is_told_so() -> None:
    async with federation() as server:
        (one,) = (await planned(server.rest, role("get")))["objects"]
        assert one["message"] == "no policy claims it: it stays at the federation"


async def test_an_explanation_of_an_object_without_a_namespace() -> None:
    async with federation() as server:
        await serving_roles(server.rest)
        await server.rest.create(WIDE, wide("alpha", "beta"))
        await server.rest.create(CLUSTER_ROLES, role("get"))
        await settled(server)
        body = {
            "apiVersion": PLACEMENT_EXPLANATIONS.api_version,
            "kind": "PlacementExplanation",
            "spec": {"workload": {"kind": "ClusterRole", "namespace": "default", "name": "reader"}},
        }
        answer = await server.rest.create(PLACEMENT_EXPLANATIONS, body)
        assert why.what(answer["spec"]["workload"]) == "ClusterRole reader"
        assert answer["status"]["message"] == "alpha:0, beta:0"
        assert (answer["status"]["standing"], answer["status"]["replays"]) == (True, "same")
        gamma = of(answer["status"], "gamma")
        assert "did not match the placement cluster affinity" in gamma["sentences"][0]
