"""The migrations of the monitor's database, which ``migrate.py`` has Alembic run."""
