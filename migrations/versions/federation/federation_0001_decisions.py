"""The federation's journal of decisions: what was decided, from which inputs."""

import sqlalchemy as sa
from alembic import op

revision = "federation_0001"
down_revision = None
branch_labels = ("federation",)
depends_on = None


def upgrade() -> None:
    """Create the journal."""
    op.create_table(
        "federation_decisions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("inputs_hash", sa.Text, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
    )
    op.create_index("federation_decisions_kind_time", "federation_decisions", ["kind", "time"])


def downgrade() -> None:
    """Drop the journal."""
    op.drop_table("federation_decisions")
