"""Which nodes' platforms a workload can run on, and what room there is on them. Pure.

A platform is `os/architecture` as image indexes and nodes have it (`kubernetes.io/os`, `kubernetes.io/arch`): `linux/amd64`. What
a workload can run on is said by its pods' nodeSelector and required node affinity on these two labels, and by the
annotation `ubernetes.io/platforms` of the workload: the platforms of its images, parted by commas. The federation asks no
registry, so an image is what its owner says. A variant (`linux/arm/v7`) is understood and not looked at, since nodes do
not tell theirs. Of node affinity only these two labels are looked at; the rest is known to the members alone.

Members tell how much is free on their ready nodes by platform. One that has no fitting node gets nothing new; the others
have the room of their fitting nodes. One that tells no platforms is taken as it is.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from federation.placement.model import Candidate, Request
from machinery.api.core import NodeSelectorTerm
from machinery.api.fleet.work import NodeClaim
from machinery.scheduling.selection import passes

ANNOTATION = "ubernetes.io/platforms"
"""Of a workload, and copied to its binding: the platforms that its images are built for."""
ARCH, OS = "kubernetes.io/arch", "kubernetes.io/os"
NO_NODE = "cluster(s) did not have a node of platform {platforms}"
_SHAPE = re.compile(r"([a-z0-9]+)/([a-z0-9]+)(/[a-z0-9.]+)?", re.ASCII)


def parse(text: str) -> frozenset[str]:
    """The platforms of the annotation. Raises ValueError with a sentence."""
    found = set()
    for part in (p.strip() for p in text.split(",")):
        shape = _SHAPE.fullmatch(part)
        if shape is None:
            raise ValueError(f'"{part}" is no platform: they are like linux/amd64')
        found.add(f"{shape[1]}/{shape[2]}")
    return frozenset(found)


def stated(document: Mapping[str, Any]) -> dict[str, str | None]:
    """The annotation of a workload, as its binding is to carry it; None: it has none."""
    return {ANNOTATION: (document["metadata"].get("annotations") or {}).get(ANNOTATION)}


def read(annotations: Mapping[str, str]) -> tuple[frozenset[str], str]:
    """What a binding's annotation says, or what is wrong with it: then it says nothing."""
    text = annotations.get(ANNOTATION, "")
    try:
        return (parse(text), "") if text else (frozenset(), "")
    except ValueError as error:
        return frozenset(), str(error)


def reserved_name(platform: str, resource: str) -> str:
    """How the ledger calls a resource that can only be had on nodes of one platform."""
    return f"{platform}:{resource}"


def only_one(stated: frozenset[str], claim: NodeClaim | None) -> str:
    """The platform that all replicas will be on; empty where there is a choice."""
    selected = claim.node_selector if claim is not None else {}
    system, arch = selected.get(OS, "linux"), selected.get(ARCH)
    if arch:
        return f"{system}/{arch}"
    return next(iter(stated)) if len(stated) == 1 else ""


def asks_of(asks: Mapping[str, int], platform: str) -> dict[str, int]:
    """What one replica takes from the nodes of its only platform, in the ledger's names."""
    if not platform:
        return {}
    return {
        reserved_name(platform, name): value for name, value in (dict(asks) | {"pods": 1}).items()
    }


def constrained(request: Request) -> bool:
    """Whether the workload says anything of platforms."""
    return bool(request.platforms) or _claims(request.node_claim)


def _claims(claim: NodeClaim | None) -> bool:
    if claim is None:
        return False
    if claim.node_selector.keys() & {ARCH, OS}:
        return True
    hard = claim.hard_node_affinity
    terms = hard.node_selector_terms if hard is not None else ()
    return any(r.key in (ARCH, OS) for term in terms for r in term.match_expressions)


def runs_on(request: Request, platform: str) -> bool:
    """Whether the replicas can run on nodes of the platform."""
    if request.platforms and platform not in request.platforms:
        return False
    claim = request.node_claim
    if claim is None:
        return True
    system, _, arch = platform.partition("/")
    labels = {OS: system, ARCH: arch}
    if any(labels[key] != claim.node_selector.get(key, labels[key]) for key in labels):
        return False
    hard = claim.hard_node_affinity
    return hard is None or any(_term_fits(term, labels) for term in hard.node_selector_terms)


def _term_fits(term: NodeSelectorTerm, labels: Mapping[str, str]) -> bool:
    """As far as the two labels go; of the others nothing is known here."""
    return all(
        passes((r.key, r.operator, r.values), labels)
        for r in term.match_expressions
        if r.key in labels
    )


def fitting(request: Request, candidate: Candidate) -> list[str]:
    """The member's platforms that will do."""
    return [p for p in candidate.platforms if runs_on(request, p)]


def missing(request: Request, candidate: Candidate) -> str:
    """Why the member has no node for the workload; empty: it has, or does not tell."""
    if not candidate.platforms or not constrained(request) or fitting(request, candidate):
        return ""
    return NO_NODE.format(platforms=_wanted(request))


def _wanted(request: Request) -> str:
    if request.platforms:
        return " or ".join(sorted(request.platforms))
    selected = request.node_claim.node_selector if request.node_claim is not None else {}
    if selected.keys() & {ARCH, OS}:
        return f"{selected.get(OS, 'linux')}/{selected.get(ARCH, '*')}"
    return "that its node affinity asks for"


def narrowed(candidate: Candidate, request: Request) -> Candidate:
    """The member as if it had only the nodes that fit. Shapes are of all nodes, so they say nothing then."""
    if candidate.free is None or not candidate.platforms or not constrained(request):
        return candidate
    fits = fitting(request, candidate)
    if len(fits) == len(candidate.platforms):
        return candidate
    free = {
        name: min(room, sum(_room(candidate, platform, name) for platform in fits))
        for name, room in candidate.free.items()
    }
    return msgspec.structs.replace(candidate, free=free, shapes=())


def _room(candidate: Candidate, platform: str, name: str) -> int:
    taken = candidate.reserved.get(reserved_name(platform, name), 0)
    return candidate.platforms[platform].get(name, 0) - taken


def all_narrowed(candidates: Iterable[Candidate], request: Request) -> list[Candidate]:
    """Each of them."""
    if not constrained(request):
        return list(candidates)
    return [narrowed(c, request) for c in candidates]
