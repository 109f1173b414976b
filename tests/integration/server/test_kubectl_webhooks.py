"""Real kubectl and webhooks: what a user types to register them, and what he is told by them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import Webhooks, label
from tests.support.widgets import GROUP, definition, version

from machinery.meta.resource import Document

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine"),
]
Kubectl = Callable[..., Awaitable[str]]
REGISTRATION = "admissionregistration.k8s.io/v1"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def kubectl(server: RunningServer, tmp_path: Path) -> Kubectl:
    path = server.write_kubeconfig(tmp_path)

    async def run(*words: str, stdin: Document | None = None, fails: bool = False) -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", path, "--cache-dir", str(tmp_path / "cache"), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        body = b"" if stdin is None else orjson.dumps(stdin)
        out, _ = await asyncio.wait_for(process.communicate(body), 40)
        assert (process.returncode != 0) is fails, out.decode()
        return out.decode()

    return run


def configuration(kind: str, name: str, *webhooks: Document) -> Document:
    return {
        "apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": name},
        "webhooks": list(webhooks),
    }  # fmt: skip


async def test_webhooks(kubectl: Kubectl, hooks: Webhooks) -> None:
    hooks.answers |= {
        "/label": label("team", "blue"),
        "/judge": lambda request: {
            "allowed": request["name"] != "bad", "warnings": ["mind the label"],
            "status": {"message": "bad names are bad"},
        },
    }  # fmt: skip
    changing = configuration(
        "MutatingWebhookConfiguration",
        "change",
        hooks.webhook("/label", operations=["CREATE", "UPDATE"]),
    )
    judging = configuration("ValidatingWebhookConfiguration", "judge", hooks.webhook("/judge"))
    for one in (changing, judging):
        assert "created" in await kubectl("apply", "-f", "-", stdin=one)
        assert "unchanged" in await kubectl("apply", "-f", "-", stdin=one)
    table = await kubectl("get", "mutatingwebhookconfigurations,validatingwebhookconfigurations")
    assert table.split()[:3] == ["NAME", "WEBHOOKS", "AGE"]
    assert "mutatingwebhookconfiguration.admissionregistration.k8s.io/change" in table
    told = await kubectl("create", "configmap", "good", "--from-literal=a=b")
    assert "Warning: mind the label" in told
    assert "created" in told
    shown = await kubectl("get", "configmap", "good", "-o", "jsonpath={.metadata.labels.team}")
    assert shown == "blue"
    refused = await kubectl("create", "configmap", "bad", fails=True)
    assert 'admission webhook "judge.example.com" denied the request: bad names are bad' in refused
    rehearsal = await kubectl("create", "configmap", "other", "--dry-run=server", "-o", "yaml")
    assert "team: blue" in rehearsal
    applied = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"},
    }  # fmt: skip
    for word in ("serverside-applied", "serverside-applied"):
        assert word in await kubectl("apply", "--server-side", "-f", "-", stdin=applied)
    explained = await kubectl("explain", "mutatingwebhookconfigurations.webhooks.failurePolicy")
    assert "FailurePolicy defines" in explained or "failurePolicy defines" in explained
    await kubectl("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "--all")
    assert "created" in await kubectl("create", "configmap", "bad")


async def test_converted_kinds(kubectl: Kubectl, hooks: Webhooks) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }

    def convert(request: Document) -> Document:
        objects = [
            {
                **one,
                "apiVersion": request["desiredAPIVersion"],
                "spec": {"told": request["desiredAPIVersion"]},
            }
            for one in request["objects"]
        ]
        return {"result": {"status": "Success"}, "convertedObjects": objects}

    hooks.answers["/convert"] = convert
    document = definition(
        "widgets", "Widget", version("v1", schema), {**version("v2", schema), "storage": False}
    )
    config = {"url": hooks.url("/convert"), "caBundle": hooks.ca_bundle}
    document["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]},
    }
    assert "created" in await kubectl("apply", "-f", "-", stdin=document)
    widget = {
        "apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"a": "b"},
    }  # fmt: skip
    assert "created" in await kubectl("apply", "-f", "-", stdin=widget)
    for number in ("v1", "v2"):
        shown = await kubectl("get", f"widgets.{number}.{GROUP}", "a", "-o", "jsonpath={.spec}")
        assert orjson.loads(shown) == ({"a": "b"} if number == "v1" else {"told": f"{GROUP}/v2"})
    assert "a" in await kubectl("get", f"widgets.v2.{GROUP}")
    await kubectl("delete", "crd", f"widgets.{GROUP}", "--wait")
