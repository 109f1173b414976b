"""`make bench`: every bench in a process of its own, then one table of all figures, also kept in .bench/<date>.json.

A run fails when a bench cannot be carried out, never because a figure is bad: see report.py. BENCH_PODS and BENCH_NODES
make the rollout smaller for a quick look; BENCH_FEDERATION are the options of bench_federation.py, which is small without.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.report import read, save, table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BENCHES = {
    "API server, CPU per operation": ("bench_api.py",),
    "API server, others in a flood": ("bench_fairness.py",),
    "store, SQLite with synchronous=FULL": ("bench_store.py", "--clients", "1", "64"),
    "placement, CPU of a decision": ("bench_placement.py",),
    "federation, members over real links": (
        "bench_federation.py",
        *os.environ.get("BENCH_FEDERATION", "--quick").split(),
    ),
    "members, CPU of a second": ("bench_members.py",),
    "metrics, CPU of a pass": ("bench_metrics.py",),
    "rollout over HTTP": (
        "bench_rollout.py",
        "--pods", os.environ.get("BENCH_PODS", "5000"),
        "--nodes", os.environ.get("BENCH_NODES", "200"),
    ),
}  # fmt: skip


@pytest.mark.timeout(1800)
def test_all_figures(tmp_path: Path) -> None:
    """Measures, prints, saves."""
    figures = {}
    for number, (title, command) in enumerate(BENCHES.items()):
        result = tmp_path / f"{number}.json"
        script, *options = command
        print(f"\n-- {title}: {' '.join(command)}", flush=True)
        subprocess.run([sys.executable, HERE / script, *options, "--json", result], check=True)
        figures[title] = read(result)
        assert figures[title], f"{script} measured nothing"
    everything = [figure for part in figures.values() for figure in part]
    print(f"\n{table(everything)}")
    print(f"\nkept in {save(everything, ROOT / '.bench').relative_to(ROOT)}")
