"""Webhooks of a real fleet: a pod of a member behind its Service, and a program beside the federation by its URL."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import webhook_program
from tests.support.fleet import KUBECTL, Fleet, Workload, core, deployment, deployments, until

from federation.lab import network, state
from machinery.kit.clock import SystemClock
from machinery.server.pki import CertificateAuthority

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
    pytest.mark.timeout(300),
]
NAMESPACE = "webhooks"
PORT = 9443
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
OURS = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}


@pytest.fixture(scope="module")
def ca() -> CertificateAuthority:
    return CertificateAuthority.create("webhooks", SystemClock())


@pytest.fixture(scope="module")
def space(fleet: Fleet) -> Iterator[Fleet]:
    """A namespace of the federation, and of all members by it."""
    fleet.api().create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    yield fleet
    fleet.api().delete(f"/api/v1/namespaces/{NAMESPACE}")


def files(folder: Path, ca: CertificateAuthority, *names: str) -> list[str]:
    """Certificate and key for a webhook of those names."""
    pair = ca.issue_serving("webhook", list(names))
    paths = [folder / "tls.crt", folder / "tls.key"]
    for path, content in zip(paths, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def webhook(path: str, config: dict[str, Any], ca: CertificateAuthority, **rule: Any) -> Any:
    bundle = base64.b64encode(ca.certificate_pem).decode()
    rules = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["configmaps"], "scope": "*", **rule,
    }  # fmt: skip
    return {
        "name": f"{path.strip('/')}.example.com", "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "timeoutSeconds": 5, "namespaceSelector": OURS, "rules": [rules],
        "clientConfig": {**config, "caBundle": bundle},
    }  # fmt: skip


def configuration(kind: str, *webhooks: Any) -> Any:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": NAMESPACE}, "webhooks": list(webhooks),
    }  # fmt: skip


def test_a_pod_behind_its_service(space: Fleet, ca: CertificateAuthority, tmp_path: Path) -> None:
    """The pod runs this machine's Python by a hostPath: the lab has no image with one."""
    api = space.api("alpha")
    until(lambda: api.get(f"/api/v1/namespaces/{NAMESPACE}"), "the namespace is in alpha")
    tls = files(tmp_path, ca, f"hook.{NAMESPACE}.svc")
    os.chmod(tmp_path, 0o755)
    program = [os.path.realpath(sys.executable), webhook_program.__file__, str(PORT), *tls]
    container = {
        "image": "docker.io/lab/busybox:1", "command": ["chroot", "/host", *program],
        "volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": True}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }  # fmt: skip
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    api.create(
        deployments(NAMESPACE),
        deployment("hook", NAMESPACE, 1, container=container, volumes=volumes),
    )
    ports = [{"name": "web", "port": 443, "targetPort": PORT}]
    service = {"metadata": {"name": "hook"}, "spec": {"selector": {"app": "hook"}, "ports": ports}}
    api.create(core(NAMESPACE, "services"), service)
    config = {"service": {"namespace": NAMESPACE, "name": "hook", "path": "/label", "port": 443}}
    judge = {"service": {**config["service"], "path": "/judge"}}

    def kubectl(*words: str, code: int = 0, document: Any = None) -> str:
        given = "" if document is None else json.dumps(document)
        return space.kubectl("alpha", *words, stdin=given, code=code)

    kubectl("create", "-f", "-", document=configuration(
        "MutatingWebhookConfiguration", webhook("/label", config, ca)
    ))  # fmt: skip
    kubectl("create", "-f", "-", document=configuration(
        "ValidatingWebhookConfiguration", webhook("/judge", judge, ca)
    ))  # fmt: skip
    try:
        make = ("-n", NAMESPACE, "create", "configmap")

        def answers() -> bool:
            done = subprocess.run(
                space.kubectl_argv("alpha", *make, "first"), capture_output=True, check=False
            )
            return done.returncode == 0

        until(answers, "the webhook answers through its Service")
        label = "jsonpath={.metadata.labels.team}"
        assert kubectl("-n", NAMESPACE, "get", "configmap", "first", "-o", label) == "blue"
        refused = kubectl(*make, "bad", code=1)
        assert (
            'admission webhook "judge.example.com" denied the request: bad names are bad' in refused
        )
        kubectl("-n", NAMESPACE, "scale", "deployment", "hook", "--replicas=0")

        def silent() -> bool:
            done = subprocess.run(
                space.kubectl_argv("alpha", *make, "late", "--dry-run=server"), capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            return (
                f'Post "https://hook.{NAMESPACE}.svc:443/label?timeout=5s": no endpoints available'
                in done.stderr
            )

        until(silent, "nobody is behind the Service")
    finally:
        for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
            kubectl("delete", kind, NAMESPACE)


def test_the_federation_by_url(space: Fleet, ca: CertificateAuthority, tmp_path: Path) -> None:
    """What a webhook changes of a template at the federation travels, and what it refuses does not begin."""
    known = state.load(space.directory)
    assert known is not None
    host = known.plan().federation[0]
    tls = files(tmp_path, ca, host.address)
    program = (sys.executable, webhook_program.__file__, str(PORT), *tls)
    argv = network.enter(known.plan(), f"{space.directory}/ns", host.name, program)
    url = f"https://{host.address}:{PORT}"
    rule = {"apiGroups": ["apps"], "resources": ["deployments"]}
    api = space.api()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            for kind, path in (("Mutating", "/label"), ("Validating", "/judge")):
                document = configuration(
                    f"{kind}WebhookConfiguration", webhook(path, {"url": url + path}, ca, **rule)
                )
                api.create(f"{REGISTRATION}/{kind.lower()}webhookconfigurations", document)
            space.kubectl(
                "federation", "apply", "-f", "-", stdin=json.dumps(deployment("web", NAMESPACE, 3))
            )
            shown = space.kubectl(
                "federation", "-n", NAMESPACE, "get", "deployment", "web", "-o",
                "jsonpath={.metadata.labels.team}",
            )  # fmt: skip
            assert shown == "blue"
            Workload(space, NAMESPACE, "web").stands(1, 1, 1)
            found = space.api("beta").get(deployments(NAMESPACE, "web"))
            assert found["metadata"]["labels"]["team"] == "blue"
            refused = space.kubectl(
                "federation", "-n", NAMESPACE, "create", "deployment", "bad", "--image=x", code=1
            )
            assert "denied the request: bad names are bad" in refused
        finally:
            for kind in ("mutating", "validating"):
                api.delete(f"{REGISTRATION}/{kind}webhookconfigurations/{NAMESPACE}")
            process.kill()
