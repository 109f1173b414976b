"""Grants: a pod of mode consistency runs only while the federation is known to hear of this node.

The chain begins and ends here, so that no clock of another machine is believed. The node renews its Lease and notes when,
on its monotonic clock, it wrote which time there. The member's link reads the Lease, then has a heartbeat accepted by the
federation, then writes the word it had read onto the pod. A grant counts from when that word was written: before the
federation heard anything, so before the federation began to wait for the grant's end.

    no annotation ubernetes.io/grant-seconds   -> the pod is not looked at
    a grant that holds                         -> it runs
    none, or an old one                        -> what runs is stopped with its grace, and the pod has failed;
                                                  what does not run yet waits

Grants outlive the node's process (they are kept with the boot's id) and end with the boot. A process that is stopped
from outside (SIGSTOP) stops nothing: like every fence in software this one needs its own machine to run.
"""

import logging
from collections import OrderedDict
from pathlib import Path

import orjson

from cluster_agent.node.kubelet.checkpoint import write_private
from machinery.api.core import Pod
from machinery.api.fleet.resilience import GRANT, GRANT_SECONDS
from machinery.kit.clock import Clock

log = logging.getLogger(__name__)

WORDS = 64
"""Renewals that are remembered; older words grant nothing."""


def grant_seconds(pod: Pod) -> float | None:
    """How long the pod may run on a grant; None: it needs none. What cannot be read grants nothing."""
    text = pod.metadata.annotations.get(GRANT_SECONDS)
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0


class Grants:
    """The grants of one node's pods."""

    def __init__(self, clock: Clock, boot_id: str = "", path: Path | None = None) -> None:
        """With `path` they outlive the process, as long as `boot_id` is the same."""
        self._clock, self._boot_id, self._path = clock, boot_id, path
        self._words: OrderedDict[str, float] = OrderedDict()
        self._until: dict[str, float] = self._read()

    def wrote(self, word: str, at: float) -> None:
        """The node's Lease was renewed with this word; `at` is the monotonic time before it was sent."""
        self._words[word] = at
        while len(self._words) > WORDS:
            self._words.popitem(last=False)

    def left_s(self, pod: Pod) -> float | None:
        """Seconds that the pod may still run; None: as long as it likes."""
        seconds = grant_seconds(pod)
        if seconds is None:
            return None
        uid = pod.metadata.uid
        word = pod.metadata.annotations.get(GRANT, "")
        if word in self._words:
            until = self._words[word] + seconds
            if until > self._until.get(uid, float("-inf")):
                self._until[uid] = until
                self._save()
        if uid not in self._until:
            return 0.0
        return self._until[uid] - self._clock.monotonic()

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        if self._until.pop(uid, None) is not None:
            self._save()

    def _save(self) -> None:
        if self._path is not None:
            document = {"boot": self._boot_id, "until": self._until}
            write_private(self._path, orjson.dumps(document))

    def _read(self) -> dict[str, float]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            held = orjson.loads(self._path.read_bytes())
            if held["boot"] != self._boot_id:
                return {}
            return {str(uid): float(until) for uid, until in held["until"].items()}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.error("grants unreadable", extra={"path": str(self._path), "error": str(error)})
            return {}
