"""The monitor's database: every table, in SQLAlchemy's terms, for SQLite and PostgreSQL alike.

Times are seconds since 1970 by the server's clock, as float64. Identifiers are 32 hexadecimal digits. Secrets are kept
as salted hashes only. The migrations in ``migrations/`` lead to exactly these tables (a test compares them).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(32)
_SHA256 = String(64)
# SQLite numbers rows by itself only in a column of type INTEGER.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")


def _project(*, nullable: bool = False, primary_key: bool = False) -> Column[str]:
    return Column(
        "project_id",
        _ID,
        ForeignKey("projects.id", ondelete="CASCADE"),
        nullable=nullable and not primary_key,
        primary_key=primary_key,
    )


def _device(*, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(
        "device_id",
        _ID,
        ForeignKey("devices.id", ondelete="CASCADE"),
        nullable=nullable and not primary_key,
        primary_key=primary_key,
    )


# --- people and tenants -------------------------------------------------------------------------------------------
projects = Table(
    "projects",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created", Float, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),  # scrypt, with its parameters and salt
    Column("root", Boolean, nullable=False),  # may create projects and users
    Column("disabled", Boolean, nullable=False),
    Column("created", Float, nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    _project(primary_key=True),
    Column("role", String(16), nullable=False),  # viewer, operator or admin
)

# Sessions of people (user_id is set) and tokens of programs (project_id and role are set).
access_tokens = Table(
    "access_tokens",
    metadata,
    Column("id", _ID, primary_key=True),  # the public half of a token, to find it by
    Column("salt", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # of the secret half
    Column("name", String(100), nullable=False),
    Column("user_id", _ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=True),
    _project(nullable=True),
    Column("role", String(16), nullable=True),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=True),
    Column("revoked", Float, nullable=True),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    _project(),
    Column("name", String(100), nullable=False),
    Column("max_uses", Integer, nullable=True),  # 1 for a one-time token, None for a fleet's
    Column("uses", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=True),
    Column("revoked", Float, nullable=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    _project(nullable=True),
    Column("actor", String(150), nullable=False),
    Column("action", String(60), nullable=False),
    Column("target", String(200), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("address", String(60), nullable=False),
    Index(None, "project_id", "at"),
)

# --- devices ------------------------------------------------------------------------------------------------------
devices = Table(
    "devices",
    metadata,
    Column("id", _ID, primary_key=True),
    _project(),
    Column("name", String(100), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
    Column("enrolment_token_id", _ID, nullable=True),
    Column("enrolled", Float, nullable=False),
    Column("state", String(16), nullable=False),  # active or revoked
    Column("clone_seen", Float, nullable=True),  # when its chain was last seen to fork
    Column("last_seen", Float, nullable=True),
    Column("clock_skew", Float, nullable=True),  # seconds its wall clock is ahead of the server's
    Column("boot_id", String(64), nullable=True),  # of its last batch
    Column("boot_origin", Float, nullable=True),  # when that boot's monotonic clock was 0, by the server's clock
    Index(None, "project_id", "name"),
)

# The same of earlier boots: windows recorded before a reboot and sent after it are placed in time by it.
boots = Table(
    "boots",
    metadata,
    _device(primary_key=True),
    Column("boot_id", String(64), primary_key=True),
    Column("origin", Float, nullable=False),
    Column("seen", Float, nullable=False),
)

# The chains of batches of a device. The newest is open; only its last number may come again.
chains = Table(
    "chains",
    metadata,
    _device(primary_key=True),
    Column("chain", _ID, primary_key=True),
    Column("number", BigInteger, nullable=False),  # of the last batch taken
    Column("header_sha256", _SHA256, nullable=False),  # of the last batch's header
    Column("seen", LargeBinary, nullable=False),  # 8 bytes of that hash for each of the last batches, oldest first
    Column("reply", JSON, nullable=False),  # to the last batch, given again when it comes again
    Column("started", Float, nullable=False),
    Column("restarted", String(200), nullable=False),
    Column("closed", Boolean, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    _project(),
    _device(nullable=True),
    Column("kind", String(40), nullable=False),
    Column("detail", JSON, nullable=False),
    Index(None, "project_id", "at"),
    Index(None, "device_id", "at"),
)

# --- models -------------------------------------------------------------------------------------------------------
profiles = Table(
    "profiles",
    metadata,
    _project(primary_key=True),
    Column("sha256", _SHA256, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # zlib of canonical JSON
)

models = Table(
    "models",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    _project(),
    Column("name", String(200), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest_sha256", _SHA256, nullable=False),
    Column("profile_sha256", _SHA256, nullable=True),
    Column("created", Float, nullable=False),
    Column("registered_by", String(150), nullable=False),  # "device ID" when a window made it known
    # zlib of the whole reference profile, counts included, of a bundle that a person registered. Profiles that devices
    # send are only trusted for their bins, which their hash covers.
    Column("reference", LargeBinary, nullable=True),
    UniqueConstraint("project_id", "name", "version"),
)

# --- what devices sent --------------------------------------------------------------------------------------------
windows = Table(
    "windows",
    metadata,
    _device(primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("model_id", BigInteger, ForeignKey("models.id", ondelete="CASCADE"), nullable=False),
    Column("received", Float, nullable=False),
    Column("started", Float, nullable=False),  # by the server's clock
    Column("ended", Float, nullable=False),
    Column("clock", String(12), nullable=False),  # how exact that is: see clocks.py
    Column("rows", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # zlib of canonical JSON
)

samples = Table(
    "samples",
    metadata,
    _device(primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("received", Float, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # sealed by the device: the server cannot read it
)

# Numbers received whose windows retention has deleted: they are known for ever, so that none counts twice.
received_ranges = Table(
    "received_ranges",
    metadata,
    _device(primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("received", Float, nullable=False),  # the latest of them
)

losses = Table(
    "losses",
    metadata,
    _device(primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("received", Float, nullable=False),
    Index(None, "received"),
)

# Items that were refused: known, so that they are not asked for again, and kept for whoever looks for the fault.
quarantine = Table(
    "quarantine",
    metadata,
    _device(primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("reason", String(300), nullable=False),
    Column("received", Float, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # zlib of canonical JSON; empty when a device has very many
    Index(None, "received"),
)

# Windows of one model added up by the minute, hour and day they ended in.
rollups = Table(
    "rollups",
    metadata,
    Column("model_id", BigInteger, ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("level", String(8), primary_key=True),  # minute, hour or day
    Column("start", BigInteger, primary_key=True),
    Column("windows", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),  # see rollup.py
    Index(None, "level", "start"),
)

# The same by device and day, made from windows before retention deletes them.
device_days = Table(
    "device_days",
    metadata,
    _device(primary_key=True),
    Column("model_id", BigInteger, ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("windows", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),
)

# --- what was exported over OTLP ------------------------------------------------------------------------------------
# Who exports, and when it last did; ``until`` ends the right of a server that died.
exporters = Table(
    "exporters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", _ID, nullable=False),
    Column("until", Float, nullable=False),
    Column("at", Float, nullable=False),
)

# Copies of the roll-ups by day as they were when they were last exported: what is new is the difference.
exported_days = Table(
    "exported_days",
    metadata,
    Column("model_id", BigInteger, ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("at", Float, nullable=False),
    Column("windows", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),
)
