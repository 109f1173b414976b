"""The documents tell the truth about names: controllers, commands, files, rooms."""

import argparse
import re
from pathlib import Path

import pytest
from tests.tidy import controllers, tree

from federation import cli
from federation.cli import debug, lab

DOCUMENTS = [
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
    "helm-like-charts/README.md", "tests/golden/DIFFERENCES.md",
]  # fmt: skip
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(#([^)]+)\)")
DOTTED = re.compile(r"`((?:machinery|federation|cluster_agent)(?:\.[a-z_0-9]+)+)`")
PROGRAMS = {"fedctl", "cluster-agent", "federation-server"}


def _modules() -> set[str]:
    return {tree.module(f) for f in tree.sources()}


def _writers() -> list[str]:
    section = (
        tree.text("ARCHITECTURE.md").partition("## One writer per field")[2].partition("\n## ")[0]
    )
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [name for row in rows for name in DOTTED.findall(row[-1])]


def test_writers_of_fields_exist() -> None:
    writers = _writers()
    assert len(writers) > 20
    assert sorted(set(writers) - _modules()) == []


def test_every_controller_is_in_the_table_of_writers() -> None:
    named = set(_writers())
    missing = [f"{c.room}.{c.name}" for c in controllers.controllers()]
    assert [name for name in missing if name not in named] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_rooms_that_are_named_exist(document: str) -> None:
    named = set(DOTTED.findall(tree.text(document)))
    modules = _modules()
    functions = {f"{m}.{name}" for m in modules for name in _names(m)} if named - modules else set()
    assert sorted(named - modules - functions) == []


def _names(module: str) -> set[str]:
    files = [f for f in tree.sources() if tree.module(f) == module]
    return set().union(*(tree.defined(f) for f in files))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = tree.text(document)
    folder = (tree.ROOT / document).parent
    broken = [target for target in LINK.findall(text) if not (folder / target).exists()]
    headings = {_anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    assert broken == []
    assert [a for a in ANCHOR.findall(text) if a not in headings] == []


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


# ---------------------------------------------------------------------------------------------------- commands
def _commands(document: str) -> list[list[str]]:
    """The words of every command in the shell blocks, and of every `make …` and `fedctl …` in the text."""
    text = tree.text(document)
    blocks = [body for language, body in BLOCK.findall(text) if language == "sh"]
    lines = [line.partition("  #")[0] for body in blocks for line in body.splitlines()]
    inline = re.findall(r"`((?:make|\.venv/bin/\w[\w-]*|fedctl|cluster-agent) [^`]*)`", text)
    return [line.split() for line in [*lines, *inline] if line.strip()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", tree.text("Makefile"), re.MULTILINE))
    used = {words[1] for words in _commands(document) if words[0] == "make" and len(words) > 1}
    assert {word for word in used if "=" not in word} - targets == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_verbs_exist(document: str) -> None:
    known = {
        "fedctl": set(cli.VERBS) | {"VERB"},
        "cluster-agent": _agent_verbs(),
        "federation-server": {"--config"},
    }
    wrong = [
        " ".join(words[:3])
        for words in _commands(document)
        if (program := Path(words[0]).name) in PROGRAMS and len(words) > 1
        if words[1].strip("…") not in ("", "--version") and words[1] not in known[program]
    ]
    assert wrong == []


def _agent_verbs() -> set[str]:
    from cluster_agent.cli import parser

    verbs = next(a for a in parser()._actions if a.dest == "verb").choices
    assert verbs is not None
    return set(verbs)


def test_options_of_the_lab_in_the_readme_are_its_options() -> None:
    parser = argparse.ArgumentParser()
    lab.add(parser)
    up = next(a for a in parser._actions if a.dest == "verb").choices["up"]  # type: ignore[index]
    real = {option for action in up._actions for option in action.option_strings}
    section = tree.text("README.md").partition("## Options of the lab")[2].partition("\n## ")[0]
    told = set(re.findall(r"(--[a-z][a-z-]+)", section)) - {"--dir"}
    assert told <= real
    assert real - told - {"--help", "-h", "--bin-dir"} == set()


def test_debug_dump_is_what_the_readme_calls_it() -> None:
    parser = argparse.ArgumentParser()
    debug.add(parser)
    words = [words for words in _commands("README.md") if words[:1] == [".venv/bin/fedctl"]]
    dumps = [w[2:] for w in words if w[1] == "debug"]
    assert dumps
    assert all(parser.parse_args(rest).what == "dump" for rest in dumps)
