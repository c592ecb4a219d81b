"""The first schema: people and tenants, devices and their chains, models, and what devices sent.

Frozen: a change of the tables is a new migration, and this one stays as it was.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(32)
_SHA256 = sa.String(64)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _column(name: str, kind: Any, **options: Any) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, **options)


def upgrade() -> None:
    op.create_table(
        "exporters",
        _column("name", sa.String(length=40)),
        _column("holder", _ID),
        _column("until", sa.Float()),
        _column("at", sa.Float()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_exporters")),
    )
    op.create_table(
        "projects",
        _column("id", _ID),
        _column("name", sa.String(length=100)),
        _column("created", sa.Float()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "users",
        _column("id", _ID),
        _column("name", sa.String(length=100)),
        _column("password_hash", sa.Text()),
        _column("root", sa.Boolean()),
        _column("disabled", sa.Boolean()),
        _column("created", sa.Float()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "access_tokens",
        _column("id", _ID),
        _column("salt", sa.LargeBinary()),
        _column("hash", sa.LargeBinary()),
        _column("name", sa.String(length=100)),
        sa.Column("user_id", _ID, nullable=True),
        sa.Column("project_id", _ID, nullable=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        _column("created", sa.Float()),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_access_tokens_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_access_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_tokens")),
    )
    op.create_table(
        "audit",
        _column("id", _SERIAL, autoincrement=True),
        _column("at", sa.Float()),
        sa.Column("project_id", _ID, nullable=True),
        _column("actor", sa.String(length=150)),
        _column("action", sa.String(length=60)),
        _column("target", sa.String(length=200)),
        _column("detail", sa.JSON()),
        _column("address", sa.String(length=60)),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_audit_project_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_project_id_at"), "audit", ["project_id", "at"])
    op.create_table(
        "devices",
        _column("id", _ID),
        _column("project_id", _ID),
        _column("name", sa.String(length=100)),
        _column("labels", sa.JSON()),
        _column("public_key", sa.LargeBinary(length=32)),
        sa.Column("enrolment_token_id", _ID, nullable=True),
        _column("enrolled", sa.Float()),
        _column("state", sa.String(length=16)),
        sa.Column("clone_seen", sa.Float(), nullable=True),
        sa.Column("last_seen", sa.Float(), nullable=True),
        sa.Column("clock_skew", sa.Float(), nullable=True),
        sa.Column("boot_id", _SHA256, nullable=True),
        sa.Column("boot_origin", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_devices_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("public_key", name=op.f("uq_devices_public_key")),
    )
    op.create_index(op.f("ix_devices_project_id_name"), "devices", ["project_id", "name"])
    op.create_table(
        "enrolment_tokens",
        _column("id", _ID),
        _column("salt", sa.LargeBinary()),
        _column("hash", sa.LargeBinary()),
        _column("project_id", _ID),
        _column("name", sa.String(length=100)),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        _column("uses", sa.Integer()),
        _column("created", sa.Float()),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_enrolment_tokens_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_table(
        "memberships",
        _column("user_id", _ID),
        _column("project_id", _ID),
        _column("role", sa.String(length=16)),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_memberships_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "project_id", name=op.f("pk_memberships")),
    )
    op.create_table(
        "models",
        _column("id", _SERIAL, autoincrement=True),
        _column("project_id", _ID),
        _column("name", sa.String(length=200)),
        _column("version", sa.BigInteger()),
        _column("manifest_sha256", _SHA256),
        sa.Column("profile_sha256", _SHA256, nullable=True),
        _column("created", sa.Float()),
        _column("registered_by", sa.String(length=150)),
        sa.Column("reference", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_models_project_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("project_id", "name", "version", name=op.f("uq_models_project_id_name_version")),
    )
    op.create_table(
        "profiles",
        _column("project_id", _ID),
        _column("sha256", _SHA256),
        _column("body", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_profiles_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "sha256", name=op.f("pk_profiles")),
    )
    op.create_table(
        "boots",
        _column("device_id", _ID),
        _column("boot_id", _SHA256),
        _column("origin", sa.Float()),
        _column("seen", sa.Float()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_boots_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "boot_id", name=op.f("pk_boots")),
    )
    op.create_table(
        "chains",
        _column("device_id", _ID),
        _column("chain", _ID),
        _column("number", sa.BigInteger()),
        _column("header_sha256", _SHA256),
        _column("seen", sa.LargeBinary()),
        _column("reply", sa.JSON()),
        _column("started", sa.Float()),
        _column("restarted", sa.String(length=200)),
        _column("closed", sa.Boolean()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_chains_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "chain", name=op.f("pk_chains")),
    )
    op.create_table(
        "device_days",
        _column("device_id", _ID),
        _column("model_id", sa.BigInteger()),
        _column("start", sa.BigInteger()),
        _column("windows", sa.BigInteger()),
        _column("rows", sa.BigInteger()),
        _column("sums", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_device_days_device_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_device_days_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "model_id", "start", name=op.f("pk_device_days")),
    )
    op.create_table(
        "events",
        _column("id", _SERIAL, autoincrement=True),
        _column("at", sa.Float()),
        _column("project_id", _ID),
        sa.Column("device_id", _ID, nullable=True),
        _column("kind", sa.String(length=40)),
        _column("detail", sa.JSON()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_events_device_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_events_project_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_device_id_at"), "events", ["device_id", "at"])
    op.create_index(op.f("ix_events_project_id_at"), "events", ["project_id", "at"])
    op.create_table(
        "exported_days",
        _column("model_id", sa.BigInteger()),
        _column("start", sa.BigInteger()),
        _column("at", sa.Float()),
        _column("windows", sa.BigInteger()),
        _column("rows", sa.BigInteger()),
        _column("sums", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_exported_days_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "start", name=op.f("pk_exported_days")),
    )
    op.create_table(
        "losses",
        _column("device_id", _ID),
        _column("stream", _ID),
        _column("first", sa.BigInteger()),
        _column("last", sa.BigInteger()),
        _column("kind", sa.String(length=16)),
        _column("reason", sa.String(length=200)),
        _column("rows", sa.BigInteger()),
        _column("received", sa.Float()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_losses_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "stream", "first", "last", name=op.f("pk_losses")),
    )
    op.create_index(op.f("ix_losses_received"), "losses", ["received"])
    op.create_table(
        "quarantine",
        _column("device_id", _ID),
        _column("stream", _ID),
        _column("sequence", sa.BigInteger()),
        _column("kind", sa.String(length=16)),
        _column("reason", sa.String(length=300)),
        _column("received", sa.Float()),
        _column("rows", sa.BigInteger()),
        _column("payload", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_quarantine_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "stream", "sequence", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_received"), "quarantine", ["received"])
    op.create_table(
        "received_ranges",
        _column("device_id", _ID),
        _column("stream", _ID),
        _column("first", sa.BigInteger()),
        _column("last", sa.BigInteger()),
        _column("received", sa.Float()),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_received_ranges_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_id", "stream", "first", name=op.f("pk_received_ranges")),
    )
    op.create_table(
        "rollups",
        _column("model_id", sa.BigInteger()),
        _column("level", sa.String(length=8)),
        _column("start", sa.BigInteger()),
        _column("windows", sa.BigInteger()),
        _column("rows", sa.BigInteger()),
        _column("sums", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_rollups_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model_id", "level", "start", name=op.f("pk_rollups")),
    )
    op.create_index(op.f("ix_rollups_level_start"), "rollups", ["level", "start"])
    op.create_table(
        "samples",
        _column("device_id", _ID),
        _column("stream", _ID),
        _column("sequence", sa.BigInteger()),
        _column("received", sa.Float()),
        _column("rows", sa.BigInteger()),
        _column("payload", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_samples_device_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "stream", "sequence", name=op.f("pk_samples")),
    )
    op.create_table(
        "windows",
        _column("device_id", _ID),
        _column("stream", _ID),
        _column("sequence", sa.BigInteger()),
        _column("model_id", sa.BigInteger()),
        _column("received", sa.Float()),
        _column("started", sa.Float()),
        _column("ended", sa.Float()),
        _column("clock", sa.String(length=12)),
        _column("rows", sa.BigInteger()),
        _column("payload", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_windows_device_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_windows_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id", "stream", "sequence", name=op.f("pk_windows")),
    )


def downgrade() -> None:
    for table in (
        "windows",
        "samples",
        "rollups",
        "received_ranges",
        "quarantine",
        "losses",
        "exported_days",
        "events",
        "device_days",
        "chains",
        "boots",
        "profiles",
        "models",
        "memberships",
        "enrolment_tokens",
        "devices",
        "audit",
        "access_tokens",
        "users",
        "projects",
        "exporters",
    ):
        op.drop_table(table)
