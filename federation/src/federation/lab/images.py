"""Container images without a registry or a daemon: OCI layout archives written by hand, the same bytes every time.

Everything in them is Debian's static busybox, a shell line, and a pause program of a hundred bytes: so a machine with
only the distribution's packages has images to run. The archives are what `ctr images import` reads; the reference
comes from the annotation `io.containerd.image.name`.

Limits: one layer, one platform (the machine's own), no compression.
"""

import hashlib
import io
import json
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""`uname -m` to the name OCI uses."""

PAUSE = "docker.io/lab/pause:1"
BUSYBOX = "docker.io/lab/busybox:1"
WHOAMI = ("docker.io/lab/whoami:1", "docker.io/lab/whoami:2")

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUP = b"root:x:0:\nnobody:x:65534:\n"

_WHOAMI_START = """\
#!/bin/sh
# Answers every request on port 80 with one line: who serves it. /dev/shm is writable even with a read-only root.
# PID 1 gets no signal it does not ask for, hence the trap: without it each deletion would wait out its grace period.
# Told to stop, it serves a little longer, as a good server does: its address is still in others' tables for a moment.
www=/dev/shm/www
mkdir -p "$www"
line="${POD_NAME:-$(hostname)} ${UBERNETES_NODE:-?} ${UBERNETES_CLUSTER:-?} ${UBERNETES_ZONE:-?}${WHOAMI_SUFFIX}"
echo "$line" > "$www/index.html"
echo "serving on port ${PORT:-80}: $line"
httpd -f -v -p "${PORT:-80}" -h "$www" &
trap 'echo "stopping: $line"; sleep "${LINGER:-3}"; kill $!; exit 0' TERM INT
wait $!
"""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link in a layer."""

    target: str


@dataclass(frozen=True, slots=True)
class File:
    """A file in a layer."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Image:
    """One image before it is packed: reference, files of its only layer, and what OCI calls config."""

    reference: str
    files: Mapping[str, File | Link]
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    directories: Mapping[str, int] = field(default_factory=dict)


def pause_program(arch: str) -> bytes:
    """A static ELF that ignores SIGCHLD (so the kernel reaps orphans of a shared PID namespace) and sleeps for ever.

    Written as machine code, because a compiler is too much to ask of a machine for a hundred bytes.
    """
    code = _PAUSE_CODE[arch]()
    machine = {"amd64": 62, "arm64": 183}[arch]
    base, header = 0x400000, 64 + 56
    size = header + len(code)
    elf = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + header, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return elf + code


_SIGCHLD = 17
_IGNORE = struct.pack("<QQQQ", 1, 0, 0, 0)
"""struct kernel_sigaction with SIG_IGN."""


def _pause_amd64() -> bytes:
    before = b"\xb8\x0d\x00\x00\x00" + b"\xbf" + struct.pack("<I", _SIGCHLD)  # rt_sigaction(SIGCHLD
    after = b"\x31\xd2\x41\xba\x08\x00\x00\x00\x0f\x05"  # , NULL, 8)
    loop = b"\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf7"  # again: pause(); goto again
    lea = b"\x48\x8d\x35" + struct.pack("<i", len(after) + len(loop))
    return before + lea + after + loop + _IGNORE


def _pause_arm64() -> bytes:
    def mov(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    svc = 0xD4000001
    head = [mov(8, 134), mov(0, _SIGCHLD)]
    rest = [mov(2, 0), mov(3, 8), svc]  # rt_sigaction(SIGCHLD, ignore, NULL, 8)
    loop = [
        mov(8, 73),
        mov(0, 0),
        mov(1, 0),
        mov(2, 0),
        mov(3, 0),
        mov(4, 8),
        svc,
    ]  # ppoll(NULL, 0, NULL, NULL)
    words = len(rest) + len(loop) + 2  # from the adr to the data behind the branch
    adr = 0x10000000 | words << 5 | 1
    branch = 0x14000000 | (-len(loop) & 0x3FFFFFF)
    return struct.pack(f"<{words + 2}I", *head, adr, *rest, *loop, branch) + _IGNORE


_PAUSE_CODE = {"amd64": _pause_amd64, "arm64": _pause_arm64}


def busybox_files(busybox: bytes, applets: Iterable[str]) -> dict[str, File | Link]:
    """A root file system of busybox with a link for every applet."""
    files: dict[str, File | Link] = {
        "bin/busybox": File(busybox, 0o755),
        "etc/passwd": File(_PASSWD),
        "etc/group": File(_GROUP),
    }
    return files | {f"bin/{name}": Link("busybox") for name in applets if name != "busybox"}


def lab_images(busybox: bytes, applets: Iterable[str], arch: str) -> tuple[Image, ...]:
    """Every image the lab puts on its nodes."""
    base = busybox_files(busybox, applets)
    directories = {"tmp": 0o1777, "root": 0o700, "dev": 0o755, "proc": 0o755, "sys": 0o755}
    path = "PATH=/bin"
    whoami = base | {"start": File(_WHOAMI_START.encode(), 0o755)}
    return (
        Image(PAUSE, {"pause": File(pause_program(arch), 0o755)}, ("/pause",)),
        Image(BUSYBOX, base, ("/bin/sh",), (path,), directories=directories),
        Image(WHOAMI[0], whoami, ("/start",), (path,), (80,), directories),
        Image(WHOAMI[1], whoami, ("/start",), (path, "WHOAMI_SUFFIX= v2"), (80,), directories),
    )


def pack(images: Iterable[Image], arch: str) -> bytes:
    """One OCI layout archive that holds all of `images`; equal layers are stored once."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return f"sha256:{digest}", len(data)

    manifests = []
    for image in images:
        layer = put(_layer(image))
        config = put(_config(image, arch, layer[0]))
        manifest = put(_manifest(config, layer))
        manifests.append(
            _descriptor("manifest", manifest)
            | {
                "annotations": {
                    "io.containerd.image.name": image.reference,
                    "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
                },
                "platform": {"architecture": arch, "os": "linux"},
            }
        )
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    entries = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": _json(index)}
    entries |= {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    return _tar({name: File(data) for name, data in entries.items()}, {})


_MEDIA = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar",
}


def _descriptor(kind: str, blob: tuple[str, int]) -> dict[str, object]:
    return {"mediaType": _MEDIA[kind], "digest": blob[0], "size": blob[1]}


def _manifest(config: tuple[str, int], layer: tuple[str, int]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": _MEDIA["manifest"],
            "config": _descriptor("config", config),
            "layers": [_descriptor("layer", layer)],
        }
    )


def _config(image: Image, arch: str, diff_id: str) -> bytes:
    config: dict[str, object] = {"Env": list(image.env), "Cmd": list(image.command)}
    if image.ports:
        config["ExposedPorts"] = {f"{port}/tcp": {} for port in image.ports}
    return _json(
        {
            "architecture": arch,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "fedctl lab"}],
        }
    )


def _layer(image: Image) -> bytes:
    return _tar(image.files, image.directories)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _tar(files: Mapping[str, File | Link], directories: Mapping[str, int]) -> bytes:
    """A tar archive with every parent directory before its files, and no time or owner in it."""
    modes = dict(directories)
    for path in files:
        for parent in list(Path(path).parents)[:-1]:
            modes.setdefault(str(parent), 0o755)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode in sorted(modes.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            if isinstance(content, Link):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content.target, 0o777
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content.data), content.mode
                archive.addfile(entry, io.BytesIO(content.data))
    return buffer.getvalue()


def host_busybox(path: str = "/bin/busybox") -> tuple[bytes, tuple[str, ...]]:
    """The machine's static busybox and the applets it has. Raises FileNotFoundError with the remedy."""
    if not Path(path).exists():
        raise FileNotFoundError(
            f"{path} is missing: run `make`, or `apt-get install busybox-static`"
        )
    listed = subprocess.run([path, "--list"], check=True, capture_output=True, text=True)
    return Path(path).read_bytes(), tuple(listed.stdout.split())


def build_archive(machine: str) -> bytes:
    """All of the lab's images for this machine (`uname -m`) as one archive for `ctr images import`."""
    arch = ARCHITECTURES.get(machine)
    if arch is None:
        raise ValueError(f"no lab images for {machine}: the lab runs on {', '.join(ARCHITECTURES)}")
    busybox, applets = host_busybox()
    return pack(lab_images(busybox, applets, arch), arch)
