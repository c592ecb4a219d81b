"""The command line, ``edgeml``: one file a command. Importing it needs nothing but the standard library."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Entry point of the console script; exits with the codes of ``edgeml.cli.app``."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        print(f"error: the command line needs {' and '.join(missing)}", file=sys.stderr)
        print(
            "  pip install click rich, or all that compiling needs: pip install 'edgeml-sdk[compile]'",
            file=sys.stderr,
        )
        raise SystemExit(2)
    from edgeml.cli.app import cli

    cli(prog_name="edgeml")


__all__ = ["main"]
