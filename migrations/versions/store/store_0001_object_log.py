"""The object log, and what numbers it.

`store_log` holds one row a change; UNIQUE(key, previous_revision) is the compare-and-swap. `store_state` has one row:
`reserved`, the highest revision that may have been issued without a row (SQLite), and `compacted`, the revision up to
which superseded rows are gone (PostgreSQL, for tailers that slept).

On PostgreSQL a batch is one call of `store_append`. It takes the advisory lock first, so revisions become visible in
their order; and as each statement of a volatile function sees all that is committed, it can judge every write by the
key's newest row, also when the caller's memory is an hour old. A change of 0 asks for a number only. `store_trim`
drops superseded rows and says how far.
"""

import sqlalchemy as sa
from alembic import op

revision = "store_0001"
down_revision = None
branch_labels = ("store",)
depends_on = None

APPEND = """
CREATE FUNCTION store_append(
    p_writer bigint, p_keys text[], p_changes smallint[], p_values bytea[],
    p_created bigint[], p_expected bigint[]
) RETURNS TABLE (ordinal bigint, revision bigint, previous_revision bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    base bigint;
    issued bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7020117311);
    SELECT coalesce(max(l.revision), 0) INTO base FROM store_log l;
    RETURN QUERY SELECT 0::bigint, base, 0::bigint;
    RETURN QUERY
    WITH asked AS (
        SELECT a.*, coalesce(newest.revision, 0) AS newest,
               coalesce(newest.change, 3::smallint) = 3 AS absent
        FROM unnest(p_keys, p_changes, p_values, p_created, p_expected)
             WITH ORDINALITY AS a (key, change, value, created, expected, place)
        LEFT JOIN LATERAL (
            SELECT l.revision, l.change FROM store_log l
            WHERE l.key = a.key ORDER BY l.previous_revision DESC LIMIT 1
        ) newest ON a.change <> 0
    ), good AS (
        SELECT * FROM asked
        WHERE change = 0 OR (change = 1 AND absent)
           OR (change > 1 AND NOT absent AND newest = expected)
        ORDER BY place
    ), numbered AS MATERIALIZED (
        SELECT good.*, nextval('store_revision') AS revision FROM good
    ), inserted AS (
        INSERT INTO store_log (revision, key, change, value, create_revision, previous_revision, writer)
        SELECT n.revision, n.key, n.change, n.value,
               CASE WHEN n.change = 1 THEN n.revision ELSE n.created END, n.newest, p_writer
        FROM numbered n WHERE n.change <> 0 ORDER BY n.revision
        ON CONFLICT DO NOTHING
        RETURNING store_log.revision
    )
    SELECT n.place, n.revision, n.newest FROM numbered n
    WHERE n.change = 0 OR EXISTS (SELECT FROM inserted i WHERE i.revision = n.revision)
    ORDER BY n.revision;
    SELECT last_value INTO issued FROM store_revision;
    PERFORM pg_notify('store_log', p_writer || ':' || issued);
END $$
"""

TRIM = """
CREATE FUNCTION store_trim(p_revisions bigint[], p_compacted bigint) RETURNS void
LANGUAGE sql VOLATILE AS $$
    DELETE FROM store_log WHERE revision = ANY (p_revisions);
    UPDATE store_state SET compacted = greatest(compacted, p_compacted);
$$
"""


def upgrade() -> None:
    """Create the log."""
    postgres = op.get_bind().dialect.name == "postgresql"
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    text = sa.Text(collation="C") if postgres else sa.Text()
    op.create_table(
        "store_log",
        sa.Column("revision", big, primary_key=True, autoincrement=False),
        sa.Column("key", text, nullable=False),
        sa.Column("change", sa.SmallInteger, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.Column("create_revision", big, nullable=False),
        sa.Column("previous_revision", big, nullable=False),
        *([sa.Column("writer", big, nullable=False)] if postgres else []),
        sa.UniqueConstraint("key", "previous_revision"),
    )
    state = op.create_table(
        "store_state",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("reserved", big, nullable=False),
        sa.Column("compacted", big, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "reserved": 0, "compacted": 0}])
    if postgres:
        op.execute("ALTER TABLE store_log ALTER COLUMN value SET STORAGE EXTERNAL")
        op.execute("CREATE SEQUENCE store_revision START 2")
        op.execute(APPEND)
        op.execute(TRIM)


def downgrade() -> None:
    """Drop the log and every object in it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION store_append")
        op.execute("DROP FUNCTION store_trim")
        op.execute("DROP SEQUENCE store_revision")
    op.drop_table("store_state")
    op.drop_table("store_log")
