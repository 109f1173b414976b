"""Kinds of a member, with real containers and kubectl: ReplicationControllers, IPAddresses, ServiceCIDRs."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.fleet import KUBECTL, Fleet, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
    pytest.mark.timeout(300),
]
NAMESPACE = "kinds"
CONTROLLER = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "whoami", "image": "docker.io/lab/whoami:1"}]},
        },
    },
}


@pytest.fixture(scope="module")
def alpha(fleet: Fleet) -> Iterator[Fleet]:
    fleet.kubectl("alpha", "create", "namespace", NAMESPACE)
    yield fleet
    fleet.kubectl("alpha", "delete", "namespace", NAMESPACE)


def kubectl(fleet: Fleet, *words: str, document: Any = None) -> str:
    given = "" if document is None else json.dumps(document)
    return fleet.kubectl("alpha", "-n", NAMESPACE, *words, stdin=given)


def test_a_replication_controller(alpha: Fleet) -> None:
    assert "created" in kubectl(alpha, "create", "-f", "-", document=CONTROLLER)
    kubectl(alpha, "wait", "--for=jsonpath={.status.readyReplicas}=1", "rc/web", "--timeout=60s")
    kubectl(alpha, "scale", "rc/web", "--replicas=3")
    kubectl(alpha, "wait", "--for=jsonpath={.status.readyReplicas}=3", "rc/web", "--timeout=60s")
    shown = kubectl(alpha, "get", "all", "--no-headers")
    assert "replicationcontroller/web" in shown
    assert shown.count("pod/web-") == 3
    assert "exposed" in kubectl(alpha, "expose", "rc", "web", "--port=80")
    path = f"/api/v1/namespaces/{NAMESPACE}/services/web:80/proxy/"

    def answered() -> bool:
        done = subprocess.run(
            alpha.kubectl_argv("alpha", "get", "--raw", path), capture_output=True, text=True, check=False
        )  # fmt: skip
        return done.stdout.startswith("web-")

    until(answered, "the pods answer through their Service")
    assert "deleted" in kubectl(alpha, "delete", "rc/web", "--timeout=60s")
    until(lambda: not kubectl(alpha, "get", "pods", "-o", "name").strip(), "its pods are gone")


def test_who_has_which_address_and_a_range_more(alpha: Fleet) -> None:
    own = alpha.kubectl(
        "alpha", "get", "servicecidr", "kubernetes", "-o", "jsonpath={.spec.cidrs[0]}"
    )
    assert own
    ready = "--for=condition=Ready"
    alpha.kubectl("alpha", "wait", ready, "servicecidr/kubernetes", "--timeout=30s")
    cidr = {
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.250.7.0/28"]},
    }  # fmt: skip
    kubectl(alpha, "create", "-f", "-", document=cidr)
    alpha.kubectl("alpha", "wait", ready, "servicecidr/more", "--timeout=30s")
    kubectl(alpha, "create", "service", "clusterip", "far", "--clusterip=10.250.7.9", "--tcp=80")
    shown = alpha.kubectl("alpha", "get", "ip", "10.250.7.9", "--no-headers")
    assert f"services/{NAMESPACE}/far" in shown
    alpha.kubectl("alpha", "delete", "servicecidr", "more", "--wait=false")
    held = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"
    until(
        lambda: alpha.kubectl("alpha", "get", "servicecidr", "more", "-o", held) == "Terminating",
        "the range says why it stays",
    )
    kubectl(alpha, "delete", "service", "far")
    alpha.kubectl("alpha", "wait", "--for=delete", "servicecidr/more", "--timeout=60s")
