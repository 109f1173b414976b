"""Garbage collection: owners solid, gone or waiting; foreground, orphaning, and circles."""

import pytest
from tests.unit.control.builders import NOW

from machinery.api.core import CONFIGMAPS
from machinery.api.kinds import BUILTIN
from machinery.controller.action import Action, Delete, Patch
from machinery.controllers.garbagecollector.controller import collected
from machinery.controllers.garbagecollector.plan import (
    FOREGROUND,
    ORPHAN,
    Item,
    Standing,
    plan,
)
from machinery.meta.objectmeta import Object, ObjectMeta, OwnerReference


def item(
    name: str,
    *owners: str,
    finalizers: tuple[str, ...] = (),
    deleting: bool = False,
    blocking: bool = True,
) -> Item:
    references = tuple(
        OwnerReference(
            api_version="v1", kind="ConfigMap", name=o, uid=o, block_owner_deletion=blocking
        )
        for o in owners
    )
    meta = ObjectMeta(
        name=name,
        namespace="ns",
        uid=name,
        resource_version="5",
        owner_references=references,
        finalizers=finalizers,
        deletion_timestamp=NOW if deleting else None,
    )
    return Item(CONFIGMAPS, Object(metadata=meta))


def judged(thing: Item, *standings: Standing) -> list[tuple[OwnerReference, Standing]]:
    return list(zip(thing.object.metadata.owner_references, standings, strict=True))


def brief(actions: list[Action]) -> list[tuple[str, ...]]:
    told: list[tuple[str, ...]] = []
    for action in actions:
        if isinstance(action, Delete):
            told.append(("delete", action.key.name, action.propagation_policy))
        elif isinstance(action, Patch):
            metadata = dict(action.patch)["metadata"]  # type: ignore[arg-type]
            told.append(("patch", action.key.name, str(metadata)))
    return told


@pytest.mark.parametrize(
    ("thing", "standings", "dependents", "expected"),
    [
        pytest.param(item("c", "a"), [Standing.SOLID], [], [], id="solid owner"),
        pytest.param(
            item("c", "a"),
            [Standing.ABSENT],
            [],
            [("delete", "c", "Background")],
            id="absent owner",
        ),
        pytest.param(item("c", "a"), [Standing.UNKNOWN], [], [], id="owner of an unknown kind"),
        pytest.param(
            item("c", "a", finalizers=(ORPHAN,)),
            [Standing.ABSENT],
            [],
            [("delete", "c", "Orphan")],
            id="its own finalizer says how",
        ),
        pytest.param(
            item("c", "a", deleting=True), [Standing.ABSENT], [], [], id="already being deleted"
        ),
        pytest.param(
            item("c", "a"),
            [Standing.WAITING],
            [item("d", "c")],
            [("delete", "c", "Foreground")],
            id="waiting owner: the chain goes from its end",
        ),
        pytest.param(
            item("c", "a"),
            [Standing.WAITING],
            [],
            [("delete", "c", "Background")],
            id="waiting owner, last of the chain",
        ),
        pytest.param(
            item("a", deleting=True, finalizers=(FOREGROUND,)),
            [],
            [item("b", "a")],
            [],
            id="foreground waits for those that block",
        ),
        pytest.param(
            item("a", deleting=True, finalizers=(FOREGROUND,)),
            [],
            [item("b", "a", blocking=False)],
            [("patch", "a", "{'finalizers': None}")],
            id="foreground does not wait for others",
        ),
    ],
)
def test_verdicts(
    thing: Item, standings: list[Standing], dependents: list[Item], expected: list[tuple[str, ...]]
) -> None:
    assert brief(plan(thing, judged(thing, *standings), dependents)) == expected


def test_gone_owner_is_taken_out_while_another_stands() -> None:
    thing = item("c", "a", "b")
    (action,) = plan(thing, judged(thing, Standing.ABSENT, Standing.SOLID), [])
    assert isinstance(action, Patch)
    assert action.resource_version == "5"
    assert [o["uid"] for o in dict(action.patch)["metadata"]["ownerReferences"]] == ["b"]  # type: ignore[arg-type]


def test_orphaning_frees_the_dependents_first() -> None:
    owner = item("a", deleting=True, finalizers=("keep", ORPHAN))
    actions = plan(owner, [], [item("b", "a"), item("c", "a", "x")])
    assert [a.key.name for a in actions if isinstance(a, Patch)] == ["b", "c", "a"]
    assert brief(actions)[-1] == ("patch", "a", "{'finalizers': ['keep']}")


def test_circle_of_foreground_deletions_is_broken() -> None:
    thing = item("b", "a")
    dependent = item("a", "b", deleting=True, finalizers=(FOREGROUND,))
    actions = plan(thing, judged(thing, Standing.WAITING), [dependent])
    assert brief(actions)[-1] == ("delete", "b", "Foreground")
    assert "blockOwnerDeletion" not in brief(actions)[0][2]


def test_events_and_reviews_are_not_collected() -> None:
    names = {(k.group, k.plural) for k in collected(BUILTIN)}
    assert ("", "pods") in names
    assert ("", "events") not in names
    assert not {n for _, n in names if n.endswith("reviews")}
