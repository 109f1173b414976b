"""A containerd of the test's own, in a network namespace of its own; nothing of it is left behind.

The test's thread itself moves into the namespace (the API server and the node process with it), so that bridge, veth
and nft rules vanish with the namespace, and probes reach the pods.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.lab import images

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

CONFIG = """\
version = 2
root = "{base}/root"
state = "{run}/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{base}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:1"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{base}/cni/net.d"
"""


def need_real_containers() -> None:
    """Skip where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    if shutil.which("containerd") is None:
        pytest.skip("containerd absent")


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and every process and thread that it starts, in a fresh network namespace with a loopback."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        if _LIBC.setns(home, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(home)


class Containerd:
    """Start, kill, start again."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.run = Path("/run") / f"ubt-{os.getpid()}"
        self.socket = str(self.run / "containerd.sock")
        self._process: subprocess.Popen[bytes] | None = None
        base.mkdir(parents=True, exist_ok=True)
        self.run.mkdir()
        (base / "cni/net.d").mkdir(parents=True)
        (base / "config.toml").write_text(CONFIG.format(base=base, run=self.run))

    def start(self) -> None:
        with (self.base / "containerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "-c", str(self.base / "config.toml")],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while not self._serves():
            assert time.monotonic() < deadline, (self.base / "containerd.log").read_text()[-2000:]
            time.sleep(0.05)

    def _serves(self) -> bool:
        return os.path.exists(self.socket) and self.ctr("version", check=False) == 0

    def ctr(self, *words: str, check: bool = True) -> int:
        command = ["ctr", "-a", self.socket, "-n", "k8s.io", *words]
        return subprocess.run(command, check=check, capture_output=True, timeout=60).returncode

    def load_images(self) -> None:
        busybox = Path("/bin/busybox").read_bytes()
        applets = subprocess.check_output(["/bin/busybox", "--list"], text=True).split()
        arch = images.ARCHITECTURES[os.uname().machine]
        archive = self.base / "images.tar"
        archive.write_bytes(images.pack(images.lab_images(busybox, applets, arch), arch))
        self.ctr("images", "import", str(archive))

    def kill(self) -> None:
        """kill -9, as the worst of operators."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it and whatever it left: shims, containers, mounts, folders."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        for pid in _shims(self.socket):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for point in _mounts_below(str(self.run), str(self.base)):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        shutil.rmtree(self.run, ignore_errors=True)


def _shims(socket: str) -> list[int]:
    """Shims of this containerd, and by their cgroup nothing else: they name its socket on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if socket.encode() in words and b"shim" in words[0]:
                    found.append(int(entry.name))
    return found


def _mounts_below(*folders: str) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(folders)), reverse=True)


@contextlib.contextmanager
def running_containerd(base: Path) -> Iterator[Containerd]:
    """A containerd with the lab's images, in a network namespace of its own."""
    need_real_containers()
    with own_network():
        containerd = Containerd(base)
        try:
            containerd.start()
            containerd.load_images()
            yield containerd
        finally:
            containerd.stop()
