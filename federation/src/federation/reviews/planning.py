"""PlacementPlan: what applying some objects would do to every cluster, seen in a copy of the federation (`reviews.scratch`).

It is played in a thread of its own, with a loop of its own, so that heartbeats and requests go on meanwhile, and one plan after
another: each costs as much as the decisions that it takes.

The caller needs the rights to apply the objects; of others that would change, policies' workloads, it is shown those that it may
read, and the number of the rest. The copy is settled first, so that what is on its way anyhow is not put down to the plan.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from federation.placement.explain import Report, explain
from federation.placement.model import Request
from federation.propagation.replays import Note
from federation.propagation.templates import CLUSTER_WIDE, TEMPLATES
from federation.reviews import plan
from federation.reviews.plan import CREATE, UNCHANGED, UPDATE, Change, Identity
from federation.reviews.scratch import Rows, Scratch, rows
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES, PROPAGATION_POLICIES
from machinery.api.scheme import Scheme, ServedKind
from machinery.client.interface import PatchType
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.errors import BadRequest
from machinery.meta.resource import Document, ObjectKey, split_api_version
from machinery.server import faces, patching
from machinery.server.app import ApiServer
from machinery.server.call import Call
from machinery.server.rbac import Attributes

OBJECTS_MAX = 200
"""Objects of one plan."""
SHOWN_MAX = 300
"""Objects that an answer tells of."""
MANAGER = "kubectl-client-side-apply"
POLICIES = {PROPAGATION_POLICIES.kind, CLUSTER_PROPAGATION_POLICIES.kind}
STAYS = "it is no kind that policies place: it stays at the federation"
UNCLAIMED = "no policy claims it: it stays at the federation"


@dataclass(frozen=True, slots=True)
class Applied:
    """One of the objects, and what applying it does to itself."""

    kind: ServedKind
    key: ObjectKey
    document: Document
    change: str = UNCHANGED

    @property
    def identity(self) -> Identity:
        return self.kind.kind, *self.key

    @property
    def reference(self) -> Document:
        return reference(self.identity, self.kind.api_version)


def reference(identity: Identity, api_version: str = "") -> Document:
    """Which object."""
    kind, namespace, name = identity
    found = {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name}
    return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: the objects, and other objects that change, each with what is told of it."""

    applied: list[tuple[Applied, Document]]
    others: list[tuple[Identity, Document]]
    changed: bool


class Planner:
    """One plan at a time."""

    def __init__(self, server: Callable[[], ApiServer], clock: Clock, ids: Ids) -> None:
        self._server, self._clock, self._ids = server, clock, ids
        self._turn = threading.Lock()

    async def review(self, body: Document, call: Call) -> Document:
        """The plan with its answer. Raises StatusError as applying would."""
        server = self._server()
        asked = [self._named(server, one) for one in objects(body)]
        for one in asked:
            held = server.registry.peek(one.kind, one.key.namespace, one.key.name)
            verb = "create" if held is None else "patch"
            right = Attributes(verb, one.kind.group, one.kind.plural, "", *one.key)
            server.authorizer.check(call.user, right)
        copied = rows(server, scope_of(asked))
        played = await asyncio.to_thread(self._alone, server.scheme, copied, asked, call)
        status = answer(played, self._visible(server, call))
        return {**body, "metadata": body.get("metadata") or {}, "status": status}

    def _alone(self, scheme: Scheme, copied: Rows, asked: list[Applied], call: Call) -> Played:
        with self._turn:
            return asyncio.run(self._played(scheme, copied, asked, call))

    async def _played(
        self, scheme: Scheme, copied: Rows, asked: list[Applied], call: Call
    ) -> Played:
        scratch = Scratch(scheme, self._clock, self._ids)
        try:
            await scratch.seed(copied)
            await scratch.settle()
            before = scratch.world()
            scratch.notes.clear()
            first = sorted(asked, key=lambda one: one.kind.kind != "Namespace")
            applied = [await apply(scratch, one, call) for one in first]
            await scratch.settle()
            after = scratch.world()
            return played(applied, plan.changes(before, after), scratch, after)
        finally:
            await scratch.close()

    def _named(self, server: ApiServer, document: Document) -> Applied:
        group, version = split_api_version(str(document.get("apiVersion", "")))
        kind = server.scheme.by_gvk(group, version, str(document.get("kind", "")))
        if kind is None or not kind.storable:
            what = f"{document.get('apiVersion')} {document.get('kind')}"
            raise BadRequest(f"spec.objects: the federation stores no {what}")
        metadata = document.get("metadata") or {}
        if not metadata.get("name"):
            raise BadRequest(f"spec.objects: a {kind.kind} has no metadata.name")
        if (
            not kind.namespaced
        ):  # whoever gives all manifests a namespace need not know which have none
            plain = {name: value for name, value in metadata.items() if name != "namespace"}
            return Applied(kind, ObjectKey("", metadata["name"]), document | {"metadata": plain})
        namespace = metadata.get("namespace") or "default"
        return Applied(kind, ObjectKey(namespace, metadata["name"]), document)

    def _visible(self, server: ApiServer, call: Call) -> Callable[[Identity], bool]:
        """Whether the caller may read such an object."""
        known = {kind.kind: kind for kind in reversed(server.scheme.kinds)}

        def visible(identity: Identity) -> bool:
            kind = known.get(identity[0])
            return kind is not None and server.authorizer.allows(
                call.user, Attributes("get", kind.group, kind.plural, "", *identity[1:])
            )

        return visible


def objects(body: Document) -> list[Document]:
    """`spec.objects`. Raises BadRequest."""
    found = (body.get("spec") or {}).get("objects")
    if not isinstance(found, list) or not found or not all(isinstance(o, dict) for o in found):
        raise BadRequest("spec.objects: give the manifests that are to be applied")
    if len(found) > OBJECTS_MAX:
        raise BadRequest(f"spec.objects: {len(found)} are too many, {OBJECTS_MAX} at most")
    return found


def scope_of(asked: Iterable[Applied]) -> frozenset[str] | None:
    """The namespaces that the objects can change something in; None: in any."""
    spaces: set[str] = set()
    for one in asked:
        if one.kind.kind == "Namespace":
            spaces.add(one.key.name)
        elif not one.kind.namespaced or one.key.namespace.startswith("ubernetes-"):
            return None
        else:
            spaces.add(one.key.namespace)
    return frozenset(spaces)


async def apply(scratch: Scratch, one: Applied, call: Call) -> Applied:
    """As `kubectl apply` does it, by the same user. Raises StatusError."""
    registry, kind = scratch.api.registry, scratch.api.scheme.stored(one.kind)
    own = Call(call.user, MANAGER, field_validation=call.field_validation)
    body = msgspec.json.encode(one.document)
    live = registry.peek(kind, one.key.namespace, one.key.name)
    if live is None:
        decoded = registry.bursts.body(one.kind, body, "application/json", own.field_validation)
        call.warnings.extend(decoded.warnings)
        document = faces.inward(one.kind, decoded.document)
        _ = await registry.create(kind, document, one.key.namespace, own)
        change = CREATE
    else:
        media = PatchType.MERGE if one.kind.custom else PatchType.STRATEGIC
        patch = plan.merged(one.document, live, strategic=not one.kind.custom)
        text = msgspec.json.encode(patch)
        make = patching.patcher(one.kind, media.value, text, one.key.name, own)
        stored = await registry.change(
            kind, one.key.namespace, one.key.name, faces.through(one.kind, make), own
        )
        same = str(stored.revision) == live["metadata"]["resourceVersion"]
        change = UNCHANGED if same else UPDATE
    call.warnings.extend(own.warnings)
    return Applied(one.kind, one.key, one.document, change)


def played(
    applied: list[Applied], found: list[Change], scratch: Scratch, after: plan.World
) -> Played:
    """What there is to tell."""
    by_identity = {change.identity: change for change in found}
    mine: list[tuple[Applied, Document]] = []
    for one in applied:
        change = by_identity.pop(one.identity, None) or standing(one.identity, after)
        said = told(change, scratch)
        said.setdefault("message", nothing_placed(one, change, after))
        mine.append((one, said))
    others = [(identity, told(change, scratch)) for identity, change in by_identity.items()]
    return Played(mine, others, bool(found) or any(one.change != UNCHANGED for one in applied))


def answer(found: Played, visible: Callable[[Identity], bool]) -> Document:
    """The status of the plan, with what the caller may read."""
    shown = [{"object": one.reference, "change": one.change, **said} for one, said in found.applied]
    others = [(identity, said) for identity, said in found.others if visible(identity)]
    left = max(0, SHOWN_MAX - len(shown))
    shown += [
        {"object": reference(identity), "change": UNCHANGED, **said}
        for identity, said in others[:left]
    ]
    warnings = []
    if hidden := len(found.others) - len(others):
        warnings.append(f"{hidden} more objects change that you may not read")
    if len(others) > left:
        warnings.append(f"{len(others) - left} more objects change and are not shown")
    return {"objects": shown, "changed": found.changed} | (
        {"warnings": warnings} if warnings else {}
    )


def standing(identity: Identity, world: plan.World) -> Change:
    """An object of which nothing changes."""
    for binding in world.bindings.values():
        if plan.source(binding) == identity:
            return Change(identity, binding, binding)
    return Change(identity)


def nothing_placed(one: Applied, change: Change, world: plan.World) -> str:
    """What there is to say of an object without a decision."""
    if one.kind.kind in POLICIES:
        mine = f"{one.kind.kind}/{one.key.name}"
        claimed = [
            b
            for key, b in world.bindings.items()
            if plan.policy_of(b) == mine and one.key.namespace in ("", key.namespace)
        ]
        return f"it claims {len(claimed)} {'object' if len(claimed) == 1 else 'objects'}"
    if change.after is not None or change.works:
        return "no new decision is needed"
    templates = {(t.api_version, t.kind) for t in (*TEMPLATES, *CLUSTER_WIDE)}
    custom = one.kind.dynamic is not None
    travels = custom or (one.kind.api_version, one.kind.kind) in templates
    return UNCLAIMED if travels else STAYS


def told(change: Change, scratch: Scratch) -> Document:
    """What becomes of one object in the clusters, and why."""
    found: Document = {}
    if policy := plan.policy_of(change.after):
        found["policy"] = policy
    report = None
    if (note := _note(change, scratch)) is not None:
        answered = note.answer
        found |= {"result": answered.result, "message": answered.message}
        found |= {k: answered.fields[k] for k in ("leftOut", "warnings") if k in answered.fields}
        request = note.asked.values
        report = explain(request, note.asked.fleet) if isinstance(request, Request) else None
    clusters = [cluster(change, name, report) for name in change.clusters]
    return found | ({"clusters": clusters} if clusters else {})


def _note(change: Change, scratch: Scratch) -> Note | None:
    if change.after is None:
        return None
    metadata = change.after["metadata"]
    return scratch.notes.get(ObjectKey(metadata.get("namespace", ""), metadata["name"]))


def cluster(change: Change, name: str, report: Report | None) -> Document:
    """One cluster's part."""
    was, now = change.works.get(name, (None, None))
    before, after = plan.counts(change.before), plan.counts(change.after)
    found: Document = {
        "name": name,
        "before": before.get(name, 0),
        "after": after.get(name, 0),
        "work": plan.work_change(was, now) if name in change.works else UNCHANGED,
    }
    if keeps := plan.kept(change.after).get(name):
        found["kept"] = keeps
    if report is not None and (why := _why(report, name)):
        found["why"] = why
    differences, more = plan.told(plan.differences(was, now))
    found |= {"differences": differences} if differences else {}
    return found | ({"more": more} if more else {})


def _why(report: Report, name: str) -> str:
    sentences: Mapping[str, tuple[str, ...]] = {c.name: c.sentences for c in report.clusters}
    return "; ".join(sentences.get(name, ()))
