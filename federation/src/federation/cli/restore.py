"""Make an empty data directory, and an empty database where one is named, what a backup says.

Start the server with that directory and the old address afterwards: its CA is the same, so members and people know it
again, and members come back by themselves. Revisions go on far above all that were issued; watchers list again.
"""

import argparse

from federation.cli.backup import add_place, finished, program, summary
from machinery.server.backup import restore


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", help="what `fedctl backup` wrote")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore and say what to do next."""
    manifest = finished(
        restore(program(), arguments.file, arguments.data_dir, arguments.database_url)
    )
    print(f"{arguments.data_dir}: {summary(manifest)}")
    print("Start the federation server with this dataDir, at the address that its members know.")
    print("What was applied after the backup is not in it: apply it again.")
    return 0
