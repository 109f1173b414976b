"""ControllerRevisions: the number of the present template, names that are taken, and what is forgotten."""

from typing import Any

import pytest
from tests.unit.control.builders import template
from tests.unit.control.set_builders import daemon_set, revision, stateful_set

from cluster_agent.control.controllers import history
from cluster_agent.control.controllers.history import Keep, Make, Owner, Renumber
from cluster_agent.control.controllers.sets import REVISIONS, ControllerRevision
from machinery.controller.action import Delete

SET = stateful_set()
PRESENT = history.data_of(SET)
OTHER = {"spec": {"template": {**template("img:9"), "$patch": "replace"}}}


def test_a_new_template_gets_the_next_number() -> None:
    step = history.step(SET, [revision("w-a", 4, OTHER)], 0)
    assert isinstance(step, Make)
    document = step.document
    assert document["revision"] == 5
    assert document["data"] == PRESENT
    (owner,) = document["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("StatefulSet", "w", True)
    labels = document["metadata"]["labels"]
    assert labels["app"] == "d"
    assert document["metadata"]["name"] == f"w-{labels['controller.kubernetes.io/hash']}"
    again = history.step(SET, [], 1)
    assert isinstance(again, Make)
    assert again.document["metadata"]["name"] != document["metadata"]["name"]


def test_the_revision_of_a_daemon_set_carries_the_label_of_its_pods() -> None:
    step = history.step(daemon_set(), [], 0)
    assert isinstance(step, Make)
    labels = step.document["metadata"]["labels"]
    assert step.document["metadata"]["name"] == f"a-{labels['controller-revision-hash']}"


@pytest.mark.parametrize("owner", [SET, daemon_set()])
def test_a_template_that_is_there_keeps_or_gets_the_highest_number(owner: Owner) -> None:
    present = history.data_of(owner)
    newest = revision("w-b", 2, present)
    assert history.step(owner, [newest, revision("w-a", 1, OTHER)], 0) == Keep(newest)
    back = revision("w-a", 1, present)
    step = history.step(owner, [revision("w-b", 2, OTHER), back], 0)
    assert step == Renumber(back, 3)
    patch = history.renumber(Renumber(back, 3))
    assert (patch.patch, patch.uid, patch.resource_version) == ({"revision": 3}, "w-a-uid", "3")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (PRESENT, template("img:2")),
        ({}, {}),
        ({"spec": "x"}, {}),
        ({"spec": {"template": None}}, {}),
    ],
)
def test_the_template_in_a_revision(data: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert history.template_of(revision("w-a", 1, data)) == wanted


def test_the_oldest_that_nobody_uses_are_forgotten() -> None:
    known: list[ControllerRevision] = [revision(f"w-{n}", n, OTHER) for n in (3, 1, 4, 2, 5)]
    idle = history.idle(known, {"w-5", "w-2"})
    assert [one.metadata.name for one in idle] == ["w-1", "w-3", "w-4"]
    assert history.trim(idle, 1) == [Delete(REVISIONS, idle[0].key, uid="w-1-uid")]
    assert history.trim(idle, -2) == []


def test_the_hash_of_a_revision_without_its_label_is_its_name() -> None:
    assert history.hash_of(revision("a-x", 1, OTHER)) == "a-x"
    assert history.hash_of(revision("a-x", 1, OTHER, **{"controller-revision-hash": "x"})) == "x"
