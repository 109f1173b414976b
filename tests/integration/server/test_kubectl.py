"""Real kubectl against a server: what a user types on the first day."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.apiserver import RunningServer, running_server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine"),
]
Kubectl = Callable[..., Awaitable[str]]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: demo}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec: {containers: [{name: c, image: "%s"}]}
"""


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def kubectl(server: RunningServer, tmp_path: Path) -> Kubectl:
    path = server.write_kubeconfig(tmp_path)

    async def run(*words: str, stdin: str = "", fails: bool = False) -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", path, "--cache-dir", str(tmp_path / "cache"), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 40)
        assert (process.returncode != 0) is fails, out.decode()
        return out.decode()

    return run


async def test_create_get_change_delete(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "demo")
    await kubectl("create", "deployment", "web", "--image=nginx", "--replicas=3", "-n", "demo")
    await kubectl("create", "configmap", "cm", "--from-literal=a=b", "-n", "demo")
    wide = await kubectl("get", "deploy,cm", "-n", "demo", "-o", "wide")
    assert "CONTAINERS" in wide
    assert "app=web" in wide
    await kubectl("label", "cm", "cm", "x=y", "-n", "demo")
    await kubectl("annotate", "cm", "cm", "note=1", "-n", "demo")
    assert "x=y" in await kubectl("get", "cm", "cm", "-n", "demo", "--show-labels")
    await kubectl("scale", "deploy", "web", "--replicas=5", "-n", "demo")
    await kubectl("set", "image", "deploy/web", "nginx=nginx:2", "-n", "demo")
    shown = await kubectl(
        "get", "deploy", "web", "-n", "demo", "-o",
        "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.metadata.generation}",
    )  # fmt: skip
    assert shown == "5 nginx:2 3"
    assert "Replicas" in await kubectl("describe", "deploy", "web", "-n", "demo")
    await kubectl("delete", "deploy", "web", "-n", "demo", "--wait")
    assert "NotFound" in await kubectl("get", "deploy", "web", "-n", "demo", fails=True)


async def test_apply_client_and_server_side(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "demo")
    assert "created" in await kubectl("apply", "-f", "-", stdin=DEPLOYMENT % "nginx")
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=DEPLOYMENT % "nginx")
    assert "configured" in await kubectl("apply", "-f", "-", stdin=DEPLOYMENT % "nginx:2")
    rehearsal = await kubectl("apply", "--dry-run=server", "-f", "-", stdin=DEPLOYMENT % "nginx:3")
    assert "server dry run" in rehearsal
    conflict = await kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=DEPLOYMENT % "x", fails=True)  # fmt: skip
    assert 'conflict with "kubectl-client-side-apply"' in conflict
    await kubectl(
        "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=DEPLOYMENT % "x"
    )  # fmt: skip
    broken = await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.replace("selector", "selektor") % "x", fails=True)  # fmt: skip
    assert 'unknown field "spec.selektor"' in broken


async def test_discovery_and_explain(kubectl: Kubectl) -> None:
    listed = await kubectl("api-resources")
    assert "deployments" in listed
    assert "deploy" in listed
    explained = await kubectl("explain", "pod.spec.containers.livenessProbe")
    assert "FIELD: livenessProbe <Probe>" in explained
    assert "v1.36" in await kubectl("version")


async def test_identity(kubectl: Kubectl) -> None:
    assert "kubernetes-admin" in await kubectl("auth", "whoami")
    assert (await kubectl("auth", "can-i", "create", "pods")).strip() == "yes"
    assert "no" in await kubectl("auth", "can-i", "create", "pods", "--as", "bob", fails=True)
    await kubectl("create", "role", "r", "--verb=create", "--resource=pods")
    await kubectl("create", "rolebinding", "r", "--role=r", "--user=bob")
    assert "yes" in await kubectl("auth", "can-i", "create", "pods", "--as", "bob")
    await kubectl("create", "serviceaccount", "robot")
    assert (await kubectl("create", "token", "robot")).count(".") == 2


async def test_watch_sees_changes(kubectl: Kubectl, server: RunningServer) -> None:
    async def change() -> None:
        while server.api.watches.count() == 0:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
        await kubectl("create", "configmap", "seen", "--from-literal=a=b")
        await kubectl("label", "cm", "seen", "done=yes")

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(kubectl("get", "cm", "-w", "--request-timeout=6s"))
        group.create_task(change())
    assert waiting.result().count("seen") == 2


async def test_delete_waits_for_the_end(kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "held", "--from-literal=a=b")
    await kubectl(
        "patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["x/y"]}}'
    )
    removal = '[{"op":"remove","path":"/metadata/finalizers"}]'

    async def release() -> None:
        await kubectl(
            "wait", "cm/held", "--for=jsonpath={.metadata.deletionTimestamp}", "--timeout=30s"
        )
        await kubectl("patch", "cm", "held", "--type=json", "-p", removal)

    async with asyncio.TaskGroup() as group:
        deleting = group.create_task(kubectl("delete", "cm", "held", "--timeout=30s"))
        group.create_task(release())
    assert "deleted" in deleting.result()
