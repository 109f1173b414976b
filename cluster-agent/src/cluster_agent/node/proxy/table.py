"""One family's table: the ledger and the kernel kept in step. Blocking; the proxy runs it in one thread.

A step that the kernel refuses means that the ledger and the table differ, whoever is to blame. Then everything is
loaded anew, beside what is there, and moved over in one transaction: traffic sees either the old or the new.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster_agent.node.proxy import affinity
from cluster_agent.node.proxy.layout import (
    TABLE,
    Frame,
    Transaction,
    next_generation,
)
from cluster_agent.node.proxy.model import Note, ProxyConfig, Service
from cluster_agent.node.proxy.nft import Nft, NftError
from cluster_agent.node.proxy.plan import (
    Address,
    Ledger,
    new_timeouts,
    plan_changes,
    plan_load,
    transactions,
)

log = logging.getLogger(__name__)

SWEEPS_MAX = 3


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did, and what the caller has to do."""

    full: bool
    transactions: int
    flows: Mapping[Address, frozenset[str]]
    notes: tuple[Note, ...]


def bridge_filters(family: str) -> bool:
    """Whether the kernel shows bridged packets to the IP hooks, in this network namespace."""
    tables = "ip6tables" if family == "ip6" else "iptables"
    try:
        with open(f"/proc/sys/net/bridge/bridge-nf-call-{tables}", encoding="ascii") as file:
            return file.read().strip() == "1"
    except FileNotFoundError:
        return False


class FamilyTable:
    """`ip ubernetes-proxy` or `ip6 ubernetes-proxy`."""

    def __init__(self, family: str, config: ProxyConfig, nft: Nft) -> None:
        self.family, self._config, self._nft = family, config, nft
        self.ledger = Ledger(family)
        self.frame = Frame(config, family, 0, bridge_filters=False)
        self.loads = 0
        self._digest = ""
        self._moved: dict[Address, frozenset[str]] = {}

    @property
    def loaded(self) -> bool:
        """Whether the kernel holds what the ledger says, as far as we know."""
        return bool(self._digest)

    def step(self, changes: Mapping[str, Service | None], now: float) -> Step:
        """Bring the kernel to the ledger with these changes. Raises NftError; the ledger then has them, and the next
        step loads everything."""
        plan = plan_changes(self.ledger, changes, self._config, now)
        self._moved.update(plan.flows)
        count, full = 0, not self.loaded
        if self.loaded:
            try:
                count = self._apply(transactions(self.ledger, plan, self.frame))
            except NftError as error:
                log.warning(
                    "change refused by the kernel, everything is loaded anew",
                    extra={"family": self.family, "error": str(error)},
                )
                self._digest, full = "", True
        self.ledger.commit(plan)
        if full:
            count = self.load()
            self._moved = {a: t for a, t in self._all_flows().items()} | self._moved
        elif times := new_timeouts(plan, self.frame):
            self.frame = replace(self.frame, timeouts=self.frame.timeouts | times)
            self._digest = self._nft.form(self.family).digest
        if self.frame.remembers and (plan.sweep or full):
            self._sweep()
        flows, self._moved = self._moved, {}
        return Step(full, count, flows, plan.notes)

    def load(self) -> int:
        """The whole ledger into a new generation; the number of transactions. Raises NftError."""
        self._digest = ""
        present = self._nft.form(self.family).objects
        given = self._config.bridge_filters
        self.frame = Frame(
            self._config,
            self.family,
            next_generation(present),
            bridge_filters(self.family) if given is None else given,
            self.ledger.timeouts(),
        )
        count = self._apply(plan_load(self.ledger, self.frame, present))
        self._digest = self._nft.form(self.family).digest
        self.loads += 1
        return count

    def intact(self) -> bool:
        """Whether the table still has the form we gave it. What does not hold is loaded anew by the next step."""
        if self.loaded and self._nft.form(self.family).digest != self._digest:
            self._digest = ""
        return self.loaded

    def remove(self) -> None:
        """Delete our table in this family."""
        table = f"{self.family} {TABLE}"
        self._nft.apply((f"add table {table}", f"delete table {table}"))
        self._digest = ""

    def _apply(self, steps: Iterable[Transaction]) -> int:
        count = 0
        for transaction in steps:
            self._nft.apply(transaction)
            count += 1
        return count

    def _all_flows(self) -> dict[Address, frozenset[str]]:
        return {
            address: self.ledger.entries[key].targets(address)
            for address, key in self.ledger.owners.items()
            if address.protocol != "tcp"
        }

    def _sweep(self) -> None:
        """Forget clients of endpoints that are gone. A client that comes meanwhile may win once or twice."""
        for attempt in range(1, SWEEPS_MAX + 1):
            gone = affinity.stale(self._nft.clients(), self.ledger)
            if not gone:
                return
            try:
                self._nft.apply(affinity.forget(gone, self.frame))
            except NftError:
                if attempt == SWEEPS_MAX:
                    raise
            else:
                return
