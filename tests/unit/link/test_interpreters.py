"""Users' interpreters on the member's side: what stays, what travels back, and what is said when a script fails."""

from typing import Any

import msgspec
import pytest

from cluster_agent.link.interpreters import report, retained
from cluster_agent.link.member import Outcome
from cluster_agent.link.works import INTERPRETED, carries, status_plan
from machinery.api.fleet.interpretation import ResourceInterpreterCustomization
from machinery.meta.resource import Document
from machinery.scripts.customizations import BUILT_IN, Customizations, InterpretationFailed

LIVE: Document = {
    "apiVersion": "example.io/v1",
    "kind": "Shard",
    "metadata": {"name": "s", "namespace": "demo", "generation": 1},
    "spec": {"count": 9},
    "status": {"ready": 2, "noise": "x"},
}
WORK: Document = {
    "metadata": {"name": "w", "namespace": "karmada-es-alpha"},
    "spec": {"workload": {"manifests": [LIVE]}},
}


def saying(language: str = "luaScript", /, **scripts: str) -> Customizations:
    document = {
        "metadata": {"name": "c"},
        "spec": {
            "target": {"apiVersion": "example.io/v1", "kind": "Shard"},
            "customizations": {field: {language: text} for field, text in scripts.items()},
        },
    }
    return Customizations([msgspec.convert(document, ResourceInterpreterCustomization)])


HEALTH = "function InterpretHealth(o) return o.status.ready == o.spec.count end"
REFLECT = "function ReflectStatus(o) return {ready = o.status.ready} end"


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        (BUILT_IN, ("Healthy", {"ready": 2, "noise": "x"}, [])),
        (saying(healthInterpretation=HEALTH), ("Unhealthy", {"ready": 2, "noise": "x"}, [])),
        (saying(statusReflection=REFLECT), ("Healthy", {"ready": 2}, [])),
    ],
)
def test_what_travels_back(scripts: Customizations, said: Any) -> None:
    assert report(scripts, LIVE) == said


def test_what_stays() -> None:
    keep = "function Retain(want, live) want.spec.count = live.spec.count return want end"
    wanted = LIVE | {"spec": {"count": 1}}
    assert retained(saying(retention=keep), wanted, LIVE)["spec"] == {"count": 9}
    assert retained(BUILT_IN, wanted, LIVE) is wanted
    with pytest.raises(InterpretationFailed, match="Retain by"):
        retained(saying(retention="function Retain() return 1 end"), wanted, LIVE)


def test_expressions_are_asked_as_scripts_are() -> None:
    said = {
        "healthInterpretation": "observed.status.ready == observed.spec.count",
        "statusReflection": "{'ready': observed.status.ready}",
        "retention": "{'spec': {'count': observed.spec.count}}",
    }
    scripts = saying("expression", **said)
    assert report(scripts, LIVE) == ("Unhealthy", {"ready": 2}, [])
    assert retained(scripts, LIVE | {"spec": {"count": 1}}, LIVE)["spec"] == {"count": 9}


def test_a_script_that_fails_is_told_and_its_end_too() -> None:
    broken = saying(healthInterpretation="function InterpretHealth(o) return o.spec.a.b end")
    outcome = Outcome({"ordinal": 0}, live=LIVE)
    first = status_plan(WORK, [outcome], "2026-01-01T00:00:00Z", broken)
    assert first is not None
    said = next(c for c in first["conditions"] if c["type"] == INTERPRETED)
    assert (said["status"], said["reason"]) == ("False", "InterpreterFailed")
    assert "InterpretHealth by ResourceInterpreterCustomization(c)" in said["message"]
    assert first["manifestStatuses"][0]["health"] == "Unknown"
    again = status_plan(WORK | {"status": first}, [outcome], "2026-01-01T00:01:00Z", broken)
    assert again is None
    mended = status_plan(
        WORK | {"status": first},
        [outcome],
        "2026-01-01T00:01:00Z",
        saying(healthInterpretation=HEALTH),
    )
    assert mended is not None
    assert INTERPRETED not in {c["type"] for c in mended["conditions"]}


def test_which_works_a_kind_concerns() -> None:
    assert carries(WORK, ("example.io/v1", "Shard"))
    assert not carries(WORK, ("apps/v1", "Deployment"))
