"""Metrics of all members in one list: names, whom to ask, who is missing, and answers that nobody can read."""

from typing import Any

import pytest

from federation.clusters import metrics
from federation.clusters.metrics import NODE_METRICS, POD_METRICS, Fleet, FleetMetrics
from machinery.api.metrics_kinds import POD_METRICS as KIND
from machinery.client.interface import Listing, ListOptions
from machinery.meta.errors import NotFound, ServiceUnavailable
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.computed import Computed
from machinery.server.listing import selection_of


def pod(name: str, cpu: str = "1", **labels: str) -> Document:
    return {
        "metadata": {"name": name, "namespace": "demo", "labels": labels},
        "timestamp": "2026-01-01T00:00:00Z",
        "window": "15s",
        "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "1Mi"}}],
    }


class Member:
    """One member's API: an answer, or an error."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked, self.closed = answer, "", False

    async def list(
        self, resource: Resource[Any], namespace: str, options: ListOptions
    ) -> Listing[Document]:
        self.asked = f"{resource.plural} {namespace} {options.label_selector}"
        if isinstance(self.answer, Exception):
            raise self.answer
        return Listing(self.answer, "")

    async def get(self, resource: Resource[Any], key: ObjectKey) -> Document:
        self.asked = f"{resource.plural} {key.namespace}/{key.name}"
        if isinstance(self.answer, Exception):
            raise self.answer
        found: Document = self.answer[0]
        return found

    async def close(self) -> None:
        self.closed = True


class Links:
    def __init__(self, **members: Member) -> None:
        self.members, self.connected = members, tuple(members)

    def client(self, cluster: str) -> Member:
        return self.members[cluster]


MIRROR = {
    "metadata": {
        "labels": {"ubernetes.io/cluster": "alpha"},
        "annotations": {"ubernetes.io/source-name": "a"},
    }
}


def source(mirrors: dict[str, Document] | None = None, **members: Member) -> FleetMetrics:
    """Of these members, and of one more that is away."""
    links: Any = Links(**members)
    known = mirrors or {}
    fleet = Fleet(
        links, lambda: [*members, "away"], lambda path, key: known.get(f"{path} {key.name}")
    )
    return FleetMetrics(fleet, POD_METRICS)


async def listed(made: FleetMetrics, labels: str = "") -> Computed:
    return await made.list(selection_of(KIND, "demo", labels, ""))


def names(found: Computed) -> list[str]:
    return sorted(item["metadata"]["name"] for item in found.items)


async def test_all_members_in_one_list() -> None:
    alpha, beta = Member([pod("a", app="web")]), Member([pod("a"), pod("b")])
    found = await listed(source(alpha=alpha, beta=beta))
    assert names(found) == ["a.alpha", "a.beta", "b.beta"]
    first = next(i for i in found.items if i["metadata"]["name"] == "a.alpha")
    assert first["metadata"]["labels"] == {"app": "web", "ubernetes.io/cluster": "alpha"}
    assert (first["kind"], first["apiVersion"]) == ("PodMetrics", "metrics.k8s.io/v1beta1")
    assert alpha.closed
    assert beta.closed


async def test_who_gives_nothing_is_told() -> None:
    alpha = Member([pod("a")])
    gone, cut = Member(NotFound("no such resource")), Member(ConnectionError("the link is cut"))
    found = await listed(source(alpha=alpha, beta=gone, gamma=cut))
    assert names(found) == ["a.alpha"]
    assert found.warnings == (
        "metrics are missing: away (it is not connected), beta (it serves no metrics.k8s.io), "
        "gamma (the link is cut)",
    )


async def test_when_all_answer_nothing_is_told() -> None:
    found = await listed(source(alpha=Member([])), "ubernetes.io/cluster=alpha")
    assert found == Computed([], ())


@pytest.mark.parametrize(
    ("labels", "alpha", "beta"),
    [
        pytest.param("app=web", "pods demo app=web", "pods demo app=web", id="members select"),
        pytest.param("ubernetes.io/cluster=beta", "", "pods demo ", id="one cluster"),
        pytest.param(
            "app in (a,b),ubernetes.io/cluster!=beta", "pods demo app in (a,b)", "", id="both"
        ),
        pytest.param("ubernetes.io/cluster=zeta", "", "", id="an unknown cluster"),
    ],
)
async def test_whom_is_asked_what(labels: str, alpha: str, beta: str) -> None:
    one, two = Member([]), Member([])
    _ = await listed(source(alpha=one, beta=two), labels)
    assert (one.asked, two.asked) == (alpha, beta)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({}, id="nothing"),
        pytest.param("text", id="no object"),
        pytest.param(pod("x") | {"metadata": {"name": 7}}, id="a name that is none"),
        pytest.param(pod("x") | {"timestamp": None}, id="no time"),
        pytest.param(pod("x", cpu="much"), id="no quantity"),
        pytest.param(pod("x") | {"containers": [{"name": "c"}]}, id="no usage"),
    ],
)
async def test_what_cannot_be_read_is_left_out_and_told(bad: Any) -> None:
    found = await listed(source(alpha=Member([bad, pod("a")])), "ubernetes.io/cluster=alpha")
    assert names(found) == ["a.alpha"]
    assert found.warnings == (f"metrics are missing: alpha ({metrics.ILLEGIBLE})",)


# -------------------------------------------------------------------------------------------------------------------- one
async def test_one_is_asked_of_its_own_member() -> None:
    alpha = Member([pod("a")])
    found = await source({"core/pods a.alpha": MIRROR}, alpha=alpha).get("demo", "a.alpha")
    assert found is not None
    assert found["metadata"]["name"] == "a.alpha"
    assert alpha.asked == "pods demo/a"


async def test_what_has_no_mirror_has_no_metrics() -> None:
    assert await source(alpha=Member([pod("a")])).get("demo", "a.alpha") is None
    own = {"core/pods a.alpha": {"metadata": {}}}
    assert await source(own, alpha=Member([pod("a")])).get("demo", "a.alpha") is None


async def test_one_without_metrics() -> None:
    made = source({"core/pods a.alpha": MIRROR}, alpha=Member(NotFound("no")))
    assert await made.get("demo", "a.alpha") is None


@pytest.mark.parametrize(
    ("members", "why"),
    [
        pytest.param({}, 'cluster "alpha" is not connected', id="away"),
        pytest.param({"alpha": Member(ConnectionError("cut"))}, "cut", id="cut"),
        pytest.param({"alpha": Member([{}])}, metrics.ILLEGIBLE, id="illegible"),
    ],
)
async def test_one_of_a_member_that_gives_nothing(members: dict[str, Member], why: str) -> None:
    made = source({"core/pods a.alpha": MIRROR}, **members)
    with pytest.raises(ServiceUnavailable, match=why):
        await made.get("demo", "a.alpha")


def test_nodes_and_pods_are_served() -> None:
    links: Any = Links()
    found = metrics.sources(Fleet(links, list, lambda path, key: None))
    assert set(found) == {("metrics.k8s.io", "nodes"), ("metrics.k8s.io", "pods")}
    assert NODE_METRICS.kind == "NodeMetrics"
