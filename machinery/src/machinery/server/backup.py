"""A backup of a server in one file: its state, its keys, and what is needed to trust the file.

    manifest.json      format, program, its version, when, how many objects, the SHA-256 of every other entry
    manifest.sha256    of manifest.json
    store.msgpack      the present rows (`machinery.store.sql.transfer`)
    files/…            CA and keys, by their names in the data directory

A tar, so that it can be looked into with common tools. It is not encrypted: it holds every Secret and the CA's key, and
whoever has it is administrator of all that the server rules. It is written for the owner's eyes only (0600).

Restored is into an empty data directory (and an empty database) only, completely or not at all: everything is made in a
directory beside it, which takes the place at the end. Keys stay the same, so those who knew the server know it again.
"""

import asyncio
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from machinery.client.kubeconfig import write_secret
from machinery.server.pki import write_private
from machinery.store.sql import transfer
from machinery.store.sql.transfer import Saved, Stored, TransferError

FORMAT = 1
FILES = ("agent.crt", "agent.key", "federation-ca.crt")
"""In a data directory, besides all of pki/."""
FILE_BYTES_MAX = 1024 * 1024
FILES_MAX = 100
_NAME = re.compile(r"(pki/)?[A-Za-z0-9_-][A-Za-z0-9._-]*")


class BackupError(Exception):
    """The backup cannot be made, is not good, or may not be restored here; the text says what to do."""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a backup says of itself."""

    format: int
    program: str
    """`federation` or `member`."""
    version: str
    taken: str
    """RFC 3339."""
    revision: int
    objects: int
    schema: tuple[str, ...]
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Program:
    """Whose state it is, and by which program."""

    name: str
    version: str
    schema: str
    """Where the database's schema is brought to: `heads` or `store@head`."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An opened backup."""

    manifest: Manifest
    state: Saved
    files: Mapping[str, bytes]


def store_url(data_dir: str, database_url: str) -> str:
    """Where a server with these settings keeps its state."""
    return database_url or f"sqlite:///{data_dir}/store.db"


# ---------------------------------------------------------------------------------------------------------- the file
def pack(program: Program, taken: str, state: Saved, files: Mapping[str, bytes]) -> bytes:
    """The archive's bytes."""
    rows = [(r.key, r.value, r.revision, r.create_revision) for r in state.rows]
    entries = {"store.msgpack": msgspec.msgpack.encode(rows)}
    entries |= {f"files/{name}": content for name, content in files.items()}
    manifest = Manifest(
        FORMAT,
        program.name,
        program.version,
        taken,
        state.revision,
        len(rows),
        tuple(state.schema),
        {name: _digest(content) for name, content in entries.items()},
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    head = {"manifest.json": text, "manifest.sha256": _digest(text).encode() + b"\n"}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in (head | entries).items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def unpack(data: bytes) -> Archive:
    """The opposite; every byte that matters is checked. Raises BackupError."""
    entries = _entries(data)
    text = entries.pop("manifest.json", b"")
    told = entries.pop("manifest.sha256", b"").decode(errors="replace").strip()
    if not text or not told:
        raise BackupError("this is no backup: it has no manifest")
    if _digest(text) != told:
        raise BackupError("the backup is damaged: its manifest does not have its checksum")
    try:
        written = msgspec.json.decode(text, type=_Format).format
        if written > FORMAT:
            raise BackupError(
                f"the backup has format {written}, this program knows {FORMAT}: restore it with the version that made it"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"the backup's manifest cannot be read: {error}") from error
    if entries.keys() != manifest.sha256.keys():
        missing = ", ".join(sorted(manifest.sha256.keys() ^ entries.keys()))
        raise BackupError(f"the backup is damaged: parts are missing or too many ({missing})")
    for name, content in entries.items():
        if _digest(content) != manifest.sha256[name]:
            raise BackupError(f"the backup is damaged: {name} does not have its checksum")
    files = {n.removeprefix("files/"): c for n, c in entries.items() if n.startswith("files/")}
    if any(not _NAME.fullmatch(name) for name in files):
        raise BackupError("the backup holds files that do not belong into a data directory")
    rows = msgspec.msgpack.decode(entries["store.msgpack"], type=list[tuple[str, bytes, int, int]])
    state = Saved([Stored(*row) for row in rows], manifest.revision, manifest.schema)
    return Archive(manifest, state, files)


class _Format(msgspec.Struct):
    format: int


def _entries(data: bytes) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            found: dict[str, bytes] = {}
            for entry in archive:
                content = archive.extractfile(entry)
                if content is not None:
                    found[entry.name] = content.read()
            return found
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"this is no whole backup: {error}") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refusal(manifest: Manifest, program: Program) -> str:
    """Why this program must not restore it; empty if it may. Pure."""
    if manifest.program != program.name:
        return f"this is the backup of a {manifest.program}, not of a {program.name}"
    if _number(manifest.version) > _number(program.version):
        return (
            f"the backup was made by version {manifest.version}, this is {program.version}: "
            "restore it with the version that made it, or a newer one"
        )
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


# ------------------------------------------------------------------------------------------------------------- doing
async def back_up(
    program: Program, target: str, data_dir: str, database_url: str, taken: str
) -> Manifest:
    """Write the backup of a server, running or not, into a new file. Raises BackupError, OSError."""
    if Path(target).exists():
        raise BackupError(f"{target} exists: backups are not written over one another")
    try:
        files = await asyncio.to_thread(keys, data_dir)
        state = await transfer.read(store_url(data_dir, database_url))
    except TransferError as error:
        raise BackupError(str(error)) from error
    data = await asyncio.to_thread(pack, program, taken, state, files)
    manifest = (await asyncio.to_thread(unpack, data)).manifest
    await asyncio.to_thread(write_secret, Path(target), data)
    return manifest


def keys(data_dir: str) -> dict[str, bytes]:
    """CA, keys and certificates of a data directory by name. Raises BackupError."""
    folder = Path(data_dir)
    names = [f"pki/{path.name}" for path in sorted((folder / "pki").glob("*")) if path.is_file()]
    if "pki/ca.key" not in names:
        raise BackupError(f"{data_dir} is no data directory of a server: it has no pki/ca.key")
    names += [name for name in FILES if (folder / name).is_file()]
    found: dict[str, bytes] = {}
    for name in (n for n in names if _NAME.fullmatch(n)):
        if (folder / name).stat().st_size > FILE_BYTES_MAX or len(found) >= FILES_MAX:
            raise BackupError(f"{folder / name} does not look like a key or certificate")
        found[name] = (folder / name).read_bytes()
    return found


async def restore(program: Program, source: str, data_dir: str, database_url: str) -> Manifest:
    """Make an empty data directory (and database) what the backup says. Raises BackupError, OSError."""
    archive = await asyncio.to_thread(lambda: unpack(Path(source).read_bytes()))
    why = refusal(archive.manifest, program)
    if why:
        raise BackupError(why)
    target = Path(data_dir).absolute()
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{data_dir} is not empty: a backup is restored into an empty place only")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.restoring-"))
    try:
        await asyncio.to_thread(_lay_out, staging, archive.files)
        await transfer.fill(store_url(str(staging), database_url), archive.state, program.schema)
        _settle(staging, target)
    except TransferError as error:
        raise BackupError(str(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return archive.manifest


def _lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    (folder / "pki").mkdir(mode=0o700)
    for name, content in files.items():
        write_private(folder / name, content, mode=0o600 if name.endswith(".key") else 0o644)


def _settle(staging: Path, target: Path) -> None:
    """The finished directory takes its place, durably."""
    staging.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
