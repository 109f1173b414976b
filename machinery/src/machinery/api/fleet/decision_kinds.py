"""The kinds of the decision journal as they are served: Decision, the fleets that decisions were made of, and the reviews.

A Decision is written once and never changed, so that it is no object of updates; a Fleet that many decisions share is stored
once, under the hash of its content. The reviews (`PlacementPlan`, `PlacementExplanation`, `DecisionReplay`) are answered and
forgotten, as SelfSubjectAccessReview is.
"""

from dataclasses import replace

from machinery.api.fleet.schema import (
    AGE,
    ANY,
    FLAG,
    LARGE,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    array,
    choice,
    mapping,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind

VERSION = "ubernetes.io/v1alpha1"
WRITTEN_ONCE = ("create", "delete", "deletecollection", "get", "list", "watch")
REVIEW = ("create",)

_COUNTS = mapping(NUMBER)
_WARNINGS = array(struct(("reason", "message"), reason=TEXT, message=TEXT))
_TARGETS = array(struct(("name",), name=TEXT, replicas=NUMBER))
_LEFT_OUT = array(
    ANY | {"description": "reason: why clusters were left out; clusters: their names."}
)
"""Looked into by nobody here: with many clusters that would cost as much as the rest of the write."""
_OBJECT = struct(
    ("kind", "name"), apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT, uid=TEXT
)  # fmt: skip

DECISION = replace(
    served(
        VERSION, "Decision", "decisions", "dec", namespaced=True,
        spec=struct(
            ("controller", "function", "result", "inputs"),
            controller=TEXT,
            workload=_OBJECT,
            binding=struct(("name",), name=TEXT, uid=TEXT, resourceVersion=TEXT),
            decidedAt=TIME,
            question=TEXT,
            function=TEXT,
            result=TEXT,
            message=TEXT,
            before=_COUNTS,
            clusters=_TARGETS,
            kept=_COUNTS,
            waiting=_COUNTS,
            affinityName=TEXT,
            leftOut=_LEFT_OUT,
            warnings=_WARNINGS,
            inputs=struct(
                ("hash", "data"), hash=TEXT, fleet=TEXT, encoding=choice("json", "zlib"), data=TEXT
            ),
            version=TEXT,
        ),
        columns=(
            Column("Workload", "string", "{.spec.workload.kind}/{.spec.workload.name}"),
            Column("By", "string", ".spec.controller"),
            Column("Result", "string", ".spec.result"),
            Column("Reason", "string", ".spec.message"),
            AGE,
            Column("Inputs", "string", ".spec.inputs.hash", priority=1),
            Column("Version", "string", ".spec.version", priority=1),
        ),
    ),
    verbs=WRITTEN_ONCE,
)  # fmt: skip
FLEET_RECORD = replace(
    served(
        VERSION, "FleetRecord", "fleetrecords", "", namespaced=False,
        spec=struct(("data",), clusters=NUMBER, encoding=choice("json", "zlib"), data=TEXT),
        columns=(Column("Clusters", "integer", ".spec.clusters"), AGE),
    ),
    verbs=WRITTEN_ONCE,
)  # fmt: skip


def _review(kind: str, plural: str, spec: Schema, status: Schema) -> ServedKind:
    """A create-only kind; its `status` is the answer and no endpoint of its own."""
    made = served(VERSION, kind, plural, "", namespaced=False, spec=spec, status=status)
    return replace(made, verbs=REVIEW, subresources=(), has_status=False, categories=())


_DIFFERENCE = struct(("path",), path=TEXT, before=TEXT, after=TEXT)
_CHANGE = choice("Create", "Update", "Delete", "Unchanged")
PLACEMENT_PLAN = _review(
    "PlacementPlan", "placementplans",
    struct(("objects",), objects=array(ANY | {"x-kubernetes-embedded-resource": True}, minItems=1)),
    struct(
        objects=array(
            struct(
                object=_OBJECT,
                change=_CHANGE,
                policy=TEXT,
                result=TEXT,
                message=TEXT,
                leftOut=_LEFT_OUT,
                clusters=array(
                    struct(
                        ("name",), name=TEXT, before=NUMBER, after=NUMBER, kept=NUMBER, why=TEXT,
                        work=_CHANGE, differences=array(_DIFFERENCE), more=NUMBER,
                    )
                ),
                warnings=_WARNINGS,
            )
        ),
        changed=FLAG,
        warnings=array(TEXT),
    ),
)  # fmt: skip
_SUBJECT = struct(("kind", "name"), apiVersion=TEXT, kind=TEXT, namespace=TEXT, name=TEXT)
PLACEMENT_EXPLANATION = _review(
    "PlacementExplanation", "placementexplanations",
    struct(("workload",), workload=_SUBJECT, cluster=TEXT),
    struct(
        decision=TEXT, decidedAt=TIME, result=TEXT, message=TEXT, standing=FLAG, replays=TEXT,
        sentences=array(TEXT),
        clusters=array(
            struct(
                ("name",), name=TEXT, replicas=NUMBER, before=NUMBER, kept=NUMBER, room=LARGE,
                weight=NUMBER, group=TEXT, sentences=array(TEXT),
            )
        ),
        history=array(struct(("name",), name=TEXT, decidedAt=TIME, controller=TEXT, result=TEXT, message=TEXT)),
        warnings=_WARNINGS,
    ),
)  # fmt: skip
DECISION_REPLAY = _review(
    "DecisionReplay", "decisionreplays",
    struct(("name",), namespace=TEXT, name=TEXT),
    struct(same=FLAG, difference=TEXT, recorded=TEXT, replayed=TEXT, version=TEXT, recordedVersion=TEXT),
)  # fmt: skip

JOURNAL: tuple[ServedKind, ...] = (
    DECISION,
    FLEET_RECORD,
    PLACEMENT_PLAN,
    PLACEMENT_EXPLANATION,
    DECISION_REPLAY,
)
