"""A staged update: where it stands, stop it, let it go on, take it back.

    fedctl rollout status deploy/web -n demo     the newest run of a workload, stage by stage
    fedctl rollout stop web-3 -n demo            nothing new begins; what was begun is judged
    fedctl rollout resume web-3 -n demo
    fedctl rollout rollback web-3 -n demo        every cluster of the run goes back to what it had, all at once

The last three set `spec.state` of the StagedUpdateRun, as `kubectl patch` would.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from federation.cli import connection, words
from federation.cli.errors import CliError
from machinery.api.fleet.rollouts import (
    ROLLBACK,
    RUN,
    STAGED_UPDATE_RUNS,
    STOP,
    ClusterUpdate,
    StagedUpdateRun,
    StageStatus,
)
from machinery.client.interface import Client
from machinery.meta.objectmeta import to_document

STATES = {"stop": STOP, "resume": RUN, "rollback": ROLLBACK}
OVER = ("Succeeded", "RolledBack", "Superseded")
WORKLOADS = frozenset(("Deployment", "StatefulSet", "DaemonSet"))


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for what in ("status", *STATES):
        verb = verbs.add_parser(what)
        verb.add_argument(
            "name", help="a StagedUpdateRun, or deploy/NAME, sts/NAME, ds/NAME for the newest of it"
        )
        verb.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
        if what == "status":
            verb.add_argument("-o", "--output", choices=("table", "json"), default="table")
        connection.add(verb)


def run(arguments: argparse.Namespace) -> int:
    """Show it, or set its state."""
    name, namespace = arguments.name, arguments.namespace
    if arguments.what == "status":
        held = connection.call(arguments, lambda client: found(client, namespace, name))
        shown = to_document(held) if arguments.output == "json" else None
        print(json.dumps(shown, indent=2) if shown is not None else "\n".join(table(held)))
        return 1 if held.status.state in ("Failed", "RolledBack") else 0
    state = STATES[arguments.what]
    held = connection.call(arguments, lambda client: set_state(client, namespace, name, state))
    print(f"{held.metadata.name}: spec.state is {state}.")
    return 0


async def found(client: Client, namespace: str, name: str) -> StagedUpdateRun:
    """The run, or the newest one of `deploy/NAME`. Raises CliError, StatusError, ConnectionError."""
    listing = await client.list(STAGED_UPDATE_RUNS, namespace)
    said, slash, workload = name.partition("/")
    kind = words.workload(name)[0] if slash else ""
    if slash and kind not in WORKLOADS:
        raise CliError(
            f"{said!r} is no kind that is staged; there is deploy/NAME, sts/NAME, ds/NAME, or the name of a run"
        )
    if slash:
        named = (kind, workload)
        runs = [r for r in listing.items if (r.spec.workload.kind, r.spec.workload.name) == named]
    else:
        runs = [r for r in listing.items if r.metadata.name == name]
    if not runs:
        known = ", ".join(sorted(r.metadata.name for r in listing.items)) or "none"
        what = f"staged update of {workload}" if slash else f"staged update {name!r}"
        raise CliError(f"there is no {what} in namespace {namespace}; there is {known}")
    return max(runs, key=_age)


def _age(run: StagedUpdateRun) -> tuple[str, int, str]:
    made = run.metadata.creation_timestamp
    return made.isoformat() if made is not None else "", len(run.metadata.name), run.metadata.name


async def set_state(client: Client, namespace: str, name: str, state: str) -> StagedUpdateRun:
    """Raises CliError, StatusError, ConnectionError."""
    held = await found(client, namespace, name)
    now = held.status.state
    if now in OVER or (now == "Failed" and state != ROLLBACK):
        raise CliError(
            f"{held.metadata.name} is over ({now}): {held.status.message}{_instead(now)}"
        )
    patch: dict[str, Any] = {
        "metadata": {"resourceVersion": held.metadata.resource_version},
        "spec": {"state": state},
    }
    return await client.patch(STAGED_UPDATE_RUNS, held.key, patch)


def _instead(state: str) -> str:
    if state == "Failed":
        return "; `fedctl rollout rollback` takes it back, a new run or a new change tries again"
    if state == "Succeeded":
        return "; `kubectl rollout undo` goes back, cluster by cluster"
    return ""


def table(run: StagedUpdateRun) -> Iterator[str]:
    """One line for the run, then its stages with their clusters."""
    status = run.status
    state = status.state or "not looked at yet"
    yield f"{run.metadata.name}  {state}  {status.message}".rstrip()
    yield f"{status.updated_clusters} of {status.total_clusters} clusters"
    for stage in status.stages:
        yield f"  {stage.stage_name:20} {stage.state}{_tasks(stage)}"
        for cluster in stage.clusters:
            yield f"    {cluster.cluster_name:18} {_cluster(cluster)}"


def _cluster(cluster: ClusterUpdate) -> str:
    return f"{cluster.state:10} {cluster.message}".rstrip()


def _tasks(stage: StageStatus) -> str:
    """Approvals that nobody has given yet."""
    tasks = (*stage.before_stage_tasks, *stage.after_stage_tasks)
    open_ = [t.approval_request_name for t in tasks if t.start_time and not t.finish_time]
    names = ", ".join(name for name in open_ if name)
    return f"  (fedctl approve {names})" if names else ""
