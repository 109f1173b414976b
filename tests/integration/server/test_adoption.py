"""What the link does with objects that others made or change, on a member's real API server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.link.member import DriftState, Member, Outcome
from federation.propagation.works import work
from machinery.client.informer import Informer
from machinery.client.interface import DeleteOptions, PatchType, dynamic
from machinery.kit.clock import FakeClock
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
WEB = ObjectKey("default", "web")
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
CONFIGMAPS = dynamic("", "v1", "configmaps", "ConfigMap", True)
RESOURCES = {("apps/v1", "Deployment"): DEPLOYMENTS, ("v1", "ConfigMap"): CONFIGMAPS}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


def template(replicas: int = 2, image: str = "whoami:1", **annotations: str) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "uid": "u", "generation": 1}
        | ({"annotations": {k.replace("__", "/"): v for k, v in annotations.items()}} if annotations else {}),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "web", "image": image, "resources": {"limits": {"cpu": "1000m"}}}
                    ]
                },
            },
        },
    }  # fmt: skip


class Hands:
    """The link's hands, begun anew as after a restart of the agent."""

    def __init__(self, server: RunningServer) -> None:
        self.server, self.clock = server, FakeClock()
        self.begin()

    def begin(self) -> None:
        def unsynced(resource: Any) -> Informer[Document]:
            return Informer(self.server.local, resource, self.clock)

        self.member = Member(
            self.server.local, lambda *kind: RESOURCES.get(kind), self._copy(unsynced), self.clock
        )

    def _copy(self, make: Callable[[Any], Informer[Document]]) -> Callable[[Any], Informer[Document]]:  # fmt: skip
        copies: dict[Any, Informer[Document]] = {}

        def copy(resource: Any) -> Informer[Document]:
            if resource not in copies:
                copies[resource] = make(resource)
                self.member._uncopied.add(resource)  # noqa: SLF001 - each object is asked for: no informer runs here
            return copies[resource]

        return copy

    async def bring(self, body: Document, policy: str = "Abort", **more: Any) -> Outcome:
        made = work(body, "alpha", conflict_resolution=policy, **more)
        (manifest,) = made["spec"]["workload"]["manifests"]
        return await self.member.apply(made, 0, manifest)

    async def live(self) -> Document:
        return await self.server.local.get(DEPLOYMENTS, WEB)

    async def somebody(self, patch: Document) -> None:
        await self.server.rest.patch(DEPLOYMENTS, WEB, patch, PatchType.STRATEGIC)


@pytest.fixture
def hands(server: RunningServer) -> Hands:
    return Hands(server)


# ---------------------------------------------------------------------------------------------------------- adoption
EXISTS = "resource(kind=Deployment, default/web) already exists in the cluster alpha and "
ABORTED = (
    EXISTS
    + "the work.karmada.io/conflict-resolution strategy value is empty, Karmada will not manage this resource"
)


@pytest.mark.parametrize(
    ("there", "policy", "said", "error", "replicas"),
    [
        (template(9), "Abort", "", ABORTED, 9),
        (template(2), "Abort", "", ABORTED, 2),
        (template(9), "Overwrite", "", "", 2),
        (template(9), "Abort", "overwrite", "", 2),
        (template(9), "Overwrite", "abort", ABORTED, 9),
        (template(2), "Abort", "ifnodiff", "", 2),
        (template(2), "Overwrite", "IfNoDiff", "", 2),
        (
            template(9),
            "Overwrite",
            "ifnodiff",
            EXISTS
            + "IfNoDiff does not take it over: Deployment default/web: spec.replicas is 9, wanted 2",
            9,
        ),
        (template(2, team="a"), "Abort", "ifnodiff", "", 2),
        (template(9), "Abort", "nonsense", ABORTED, 9),
    ],
    ids=[
        "abort",
        "abort, though it is the same",
        "overwrite",
        "overwrite by the template",
        "abort by the template",
        "the same",
        "the same, whatever the policy",
        "it differs",
        "it has more of its own",
        "a word that is none",
    ],
)
async def test_an_object_that_is_there_already(
    hands: Hands, there: Document, policy: str, said: str, error: str, replicas: int
) -> None:
    await hands.server.rest.create(DEPLOYMENTS, there, "default")
    before = await hands.live()
    body = template(2, **({"work.karmada.io__conflict-resolution": said} if said else {}))
    outcome = await hands.bring(body, policy)
    live = await hands.live()
    assert outcome.error == error
    assert live["spec"]["replicas"] == replicas
    managed = (live["metadata"].get("labels") or {}).get("karmada.io/managed")
    assert managed == (None if error else "true")
    if error:
        assert live == before, "left as it was"


async def test_a_quantity_written_another_way_is_no_difference(hands: Hands) -> None:
    there = template(2)
    limits = there["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    limits["cpu"] = "1"
    await hands.server.rest.create(DEPLOYMENTS, there, "default")
    body = template(2, **{"work.karmada.io__conflict-resolution": "ifnodiff"})
    assert (await hands.bring(body)).error == ""


# ------------------------------------------------------------------------------------------------------------- drift
SCALED: Document = {"spec": {"replicas": 7}}
RELABELLED: Document = {"metadata": {"labels": {"app": "changed", "extra": "1"}, "annotations": {"mine": "x"}}}  # fmt: skip
HACKED: Document = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "hacked"}]}}}}  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "after a restart"])
@pytest.mark.parametrize(
    ("change", "path"),
    [
        (SCALED, "spec.replicas is 7, wanted 2"),
        (RELABELLED, 'metadata.labels["app"] is "changed", wanted "web"'),
        (HACKED, 'spec.template.spec.containers[0].image is "hacked", wanted "whoami:1"'),
        ({"metadata": {"annotations": {"mine": "x"}}}, ""),
        ({"spec": {"paused": True}}, ""),
    ],
    ids=["replicas", "labels", "image", "an annotation of its own", "a field that is left open"],
)
async def test_somebody_elses_change(
    hands: Hands, change: Document, path: str, restarted: bool
) -> None:
    await hands.bring(template())
    assert (await hands.bring(template())).drift is None
    await hands.somebody(change)
    if restarted:
        hands.begin()
    outcome = await hands.bring(template())
    live = await hands.live()
    assert live["spec"]["replicas"] == 2
    assert live["metadata"]["labels"]["app"] == "web"
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "whoami:1"
    if change is RELABELLED:
        assert live["metadata"]["labels"]["extra"] == "1", "what is nobody's wish stays"
    if not path:
        assert outcome.drift is None
        return
    assert outcome.drift is not None
    assert outcome.drift.state is DriftState.REPAIRED
    assert path in outcome.drift.message
    assert "written by" in outcome.drift.message
    assert (await hands.bring(template())).drift is None


async def test_a_new_wish_is_no_drift(hands: Hands) -> None:
    await hands.bring(template())
    outcome = await hands.bring(template(5, "whoami:2"))
    assert outcome.drift is None
    assert (await hands.live())["spec"]["replicas"] == 5


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "after a restart"])
async def test_drift_may_only_be_reported(hands: Hands, restarted: bool) -> None:
    report = {"ubernetes.io__drift": "Report"}
    await hands.bring(template(**report))
    await hands.somebody(SCALED)
    if restarted:
        hands.begin()
    for _ in range(3):
        outcome = await hands.bring(template(**report))
        assert outcome.drift is not None
        assert outcome.drift.state is DriftState.REPORTED
    assert (await hands.live())["spec"]["replicas"] == 7
    assert (await hands.bring(template(3, **report))).drift is None, "a new wish is applied"
    assert (await hands.live())["spec"]["replicas"] == 3


async def test_who_undoes_every_repair_is_not_fought(hands: Hands) -> None:
    await hands.bring(template())
    for _ in range(5):
        await hands.somebody(SCALED)
        outcome = await hands.bring(template())
        assert outcome.drift is not None and outcome.drift.state is DriftState.REPAIRED
    await hands.somebody(SCALED)
    outcome = await hands.bring(template())
    assert outcome.drift is not None and outcome.drift.state is DriftState.PAUSED
    assert outcome.again_s == 60.0
    assert (await hands.live())["spec"]["replicas"] == 7
    hands.clock.advance(30)
    assert (await hands.bring(template())).again_s == 30.0
    hands.clock.advance(31)
    outcome = await hands.bring(template())
    assert outcome.drift is not None and outcome.drift.state is DriftState.REPAIRED
    assert (await hands.live())["spec"]["replicas"] == 2
    await hands.somebody(SCALED)
    assert (await hands.bring(template())).again_s == 120.0
    assert (await hands.bring(template(4))).drift is None, "a new wish is not held up"
    assert (await hands.live())["spec"]["replicas"] == 4


async def test_what_somebody_deletes_is_made_again(hands: Hands) -> None:
    first = await hands.bring(template())
    assert first.drift is None
    await hands.server.rest.delete(DEPLOYMENTS, WEB, DeleteOptions(propagation_policy="Background"))
    outcome = await hands.bring(template())
    assert outcome.drift is not None
    assert outcome.drift.message == "Deployment default/web: was deleted"
    assert (await hands.live())["spec"]["replicas"] == 2


async def test_marks_that_are_taken_off_come_back(hands: Hands) -> None:
    await hands.bring(template())
    await hands.somebody({"metadata": {"labels": {"karmada.io/managed": None}}})
    outcome = await hands.bring(template())
    assert outcome.error == ""
    assert (await hands.live())["metadata"]["labels"]["karmada.io/managed"] == "true"


# ---------------------------------------------------------------------------------------------------------- preserve
async def test_what_is_preserved_is_the_members_own(hands: Hands) -> None:
    made = work(template(note="kept"), "alpha", preserve=True)
    (manifest,) = made["spec"]["workload"]["manifests"]
    await hands.member.apply(made, 0, manifest)
    key = ObjectKey(made["metadata"]["namespace"], made["metadata"]["name"])
    await hands.member.release(ObjectKey(key.namespace, "another"), manifest)
    assert (await hands.live())["metadata"]["labels"]["karmada.io/managed"] == "true", "not its own"
    await hands.member.release(key, manifest)
    live = await hands.live()
    assert live["metadata"]["labels"] == {"app": "web"}
    assert live["metadata"]["annotations"] == {"note": "kept"}
    assert live["spec"]["replicas"] == 2
    assert (await hands.bring(template())).error == ABORTED, "and asks before it is taken back"


async def test_what_is_gone_needs_no_release(hands: Hands) -> None:
    made = work(template(), "alpha", preserve=True)
    (manifest,) = made["spec"]["workload"]["manifests"]
    await hands.member.release(ObjectKey("karmada-es-alpha", "x"), manifest)
    with pytest.raises(NotFound):
        await hands.live()
