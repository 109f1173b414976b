"""Files that change all at once, as the kubelet has always done it.

    <volume>/key            -> ..data/key
    <volume>/..data         -> ..2026_01_31_07_08_09.000010
    <volume>/..2026_01_31_07_08_09.000010/key

A reader that opens `key` sees the old set or the new one, never a mixture: the only step that shows is the rename of
the link `..data`. Nothing is written when nothing has changed.
"""

import datetime as dt
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DATA = "..data"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: content and mode."""

    data: bytes
    mode: int = 0o644


class BadPath(ValueError):
    """A path in a volume that leads out of it."""


def check_path(path: str) -> str:
    """Raises BadPath for what is absolute, climbs, or clashes with our own names."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise BadPath(f"invalid path {path!r} in a volume")
    return str(PurePosixPath(path))


def write(
    folder: Path, entries: Mapping[str, Entry], now: dt.datetime, gid: int | None = None
) -> bool:
    """Make `folder` show exactly `entries`; whether anything changed."""
    wanted = {check_path(path): entry for path, entry in entries.items()}
    folder.mkdir(parents=True, exist_ok=True)
    if gid is not None:
        os.chown(folder, -1, gid)
        folder.chmod(0o2777)
    else:
        folder.chmod(0o777)
    current = _current(folder)
    if current is not None and _matches(current, wanted):
        return False
    stamp = now.astimezone(dt.UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f")
    fresh = folder / stamp
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir()
    fresh.chmod(0o755)
    for path, entry in wanted.items():
        _write_file(fresh / path, entry, gid)
    draft = folder / "..data_tmp"
    draft.unlink(missing_ok=True)
    draft.symlink_to(stamp)
    draft.replace(folder / DATA)
    _link(folder, {PurePosixPath(path).parts[0] for path in wanted})
    for old in folder.iterdir():
        if old.name.startswith("..2") and old.name != stamp and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
    return True


def _current(folder: Path) -> Path | None:
    link = folder / DATA
    return folder / os.readlink(link) if link.is_symlink() else None


def _matches(current: Path, wanted: Mapping[str, Entry]) -> bool:
    found = {str(p.relative_to(current)) for p in current.rglob("*") if p.is_file()}
    if found != set(wanted):
        return False
    return all(
        (current / path).read_bytes() == entry.data
        and (current / path).stat().st_mode & 0o777 == entry.mode & 0o777
        for path, entry in wanted.items()
    )


def _write_file(path: Path, entry: Entry, gid: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(entry.data)
        mode = entry.mode
        if gid is not None:
            os.fchown(file.fileno(), -1, gid)
            mode |= 0o040
        os.fchmod(file.fileno(), mode)


def _link(folder: Path, names: set[str]) -> None:
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in names and not link.name.startswith(".."):
            link.unlink()
