"""What decisions leave behind for the journal, and whether a journaled decision still comes out the same. Pure.

A controller that decides puts a `Note` on the write that carries its decision (`noted`); who keeps the journal hears of it when
the write has been done (`federation.controllers.journal`). `replays` decides a Decision again from what it holds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from federation.placement import journal
from federation.placement.journal import Answer, Asked, Function, JournalError, Record
from federation.placement.model import Candidate, Decision, NoFit, Request
from federation.propagation import components, evictions, moves
from federation.propagation.moves import Facts, Manner, State
from machinery.api.fleet.decision import Decision as Journaled
from machinery.api.fleet.decision import FleetRecord
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Patch, SetStatus
from machinery.meta.resource import Document

EVICT, SETTLE, QUOTA = "evict", "settle", "quota"


@dataclass(frozen=True, slots=True)
class Eviction:
    """What `moves.evict` is asked."""

    state: State
    cluster: str
    reason: str
    why: str
    facts: Facts
    manner: Manner = moves.AS_EVER

    def after(self) -> State:
        return moves.evict(self.state, self.cluster, self.reason, self.why, self.facts, self.manner)


@dataclass(frozen=True, slots=True)
class Settling:
    """What `moves.settle` is asked, and `evictions.assess` of what it comes to."""

    state: State
    facts: Facts

    def after(self) -> State:
        return evictions.assess(moves.settle(self.state, self.facts), self.facts).state


@dataclass(frozen=True, slots=True)
class Limited:
    """A placement that a quota refused: how it was asked for, and what the quota said."""

    function: str
    request: Request
    reason: str
    refusal: str


def _limited(asked: Limited, fleet: Sequence[Candidate]) -> Answer:
    """What the quota said is taken as it was; the placement that it refused is found again."""
    found = journal.PLACEMENTS[asked.function].call(asked.request, fleet)
    return Answer(asked.reason, f"{asked.refusal} (without it: {found.message})")


def by_quota(placing: Iterable[Action], refusal: list[Action], error: NoFit) -> list[Action]:
    """The refusal of a placement by a quota, with a note of both."""
    note = _note_of(placing) if refusal else None
    return noted(refusal, _of_limited(note, error)) if note is not None else refusal


def _of_limited(note: "Note", error: NoFit) -> "Note | None":
    if note.asked.function not in journal.PLACEMENTS:
        return None
    values = Limited(note.asked.function, note.asked.values, error.reason, str(error))
    asked = Asked(QUOTA, values, note.asked.fleet)
    return replace(note, asked=asked, came_to=_limited(values, note.asked.fleet))


def _note_of(actions: Iterable[Action]) -> "Note | None":
    """The note on the first write that has one."""
    notes = (a.note for a in actions if isinstance(a, Patch | SetStatus))
    return next((note for note in notes if isinstance(note, Note)), None)


def _evicted(asked: Eviction, _: Sequence[Candidate]) -> Answer:
    return moved("Evicted", asked.after(), f"{asked.cluster} is left: {asked.why}")


def _settled(asked: Settling, _: Sequence[Candidate]) -> Answer:
    before, after = asked.state, asked.after()
    back = ", ".join(sorted(before.evicting - after.evicting))
    return moved("Settled", after, f"{back} is not left any more" if back else "")


def moved(result: str, state: State, first: str = "") -> Answer:
    """What a move comes to: where replicas shall be, and what clusters keep besides."""
    kept = {name: count for name in sorted(state.running) if (count := state.kept(name))}
    clusters = [{"name": n, "replicas": c} for n, c in sorted(state.clusters.items())]
    parts = [first] if first else []
    parts.append(journal.counts(state.clusters))
    if kept:
        parts.append(f"kept besides: {journal.counts(kept)}")
    found = {"clusters": clusters, "kept": kept}
    return Answer(result, "; ".join(parts), {k: v for k, v in found.items() if v})


FUNCTIONS: Mapping[str, Function] = dict(journal.PLACEMENTS) | {
    QUOTA: Function(Limited, _limited),
    EVICT: Function(Eviction, _evicted),
    SETTLE: Function(Settling, _settled),
}
"""Everything that can be replayed."""


def evicted(binding: ResourceBinding, asked: Eviction) -> "Note":
    """Of a cluster that is left."""
    return _note("evictor", binding, Asked(EVICT, asked), asked.facts.question)


def settled(binding: ResourceBinding, asked: Settling) -> "Note | None":
    """Of a move that is taken back or given up. That replicas are let go one by one is no decision: it follows from the move."""
    after = asked.after()
    if after.clusters == asked.state.clusters and after.evicting == asked.state.evicting:
        return None
    return _note("failover", binding, Asked(SETTLE, asked), asked.facts.question)


def _note(controller: str, binding: ResourceBinding, asked: Asked, question: str) -> "Note":
    before = components.placed(binding)
    answer = FUNCTIONS[asked.function].call(asked.values, asked.fleet)
    return Note(controller, asked, answer, before, question)


@dataclass(frozen=True, slots=True)
class Note:
    """A decision: who made it, of what, and what it came to. Cheap to make; it is written down later, if at all."""

    controller: str
    asked: Asked
    came_to: Decision | NoFit | Answer
    before: Mapping[str, int] = field(default_factory=dict)
    question: str = ""

    @property
    def answer(self) -> Answer:
        """As it is written down."""
        found = self.came_to
        if isinstance(found, Answer):
            return found
        if isinstance(found, NoFit):
            return journal.refused(found)
        whole = self.asked.function != journal.MOST
        return journal.answered(found, journal.SCHEDULED if whole else journal.SHORT)


def noted(actions: list[Action], note: Note | None) -> list[Action]:
    """The same actions, with the note on the first write."""
    if note is None:
        return actions
    for number, action in enumerate(actions):
        if isinstance(action, Patch | SetStatus):
            return [*actions[:number], replace(action, note=note), *actions[number + 1 :]]
    return actions


# --------------------------------------------------------------------------------------------------------- replaying
def record_of(document: Document | FleetRecord | None) -> Record:
    """The fleet of a FleetRecord. Raises JournalError."""
    if document is None:
        raise JournalError("the fleet that it was decided of is in the journal no more")
    if not isinstance(document, FleetRecord):
        document = msgspec.convert(document, FleetRecord)
    data = journal.unpack(document.spec.encoding, document.spec.data)
    return journal.read_record(document.metadata.name, data)


def inputs_of(decision: Journaled, fleet: FleetRecord | None) -> Asked:
    """What the decision was made of. Raises JournalError."""
    inputs = decision.spec.inputs
    record = record_of(fleet) if inputs.fleet else journal.NO_RECORD
    data = journal.unpack(inputs.encoding, inputs.data)
    return journal.read(decision.spec.function, data, record, FUNCTIONS)


def replays(
    document: Mapping[str, Any], fleet_of: Callable[[str], Mapping[str, Any] | None]
) -> str:
    """What a Decision's document would come to otherwise today, in one sentence; empty: the same.

    `fleet_of` gives the FleetRecord of a name.
    """
    try:
        decision = msgspec.convert(document, Journaled)
        name = decision.spec.inputs.fleet
        held = fleet_of(name) if name else None
        asked = inputs_of(decision, None if held is None else msgspec.convert(held, FleetRecord))
    except (JournalError, msgspec.MsgspecError) as error:
        return str(error)
    return journal.replay(document["spec"], asked, FUNCTIONS)
