"""A pod held against a level, in upstream's order and words; and where kinds have their pod."""

from collections.abc import Callable, Mapping
from typing import Final

from machinery.api.podsecurity import baseline, restricted
from machinery.api.podsecurity.levels import Level
from machinery.api.podsecurity.words import Fault
from machinery.meta.resource import Document

Check = Callable[[Document, Document], Fault | None]
"""(metadata, spec of a pod) -> what is wrong."""

_REPLACED: Final[tuple[Check, ...]] = (
    baseline.capabilities, baseline.host_path, baseline.seccomp,
)  # fmt: skip
"""What level restricted has stricter checks for."""
_BASELINE: Final[tuple[Check, ...]] = (
    baseline.app_armor, baseline.capabilities, baseline.host_namespaces, baseline.host_path,
    baseline.host_ports, baseline.probe_hosts, baseline.privileged, baseline.proc_mount,
    baseline.se_linux, baseline.seccomp, baseline.sysctls, baseline.host_process,
)  # fmt: skip
_CHECKS: Final[Mapping[str, tuple[Check, ...]]] = {
    "privileged": (),
    "baseline": _BASELINE,
    "restricted": (
        *(check for check in _BASELINE if check not in _REPLACED),
        restricted.escalation, restricted.capabilities, restricted.volumes, restricted.non_root,
        restricted.user, restricted.seccomp,
    ),
}  # fmt: skip
TEMPLATES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): ("spec", "template"),
}
"""Where kinds have the template of their pods."""


def faults(level: Level, pod: Document) -> list[Fault]:
    """What of a pod, or of a template, is against the level."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    found = (check(metadata, spec) for check in _CHECKS[level.name])
    return [fault for fault in found if fault is not None]


def told(found: list[Fault]) -> str:
    """All of it."""
    return ", ".join(map(str, found))


def template_of(group: str, kind: str, document: Document) -> Document | None:
    """The template of a workload's pods, or None."""
    value: Document | None = document
    for step in TEMPLATES.get((group, kind), ("",)):
        value = (value or {}).get(step)
    return value
