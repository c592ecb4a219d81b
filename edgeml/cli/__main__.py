"""``python -m edgeml.cli``: the same as the command ``edgeml``."""

from edgeml.cli import main

main()
