"""Which fast ways are on: each has a name, and ``EDGEML_FAST`` can switch it off, so that a doubt can be settled.

``EDGEML_FAST=-bits,-text`` switches two of them off, ``EDGEML_FAST=none`` all. What remains is slower and answers the
same to the bit; the tests compare the two. The engine asks ``on`` when it makes a plan or reads a column, never a row.
"""

from __future__ import annotations

import os

from edgeml.errors import EngineError

# Every fast way and what it does instead of what.
NAMES = {
    "bits": "trees of a batch by bit vectors instead of walks",
    "text": "columns of strings, and of numbers with nulls, read where they lie instead of made arrays first",
    "raw": "trees and layers over raw columns instead of scaled and one-hot ones, chosen when a pipeline is compiled",
    "stream": "data files of `edgeml predict` through Arrow instead of cell by cell in Python",
    "one": "a single row through a reader made for the schema instead of as a batch of one",
}


def on(name: str) -> bool:
    """Whether the fast way ``name`` is on. Raises EngineError for an ``EDGEML_FAST`` that names none."""
    choice = os.environ.get("EDGEML_FAST", "").strip()
    if not choice:
        return True
    if choice == "none":
        return False
    off = {word.strip() for word in choice.split(",")}
    unknown = sorted(word for word in off if word.removeprefix("-") not in NAMES or not word.startswith("-"))
    if unknown:
        raise EngineError(
            f"EDGEML_FAST={choice}: {unknown[0]!r} is no fast way to switch off",
            f"use none, or a list of {', '.join('-' + n for n in NAMES)}",
        )
    return f"-{name}" not in off
