"""What Python knows of characters, as tables and regular expressions that onnxruntime's operators take.

Python's classes are written out as ranges, its lower case and its decompositions character by character, so that the
graph depends on no host's locale and on no other library's idea of a letter. Called by ``onnx_text``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from edgeml.ir.text import pattern_atoms, strip_accents_ascii, strip_accents_unicode, token_pattern

SIGMA, MEDIAL, FINAL = "Σ", "σ", "ς"
_SURROGATES = range(0xD800, 0xE000)  # no UTF-8 has them
_MOST_RANGES = 60_000  # of an expression, each class as often as it is repeated; RE2 takes 8 MB at the most


@cache
def _all() -> str:
    return "".join(chr(c) for c in range(sys.maxunicode + 1) if c not in _SURROGATES)


@cache
def members(expression: str) -> frozenset[str]:
    """The characters that a class of Python's ``re`` matches, such as ``\\w`` or ``[a-z'-]``."""
    return frozenset(re.findall(expression, _all()))


def ranges(characters: frozenset[str]) -> list[tuple[int, int]]:
    """The same as first and last code points, in order."""
    found: list[tuple[int, int]] = []
    for code in sorted(map(ord, characters)):
        if found and found[-1][1] == code - 1:
            found[-1] = found[-1][0], code
        else:
            found.append((code, code))
    return found


@cache
def one_of(characters: frozenset[str]) -> str:
    """A class of RE2 with these characters and no others."""
    if not characters:
        return r"[^\x{0}-\x{10FFFF}]"
    return "[" + "".join(f"\\x{{{a:X}}}-\\x{{{b:X}}}" for a, b in ranges(characters)) + "]"


@dataclass(frozen=True)
class Tokens:
    """``find`` matches every candidate from left to right, of which ``keep`` matches the tokens as a whole; "" all.
    ``classes`` are the sets of characters that tell tokens apart.
    """

    find: str
    keep: str
    classes: tuple[frozenset[str], ...]


def tokens(pattern: str) -> Tokens | None:
    """The expressions of a token pattern; None where RE2, whose \\b is for ASCII only, has none, and
    beyond the simple subset."""
    if token_pattern(pattern) is None:
        return None
    at_start, at_end, atoms = pattern_atoms(pattern)
    if at_start != at_end or re.match(pattern, "") is not None:
        return None
    classes = tuple(members(text) for text, _ in atoms)
    whole = "".join(one_of(c) + times for c, (_, times) in zip(classes, atoms, strict=True))
    if sum(len(ranges(c)) * _repeats(times) for c, (_, times) in zip(classes, atoms, strict=True)) > _MOST_RANGES:
        return None
    if not at_start:
        return Tokens(whole, "", classes)
    letters = members(r"\w")
    if not all(c <= letters for c in classes):
        return None
    # Between two boundaries of the word lies a whole run of letters, which is the token where the atoms fit it.
    if all(c == letters for c in classes) and _unbounded(atoms[-1][1]):
        least = sum(_least(times) for _, times in atoms)
        return Tokens(f"{one_of(letters)}{{{least},}}", "", classes)
    return Tokens(f"{one_of(letters)}+", whole, (letters, *classes))


def _unbounded(times: str) -> bool:
    return times in ("+", "*") or times.endswith(",}")


def _least(times: str) -> int:
    return {"": 1, "+": 1, "*": 0, "?": 0}.get(times, -1) if times[:1] != "{" else int(times[1:-1].split(",")[0])


def _repeats(times: str) -> int:
    return 1 if times[:1] != "{" else max(int(n) for n in times[1:-1].split(",") if n)


@cache
def changed(lowercase: bool, accents: str) -> dict[str, str]:
    """What becomes of characters that do not stay as they are, of a capital sigma what it is inside a word; with
    ``accents`` "ascii" what becomes of those that do not become nothing.
    """
    strip: Callable[[str], str] = {"ascii": strip_accents_ascii, "unicode": strip_accents_unicode}.get(accents, str)
    table = {}
    for character in _all():
        text = strip(character.lower() if lowercase else character)
        if text != ("" if accents == "ascii" else character):
            table[character] = text
    return table


@cache
def cased() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that make the sigma behind them a final one, and those that are looked through for such a one."""
    lets = frozenset(c for c in _all() if (c + SIGMA).lower()[-1] == FINAL)
    through = frozenset(c for c in _all() if c not in lets and (f"A{c}{SIGMA}").lower()[-1] == FINAL)
    return lets, through


def tells_sigmas_apart(known: Sequence[str], classes: Sequence[frozenset[str]]) -> bool:
    """Whether it matters if a sigma is final: to a known term, or to a class of characters."""
    return any(MEDIAL in term or FINAL in term for term in known) or any((MEDIAL in c) != (FINAL in c) for c in classes)
