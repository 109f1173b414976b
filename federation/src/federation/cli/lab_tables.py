"""The lab's tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from federation.lab.members import Row
from federation.lab.plan import LabPlan
from federation.lab.process import Status


def show_fleet(plan: LabPlan, rows: Sequence[Row], hint: str) -> None:
    """The members, and what to try next."""
    console = terminal()
    table = plain_table("CLUSTER", "ZONE", "REGION", "PROVIDER", "READY", "VERSION", "NODES")
    for row in rows:
        table.add_row(
            row.name, row.zone, row.region, row.provider, row.ready, row.version, row.nodes
        )
    console.print(table)
    console.print(next_commands(plan, hint), markup=False)


def next_commands(plan: LabPlan, hint: str) -> str:
    """The first minutes of a new user."""
    federation = f"kubectl --kubeconfig {plan.spec.directory}/kubeconfig --context federation"
    lines = ["", "Try:"]
    if hint:
        lines.append(f"  # {hint}")
    lines += [
        f"  {federation} get clusters",
        f"  {federation} create namespace demo",
        f"  {federation} create deployment web --image=docker.io/lab/whoami:1 --replicas=6 -n demo",
        f"  {federation} get pods -n demo -o wide",
        *_lose_a_zone(plan, federation),
        f"Contexts: federation, {', '.join(cluster.name for cluster in plan.clusters)}. "
        "`make status` shows the processes, `make down` removes everything.",
    ]
    return "\n".join(lines)


_EXPORT = '{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": "web"}}'


def _lose_a_zone(plan: LabPlan, federation: str) -> list[str]:
    """Where there are zones and real packets: the picture of a zone's death and return, in three commands."""
    zones = list(dict.fromkeys(cluster.zone for cluster in plan.clusters))
    if not plan.spec.rooted or plan.spec.runtime != "containerd" or len(zones) < 3:
        return []
    lost, *others = zones
    lab = f".venv/bin/fedctl lab --dir {plan.spec.directory}"
    return [
        "Let the deployment's Service answer in every cluster, from all:",
        f"  {federation} expose deployment web --port=80 -n demo",
        f"  echo '{_EXPORT}' | {federation} create -n demo -f -",
        "Then lose a zone, and draw what clients in the others saw of it:",
        f"  {lab} load web.demo.svc.clusterset.local --from {','.join(others)} --seconds 90 --out zone.jsonl &",
        f"  sleep 15; {lab} kill {lost}; sleep 30; {lab} revive {lost}; wait",
        f'  {lab} report zone.jsonl --svg zone.svg --title "{lost} loses its power and gets it back"',
    ]


def show_processes(plan: LabPlan, statuses: Sequence[Status]) -> None:
    """Every process and its host's address."""
    addresses = {host.name: host.address for host in plan.hosts}
    table = plain_table("PROCESS", "ADDRESS", "STATE", "PID", "UP", "RESTARTS", "LAST END")
    for s in statuses:
        settled = s.ready or s.state in ("done", "waiting", "off")
        state = s.state if settled else f"{s.state}, not ready"
        if s.frozen:
            state = "frozen"
        up = f"{s.up_s:.0f} s" if s.pid else "-"
        address = addresses.get(s.host, "-")
        table.add_row(s.name, address, state, str(s.pid or "-"), up, str(s.restarts), s.last_exit)
    console = terminal()
    console.print(table)
    console.print(f"Logs: {plan.spec.directory}/log", markup=False)


def plain_table(*headings: str) -> Table:
    """A table like kubectl's: no frame, nothing cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def terminal() -> Console:
    """Wide where there is no terminal: a table in a file is not cut to 80 columns."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=200)
