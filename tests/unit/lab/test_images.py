"""The image builder: an OCI layout that checks out digest by digest, and a pause program that runs."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from federation.lab import images

APPLETS = ("busybox", "sh", "httpd")


def read(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return {m.name: found.extractfile(m).read() for m in found.getmembers() if m.isfile()}  # type: ignore[union-attr]


def built() -> dict[str, bytes]:
    return read(images.pack(images.lab_images(b"ELF", APPLETS, "amd64"), "amd64"))


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    data = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert len(data) == descriptor["size"]
    assert hashlib.sha256(data).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    return data


def test_every_reference_leads_to_blobs_of_the_right_digest() -> None:
    files = built()
    references = []
    for manifest in json.loads(files["index.json"])["manifests"]:
        references.append(manifest["annotations"]["io.containerd.image.name"])
        document = json.loads(blob(files, manifest))
        config = json.loads(blob(files, document["config"]))
        (layer,) = document["layers"]
        blob(files, layer)
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
        assert config["architecture"] == "amd64"
    assert references == [
        "docker.io/lab/pause:1",
        "docker.io/lab/busybox:1",
        "docker.io/lab/whoami:1",
        "docker.io/lab/whoami:2",
    ]


def test_the_same_input_gives_the_same_bytes() -> None:
    def once() -> bytes:
        return images.pack(images.lab_images(b"ELF", APPLETS, "amd64"), "amd64")

    assert once() == once()


def test_a_layer_has_parents_links_and_modes() -> None:
    busybox = images.lab_images(b"ELF", APPLETS, "amd64")[1]
    with tarfile.open(fileobj=io.BytesIO(images._layer(busybox))) as layer:
        members = {member.name: member for member in layer.getmembers()}
    assert members["bin"].isdir()
    assert members["tmp"].mode == 0o1777
    assert members["bin/sh"].linkname == "busybox"
    assert members["bin/busybox"].mode == 0o755
    assert "bin/busybox" in members
    assert not members["bin/busybox"].issym()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of another processor")
def test_pause_sleeps_and_ignores_children(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(images.pause_program("amd64"))
    program.chmod(0o755)
    process = subprocess.Popen([program])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        status = Path(f"/proc/{process.pid}/status").read_text()
        ignored = int(status.split("SigIgn:")[1].split()[0], 16)
        assert ignored & 1 << 16, "SIGCHLD is ignored"
    finally:
        process.terminate()
    assert process.wait(5) == -15


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        images.build_archive("riscv64")


def test_missing_busybox_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install busybox-static"):
        images.host_busybox(str(tmp_path / "busybox"))
