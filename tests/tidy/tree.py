"""The tree as the tidy tests see it: every file that git knows or would take, each parsed once."""

import ast
import functools
import gc
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "machinery": ROOT / "machinery/src/machinery",
    "federation": ROOT / "federation/src/federation",
    "cluster_agent": ROOT / "cluster-agent/src/cluster_agent",
}
CONTROLLER_ROOMS = (
    "machinery.controllers",
    "federation.controllers",
    "cluster_agent.control.controllers",
)


@functools.cache
def files() -> tuple[str, ...]:
    """Paths below the root, sorted; of an unpacked archive without git, everything but hidden folders."""
    listed = subprocess.run(
        ("git", "ls-files", "-co", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        found = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
        return tuple(sorted(f for f in found if not f.startswith((".venv/", ".lab/", ".git/"))))
    return tuple(sorted({f for f in listed.stdout.splitlines() if (ROOT / f).is_file()}))


def python(*starts: str) -> list[str]:
    """Python files below the given folders."""
    return [f for f in files() if f.endswith(".py") and f.startswith(starts or ("",))]


def sources() -> list[str]:
    """Python files of the three distributions."""
    return [f for f in python() if "/src/" in f]


def tests() -> list[str]:
    """Files that pytest collects."""
    return [f for f in python("tests/") if Path(f).name.startswith("test_")]


@functools.cache
def text(path: str) -> str:
    """A file; empty where it is not text."""
    try:
        return (ROOT / path).read_text()
    except UnicodeDecodeError:
        return ""


def parsed(path: str) -> ast.Module:
    """A Python file."""
    return _trees()[path]


@functools.cache
def _trees() -> dict[str, ast.Module]:
    """All at once with the collector off: it would go through every tree made so far, again and again (2.5 s, not 0.7)."""
    gc.disable()
    try:
        return {path: ast.parse(text(path), path) for path in python()}
    finally:
        gc.enable()


def module(path: str) -> str:
    """The dotted name of a source file."""
    inner = path.partition("/src/")[2].removesuffix(".py").removesuffix("/__init__")
    return inner.replace("/", ".")


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, however deep; expressions are not entered, which is ten times quicker than `ast.walk`."""
    for node in nodes:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, part, None)
            if isinstance(inner, list):
                yield from statements(inner)


@functools.cache
def functions(path: str) -> tuple[tuple[str, int], ...]:
    """Every function of a file with its number of lines, decorators left out."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in statements(parsed(path).body) if isinstance(node, kinds)]
    return tuple((f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in found)


def defined(path: str) -> set[str]:
    """Names of the functions at the top of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in parsed(path).body if isinstance(node, kinds)}


def imported(path: str) -> set[str]:
    """Every module that a file imports, anywhere in it; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in statements(parsed(path).body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
