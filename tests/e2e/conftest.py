"""Fleets of real containers that a session's tests share, and namespaces in them.

Order: the lab's own tests first, because they compare the whole machine before and after a lab and nobody else may be
at work; then the newcomer's, then those that share the default fleet, those that break it last.

Most of the time is waited: for leases, failure clocks, faults that have to last. So there are two lanes, which pytest-xdist
(`-n 2`, as `make e2e` says) runs beside each other, each with fleets of its own and one test at a time. Without `-n` the
second follows the first.
"""

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.fleet import (
    AWAY,
    KUBECTL,
    Fleet,
    Refused,
    clusters_ready,
    standing,
    until,
)
from tests.support.postgres import Postgres, postgres
from tests.support.survival import Scene
from xdist.scheduler import LoadScopeScheduling

from federation.lab import faults
from machinery.api.fleet.resilience import CONFIG_NAME, FEDERATION_CONFIGS

__all__ = ["postgres"]  # the fixture

ORDER = (
    "test_lab",
    "test_acceptance_newcomer",
    "test_acceptance_fleet",
    "test_acceptance_kills",
    "test_acceptance_pair",
    "test_services",
    "test_jobs",
    "test_link_foreign",
)
SECOND_LANE = "test_survives"
"""How the files begin that are one lane; all others are the first."""
NUMBERS = itertools.count(os.getpid() * 100)

STANDING = "UBERNETES_TEST_LAB"
"""While writing a test: the directory of a lab to use and leave standing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort this directory's files; others keep their place before them."""

    def rank(item: pytest.Item) -> int:
        if item.path.parent != Path(__file__).parent:
            return -1
        found = [i for i, name in enumerate(ORDER) if item.path.name.startswith(name)]
        return found[0] if found else len(ORDER)

    items.sort(key=rank)


class Lanes(LoadScopeScheduling):
    """A lane is one worker's, from its first test to its last."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return "second" if file.name.startswith(SECOND_LANE) else "first"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """pytest-xdist asks for it when a run has workers."""
    return Lanes(config, log)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The default fleet: alpha, beta, gamma with a real node each."""
    if os.geteuid() != 0:
        pytest.skip("real containers need root")
    if standing_already := os.environ.get(STANDING):
        fleet = Fleet(Path(standing_already))
        fleet.up()
        yield fleet
        fleet.leave()
    else:
        yield from standing(Fleet(tmp_path_factory.mktemp("fleet") / ".lab"))


@pytest.fixture(scope="session")
def survivor(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet of all tests of survival: one federation server on PostgreSQL. Each leaves it whole."""
    if os.geteuid() != 0:
        pytest.skip("real containers need root")
    url = {"FEDERATION_DATABASE_URL": postgres.fresh_url()}
    yield from standing(Fleet(tmp_path_factory.mktemp("survivor") / ".lab", env=url))


def unprejudiced(fleet: Fleet) -> None:
    """All members are Ready, at a server that has just started and holds nothing against any.

    A cluster that has died several times lately is given longer before it is dead again, and here they die all the time.
    The old server is asked to end: so it gives its lease up, and the new one leads at once instead of 15 s later.
    """
    until(lambda: clusters_ready(fleet), "all members Ready")
    old = fleet.signal("federation-1", signal.SIGTERM)
    until(lambda: fleet.pids()["federation-1"] not in (0, None, old), "a new server")
    until(lambda: clusters_ready(fleet), "all members Ready at the new server")


@pytest.fixture(scope="module")
def own(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """The default fleet for one file that breaks it, whole before and after; the file's NAMESPACE and what it configured end with it."""
    unprejudiced(fleet)
    yield fleet
    if faults.load(fleet.directory) != faults.Faults():
        fleet.up()
    api = fleet.api()
    for path in (
        FEDERATION_CONFIGS.path("", CONFIG_NAME),
        f"/api/v1/namespaces/{request.module.NAMESPACE}",
    ):
        with contextlib.suppress(Refused):
            api.delete(path)


@pytest.fixture
def scene(survivor: Fleet, tmp_path: Path) -> Iterator[Scene]:
    """A namespace on it; all members are Ready before and after."""
    unprejudiced(survivor)
    scene = Scene(survivor, f"survives-{next(NUMBERS)}", tmp_path)
    yield scene
    if faults.load(survivor.directory) != faults.Faults():
        survivor.up()  # what a test that failed left
    scene.end()


@pytest.fixture
def kubectl(fleet: Fleet) -> Callable[..., str]:
    """kubectl on the shared fleet: kubectl(context, *words, stdin="", code=0)."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed")
    return fleet.kubectl


@pytest.fixture
def namespace(fleet: Fleet) -> Iterator[str]:
    """A namespace at the federation, deleted afterwards."""
    name = f"test-{next(NUMBERS)}"
    fleet.api().create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    try:
        fleet.api().delete(f"/api/v1/namespaces/{name}")
    except AWAY:
        return  # the test deleted it, or has already failed for a server that is away
