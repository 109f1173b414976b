"""What a write would take away in members, and when it is refused."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from federation.placement.model import Candidate
from federation.propagation.admission.radius import CONFIRM, BlastRadius, dropped, held, selects
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.resilience import FEDERATION_CONFIGS, FederationConfig
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import LOOPBACK, UserInfo

SCHEME = Scheme((*BUILTIN, *FLEET))
PERSON = UserInfo("anna")


def names(count: int, first: int = 0) -> list[str]:
    return [f"c{i:02}" for i in range(first, first + count)]


def binding(
    name: str = "web",
    kind: str = "Deployment",
    clusters: list[str] | None = None,
    *,
    namespace: str = "demo",
    marks: dict[str, str] | None = None,
    **spec: Any,
) -> ResourceBinding:
    document = {
        "metadata": {"name": f"{name}-{kind.lower()}", "namespace": namespace, "annotations": marks or {}},
        "spec": {
            "resource": {"kind": kind, "name": name, "namespace": namespace},
            "clusters": [{"name": c, "replicas": 1} for c in clusters or ()],
        }
        | spec,
    }  # fmt: skip
    return msgspec.convert(document, ResourceBinding)


class There:
    """What the server holds."""

    def __init__(self, *bindings: ResourceBinding, limit: int | None = None, fleet: int = 0) -> None:  # fmt: skip
        self.bindings = bindings
        spec = {} if limit is None else {"deletionGuard": {"maxClusters": limit}}
        config = {"metadata": {"name": "default"}, "spec": spec}
        self.config = msgspec.convert(config, FederationConfig)
        self.fleet = [
            msgspec.convert(
                {"metadata": {"name": name, "labels": {"tier": "odd" if i % 2 else "even"}}, "spec": {"region": f"r{i % 4}"}},
                Cluster,
            )
            for i, name in enumerate(names(fleet))
        ]  # fmt: skip

    def get(self, resource: Resource[Any], key: ObjectKey) -> Any:
        if resource is FEDERATION_CONFIGS:
            return self.config
        if resource is RESOURCE_BINDINGS:
            return next((b for b in self.bindings if b.key == key), None)
        return None

    def list(self, resource: Resource[Any], namespace: str = "") -> Iterator[Any]:
        if resource is CLUSTERS:
            yield from self.fleet
        if resource is RESOURCE_BINDINGS:
            yield from (b for b in self.bindings if namespace in ("", b.metadata.namespace))


def request(  # noqa: PLR0913
    kind: tuple[str, str, str],
    name: str = "web",
    *,
    verb: str = "delete",
    namespace: str = "demo",
    confirm: str = "",
    user: UserInfo = PERSON,
    old: Document | None = None,
    new: Document | None = None,
    going: bool = False,
) -> AdmissionRequest:
    served = SCHEME.by_gvk(*kind)
    assert served is not None
    metadata: Document = {"name": name}
    if confirm:
        metadata["annotations"] = {CONFIRM: confirm}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    live = {"metadata": metadata} | (old or {})
    document = live if new is None else {"metadata": metadata} | new
    return AdmissionRequest(verb, served, namespace, name, "", document, live, Call(user))


DEPLOYMENT = ("apps", "v1", "Deployment")
NAMESPACE = ("", "v1", "Namespace")
BINDING = ("work.karmada.io", "v1alpha2", "ResourceBinding")
SERVICE = ("", "v1", "Service")
CONFIGMAP = ("", "v1", "ConfigMap")
POLICY = ("policy.karmada.io", "v1alpha1", "PropagationPolicy")
CLUSTER_POLICY = ("policy.karmada.io", "v1alpha1", "ClusterPropagationPolicy")
WIDE = binding(clusters=names(21))
SMALL = binding(clusters=names(20))
FOLLOWING = binding(
    "settings", "ConfigMap", requiredBy=[{"clusters": [{"name": c} for c in names(21)]}]
)
PRESERVED = binding(clusters=names(21), preserveResourcesOnDeletion=True)
MOVING = binding(
    clusters=names(20),
    gracefulEvictionTasks=[{"fromCluster": "old", "reason": "TaintUntolerated", "producer": "evictor", "replicas": 1}],
)  # fmt: skip
ALL_OVER = [binding(f"w{i}", clusters=names(7, i * 7)) for i in range(3)]


def verdict(asked: AdmissionRequest, there: There) -> str:
    try:
        BlastRadius(lambda: there).validate(asked)
    except Forbidden as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("asked", "there", "refused"),
    [
        (request(DEPLOYMENT), There(WIDE), True),
        (request(DEPLOYMENT), There(SMALL), False),
        (request(DEPLOYMENT), There(), False),
        (request(DEPLOYMENT, "other"), There(WIDE), False),
        (request(DEPLOYMENT, namespace="shop"), There(WIDE), False),
        (request(DEPLOYMENT), There(MOVING), True),
        (request(DEPLOYMENT), There(PRESERVED), False),
        (request(DEPLOYMENT), There(WIDE, limit=0), False),
        (request(DEPLOYMENT), There(WIDE, limit=21), False),
        (request(DEPLOYMENT), There(binding(clusters=names(2)), limit=1), True),
        (request(DEPLOYMENT), There(binding(clusters=names(1)), limit=1), False),
        (request(DEPLOYMENT, confirm="21"), There(WIDE), False),
        (request(DEPLOYMENT, confirm="500"), There(WIDE), False),
        (request(DEPLOYMENT, confirm="20"), There(WIDE), True),
        (request(DEPLOYMENT, confirm="yes"), There(WIDE), True),
        (request(DEPLOYMENT, confirm="-1"), There(WIDE), True),
        (request(DEPLOYMENT, user=LOOPBACK), There(WIDE), False),
        (request(DEPLOYMENT, going=True), There(WIDE), False),
        (request(CONFIGMAP, "settings"), There(FOLLOWING), True),
        (request(SERVICE), There(WIDE), True),
        (request(SERVICE), There(*ALL_OVER), True),
        (request(SERVICE), There(SMALL), False),
        (request(NAMESPACE, "demo", namespace=""), There(*ALL_OVER), True),
        (request(NAMESPACE, "demo", namespace="", confirm="21"), There(*ALL_OVER), False),
        (request(NAMESPACE, "shop", namespace=""), There(*ALL_OVER), False),
        (request(NAMESPACE, "demo", namespace=""), There(PRESERVED), False),
        (request(BINDING, "web-deployment"), There(WIDE), True),
        (request(BINDING, "other-deployment"), There(WIDE), False),
        (request(POLICY, "p"), There(WIDE), False),
        (request(DEPLOYMENT, verb="update"), There(WIDE), False),
    ],
    ids=[
        "more than the limit",
        "just the limit",
        "nowhere",
        "another one",
        "another namespace",
        "what is kept while it moves counts",
        "preserved",
        "the guard is off",
        "a wider limit",
        "a narrow limit",
        "one cluster",
        "confirmed",
        "confirmed for more",
        "confirmed for less: it grew since",
        "a word that is no number",
        "a number that is none",
        "our own controllers",
        "deleted already",
        "a dependency, by who needs it",
        "a Service, by its namespace",
        "a Service, by all of its namespace",
        "a Service in few clusters",
        "a namespace, by all that is in it",
        "a namespace, confirmed",
        "an empty namespace",
        "a namespace whose objects are preserved",
        "a binding by hand",
        "no binding",
        "a policy takes nothing away",
        "an update of a template",
    ],
)
def test_deletes(asked: AdmissionRequest, there: There, refused: bool) -> None:
    assert bool(verdict(asked, there)) is refused


def test_the_refusal_says_how_many_which_and_what_to_do() -> None:
    assert verdict(request(DEPLOYMENT), There(WIDE)) == (
        'deployments.apps "web" is forbidden: it takes something away in 21 clusters '
        "(c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 11 more), more than the 20 of FederationConfig "
        "spec.deletionGuard.maxClusters; if this is meant, confirm it and try again: "
        "kubectl annotate deployments.apps web -n demo --overwrite ubernetes.io/confirm-delete=21"
    )
    said = verdict(request(NAMESPACE, "demo", namespace=""), There(*ALL_OVER))
    assert said.endswith(
        "kubectl annotate namespaces demo --overwrite ubernetes.io/confirm-delete=21"
    )


def test_before_the_server_runs_nothing_is_judged() -> None:
    BlastRadius(lambda: None).validate(request(DEPLOYMENT))


# --------------------------------------------------------------------------------------------------------- narrowing
def affinity(**fields: Any) -> Document:
    return {"clusterAffinity": fields}


def spec(placement: Document, **more: Any) -> Document:
    return {"spec": {"resourceSelectors": [], "placement": placement} | more}


OF_P = {"propagationpolicy.karmada.io/name": "p", "propagationpolicy.karmada.io/namespace": "demo"}
CLAIMED = binding(clusters=names(40), marks=OF_P)
WIDER = binding(clusters=names(50), marks=OF_P)
EVERYWHERE = spec({})


@pytest.mark.parametrize(
    ("after", "there", "refused"),
    [
        (spec(affinity(clusterNames=names(10))), There(CLAIMED, fleet=40), True),
        (spec(affinity(clusterNames=names(20))), There(CLAIMED, fleet=40), False),
        (spec(affinity(exclude=names(21))), There(CLAIMED, fleet=40), True),
        (spec(affinity(labelSelector={"matchLabels": {"tier": "odd"}})), There(WIDER, fleet=50), True),
        (spec(affinity(labelSelector={"matchLabels": {"tier": "odd"}})), There(CLAIMED, fleet=40), False),
        (
            spec(affinity(fieldSelector={"matchExpressions": [{"key": "region", "operator": "In", "values": ["r0"]}]})),
            There(CLAIMED, fleet=40),
            True,
        ),
        (spec({"clusterAffinities": [{"affinityName": "a", "clusterNames": names(10)}]}), There(CLAIMED, fleet=40), True),
        (
            spec({"clusterAffinities": [{"affinityName": "a", "clusterNames": names(10), "overflowAffinities": [{}]}]}),
            There(CLAIMED, fleet=40),
            False,
        ),
        (spec(affinity(clusterNames=names(10))), There(binding(clusters=names(15), marks=OF_P), fleet=40), False),
        (spec(affinity(clusterNames=names(10))), There(binding(clusters=names(40)), fleet=40), False),
        (spec(affinity(clusterNames=names(10)), preserveResourcesOnDeletion=True), There(CLAIMED, fleet=40), False),
        (spec({}, priority=5), There(CLAIMED, fleet=40), False),
    ],
    ids=[
        "thirty lose it",
        "twenty lose it",
        "excluded by name",
        "by label, twenty-five of fifty, twenty of them used",
        "by label, twenty of forty",
        "by region",
        "by groups",
        "by groups with a tier for all",
        "few of them hold anything",
        "another policy's workload",
        "what is there is preserved",
        "nothing about clusters",
    ],
)  # fmt: skip
def test_policies_that_narrow(after: Document, there: There, refused: bool) -> None:
    asked = request(POLICY, "p", verb="update", old=EVERYWHERE, new=after)
    assert bool(verdict(asked, there)) is refused


def test_a_confirmed_narrowing_is_accepted() -> None:
    after = spec(affinity(clusterNames=names(10)))
    asked = request(POLICY, "p", verb="update", old=EVERYWHERE, new=after, confirm="30")
    assert verdict(asked, There(CLAIMED, fleet=40)) == ""


def test_a_cluster_policy_is_judged_over_all_namespaces() -> None:
    marks = {"clusterpropagationpolicy.karmada.io/name": "p"}
    bindings = [binding(f"w{i}", namespace=f"n{i}", clusters=names(10, i * 10), marks=marks) for i in range(4)]  # fmt: skip
    asked = request(
        CLUSTER_POLICY, "p", verb="update", namespace="", old=EVERYWHERE,
        new=spec(affinity(clusterNames=names(10))),
    )  # fmt: skip
    assert "in 30 clusters" in verdict(asked, There(*bindings, fleet=40))


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [("", "true", True), ("false", "true", True), ("true", "true", False), ("true", "", False), ("", "false", False)],
)  # fmt: skip
def test_a_namespace_that_comes_home(before: str, after: str, refused: bool) -> None:
    label = "namespace.karmada.io/skip-auto-propagation"
    old, new = (
        {"metadata": {"name": "demo", "labels": {label: value} if value else {}}}
        for value in (before, after)
    )
    asked = request(NAMESPACE, "demo", namespace="", verb="update", old=old, new=new)
    assert bool(verdict(asked, There(*ALL_OVER))) is refused


def test_what_is_dropped() -> None:
    fleet = [Candidate(name, region="r1" if i < 2 else "r2") for i, name in enumerate(names(4))]
    one = msgspec.convert(affinity(clusterNames=["c00", "c03"]), Placement)
    assert dropped(Placement(), one, fleet) == {"c01", "c02"}
    assert dropped(one, Placement(), fleet) == set()
    assert selects(Placement(), fleet[0])


def test_what_is_held() -> None:
    assert held([WIDE, PRESERVED]) == set(names(21))
    assert held([PRESERVED]) == set()
    assert held([MOVING]) == {*names(20), "old"}
