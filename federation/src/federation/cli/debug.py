"""Write the state of a lab's processes into one archive for a report: tables, logs, configurations; secrets removed."""

import argparse
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import yaml

from federation.cli.errors import CliError
from federation.cli.lab import lab_directory
from federation.lab import channel, fleet, state

SECRET_KEYS = frozenset({"token", "databaseUrl", "database_url"})
_LOG_BYTES = 1024 * 1024


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=("dump",))
    parser.add_argument(
        "--dir", default="", help="the lab's directory (default: .lab of this checkout)"
    )
    parser.add_argument("--output", default="ubernetes-debug.tar.gz", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Collect and write."""
    directory = lab_directory(arguments.dir, os.getcwd())
    if state.load(directory) is None:
        raise CliError("no lab here: there is nothing to dump")
    entries = collect(directory)
    try:
        write(arguments.output, entries)
    except OSError as error:
        raise CliError(f"cannot write {arguments.output}: {error.strerror}") from error
    print(f"{arguments.output}: {len(entries)} files; tokens, keys and database URLs are removed")
    return 0


def collect(directory: str) -> dict[str, bytes]:
    """The archive's files by name."""
    found = {"processes.json": _processes(directory)}
    lab_state = json.loads(Path(directory, state.FILE).read_bytes())
    found[state.FILE] = json.dumps(redact(lab_state), indent=1).encode()
    for path in sorted(Path(directory, "config").glob("*.yaml")):
        document = redact(yaml.safe_load(path.read_bytes()))
        found[f"config/{path.name}"] = yaml.safe_dump(document, sort_keys=False).encode()
    for path in sorted(Path(directory, "log").glob("*.log")):
        found[f"log/{path.name}"] = path.read_bytes()[-_LOG_BYTES:]
    return found


def _processes(directory: str) -> bytes:
    try:
        return msgspec.json.format(msgspec.json.encode(fleet.statuses(directory)), indent=1)
    except channel.NoSupervisor as error:
        return json.dumps({"supervisor": str(error)}).encode()


def redact(document: Any) -> Any:
    """The document without the values of secret keys."""
    if isinstance(document, dict):
        return {
            k: "(removed)" if k in SECRET_KEYS and v else redact(v) for k, v in document.items()
        }
    if isinstance(document, list):
        return [redact(item) for item in document]
    return document


def write(output: str, entries: dict[str, bytes]) -> None:
    """Pack the files."""
    with tarfile.open(output, "w:gz") as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(f"ubernetes-debug/{name}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
