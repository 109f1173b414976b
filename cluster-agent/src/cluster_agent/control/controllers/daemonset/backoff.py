"""How long a node waits for its next daemon pod when the last ones failed there. Pure; time is handed in.

A kubelet that turns a pod down would otherwise get a new one every second for ever. 1 s, then twice as long each time, at most
15 minutes; forgotten when none has failed for twice that long.
"""

from dataclasses import dataclass, field
from typing import Final

from machinery.kit.backoff import Backoff

BACKOFF: Final = Backoff(base_s=1.0, cap_s=900.0)
_FORGET_S: Final = 2 * BACKOFF.cap_s


@dataclass(slots=True)
class FailedPods:
    """By node: how often in a row, and when last."""

    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def waits(self, now_s: float) -> dict[str, float]:
        """Seconds that nodes still have to wait."""
        self._forget(now_s)
        left = {node: at + BACKOFF.delay(n) - now_s for node, (n, at) in self._seen.items()}
        return {node: seconds for node, seconds in left.items() if seconds > 0}

    def failed(self, node: str, now_s: float) -> None:
        """A failed pod of the node was taken away."""
        self._forget(now_s)
        count, _ = self._seen.get(node, (0, 0.0))
        self._seen[node] = (count + 1, now_s)

    def _forget(self, now_s: float) -> None:
        for node in [n for n, (_, at) in self._seen.items() if now_s - at > _FORGET_S]:
            del self._seen[node]
