"""What decisions leave behind for the journal, and whether a journaled decision still comes out the same. Pure.

A controller that decides puts a `Note` on the write that carries its decision (`noted`); who keeps the journal hears of it when
the write has been done (`federation.controllers.journal`). `replays` decides a Decision again from what it holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from federation.placement import journal
from federation.placement.journal import Answer, Asked, Function, JournalError, Record
from federation.placement.model import Decision, NoFit
from machinery.api.fleet.decision import Decision as Journaled
from machinery.api.fleet.decision import FleetRecord
from machinery.controller.action import Action, Patch, SetStatus
from machinery.meta.resource import Document

FUNCTIONS: Mapping[str, Function] = journal.PLACEMENTS
"""Everything that can be replayed."""


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


def noted(actions: list[Action], note: Note) -> list[Action]:
    """The same actions, with the note on the first write."""
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
