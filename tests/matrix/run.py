"""A run: which tables, on which servers, with which clients."""

import contextlib
import functools
import importlib.metadata
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.matrix import charts, checklist, desk, kinds, operators, python_checks, pythons, tools
from tests.matrix.clients import Client, Kubectl, scratch
from tests.matrix.commands_change import apply  # noqa: F401 - importing registers the commands
from tests.matrix.commands_create import create  # noqa: F401
from tests.matrix.commands_local import view  # noqa: F401
from tests.matrix.commands_read import get  # noqa: F401
from tests.matrix.commands_stream import logs  # noqa: F401
from tests.matrix.exercise import Exercise, known
from tests.matrix.kinds import Resource
from tests.matrix.owned import OWNED, exercise_owned
from tests.matrix.record import Absent, Cell, Recorder
from tests.matrix.truth import Truth

MEMBER, FEDERATION = "member", "federation"
CONTEXTS = {MEMBER: "alpha", FEDERATION: "federation"}
WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.matrix.example.com"},
    "spec": {
        "group": "matrix.example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wdg"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.ready",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "description": "How big."},
                                    "colour": {"type": "string", "default": "grey"},
                                    "replicas": {"type": "integer"},
                                },
                            },
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                                "properties": {"ready": {"type": "integer"}, "selector": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}  # fmt: skip


def clients_of(truth: Truth, stack: contextlib.ExitStack) -> dict[str, Client]:
    """Slug -> client of the table of resources. One set for one thread."""
    newest = tools.kubectls()[0]
    return {
        "kubectl": Kubectl(newest.path, truth, scratch(), newest.label),
        "typed": stack.enter_context(pythons.Typed(truth)),
        "dynamic": stack.enter_context(pythons.Dynamic(truth)),
    }


@contextlib.contextmanager
def standing(truth: Truth) -> Iterator[None]:
    """The namespace and the custom kind that checks use."""
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    space = f"/api/v1/namespaces/{truth.space}"
    truth.remove(f"{crd}/widgets.matrix.example.com")
    truth.gone(f"{crd}/widgets.matrix.example.com")
    if truth.find(space) is None:
        truth.api.create("/api/v1/namespaces", {"metadata": {"name": truth.space}})
    truth.api.create(crd, WIDGETS)
    try:
        yield
    finally:
        truth.remove(f"{crd}/widgets.matrix.example.com")
        truth.remove(space)


def resources(server: str, truth: Truth, recorder: Recorder, workers: int = 3) -> None:
    """The table of resources: all that is served with a life, and red for what is required and not served."""
    found = kinds.served(truth)
    if server == MEMBER:
        for title, resource in kinds.recorded().items():
            if title not in found:
                _missing(server, resource, recorder)
    rows = [r for r in found.values() if known(r)]
    local = threading.local()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        lock = threading.Lock()

        def one(r: Resource) -> None:
            if not hasattr(local, "clients"):
                with lock:
                    local.clients = clients_of(truth, stack)
            for slug, client in local.clients.items():
                if owned := OWNED.get((server, r.title)):
                    exercise_owned(truth, server, r, client, owned, recorder)
                    continue
                made = kinds.sample(r, truth.space, slug)
                if made is None:
                    cell = Cell("resources", server, r.title, "create", client.label, "M", "")
                    recorder.check(cell, _no_sample)
                    continue
                life = Exercise(truth, server, client, slug, made, truth.space, recorder)
                attempt(server, r, client, recorder, life.run)

        list(pool.map(one, rows))


def attempt(
    server: str, r: Resource, client: Client, recorder: Recorder, body: Callable[[], None]
) -> None:
    """What breaks outside of a step is red as well."""
    cell = Cell("resources", server, r.title, "create", client.label, "M", "")
    recorder.check(cell, body)


def _missing(server: str, r: Resource, recorder: Recorder) -> None:
    cell = Cell("resources", server, r.title, "served", "all", "M", "")
    recorder.check(cell, functools.partial(_not_served, r))


def _not_served(resource: Resource) -> None:
    if resource.plural == "componentstatuses":
        raise Absent("not served: deprecated since 1.19; /readyz?verbose tells what is well")
    raise AssertionError("not served: nothing in a member would act on it")


def _no_sample() -> None:
    raise AssertionError("no sample of it")


def versions(truth: Truth) -> dict[str, str]:
    """Of every client and of the server."""
    found = {p.label: p.version for p in (*tools.kubectls(), *tools.helms())}
    found |= {name: importlib.metadata.version(name) for name in ("kubernetes", "kopf")}
    return found | {"server": truth.get("/version")["gitVersion"]}


def everything(
    server: str, truth: Truth, recorder: Recorder, real: bool, tables: str = ""
) -> Iterator[str]:
    """All tables of one server, or those named; yields after each.

    What counts objects (quotas) or handles all of them runs when nothing else does.
    """

    def desk_of(program: tools.Program, slug: str) -> desk.Desk:
        kubectl = Kubectl(program.path, truth, scratch(), program.label)
        return desk.Desk(kubectl, truth, server, slug, scratch(), real, recorder)

    def wanted(table: str) -> bool:
        return not tables or table in tables.split(",")

    newest = tools.kubectls()[0]
    with standing(truth):
        if wanted("resources"):
            recorder.say(f"== {server}: resources")
            resources(server, truth, recorder)
            yield "resources"
        recorder.say(f"== {server}: the rest")
        jobs: list[Callable[[], None]] = []
        for program in tools.kubectls()[: None if server == MEMBER else 1]:
            slug = "k" + program.label.rpartition(".")[2]
            if wanted("commands"):
                jobs.append(functools.partial(desk.try_commands, desk_of(program, slug)))
        for program in tools.helms():
            if wanted("helm"):
                one = desk_of(newest, "h" + program.label[-1])
                jobs.append(functools.partial(charts.try_charts, program, one))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: job(), jobs))
        yield "commands"
        for table, body, slug in (
            ("python", python_checks.try_python, "py"),
            ("checklist", checklist.try_checklist, "http"),
            ("kopf", operators.try_kopf, "kopf"),
        ):
            if wanted(table):
                body(desk_of(newest, slug))
                yield table
        if wanted("resources"):
            operators.over_everything(truth, server, recorder)
            yield "operators"
