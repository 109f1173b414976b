"""A server with something to steal, and those who would like to: for the tables of attacks."""

import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server
from yarl import URL

from machinery.kit.clock import SystemClock
from machinery.server.pki import client_context

HIDDEN = "dG9wLXNlY3JldA=="
"""What nobody here may read."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CORE = "/api/v1"
PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
Answer = tuple[int, Any]


class Wall(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return super().now() + self.ahead


class Scene:
    """A server with something to steal, and those who would like to."""

    def __init__(self, server: RunningServer, clock: Wall, session: aiohttp.ClientSession) -> None:
        self.server, self.clock, self._session = server, clock, session
        self._tls: dict[str, ssl.SSLContext] = {}

    def tls(self, who: str) -> ssl.SSLContext:
        """The context of a user; groups by slashes: `system:node:n1/system:nodes`."""
        if who not in self._tls:
            name, *groups = who.split("/")
            pair = None if not who else self.server.api.client_pair(name, groups)
            self._tls[who] = (
                client_context(self.server.api.ca_pem, pair)
                if pair
                else client_context(self.server.api.ca_pem)
            )
        return self._tls[who]

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer:
        """(status, document or text)."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = URL(self.server.api.url + path, encoded=True)
        async with self._session.request(
            method, url, data=data, headers=sent, ssl=self.tls(who)
        ) as answer:
            raw = await answer.read()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw.decode(errors="replace")

    async def made(self, path: str, document: Any) -> Any:
        status, told = await self.ask(ADMIN, "POST", path, document)
        assert status == 201, told
        return told


ADMIN = "admin/system:masters"
TENANT = "tenant"
NODE = "system:node:n1/system:nodes"
WRITES = "create get list watch update patch delete"
"""All but `escalate`, `bind` and `impersonate`."""


def rule(verbs: str, resources: str, groups: str = "") -> dict[str, list[str]]:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split(",")}


def pod(name: str, node: str = "", **spec: Any) -> Any:
    found: Any = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }
    if node:
        found["spec"]["nodeName"] = node
    return found


def secret_volume(name: str) -> Any:
    return [{"name": "v", "secret": {"secretName": name}}]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A server with two namespaces, a secret in each, and a tenant who has some rights in one of them."""
    clock = Wall()
    async with running_server(clock=clock) as server, aiohttp.ClientSession() as session:
        found = Scene(server, clock, session)
        for name in ("mine", "other"):
            await found.made(f"{CORE}/namespaces", {"metadata": {"name": name}})
            for account in ("default", "worker"):
                await found.made(
                    f"{CORE}/namespaces/{name}/serviceaccounts", {"metadata": {"name": account}}
                )
            await found.made(
                f"{CORE}/namespaces/{name}/secrets",
                {"metadata": {"name": "s"}, "data": {"k": HIDDEN}},
            )
        await found.made(
            f"{CORE}/namespaces/mine/configmaps", {"metadata": {"name": "c"}, "data": {"k": "v"}}
        )
        held = [
            rule(WRITES, "configmaps pods pods/status serviceaccounts"),
            rule(WRITES, "roles rolebindings", "rbac.authorization.k8s.io"),
        ]
        role = {"metadata": {"name": "tenant"}, "rules": held}
        await found.made(f"{RBAC}/namespaces/mine/roles", role)
        subject = {"kind": "User", "name": TENANT, "apiGroup": "rbac.authorization.k8s.io"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}
        await found.made(
            f"{RBAC}/namespaces/mine/rolebindings",
            {"metadata": {"name": "tenant"}, "subjects": [subject], "roleRef": ref},
        )
        wide = [rule("create get list update patch", "clusterroles clusterrolebindings", "rbac.authorization.k8s.io"), rule("create get patch update", "certificatesigningrequests", "certificates.k8s.io")]  # fmt: skip
        await found.made(f"{RBAC}/clusterroles", {"metadata": {"name": "wide"}, "rules": wide})
        await found.made(
            f"{RBAC}/clusterrolebindings",
            {
                "metadata": {"name": "wide"},
                "subjects": [subject],
                "roleRef": {**ref, "kind": "ClusterRole", "name": "wide"},
            },
        )
        yield found


REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}

ME = [{"kind": "User", "name": TENANT, "apiGroup": "rbac.authorization.k8s.io"}]

MERGE = {"Content_Type": PATCHES["merge"]}
