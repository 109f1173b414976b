"""The import contracts cover everything: a new room that is in none of them fails here and in import-linter."""

import tomllib
from typing import Any

import pytest
from tests.tidy import tree

CONTRACTS: list[dict[str, Any]] = tomllib.loads(tree.text("pyproject.toml"))["tool"][
    "importlinter"
]["contracts"]
LOCAL_VERBS = {
    "lab": {"lab"}, "debug": {"lab"}, "audit": {"lab"}, "join": {"clusters"}, "divide": {"placement"},
}  # fmt: skip
"""Verbs of fedctl that may use rooms of the federation, and which; all others see only the API.

`audit` finds the lab's files; `join` shares the format of bootstrap tokens with the server that reads them; `divide` is a calculator and asks no server.
"""


def _layers(package: str) -> dict[str, Any]:
    found = [c for c in CONTRACTS if c["type"] == "layers" and package in c.get("containers", ())]
    assert len(found) == 1, f"{package} has {len(found)} layers contracts"
    return found[0]


def _rooms(package: str) -> set[str]:
    names = {tree.module(f) for f in tree.sources()}
    inside = {n.split(".")[1] for n in names if n.startswith(package + ".")}
    return inside - {"__init__", "py"}


@pytest.mark.parametrize("package", tree.PACKAGES)
def test_every_room_has_its_layer(package: str) -> None:
    contract = _layers(package)
    assert contract["exhaustive"] is True
    layered = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    assert layered == _rooms(package)


def test_the_programs_are_independent() -> None:
    independent = [set(c["modules"]) for c in CONTRACTS if c["type"] == "independence"]
    assert {"federation", "cluster_agent"} in independent
    assert {f"cluster_agent.{r}" for r in ("control", "node", "link")} in independent


def test_deciding_rooms_are_kept_from_the_world() -> None:
    contract = next(c for c in CONTRACTS if c["id"] == "deciders")
    assert {"asyncio", "time", "random", "socket", "os"} <= set(contract["forbidden_modules"])
    for room in contract["source_modules"]:
        assert any(tree.module(f) == room for f in tree.sources()), f"{room} does not exist"


@pytest.mark.parametrize("name", ["plan", "rules", "judge"])
def test_deciding_modules_are_pure_wherever_they_stand(name: str) -> None:
    forbidden = {"asyncio", "time", "random", "socket", "aiohttp", "subprocess"}
    pure = [f for f in tree.sources() if f.endswith(f"/{name}.py")]
    effects = {f: sorted(tree.imported(f) & forbidden) for f in pure}
    assert {f: found for f, found in effects.items() if found} == {}


def test_verbs_see_only_the_api_but_for_the_local_ones() -> None:
    reached: dict[str, set[str]] = {}
    for file in tree.python("federation/src/federation/cli/"):
        verb = tree.module(file).removeprefix("federation.cli").strip(".").partition("_")[0]
        rooms = {
            name.split(".")[1] for name in tree.imported(file) if name.startswith("federation.")
        }
        reached.setdefault(verb, set()).update(rooms - {"cli"})
    assert {v: r for v, r in reached.items() if r - LOCAL_VERBS.get(v, set())} == {}
