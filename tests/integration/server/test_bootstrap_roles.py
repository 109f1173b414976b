"""Default roles at a server's start: newer rules are added, what operators made of them stays."""

from typing import Any

import pytest
from tests.support.apiserver import running_server

from machinery.client.interface import dynamic
from machinery.meta.resource import Document, ObjectKey
from machinery.server import bootstrap

pytestmark = pytest.mark.integration
ROLES = dynamic("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
PODS = bootstrap.rule(("",), ("pods",), ("get", "list"))
NODES = bootstrap.rule(("",), ("nodes",), ("get",))
OTHERS = bootstrap.rule(("apps",), ("deployments",), ("get",))


def marked(*rules: Document, auto: str = "true") -> Document:
    role = bootstrap.cluster_role("system:example", rules)
    role["metadata"]["annotations"][bootstrap.AUTOUPDATE] = auto
    return role


@pytest.mark.parametrize(
    ("held", "ours", "expected"),
    [
        (marked(PODS), marked(PODS), None),
        (marked(PODS), marked(PODS, NODES), [PODS, NODES]),
        (marked(OTHERS, PODS), marked(NODES, PODS), [OTHERS, PODS, NODES]),
        (marked(bootstrap.rule(("*",), ("*",), ("*",))), marked(PODS, NODES), None),
        (marked(bootstrap.rule(("",), ("pods",), ("get",))), marked(PODS), [bootstrap.rule(("",), ("pods",), ("get",)), PODS]),
        (marked(PODS, auto="false"), marked(PODS, NODES), None),
        ({**marked(), "rules": None}, marked(PODS), [PODS]),
        (marked(PODS), bootstrap.aggregated("system:example"), None),
    ],
    ids=["as ours", "one more", "an operator's stays", "covered", "covered in part", "not to be touched", "without any", "gathers others"],
)  # fmt: skip
def test_extended(held: Document, ours: Document, expected: Any) -> None:
    found = bootstrap.extended(held, ours)
    if expected is None:
        assert found is held
    else:
        assert found == {**held, "rules": expected}


async def test_a_start_adds_what_is_missing_and_writes_nothing_twice() -> None:
    async with running_server() as server:
        key = ObjectKey("", "system:example")
        registry, scheme = server.api.registry, server.api.scheme
        assert await bootstrap.ensure(registry, scheme, [marked(PODS)]) == 1
        assert await bootstrap.ensure(registry, scheme, [marked(PODS, NODES)]) == 1
        extended = await server.local.get(ROLES, key)
        assert extended["rules"] == [PODS, NODES]
        assert await bootstrap.ensure(registry, scheme, [marked(PODS, NODES)]) == 0
        assert await bootstrap.ensure(registry, scheme, bootstrap.documents()) == 0
        assert await server.local.get(ROLES, key) == extended
