"""NetworkPolicies at work: policies, pods and namespaces in, the kernel's table kept equal to what they say.

Changes are gathered for a moment and applied in one transaction. Nothing is installed before the complete state is
known: a process that starts leaves the table of the one before it in charge until then. Stopping leaves the table where
it is; `cleanup` removes it. `wait_applied` is for the kubelet: a pod's containers start when its policies hold.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from cluster_agent.node.nftpace import NftThread, Pace
from cluster_agent.node.policy.bridge import Bridge
from cluster_agent.node.policy.layout import TABLE, Gateway, compile_rules
from cluster_agent.node.policy.ledger import Labels, Ledger
from cluster_agent.node.policy.model import FAMILIES, Key, Pod, Policy, family_of
from cluster_agent.node.policy.table import Nft, PolicyTable
from cluster_agent.node.proxy.nft import KernelNft, NftError
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What one node's enforcer must know of its node."""

    node: str
    """The Node's name: pods on it are judged here."""

    gateway: Gateway | None = None
    """This node's gateway to other clusters, if it has one."""

    bridge: str = ""
    """The pods' bridge; empty: they have none."""

    debounce_s: float = 0.05
    check_s: float = 30.0
    """How often it is looked whether the table is as we left it, and whether bridged packets come by it."""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """How the enforcer is doing."""

    synced: bool
    """The kernel holds everything that was wanted at the last step."""
    policies: int
    pods: int
    """Pods of the cluster that are known; none while there is no policy."""
    loads: int
    """Full loads so far; one at the start, each further one has a reason in the log."""
    error: str
    unseen: str
    """Why packets between pods of this node cannot be judged; empty: they are."""


class Enforcer:
    """One node's policies."""

    def __init__(
        self,
        config: PolicyConfig,
        clock: Clock,
        *,
        nft: Nft | None = None,
        executor: Executor | None = None,
        bridge: Bridge | None = None,
        on_unseen: Callable[[str], None] | None = None,
    ) -> None:
        """`on_unseen` hears why same-node traffic cannot be judged, once for each reason."""
        self.config, self._clock = config, clock
        self.ledger = Ledger(config.node)
        self.table = PolicyTable(nft or KernelNft(TABLE))
        self._bridge, self._on_unseen = bridge, on_unseen or (lambda why: None)
        self._thread = NftThread("nft-policy", executor)
        self._pace = Pace(
            clock,
            step=self.run_once,
            intact=self._intact,
            debounce_s=config.debounce_s,
            check_s=config.check_s,
        )
        self._families: set[str] = set()
        self._wanted = self._applied = 0
        """Counts of changes: those that have come, and those that the kernel has."""
        self._stepped = asyncio.Condition()
        self._error = self._unseen = ""
        self._seconds = METRICS.histogram(
            "ubernetes_policy_sync_seconds", "Duration of a step that brought the kernel up to date"
        )
        self._failed = METRICS.counter(
            "ubernetes_policy_sync_failures_total", "Steps that the kernel refused"
        )
        self._count = METRICS.gauge("ubernetes_policy_policies", "NetworkPolicies of the cluster")

    # ---------------------------------------------------------------------------------------------------- state in
    def put_policy(self, key: Key, policy: Policy | None) -> None:
        """A policy as it is now; None: it is gone."""
        self.ledger.put_policy(key, policy)
        self._changed()

    def put_pod(self, key: Key, pod: Pod | None) -> None:
        """A pod as it is now; None: it is gone."""
        if self.ledger.pods.get(key) != pod:
            self.ledger.put_pod(key, pod)
            self._changed()

    def put_space(self, name: str, labels: Labels | None) -> None:
        """A namespace's labels; None: it is gone."""
        self.ledger.put_space(name, labels)
        self._changed()

    def forget_pods(self) -> None:
        """No policy is left: nobody need be known."""
        for key in list(self.ledger.pods):
            self.ledger.put_pod(key, None)
        for name in list(self.ledger.spaces):
            self.ledger.put_space(name, None)
        self._changed()

    def complete(self, known: bool = True) -> None:
        """Whether all that there is has been put in; nothing is applied while it has not."""
        self._pace.complete = known
        if known:
            self._pace.wake()

    def _changed(self) -> None:
        self._wanted += 1
        self._pace.wake()

    # -------------------------------------------------------------------------------------------------------- life
    async def run_forever(self) -> None:
        """Step whenever something changed, and look now and then whether the table is still there."""
        await self._pace.run_forever()

    async def _intact(self) -> bool:
        if self.table.held is None:
            return True
        await self._see()
        try:
            intact = await self._thread.run(self.table.intact)
        except NftError as error:
            log.warning("policy table cannot be read", extra={"error": str(error)})
            return True
        if not intact:
            log.warning("policy table was changed by somebody else, everything is loaded anew")
        return intact

    async def run_once(self) -> bool:
        """One step with all that is pending; whether it succeeded."""
        self._pace.taken()
        began, wanted = self._clock.monotonic(), self._wanted
        ledger = self.ledger
        self._families |= {family_of(ip) for k in ledger.local_pods() for ip in ledger.pods[k].ips}
        families = [family for family in FAMILIES if family in self._families]
        ruleset = compile_rules(ledger, families, self.config.gateway, self.config.bridge)
        try:
            _ = await self._thread.run(self.table.step, ruleset)
        except NftError as error:
            self._error = str(error)
            self._failed.inc()
            log.error("kernel refused the policy table", extra={"error": str(error)})
            return False
        self._error, self._applied = "", wanted
        self._seconds.observe(self._clock.monotonic() - began)
        self._count.set(len(ledger.policies))
        await self._see()
        async with self._stepped:
            self._stepped.notify_all()
        return True

    async def _see(self) -> None:
        """Packets between pods of one node pass over a bridge; where the table does not see them, somebody must know."""
        held = self.table.held
        if self._bridge is None or held is None or not held.chains:
            return
        unseen = await self._bridge.open(FAMILIES)
        if unseen and unseen != self._unseen:
            log.error("traffic between pods of this node is not judged", extra={"error": unseen})
            self._on_unseen(unseen)
        self._unseen = unseen

    async def close(self) -> None:
        """Let go of the thread; the table stays and goes on judging."""
        await self._thread.close()

    async def cleanup(self) -> None:
        """Delete our table, whether this process made it or another; not while it runs."""
        await self._thread.run(self.table.remove)

    # ------------------------------------------------------------------------------------------------------ status
    async def wait_applied(self) -> None:
        """Until the kernel holds all that was wanted when this was called."""
        wanted = self._wanted
        async with self._stepped:
            _ = await self._stepped.wait_for(
                lambda: self.table.held is not None and self._applied >= wanted
            )

    def isolated(self, key: Key) -> bool:
        """Whether some policy selects the pod."""
        return any(key in self.ledger.subjects(one) for one in self.ledger.policies.values())

    def status(self) -> PolicyStatus:
        """For tests and the node's debug pages."""
        done = self._pace.complete and self._applied == self._wanted and self.table.held is not None
        return PolicyStatus(
            synced=done and not self._error,
            policies=len(self.ledger.policies),
            pods=len(self.ledger.pods),
            loads=self.table.loads,
            error=self._error,
            unseen=self._unseen,
        )
