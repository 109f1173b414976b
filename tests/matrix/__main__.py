"""`make matrix`: a fleet of one member comes up, everything is asked, both files are written, the fleet ends.

As root the member has real containers; else nodes are hollow and what streams is an exception with that reason. The exit code
is 1 while anything is red that must or should work. `--lab DIR` uses a lab that stands already, `--only WORDS` runs a part and
writes nothing: both are for working on a check.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.matrix import run
from tests.matrix.record import FAIL, Cell, Recorder, dump, key, load, reds
from tests.matrix.render import render
from tests.matrix.tools import ROOT
from tests.matrix.truth import Truth
from tests.support.fleet import Fleet

DOCS = ROOT / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--lab", type=Path, help="a lab that stands; it is left standing")
    parser.add_argument("--only", default="", help="run what contains this; write nothing")
    parser.add_argument("--server", choices=run.CONTEXTS, help="one server alone; write nothing")
    parser.add_argument("--tables", default="", help="these alone, with commas; write nothing")
    parser.add_argument(
        "--update", action="store_true", help="write what a part found into the files"
    )
    parser.add_argument("--hollow", action="store_true", help="hollow nodes also as root")
    asked = parser.parse_args()
    os.environ["NO_PROXY"] = "*"
    real = os.geteuid() == 0 and not asked.hollow
    runtime = "containerd" if real else "hollow"
    fleet = Fleet(asked.lab or ROOT / ".matrix/lab", "--clusters", "alpha", "--runtime", runtime)
    part = bool(asked.only or asked.server or asked.tables)
    began = time.monotonic()
    recorder = Recorder(only=asked.only)
    try:
        if asked.lab is None:
            fleet.down()
            fleet.up()
        versions: dict[str, str] = {}
        for server in [asked.server] if asked.server else run.CONTEXTS:
            truth = Truth(fleet.kubeconfig, run.CONTEXTS[server])
            versions = run.versions(truth)
            keep = asked.update or not part
            for _ in run.everything(server, truth, recorder, real, asked.tables):
                if keep:  # what is found so far, so that a run that is broken off was not in vain
                    write(versions, recorder, asked.update)
    finally:
        if asked.lab is None:
            fleet.down()
    cells = recorder.cells()
    red = reds(cells)
    for cell in red:
        print(
            f"red: {cell.level} {cell.server} {cell.item} {cell.verb} [{cell.client}] {cell.told[:200]}"
        )
    passed = sum(c.outcome != FAIL for c in cells)
    print(f"{passed} passed, {len(red)} failed ({time.monotonic() - began:.0f} s)")
    return 1 if red else 0


def write(versions: dict[str, str], recorder: Recorder, update: bool) -> None:
    """Both files, with what there is."""
    cells = recorder.cells()
    if update:
        kept = DOCS / "compatibility.json"
        cells = merged(load(kept.read_text())[1] if kept.exists() else [], cells)
    (DOCS / "compatibility.json").write_text(dump(versions, cells))
    (DOCS / "compatibility.md").write_text(render(versions, cells))


def merged(before: list[Cell], now: list[Cell]) -> list[Cell]:
    """What was found before, but for the checks that were made again."""
    fresh = {key(cell): cell for cell in now}
    return sorted({**{key(cell): cell for cell in before}, **fresh}.values())


if __name__ == "__main__":
    sys.exit(main())
