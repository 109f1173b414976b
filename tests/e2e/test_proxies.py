"""`proxy` to pods, Services and nodes with real containers: in a member, and through the federation to members behind their links."""

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.fleet import KUBECTL, Fleet, Workload, core, deployment, deployments, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
    pytest.mark.timeout(300),
]
NAMESPACE = "proxies"
SERVES = "mkdir -p /w; hostname >/w/index.html; echo page >/w/page; exec httpd -f -p 8080 -h /w"
PODS, SERVICES = (f"/api/v1/namespaces/{NAMESPACE}/{kind}" for kind in ("pods", "services"))


@pytest.fixture(scope="module")
def pod(fleet: Fleet) -> Iterator[str]:
    """A pod of alpha with a web server; one stands in each member, behind a Service."""
    api = fleet.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    container = {"image": "docker.io/lab/busybox:1", "command": ["sh", "-c", SERVES]}
    api.create(deployments(NAMESPACE), deployment("web", NAMESPACE, 3, container=container))
    spec = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    api.create(core(NAMESPACE, "services"), {"metadata": {"name": "web"}, "spec": spec})
    Workload(fleet, NAMESPACE, "web").stands(1, 1, 1)
    (found,) = Workload(fleet, NAMESPACE, "web").pods("alpha")
    name = str(found["metadata"]["name"])
    until(
        lambda: said(fleet, "alpha", f"{SERVICES}/web:80/proxy/") == name, "alpha's Service answers"
    )
    yield name
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")


def said(fleet: Fleet, context: str, path: str) -> str:
    """What `kubectl get --raw` shows, or the error."""
    done = subprocess.run(
        fleet.kubectl_argv(context, "get", "--raw", path), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


@pytest.mark.parametrize("form", ["{}:8080", "http:{}:8080"])
def test_a_pod(fleet: Fleet, pod: str, form: str) -> None:
    for context, name in (("alpha", pod), ("federation", f"{pod}.alpha")):
        assert said(fleet, context, f"{PODS}/{form.format(name)}/proxy/") == pod
        assert said(fleet, context, f"{PODS}/{form.format(name)}/proxy/page") == "page"


def test_a_service(fleet: Fleet, pod: str) -> None:
    assert said(fleet, "alpha", f"{SERVICES}/web:http/proxy/") == pod
    assert said(fleet, "federation", f"{SERVICES}/web.alpha:80/proxy/") == pod
    everyone = {str(p["metadata"]["name"]) for p in Workload(fleet, NAMESPACE, "web").pods()}
    shown = {said(fleet, "federation", f"{SERVICES}/web:80/proxy/") for _ in range(6)}
    assert {name.rpartition(".")[0] for name in everyone} == shown, "each cluster in its turn"


def test_a_node(fleet: Fleet, pod: str) -> None:
    (node,) = (n["metadata"]["name"] for n in fleet.api("alpha").list("/api/v1/nodes"))
    for context, name in (("alpha", node), ("federation", f"{node}.alpha")):
        assert said(fleet, context, f"/api/v1/nodes/{name}/proxy/healthz") == "ok"
        port = said(fleet, context, f"/api/v1/nodes/{name}:9/proxy/")
        assert "error trying to reach service: dial tcp" in port


@pytest.mark.parametrize("context", ["alpha", "federation"])
def test_refusals(fleet: Fleet, pod: str, context: str) -> None:
    name = f"{pod}.alpha" if context == "federation" else pod
    assert "connection refused" in said(fleet, context, f"{PODS}/{name}:81/proxy/")
    assert 'no service port 81 found for service "web"' in said(
        fleet, context, f"{SERVICES}/web:81/proxy/"
    )
    assert "not found" in said(fleet, context, f"{SERVICES}/nobody/proxy/")


@contextlib.contextmanager
def kubectl_proxy(fleet: Fleet, context: str) -> Iterator[str]:
    """`kubectl proxy`, and its address."""
    argv: Any = fleet.kubectl_argv(context, "proxy", "--port=0")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://{process.stdout.readline().split()[-1]}"
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("context", ["alpha", "federation"])
def test_kubectl_proxy(fleet: Fleet, pod: str, context: str) -> None:
    name = f"{pod}.alpha" if context == "federation" else pod
    with kubectl_proxy(fleet, context) as url:
        for path in (f"{PODS}/{name}:8080/proxy", f"{PODS}/{name}:8080/proxy/index.html"):
            with urllib.request.urlopen(url + path, timeout=30) as answer:
                assert answer.read().decode().strip() == pod
        with urllib.request.urlopen(f"{url}{SERVICES}/web:80/proxy/page", timeout=30) as answer:
            assert answer.read() == b"page\n"
