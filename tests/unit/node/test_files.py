"""What a node writes: volumes that change at once, checkpoints, control groups in a made-up tree."""

import datetime as dt
import os
import threading
from pathlib import Path

import pytest
from tests.unit.node.worlds import T0, after, pod

from cluster_agent.node.cgroups import Cgroups
from cluster_agent.node.cri.interface import Resources
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.hooks.volumes import sub_path
from cluster_agent.node.kubelet.resources import BURSTABLE
from cluster_agent.node.volumes import atomic
from cluster_agent.node.volumes.atomic import BadPath, Entry
from cluster_agent.node.volumes.manager import VolumeFault, entries_of_map
from cluster_agent.node.volumes.tokens import Token
from machinery.api.pod_volumes import KeyToPath


def shown(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and not str(p.relative_to(folder)).startswith("..")
    }


def test_a_volume_follows_its_entries(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert atomic.write(folder, {"a": Entry(b"1"), "d/b": Entry(b"2", 0o400)}, T0)
    assert (folder / "a").read_text() == "1"
    assert (folder / "d/b").read_text() == "2"
    assert (folder / "d/b").stat().st_mode & 0o777 == 0o400
    assert not atomic.write(folder, {"a": Entry(b"1"), "d/b": Entry(b"2", 0o400)}, after(1))
    assert atomic.write(folder, {"a": Entry(b"3"), "c": Entry(b"4")}, after(2))
    assert {n: (folder / n).read_text() for n in ("a", "c")} == {"a": "3", "c": "4"}
    assert not os.path.lexists(folder / "d")
    assert len([p for p in folder.iterdir() if p.name.startswith("..2")]) == 1


def content(name: str, folder: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(descriptor, 9)
    finally:
        os.close(descriptor)


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    atomic.write(folder, {"a": Entry(b"0"), "b": Entry(b"0")}, T0)
    torn, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                base = os.open(folder / "..data", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # the link was read, and the folder went before it was entered
            try:
                pair = [content(n, base) for n in ("a", "b")]
                if pair[0] != pair[1]:
                    torn.append(str(pair))
            except FileNotFoundError:
                pass  # the old folder went while we held it: the reader opens again
            finally:
                os.close(base)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 60):
        text = str(number).encode()
        atomic.write(folder, {"a": Entry(text), "b": Entry(text)}, after(number))
    stop.set()
    reader.join()
    assert torn == []


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x/y"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadPath):
        atomic.write(tmp_path / "v", {path: Entry(b"")}, T0)


def test_items_of_a_map() -> None:
    data = {"a": b"1", "b": b"2"}
    items = [KeyToPath(key="a", path="x/a", mode=0o400)]
    assert entries_of_map(data, items, 0o644, optional=False, what="it") == {
        "x/a": Entry(b"1", 0o400)
    }
    gone = [KeyToPath(key="z", path="z")]
    assert entries_of_map(data, gone, 0o644, optional=True, what="it") == {}
    with pytest.raises(VolumeFault, match="configmap demo/x references non-existent config key: z"):
        entries_of_map(data, gone, 0o644, optional=False, what="configmap demo/x")


def test_sub_paths_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    base = tmp_path / "v"
    base.mkdir()
    (base / "link").symlink_to(tmp_path / "out")
    assert sub_path(str(base), "new/deep") == str(base / "new/deep")
    for bad in ("link", "link/x", "../out", "/etc"):
        with pytest.raises(HookFault):
            sub_path(str(base), bad)


def test_checkpoints_survive_and_are_private(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(pod())
    assert (tmp_path / "uid-1.json").stat().st_mode & 0o777 == 0o600
    assert checkpoints.load() == [pod()]
    (tmp_path / "uid-2.json").write_bytes(b'{"metadata":')
    assert checkpoints.load() == [pod()]
    assert (tmp_path / "uid-2.bad").exists()
    checkpoints.remove("uid-1")
    assert checkpoints.load() == []


@pytest.mark.parametrize(
    ("life_s", "age_s", "stale"),
    [
        (3600, 2879, False),
        (3600, 2880, True),
        (10 * 86400, 86399, False),
        (10 * 86400, 86400, True),
    ],
)
def test_tokens_are_renewed_at_four_fifths_or_after_a_day(
    life_s: int, age_s: int, stale: bool
) -> None:
    token = Token("t", T0, T0 + dt.timedelta(seconds=life_s))
    assert token.stale(after(age_s)) is stale


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    groups = Cgroups(str(tmp_path), "/kubepods")
    path = groups.create(BURSTABLE, "u1", Resources(1024, 50_000, 100_000, 1 << 20))
    assert path == "/kubepods/burstable/podu1"
    folder = tmp_path / path.strip("/")
    assert (folder / "cpu.weight").read_text() == "39"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert (folder / "memory.max").read_text() == str(1 << 20)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert groups.leftovers() == {"u1"}
    for file in folder.iterdir():
        file.unlink()  # the kernel's own files do not stand in the way of rmdir; these would
    (folder / "container").mkdir()
    assert groups.remove_everywhere("u1")
    assert groups.leftovers() == set()
    assert groups.remove_everywhere("u1"), "twice is as good as once"


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    for name in ("cpu", "memory", "pids"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    groups = Cgroups(str(tmp_path), "kubepods")
    assert not groups.v2
    groups.create("Guaranteed", "u1", Resources(102, 10_000, 100_000, 4096))
    pod_group = "kubepods/podu1"
    assert (tmp_path / "cpu" / pod_group / "cpu.shares").read_text() == "102"
    assert (tmp_path / "cpu" / pod_group / "cpu.cfs_quota_us").read_text() == "10000"
    assert (tmp_path / "memory" / pod_group / "memory.limit_in_bytes").read_text() == "4096"
    assert (tmp_path / "pids" / pod_group).is_dir()
