"""The kernel's table kept in step with what is wanted. Blocking; the enforcer runs it in one thread.

The first step of a process takes whatever table it finds and puts its own in its place, in one transaction: packets are
judged by the one or by the other. A change that the kernel refuses means that memory and kernel differ, whoever is to
blame; then the whole table is put in place again.
"""

import logging
from typing import Protocol

from cluster_agent.node.policy import changes
from cluster_agent.node.policy.model import Ruleset
from cluster_agent.node.proxy.nft import Form, NftError

log = logging.getLogger(__name__)

FAMILY = "inet"


class Nft(Protocol):
    """Our table, and no other."""

    def apply(self, transaction: changes.Transaction) -> None:
        """All commands or none. Raises NftError."""
        ...

    def form(self, family: str) -> Form:
        """What our table consists of, elements aside. Raises NftError."""
        ...


class PolicyTable:
    """`inet ubernetes-policy`."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self.held: Ruleset | None = None
        """What the kernel has as far as we know; None: unknown."""
        self.loads = 0
        self._digest = ""
        self._stale: set[str] = set()

    def step(self, wanted: Ruleset) -> int:
        """Bring the kernel to it; how many commands that took. Raises NftError; the next step then loads everything."""
        held, self.held = self.held, None
        if held is None:
            return self._load(wanted)
        transaction = changes.change(held, wanted)
        if not transaction:
            self.held = held
            self._sweep(wanted)
            return 0
        try:
            self._nft.apply(transaction)
        except NftError as error:
            log.warning(
                "change refused by the kernel, everything is loaded anew",
                extra={"error": str(error)},
            )
            return self._load(wanted)
        self._stale = (self._stale | set(changes.stale(held, wanted))) if wanted.chains else set()
        self._settle(wanted)
        return len(transaction)

    def _load(self, wanted: Ruleset) -> int:
        self._stale = set()
        commands: changes.Transaction = ()
        if wanted.chains or self._is_there():
            commands = changes.load(wanted)
            self._nft.apply(commands)
        self.loads += 1
        self._settle(wanted)
        return len(commands)

    def _is_there(self) -> bool:
        """Whether a process before this one left a table; a machine without nftables can have none."""
        try:
            return bool(self._nft.form(FAMILY).objects)
        except NftError as error:
            log.warning("tables of the kernel cannot be read", extra={"error": str(error)})
            return False

    def _settle(self, wanted: Ruleset) -> None:
        self._sweep(wanted)
        self._digest = self._nft.form(FAMILY).digest if wanted.chains else ""
        self.held = wanted

    def _sweep(self, wanted: Ruleset) -> None:
        """Chains that nothing leads to any more; one that the kernel holds on to goes at another step."""
        self._stale -= wanted.chains.keys()
        for name in sorted(self._stale):
            try:
                self._nft.apply(changes.sweep([name]))
            except NftError:
                continue
            self._stale.discard(name)

    def intact(self) -> bool:
        """Whether the table still has the form we gave it. What does not hold is loaded anew by the next step."""
        wanted = self.held is not None and bool(self.held.chains)
        if wanted and self._nft.form(FAMILY).digest != self._digest:
            self.held = None
        return self.held is not None

    def remove(self) -> None:
        """Delete our table."""
        self._nft.apply(changes.load(Ruleset()))
        self.held = None
