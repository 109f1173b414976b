"""The Alembic environment of both bases: `store` (the object log) and `federation` (the journal of decisions).

A server hands in its own connection, already under a lock. By hand (`alembic upgrade store@head` in the checkout) the
database is the one named by FEDERATION_DATABASE_URL or CLUSTER_DATABASE_URL.
"""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, create_engine


def run(connection: Connection) -> None:
    """Bring the schema to the asked revision in one transaction."""
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_on_postgres(url: str) -> None:
    """Connect with the driver that the servers use."""
    from sqlalchemy.ext.asyncio import create_async_engine  # dear to import, only needed here

    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def database_url() -> str:
    """The database that a person means."""
    for name in ("FEDERATION_DATABASE_URL", "CLUSTER_DATABASE_URL"):
        if url := os.environ.get(name):
            return url
    raise SystemExit(
        "set FEDERATION_DATABASE_URL or CLUSTER_DATABASE_URL to the database to migrate"
    )


if context.is_offline_mode():
    raise SystemExit("migrations run on a connection; --sql is not supported")
handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
elif (target := database_url()).startswith("postgresql"):
    asyncio.run(run_on_postgres(target))
else:
    with create_engine(target).begin() as opened:
        run(opened)
