"""The official Python client and kopf against a running server: the verbs of the matrix, on a few kinds, without a fleet.

`make matrix` asks the same of every kind, with kubectl and Helm as well (tests/matrix). The clients block, so they run in threads.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")
from tests.matrix import kinds, operators, run  # noqa: E402
from tests.matrix.exercise import Exercise  # noqa: E402
from tests.matrix.pythons import Dynamic, Typed  # noqa: E402
from tests.matrix.record import PASS, Recorder  # noqa: E402
from tests.matrix.truth import Truth  # noqa: E402
from tests.support.apiserver import running_server  # noqa: E402

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    # The clients' own: connections that urllib3 and aiohttp leave to the collector.
    pytest.mark.filterwarnings("ignore"),
]
TITLES = ("v1 secrets", "apps/v1 deployments", "matrix.example.com/v1 widgets")


@pytest.fixture
async def truth(tmp_path: Path) -> AsyncIterator[Truth]:
    """A server with the custom kind of the matrix, and a namespace."""
    async with running_server() as server:
        found = Truth(server.write_kubeconfig(tmp_path), "test")
        await asyncio.to_thread(found.api.create, "/api/v1/namespaces", {"metadata": {"name": found.space}})  # fmt: skip
        await asyncio.to_thread(found.api.create, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", run.WIDGETS)  # fmt: skip
        yield found


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("client", [Typed, Dynamic])
async def test_a_life_of_every_verb(
    truth: Truth, client: type[Typed | Dynamic], title: str
) -> None:
    recorder = Recorder(say=lambda _: None)

    def life() -> None:
        resource = kinds.served(truth)[title]
        made = kinds.sample(resource, truth.space, "lib")
        assert made is not None
        with client(truth) as one:
            Exercise(truth, "member", one, "lib", made, truth.space, recorder).run()

    await asyncio.to_thread(life)
    red = {c.verb: c.told for c in recorder.cells() if c.outcome == "fail"}
    assert red == {}
    assert len([c for c in recorder.cells() if c.outcome == PASS]) >= 10


@pytest.mark.parametrize("what", ["create", "delete"])
async def test_an_operator_of_kopf(truth: Truth, tmp_path: Path, what: str) -> None:
    from tests.matrix.clients import Kubectl
    from tests.matrix.desk import Desk

    desk = Desk(Kubectl("kubectl", truth, tmp_path, "none"), truth, "member", "lib", tmp_path, False, Recorder())  # fmt: skip
    body = next(b for name, b in operators.checks(desk).items() if name.startswith(what))
    await asyncio.to_thread(body, desk)
