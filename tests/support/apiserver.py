"""A running API server for tests: TLS on loopback, memory store (or the one given), admin identity over HTTP and in process.

async with running_server() as server:
    await server.rest.create(...)                # over HTTPS with an admin certificate
    await server.local.list(...)                 # in process
    kubectl("--kubeconfig", server.write_kubeconfig(tmp_path))
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme, ServedKind
from machinery.client.rest import RestClient
from machinery.kit.clock import Clock, SystemClock
from machinery.kit.ids import Ids, SystemIds
from machinery.meta.resource import Document
from machinery.server.app import ApiServer, Extensions
from machinery.server.config import ServerConfig
from machinery.server.local import LocalClient
from machinery.server.pki import Pair, client_context
from machinery.store.interface import Store
from machinery.store.memory import MemoryStore

ADMIN, MASTERS = "kubernetes-admin", "system:masters"
DEFAULT_ACCOUNTS = ("default", "kube-system")


@dataclass
class RunningServer:
    """The server with clients; `pair` is the administrator's certificate."""

    api: ApiServer
    pair: Pair
    rest: RestClient
    local: LocalClient
    clients: list[RestClient] = field(default_factory=list)

    def tls(self, pair: Pair | None = None) -> ssl.SSLContext:
        """A client's TLS context, as the administrator or as `pair`."""
        return client_context(self.api.ca_pem, pair or self.pair)

    def rest_as(self, user: str, groups: Sequence[str] = ()) -> RestClient:
        """An HTTPS client with a certificate for that user."""
        client = RestClient(self.api.url, self.tls(self.api.client_pair(user, groups)))
        self.clients.append(client)
        return client

    def rest_with_token(self, token: str) -> RestClient:
        """An HTTPS client with a bearer token and no certificate."""
        client = RestClient(self.api.url, client_context(self.api.ca_pem), token)
        self.clients.append(client)
        return client

    def write_kubeconfig(self, directory: Path, pair: Pair | None = None) -> str:
        """The path of a kubeconfig for kubectl, as the administrator or as `pair`."""
        pair = pair or self.pair
        (directory / "ca.pem").write_text(self.api.ca_pem)
        (directory / "client.pem").write_bytes(pair.certificate)
        (directory / "client.key").write_bytes(pair.key)
        cluster = {"server": self.api.url, "certificate-authority": str(directory / "ca.pem")}
        user = {
            "client-certificate": str(directory / "client.pem"),
            "client-key": str(directory / "client.key"),
        }
        path = directory / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "admin", "user": user}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                    "current-context": "test",
                }
            )
        )
        return str(path)

    async def add_service_account(self, namespace: str, name: str = "default") -> None:
        """What the serviceaccount controller does for a namespace; pods need the account `default`."""
        kind = self.api.scheme.by_plural("", "v1", "serviceaccounts")
        assert kind is not None
        document: Document = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name},
        }
        await self.rest.request(
            "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body=yaml_json(document)
        )


def yaml_json(document: Document) -> bytes:
    import orjson

    return orjson.dumps(document)


@contextlib.asynccontextmanager
async def running_server(
    *,
    kinds: Iterable[ServedKind] = BUILTIN,
    store: Store | None = None,
    config: ServerConfig | None = None,
    extensions: Extensions | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    service_accounts: bool = False,
) -> AsyncIterator[RunningServer]:
    """An API server on a free port of 127.0.0.1. ServiceAccount admission is off unless asked for."""
    config = replace(config or ServerConfig(), service_accounts=service_accounts)
    store = store or MemoryStore()
    await store.start()
    api = ApiServer(
        Scheme(kinds),
        store,
        config,
        clock or SystemClock(),
        ids or SystemIds(),
        extensions=extensions,
    )
    await api.start()
    pair = api.client_pair(ADMIN, (MASTERS,))
    rest = RestClient(api.url, client_context(api.ca_pem, pair))
    server = RunningServer(api, pair, rest, api.client())
    try:
        yield server
    finally:
        for client in (rest, *server.clients):
            await client.close()
        await api.stop()
        await store.close()
