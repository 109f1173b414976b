"""Write the federation's whole state into one file, while its servers run: objects, CA and keys.

To be run where a federation server's data directory is. The file is for the owner's eyes only (0600) and not encrypted:
whoever has it is administrator of the federation and of every member.
"""

import argparse
import asyncio
import os
from collections.abc import Coroutine
from importlib import metadata
from typing import Any

from federation.cli.errors import CliError
from machinery.kit.clock import SystemClock, rfc3339
from machinery.server.backup import BackupError, Manifest, Program, back_up

WARNING = (
    "It is NOT encrypted, and whoever reads it is administrator of the federation and of every member: "
    "keep it as you keep the CA's key."
)


def program() -> Program:
    """Whose backup it is."""
    return Program("federation", metadata.version("federation"), "heads")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", help="a new file")
    add_place(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where the server keeps its things; the same for `restore`."""
    parser.add_argument("--data-dir", required=True, help="dataDir of the federation server")
    parser.add_argument(
        "--database-url",
        default=os.environ.get("FEDERATION_DATABASE_URL", ""),
        help="postgresql://… if the state is there (default: $FEDERATION_DATABASE_URL, else SQLite in dataDir)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write and say what is in it."""
    taken = rfc3339(SystemClock().now())
    manifest = finished(
        back_up(program(), arguments.file, arguments.data_dir, arguments.database_url, taken)
    )
    print(f"{arguments.file}: {summary(manifest)}")
    print(WARNING)
    return 0


def finished(work: Coroutine[Any, Any, Manifest]) -> Manifest:
    """What it came to. Raises CliError with what the operator can mend, and PermissionError as it is."""
    try:
        return asyncio.run(work)
    except PermissionError:
        raise
    except (BackupError, OSError) as error:
        raise CliError(str(error)) from error


def summary(manifest: Manifest) -> str:
    """What a backup holds, in one sentence."""
    files = sum(name.startswith("files/") for name in manifest.sha256)
    return (
        f"{manifest.objects} objects at revision {manifest.revision}, {files} keys and certificates, "
        f"taken {manifest.taken} by version {manifest.version}"
    )
