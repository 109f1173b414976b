"""What a DELETE makes of an object, as a table."""

import datetime as dt
from typing import Any

import pytest

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.meta.errors import Invalid
from machinery.server.call import Deletion
from machinery.server.deletion import Deleter, deletion_of, plan

SCHEME = Scheme((*BUILTIN, *RUN_BY_MEMBERS))
NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "generation": 1},
        "spec": {"nodeName": "n", **spec},
        "status": {},
    }


def marked(document: dict[str, Any], grace: int, at: str) -> dict[str, Any]:
    metadata = {
        **document["metadata"],
        "deletionTimestamp": at,
        "deletionGracePeriodSeconds": grace,
    }
    return {**document, "metadata": metadata}


CASES: list[tuple[str, str, dict[str, Any], Deletion, bool, int | None]] = [
    ("bound pod has its own grace", "pods", pod(terminationGracePeriodSeconds=7), Deletion(), False, 7),
    ("bound pod has 30 s by default", "pods", pod(), Deletion(), False, 30),
    ("asked grace counts", "pods", pod(), Deletion(5), False, 5),
    ("grace 0 removes", "pods", pod(), Deletion(0), True, 0),
    ("negative grace is one second", "pods", pod(), Deletion(-1), False, 1),
    ("unscheduled pod goes at once", "pods", pod(nodeName=""), Deletion(), True, 0),
    ("finished pod goes at once", "pods", {**pod(), "status": {"phase": "Failed"}}, Deletion(), True, 0),
    (
        "finalizer keeps a pod even at grace 0", "pods",
        {**pod(), "metadata": {"name": "p", "finalizers": ["x/y"]}}, Deletion(0), False, 0,
    ),
    ("plain object goes", "configmaps", {"metadata": {"name": "c"}}, Deletion(), True, None),
    (
        "finalizer keeps an object", "configmaps",
        {"metadata": {"name": "c", "finalizers": ["x/y"]}}, Deletion(), False, 0,
    ),
    ("foreground waits", "configmaps", {"metadata": {"name": "c"}}, Deletion(propagation_policy="Foreground"), False, 0),
    ("orphan waits", "configmaps", {"metadata": {"name": "c"}}, Deletion(propagation_policy="Orphan"), False, 0),
    (
        "background takes foreground away", "configmaps",
        {"metadata": {"name": "c", "finalizers": ["foregroundDeletion"]}},
        Deletion(propagation_policy="Background"), True, None,
    ),
    ("a job's pods stay when nobody says more", "jobs", {"metadata": {"name": "j"}}, Deletion(), False, 0),
    (
        "background takes a job at once", "jobs", {"metadata": {"name": "j"}},
        Deletion(propagation_policy="Background"), True, None,
    ),
    (
        "a job that goes with its pods is not asked again", "jobs",
        {"metadata": {"name": "j", "finalizers": ["foregroundDeletion"]}}, Deletion(), False, 0,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plural", "live", "options", "gone", "grace"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_plan(
    plural: str, live: dict[str, Any], options: Deletion, gone: bool, grace: int | None
) -> None:
    kind = SCHEME.by_plural("batch" if plural == "jobs" else "", "v1", plural)
    assert kind is not None
    before = repr(live)
    document, at_once = plan(kind, live, options, NOW)
    assert at_once is gone
    assert document["metadata"].get("deletionGracePeriodSeconds") == grace
    assert repr(live) == before, "the live object is not touched"


@pytest.mark.parametrize(
    ("asked", "grace", "until"),
    [(60, 30, "2026-01-01T11:59:50Z"), (10, 10, "2026-01-01T11:59:30Z"), (0, 0, None)],
    ids=["never longer", "shorter, from the first request on", "now"],
)
def test_a_second_delete(asked: int, grace: int, until: str | None) -> None:
    kind = SCHEME.by_plural("", "v1", "pods")
    assert kind is not None
    live = marked(pod(), 30, "2026-01-01T11:59:50Z")
    document, gone = plan(kind, live, Deletion(asked), NOW)
    assert gone is (asked == 0)
    assert document["metadata"]["deletionGracePeriodSeconds"] == grace
    if until is not None:
        assert document["metadata"]["deletionTimestamp"] == until


def test_namespace_waits_for_its_finalizers() -> None:
    kind = SCHEME.by_plural("", "v1", "namespaces")
    assert kind is not None
    live = {
        "metadata": {"name": "n"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    document, gone = plan(kind, live, Deletion(), NOW)
    assert not gone
    assert document["status"]["phase"] == "Terminating"
    assert not Deleter.finished(kind, document)
    assert Deleter.finished(kind, {**document, "spec": {}})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"propagationPolicy": "Bogus"}, 'propagationPolicy: Unsupported value: "Bogus"'),
        ({"propagationPolicy": "Orphan", "orphanDependents": True}, "cannot be both set"),
        ({"dryRun": ["Some"]}, 'dryRun: Unsupported value: ["Some"]'),
    ],
)
def test_options_are_checked(document: dict[str, Any], expected: str) -> None:
    with pytest.raises(Invalid) as caught:
        deletion_of(document)
    assert expected in caught.value.message


def test_options_are_read() -> None:
    options = deletion_of(
        {
            "gracePeriodSeconds": 3,
            "orphanDependents": False,
            "preconditions": {"uid": "u", "resourceVersion": "7"},
            "dryRun": ["All"],
        }
    )
    assert options == Deletion(3, "Background", "u", "7", dry_run=True)
