"""NetworkPolicies hold before a pod's first container starts, and a pod that they cannot be held for does not start.

Only what is selected waits. After a start of the node process policies are waited for a few seconds, and then no more: a
node without its API server must bring its pods back, and the table of the process before it is still there.
"""

import asyncio
import logging

from cluster_agent.node.kubelet.hooks import Hook, HookFault
from cluster_agent.node.policy.inputs import PolicyFeed
from machinery.api.core import Pod
from machinery.kit.clock import Clock

log = logging.getLogger(__name__)

KNOWN_WAIT_S = 5.0
"""After the start of the process, for the first list of policies."""
APPLIED_WAIT_S = 10.0


class Isolation(Hook):
    """Tells the enforcer where pods are, and waits for it."""

    def __init__(self, feed: PolicyFeed, clock: Clock) -> None:
        self._feed, self._clock = feed, clock
        self._until = clock.monotonic() + KNOWN_WAIT_S

    async def connected(self, pod: Pod, ips: tuple[str, ...]) -> None:
        if pod.spec.host_network or not ips:
            return
        self._feed.announce(pod, ips)
        if not await self._known():
            return
        enforcer = self._feed.enforcer
        if not enforcer.isolated(pod.key):
            return
        try:
            async with asyncio.timeout(APPLIED_WAIT_S):
                await enforcer.wait_applied()
        except TimeoutError:
            error = enforcer.status().error or "the node is behind with its table"
            text = f"NetworkPolicies that select the pod are not in force on this node: {error}"
            raise HookFault("NetworkPolicyNotEnforced", text) from None

    async def _known(self) -> bool:
        known = self._feed.known
        left = self._until - self._clock.monotonic()
        if not known.is_set() and left > 0:
            try:
                async with asyncio.timeout(left):
                    _ = await known.wait()
            except TimeoutError:
                log.warning("pods start before the network policies are known")
        return known.is_set()

    async def release(self, pod: Pod, *, forget: bool) -> None:
        if forget:
            self._feed.forget(pod)
