"""The Pod Security Standards: each check's words, and what a namespace's labels ask for. Source: the standards of 1.36."""

import pytest

from machinery.api.podsecurity import judge, levels
from machinery.api.podsecurity.levels import Level
from machinery.meta.resource import Document

SAFE = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip


def pod(context: Document | None = None, name: str = "c", **spec: object) -> Document:
    box = {"name": name, "image": "i", "securityContext": SAFE | (context or {})}
    return {"spec": {"containers": [box], **spec}}


def told(level: str, document: Document) -> str:
    return judge.told(judge.faults(Level(level), document))


PROBE = {"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (pod(), ""),
        (pod({"capabilities": {"add": ["SYS_ADMIN", "NET_RAW", "CHOWN"]}}), 'non-default capabilities (container "c" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)'),
        (pod(hostIPC=True, hostNetwork=True), "host namespaces (hostNetwork=true, hostIPC=true)"),
        (pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/"}}]), 'hostPath volumes (volumes "a", "b")'),
        ({"spec": {"containers": [{"name": n, "ports": [{"hostPort": p}]} for n, p in (("a", 90), ("b", 80))]}}, 'hostPort (containers "a", "b" use hostPorts 80, 90)'),
        ({"spec": {"containers": [PROBE]}}, 'probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")'),
        (pod({"privileged": True, "procMount": "Unmasked"}), 'privileged (container "c" must not set securityContext.privileged=true), procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
        (pod({"seLinuxOptions": {"type": "spc_t", "user": "u"}}), 'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)'),
        (pod({"seccompProfile": {"type": "Unconfined"}}, securityContext={"seccompProfile": {"type": "Unconfined"}}), 'seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")'),
        (pod(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]}), "forbidden sysctls (kernel.msgmax)"),
        (pod({"windowsOptions": {"hostProcess": True}}), 'hostProcess (container "c" must not set securityContext.windowsOptions.hostProcess=true)'),
        (pod({"appArmorProfile": {"type": "Unconfined"}}), 'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")'),
    ],
)  # fmt: skip
def test_what_baseline_says(document: Document, wanted: str) -> None:
    assert told("baseline", document) == wanted


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (pod(), ""),
        (pod({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}), ""),
        (pod(volumes=[{"name": "a", "nfs": {}}, {"name": "b", "hostPath": {}}, {"name": "c", "emptyDir": {}}]), 'restricted volume types (volumes "a", "b" use restricted volume types "hostPath", "nfs")'),
        (pod({"runAsNonRoot": False}), 'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)'),
        (pod({"runAsNonRoot": None}, securityContext={"runAsNonRoot": True}), ""),
        (pod({"runAsUser": 0}), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
        (pod({"seccompProfile": None}, securityContext={"seccompProfile": {"type": "Localhost"}}), ""),
        (pod({"allowPrivilegeEscalation": None, "capabilities": None, "seccompProfile": None}, os={"name": "windows"}), ""),
    ],
)  # fmt: skip
def test_what_restricted_says(document: Document, wanted: str) -> None:
    assert told("restricted", document) == wanted


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({}, "privileged:latest"),
        ({"enforce": "baseline", "enforce-version": "v1.25"}, "baseline:v1.25"),
        ({"enforce": "nonsense"}, "restricted:latest"),
        ({"enforce": "baseline", "enforce-version": "v1.025"}, "baseline:latest"),
    ],
)
def test_what_labels_ask_for(labels: dict[str, str], wanted: str) -> None:
    marks = {levels.PREFIX + key: value for key, value in labels.items()}
    assert str(levels.level_of(marks, "enforce")) == wanted


def test_labels_that_cannot_be_read_are_faults() -> None:
    found = levels.faults({levels.PREFIX + "warn": "x", levels.PREFIX + "audit-version": "1.2"})
    assert [one["field"].partition("/")[2] for one in found] == ["audit-version]", "warn]"]


@pytest.mark.parametrize(
    ("new", "old", "wanted"),
    [
        (Level("baseline"), Level("privileged"), True),
        (Level("baseline"), Level("restricted"), False),
        (Level("privileged"), Level("restricted"), False),
        (Level("baseline", "v1.30"), Level("baseline"), True),
        (Level("baseline"), Level("baseline"), False),
    ],
)
def test_what_is_stricter(new: Level, old: Level, wanted: bool) -> None:
    assert levels.is_stricter(new, old) is wanted
