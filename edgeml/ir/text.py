"""How a document becomes terms, exactly as scikit-learn's vectorisers do it: lower case, accents, tokens, n-grams.

In comes a string and the settings of a vectoriser, out goes the list of its terms in order. Case, accents and word
characters are those of Python's own ``str.lower``, ``unicodedata`` and ``re``: no host locale takes part. A bundle
never brings a regular expression of its own choice: only the patterns of ``token_pattern`` and of ``text_patterns`` are
ever run, in a time linear in the document. Called by ``ops_text``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from edgeml.ir.text_patterns import finder

ANALYZERS = ("word", "char", "char_wb")
ACCENTS = ("", "ascii", "unicode")
DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
MOST_REPEATS = 64  # of an atom of a pattern that must match a fixed number of times
_MOST_ATOMS = 16

_SPACES = re.compile(r"\s\s+")
_PATTERN = re.compile(r"(?:\(\?u\))?(?P<start>\\b)?(?P<atoms>.+?)(?P<end>\\b)?", re.DOTALL)
_GROUPED = re.compile(r"(\(\?u\))?(\\b)?\((?!\?)(.+)\)(\\b)?", re.DOTALL)
_ATOM = re.compile(
    r"(?P<set>\\[wWdDsS]|\.|\[\^?(?:\\[wWdDsS\\\[\]^.-]|[^\\\[\]&~|-]|-(?!-))+\]"
    r"|\\[.+*?$^|()\[\]{}\\'-]|[A-Za-z0-9_'@#%&:;,=/ -])"
    r"(?P<times>[+*?]|\{[0-9]{1,4}(?:,[0-9]{0,4})?\})?"
)


@lru_cache(maxsize=64)
def token_pattern(pattern: str) -> re.Pattern[str] | None:
    """The regular expression, compiled; None for one outside the subset that takes a time linear in the document.

    The subset: ``\\b`` at either end or none, and between them up to 16 characters, classes (``\\w``, ``\\d``, ``\\S``)
    or sets (``[a-z'-]``), each with ``{m}`` or nothing, but for one that may have ``?`` or ``{m,n}``, or in the last
    place ``+``, ``*`` or ``{m,}``. No groups, alternatives, lazy quantifiers or flags other than ``(?u)``.
    """
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        return None
    atoms, at = [], 0
    while at < len(found["atoms"]):
        atom = _ATOM.match(found["atoms"], at)
        if atom is None:
            return None
        atoms.append(atom)
        at = atom.end()
    if len(atoms) > _MOST_ATOMS or not all(_fits(atom["times"], last=atom is atoms[-1]) for atom in atoms):
        return None
    if sum(_varies(atom["times"]) for atom in atoms) > 1:
        return None
    # A run without \b before it would be tried again from each of its characters, were the \b behind it to fail.
    if found["end"] and not found["start"] and atoms[-1]["set"] != r"\w":
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError):
        return None


def find_tokens(pattern: str) -> Callable[[str], list[str]]:
    """What finds the tokens of a text, as ``re.findall`` does. Raises PatternError saying what the pattern has that is
    not run in bounded time.
    """
    simple = token_pattern(pattern)
    return finder(pattern).findall if simple is None else simple.findall


def without_group(pattern: str) -> str:
    """The pattern of the simple subset that gives what ``(pattern)`` gives, its one group around all it takes; any
    other pattern as it is.
    """
    found = _GROUPED.fullmatch(pattern)
    simple = pattern if found is None else "".join(part or "" for part in found.groups())
    return pattern if token_pattern(simple) is None else simple


def pattern_atoms(pattern: str) -> tuple[bool, bool, list[tuple[str, str]]]:
    """Of a pattern that ``token_pattern`` knows: whether it has ``\\b`` at its start and at its end, and its classes
    or characters, each with how often it may come ("" for once).
    """
    found = _PATTERN.fullmatch(pattern)
    assert found is not None
    atoms = [(a[0].removesuffix(a["times"] or ""), a["times"] or "") for a in _ATOM.finditer(found["atoms"])]
    return bool(found["start"]), bool(found["end"]), atoms


def _varies(times: str | None) -> bool:
    return times is not None and (times in "+*?" or "," in times)


def _fits(times: str | None, *, last: bool) -> bool:
    if times is None or times == "?":
        return True
    if times in ("+", "*"):
        return last
    low, comma, high = times[1:-1].partition(",")
    bounded = not comma or bool(high)
    return int(high or low) <= MOST_REPEATS and (bounded or last)


def strip_accents_unicode(text: str) -> str:
    """Without the marks that NFKD takes apart from their letters; ASCII as it is."""
    if text.isascii():
        return text
    return "".join([c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)])


def strip_accents_ascii(text: str) -> str:
    """The ASCII characters of its NFKD form; the rest is dropped."""
    return text if text.isascii() else unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


@dataclass(frozen=True, slots=True)
class Analyzer:
    """Settings of a vectoriser, by scikit-learn's names; call it with a document for its terms.

    ``accents`` is "", "ascii" or "unicode"; ``stop_words`` count for words only, before n-grams are made.
    """

    analyzer: str
    low: int
    high: int
    lowercase: bool
    accents: str
    pattern: str
    stop_words: tuple[str, ...] = ()
    _stop: frozenset[str] = field(init=False, compare=False, repr=False)
    _find: Callable[[str], list[str]] | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_stop", frozenset(self.stop_words))
        object.__setattr__(self, "_find", find_tokens(self.pattern) if self.analyzer == "word" else None)

    def __call__(self, document: str) -> Sequence[str]:
        text = document.lower() if self.lowercase else document
        if self.accents:
            text = strip_accents_unicode(text) if self.accents == "unicode" else strip_accents_ascii(text)
        if self.analyzer == "word":
            return self._words(text)
        text = _SPACES.sub(" ", text)
        return self._characters(text) if self.analyzer == "char" else self._characters_of_words(text)

    def _words(self, text: str) -> Sequence[str]:
        assert self._find is not None
        words = self._find(text)
        if self._stop:
            words = [word for word in words if word not in self._stop]
        if self.high == 1:
            return words
        terms = list(words) if self.low == 1 else []
        for n in range(max(self.low, 2), min(self.high, len(words)) + 1):
            terms += map(" ".join, zip(*(words[i:] for i in range(n)), strict=False))
        return terms

    def _characters(self, text: str) -> Sequence[str]:
        terms = list(text) if self.low == 1 else []
        for n in range(max(self.low, 2), min(self.high, len(text)) + 1):
            terms += [text[i : i + n] for i in range(len(text) - n + 1)]
        return terms

    def _characters_of_words(self, text: str) -> Sequence[str]:
        terms: list[str] = []
        for word in text.split():
            padded = f" {word} "
            for n in range(self.low, self.high + 1):
                terms += [padded[i : i + n] for i in range(max(len(padded) - n, 0) + 1)]
                if len(padded) <= n:  # a short word counts once
                    break
        return terms


# --- MurmurHash3, 32 bits ------------------------------------------------------------------------------------
_MASK = 0xFFFFFFFF
_C1, _C2 = 0xCC9E2D51, 0x1B873593


@lru_cache(maxsize=2**16)
def murmur(text: str) -> int:
    """Austin Appleby's MurmurHash3_x86_32 of the UTF-8 bytes with seed 0, as a signed 32-bit integer.

    Kept by string: the words of a language come again and again.
    """
    data = text.encode("utf-8")
    whole, h = len(data) & ~3, 0
    for at in range(0, whole, 4):
        h ^= _mixed(int.from_bytes(data[at : at + 4], "little"))
        h = (h << 13 | h >> 19) & _MASK
        h = (h * 5 + 0xE6546B64) & _MASK
    if whole < len(data):
        h ^= _mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & _MASK
    h = (h ^ h >> 13) * 0xC2B2AE35 & _MASK
    h ^= h >> 16
    return h - 2**32 if h & 0x80000000 else h


def _mixed(k: int) -> int:
    k = k * _C1 & _MASK
    return (k << 15 | k >> 17) * _C2 & _MASK


def hashed(text: str, columns: int) -> tuple[int, int]:
    """The column of a feature, and its sign: 1, or -1 where the hash is negative."""
    h = murmur(text)
    return (abs(h) % columns, 1) if h >= 0 else (abs(h) % columns, -1)
