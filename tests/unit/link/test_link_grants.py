"""What the member's link hands on of grants, and when it answers with an inventory."""

from typing import Any

import msgspec
import pytest

from cluster_agent.link.grants import Prepared, allowed, due
from cluster_agent.link.heartbeat import Heartbeat
from cluster_agent.link.inventory import Inventory
from machinery.api.coordination import LEASES, Lease
from machinery.api.core import Pod
from machinery.api.fleet.cluster import INVENTORY, INVENTORY_WANTED
from machinery.api.fleet.resilience import EPOCH, GRANT, GRANT_SECONDS, GRANT_WORK, WITHHELD
from machinery.kit.clock import FakeClock
from machinery.meta.resource import Document


def pod(phase: str = "Running", node: str = "node-1", **annotations: str) -> Pod:
    notes = {GRANT_SECONDS: "30", GRANT_WORK: "web-1", EPOCH: "7"} | {
        {"grant": GRANT, "epoch": EPOCH, "work": GRANT_WORK}[k]: v for k, v in annotations.items()
    }
    document = {
        "metadata": {"name": "web-1", "namespace": "demo", "annotations": notes},
        "spec": {"nodeName": node},
        "status": {"phase": phase},
    }
    return msgspec.convert(document, Pod)


def work(deleting: bool = False, **annotations: str) -> Document:
    metadata: Document = {"name": "web-1", "annotations": annotations}
    return {"metadata": metadata | ({"deletionTimestamp": "now"} if deleting else {})}


@pytest.mark.parametrize(
    ("held", "epochs"),
    [
        (work(**{EPOCH: "7"}), {"web-1": "7"}),
        (work(**{EPOCH: "7", WITHHELD: "true"}), {}),
        (work(True, **{EPOCH: "7"}), {}),
    ],
    ids=["placed here", "maybe running elsewhere", "on its way out"],
)
def test_which_works_may_run(held: Document, epochs: dict[str, str]) -> None:
    assert allowed([held]) == epochs


PREPARED = Prepared({"node-1": "w2"}, {"web-1": "7"})


@pytest.mark.parametrize(
    ("found", "prepared", "granted"),
    [
        (pod(), PREPARED, True),
        (pod(grant="w1"), PREPARED, True),
        (pod(grant="w2"), PREPARED, False),
        (pod(epoch="6"), PREPARED, False),
        (pod(work="other"), PREPARED, False),
        (pod(node="node-2"), PREPARED, False),
        (pod("Failed"), PREPARED, False),
        (pod(), Prepared({"node-1": "w2"}, {}), False),
    ],
    ids=[
        "first",
        "renewed",
        "already",
        "an old epoch",
        "no such Work",
        "a silent node",
        "ended",
        "withheld",
    ],
)
def test_who_is_granted(found: Pod, prepared: Prepared, granted: bool) -> None:
    assert [word for _, word in due([found], prepared)] == (["w2"] if granted else [])


class Federation:
    """Answers as the federation would; `calls` tells in which order it was asked."""

    def __init__(self, word: str = "") -> None:
        self.word, self.calls = word, []  # type: ignore[var-annotated]
        self.works: list[Document] = []

    async def patch(self, resource: Any, key: Any, patch: Any, *rest: Any, **more: Any) -> Any:
        self.calls.append((resource.plural, patch))
        if resource is LEASES:
            annotations = {INVENTORY_WANTED: self.word} if self.word else {}
            return msgspec.convert({"metadata": {"annotations": annotations}}, Lease)
        return None

    async def list(self, resource: Any, namespace: str = "", options: Any = None) -> Any:
        class Listing:
            items = self.works if resource.plural == "works" else []

        return Listing()


async def test_an_inventory_is_made_once_for_a_word_and_after_every_work() -> None:
    federation, clock = Federation("word-1"), FakeClock()
    federation.works = [
        {"metadata": {"name": name, "namespace": "karmada-es-alpha"} | more}
        for name, more in (("a", {}), ("b", {"deletionTimestamp": "now"}), ("c", {}))
    ]
    brought: list[str] = []

    async def bring(key: Any, _: Document) -> None:
        brought.append(key.name)
        assert not any(plural == "clusters" for plural, _ in federation.calls)

    inventory = Inventory(federation, federation, clock, "alpha", bring)  # type: ignore[arg-type]
    heartbeat = Heartbeat(federation, clock, "alpha", inventory.heard)  # type: ignore[arg-type]
    await heartbeat.run_once()
    assert inventory.answered == ""
    await inventory.answer("word-1")
    assert brought == ["a", "c"]
    assert inventory.answered == "word-1"
    (answer,) = [patch for plural, patch in federation.calls if plural == "clusters"]
    assert answer["metadata"]["annotations"][INVENTORY] == "word-1"
