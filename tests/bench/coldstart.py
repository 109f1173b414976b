"""Part of bench_federation: a database full of workloads, made by the server itself, and members that only beat.

Three members that are told to the server and whose heartbeats are sent from here: nobody applies their Works. All else is
what the server wrote: bindings, decisions, Works.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.bench.bench_rollout import Program, free_port
from tests.bench.decisions import cluster, status_of
from tests.bench.fleet import (
    CLOCK,
    DEPLOYMENTS,
    NAMESPACES,
    connect,
    deployment,
    namespace,
    start_server,
)

from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS
from machinery.api.fleet.work import BINDING_DOCUMENTS, WORK_DOCUMENTS
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import rfc3339_micro
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey, Resource

MEMBERS = 3
BEAT_S = 2.0
AT_ONCE = 32
REST_S_MAX = 3600.0
PER_NAMESPACE = 500
KINDS: dict[str, Resource[Document]] = {
    kind: dynamic("", "v1", plural, kind, True)
    for kind, plural in (
        ("ConfigMap", "configmaps"), ("Secret", "secrets"),
        ("ServiceAccount", "serviceaccounts"), ("Service", "services"),
    )
}  # fmt: skip


def application(number: int, companions: int) -> Iterator[tuple[Resource[Document], Document]]:
    """A Deployment and what it refers to: one ConfigMap, or also a Secret, a ServiceAccount and a Service."""
    where, name = f"team-{number // PER_NAMESPACE}", f"app-{number}"
    own = {"namespace": where, "name": name}
    yield (
        KINDS["ConfigMap"],
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": {"k": "v" * 200}},
    )
    document = deployment(name, where, 3)
    pod = document["spec"]["template"]["spec"]
    source: list[Document] = [{"configMapRef": {"name": name}}]
    if companions > 1:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": own,
            "stringData": {"k": "v" * 200},
        }
        yield KINDS["Secret"], secret
        yield (
            KINDS["ServiceAccount"],
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own},
        )
        ports = {"ports": [{"port": 80}], "selector": {"app": name}}
        yield (
            KINDS["Service"],
            {"apiVersion": "v1", "kind": "Service", "metadata": own, "spec": ports},
        )
        source.append({"secretRef": {"name": name}})
        pod["serviceAccountName"] = name
    pod["containers"][0]["envFrom"] = source
    yield DEPLOYMENTS, document


@asynccontextmanager
async def beating(client: Client) -> AsyncIterator[None]:
    """The members' heartbeats, as long as the block lasts."""

    async def beat() -> None:
        while True:
            for number in range(MEMBERS):
                key = ObjectKey(CLUSTER_LEASES, f"member-{number:03}")
                spec = {"spec": {"renewTime": rfc3339_micro(CLOCK.now())}}
                with suppress(StatusError, ConnectionError, TimeoutError):
                    await client.patch(LEASES, key, spec)
            await asyncio.sleep(BEAT_S)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def join(client: Client) -> None:
    """The members, as their agents would introduce them."""
    for number in range(MEMBERS):
        document = cluster(number)
        name = document["metadata"]["name"]
        lease = {
            "apiVersion": LEASES.api_version, "kind": LEASES.kind,
            "metadata": {"name": name, "namespace": CLUSTER_LEASES},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 10, "renewTime": rfc3339_micro(CLOCK.now())},
        }  # fmt: skip
        await client.create(CLUSTERS, document)
        await status_of(client, name, document["status"])
        await client.create(LEASES, lease, CLUSTER_LEASES)


async def fill(folder: Path, workloads: int, companions: int) -> tuple[int, float]:
    """Objects of users and what the server makes of them: how many templates, bindings and Works, and the server's MB."""
    process = start_server(folder, free_port())
    server = Program("federation-server", process)
    try:
        client = await connect(folder, process)
        await join(client)
        async with beating(client):
            for number in range(-(-workloads // PER_NAMESPACE)):
                await client.create(NAMESPACES, namespace(f"team-{number}"))
            await asyncio.sleep(BEAT_S)
            numbers = iter(range(workloads))

            async def apply() -> None:
                for number in numbers:
                    for resource, document in application(number, companions):
                        await client.create(resource, document, document["metadata"]["namespace"])

            await asyncio.gather(*(apply() for _ in range(AT_ONCE)))
            await at_rest(server, time.monotonic())
        used_mb = server.rss_mb()
        objects = await count(client)
        await client.close()
        return objects, used_mb
    finally:
        process.terminate()
        process.wait(120)


async def count(client: Client) -> int:
    """Templates, bindings and Works."""
    kinds: list[Resource[Document]] = [
        DEPLOYMENTS,
        BINDING_DOCUMENTS,
        WORK_DOCUMENTS,
        *KINDS.values(),
    ]
    return sum([len((await client.list(kind)).items) for kind in kinds])


def wanted_s(server: Program) -> float:
    """CPU seconds that the server has had, and those that it waited for one: on a busy machine little use is no rest."""
    found = 0
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        with suppress(OSError):  # a thread that ended
            used, waited, _ = (task / "schedstat").read_text().split()
            found += int(used) + int(waited)
    return found / 1e9


async def at_rest(server: Program, started: float, quiet_s: float = 2.0) -> float:
    """Seconds from `started` until the server asks for little CPU for `quiet_s`, heartbeats aside; without these."""
    while time.monotonic() - started < REST_S_MAX:
        before, now = wanted_s(server), time.monotonic()
        await asyncio.sleep(quiet_s)
        if wanted_s(server) - before < 0.1 * quiet_s:
            return now - started
    raise TimeoutError("the server is never at rest")
