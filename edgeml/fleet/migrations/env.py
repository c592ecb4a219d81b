"""What Alembic runs to migrate: on the connection, and in the transaction, that ``migrate.py`` hands over."""

from alembic import context

from edgeml.fleet.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can do it too, and half a migration is worse than none
    render_as_batch=True,
)
with context.begin_transaction():  # none of its own: the connection is in one
    context.run_migrations()
