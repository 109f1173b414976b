"""The journal of decisions: what a decision was made of and what it came to, as values that can be decided again. Pure.

An entry holds the name of a pure function, its inputs and its answer. Replaying is calling the function with the decoded inputs
and comparing the answers field by field. What can be computed from the inputs (scores, room, weights, tie-breaks) is not
stored: `federation.placement.explain` computes it again, and a replay says whether it still comes out the same.

Most of the inputs is the fleet, and a hundred clusters differ little from one decision to the next. So a fleet is stored once,
as a record of its own, and an entry says of which record it goes out and which fields of which clusters differ by now
(`free` after each reservation, `barred` by affinity). When too many do, the next record is due (`stale`). The hash of an entry
is taken over the clusters themselves, not over how they were written down, so that the same inputs have the same hash.

    record   {"kinds": [[[apiVersion, kind], …], …], "clusters": {name: {field: value}}}
             a cluster's `kinds` is a number: most members serve the same ones
    entry    {"values": …, "changed": {name: {field: value} | null}, "order": [names, where it is not that of names]}

Both are canonical JSON (keys and sets sorted); past `PACK_BYTES` they are packed.
"""

import base64
import hashlib
import operator
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import msgspec

from federation.placement.model import Candidate, Decision, NoFit, Request
from federation.placement.plan import most, place

JSON, ZLIB = "json", "zlib"
PACK_BYTES = 1500
"""Longer texts are packed."""
UNPACKED_BYTES_MAX = 64 * 2**20
"""No honest entry is longer; one that is would only fill the memory."""
CHANGED_MIN, CHANGED_SHARE = 4, 2
"""A record is stale when more than so many clusters, and more than half, differ in what lasts beyond one decision."""
PASSING = frozenset({"barred", "estimate", "taints"})
"""Fields that differ from one workload to the next, not from one moment to the next."""
SCHEDULED, SHORT = "Scheduled", "PartlyScheduled"
SHOWN_MAX = 12
"""Clusters that a message names."""

_FIELDS = Candidate.__struct_fields__
_NUMBERS = range(len(_FIELDS))
_all = operator.attrgetter(*_FIELDS)
_DEFAULTS = {name: getattr(Candidate(""), name) for name in _FIELDS if name != "name"}


class JournalError(ValueError):
    """An entry that cannot be read, in one sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function came to: its fields as they stand in a Decision, and the sentence for people."""

    result: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """One that can be replayed: the type of its values, and how to call it. Must be pure."""

    values: type[Any]
    call: Callable[[Any, Sequence[Candidate]], Answer]


@dataclass(frozen=True, slots=True)
class Asked:
    """A function's name and its inputs."""

    function: str
    values: Any
    fleet: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A fleet that is stored: its name is the hash of its content."""

    name: str
    clusters: Mapping[str, Candidate]


NO_RECORD = Record("", {})


# ---------------------------------------------------------------------------------------------------------- answers
def answered(decision: Decision, result: str = SCHEDULED) -> Answer:
    """A placement."""
    told = [{"reason": w.reason, "message": w.message} for w in decision.warnings]
    found: dict[str, Any] = {
        "clusters": [{"name": n, "replicas": c} for n, c in sorted(decision.targets.items())],
        "leftOut": grouped(decision.left_out),
        "warnings": told,
        "waiting": dict(sorted(decision.waiting.items())),
        "affinityName": decision.affinity_name,
    }
    return Answer(result, counts(decision.targets), {k: v for k, v in found.items() if v})


def refused(error: NoFit) -> Answer:
    """A placement that is not possible."""
    left = grouped(error.left_out)
    return Answer(error.reason, str(error), {"leftOut": left} if left else {})


def grouped(left_out: Mapping[str, str]) -> list[dict[str, Any]]:
    """Clusters by the reason for which they were left out."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(left_out.items()):
        by_reason.setdefault(reason, []).append(name)
    return [{"reason": why, "clusters": names} for why, names in sorted(by_reason.items())]


def counts(clusters: Mapping[str, int]) -> str:
    """`alpha:2, beta:1`."""
    parts = [f"{name}:{count}" for name, count in sorted(clusters.items())]
    more = len(parts) - SHOWN_MAX
    shown = ", ".join(parts[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
    return shown or "no cluster"


def _placed(request: Request, fleet: Sequence[Candidate]) -> Answer:
    try:
        return answered(place(request, fleet))
    except NoFit as error:
        return refused(error)


def _most(request: Request, fleet: Sequence[Candidate]) -> Answer:
    found = most(request, fleet)
    return Answer("Nothing", "no more fits") if found is None else answered(found, SHORT)


PLACE, MOST = "place", "most"
PLACEMENTS: Mapping[str, Function] = {
    PLACE: Function(Request, _placed),
    MOST: Function(Request, _most),
}
"""The functions of this room; moves have theirs (`federation.propagation.replays`)."""


# ----------------------------------------------------------------------------------------------------------- writing
_encoder = msgspec.json.Encoder(order="deterministic")


def canonical(value: Any) -> bytes:
    """JSON of which there is one for each value."""
    return _encoder.encode(value)


def pack(data: bytes) -> tuple[str, str]:
    """Encoding and text."""
    if len(data) <= PACK_BYTES:
        return JSON, data.decode()
    return ZLIB, base64.b64encode(zlib.compress(data, 1)).decode()


def unpack(encoding: str, text: str) -> bytes:
    """The JSON. Raises JournalError."""
    if encoding == JSON:
        return text.encode()
    if encoding != ZLIB:
        raise JournalError(f"unknown encoding {encoding!r}")
    try:
        machine = zlib.decompressobj()
        data = machine.decompress(base64.b64decode(text, validate=True), UNPACKED_BYTES_MAX)
    except (ValueError, zlib.error) as error:
        raise JournalError(f"the inputs cannot be unpacked: {error}") from error
    if machine.unconsumed_tail:
        raise JournalError(f"the inputs are longer than {UNPACKED_BYTES_MAX} bytes")
    return data


def recorded(fleet: Sequence[Candidate]) -> tuple[Record, bytes]:
    """The fleet as a record of its own, and that written down. What is barred or estimated is of one workload, and stays out."""
    clusters = {c.name: _of_all(c) for c in fleet}
    numbers: dict[frozenset[tuple[str, str]], int] = {}
    documents: dict[str, dict[str, Any]] = {}
    for name, candidate in clusters.items():
        document = {
            key: value for key, value in _told(candidate).items() if key not in ("name", "kinds")
        }
        if candidate.kinds is not None:
            document["kinds"] = numbers.setdefault(candidate.kinds, len(numbers))
        documents[name] = document
    data = canonical({"kinds": list(numbers), "clusters": documents})
    return Record(hashlib.sha256(data).hexdigest()[:32], clusters), data


def _of_all(candidate: Candidate) -> Candidate:
    if not candidate.barred and candidate.estimate is None:
        return candidate
    return msgspec.structs.replace(candidate, barred="", estimate=None)


def _told(candidate: Candidate) -> dict[str, Any]:
    """The fields that say something."""
    found = {name: getattr(candidate, name) for name in _FIELDS}
    return {k: v for k, v in found.items() if k == "name" or v != _DEFAULTS[k]}


def changed(fleet: Sequence[Candidate], record: Record) -> dict[str, dict[str, Any] | None]:
    """Which fields of which clusters are not as in the record; None: the cluster is not there."""
    found: dict[str, dict[str, Any] | None] = {}
    base = record.clusters
    for candidate in fleet:
        known = base.get(candidate.name)
        if known is candidate:
            continue
        if known is None:
            found[candidate.name] = _told(candidate)
            continue
        values, held = _all(candidate), _all(known)
        others = compress(_NUMBERS, map(operator.is_not, values, held))  # most are one object
        if differs := {_FIELDS[n]: values[n] for n in others if values[n] != held[n]}:
            found[candidate.name] = differs
    if len(base) + sum(c.name not in base for c in fleet) > len(fleet):
        present = {c.name for c in fleet}
        found |= {name: None for name in base if name not in present}
    return found


def stale(change: Mapping[str, Mapping[str, Any] | None], record: Record) -> bool:
    """Whether so much differs that another record costs less."""
    lasting = sum(1 for one in change.values() if one is None or not PASSING.issuperset(one))
    return lasting > max(CHANGED_MIN, len(record.clusters) // CHANGED_SHARE)


def entry(asked: Asked, record: Record, change: Mapping[str, Any]) -> bytes:
    """The inputs written down, going out from the record."""
    document: dict[str, Any] = {"values": asked.values}
    if change:
        document["changed"] = change
    names = [c.name for c in asked.fleet]
    if names != sorted(names):
        document["order"] = names
    return canonical(document)


class Digests:
    """Hashes of inputs. Remembers each cluster's, since few change from one decision to the next; bounded by the fleet."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Candidate, bytes]] = {}
        self._kinds: tuple[frozenset[tuple[str, str]] | None, bytes] = (None, b"")

    def of(self, asked: Asked) -> str:
        """128 bits over function, values and clusters, in their order; in hex."""
        whole = hashlib.sha256(asked.function.encode())
        whole.update(canonical(asked.values))
        whole.update(b"".join([self._of(c) for c in asked.fleet]))
        if len(self._known) > 2 * len(asked.fleet) + 16:
            self._known.clear()  # clusters that have left
        return whole.hexdigest()[:32]

    def _of(self, candidate: Candidate) -> bytes:
        known = self._known.get(candidate.name)
        if known is not None and (known[0] is candidate or known[0] == candidate):
            return known[1]
        own = hashlib.sha256(self._of_kinds(candidate.kinds))
        own.update(canonical(msgspec.structs.replace(candidate, kinds=None)))
        digest = own.digest()[:16]
        self._known[candidate.name] = (candidate, digest)
        return digest

    def _of_kinds(self, kinds: frozenset[tuple[str, str]] | None) -> bytes:
        known, digest = self._kinds
        if digest and (known is kinds or known == kinds):
            return digest
        self._kinds = (kinds, hashlib.sha256(canonical(kinds)).digest())
        return self._kinds[1]


# ----------------------------------------------------------------------------------------------------------- reading
def read_record(name: str, data: bytes) -> Record:
    """The fleet that was stored under the name. Raises JournalError."""
    if hashlib.sha256(data).hexdigest()[:32] != name:
        raise JournalError(f"the record of the fleet is not what {name} was made of")
    try:
        document = msgspec.json.decode(data)
        kinds = document["kinds"]
        clusters = {
            cluster: msgspec.convert(
                told
                | {"name": cluster}
                | ({"kinds": kinds[told["kinds"]]} if "kinds" in told else {}),
                Candidate,
            )
            for cluster, told in document["clusters"].items()
        }
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise JournalError(f"the record of the fleet cannot be read: {error}") from error
    return Record(name, clusters)


def read(
    function: str, data: bytes, record: Record, functions: Mapping[str, Function] = PLACEMENTS
) -> Asked:
    """The inputs as they were. Raises JournalError."""
    known = functions.get(function)
    if known is None:
        raise JournalError(f"this version knows no function {function!r} to replay")
    try:
        document = msgspec.json.decode(data)
        values = msgspec.convert(document["values"], known.values)
        clusters = dict(record.clusters)
        for name, fields_ in (document.get("changed") or {}).items():
            if fields_ is None:
                clusters.pop(name, None)
                continue
            held = msgspec.to_builtins(clusters.get(name, Candidate(name)))
            clusters[name] = msgspec.convert(held | fields_, Candidate)
        names = document.get("order") or sorted(clusters)
        return Asked(function, values, tuple(clusters[name] for name in names))
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"the inputs cannot be read: {error}") from error


# --------------------------------------------------------------------------------------------------------- replaying
ANSWER_FIELDS = ("clusters", "kept", "waiting", "affinityName", "leftOut", "warnings")


def replay(
    spec: Mapping[str, Any], asked: Asked, functions: Mapping[str, Function] = PLACEMENTS
) -> str:
    """What comes out otherwise than the Decision's spec says, in one sentence; empty: the same."""
    digest = Digests().of(asked)
    if digest != spec["inputs"]["hash"]:
        return f"inputs: their hash is {digest}, {spec['inputs']['hash']} was recorded"
    again = functions[asked.function].call(asked.values, asked.fleet)
    recorded_ = {name: spec[name] for name in ANSWER_FIELDS if spec.get(name)}
    return difference(Answer(spec["result"], spec.get("message", ""), recorded_), again)


def difference(before: Answer, after: Answer) -> str:
    """The first field that differs, and how."""
    if before.result != after.result:
        return f"result: {before.result} was recorded, {after.result} comes out ({after.message})"
    for name in ANSWER_FIELDS:
        held, fresh = before.fields.get(name), after.fields.get(name)
        if held != fresh:
            return f"{name}: {_text(held)} was recorded, {_text(fresh)} comes out"
    if before.message != after.message:
        return f"message: {before.message!r} was recorded, {after.message!r} comes out"
    return ""


def _text(value: Any) -> str:
    """Counts as counts, everything else as JSON."""
    if isinstance(value, list) and value and "replicas" in value[0]:
        return counts({one["name"]: one.get("replicas", 0) for one in value})
    return "nothing" if not value else canonical(value).decode()
