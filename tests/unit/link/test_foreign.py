"""The link of a foreign cluster: discovery read, headers passed on, rights worded, conditions kept, heartbeats withheld."""

import asyncio
import datetime as dt

import orjson
import pytest
from multidict import CIMultiDict
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.cli import main
from cluster_agent.link.foreign import foreign_access
from cluster_agent.link.foreign_discovery import (
    Discovery,
    Served,
    aggregated,
    enabled,
    legacy,
    versions,
)
from cluster_agent.link.foreign_proxy import is_proxied, passed_on, returned
from cluster_agent.link.foreign_remarks import GRANTS, SERVICES, Remark, Remarks, plan
from cluster_agent.link.foreign_rights import (
    ASKED,
    CARRIED,
    EVERYTHING,
    Right,
    impersonation,
    manifest,
    missing,
    questions,
    rule,
    wording,
)
from cluster_agent.link.heartbeat import Heartbeat
from cluster_agent.link.report import Place, annotations, cluster_document
from cluster_agent.link.works import needs_grants
from federation.propagation.templates import (
    FOLLOWERS,
    NAMESPACES,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_EXPORTS,
    TEMPLATES,
)
from machinery.api.fleet.cluster import CLUSTERS, GRANTS_ENFORCED
from machinery.client.kubeconfig import KubeconfigError
from machinery.meta.errors import ServiceUnavailable
from machinery.meta.objectmeta import Condition
from machinery.meta.resource import ObjectKey

READ = frozenset({"get", "list", "watch", "patch"})
DEPLOYMENT = Served("apps/v1", "Deployment", "deployments", True, READ)
POD = Served("v1", "Pod", "pods", True, READ)
METRICS = Served(
    "metrics.k8s.io/v1beta1", "NodeMetrics", "nodes", False, frozenset({"get", "list"})
)


# ------------------------------------------------------------------------------------------------------------- discovery
def group(name: str, version: str, *served: Served, **more: object):
    resources = [
        {
            "resource": s.plural,
            "responseKind": {"kind": s.kind},
            "scope": "Namespaced" if s.namespaced else "Cluster",
            "verbs": sorted(s.verbs),
            "subresources": [{"subresource": "status", "responseKind": {"kind": s.kind}}],
        }
        for s in served
    ]
    return {"metadata": {"name": name} if name else {}, "versions": [{"version": version, "resources": resources, **more}]}  # fmt: skip


def test_aggregated_discovery_is_read_without_subresources() -> None:
    document = {"kind": "APIGroupDiscoveryList", "items": [group("apps", "v1", DEPLOYMENT), group("", "v1", POD)]}  # fmt: skip
    assert aggregated(document) == {"apps/v1": (DEPLOYMENT,), "v1": (POD,)}


def test_a_group_that_could_not_be_asked_is_not_taken_for_empty() -> None:
    stale = group("metrics.k8s.io", "v1beta1", freshness="Stale")
    assert aggregated({"items": [stale]}) == {"metrics.k8s.io/v1beta1": None}
    known = group("metrics.k8s.io", "v1beta1", METRICS, freshness="Stale")
    assert aggregated({"items": [known]}) == {"metrics.k8s.io/v1beta1": (METRICS,)}


def test_legacy_discovery_is_read_without_subresources() -> None:
    resources = [
        {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": sorted(READ)},
        {"name": "deployments/status", "kind": "Deployment", "namespaced": True, "verbs": ["get"]},
    ]
    assert legacy({"groupVersion": "apps/v1", "resources": resources}) == (DEPLOYMENT,)
    groups = {"kind": "APIGroupList", "groups": [{"versions": [{"groupVersion": "apps/v1"}, {"groupVersion": "apps/v1beta1"}]}]}  # fmt: skip
    assert versions(groups) == ["apps/v1", "apps/v1beta1"]
    assert versions({"kind": "APIVersions", "versions": ["v1"]}) == ["v1"]


def test_only_what_can_be_listed_is_told_to_the_federation() -> None:
    review = Served("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, frozenset({"create"}))  # fmt: skip
    kinds = {"apps/v1": (DEPLOYMENT,), "authorization.k8s.io/v1": (review,)}
    assert enabled(kinds) == (("apps/v1", (("Deployment", "deployments"),)),)


class Answers:
    """A server's answers by path; an exception is raised."""

    def __init__(self, by_path):
        self.by_path = by_path

    async def request(self, method, path):
        answer = self.by_path[path]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, bytes) else orjson.dumps(answer)


def old_server(metrics: object) -> Answers:
    """Kubernetes before aggregated discovery."""
    return Answers(
        {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": {"groupVersion": "v1", "resources": [{"name": "pods", "kind": "Pod", "namespaced": True, "verbs": sorted(READ)}]},
            "/apis": {"kind": "APIGroupList", "groups": [{"versions": [{"groupVersion": "metrics.k8s.io/v1beta1"}]}]},
            "/apis/metrics.k8s.io/v1beta1": metrics,
        }
    )  # fmt: skip


async def test_an_old_server_is_asked_group_by_group_and_a_group_that_is_away_stays_known() -> None:
    resources = [{"name": "nodes", "kind": "NodeMetrics", "namespaced": False, "verbs": ["get", "list"]}]  # fmt: skip
    answers = old_server({"groupVersion": "metrics.k8s.io/v1beta1", "resources": resources})
    discovery = Discovery(answers)
    assert await discovery.refresh()
    assert discovery.kinds == {"v1": (POD,), "metrics.k8s.io/v1beta1": (METRICS,)}
    answers.by_path["/apis/metrics.k8s.io/v1beta1"] = ServiceUnavailable("away")
    assert not await discovery.refresh()
    assert discovery.kinds["metrics.k8s.io/v1beta1"] == (METRICS,)


async def test_a_kind_resolves_only_if_it_can_be_applied() -> None:
    discovery = Discovery(Answers({}))
    discovery.kinds = {"apps/v1": (DEPLOYMENT,), "metrics.k8s.io/v1beta1": (METRICS,)}
    found = discovery.resolve("apps/v1", "Deployment")
    assert found is not None
    assert (found.group, found.version, found.plural, found.namespaced) == ("apps", "v1", "deployments", True)  # fmt: skip
    assert discovery.resolve("metrics.k8s.io/v1beta1", "NodeMetrics") is None
    assert discovery.resolve("apps/v1", "StatefulSet") is None


async def test_a_page_that_is_no_kubernetes_is_no_answer() -> None:
    with pytest.raises(ConnectionError, match="not the answer of a Kubernetes API"):
        await Discovery(Answers({"/api": b"<html>log in</html>"})).refresh()


# ----------------------------------------------------------------------------------------------------------------- proxy
def test_only_known_headers_pass_and_masters_are_not_masters_there() -> None:
    asked = CIMultiDict(
        [
            ("Accept", "application/json"),
            ("Authorization", "Bearer stolen"),
            ("X-Remote-User", "root"),
            ("Cookie", "a=b"),
            ("Impersonate-User", "kubernetes-admin"),
            ("Impersonate-Group", "system:masters"),
            ("Impersonate-Group", "system:authenticated"),
            ("Impersonate-Extra-Scopes", "x"),
            ("Upgrade", "websocket"),
        ]
    )
    assert list(passed_on(asked).items()) == [
        ("Accept", "application/json"),
        ("Impersonate-User", "kubernetes-admin"),
        ("Impersonate-Group", "ubernetes:federation-masters"),
        ("Impersonate-Group", "system:authenticated"),
        ("Impersonate-Extra-Scopes", "x"),
    ]
    assert passed_on(asked, ("upgrade",))["Upgrade"] == "websocket"


def test_what_a_pod_reads_passes_through_a_proxy_but_for_what_is_of_the_connection() -> None:
    asked = CIMultiDict(
        [
            ("Host", "federation"),
            ("Authorization", "Bearer stolen"),
            ("X-Remote-User", "root"),
            ("Cookie", "a=b"),
            ("X-Mine", "1"),
            ("Impersonate-Group", "system:masters"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Content-Length", "3"),
        ]
    )
    kept = [
        ("Cookie", "a=b"),
        ("X-Mine", "1"),
        ("Impersonate-Group", "ubernetes:federation-masters"),
    ]
    assert list(passed_on(asked, proxied=True).items()) == kept
    upgraded = passed_on(asked, ("upgrade",), proxied=True)
    assert list(upgraded.items()) == [*kept, ("Upgrade", "websocket")]
    given = CIMultiDict([("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Connection", "close")])
    assert returned(given, proxied=True).getall("Set-Cookie") == ["a", "b"]
    assert "Connection" not in returned(given, proxied=True)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/namespaces/a/pods/web:80/proxy", True),
        ("/api/v1/namespaces/a/services/https:web:443/proxy/x?y", True),
        ("/api/v1/nodes/n/proxy/metrics", True),
        ("/api/v1/namespaces/a/pods/proxy", False),
        ("/api/v1/namespaces/a/pods/web/log", False),
        ("/apis/x/v1/namespaces/a/pods/web/proxy", False),
        ("/api/v1/namespaces/a/configmaps/web/proxy", False),
    ],
)
def test_what_is_a_proxy(path: str, expected: bool) -> None:
    assert is_proxied(path) is expected


def test_connection_headers_do_not_come_back() -> None:
    given = {"Content-Type": "application/json", "Transfer-Encoding": "chunked", "Set-Cookie": "x", "Warning": '299 - "old"'}  # fmt: skip
    assert returned(given) == {"Content-Type": "application/json", "Warning": '299 - "old"'}


# ---------------------------------------------------------------------------------------------------------------- rights
def test_the_rights_cover_all_that_works_carry_into_a_foreign_cluster() -> None:
    carried = {(right.group, resource) for right in CARRIED for resource in right.resources}
    switched_off = {SERVICE_EXPORTS, ROLES, ROLE_BINDINGS}
    wanted = {*TEMPLATES, *FOLLOWERS, NAMESPACES} - switched_off
    parts_of_quotas = {("", "resourcequotas")}
    templates = {(resource.group, resource.plural) for resource in wanted}
    assert carried == templates | parts_of_quotas


def test_nothing_in_the_manifest_reaches_for_more() -> None:
    rules = [r for d in manifest(["jane"], ["ops"]) for r in d.get("rules", ())]
    assert all("*" not in r["resources"] + r["verbs"] + r["apiGroups"] for r in rules)
    assert not any(r["apiGroups"] == ["rbac.authorization.k8s.io"] for r in rules)
    spoken = [r for r in rules if r["verbs"] == ["impersonate"]]
    assert [r["resourceNames"] for r in spoken] == [
        ["kubernetes-admin", "jane"],
        ["system:authenticated", "ubernetes:federation-masters", "ops"],
    ]


def test_a_star_lifts_the_limit_on_who_may_be_spoken_for() -> None:
    users, groups = impersonation(["*"], [])
    assert "resourceNames" not in rule(users)
    assert "resourceNames" in rule(groups)


def test_what_is_missing_is_worded_by_resource() -> None:
    asked = questions([Right("apps", ("deployments",), ("create", "patch")), ASKED, *impersonation()[:1]])  # fmt: skip
    assert wording(asked) == (
        "create, patch deployments.apps; get, list leases.coordination.k8s.io in kube-node-lease; "
        "impersonate users kubernetes-admin"
    )
    assert wording([]) == ""


class Reviewer(FakeClient):
    """Allows everything but Deployments."""

    async def create(self, resource, document, namespace="", **more):
        resource = document["spec"]["resourceAttributes"]["resource"]
        return {"status": {"allowed": resource != "deployments"}}


async def test_the_cluster_is_asked_for_every_right() -> None:
    refused = await missing(Reviewer(), EVERYTHING)
    assert {asked["resource"] for asked in refused} == {"deployments"}
    assert len(refused) == 6


# --------------------------------------------------------------------------------------------------------------- remarks
NOW = "2026-11-29T00:00:00Z"
BEFORE = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
READY = Condition(type="Ready", status="True", reason="ClusterReady", message="m", last_transition_time=BEFORE)  # fmt: skip


def test_conditions_of_others_stay_and_a_time_moves_only_with_the_status() -> None:
    held = [READY, Condition(type="GrantsEnforced", status="False", reason="Old", message="old", last_transition_time=BEFORE)]  # fmt: skip
    fresh = plan(held, (GRANTS, SERVICES), NOW)
    assert fresh is not None
    assert [c["type"] for c in fresh] == ["Ready", "GrantsEnforced", "ServicesOverClusters"]
    assert [c["lastTransitionTime"][:10] for c in fresh] == ["2026-11-28", "2026-11-28", "2026-11-29"]  # fmt: skip
    said = [Condition(type=c["type"], status=c["status"], reason=c["reason"], message=c["message"]) for c in fresh]  # fmt: skip
    assert plan(said, (GRANTS, SERVICES), NOW) is None


def test_a_remark_that_is_not_made_any_more_goes() -> None:
    gone = plan([Condition(type="MemberAPI", status="False", reason="NotReached", message="m")], (), NOW)  # fmt: skip
    assert gone == []


@pytest.mark.looptime
async def test_remarks_are_made_as_soon_as_there_is_a_cluster_and_kept() -> None:
    client = FakeClient()
    wanted = [Remark("MemberAPI", True, "Answers", "m")]
    task = asyncio.get_running_loop().create_task(
        Remarks(client, LoopClock(), "edge", lambda: wanted).run_forever()
    )
    await asyncio.sleep(5)
    document = {"apiVersion": CLUSTERS.api_version, "kind": "Cluster", "metadata": {"name": "edge"}}
    await client.create(CLUSTERS, document)
    await asyncio.sleep(3)
    key = ObjectKey("", "edge")
    held = (await client.get(CLUSTERS, key)).status.conditions
    assert [(c.type, c.status) for c in held] == [("MemberAPI", "True")]
    wanted[0] = Remark("MemberAPI", False, "NotReached", "m")
    await asyncio.sleep(16)
    held = (await client.get(CLUSTERS, key)).status.conditions
    assert [(c.type, c.status) for c in held] == [("MemberAPI", "False")]
    task.cancel()


# ------------------------------------------------------------------------------------------------------- what is switched
PLACE = Place("edge", "acme", "r", ("z",), "https://x", "0.1.0", "v1.33.0", (), grants_enforced=False)  # fmt: skip


def test_the_cluster_is_never_there_without_the_word_on_grants() -> None:
    assert cluster_document(PLACE, "id")["metadata"]["annotations"][GRANTS_ENFORCED] == "false"
    own = Place("a", "", "", (), "", "0.1.0", "", ())
    assert GRANTS_ENFORCED not in cluster_document(own, "id")["metadata"]["annotations"]
    assert annotations(own)[GRANTS_ENFORCED] is None, "taken away from a cluster that became ours"


def test_a_work_on_grants_is_refused_with_what_to_do() -> None:
    assert needs_grants({"metadata": {"labels": {}}}) == ""
    assert "keep the workload away" in needs_grants({"metadata": {"labels": {"ubernetes.io/fenced": "true"}}})  # fmt: skip


@pytest.mark.looptime
async def test_no_heartbeat_while_the_member_must_not_be_said_to_be_there() -> None:
    client, heard = FakeClient(), []
    fault: list[Exception] = []

    async def alive() -> None:
        for error in fault:
            raise error

    heartbeat = Heartbeat(client, LoopClock(), "edge", heard.append, alive=alive)
    task = asyncio.get_running_loop().create_task(heartbeat.run_forever())
    await asyncio.sleep(5)
    before = len(heard)
    assert before == 3
    fault.append(ConnectionError("silent"))
    await asyncio.sleep(20)
    assert len(heard) == before
    fault.clear()
    await asyncio.sleep(3)
    assert len(heard) > before
    task.cancel()


# ------------------------------------------------------------------------------------------------------------ kubeconfig
def kubeconfig(tmp_path, user: str = "token: t", cluster: str = "") -> str:
    path = tmp_path / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        f"clusters: [{{name: c, cluster: {{server: 'https://x'{cluster}}}}}]\n"
        f"users: [{{name: u, user: {{{user}}}}}]\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ("exec: {command: aws}", "", "apply the output of `cluster-agent link --print-rbac`"),
        ("auth-provider: {name: gcp}", "", "the token of its ServiceAccount"),
        ("token: t, as: root", "", 'user "u" uses as, which is not supported here'),
        ("token: t", ", proxy-url: 'http://p'", 'cluster "c" uses proxy-url'),
        ("token: t", ", insecure-skip-tls-verify: true", "insecure-skip-tls-verify is refused"),
    ],
)
def test_a_kubeconfig_that_cannot_or_must_not_be_used_is_refused(tmp_path, user, cluster, said) -> None:  # fmt: skip
    with pytest.raises(KubeconfigError, match=said.replace("(", r"\(")):
        foreign_access(kubeconfig(tmp_path, user, cluster))


def test_a_plain_one_is_taken(tmp_path) -> None:
    assert foreign_access(kubeconfig(tmp_path)).token == "t"


# ------------------------------------------------------------------------------------------------------------ the command
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("link", "link needs --kubeconfig, --cluster, --federation, --data-dir, --zone"),
        ("link {all} --cluster Edge", "'Edge' is no name for a cluster"),
        ("link {all} --kubeconfig none", "no kubeconfig at none"),
        ("link {all}", "--ca-file or --ca-data must be given"),
        ("link {all} --token-file none", "No such file"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, words: str, said: str) -> None:
    every = (
        f"--kubeconfig {kubeconfig(tmp_path)} --cluster edge --federation https://f "
        f"--zone z --data-dir {tmp_path}/edge"
    )
    assert main(words.format(all=every).split()) != 0
    assert said in capsys.readouterr().err
