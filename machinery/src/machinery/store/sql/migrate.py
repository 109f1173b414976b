"""The schema's owner is Alembic; a server brings its database up to date when it starts.

The scripts lie in `migrations/` of the checkout and inside this package in a wheel. Callers hold a lock (the SQLite
lock file, an advisory lock on PostgreSQL), so that two servers may start at once.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def scripts() -> Path:
    """The folder of migrations."""
    here = Path(__file__).resolve()
    candidates = [here.parent / "migrations"]
    candidates += [parent / "migrations" for parent in here.parents[4:7]]
    for candidate in candidates:
        if (candidate / "env.py").is_file():
            return candidate
    raise FileNotFoundError(f"no migrations beside {here.parent}; the installation is incomplete")


def upgrade(connection: Connection, target: str = "store@head") -> None:
    """Bring the schema to `target`: `store@head` for a cluster, `heads` for the federation."""
    folder = scripts()
    config = Config()
    config.set_main_option("script_location", _escaped(folder))
    config.set_main_option("path_separator", "newline")
    versions = (folder / "versions" / "store", folder / "versions" / "federation")
    config.set_main_option("version_locations", "\n".join(map(_escaped, versions)))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
