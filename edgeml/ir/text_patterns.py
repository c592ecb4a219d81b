"""Regular expressions of tokens beyond ``text.token_pattern``'s subset, found in a time linear in the document.

In comes a ``token_pattern`` of a vectoriser or of a bundle, which may be hostile; out goes a ``Finder``, whose
``findall`` gives what Python's ``re`` gives. Called by ``text`` and, for the reason of a refusal, by the converter.

The rule, over CPython's own parsed form (``re._parser``, the same since Python 3.11): literals, sets, classes, ``.``,
anchors, ``\\b``, alternatives, groups and greedy or lazy quantifiers over any of them are taken, with the flags of the
whole pattern; at most one capturing group, not repeated; look-arounds of bounded width; no back-references, conditions,
atomic groups, possessive quantifiers or repeated groups that may be empty, and nothing that may match "" as a whole. A
pattern is at most 256 characters, and written out with its counts at most 256 states. A look-around holds no other, and
those of a pattern are at most 256 states times positions together.

The bound: such a pattern runs as a backtracking automaton that never enters the same (state, position) twice but for
where a match ended, since without back-references what failed there once fails there always, whatever came before.
So the steps of a document are at most 2 x 256 + 256 a character, whatever the pattern and the document (measured: 2 to
12 microseconds a character for the worst documents of patterns of 7 to 55 states), and the stack is no longer than
they. ``re`` itself, faster by a factor of 30, runs it instead where its own worst case is small: see ``Finder.reach``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

# The parser has no stubs and no public name. Python 3.11 to 3.14 have it; what it gives is checked item by item.
from re import _constants as codes  # type: ignore[attr-defined]  # see above
from re import _parser as parser  # type: ignore[attr-defined]  # see above
from typing import Any

MOST_CHARACTERS = 256  # of a pattern
MOST_STATES = 256
MOST_LOOKED = 256  # states times positions of all look-arounds
_REACH = 1024  # characters that ``re`` may look at from each character of a document of any length
_STEPS = 1_000_000  # of ``re`` in a document, where the reach is longer: some 10 ms

_REPEATS = {codes.MAX_REPEAT: False, codes.MIN_REPEAT: True}  # whether lazy
_SINGLE = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN}
_ANCHORS = {
    codes.AT_BEGINNING: "^", codes.AT_END: "$", codes.AT_BOUNDARY: r"\b", codes.AT_NON_BOUNDARY: r"\B",
    codes.AT_BEGINNING_STRING: r"\A", codes.AT_END_STRING: r"\Z",
}  # fmt: skip
_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d", codes.CATEGORY_NOT_DIGIT: r"\D", codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S", codes.CATEGORY_WORD: r"\w", codes.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_SPACES = "".join(c for c in map(chr, range(0x3001)) if c.isspace())  # all there are: what str.split splits at

_LOOKING = "a look-around"
# States: what they do, and where they go on.
_CHARACTER, _SPLIT, _ANCHOR, _LOOK, _SAVE, _FOUND = range(6)
_State = tuple[int, Any, int]


class PatternError(ValueError):
    """Why a pattern is not run: its only argument, which goes on behind "the pattern has"."""


class Finder:
    """``findall`` of a pattern, as ``re`` has it: its matches in a text, or their group where it has one.

    Raises PatternError for what the rule above leaves out.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MOST_CHARACTERS:
            raise PatternError(f"more than {MOST_CHARACTERS} characters")
        try:
            with warnings.catch_warnings():
                # What Python says may change its meaning, such as [[a]], must not differ between two devices.
                warnings.filterwarnings("error", message="Possible (nested )?set", category=FutureWarning)
                parsed = parser.parse(pattern)
                self._re = re.compile(pattern)
        except (re.error, OverflowError, RecursionError, FutureWarning) as error:
            raise PatternError(f"what Python does not take: {error}") from None
        if parsed.state.groups > 2:  # the whole match is one of them
            raise PatternError("more than one capturing group, write the others as (?:...)")
        if parsed.getwidth()[0] == 0:
            raise PatternError("nothing that it must match, and so matches ''")
        self._flags: int = parsed.state.flags
        self._group = parsed.state.groups == 2
        self._sets: dict[str, re.Pattern[str]] = {}
        self._looked = 0
        self._states: list[_State] = [(_FOUND, None, -1)]
        self._start = self._sequence(parsed, 0)
        self._degree, self._ways = self._cost(parsed, fails=False)
        self._takes_spaces = any(one.search(_SPACES) for one in self._sets.values())

    @property
    def states(self) -> int:
        """How many there are."""
        return len(self._states)

    def reach(self, text: str) -> float:
        """How many steps ``re`` may take from one character of the text at most.

        Quantifiers without end can be gone back into where something behind them may fail: each then tries as many
        lengths as there are characters to take, which is a word of the text for a pattern that takes no white space.
        """
        if self._degree == 0:
            return self._ways
        longest = len(text) if self._takes_spaces else max(map(len, text.split()), default=0)
        return float(self._ways * (longest + 1.0) ** self._degree)

    def findall(self, text: str) -> list[str]:
        """All matches in the text from left to right."""
        reach = self.reach(text)
        if reach <= _REACH or reach * len(text) <= _STEPS:
            return self._re.findall(text)
        return self.found(text)

    def found(self, text: str) -> list[str]:
        """``findall`` by the automaton, which takes a time linear in the text."""
        alphabet = "".join(set(text))
        members = {source: frozenset(one.findall(alphabet)) for source, one in self._sets.items()}
        seen = [0] * (len(text) + 1)
        result, at = [], 0
        while at < len(text):
            match = self._run(text, self._start, at, members, seen)
            if match is None:
                at += 1
                continue
            start, end, at = (*match[:2], match[2]) if self._group else (at, match[2], match[2])
            seen[at] = 0  # the way to the match went through here without failing
            result.append(text[start:end])
        return result

    def _run(
        self, text: str, state: int, at: int, members: dict[str, frozenset[str]], seen: list[int] | _Marks
    ) -> tuple[int, int, int] | None:
        """Where the group starts and ends and where the match that begins in this state ends, if there is one.

        ``seen`` holds as bits the states that were entered at each position.
        """
        states, size = self._states, len(text)
        stack = [(state, at, 0, 0)]
        while stack:
            state, at, start, end = stack.pop()
            while not seen[at] >> state & 1:
                seen[at] |= 1 << state
                kind, what, following = states[state]
                if kind == _CHARACTER:
                    if at >= size or text[at] not in members[what]:
                        break
                    at += 1
                elif kind == _SPLIT:
                    stack.append((what, at, start, end))
                elif kind == _ANCHOR:
                    if what.match(text, at) is None:
                        break
                elif kind == _LOOK:
                    first, wanted, back = what
                    there = at >= back and self._run(text, first, at - back, members, _Marks()) is not None
                    if there != wanted:
                        break
                elif kind == _SAVE:
                    start, end = (start, at) if what else (at, at)
                else:
                    return start, end, at
                state = following
        return None

    # --- from the parsed form to states, from the end to the start ---------------------------------------------------
    def _add(self, kind: int, what: Any, following: int) -> int:
        if len(self._states) >= MOST_STATES:
            raise PatternError(f"more than {MOST_STATES} states, its counts written out")
        self._states.append((kind, what, following))
        return len(self._states) - 1

    def _sequence(self, items: Any, following: int, *, within: str = "") -> int:
        """The state that matches the items and goes on to ``following``; ``within`` a repeat or a look-around."""
        for code, what in reversed(list(items)):
            following = self._item(code, what, following, within)
        return following

    def _item(self, code: Any, what: Any, following: int, within: str) -> int:
        if code in _SINGLE:
            return self._add(_CHARACTER, self._set(code, what), following)
        if code is codes.AT and what in _ANCHORS:
            return self._add(_ANCHOR, re.compile(_ANCHORS[what], self._flags), following)
        if code is codes.BRANCH:
            first, *others = (self._sequence(branch, following, within=within) for branch in reversed(what[1]))
            for other in others:
                first = self._add(_SPLIT, first, other)
            return first
        if code is codes.SUBPATTERN:
            group, added, removed, items = what
            if added or removed:
                raise PatternError("flags of a part, write those of the whole at its start")
            if group is None:
                return self._sequence(items, following, within=within)
            if within:
                raise PatternError(f"a capturing group in {within}, write it as (?:...)")
            return self._add(_SAVE, 0, self._sequence(items, self._add(_SAVE, 1, following)))
        if code in _REPEATS:
            return self._repeat(*what, lazy=_REPEATS[code], following=following, within=within)
        if code in (codes.ASSERT, codes.ASSERT_NOT):
            if within == _LOOKING:
                raise PatternError("a look-around in another")
            return self._look(*what, wanted=code is codes.ASSERT, following=following)
        if code in (codes.GROUPREF, codes.GROUPREF_EXISTS):
            raise PatternError("a back-reference or a condition, whose time has no bound")
        raise PatternError(f"{str(code).lower().replace('_', ' ')}, for which no time is known here")

    def _repeat(self, low: int, high: Any, items: Any, *, lazy: bool, following: int, within: str) -> int:
        within = within or "a repeat"  # "a look-around" stays so, whatever is repeated in it
        single = len(items) == 1 and items[0][0] in _SINGLE
        if not single and items.getwidth()[0] == 0:
            raise PatternError("a repeated group that may be empty")

        def either(body: int) -> tuple[int, int, int]:
            return (_SPLIT, body, following) if lazy else (_SPLIT, following, body)

        state = following
        if high is codes.MAXREPEAT:
            state = self._add(_SPLIT, following, following)
            self._states[state] = either(self._sequence(items, state, within=within))
        else:
            for _ in range(high - low):
                state = self._add(*either(self._sequence(items, state, within=within)))
        for _ in range(low):
            state = self._sequence(items, state, within=within)
        return state

    def _look(self, direction: int, items: Any, *, wanted: bool, following: int) -> int:
        parts = list(items)
        if direction > 0 and parts and parts[-1][0] in _REPEATS:  # what is behind the fewest does not matter
            code, (low, _, repeated) = parts[-1]
            parts[-1] = (code, (low, low, repeated))
        least, most = parser.SubPattern(items.state, parts).getwidth()
        if most > MOST_LOOKED:
            raise PatternError("a look-around of any width, give its quantifiers an end")
        before = self.states
        first = self._sequence(parts, self._add(_FOUND, None, -1), within=_LOOKING)
        self._looked += (self.states - before) * (most + 1)
        if self._looked > MOST_LOOKED:
            raise PatternError("look-arounds that are too long, give their quantifiers lower counts")
        return self._add(_LOOK, (first, wanted, least if direction < 0 else 0), following)

    def _set(self, code: Any, what: Any) -> str:
        """A character as a regular expression by itself, so that flags mean to it what they mean to Python."""
        if code is codes.ANY:
            source = "."
        elif code is codes.IN:
            source = f"[{''.join(map(_member, what))}]"
        else:
            source = f"[{'^' if code is codes.NOT_LITERAL else ''}{_character(what)}]"
        if source not in self._sets:
            self._sets[source] = re.compile(source, self._flags)
        return source

    # --- what re would take ------------------------------------------------------------------------------------------
    def _cost(self, items: Any, *, fails: bool) -> tuple[float, float]:
        """Quantifiers without end, and ways through the others, that ``re`` may go back into, since something behind
        them may fail; ``fails`` says so of what follows the items. The degree is infinite where repeats are nested.
        """
        degree, ways = 0.0, 1.0
        for code, what in reversed(list(items)):
            inner: Sequence[tuple[float, float]] = ()
            if code in _REPEATS:
                low, high, repeated = what
                single = len(repeated) == 1 and repeated[0][0] in _SINGLE
                if not single and high > 1:
                    return float("inf"), 1.0
                if not single:
                    inner = [self._cost(repeated, fails=fails), (0.0, 1.0)]
                elif fails:
                    degree += high is codes.MAXREPEAT
                    ways *= 1 if high is codes.MAXREPEAT else high - low + 1
                fails = fails or low > 0
            elif code is codes.BRANCH:
                inner = [self._cost(branch, fails=fails) for branch in what[1]]
                fails = True
            elif code is codes.SUBPATTERN:
                inner = [self._cost(what[3], fails=fails)]
                fails = True
            elif code in (codes.ASSERT, codes.ASSERT_NOT):
                inner = [self._cost(what[1], fails=True)]
                fails = True
            else:
                fails = True
            if inner:
                degree += max(one[0] for one in inner)
                ways *= sum(one[1] for one in inner)
        return degree, ways


class _Marks(dict[int, int]):
    """Marks of a look-around, whose few positions do not make a list of the text's length."""

    def __missing__(self, at: int) -> int:
        return 0


def _character(code: int) -> str:
    return f"\\U{code:08x}"


def _member(member: tuple[Any, Any]) -> str:
    code, what = member
    if code is codes.NEGATE:
        return "^"
    if code is codes.LITERAL:
        return _character(what)
    if code is codes.RANGE:
        return f"{_character(what[0])}-{_character(what[1])}"
    if code is codes.CATEGORY and what in _CATEGORIES:
        return _CATEGORIES[what]
    raise PatternError(f"an unknown set: {str(code).lower()}")


@lru_cache(maxsize=64)
def finder(pattern: str) -> Finder:
    """The finder of a pattern, kept. Raises PatternError."""
    return Finder(pattern)
