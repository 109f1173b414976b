"""Whether a member's object is what its manifest says, field by field, and in which words it is told when it is not. Pure.

Only what the manifest states is compared: what it leaves open (a member's own annotations, defaults, status) is nobody's
difference. Items of a list are matched by the field that names them (a container by its name), as server-side apply does,
and a list without such a field by position. A path is written as API errors write it: `spec.template.spec.containers[0].image`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from machinery.api.fleet.work import DRIFT, MANAGED_LABEL, MANIFEST_DIGEST
from machinery.meta.resource import Document, document_key

TOLD_MAX: Final = 10
"""Paths in one message; the rest is counted."""
VALUE_MAX: Final = 64
"""Characters of a value in a message."""
FOUND_MAX: Final = 200
"""Differences that are looked for in one object."""
NAMES: Final = (
    ("name",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("mountPath",),
    ("devicePath",),
    ("ip",),
    ("uid",),
    ("type",),
)
"""Fields that name the items of Kubernetes' lists."""
MARK_DOMAINS: Final = (
    "work.karmada.io/",
    "resourcebinding.karmada.io/",
    "clusterresourcebinding.karmada.io/",
    "propagationpolicy.karmada.io/",
    "clusterpropagationpolicy.karmada.io/",
)
MARKS: Final = frozenset(
    (
        MANAGED_LABEL,
        MANIFEST_DIGEST,
        "resourcetemplate.karmada.io/uid",
        "resourcetemplate.karmada.io/generation",
        "resourcetemplate.karmada.io/managed-annotations",
        "resourcetemplate.karmada.io/managed-labels",
    )
)
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field; `found` is None where the object does not have it."""

    path: str
    wanted: Any
    found: Any


def is_mark(key: str) -> bool:
    """Whether a label or annotation is the federation's word about the object, and no part of it."""
    return key in MARKS or key.startswith(MARK_DOMAINS)


def digest(manifest: Document) -> str:
    """A hash of what is wanted."""
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def fingerprint(live: Document) -> str:
    """A hash of all that somebody may have asked for: it stays when only the status moves."""
    metadata = live["metadata"]
    asked = {k: v for k, v in live.items() if k not in ("status", "metadata")}
    asked["metadata"] = [metadata.get("labels"), metadata.get("annotations")]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def reports_only(manifest: Document) -> bool:
    """Whether drift of this object is told and left alone."""
    return str((manifest["metadata"].get("annotations") or {}).get(DRIFT, "")).lower() == "report"


def differences(manifest: Document, live: Document, *, marks: bool = True) -> list[Difference]:
    """Where the object is not as the manifest says; without `marks` the federation's own words are left out."""
    found: list[Difference] = []
    for one in _differences(manifest, live, marks=marks):
        found.append(one)
        if len(found) == FOUND_MAX:
            break
    return found


def _differences(manifest: Document, live: Document, *, marks: bool) -> Iterator[Difference]:
    for part in ("labels", "annotations"):
        stated = manifest["metadata"].get(part) or {}
        held = live["metadata"].get(part) or {}
        for key, value in stated.items():
            if (marks or not is_mark(key)) and key != MANIFEST_DIGEST:
                yield from _compare(f'metadata.{part}["{key}"]', value, held.get(key, _ABSENT))
    for name, value in manifest.items():
        if name not in ("apiVersion", "kind", "metadata", "status"):
            yield from _compare(name, value, live.get(name, _ABSENT))


def _compare(path: str, wanted: Any, found: Any) -> Iterator[Difference]:
    if wanted == found:
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from _compare(f"{path}.{key}", value, found.get(key, _ABSENT))
    elif isinstance(wanted, list) and isinstance(found, list):
        yield from _compare_lists(path, wanted, found)
    elif not (_empty(wanted) and (found is _ABSENT or _empty(found))):
        yield Difference(path, wanted, None if found is _ABSENT else found)


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _compare_lists(path: str, wanted: list[Any], found: list[Any]) -> Iterator[Difference]:
    named = _named(wanted, found)
    if named is not None:
        for place, (one, other) in enumerate(named):
            yield from _compare(f"{path}[{place}]", one, other)
    elif len(wanted) != len(found):
        yield Difference(path, wanted, found)
    else:
        for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _compare(f"{path}[{place}]", one, other)


def _named(wanted: list[Any], found: list[Any]) -> list[tuple[Any, Any]] | None:
    """Each wanted item with the one of its name; None where the items have none."""
    everything = [*wanted, *found]
    if not everything or not all(isinstance(item, Mapping) for item in everything):
        return None
    for fields in NAMES:
        if any(item.get(fields[0]) is None for item in everything):
            continue
        theirs = {_name(item, fields): item for item in found}
        mine = {_name(item, fields) for item in wanted}
        if len(theirs) == len(found) and len(mine) == len(wanted):
            return [(item, theirs.get(_name(item, fields), _ABSENT)) for item in wanted]
    return None


def _name(item: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(item.get(field, "")) for field in fields)


def besides(found: Iterable[Difference], settled: Iterable[Difference]) -> list[Difference]:
    """What is not among `settled`: differences that the member's API makes of itself when it is asked for the manifest."""
    known = [(one.path, one.found) for one in settled]
    return [one for one in found if (one.path, one.found) not in known]


# ------------------------------------------------------------------------------------------------------------- words
def told(manifest: Document, found: Sequence[Difference]) -> str:
    """The report: every path with what was found and what is wanted; of a Secret no values."""
    secret = (manifest["apiVersion"], manifest["kind"]) == ("v1", "Secret")
    parts = [one.path if secret else _sentence(one) for one in found[:TOLD_MAX]]
    if len(found) > TOLD_MAX:
        parts.append(f"and {len(found) - TOLD_MAX} more")
    return f"{manifest['kind']} {document_key(manifest)}: {'; '.join(parts)}"


def _sentence(one: Difference) -> str:
    found = "is missing" if one.found is None else f"is {_short(one.found)}"
    return f"{one.path} {found}, wanted {_short(one.wanted)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= VALUE_MAX else text[: VALUE_MAX - 1] + "…"


def writer(live: Document, own: str) -> str:
    """Who wrote last, by the name of its field manager; empty when it is not told or was ourselves."""
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or ()
        if entry.get("manager") != own and not entry.get("subresource")
    ]
    latest = max(entries, key=lambda entry: str(entry.get("time", "")), default=None)
    return "" if latest is None else str(latest.get("manager", ""))


# ----------------------------------------------------------------------------------------------------------- repairs
REPAIRS_MAX: Final = 5
"""Repairs of one object within REPAIRS_S; whoever undoes more is not fought, but waited for."""
REPAIRS_S: Final = 60.0
PAUSE_S: Final = 60.0
PAUSE_MAX_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Repairs:
    """The repairs of one object: when they were made (seconds of a monotonic clock), and the pause that holds."""

    made: tuple[float, ...] = ()
    until: float = 0.0
    pauses: int = 0

    def pause(self, now: float) -> float:
        """Seconds until the next repair may be made; 0 when it may be made now."""
        return max(0.0, self.until - now)

    def after(self, now: float) -> "Repairs":
        """A repair was made. One too many in a minute begins a pause; so does each soon after one, twice as long."""
        if self.pauses and now - self.until < PAUSE_MAX_S:
            pause = min(PAUSE_S * 2**self.pauses, PAUSE_MAX_S)
            return Repairs((now,), now + pause, self.pauses + 1)
        recent = (*(at for at in self.made if now - at < REPAIRS_S), now)
        if len(recent) < REPAIRS_MAX:
            return Repairs(recent)
        return Repairs(recent, now + PAUSE_S, 1)
