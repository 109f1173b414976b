"""The schema's owner is Alembic; a server brings its database up to date when it starts.

Alembic and SQLAlchemy cost a server that starts a second of imports, so they are loaded only where there is something to
migrate, or a PostgreSQL; whether a SQLite file is up to date, it is asked itself. The scripts lie in `migrations/` of the checkout and inside this package in a wheel. Callers hold a lock (the SQLite
lock file, an advisory lock on PostgreSQL), so that two servers may start at once.
"""

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REVISION = re.compile(r'^(down_revision|revision) = (?:"(\w+)"|None)$', re.MULTILINE)


class MigrationError(Exception):
    """The schema cannot be brought up to date; the text says why."""


def scripts() -> Path:
    """The folder of migrations."""
    here = Path(__file__).resolve()
    candidates = [here.parent / "migrations"]
    candidates += [parent / "migrations" for parent in here.parents[4:7]]
    for candidate in candidates:
        if (candidate / "env.py").is_file():
            return candidate
    raise FileNotFoundError(f"no migrations beside {here.parent}; the installation is incomplete")


def heads(target: str) -> frozenset[str]:
    """The newest revisions of `target`, read from the scripts without Alembic, whose import costs half a second."""
    bases = ("store", "federation") if target == "heads" else (target.partition("@")[0],)
    newest: set[str] = set()
    for base in bases:
        found: dict[str, str | None] = {}
        for script in (scripts() / "versions" / base).glob("*.py"):
            said = dict(_REVISION.findall(script.read_text(encoding="utf-8")))
            found[said["revision"]] = said.get("down_revision") or None
        newest |= found.keys() - set(found.values())
    return frozenset(newest)


def known() -> frozenset[str]:
    """Every revision of both bases that these scripts can make."""
    found: set[str] = set()
    for script in (scripts() / "versions").glob("*/*.py"):
        found.add(dict(_REVISION.findall(script.read_text(encoding="utf-8")))["revision"])
    return frozenset(found)


def is_current(connection: sqlite3.Connection, target: str) -> bool:
    """Whether a SQLite file has the schema of `target` already. Raises sqlite3.Error."""
    find = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    if connection.execute(find).fetchone() is None:
        return False
    rows = connection.execute("SELECT version_num FROM alembic_version")
    return heads(target) <= {str(row[0]) for row in rows}


def upgrade(connection: "Connection", target: str = "store@head") -> None:
    """Bring the schema to `target`: `store@head` for a cluster, `heads` for the federation. Raises MigrationError."""
    from sqlalchemy import inspect, text

    if inspect(connection).has_table("alembic_version"):
        rows = connection.execute(text("SELECT version_num FROM alembic_version"))
        if heads(target) <= {str(row[0]) for row in rows}:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    folder = scripts()
    config = Config()
    config.set_main_option("script_location", _escaped(folder))
    config.set_main_option("path_separator", "newline")
    versions = (folder / "versions" / "store", folder / "versions" / "federation")
    config.set_main_option("version_locations", "\n".join(map(_escaped, versions)))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise MigrationError(str(error)) from error


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
