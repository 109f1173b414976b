"""Karmada's recorded propagation, played through the deciding parts: claims, bindings, overrides, Works.

A case is a list of API writes. Policies and templates are kept as the API would keep them; after every case the bindings of
the detector and of the dependencies controller are asked for, their clusters are taken from the recording (placement has its own
recording), and the Works are rendered. A case `NAME.1` goes on from where `NAME.0` ended, as the recording did.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from federation.controllers import dependencies, detector, dispatcher, namespaces
from federation.placement.model import Candidate
from federation.propagation import claims, interpreter
from federation.propagation.admission.plugin import KarmadaKinds
from federation.propagation.overrides.policies import Overrides
from federation.propagation.templates import (
    CLUSTER_WIDE,
    DEPENDANTS,
    DEPENDENCIES,
    TEMPLATES,
    propagatable,
)
from federation.propagation.works import binding_name
from machinery.api import strategy
from machinery.api.decode import decode_body
from machinery.api.defaults import apply_defaults
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.policy import (
    ClusterOverridePolicy,
    ClusterPropagationPolicy,
    OverridePolicy,
    PropagationPolicy,
)
from machinery.api.fleet.work import CONFLICT_RESOLUTION, ResourceBinding
from machinery.api.kinds import BUILTIN
from machinery.api.patch.merge import apply as merge
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.validation import validate_create
from machinery.controller.action import Action, Create, Delete, Patch
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "karmada" / "propagation.jsonl").read_text().splitlines()
]
SCHEME = Scheme((*BUILTIN, *TEMPLATE_KINDS, *FLEET))
FLEET_OF_THREE = {
    "m1": Candidate("m1", {"env": "prod"}, region="r1"),
    "m2": Candidate("m2", {"env": "dev"}, region="r2"),
    "m3": Candidate("m3", {"env": "prod"}, region="r3"),
}

RULED_OUT = (
    "resourcetemplate.karmada.io/managed-annotations",
    "resourcetemplate.karmada.io/managed-labels",
    "resourcetemplate.karmada.io/generation",
    "resourcebinding.karmada.io/dependencies",
    "deployment.kubernetes.io/revision",
)
"""Book-keeping of Karmada's that has no counterpart: see DIFFERENCES.md."""
UUID = "<uuid>"
ID = "0c3e7d52-9d6b-4f0e-8a43-6f0f6e7b1a2d"


class OneId:
    """Ids as the recording masks them, in a form that a label can hold."""

    def uid(self) -> str:
        return ID

    def suffix(self, length: int = 5) -> str:
        return "x" * length


PRIORITY_CLASSES = {"high": 1000}
"""Made before the recording began."""
PLUGIN = KarmadaKinds(OneId())


@dataclass
class World:
    """What the API holds in one case."""

    objects: dict[tuple[str, str, str], Document] = field(default_factory=dict)
    bindings: dict[str, Document] = field(default_factory=dict)
    cluster_bindings: dict[str, Document] = field(default_factory=dict)
    works: dict[str, dict[str, Document]] = field(default_factory=dict)
    """By cluster and name."""
    failed: list[str] = field(default_factory=list)
    """Sentences on overrides that could not be applied."""

    def of_kind(self, kind: str, namespace: str | None = None) -> list[Document]:
        return [
            document
            for (one, where, _), document in sorted(self.objects.items())
            if one == kind and namespace in (None, where)
        ]


def store(world: World, document: Document) -> None:
    """A create, defaulted and judged as the API server does it; what is refused is not stored."""
    group, version = group_version(document["apiVersion"])
    kind = SCHEME.by_gvk(group, version, document["kind"])
    if kind is not None:
        metadata = document["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        if not kind.custom:
            body = json.dumps(document).encode()
            document = decode_body(kind, body, "application/json", "").document
        document = apply_defaults(kind, document)
        request = AdmissionRequest("create", kind, *place, "", document, None, caller())
        document = strategy.prepare_create(kind, PLUGIN.admit(request))
        if kind.custom and validate_create(kind, document):
            return
        request.document = document
        PLUGIN.validate(request)
        identified = document | {"metadata": document["metadata"] | {"uid": UUID}}
        document = strategy.stamped(kind, identified)
    metadata = document["metadata"] | {"uid": UUID}
    key = (document["kind"], metadata.get("namespace", ""), metadata["name"])
    world.objects[key] = document | {"metadata": metadata}


def admitted(document: Document, old: Document) -> Document:
    """A policy filled in again after an update; other kinds are as they were asked for."""
    group, version = group_version(document["apiVersion"])
    kind = SCHEME.by_gvk(group, version, document["kind"])
    if kind is None:
        return document
    document = apply_defaults(kind, document)
    metadata = document["metadata"]
    place = (metadata.get("namespace", ""), metadata["name"])
    request = AdmissionRequest("update", kind, *place, "", document, old, caller())
    return PLUGIN.admit(request)


def caller() -> Call:
    return Call(user=UserInfo("tester"))


def group_version(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


def write(world: World, operation: list[Any], namespace: str) -> None:
    """One recorded operation."""
    match operation:
        case ["create", document]:
            store(world, document)
        case ["patch", kind, name, patch]:
            key = key_of(world, kind, name, namespace)
            changed = merge(world.objects[key], patch)
            world.objects[key] = admitted(changed, world.objects[key])
        case ["delete", kind, name]:
            del world.objects[key_of(world, kind, name, namespace)]


def key_of(world: World, kind: str, name: str, namespace: str) -> tuple[str, str, str]:
    here = (kind, namespace, name)
    return here if here in world.objects else (kind, "", name)


# ------------------------------------------------------------------------------------------------------ our controllers
def settle(world: World, recorded: Document, namespace: str) -> None:
    """Detector, recorded placement, dependencies, dispatcher, until nothing changes any more."""
    world.failed.clear()
    for resource in TEMPLATES:
        for document in world.of_kind(resource.kind, namespace):
            detect(world, document, namespace)
    for resource in CLUSTER_WIDE:
        for document in world.of_kind(resource.kind):
            detect(world, document, "")
    placed(world.bindings, recorded.get("bindings", []))
    placed(world.cluster_bindings, recorded.get("clusterBindings", []))
    for resource in DEPENDENCIES:
        for document in world.of_kind(resource.kind, namespace):
            follow(world, document, namespace)
    for bindings in (world.bindings, world.cluster_bindings):
        gone = [n for n, b in bindings.items() if template_of(world, b) is None]
        for name in gone:
            del bindings[name]
    render(world, namespace)


def placed(bindings: dict[str, Document], recorded: list[Document]) -> None:
    """The clusters of the recording."""
    clusters = {b["name"]: b["spec"].get("clusters") for b in recorded}
    for name, binding in bindings.items():
        if binding["spec"].get("placement") is not None:
            given = {"clusters": clusters.get(name) or []}
            bindings[name] = binding | {"spec": binding["spec"] | given}


def view(binding: Document | None) -> ResourceBinding | None:
    return None if binding is None else msgspec.convert(binding, ResourceBinding)


def detect(world: World, template: Document, namespace: str) -> None:
    name = binding_name(template["kind"], template["metadata"]["name"])
    held = (world.bindings if namespace else world.cluster_bindings).get(name)
    own = [
        msgspec.convert(p, PropagationPolicy)
        for p in world.of_kind("PropagationPolicy", namespace)
        if namespace
    ]
    of_all = [
        msgspec.convert(p, ClusterPropagationPolicy)
        for p in world.of_kind("ClusterPropagationPolicy")
    ]
    claim = None
    if propagatable(template):
        marks = (held or {"metadata": {}})["metadata"].get("annotations") or {}
        overrides = [
            (where, name)
            for kind, where, name in world.objects
            if kind in ("OverridePolicy", "ClusterOverridePolicy")
        ]
        claim = claims.decide(template, marks, own, of_all, overrides)
    classes = {c["metadata"]["name"]: c["value"] for c in world.of_kind("PriorityClass")}
    classes |= PRIORITY_CLASSES
    do(world, detector.plan(template, claim, view(held), held, classes=classes))


def follow(world: World, template: Document, namespace: str) -> None:
    key = ObjectKey(namespace, template["metadata"]["name"])
    needed_by = []
    for workload in (one for r in DEPENDANTS for one in world.of_kind(r.kind, namespace)):
        found = view(
            world.bindings.get(binding_name(workload["kind"], workload["metadata"]["name"]))
        )
        if found is None or not found.spec.propagate_deps:
            continue
        if key in interpreter.dependencies(workload)[template["kind"]]:
            needed_by.append(found)
    held = world.bindings.get(binding_name(template["kind"], template["metadata"]["name"]))
    do(world, dependencies.plan(template, needed_by, view(held), held))


def do(world: World, actions: list[Action]) -> None:
    """What the executor and the API would make of them."""
    for action in actions:
        match action:
            case Create(document=document):
                binding = json.loads(json.dumps(document))
                binding["metadata"] |= {"uid": UUID, "resourceVersion": "1"}
                namespaced = "namespace" in binding["metadata"]
                held = world.bindings if namespaced else world.cluster_bindings
                held[binding["metadata"]["name"]] = binding
            case Patch(key=key, patch=patch):
                held = world.bindings if key.namespace else world.cluster_bindings
                held[key.name] = patched(held[key.name], patch)
            case Delete(key=key):
                held = world.bindings if key.namespace else world.cluster_bindings
                held.pop(key.name, None)


def patched(held: Document, patch: Any) -> Document:
    if isinstance(patch, dict):
        return merge(held, patch)  # type: ignore[no-any-return]
    spec = dict(held["spec"])
    for step in patch:
        name = step["path"].rpartition("/")[2]
        if step["op"] == "remove":
            spec.pop(name, None)
        else:
            spec[name] = step["value"]
    return held | {"spec": spec}


def template_of(world: World, binding: Document) -> Document | None:
    source = binding["spec"]["resource"]
    return world.objects.get((source["kind"], source.get("namespace", ""), source["name"]))


def render(world: World, namespace: str) -> None:
    everybody = Overrides(
        tuple(
            msgspec.convert(p, ClusterOverridePolicy)
            for p in world.of_kind("ClusterOverridePolicy")
        ),
        tuple(
            msgspec.convert(p, OverridePolicy) for p in world.of_kind("OverridePolicy", namespace)
        ),
    )
    works: dict[str, dict[str, Document]] = {}
    for document in world.of_kind("Namespace"):
        travelling = namespaces.wanted_works(
            document, document["metadata"]["name"], FLEET_OF_THREE, everybody, FLEET_OF_THREE
        )
        for cluster, work in travelling.works.items():
            works.setdefault(cluster, {})[work["metadata"]["name"]] = work
    for binding in (*world.bindings.values(), *world.cluster_bindings.values()):
        template = template_of(world, binding)
        found = view(binding)
        if template is None or found is None:
            continue
        overrides = everybody.of(template)
        held = held_by(world, found)
        made = dispatcher.rendered(found, template, FLEET_OF_THREE, held, overrides=overrides)
        world.failed += sorted({failure.why for failure in made.failed.values()})
        for cluster, work in made.works.items():
            works.setdefault(cluster, {})[work["metadata"]["name"]] = work
        for cluster in made.failed:
            kept = world.works.get(cluster, {})
            works.setdefault(cluster, {}).update(
                {n: w for n, w in kept.items() if n.startswith(template["metadata"]["name"])}
            )
    world.works = works


def held_by(world: World, binding: ResourceBinding) -> list[Document]:
    """The Works of the binding that are there."""
    works = (work for of_one in world.works.values() for work in of_one.values())
    return [work for work in works if binding.key in dispatcher.binding_keys(work)]


# ---------------------------------------------------------------------------------------------------------- comparison
def ours(world: World) -> Document:
    """What the case came to, in the recording's shape."""
    return {
        "bindings": sorted((binding_shape(b) for b in world.bindings.values()), key=by_name),
        "clusterBindings": sorted(map(binding_shape, world.cluster_bindings.values()), key=by_name),
        "works": {
            cluster: sorted((work_shape(w) for w in works.values()), key=by_name)
            for cluster, works in sorted(world.works.items())
            if works
        },
        "failed": sorted(world.failed),
    }


def by_name(shape: Document) -> str:
    return str(shape["name"])


def binding_shape(binding: Document) -> Document:
    metadata = binding["metadata"]
    return {
        "name": metadata["name"],
        "labels": sorted(metadata.get("labels") or ()),
        "annotations": unruled(metadata.get("annotations")),
        "ownerReferences": metadata["ownerReferences"],
        "spec": spec_shape(binding["spec"]),
    }


def spec_shape(spec: Document) -> Document:
    """Without fields at their default, which the schema of Karmada's kinds fills in and ours leaves out."""
    shape = {key: value for key, value in spec.items() if value not in (None, [], False, "")}
    resource = {k: v for k, v in shape["resource"].items() if k != "resourceVersion"}
    shape["resource"] = resource
    if shape.get("schedulerName") == "default-scheduler":
        del shape["schedulerName"]
    if shape.get("conflictResolution") == "Abort":
        del shape["conflictResolution"]
    if shape.get("suspension") in ({}, {"dispatching": False}):
        del shape["suspension"]
    return shape


def unruled(annotations: Any) -> Document:
    return {k: v for k, v in (annotations or {}).items() if k not in RULED_OUT}


def masked(labels: Any) -> Document:
    return {k: UUID if k.endswith("/permanent-id") else v for k, v in (labels or {}).items()}


def on_work(annotations: Any, manifests: list[Document]) -> Document:
    """Of the Work of a Namespace, Karmada leaves out how conflicts are resolved: they are not looked for."""
    travels_alone = manifests[0]["kind"] == "Namespace"
    return {
        k: v
        for k, v in unruled(annotations).items()
        if not (travels_alone and k == CONFLICT_RESOLUTION)
    }


def work_shape(work: Document) -> Document:
    metadata, spec = work["metadata"], work["spec"]
    manifests = spec["workload"]["manifests"]
    return {
        "name": metadata["name"],
        "labels": sorted(metadata["labels"]),
        "annotations": on_work(metadata["annotations"], manifests),
        "suspended": spec["suspendDispatching"],
        "preserved": spec["preserveResourcesOnDeletion"],
        "manifests": [manifest_shape(m) for m in manifests],
    }


def manifest_shape(manifest: Document) -> Document:
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = on_work(metadata.get("annotations"), [manifest])
    metadata["labels"] = masked(metadata.get("labels"))
    shape = manifest | {"metadata": metadata}
    if manifest["kind"] == "Namespace":
        shape.pop("spec", None)  # its finalizers are the member's own
    return shape


def recorded(case: Document) -> Document:
    """The same of the recording: only what is not going any more, and only what this runner makes."""
    output = case["output"]
    works: dict[str, list[Document]] = {}
    for cluster, held in output.get("works", {}).items():
        found = [w for w in here(output["works"], cluster, held) if not w.get("deleting")]
        shapes = [recorded_work(w) for w in found]
        if shapes:
            works[cluster] = sorted(shapes, key=by_name)
    failures = [e for e in output.get("events", []) if e["reason"] == "SyncWorkFailed"]
    return {
        "bindings": [recorded_binding(b) for b in output.get("bindings", [])],
        "clusterBindings": [recorded_binding(b) for b in output.get("clusterBindings", [])],
        "works": works,
        "failed": sorted({e["message"] for e in failures}),
    }


def here(works: Document, cluster: str, held: Any) -> list[Document]:
    if isinstance(held, str):
        other = held.removeprefix("same as ")
        text = json.dumps(works[other]).replace(f"karmada-es-{other}", f"karmada-es-{cluster}")
        return list(json.loads(text))
    return list(held)


def recorded_work(work: Document) -> Document:
    return {
        "name": work["name"],
        "labels": sorted(work["labels"]),
        "annotations": on_work(work.get("annotations"), work["manifests"]),
        "suspended": work.get("suspendDispatching", False),
        "preserved": work.get("preserveResourcesOnDeletion", False),
        "manifests": [manifest_shape(m) for m in work["manifests"]],
    }


def recorded_binding(binding: Document) -> Document:
    if "labels" not in binding:
        return {k: binding[k] for k in ("name", "spec")}  # this group is cut down in the recording
    own = [k for k in binding["labels"] if "/depended-by-" not in k]
    return {
        "name": binding["name"],
        "labels": sorted(
            k for k in own if not k.endswith("resourcebinding.karmada.io/permanent-id")
        ),
        "annotations": unruled(binding.get("annotations")),
        "ownerReferences": binding["ownerReferences"],
        "spec": spec_shape(binding["spec"]),
    }


def cut_down(mine: Document, wanted: Document) -> Document:
    """Our bindings with what the recording has of them; Events that it was cut down by are not there to compare."""
    if not wanted["bindings"] or "labels" in wanted["bindings"][0]:
        return mine
    mine = mine if wanted["failed"] else mine | {"failed": []}
    brief = []
    for binding in mine["bindings"]:
        spec = {k: binding["spec"][k] for k in ("clusters", "replicas") if k in binding["spec"]}
        brief.append({"name": binding["name"], "spec": spec})
    return mine | {"bindings": brief}


def plays() -> Iterator[tuple[Document, Document, Document]]:
    """Each case with our outcome and the recorded one."""
    worlds: dict[str, World] = {}
    for case in CASES:
        name = case["id"].partition(".")[0]
        namespace = case["namespace"]
        world = worlds.setdefault(name, World())
        setup, output = case["input"]["setup"], case["output"]
        for document in setup if isinstance(setup, list) else []:
            store(world, document)
        for operation in case["input"]["ops"]:
            write(world, operation, namespace)
        settle(world, output, namespace)
        wanted = recorded(case)
        yield case, cut_down(ours(world), wanted), wanted
