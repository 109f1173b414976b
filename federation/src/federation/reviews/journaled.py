"""DecisionReplay and PlacementExplanation: whether a journaled decision comes out the same today, and why a workload is where it is.

Both read as the caller: what it may not read it is not told. Only the fleet's record, which the caller could not read, is read for
it, and of that nothing but the answer is shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from federation import __version__
from federation.clusters.candidates import candidates
from federation.controllers.journal import OF_CLUSTER_OBJECTS
from federation.placement import journal
from federation.placement.explain import Cluster, Report, explain
from federation.placement.journal import JournalError
from federation.placement.model import Request
from federation.propagation import components, moves, questions
from federation.propagation.replays import QUOTA, Limited, inputs_of, replays
from federation.propagation.works import binding_name
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.decision import DECISIONS, FLEET_RECORDS, Decision, FleetRecord
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.api.scheme import ServedKind
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import rfc3339
from machinery.meta.errors import BadRequest, NotFound, not_found
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.app import ApiServer
from machinery.server.call import Call

PLACING = frozenset({*journal.PLACEMENTS, QUOTA})
"""Functions that say where a workload shall be."""
AS_DOCUMENTS: Resource[Document] = dynamic(
    "ubernetes.io", "v1alpha1", "decisions", "Decision", True
)
RECORD_DOCUMENTS: Resource[Document] = dynamic(
    "ubernetes.io", "v1alpha1", "fleetrecords", "FleetRecord", False
)


class Replayer:
    """DecisionReplay."""

    def __init__(self, server: Callable[[], ApiServer]) -> None:
        self._server = server

    async def review(self, body: Document, call: Call) -> Document:
        """Raises NotFound, BadRequest, Forbidden."""
        server = self._server()
        spec = body.get("spec") or {}
        namespace, name = text(spec, "namespace"), text(spec, "name")
        if not name:
            raise BadRequest("spec.name: give the name of a Decision, or the last part of it")
        client = server.client(call.user, "decision-replay")
        document = await found(client, namespace, name)
        fleet = document["spec"]["inputs"].get("fleet", "")
        records = await _record(server, fleet)
        difference = replays(document, records.get)
        status = {
            "same": not difference,
            "difference": difference,
            "recorded": document["spec"].get("message", ""),
            "version": __version__,
            "recordedVersion": document["spec"].get("version", ""),
        }
        metadata = document["metadata"]
        whole = {"namespace": metadata["namespace"], "name": metadata["name"]}
        return {
            **body,
            "metadata": body.get("metadata") or {},
            "spec": whole,
            "status": {key: value for key, value in status.items() if value != ""},
        }


async def found(client: Client, namespace: str, name: str) -> Document:
    """The Decision of that name, or the only one whose name ends in it. Raises NotFound, BadRequest."""
    if namespace:
        try:
            return await client.get(AS_DOCUMENTS, ObjectKey(namespace, name))
        except NotFound:
            pass
    listing = await client.list(AS_DOCUMENTS, namespace)
    ends = [
        d
        for d in listing.items
        if d["metadata"]["name"] == name or d["metadata"]["name"].endswith(f"-{name}")
    ]
    if not ends:
        raise not_found(DECISIONS.plural, DECISIONS.group, name)
    if len(ends) > 1:
        names = ", ".join(f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in ends[:5])
        raise BadRequest(f"spec.name: {name} is the end of several: {names}")
    return ends[0]


async def _record(server: ApiServer, name: str) -> dict[str, Document]:
    if not name:
        return {}
    try:
        held = await server.client(manager="decision-replay").get(
            RECORD_DOCUMENTS, ObjectKey("", name)
        )
    except NotFound:
        return {}
    return {name: held}


def text(spec: Document, field: str) -> str:
    """A field that is text or absent. Raises BadRequest."""
    value = spec.get(field, "")
    if not isinstance(value, str):
        raise BadRequest(f"spec.{field}: must be a string")
    return value


# ---------------------------------------------------------------------------------------------------------- explaining
@dataclass(frozen=True, slots=True)
class Subject:
    """A workload, its binding and what the journal holds of it, the newest first."""

    key: ObjectKey
    kind: ServedKind
    binding: ResourceBinding | None
    decisions: Sequence[Decision]


class Explainer:
    """PlacementExplanation."""

    def __init__(self, server: Callable[[], ApiServer]) -> None:
        self._server = server

    async def review(self, body: Document, call: Call) -> Document:
        """Raises NotFound, BadRequest, Forbidden."""
        server = self._server()
        subject = await self._subject(server, body, call)
        only = text(body.get("spec") or {}, "cluster")
        status = await self._status(server, subject)
        if only:
            listed = [one for one in status.get("clusters", ()) if one["name"] == only]
            if not listed:
                known = ", ".join(c["name"] for c in status.get("clusters", ())) or "none"
                raise BadRequest(
                    f"spec.cluster: the decision knows no cluster {only!r}, it knows {known}"
                )
            status["clusters"] = listed
        spec, metadata = body.get("spec") or {}, body.get("metadata") or {}
        workload = spec["workload"] | {"namespace": subject.key.namespace}
        whole = spec | {"workload": {k: v for k, v in workload.items() if v}}
        return {**body, "metadata": metadata, "spec": whole, "status": status}

    async def _subject(self, server: ApiServer, body: Document, call: Call) -> Subject:
        workload = (body.get("spec") or {}).get("workload")
        if not isinstance(workload, dict):
            raise BadRequest("spec.workload: say kind, namespace and name")
        kind = served(server, text(workload, "kind"), text(workload, "apiVersion"))
        namespace = (text(workload, "namespace") or "default") if kind.namespaced else ""
        key = ObjectKey(namespace, text(workload, "name"))
        client = server.client(call.user, "placement-explanation")
        resource = dynamic(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced)
        _ = await client.get(resource, key)  # its reader may know why it is where it is
        name = binding_name(kind.kind, key.name)
        decisions = (await client.list(DECISIONS, key.namespace or OF_CLUSTER_OBJECTS)).items
        own = [d for d in decisions if d.spec.binding.name == name]
        own.sort(key=lambda d: str(d.spec.decided_at), reverse=True)
        try:
            own_key = ObjectKey(key.namespace, name)
            binding = await server.client().get(binding_resource(own_key), own_key)
        except NotFound:
            binding = None
        return Subject(key, kind, binding, own)

    async def _status(self, server: ApiServer, subject: Subject) -> Document:
        binding = subject.binding
        if binding is None or binding.spec.placement is None:
            return {"message": unplaced(subject), "sentences": [unplaced(subject)]}
        placement = next((d for d in subject.decisions if d.spec.function in PLACING), None)
        status: Document = {"history": [told(d) for d in subject.decisions]}
        if placement is None:
            fleet = candidates((await server.client().list(CLUSTERS)).items)
            report = explain(questions.request_of(binding, fresh=False), fleet)
            said = "the journal has no decision of it; this is how it would be decided now, with what is placed kept"
            status |= {"standing": False, "message": said}
            return status | reported(report, binding, said)
        status |= placement_told(placement, binding)
        try:
            asked = inputs_of(placement, await _fleet(server, placement.spec.inputs.fleet))
        except JournalError as error:
            return status | {"sentences": [f"it cannot be explained any more: {error}"]}
        values = asked.values
        request: Request = values.request if isinstance(values, Limited) else values
        if placement.spec.function == journal.MOST:
            request = _short(request, placement)
        report = explain(request, asked.fleet)
        document = await server.client().get(AS_DOCUMENTS, placement.key)
        records = await _record(server, placement.spec.inputs.fleet)
        differing = replays(document, records.get)
        return status | {"replays": differing or "same"} | reported(report, binding, "")


def _short(request: Request, decision: Decision) -> Request:
    """The question for as many replicas as found room."""
    return replace(request, replicas=sum(t.replicas for t in decision.spec.clusters))


async def _fleet(server: ApiServer, name: str) -> FleetRecord | None:
    if not name:
        return None
    try:
        return await server.client().get(FLEET_RECORDS, ObjectKey("", name))
    except NotFound:
        return None


def served(server: ApiServer, kind: str, api_version: str) -> ServedKind:
    """The kind of that name. Raises BadRequest."""
    for one in server.scheme.kinds:
        fits = not api_version or one.api_version == api_version
        if one.kind == kind and fits and one.storable:
            return one
    what = f"{api_version} {kind}".strip()
    raise BadRequest(f"spec.workload.kind: the federation has no kind {what!r}")


def unplaced(subject: Subject) -> str:
    """Why there is nothing to explain."""
    what = f"{subject.kind.kind} {subject.key}"
    if subject.binding is None:
        return f"{what} has no binding: no policy claims it, or it is of a kind that stays at the federation"
    if needing := subject.binding.spec.required_by:
        names = ", ".join(sorted(f"{one.namespace}/{one.name}" for one in needing))
        return (
            f"{what} has no placement of its own: it goes wherever those go that need it ({names})"
        )
    return f"no policy claims {what} any more: what runs stays where it is"


def told(decision: Decision) -> Document:
    """One line of the history."""
    spec = decision.spec
    found = {
        "name": decision.metadata.name,
        "controller": spec.controller,
        "result": spec.result,
        "message": spec.message,
    }
    if spec.decided_at is not None:
        found["decidedAt"] = rfc3339(spec.decided_at)
    return found


def placement_told(decision: Decision, binding: ResourceBinding) -> Document:
    """What the decision said, and whether it stands."""
    spec = decision.spec
    stands = components.placed(binding)
    found: Document = {
        "decision": decision.metadata.name,
        "result": spec.result,
        "message": spec.message,
        "standing": bool(spec.clusters) and stands == {t.name: t.replicas for t in spec.clusters},
    }
    if spec.decided_at is not None:
        found["decidedAt"] = rfc3339(spec.decided_at)
    if spec.warnings:
        found["warnings"] = [{"reason": w.reason, "message": w.message} for w in spec.warnings]
    return found


def reported(report: Report, binding: ResourceBinding, first: str) -> Document:
    """The report, with what stands beside the decision."""
    kept = moves.kept(binding)
    clusters = [_cluster(one, kept.get(one.name, 0)) for one in report.clusters]
    return {
        "sentences": [*([first] if first else []), *report.sentences],
        "clusters": [{k: v for k, v in c.items() if v not in (None, "", [])} for c in clusters],
    }


def _cluster(one: Cluster, kept: int) -> Document:
    sentences = list(one.sentences)
    if kept:
        sentences.append(
            f"it keeps {kept} besides, until as many are ready elsewhere or it is seen again"
        )
    return {
        "name": one.name,
        "replicas": one.replicas,
        "before": one.before,
        "kept": kept or None,
        "room": one.room,
        "weight": one.weight,
        "group": one.group,
        "sentences": sentences,
    }
