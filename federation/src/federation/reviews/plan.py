"""What differs between two states of the federation, by workload and cluster. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from federation.propagation import claims
from machinery.api.fleet.cluster import EXECUTION_PREFIX
from machinery.api.fleet.work import (
    BINDING_NAME,
    BINDING_NAMESPACE,
    TEMPLATE_GENERATION,
    TEMPLATE_UID,
    WORK_NAME,
    WORK_NAMESPACE,
)
from machinery.meta.resource import Document, ObjectKey

CREATE, UPDATE, DELETE, UNCHANGED = "Create", "Update", "Delete", "Unchanged"
DIFFERENCES_MAX = 50
"""Paths that are told of one Work; of the others the number."""
TEXT_MAX = 200
ROUTINE = frozenset(
    {
        TEMPLATE_GENERATION,
        TEMPLATE_UID,
        WORK_NAME,
        WORK_NAMESPACE,
        *claims.ANNOTATIONS,
        *claims.LABELS,
    }
)
"""Marks that say which state of the template a Work carries, and for which policy: they change with everything else, and the
policy is told by itself."""
HIDDEN = "(hidden)"
ABSENT = object()

Identity = tuple[str, str, str]
"""Kind, namespace and name of what a user applies."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path; `before` or `after` is empty where it is not there."""

    path: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """Bindings and Works of one moment, by key."""

    bindings: Mapping[ObjectKey, Document]
    works: Mapping[ObjectKey, Document]


@dataclass(slots=True)
class Change:
    """What becomes of one object of a user: its binding before and after, and its Works by cluster."""

    identity: Identity
    before: Document | None = None
    after: Document | None = None
    works: dict[str, tuple[Document | None, Document | None]] = field(default_factory=dict)

    @property
    def clusters(self) -> list[str]:
        """Every cluster that has something of it, before or after."""
        found = set(self.works) | counts(self.before).keys() | counts(self.after).keys()
        return sorted(found)


def changes(before: World, after: World) -> list[Change]:
    """What differs, by object and in order of its identity."""
    found: dict[Identity, Change] = {}

    def of(identity: Identity) -> Change:
        return found.setdefault(identity, Change(identity))

    for key in _keys(before.bindings, after.bindings):
        old, new = before.bindings.get(key), after.bindings.get(key)
        change = of(source(new or old or {}))
        change.before, change.after = old, new
    for key in _keys(before.works, after.works):
        was, now = before.works.get(key), after.works.get(key)
        change = of(carried(now or was or {}))
        change.works[key.namespace.removeprefix(EXECUTION_PREFIX)] = (was, now)
    return [change for _, change in sorted(found.items()) if differs(change)]


def differs(change: Change) -> bool:
    """Whether anything is another one: where it is, who claims it, or what a cluster gets."""
    if counts(change.before) != counts(change.after) or kept(change.before) != kept(change.after):
        return True
    if policy_of(change.before) != policy_of(change.after):
        return True
    return any(work_change(was, now) != UNCHANGED for was, now in change.works.values())


def _keys(before: Mapping[ObjectKey, Any], after: Mapping[ObjectKey, Any]) -> list[ObjectKey]:
    return sorted(before.keys() | after.keys())


def source(binding: Document) -> Identity:
    """What the binding places."""
    resource = (binding.get("spec") or {}).get("resource") or {}
    return resource.get("kind", ""), resource.get("namespace", ""), resource.get("name", "")


def carried(work: Document) -> Identity:
    """What the Work carries."""
    manifests = work["spec"]["workload"]["manifests"]
    if not manifests:
        return "", "", ""
    metadata = manifests[0]["metadata"]
    return manifests[0]["kind"], metadata.get("namespace", ""), metadata["name"]


def belongs(work: Document) -> ObjectKey | None:
    """The binding that the Work was made for."""
    annotations = work["metadata"].get("annotations") or {}
    name = annotations.get(BINDING_NAME)
    return ObjectKey(annotations.get(BINDING_NAMESPACE, ""), name) if name else None


def counts(binding: Document | None) -> dict[str, int]:
    """Clusters and replicas as decided; those that only others need have 0."""
    spec = (binding or {}).get("spec") or {}
    found = {t["name"]: t.get("replicas", 0) for t in spec.get("clusters") or ()}
    for needing in spec.get("requiredBy") or ():
        for target in needing.get("clusters") or ():
            found.setdefault(target["name"], 0)
    return found


def kept(binding: Document | None) -> dict[str, int]:
    """Replicas that clusters keep besides, until as many are ready elsewhere."""
    found: dict[str, int] = {}
    for task in ((binding or {}).get("spec") or {}).get("gracefulEvictionTasks") or ():
        name = task["fromCluster"]
        found[name] = found.get(name, 0) + (task.get("replicas") or 0)
    return found


def policy_of(binding: Document | None) -> str:
    """`PropagationPolicy/web` or `ClusterPropagationPolicy/default-spread`; empty: no policy claims it."""
    marks = ((binding or {}).get("metadata") or {}).get("annotations") or {}
    if own := marks.get(claims.POLICY_NAME):
        return f"PropagationPolicy/{own}"
    of_all = marks.get(claims.CLUSTER_POLICY_NAME)
    return f"ClusterPropagationPolicy/{of_all}" if of_all else ""


def work_change(was: Document | None, now: Document | None) -> str:
    """What happens to a Work."""
    if was is None:
        return CREATE
    if now is None or now["metadata"].get("deletionTimestamp"):
        return DELETE
    return UPDATE if next(iter(differences(was, now)), None) is not None else UNCHANGED


def differences(was: Document | None, now: Document | None) -> Iterator[Difference]:
    """Path by path what a cluster gets otherwise. Contents of Secrets are not shown."""
    if was is None or now is None:
        return
    before, after = was["spec"]["workload"]["manifests"], now["spec"]["workload"]["manifests"]
    for number in range(max(len(before), len(after))):
        old = _plain(before[number]) if number < len(before) else ABSENT
        new = _plain(after[number]) if number < len(after) else ABSENT
        prefix = "" if number == 0 else f"manifests[{number}]"
        secret = carried(now)[0] == "Secret"
        for found in compared(old, new, prefix):
            hide = secret and found.path.startswith(("data", "stringData"))
            yield Difference(found.path, HIDDEN, HIDDEN) if hide else found
    for name in ("suspendDispatching", "preserveResourcesOnDeletion"):
        yield from compared(was["spec"].get(name, False), now["spec"].get(name, False), name)


def _plain(manifest: Document) -> Document:
    """Without what only says which state of the template it is."""
    metadata = dict(manifest["metadata"])
    for part in ("annotations", "labels"):
        marks = metadata.get(part) or {}
        metadata[part] = {k: v for k, v in marks.items() if k not in ROUTINE}
    return manifest | {"metadata": metadata}


def compared(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Where two values differ, as deep as they are alike; items of lists by their name, where they have one."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _fields(before, after, path)
        return
    if isinstance(before, Sequence) and isinstance(after, Sequence) and not _text(before, after):
        names = _named(before), _named(after)
        if names[0] is not None and names[1] is not None:
            yield from _fields(names[0], names[1], path, items=True)
            return
        if len(before) == len(after):
            for number, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from compared(old, new, f"{path}[{number}]")
            return
    yield Difference(path, shown(before), shown(after))


def _text(*values: Any) -> bool:
    return any(isinstance(value, str) for value in values)


def _named(items: Sequence[Any]) -> dict[str, Any] | None:
    """Items by name, where each has one of its own."""
    names = [item.get("name") for item in items if isinstance(item, Mapping)]
    if len(names) != len(items) or None in names or len(set(names)) != len(names):
        return None
    return {str(name): item for name, item in zip(names, items, strict=True)}


def _fields(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str, *, items: bool = False
) -> Iterator[Difference]:
    for name in [*before, *(n for n in after if n not in before)]:
        plain = not items and not ({".", "/"} & set(name))
        step = f".{name}" if plain and path else name if plain else f"[{name}]"
        yield from compared(before.get(name, ABSENT), after.get(name, ABSENT), path + step)


def shown(value: Any) -> str:
    """A value in one line."""
    if value is ABSENT:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def told(found: Iterable[Difference]) -> tuple[list[Document], int]:
    """The first differences as documents, and how many more there are."""
    every = list(found)
    first = [
        {k: v for k, v in (("path", d.path), ("before", d.before), ("after", d.after)) if v}
        for d in every[:DIFFERENCES_MAX]
    ]
    return first, len(every) - len(first)


# ------------------------------------------------------------------------------------------------------------- applying
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def merged(manifest: Document, live: Document, *, strategic: bool) -> Document:
    """The patch that `kubectl apply` would send: the manifest, and null for what it said last and says no more."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        last = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        last = {}
    return dict(_merged(manifest, last if isinstance(last, dict) else {}, strategic=strategic))


def _merged(manifest: Document, last: Document, *, strategic: bool) -> Document:
    patch: Document = {}
    for name, value in manifest.items():
        old = last.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            patch[name] = _merged(dict(value), dict(old), strategic=strategic)
        elif strategic and isinstance(value, list) and isinstance(old, list):
            patch[name] = _items(value, old)
        else:
            patch[name] = value
    return patch | {name: None for name in last if name not in manifest}


def _items(items: list[Any], last: list[Any]) -> list[Any]:
    """Of a list of named items: each with what it says no more, and those that are gone."""
    now, before = _named(items), _named(last)
    if now is None or before is None or not before:
        return items
    kept_ = [
        _merged(item, before[name], strategic=True) if name in before else item
        for name, item in now.items()
    ]
    gone = [{"name": name, "$patch": "delete"} for name in before if name not in now]
    return [*kept_, *gone]
