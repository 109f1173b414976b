"""Kinds that the federation serves as templates: made there, brought by the link's own hands to a server that runs them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.link.member import Member, Outcome
from federation.propagation import interpreter
from federation.propagation.templates import (
    AUTOSCALERS,
    BUDGETS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    INGRESSES,
    JOBS,
    LIMIT_RANGES,
    NETWORK_POLICIES,
    STATEFULSETS,
    TEMPLATES,
    VOLUME_CLAIMS,
)
from federation.propagation.works import work
from machinery.api.fleet.reflection import RETAIN_REPLICAS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.template_strategy import TEMPLATE_GENERATION
from machinery.client.informer import Informer
from machinery.kit.clock import SystemClock
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey, Resource

pytestmark = pytest.mark.integration
KEY = ObjectKey("default", "x")
POD = {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}
LABELLED = {"metadata": {"labels": {"app": "x"}}, "spec": POD}
ONCE = {"spec": POD | {"restartPolicy": "Never"}}
SELECTOR = {"matchLabels": {"app": "x"}}
STORAGE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
SPECS: dict[Resource[Document], Any] = {
    STATEFULSETS: {
        "replicas": 3, "serviceName": "x", "selector": SELECTOR, "template": LABELLED,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": STORAGE}],
    },
    DAEMONSETS: {"selector": SELECTOR, "template": LABELLED},
    JOBS: {"parallelism": 2, "completions": 4, "template": ONCE},
    CRONJOBS: {"schedule": "@hourly", "jobTemplate": {"spec": {"template": ONCE}}},
    VOLUME_CLAIMS: STORAGE,
    LIMIT_RANGES: {"limits": [{"type": "Container", "max": {"cpu": "1"}}]},
    AUTOSCALERS: {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 3,
    },
    INGRESSES: {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
    NETWORK_POLICIES: {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]},
    BUDGETS: {"maxUnavailable": "50%", "selector": SELECTOR},
}  # fmt: skip


@pytest.fixture
async def home() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as running:
        yield running


@pytest.fixture
async def foreign() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as running:
        yield running


class Hands:
    """The link's, in the foreign cluster."""

    def __init__(self, server: RunningServer) -> None:
        self._copies: dict[Resource[Document], Informer[Document]] = {}
        self._server = server
        served = {(r.api_version, r.kind): r for r in TEMPLATES}
        self.member = Member(
            server.local, lambda *kind: served.get(kind), self._copy, SystemClock()
        )

    def _copy(self, resource: Resource[Document]) -> Informer[Document]:
        if resource not in self._copies:
            self._copies[resource] = Informer(self._server.local, resource, SystemClock())
        return self._copies[resource]

    async def bring(self, template: Document, **revised: int) -> Outcome:
        """What a Work for this cluster carries is applied."""
        body = interpreter.portable(template)
        body = interpreter.revised(body, **revised) if revised else body
        document = work(template, "alpha", body=body)
        (manifest,) = document["spec"]["workload"]["manifests"]
        resource = next(r for r in TEMPLATES if r.kind == template["kind"])
        await self._copy(resource).list_once()
        return await self.member.apply(document, 0, manifest)


def thing(resource: Resource[Document], spec: Any, **labels: str) -> Document:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": KEY.name, "namespace": KEY.namespace, "labels": labels},
        "spec": spec,
    }


@pytest.mark.parametrize("resource", SPECS, ids=lambda r: r.kind)
async def test_made_at_home_it_comes_to_a_cluster_that_serves_it(
    home: RunningServer, foreign: RunningServer, resource: Resource[Document]
) -> None:
    template = await home.local.create(resource, thing(resource, SPECS[resource]))
    hands = Hands(foreign)
    first, again = await hands.bring(template), await hands.bring(template)
    assert (first.error, again.error, again.drift) == ("", "", None)
    there = await foreign.local.get(resource, KEY)
    assert there["metadata"].get("generation", 1) == 1
    assert there["metadata"]["uid"] != template["metadata"]["uid"]


async def test_a_job_runs_by_the_selector_of_its_cluster(
    home: RunningServer, foreign: RunningServer
) -> None:
    template = await home.local.create(JOBS, thing(JOBS, SPECS[JOBS]))
    own = {"batch.kubernetes.io/controller-uid": template["metadata"]["uid"]}
    assert template["spec"]["selector"] == {"matchLabels": own}
    hands = Hands(foreign)
    assert (await hands.bring(template, count=1, share=2)).error == ""
    there = await foreign.local.get(JOBS, KEY)
    chosen = {"batch.kubernetes.io/controller-uid": there["metadata"]["uid"]}
    assert there["spec"]["selector"] == {"matchLabels": chosen}
    assert (there["spec"]["parallelism"], there["spec"]["completions"]) == (1, 2)
    grown = await hands.bring(template, count=2, share=2)
    assert (grown.error, grown.drift) == ("", None)
    assert (await foreign.local.get(JOBS, KEY))["spec"]["parallelism"] == 2


async def test_replicas_that_an_autoscaler_sets_there_stay(
    home: RunningServer, foreign: RunningServer
) -> None:
    spec = {"replicas": 2, "selector": SELECTOR, "template": LABELLED}
    marked = thing(DEPLOYMENTS, spec, **{RETAIN_REPLICAS: "true"})
    template = await home.local.create(DEPLOYMENTS, marked)
    hands = Hands(foreign)
    _ = await hands.bring(template)
    _ = await foreign.local.patch(DEPLOYMENTS, KEY, {"spec": {"replicas": 5}})
    outcome = await hands.bring(template)
    assert (outcome.error, outcome.drift) == ("", None)
    assert (await foreign.local.get(DEPLOYMENTS, KEY))["spec"]["replicas"] == 5


async def test_the_server_counts_changes_of_a_daemon_sets_template(home: RunningServer) -> None:
    made = await home.local.create(DAEMONSETS, thing(DAEMONSETS, SPECS[DAEMONSETS]))
    assert made["metadata"]["annotations"] == {TEMPLATE_GENERATION: "1"}
    other = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}
    changed = await home.local.patch(DAEMONSETS, KEY, other)
    assert changed["metadata"]["annotations"] == {TEMPLATE_GENERATION: "2"}
    bare = {"metadata": {"annotations": None}, "spec": {"minReadySeconds": 3}}
    changed = await home.local.patch(DAEMONSETS, KEY, bare)
    assert changed["metadata"]["annotations"] == {TEMPLATE_GENERATION: "2"}
    assert changed["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("resource", "patch", "why"),
    [
        (STATEFULSETS, {"spec": {"serviceName": "y"}}, "are forbidden"),
        (STATEFULSETS, {"spec": {"replicas": -1}}, "greater than or equal to 0"),
        (DAEMONSETS, {"spec": {"selector": {"matchLabels": {"app": "y"}}}}, "does not match"),
        (JOBS, {"spec": {"completions": 9}}, "field is immutable"),
        (CRONJOBS, {"spec": {"schedule": "* * *"}}, "expected exactly 5 fields, found 3"),
        (VOLUME_CLAIMS, {"spec": {"storageClassName": "fast"}}, "spec is immutable after creation"),
        (AUTOSCALERS, {"spec": {"maxReplicas": 0}}, "must be set and greater than 0"),
        (INGRESSES, {"spec": {"defaultBackend": None}}, "must be specified"),
        (NETWORK_POLICIES, {"spec": {"policyTypes": ["Both"]}}, "Unsupported value"),
        (BUDGETS, {"spec": {"minAvailable": 1}}, "cannot be both set"),
    ],
    ids=lambda value: value.kind if isinstance(value, Resource) else "",
)
async def test_what_may_not_become_of_it(
    home: RunningServer, resource: Resource[Document], patch: Any, why: str
) -> None:
    _ = await home.local.create(resource, thing(resource, SPECS[resource]))
    with pytest.raises(Invalid, match=why):
        await home.local.patch(resource, KEY, patch)
