"""Termination messages: a file per attempt at the container's terminationMessagePath, read when it has ended.

With policy FallbackToLogsOnError a failed container that left no message shows the end of its log.
"""

from dataclasses import replace
from pathlib import Path

from cluster_agent.node import logs
from cluster_agent.node.cri.interface import ContainerConfig, Mount, RuntimeContainer
from cluster_agent.node.kubelet.hooks import Hook
from machinery.api.core import Container, Pod

MESSAGE_BYTES_MAX = 4096
LOG_BYTES_MAX, LOG_LINES_MAX = 2048, 80


class TerminationMessages(Hook):
    """Files under `pods/<uid>/messages/<container>/<attempt>`."""

    def __init__(self, pods_dir: str) -> None:
        self._pods = Path(pods_dir)

    def _path(self, pod: Pod, name: str, attempt: int) -> Path:
        return self._pods / pod.metadata.uid / "messages" / name / str(attempt)

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        if not container.termination_message_path:
            return config
        path = self._path(pod, container.name, config.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o666)
        path.chmod(0o666)
        mount = Mount(str(path), container.termination_message_path)
        return replace(config, mounts=(*config.mounts, mount))

    def message(self, pod: Pod, container: Container, record: RuntimeContainer) -> str:
        try:
            with self._path(pod, container.name, record.attempt).open("rb") as file:
                text = file.read(MESSAGE_BYTES_MAX)
        except OSError:
            text = b""
        fallback = container.termination_message_policy == "FallbackToLogsOnError"
        if not text and fallback and record.exit_code != 0:
            text = last_log(Path(record.log_path))
        return text.decode("utf-8", "replace")


def last_log(path: Path) -> bytes:
    """The end of a log, without stamps."""
    try:
        size = path.stat().st_size
    except OSError:
        return b""
    formatter = logs.Formatter(logs.LogOptions())
    lines = logs.tail(path, LOG_LINES_MAX, size)
    return b"".join(map(formatter.line, lines))[-LOG_BYTES_MAX:]
