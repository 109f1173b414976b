"""A Service of the federation on a real fleet: it follows its Deployment into every member and answers there by name."""

import itertools
import os
from functools import partial

import pytest
from tests.support.fleet import (
    MEMBERS,
    Document,
    Fleet,
    Workload,
    answer,
    core,
    deployment,
    deployments,
    until,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(300),
]
EXECS = itertools.count()


def service(name: str) -> Document:
    ports = [{"port": 80, "protocol": "TCP"}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


def inside(fleet: Fleet, member: str, pod: Document, line: str) -> str:
    """What a shell line says in a member's pod; its failure is no error."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    words = ("tasks", "exec", "--exec-id", f"look-{next(EXECS)}", container, "sh", "-c")
    host = f"{member}-{pod['spec']['nodeName']}"
    return fleet.enter(host, "ctr", "-n", "k8s.io", *words, f"{{ {line}; }} 2>&1; true")


def answers(fleet: Fleet, member: str, pod: Document, host: str) -> set[str]:
    """Who answered at `http://host/`, asked a dozen times from a pod."""
    again = f"for i in $(seq 12); do timeout 5 wget -qO- http://{host}/; done"
    return set(inside(fleet, member, pod, again).splitlines())


def answers_from(told: set[str], fleet: Fleet, member: str, pod: Document, host: str) -> bool:
    return answers(fleet, member, pod, host) == told


def test_a_service_goes_where_its_deployment_goes(fleet: Fleet, namespace: str) -> None:
    api = fleet.api()
    made = api.create(core(namespace, "services"), service("web"))
    shown = made["spec"]["clusterIP"]
    assert shown.startswith("240."), "a template has an address to show, which nobody routes"
    api.create(deployments(namespace), deployment("web", namespace, 6))
    web = Workload(fleet, namespace, "web")
    web.stands(2, 2, 2)
    addresses = set()
    for member in MEMBERS:
        pods = web.pods(member)
        told = {answer(pod, member) for pod in pods}
        for pod, name in zip(pods, ("web", f"web.{namespace}.svc.cluster.local"), strict=True):
            until(
                partial(answers_from, told, fleet, member, pod, name),
                f"{name} in {member} answers from its own two pods",
            )
        own = fleet.api(member).get(core(namespace, "services", "web"))["spec"]["clusterIP"]
        addresses.add(own)
        url = f"http://{own}/"
        host = f"{member}-{pods[0]['spec']['nodeName']}"
        assert fleet.enter(host, "busybox", "wget", "-qO-", url).strip() in told, "from the host"
        reached = inside(
            fleet, member, pods[0], "nc -w 5 kubernetes.default 443 </dev/null && echo yes"
        )
        assert reached.strip() == "yes", "the member's API, by its Service"
    assert len(addresses) == len(MEMBERS), "every member gives addresses of its own range"

    api.delete(core(namespace, "services", "web"))
    pod = web.pods("beta")[0]
    look = f"nslookup -type=a web.{namespace}.svc.cluster.local."
    until(lambda: "NXDOMAIN" in inside(fleet, "beta", pod, look), "the name is gone in beta")
