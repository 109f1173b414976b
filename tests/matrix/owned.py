"""Kinds that only the product itself makes: what clients may do with its objects, and that they are refused the rest.

At the federation Pods, Nodes and ReplicaSets are those of members; failure domains and imports are drawn from what is seen.
A refusal is checked by its words, and stands in the matrix with its reason.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.matrix.clients import JSON, MERGE, STRATEGIC, Client
from tests.matrix.kinds import Document, Resource, sample
from tests.matrix.record import Absent, Cell, Recorder, Wrong, require
from tests.matrix.truth import Truth, differences, quiet, until

Lender = Callable[[Truth, Resource, str], contextlib.AbstractContextManager[str]]


@dataclass(frozen=True)
class Owned:
    """reason: why clients do not make them. refusal: words of the refusal; empty where what they make is taken away again.

    lend: makes one the way the product does; its name here. deletes: whether clients may delete it.
    passes: whether a change of it is passed on to the member.
    """

    reason: str
    refusal: str
    lend: Lender
    deletes: bool = False
    passes: bool = False


def exercise_owned(truth: Truth, server: str, r: Resource, client: Client, owned: Owned, recorder: Recorder) -> None:  # fmt: skip
    """One client's life with somebody else's objects."""

    def step(verb: str, body: Callable[[], None]) -> None:
        recorder.check(Cell("resources", server, r.title, verb, client.label, "M", ""), body)

    step("create", lambda: _refused(truth, r, client, owned))
    with owned.lend(truth, r, client.label.replace(" ", "").replace(".", "")) as name:
        path = r.path(truth.space, name)
        until(lambda: truth.find(path), f"{path} did not come")
        labels = truth.get(path)["metadata"].get("labels", {})
        label = next((f"{k}={v}" for k, v in labels.items() if v), "")
        with contextlib.ExitStack() as stack:
            events = stack.enter_context(client.watching(r, truth.space, label))
            step("watch", lambda: events.told("ADDED", name))
            step("get", lambda: _get(truth, r, client, name))
            step("list", lambda: _list(truth, r, client, name, label))
            for kind in (JSON, MERGE, STRATEGIC):
                verb = f"patch {kind}"
                step(verb, lambda kind=kind: _patched(truth, r, client, owned, name, kind))
            for verb in ("update", "apply"):
                step(verb, lambda: _absent(owned.reason))
            if owned.deletes:
                step("delete", lambda: _delete(truth, r, client, name))
                step("watch", lambda: events.told("DELETED", name))
            else:
                step("delete", lambda: _absent(owned.reason))
        step("deletecollection", lambda: _absent(owned.reason))


def _absent(reason: str) -> None:
    raise Absent(reason)


def _patched(truth: Truth, r: Resource, client: Client, owned: Owned, name: str, kind: str) -> None:
    """The member's object is changed, and the one that is shown follows."""
    if not owned.passes:
        _absent(owned.reason)
    label = f"by-{kind}"
    body: object = {"metadata": {"labels": {label: "yes"}}}
    if kind == JSON:
        body = [{"op": "add", "path": f"/metadata/labels/{label}", "value": "yes"}]
    client.patch(r, truth.space, name, kind, body)
    there = r.path(truth.space, name.removesuffix(".alpha"))
    labels = _member(truth).get(there)["metadata"]["labels"]
    require(labels.get(label) == "yes", lambda: f"in the member it has {labels}")
    until(lambda: label in truth.get(r.path(truth.space, name))["metadata"]["labels"], "it is not shown")  # fmt: skip
    _member(truth).api.request("PATCH", there, {"metadata": {"labels": {label: None}}}, "merge-patch+json")  # fmt: skip


def _refused(truth: Truth, r: Resource, client: Client, owned: Owned) -> None:
    made = sample(r, truth.space, "refused" + client.label.split()[-1].replace(".", ""))
    assert made is not None
    if owned.refusal:
        try:
            client.create(r, made.document)
        except Exception as error:
            require(owned.refusal in str(error), f"refused otherwise: {error}")
            raise Absent(owned.reason) from error
        raise Wrong("it was taken")
    raise Absent(owned.reason)


def _get(truth: Truth, r: Resource, client: Client, name: str) -> None:
    answer, found = client.get(r, truth.space, name), truth.get(r.path(truth.space, name))
    told = differences(quiet(found), quiet(answer))
    require(not told, lambda: f"shown otherwise than stored: {told}")


def _list(truth: Truth, r: Resource, client: Client, name: str, label: str) -> None:
    found = client.names(r, truth.space, label)
    require(name in found, lambda: f"of {label} it lists {found}")
    found = client.names(r, truth.space, "matrix=nobody")
    require(found == [], lambda: f"of matrix=nobody it lists {found}")


def _delete(truth: Truth, r: Resource, client: Client, name: str) -> None:
    client.delete(r, truth.space, name)
    truth.gone(r.path(truth.space, name))


# ---------------------------------------------------------------------------------------------------- how they are made
def _member(truth: Truth) -> Truth:
    return Truth(truth.kubeconfig, "alpha")


@contextlib.contextmanager
def _in_member(truth: Truth, r: Resource, slug: str) -> Iterator[str]:
    """One like the sample, made in the member."""
    member = _member(truth)
    until(lambda: member.find(f"/api/v1/namespaces/{truth.space}"), "the namespace did not travel")
    account = f"/api/v1/namespaces/{truth.space}/serviceaccounts/default"
    until(lambda: member.find(account), "the namespace has no account")
    made = sample(r, truth.space, slug)
    assert made is not None
    path = r.path(truth.space, made.name)
    member.remove(path)
    member.gone(path)
    member.api.create(r.collection(truth.space), made.document)
    try:
        yield f"{made.name}.alpha"
    finally:
        member.remove(path)


@contextlib.contextmanager
def _first(truth: Truth, r: Resource, slug: str) -> Iterator[str]:
    """One that is there anyway."""
    items = until(lambda: truth.get(r.collection(truth.space))["items"], "there is none")
    yield items[0]["metadata"]["name"]


@contextlib.contextmanager
def _imported(truth: Truth, r: Resource, slug: str) -> Iterator[str]:
    """A Service of the member that is exported."""
    member = _member(truth)
    until(lambda: member.find(f"/api/v1/namespaces/{truth.space}"), "the namespace did not travel")
    name = f"lent-{slug}-{r.version}"
    core = f"/api/v1/namespaces/{truth.space}/services"
    exports = f"/apis/multicluster.x-k8s.io/v1beta1/namespaces/{truth.space}/serviceexports"
    service: Document = {
        "metadata": {"name": name},
        "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
    }
    for path, document in ((core, service), (exports, {"metadata": {"name": name}})):
        if member.find(f"{path}/{name}") is None:
            member.api.create(path, _whole(path, document))
    try:
        yield name
    finally:
        member.remove(f"{exports}/{name}")
        member.remove(f"{core}/{name}")


def _whole(path: str, document: Document) -> Document:
    if path.startswith("/apis"):
        return {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", **document}
    return {"apiVersion": "v1", "kind": "Service", **document}


OWNED = {
    ("federation", "v1 pods"): Owned(
        "pods run in members; the federation shows theirs", "the federation runs no pods itself", _in_member, True, True
    ),
    ("federation", "v1 nodes"): Owned(
        "nodes belong to members; the federation shows theirs", "nodes belong to a member cluster", _first, False, True
    ),
    ("federation", "apps/v1 replicasets"): Owned(
        "at the federation ReplicaSets record revisions, or are members'", "only record the revisions", _in_member
    ),
    ("federation", "ubernetes.io/v1alpha1 failuredomains"): Owned(
        "the failure clock makes them; one that stands for nothing is taken away", "", _first
    ),
    ("federation", "multicluster.x-k8s.io/v1beta1 serviceimports"): Owned(
        "made of members' exports; one that nobody exports is taken away", "", _imported
    ),
    ("federation", "multicluster.x-k8s.io/v1alpha1 serviceimports"): Owned(
        "made of members' exports; one that nobody exports is taken away", "", _imported
    ),
}  # fmt: skip
