"""Rules of the kinds that the federation serves as templates, beyond what the recordings show (golden/api/11-templates).

Sources: the API reference of Kubernetes 1.36 for each kind, the cron fields of CronJob's `schedule`.
"""

from typing import Any

import pytest

from machinery.api import strategy
from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.template_strategy import TEMPLATE_GENERATION
from machinery.api.validation import cron, validate_create, validate_update
from machinery.meta.resource import Document

SCHEME = Scheme((*BUILTIN, *TEMPLATE_KINDS))
ALWAYS = {"containers": [{"name": "c", "image": "i"}]}
NEVER = ALWAYS | {"restartPolicy": "Never"}
SELECTED = {
    "selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": ALWAYS},
}
STORAGE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def kind_of(name: str) -> ServedKind:
    return next(kind for kind in SCHEME.kinds if kind.kind == name)


def made(name: str, **spec: Any) -> Document:
    """As the server takes a new object in, before it is judged."""
    kind = kind_of(name)
    metadata = {"name": "x", "namespace": "demo"}
    document = {"apiVersion": kind.api_version, "kind": name, "metadata": metadata, "spec": spec}
    begun = strategy.prepare_create(kind, apply_defaults(kind, document))
    identified = begun | {"metadata": begun["metadata"] | {"uid": "u-1"}}
    return strategy.stamped(kind, identified)


def complaints(name: str, **spec: Any) -> list[str]:
    found = validate_create(kind_of(name), made(name, **spec))
    return [f"{cause['field']}: {cause['message']}" for cause in found]


def test_a_stateful_set_mounts_its_claims() -> None:
    """What a claim template becomes in each pod is a volume; what is neither is not found."""

    def mounts(name: str) -> list[str]:
        container = {"name": "c", "image": "i", "volumeMounts": [{"name": name, "mountPath": "/d"}]}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
        claims = [{"metadata": {"name": "data"}, "spec": STORAGE}]
        spec = {**SELECTED, "template": template, "volumeClaimTemplates": claims}
        return complaints("StatefulSet", **spec)

    assert mounts("data") == []
    assert mounts("other") == [
        'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "other"'
    ]


# -------------------------------------------------------------------------------------------------------------- cron
@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/5 0-6 1,15 jan-mar sun", "0 0 31 2 *", "? ? ? ? ?", "@daily", "@every 1h30m",
        "5/10 * * * *", "0 22 * * MON-FRI", "TZ=UTC 0 0 * * *",
    ],
)  # fmt: skip
def test_schedules_that_can_be_read(schedule: str) -> None:
    cron.check(schedule)


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "empty spec string"),
        ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* 24 * * *", "end of range (24) above maximum (23): 24"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * 13 *", "end of range (13) above maximum (12): 13"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("9-3 * * * *", "beginning of range (9) beyond end of range (3): 9-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x: "),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
    ],
)
def test_schedules_that_cannot(schedule: str, why: str) -> None:
    with pytest.raises(cron.ScheduleError) as error:
        cron.check(schedule)
    assert str(error.value).startswith(why)


# --------------------------------------------------------------------------------------------------------- validation
@pytest.mark.parametrize(
    ("name", "spec", "wanted"),
    [
        ("StatefulSet", SELECTED, []),
        ("StatefulSet", SELECTED | {"updateStrategy": {"type": "OnDelete"}}, []),
        (
            "StatefulSet",
            SELECTED | {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}},
            ['spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "0%": cannot be 0'],
        ),
        (
            "StatefulSet",
            SELECTED | {"selector": {}},
            ["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
        ),
        ("DaemonSet", SELECTED, []),
        ("DaemonSet", SELECTED | {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}, []),
        (
            "DaemonSet",
            SELECTED | {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
            [
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: "
                "may not be set when maxUnavailable is non-zero"
            ],
        ),
        (
            "DaemonSet",
            SELECTED | {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
            [
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: "
                "cannot be 0 when maxSurge is 0"
            ],
        ),
        ("Job", {"template": {"spec": NEVER}}, []),
        (
            "Job",
            {"template": {"spec": NEVER}, "completionMode": "Indexed", "parallelism": 2},
            ["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            "Job",
            {"template": {"spec": NEVER}, "podFailurePolicy": {"rules": [{"action": "Ignore"}]}},
            [
                'spec.podFailurePolicy.rules[0]: Invalid value: {"action":"Ignore"}: '
                "specifying one of OnExitCodes and OnPodConditions is required"
            ],
        ),
        (
            "CronJob",
            {"schedule": "@hourly", "timeZone": "Local", "jobTemplate": {"spec": {"template": {"spec": NEVER}}}},
            [
                'spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
                "https://www.iana.org/time-zones"
            ],
        ),
        (
            "CronJob",
            {"schedule": "@hourly", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": {"template": {"spec": NEVER}}}},
            [],
        ),
        ("PersistentVolumeClaim", STORAGE | {"volumeMode": "Tape"}, [
            'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'
        ]),
        ("PersistentVolumeClaim", STORAGE | {"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s"}}, [
            f"spec.{key}: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            for key in ("dataSource", "dataSourceRef")
        ]),
        (
            "Ingress",
            {"rules": [{"host": "*.example.com"}, {"host": "*.*.example.com"}]},
            ["spec.rules[1].host: Invalid value: \"*.*.example.com\": a wildcard DNS-1123 subdomain must start with"],
        ),
        (
            "NetworkPolicy",
            {"podSelector": {}, "ingress": [{"ports": [{"port": "web", "endPort": 90}]}]},
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 90: "
                "may not be specified when `port` is non-numeric"
            ],
        ),
        (
            "LimitRange",
            {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]},
            ['spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1'],
        ),
        (
            "LimitRange",
            {"limits": [{"type": "Container", "maxLimitRequestRatio": {"cpu": "9"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}}]},
            [
                'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "9": '
                "ratio 9 is greater than max/min = 2.000000"
            ],
        ),
        (
            "PodDisruptionBudget",
            {"maxUnavailable": "101%"},
            ['spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%'],
        ),
    ],
)  # fmt: skip
def test_what_is_refused(name: str, spec: Document, wanted: list[str]) -> None:
    found = complaints(name, **spec)
    assert len(found) == len(wanted)
    assert all(is_.startswith(begin) for is_, begin in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"completions": 2}, {"completions": 3}, ["spec.completions"]),
        ({"parallelism": 2}, {"parallelism": 5}, []),
        (
            {"completions": 2, "parallelism": 2, "completionMode": "Indexed"},
            {"completions": 3, "parallelism": 3},
            [],
        ),
        ({}, {"suspend": True}, []),
        ({}, {"template": {"spec": NEVER | {"hostname": "h"}}}, ["spec.template"]),
        ({"suspend": True}, {"template": {"spec": NEVER | {"hostname": "h"}}}, []),
        ({}, {"managedBy": "acme.io/runner"}, ["spec.managedBy"]),
    ],
)
def test_what_may_become_of_a_job(before: Document, after: Document, wanted: list[str]) -> None:
    old = made("Job", **({"template": {"spec": NEVER}} | before))
    changed = apply_defaults(kind_of("Job"), old | {"spec": old["spec"] | after})
    new = strategy.prepare_update(kind_of("Job"), changed, old, "")
    found = validate_update(kind_of("Job"), new, old)
    assert [cause["field"] for cause in found] == wanted


@pytest.mark.parametrize(
    ("phase", "change", "wanted"),
    [
        ("Pending", {"resources": {"requests": {"storage": "2Gi"}}}, ["spec"]),
        ("Bound", {"resources": {"requests": {"storage": "2Gi"}}}, []),
        ("Bound", {"resources": {"requests": {"storage": "1Mi"}}}, ["spec.resources.requests.storage"]),
        ("Pending", {"volumeName": "pv"}, []),
        ("Bound", {"volumeAttributesClassName": "fast"}, []),
        ("Bound", {"accessModes": ["ReadWriteMany"]}, ["spec"]),
    ],
)  # fmt: skip
def test_a_claim_grows_when_it_is_bound(phase: str, change: Document, wanted: list[str]) -> None:
    old = made("PersistentVolumeClaim", **STORAGE) | {"status": {"phase": phase}}
    new = strategy.prepare_update(
        kind_of("PersistentVolumeClaim"), old | {"spec": old["spec"] | change}, old, ""
    )
    found = validate_update(kind_of("PersistentVolumeClaim"), new, old)
    assert [cause["field"] for cause in found] == wanted


# ------------------------------------------------------------------------------------------------------------ strategy
def test_a_job_selects_its_own_pods_and_keeps_what_its_user_wrote() -> None:
    job = made("Job", template={"metadata": {"labels": {"a": "b"}}, "spec": NEVER})
    own = {"batch.kubernetes.io/controller-uid": "u-1"}
    assert job["spec"]["selector"] == {"matchLabels": own}
    assert job["spec"]["template"]["metadata"]["labels"] == own | {
        "a": "b", "batch.kubernetes.io/job-name": "x", "controller-uid": "u-1", "job-name": "x",
    }  # fmt: skip
    by_hand = {"selector": {"matchLabels": {"a": "b"}}, "manualSelector": True}
    chosen = made("Job", template={"metadata": {"labels": {"a": "b"}}, "spec": NEVER}, **by_hand)
    assert chosen["spec"]["selector"] == {"matchLabels": {"a": "b"}}
    assert chosen["spec"]["template"]["metadata"]["labels"] == {"a": "b"}


def test_a_client_sets_no_status_and_no_count_of_changes() -> None:
    kind = kind_of("DaemonSet")
    old = made("DaemonSet", **SELECTED)
    assert old["status"]["desiredNumberScheduled"] == 0
    lied = old["metadata"] | {"annotations": {TEMPLATE_GENERATION: "9"}}
    new = strategy.prepare_update(
        kind, old | {"metadata": lied, "status": {"numberReady": 9}}, old, ""
    )
    assert new["metadata"]["annotations"] == {TEMPLATE_GENERATION: "1"}
    assert new["status"] == old["status"]
    ready = {"numberReady": 9}
    told = strategy.prepare_update(kind, old | {"spec": {}, "status": ready}, old, "status")
    assert (told["spec"], told["status"]) == (old["spec"], ready)


@pytest.mark.parametrize("kind", TEMPLATE_KINDS, ids=lambda kind: kind.kind)
def test_generation_counts_wishes_of_the_kinds_that_have_one(kind: ServedKind) -> None:
    counted = {
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ReplicationController",
    }
    document = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "x"},
        "spec": {},
    }
    begun = strategy.prepare_create(kind, apply_defaults(kind, document))
    assert begun["metadata"].get("generation") == (1 if kind.kind in counted else None)
