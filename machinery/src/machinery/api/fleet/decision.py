"""`ubernetes.io/v1alpha1` Decision and FleetRecord: the journal of what was decided, by whom, of what, and with which answer.

What is inside `inputs.data` is the federation's business (`federation.placement.journal`); here it is text. A FleetRecord is
named after the hash of its content.
"""

import datetime as dt

from machinery.api.core import ObjectReference
from machinery.api.fleet.work import TargetCluster
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Document, Resource

JSON, ZLIB = "json", "zlib"


class DecidedBinding(View):
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class DecisionInputs(View):
    """`data` is JSON, or that packed by zlib and written in base64. `fleet`: the FleetRecord that it goes out from."""

    hash: str = ""
    fleet: str = ""
    encoding: str = JSON
    data: str = ""


class LeftOut(View):
    reason: str
    clusters: tuple[str, ...] = ()


class DecisionWarning(View):
    reason: str
    message: str


class DecisionSpec(View):
    controller: str = ""
    workload: ObjectReference = ObjectReference()
    binding: DecidedBinding = DecidedBinding()
    decided_at: dt.datetime | None = None
    question: str = ""
    function: str = ""
    result: str = ""
    message: str = ""
    before: dict[str, int] = {}
    clusters: tuple[TargetCluster, ...] = ()
    kept: dict[str, int] = {}
    waiting: dict[str, int] = {}
    affinity_name: str = ""
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[DecisionWarning, ...] = ()
    inputs: DecisionInputs = DecisionInputs()
    version: str = ""


class Decision(Object):
    spec: DecisionSpec = DecisionSpec()


class RecordedInputs(View):
    fleet: str = ""


class RecordedSpec(View):
    binding: DecidedBinding = DecidedBinding()
    decided_at: dt.datetime | None = None
    inputs: RecordedInputs = RecordedInputs()


class Recorded(Object):
    """As much of a Decision as keeping house needs: the journal's own copy of thousands stays small."""

    spec: RecordedSpec = RecordedSpec()


class FleetRecordSpec(View):
    clusters: int = 0
    encoding: str = JSON
    data: str = ""


class FleetRecord(Object):
    spec: FleetRecordSpec = FleetRecordSpec()


_GROUP_VERSION = ("ubernetes.io", "v1alpha1")
DECISIONS: Resource[Decision] = Resource(*_GROUP_VERSION, "decisions", "Decision", True, Decision)
RECORDED: Resource[Recorded] = Resource(*_GROUP_VERSION, "decisions", "Decision", True, Recorded)
FLEET_RECORDS: Resource[FleetRecord] = Resource(
    *_GROUP_VERSION, "fleetrecords", "FleetRecord", False, FleetRecord
)
PLACEMENT_PLANS: Resource[Document] = Resource(
    *_GROUP_VERSION, "placementplans", "PlacementPlan", False, dict
)
PLACEMENT_EXPLANATIONS: Resource[Document] = Resource(
    *_GROUP_VERSION, "placementexplanations", "PlacementExplanation", False, dict
)
DECISION_REPLAYS: Resource[Document] = Resource(
    *_GROUP_VERSION, "decisionreplays", "DecisionReplay", False, dict
)
