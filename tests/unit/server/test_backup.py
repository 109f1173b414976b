"""The file of a backup: what it holds, what is refused, and that no damage passes."""

import random
import stat

import pytest

from machinery.server import backup
from machinery.server.backup import (
    BackupError,
    Program,
    back_up,
    keys,
    pack,
    refusal,
    restore,
    unpack,
)
from machinery.store.sql.transfer import Saved, Stored
from machinery.store.sql.values import Codec

PROGRAM = Program("federation", "0.2.0", "heads")
TAKEN = "2026-11-29T00:00:00Z"
FRAME = Codec().pack("/registry/core/secrets/a/b", b'{"kind":"Secret"}')
STATE = Saved([Stored("/a", FRAME, 7, 5), Stored("/b", FRAME, 9, 9)], 10, ["store_0001"])
FILES = {"pki/ca.key": b"key", "pki/ca.crt": b"crt", "agent.key": b"agent"}


def test_what_was_packed_is_unpacked() -> None:
    archive = unpack(pack(PROGRAM, TAKEN, STATE, FILES))
    assert archive.state == Saved(list(STATE.rows), 10, ("store_0001",))
    assert archive.files == FILES
    said = archive.manifest
    assert (said.program, said.version, said.taken, said.revision, said.objects) == (
        "federation", "0.2.0", TAKEN, 10, 2,
    )  # fmt: skip


def test_damage_never_passes() -> None:
    """Any bit may turn and any end may be missing: refused, or it was a byte that nothing depends on."""
    whole = pack(PROGRAM, TAKEN, STATE, FILES)
    right = unpack(whole)
    chance = random.Random(11)
    refused = 0
    for _ in range(1500):
        broken = bytearray(whole)
        broken[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        try:
            assert unpack(bytes(broken)) == right
        except BackupError:
            refused += 1
    assert refused > 200
    last = len(whole.rstrip(b"\0"))
    for end in range(0, last, 97):
        with pytest.raises(BackupError):
            unpack(whole[:end])


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\0" * 10240], ids=["empty", "text", "zeros"])
def test_what_is_no_backup_is_said_so(data: bytes) -> None:
    with pytest.raises(BackupError, match="this is no"):
        unpack(data)


def test_a_newer_format_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "FORMAT", 2)
    newer = pack(PROGRAM, TAKEN, STATE, FILES)
    monkeypatch.undo()
    with pytest.raises(BackupError, match="format 2, this program knows 1"):
        unpack(newer)


@pytest.mark.parametrize("name", ["../evil", "pki/../evil", "/etc/passwd", "pki/a/b", ".hidden"])
def test_no_file_leaves_the_data_directory(name: str) -> None:
    with pytest.raises(BackupError, match="do not belong"):
        unpack(pack(PROGRAM, TAKEN, STATE, {name: b"x"}))


@pytest.mark.parametrize(
    ("made", "here", "said"),
    [
        ("0.2.0", "0.2.0", ""),
        ("0.1.9", "0.2.0", ""),
        ("0.9.0", "0.10.0", ""),
        ("0.10.0", "0.9.0", "restore it with the version that made it"),
        ("1.0.0", "0.9.9", "restore it with the version that made it"),
    ],
)
def test_only_what_this_version_understands(made: str, here: str, said: str) -> None:
    manifest = unpack(pack(Program("federation", made, "heads"), TAKEN, STATE, FILES)).manifest
    why = refusal(manifest, Program("federation", here, "heads"))
    assert said in why
    assert bool(why) == bool(said)


def test_a_members_backup_is_no_federations() -> None:
    manifest = unpack(pack(PROGRAM, TAKEN, STATE, FILES)).manifest
    assert "not of a member" in refusal(manifest, Program("member", "0.2.0", "store@head"))


async def test_restored_is_into_an_empty_place_and_whole_or_not_at_all(tmp_path) -> None:
    source = tmp_path / "b"
    source.write_bytes(pack(PROGRAM, TAKEN, STATE, FILES))
    used = tmp_path / "used"
    used.mkdir()
    (used / "something").touch()
    with pytest.raises(BackupError, match="not empty"):
        await restore(PROGRAM, str(source), str(used), "")
    target = tmp_path / "empty"
    target.mkdir()
    bad = Saved([*STATE.rows, Stored("/a", FRAME, 11, 5)], 11, ["store_0001"])
    (tmp_path / "bad").write_bytes(pack(PROGRAM, TAKEN, bad, FILES))
    with pytest.raises(BackupError, match="twice"):
        await restore(PROGRAM, str(tmp_path / "bad"), str(target), "")
    assert not any(target.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "bad", "empty", "used"]
    await restore(PROGRAM, str(source), str(target), "")
    assert {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()} >= {*FILES, "store.db"}  # fmt: skip
    assert (target / "pki" / "ca.key").read_bytes() == b"key"
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (target / "pki").iterdir()}
    assert modes == {"ca.key": 0o600, "ca.crt": 0o644}
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


async def test_a_backup_is_for_its_owner_and_never_over_another(tmp_path) -> None:
    source = tmp_path / "b"
    source.write_bytes(pack(PROGRAM, TAKEN, STATE, FILES))
    await restore(PROGRAM, str(source), str(tmp_path / "data"), "")
    target = tmp_path / "second"
    manifest = await back_up(PROGRAM, str(target), str(tmp_path / "data"), "", TAKEN)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    archive = unpack(target.read_bytes())
    assert archive.manifest == manifest
    assert archive.files == FILES
    assert [(r.key, r.revision) for r in archive.state.rows] == [("/a", 7), ("/b", 9)]
    assert archive.state.revision > 10**12
    with pytest.raises(BackupError, match="not written over one another"):
        await back_up(PROGRAM, str(target), str(tmp_path / "data"), "", TAKEN)


def test_a_directory_without_a_ca_is_no_data_directory(tmp_path) -> None:
    with pytest.raises(BackupError, match=r"no pki/ca\.key"):
        keys(str(tmp_path))
