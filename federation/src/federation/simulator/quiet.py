"""What must hold when every fault is healed and time has passed: the fleet is what users asked for, and nothing else.

placed      every Deployment and every Gadget has an answered binding, or there is truly no room
works       there is a Work exactly where a binding or a namespace says, with the template as it is now
members     every member holds exactly what its Works say
status      a Deployment's status is the sum of what runs in its members
leftovers   no binding, Work, record or object of something that was deleted
moves       every move is over, or waits for replicas that are not ready
ready       every member is Ready and carries no taint
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from federation.controllers import dispatcher
from federation.propagation import moves
from federation.propagation.templates import propagatable, unsynced_namespace
from federation.propagation.works import binding_name
from federation.simulator import workload
from federation.simulator.kinds import GADGET, PLURALS, SIZED
from federation.simulator.kubelet import is_fenced, template_annotations
from federation.simulator.member import DEFINITION, Member, Ref
from federation.simulator.rules import Broken, answered, view
from federation.simulator.seen import Seen, condition_of, free_pods, ready
from federation.simulator.workload import wanted_of
from machinery.api.fleet.cluster import execution_namespace
from machinery.api.fleet.resilience import EPOCH, GRANT_SECONDS, GRANT_WORK
from machinery.api.fleet.work import TEMPLATE_GENERATION, TEMPLATE_UID, ResourceBinding
from machinery.meta.resource import Document, ObjectKey, document_key

COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
PLACED_KINDS = PLURALS | {"ConfigMap": "configmaps"}
WIDE_KINDS = {"ClusterRole": "clusterroles", DEFINITION: "customresourcedefinitions"}
SUMMED = {"Deployment": COUNTS, GADGET: ("replicas", "readyReplicas")}


def check(seen: Seen, members: Mapping[str, Member]) -> None:
    """Raises Broken."""
    for name, cluster in seen.of("clusters").items():
        if ready(cluster) != "True" or cluster["spec"].get("taints"):
            raise Broken("ready", f"{name} is {ready(cluster)}, {cluster['spec'].get('taints')}")
    bindings = {
        key: view(document)
        for plural in ("resourcebindings", "clusterresourcebindings")
        for key, document in seen.of(plural).items()
    }
    for kind in SIZED:
        _placed(seen, bindings, kind)
    _placing(seen, bindings)
    _moved(bindings)
    _records(seen)
    wanted = _expected(seen, bindings, sorted(members))
    _works(seen, wanted)
    works: dict[str, list[tuple[ObjectKey, Document]]] = {}
    for key, work in seen.of("works").items():
        works.setdefault(key.namespace, []).append((key, work))
    for member in members.values():
        _member(works.get(execution_namespace(member.name), ()), member)
    _statuses(seen, bindings, members)


def _sized(
    seen: Seen, bindings: Mapping[ObjectKey, ResourceBinding], kind: str
) -> Iterator[tuple[Document, ResourceBinding]]:
    """Every workload of the kind and its binding. Raises Broken."""
    for key, document in seen.of(PLURALS[kind]).items():
        binding = bindings.get(ObjectKey(key.namespace, binding_name(kind, key.name)))
        if binding is None:
            raise Broken("placed", f"{kind} {key} has no binding")
        yield document, binding


NO_ROOM = ("Unschedulable", "SchedulerError")
"""What a binding says that fits nowhere; the second where only so many clusters are allowed, as Karmada says it."""


def _most(seen: Seen, binding: ResourceBinding) -> int:
    """Replicas that there is room for in as many clusters as are allowed, what it holds there included."""
    held = {target.name: target.replicas for target in binding.spec.clusters}
    clusters = seen.of("clusters").items()
    rooms = sorted((free_pods(c) + held.get(key.name, 0) for key, c in clusters), reverse=True)
    placement = binding.spec.placement
    spreads = placement.spread_constraints if placement is not None else ()
    few = [s.max_groups for s in spreads if s.spread_by_field == "cluster" and s.max_groups]
    return sum(rooms[: min(few)] if few else rooms)


def _placed(seen: Seen, bindings: Mapping[ObjectKey, ResourceBinding], kind: str) -> None:
    for document, binding in _sized(seen, bindings, kind):
        key, asked = document_key(document), wanted_of(document)
        if binding.spec.replicas != asked:
            raise Broken("placed", f"{key} asks {asked}, its binding {binding.spec.replicas}")
        scheduled = condition_of(seen.of("resourcebindings")[binding.key], "Scheduled")
        if scheduled.get("status") == "True" and answered(binding):
            continue
        room = _most(seen, binding)
        if scheduled.get("reason") not in NO_ROOM or room >= asked:
            why = f"{scheduled.get('reason')}: {scheduled.get('message')}"
            raise Broken("placed", f"{key} ({asked}) is not placed, where {room} have room: {why}")


def _placing(seen: Seen, bindings: Mapping[ObjectKey, ResourceBinding]) -> None:
    """Every binding has what it places, and objects of a cluster have theirs."""
    for key, binding in bindings.items():
        source = binding.spec.resource
        plural = (PLACED_KINDS | WIDE_KINDS)[source.kind]
        template = seen.of(plural).get(ObjectKey(source.namespace, source.name))
        if template is None or template["metadata"]["uid"] != source.uid:
            raise Broken("leftovers", f"binding {key} has no template")
    for kind, template in _wide(seen):
        key = ObjectKey("", binding_name(kind, template["metadata"]["name"]))
        if key not in bindings or not bindings[key].spec.clusters:
            raise Broken("placed", f"{kind} {template['metadata']['name']} is nowhere")


def _wide(seen: Seen) -> Iterator[tuple[str, Document]]:
    """Objects of a cluster that users wrote."""
    for kind, plural in WIDE_KINDS.items():
        for document in seen.of(plural).values():
            if propagatable(document) and not document["metadata"]["name"].startswith("cluster-"):
                yield kind, document


def _divided(binding: ResourceBinding) -> bool:
    scheduling = binding.spec.placement.replica_scheduling if binding.spec.placement else None
    return scheduling is not None and scheduling.replica_scheduling_type == "Divided"


def _moved(bindings: Mapping[ObjectKey, ResourceBinding]) -> None:
    for key, binding in bindings.items():
        tasks = binding.spec.graceful_eviction_tasks
        if not tasks:
            continue
        ready_now = sum(
            int((item.status or {}).get("readyReplicas") or 0)
            for item in binding.status.aggregated_status
        )
        decided = sum(t.replicas for t in binding.spec.clusters)
        left = [f"{t.from_cluster} ({t.reason}, {t.replicas})" for t in tasks]
        if moves.evicting(binding) or (answered(binding) and ready_now > decided):
            raise Broken("moves", f"{key} still moves {left}, {ready_now} of {decided} are ready")


def _records(seen: Seen) -> None:
    uids = {d["metadata"]["uid"] for d in seen.of("deployments").values()}
    for key, record in seen.of("replicasets").items():
        (owner,) = record["metadata"]["ownerReferences"]
        if owner["uid"] not in uids:
            raise Broken("leftovers", f"ReplicaSet {key} records a Deployment that is gone")


def _expected(
    seen: Seen, bindings: Mapping[ObjectKey, ResourceBinding], members: Sequence[str]
) -> dict[tuple[str, Ref], tuple[Document, int | None]]:
    """(cluster, object) -> (template, replicas) by what users wrote and what was decided."""
    wanted: dict[tuple[str, Ref], tuple[Document, int | None]] = {}
    everywhere = [
        *(
            ("Namespace", d)
            for k, d in seen.of("namespaces").items()
            if not unsynced_namespace(k.name)
        ),
        *(("ClusterNetwork", d) for d in seen.of("clusternetworks").values()),
    ]
    for kind, document in everywhere:
        for member in members:
            wanted[member, Ref(kind, document_key(document))] = (document, None)
    for kind, document in _wide(seen):
        ref = Ref(kind, document_key(document))
        for cluster in dispatcher.asked(bindings[ObjectKey("", binding_name(*ref.named))]):
            wanted[cluster, ref] = (document, None)
    for kind in SIZED:
        for document, binding in _sized(seen, bindings, kind):
            needed = _needed(seen, document) if kind == "Deployment" else {}
            for cluster, count in dispatcher.asked(binding).items():
                wanted[cluster, Ref(kind, document_key(document))] = (document, count)
                wanted |= {(cluster, ref): (config, None) for ref, config in needed.items()}
    return wanted


def _needed(seen: Seen, deployment: Document) -> dict[Ref, Document]:
    """The ConfigMaps that a Deployment refers to, as far as they are there."""
    namespace, held = document_key(deployment).namespace, seen.of("configmaps")
    keys = (ObjectKey(namespace, name) for name in _configs(deployment))
    return {Ref("ConfigMap", key): held[key] for key in keys if key in held}


def _configs(deployment: Document) -> list[str]:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return [s["configMapRef"]["name"] for c in containers for s in c.get("envFrom") or ()]


def _works(seen: Seen, wanted: Mapping[tuple[str, Ref], tuple[Document, int | None]]) -> None:
    found: dict[tuple[str, Ref], Document] = {}
    for key, work in seen.of("works").items():
        (manifest,) = work["spec"]["workload"]["manifests"]
        cluster = key.namespace.removeprefix(execution_namespace(""))
        if work["metadata"].get("deletionTimestamp"):
            raise Broken("works", f"Work {key} is still being deleted")
        found[cluster, Ref(manifest["kind"], document_key(manifest))] = manifest
    for extra in sorted(found.keys() - wanted.keys()):
        raise Broken("leftovers", f"there is a Work for {extra}, which nobody wants there")
    for missing in sorted(wanted.keys() - found.keys()):
        raise Broken("works", f"there is no Work for {missing}")
    for where, (template, count) in sorted(wanted.items(), key=lambda item: item[0]):
        _carries(where, found[where], template, count)


def _carries(
    where: tuple[str, Ref], manifest: Document, template: Document, count: int | None
) -> None:
    annotations = manifest["metadata"]["annotations"]
    if annotations[TEMPLATE_UID] != template["metadata"]["uid"]:
        raise Broken("works", f"the Work for {where} is of an older object of that name")
    generation = str(template["metadata"].get("generation", 0))
    if annotations[TEMPLATE_GENERATION] != generation:
        raise Broken("works", f"the Work for {where} is not of generation {generation}")
    for part in ("data", "rules"):
        if manifest.get(part) != template.get(part):
            raise Broken("works", f"the Work for {where} has old {part}")
    if count is None:
        return
    spec = template["spec"] | {SIZED[template["kind"]]: count}
    if is_fenced(manifest):
        spec["template"] = fenced_template(manifest, spec["template"])
    if manifest["spec"] != spec:
        raise Broken("works", f"the Work for {where} has not the spec of its template")


def fenced_template(manifest: Document, template: Document) -> Document:
    """The pod template with the marks of mode consistency, which only the Work has."""
    told = template_annotations(manifest)
    marks = {name: told[name] for name in (EPOCH, GRANT_SECONDS, GRANT_WORK)}
    metadata = template.get("metadata") or {}
    annotations = (metadata.get("annotations") or {}) | marks
    return template | {"metadata": metadata | {"annotations": annotations}}


def _member(works: Iterable[tuple[ObjectKey, Document]], member: Member) -> None:
    """`works`: those of this member."""
    wanted: dict[Ref, Document] = {}
    for key, work in works:
        (manifest,) = work["spec"]["workload"]["manifests"]
        wanted[Ref(manifest["kind"], document_key(manifest))] = manifest
        applied = condition_of(work, "Applied")
        if applied.get("status") != "True":
            why = applied.get("message", "not tried")
            raise Broken("members", f"{member.name} has not applied {key}: {why}")
    for extra in sorted(member.objects.keys() - wanted.keys()):
        raise Broken("leftovers", f"{member.name} still has {extra}")
    for missing in sorted(wanted.keys() - member.objects.keys()):
        raise Broken("members", f"{member.name} has no {missing}")
    for ref, manifest in wanted.items():
        if member.objects[ref].manifest != manifest:
            raise Broken("members", f"{member.name} has an old {ref}")


def _statuses(
    seen: Seen, bindings: Mapping[ObjectKey, ResourceBinding], members: Mapping[str, Member]
) -> None:
    for kind in SIZED:
        for template, binding in _sized(seen, bindings, kind):
            _status(template, binding, members)


def _status(template: Document, binding: ResourceBinding, members: Mapping[str, Member]) -> None:
    kind, key = template["kind"], document_key(template)
    truth = dict.fromkeys(SUMMED[kind], 0)
    for cluster in dispatcher.asked(binding):
        member = members[cluster]
        ref = Ref(kind, key)
        running = member.objects[ref].running
        assert running is not None
        reported = workload.status(running, member.now(), member.counts(ref))
        for name in truth:
            truth[name] += reported.get(name, 0)
    status = template.get("status") or {}
    told = {name: status.get(name, 0) for name in truth}
    if told != truth:
        raise Broken("status", f"{kind} {key} is told as {told}, but it is {truth}")
    if kind == "Deployment":
        _progress(template, binding, truth)


def _progress(deployment: Document, binding: ResourceBinding, truth: Mapping[str, int]) -> None:
    key, status = document_key(deployment), deployment.get("status") or {}
    asked = wanted_of(deployment)
    if binding.spec.placement is not None and not _divided(binding):
        asked *= max(1, len(binding.spec.clusters))
    placed = sum(t.replicas for t in binding.spec.clusters) == asked
    generation = deployment["metadata"]["generation"]
    if placed and status.get("observedGeneration") != generation:
        seen_generation = status.get("observedGeneration")
        raise Broken("status", f"{key} is at generation {generation}, told {seen_generation}")
    complete = truth["availableReplicas"] == truth["updatedReplicas"] == truth["replicas"]
    if placed and complete and truth["replicas"] == asked:
        reason = condition_of(deployment, "Progressing").get("reason")
        if reason != "NewReplicaSetAvailable":
            raise Broken("status", f"{key} is complete, but Progressing says {reason}")
