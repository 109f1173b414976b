"""Pods on disk, so that a node which starts without its API goes on with what it had.

One file per pod, 0600 because environments hold secrets, written whole or not at all. Written when the pod came, and
when something a restart would need has changed; the status is part of it (readiness, start time, restart counts).
A file that cannot be read is set aside, not believed and not deleted.
"""

import logging
import os
from pathlib import Path

import msgspec

from machinery.api.core import Pod

log = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(Pod)


class Checkpoints:
    """The pods/ folder of a node's state directory."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, uid: str) -> Path:
        assert "/" not in uid and uid not in ("", ".", ".."), "a uid is a file name here"
        return self._folder / f"{uid}.json"

    def save(self, pod: Pod) -> None:
        """Write the pod as it is now."""
        write_private(self._path(pod.metadata.uid), msgspec.json.encode(pod))

    def remove(self, uid: str) -> None:
        self._path(uid).unlink(missing_ok=True)

    def load(self) -> list[Pod]:
        """All pods, ordered by file name."""
        pods = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                pods.append(_DECODER.decode(path.read_bytes()))
            except msgspec.DecodeError as error:
                log.error("checkpoint unreadable", extra={"path": str(path), "error": str(error)})
                path.rename(path.with_suffix(".bad"))
        return pods


def write_private(path: Path, content: bytes) -> None:
    """Atomically, 0600 from the first byte. Not synced: a lost checkpoint costs one start without the API."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
