"""Evictions against a disruption budget over a running server: rivals never take the same one."""

import asyncio

from tests.support.apiserver import running_server

from cluster_agent.control.controllers import disruption
from machinery.api.kinds import BUILTIN
from machinery.client.interface import PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import TooManyRequests
from machinery.meta.resource import ObjectKey

PODS = dynamic("", "v1", "pods", "Pod", True)
BUDGETS = disruption.PODDISRUPTIONBUDGETS
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


async def test_no_more_pods_go_than_the_budget_allows() -> None:
    async with running_server() as server:
        names = [f"p{number}" for number in range(6)]
        for name in names:
            metadata = {"name": name, "labels": {"app": "a"}}
            spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            await server.rest.create(PODS, body, "default")
            key = ObjectKey("default", name)
            await server.rest.patch(
                PODS, key, {"status": READY}, PatchType.MERGE, subresource="status"
            )
        selector = {"matchLabels": {"app": "a"}}
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "b"},
        }
        await server.rest.create(
            BUDGETS, {**budget, "spec": {"minAvailable": 4, "selector": selector}}, "default"
        )
        manager = Manager(
            server.api.client(manager="test"), SystemClock(), SystemIds(), component="test"
        )
        disruption.setup(manager, BUILTIN)
        await manager.run_once()

        async def evict(name: str) -> None:
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            await server.rest.create(PODS, body, "default", name=name, subresource="eviction")

        answers = await asyncio.gather(*map(evict, names), return_exceptions=True)
        assert len([one for one in answers if isinstance(one, TooManyRequests)]) == 4
        assert answers.count(None) == 2
        found = await server.rest.get(BUDGETS, ObjectKey("default", "b"))
        assert found["status"]["disruptionsAllowed"] == 0
        await manager.stop()
