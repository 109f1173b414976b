"""Karmada's recorded statuses, played through the deciding parts: what a member reports, and what the federation makes of it.

A conversation `NAME.0`, `NAME.1` … begins with a template and goes on with writes: to the template, to its policy, to a member's
object or its status. After each step bindings and Works are made as in `karmada_propagation`; a member's object takes what its
Work says, and is read as its API server would give it out. Then the link's plan makes the Work's status, and the controller
`statuses` the binding's and the template's. Clusters of a binding and the generation of a member's object (how often Karmada
writes it is its own) are taken from the recording.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.golden.karmada_propagation import (
    SCHEME,
    UUID,
    World,
    detect,
    group_version,
    store,
    view,
    write,
)

from cluster_agent.link import works as link
from cluster_agent.link.agreement import is_mark
from cluster_agent.link.member import Outcome, conflict, identifier, let_go
from federation.controllers import dispatcher, statuses
from federation.placement.model import Candidate
from federation.propagation.templates import resource_of
from machinery.api import strategy
from machinery.api.decode import decode_body
from machinery.api.defaults import apply_defaults
from machinery.api.fleet.reflection import retained
from machinery.api.fleet.work import MANAGED_LABEL, RESOURCE_BINDINGS, Work
from machinery.api.patch.merge import apply as merge
from machinery.api.scheme import ServedKind
from machinery.controller.action import SetStatus
from machinery.meta.resource import Document

GROUPS = (
    "deploy", "sts", "ds", "job", "cronjob", "ing", "hpa", "svc", "cm", "pod", "divided", "conflict",
    "suspend", "delete",
)  # fmt: skip
"""Of these conversations; the others are about evictions, taints, rebalancing and quotas."""
FLEET = {name: Candidate(name) for name in ("p1", "p2")}
MORE = {
    "Deployment": ("conditions", "unavailableReplicas"),
    "StatefulSet": ("observedGeneration",),
}
"""What ours says more, or otherwise on purpose, of a template's status; see DIFFERENCES.md."""
REPORTED_MORE = {
    "Deployment": ("conditions", "collisionCount"),
    "StatefulSet": ("observedGeneration",),
}
"""The same of a member's report."""
SEEN = dict.fromkeys(FLEET, True)
NOW = "2026-01-01T00:00:00Z"
LINES = [
    json.loads(line)
    for line in (Path(__file__).parent / "karmada" / "status.jsonl").read_text().splitlines()
]


@dataclass
class Fleet:
    """The federation in `world`, and the members' objects by cluster."""

    namespace: str
    template: tuple[str, str, str]
    world: World = field(default_factory=World)
    works: dict[str, Document] = field(default_factory=dict)
    """By cluster, with their status."""
    members: dict[str, Document] = field(default_factory=dict)


def conversations() -> Iterator[list[Document]]:
    """The lines of each conversation, in order."""
    found: dict[str, list[Document]] = {}
    for line in LINES:
        if line["group"] in GROUPS:
            found.setdefault(line["id"].rpartition(".")[0], []).append(line)
    for lines in found.values():
        yield sorted(lines, key=lambda line: int(line["id"].rpartition(".")[2]))


def plays() -> Iterator[tuple[Document, Document, Document]]:
    """Each line, what it comes to here, and what was recorded."""
    for lines in conversations():
        first = lines[0]["input"]
        template = first["template"]
        key = (template["kind"], template["metadata"]["namespace"], template["metadata"]["name"])
        fleet = Fleet(lines[0]["namespace"], key)
        for line in lines:
            step(fleet, line)
            yield line, ours(fleet), recorded(line, template["kind"])


# --------------------------------------------------------------------------------------------------------------- steps
def step(fleet: Fleet, line: Document) -> None:
    """One step, and everything that follows from it."""
    asked, output = line["input"]["step"], line["output"]
    world, namespace = fleet.world, fleet.namespace
    match asked:
        case "create template":
            for cluster, document in (line["input"].get("alreadyInMember") or {}).items():
                fleet.members[cluster] = served(document)
            store(world, line["input"]["policy"])
            store(world, line["input"]["template"])
        case ["tpl", patch]:
            write(world, ["patch", fleet.template[0], fleet.template[2], patch], namespace)
        case ["pol", patch]:
            policy = next(name for kind, _, name in world.objects if kind == "PropagationPolicy")
            write(world, ["patch", "PropagationPolicy", policy, patch], namespace)
        case ["tdelete"]:
            del world.objects[fleet.template]
            world.bindings.clear()
        case ["mpatch", cluster, patch]:
            fleet.members[cluster] = merge(fleet.members[cluster], patch)
        case ["mdelete", cluster]:
            del fleet.members[cluster]
        case _:
            for cluster, status in asked.items():
                if cluster in fleet.members:
                    given = {"status": status}
                    fleet.members[cluster] = served(merge(fleet.members[cluster], given))
    settle(fleet, output)


def kind_of(document: Document) -> ServedKind:
    kind = SCHEME.by_gvk(*group_version(document["apiVersion"]), document["kind"])
    assert kind is not None
    return kind


def served(document: Document) -> Document:
    """The object as an API server gives it out: with its defaults, without zeros that are left out."""
    kind = kind_of(document)
    body = json.dumps(document).encode()
    return apply_defaults(kind, decode_body(kind, body, "application/json", "").document)


def settle(fleet: Fleet, output: Document) -> None:
    """Bindings, Works, members, statuses; the generation of the template is the recording's, where it has one."""
    world, template = fleet.world, fleet.world.objects.get(fleet.template)
    if template is not None:
        generation = (output.get("template") or {}).get("generation")
        if generation is not None:
            metadata = template["metadata"] | {"generation": generation}
            template = world.objects[fleet.template] = template | {"metadata": metadata}
    made = rendered(fleet, template, output)
    for cluster, work in list(fleet.works.items()):
        if cluster not in made:
            leave(fleet, cluster, work)
            del fleet.works[cluster]
    for cluster, work in made.items():
        held = fleet.works.get(cluster) or {}
        report(fleet, cluster, work | {"status": held.get("status") or {}}, output)
    if template is not None:
        summed(fleet, template)


def rendered(fleet: Fleet, template: Document | None, output: Document) -> dict[str, Document]:
    """The Work of each cluster."""
    if template is None:
        return {}
    if resource_of(template["apiVersion"], template["kind"]) is None:
        return {}
    detect(fleet.world, template, fleet.namespace)
    clusters = {b["name"]: b["spec"].get("clusters") for b in output["bindings"]}
    found: dict[str, Document] = {}
    for name, binding in fleet.world.bindings.items():
        spec = binding["spec"] | {"clusters": clusters.get(name) or []}
        fleet.world.bindings[name] = binding | {"spec": spec}
        decided = view(fleet.world.bindings[name])
        assert decided is not None
        found |= dispatcher.rendered(decided, template, FLEET).works
    return found


def leave(fleet: Fleet, cluster: str, work: Document) -> None:
    """A Work that goes takes its object along, or lets it go."""
    live = fleet.members.get(cluster)
    if live is None or not managed(live):
        return
    if work["spec"]["preserveResourcesOnDeletion"]:
        fleet.members[cluster] = merge(live, let_go(live))
    else:
        del fleet.members[cluster]


def report(fleet: Fleet, cluster: str, work: Document, output: Document) -> None:
    """The Work is brought to its member, which reports."""
    (manifest,) = work["spec"]["workload"]["manifests"]
    live = fleet.members.get(cluster)
    named = identifier(0, manifest, "")
    why = conflict(live, work)
    if not link.suspended(work) and not why:
        live = fleet.members[cluster] = brought(manifest, live)
    generation = (output["member"].get(cluster) or {}).get("generation")
    if live is not None and generation is not None:
        metadata = live["metadata"] | {"generation": generation}
        live = fleet.members[cluster] = live | {"metadata": metadata}
    outcome = Outcome(named, why) if why else Outcome(named, live=live)
    status = link.status_plan(work, [outcome], NOW)
    if status is not None:
        work = work | {"status": work["status"] | status}
    fleet.works[cluster] = work


def brought(manifest: Document, live: Document | None) -> Document:
    """The member's object with what the manifest states over it."""
    if live is None:
        kind = kind_of(manifest)
        made = strategy.prepare_create(kind, apply_defaults(kind, manifest))
        return made | {"metadata": made["metadata"] | {"uid": UUID}}
    return served(merge(live, retained(manifest, live)))


def summed(fleet: Fleet, template: Document) -> None:
    """What the controller writes on bindings and template."""
    works = [msgspec.convert(work, Work) for work in fleet.works.values()]
    stamped = template | {"metadata": template["metadata"] | {"resourceVersion": "1"}}
    if template["kind"] == "Service":
        actions = statuses.service_plan(stamped, works, SEEN, NOW)
    else:
        actions = []
    for name, binding in fleet.world.bindings.items():
        decided = view(binding)
        assert decided is not None
        actions += statuses.plan(decided, binding.get("status") or {}, stamped, works, SEEN, NOW)
        for action in actions:
            if isinstance(action, SetStatus) and action.resource == RESOURCE_BINDINGS:
                given = {"status": dict(action.status)}
                fleet.world.bindings[name] = merge(fleet.world.bindings[name], given)
    for action in actions:
        if isinstance(action, SetStatus) and action.resource != RESOURCE_BINDINGS:
            given = {"status": dict(action.status)}
            fleet.world.objects[fleet.template] = merge(fleet.world.objects[fleet.template], given)


def managed(live: Document) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(MANAGED_LABEL) == "true")


# ---------------------------------------------------------------------------------------------------------- comparison
def ours(fleet: Fleet) -> Document:
    """What the step came to, in the recording's shape."""
    template = fleet.world.objects.get(fleet.template)
    kind = fleet.template[0]
    return {
        "bindings": [binding_shape(kind, b) for b in fleet.world.bindings.values()],
        "template": "gone" if template is None else status_shape(kind, template.get("status")),
        "works": {c: work_shape(kind, w) for c, w in sorted(fleet.works.items())},
        "member": {c: member_shape(fleet.members.get(c)) for c in FLEET},
    }


def recorded(line: Document, kind: str) -> Document:
    """The same of the recording."""
    output = line["output"]
    template = output["template"]
    return {
        "bindings": [binding_shape(kind, b, output=True) for b in output["bindings"]],
        "template": template if template == "gone" else status_shape(kind, template["status"]),
        "works": {
            c: {
                "suspended": w["suspendDispatching"],
                "conditions": conditions(w["conditions"]),
                "reports": [report_shape(kind, r) for r in w["manifestStatuses"]],
            }
            for c, w in sorted(output["works"].items())
        },
        "member": {c: recorded_member(output["member"].get(c)) for c in FLEET},
    }


def conditions(found: Any, *, only: tuple[str, ...] = ()) -> list[Document]:
    """Type, status, reason and message, by type."""
    shapes = [
        {k: c[k] for k in ("type", "status", "reason", "message")}
        for c in found or ()
        if not only or c["type"] in only
    ]
    return sorted(shapes, key=lambda c: str(c["type"]))


def binding_shape(kind: str, binding: Document, *, output: bool = False) -> Document:
    status = binding if output else binding.get("status") or {}
    items = [
        {
            "cluster": item["clusterName"],
            "applied": item.get("applied", False),
            "why": item.get("appliedMessage", ""),
            "health": item["health"],
            "status": reported(kind, item.get("status")),
        }
        for item in status.get("aggregatedStatus") or ()
    ]
    return {
        "name": binding["name"] if output else binding["metadata"]["name"],
        "items": items,
        "conditions": conditions(status.get("conditions"), only=("FullyApplied",)),
    }


def work_shape(kind: str, work: Document) -> Document:
    """Of a manifest that was not applied Karmada reports nothing, ours its name and that nothing is known."""
    reports = (work["status"] or {}).get("manifestStatuses") or ()
    return {
        "suspended": work["spec"]["suspendDispatching"],
        "conditions": conditions(work["status"]["conditions"]),
        "reports": [report_shape(kind, r) for r in reports if r["health"] != "Unknown"],
    }


def report_shape(kind: str, entry: Document) -> Document:
    named = {k: v for k, v in entry["identifier"].items() if k not in ("resource", "group")}
    return {
        "identifier": named | {"group": entry["identifier"].get("group", "")},
        "health": entry["health"],
        "status": reported(kind, entry.get("status")),
    }


def reported(kind: str, status: Document | None) -> Document | None:
    """A report without what ours says more (see DIFFERENCES.md); a null is as good as absent."""
    if status is None:
        return None
    more = REPORTED_MORE.get(kind, ())
    return {k: v for k, v in status.items() if k not in more and v is not None}


def status_shape(kind: str, status: Document | None) -> Document:
    unsaid = MORE.get(kind, ())
    return {k: v for k, v in (status or {}).items() if k not in unsaid and v is not None}


def member_shape(live: Document | None) -> Any:
    if live is None:
        return "absent"
    labels = live["metadata"].get("labels") or {}
    containers = _containers(live)
    return {
        "labels": {k: v for k, v in labels.items() if not is_mark(k)},
        "managed": managed(live),
        "replicas": (live.get("spec") or {}).get("replicas"),
        "image": containers[0]["image"] if containers else None,
        "data": live.get("data"),
    }


def _containers(live: Document) -> list[Document]:
    """The recording names the image of Deployments alone."""
    if live["kind"] != "Deployment":
        return []
    found: list[Document] = live["spec"]["template"]["spec"]["containers"]
    return found


def recorded_member(told: Any) -> Any:
    if told is None or told == "absent":
        return "absent"
    return {
        "labels": {k: v for k, v in (told["labels"] or {}).items() if not is_mark(k)},
        "managed": told["managed"],
        "replicas": told["replicas"],
        "image": told.get("image"),
        "data": told.get("data"),
    }
