"""JSON as bundles hold it: one spelling for equal values when written, nothing ambiguous when read.

``dumps`` and ``loads`` serve every JSON member of a bundle. Equal contents become equal bytes, and a hostile
file gives a named error: duplicate keys, NaN and infinity, deep nesting, huge numbers, bytes that are not
UTF-8.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import numpy as np

from edgeml.errors import DuplicateKeyError, JSONError, JSONLimitError, NonFiniteNumberError

# "[[],[],…" takes some 25 times its size in memory once it is read.
MAX_JSON_BYTES = 32 * 2**20
MAX_JSON_DEPTH = 32
# Sign and digits of the longest 64-bit integer. Longer ones take quadratic time to read and fit no field.
MAX_INTEGER_CHARACTERS = 20
MAX_FLOAT_CHARACTERS = 64

# Takes a whole string, or all the rest when it does not end; possessive, so that no input takes quadratic
# time.
_STRING = re.compile(rb'(?s)"(?:[^"\\]++|\\.?)*+"?')
# Characters of numbers as "0", and of exponents as "e".
_NUMBERS = bytes.maketrans(b"123456789-+.E", b"000000000000e")
_FOLDED = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(code for code in range(256) if chr(code) not in "[]{}")


def dumps(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII (other characters escaped), one line feed at the end.

    Raises JSONError for a value JSON cannot hold, NaN and infinity included.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise JSONError(f"a value that JSON cannot hold: {error}") from None
    return text.encode("ascii") + b"\n"


def loads(data: bytes | memoryview, what: str, *, limit: int = MAX_JSON_BYTES) -> Any:
    """The value of JSON ``data``; ``what`` names it in messages, ``limit`` bounds its size in bytes.

    Raises JSONError, or one of its kinds: JSONLimitError, DuplicateKeyError, NonFiniteNumberError.
    """
    if len(data) > limit:
        raise JSONLimitError(f"{what}: {len(data)} bytes of JSON, at most {limit} are read")
    rest = _STRING.sub(b"", data)
    if _depth(rest) > MAX_JSON_DEPTH:
        raise JSONLimitError(f"{what}: JSON nested more than {MAX_JSON_DEPTH} levels deep")

    def integer(text: str) -> int:
        if len(text) > MAX_INTEGER_CHARACTERS:
            raise JSONLimitError(f"{what}: an integer of {len(text)} characters")
        return int(text)

    def real(text: str) -> float:
        if len(text) > MAX_FLOAT_CHARACTERS:
            raise JSONLimitError(f"{what}: a number of {len(text)} characters")
        value = float(text)
        if math.isinf(value):
            raise NonFiniteNumberError(f"{what}: {text} is beyond float64")
        return value

    def constant(text: str) -> Any:
        raise NonFiniteNumberError(f"{what}: {text} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DuplicateKeyError(f"{what}: key {twice[:80]!r} stands twice in one object")
        return result

    # A function called for every number takes most of the time of reading a window. It is needed only where a number
    # has an exponent or more than 20 characters: no other is too long, or beyond float64.
    numbers = rest.translate(_NUMBERS)
    look = b"0e" in numbers or b"0" * (MAX_INTEGER_CHARACTERS + 1) in numbers
    try:
        return json.loads(
            str(data, "utf-8"),
            parse_int=integer if look else None,
            parse_float=real if look else None,
            parse_constant=constant,
            object_pairs_hook=unique,
        )
    except (ValueError, RecursionError) as error:
        raise JSONError(f"{what}: not JSON: {error}") from None


def nests_too_deep(data: bytes) -> bool:
    """Whether arrays and objects nest deeper than ``loads`` reads."""
    return _depth(_STRING.sub(b"", data)) > MAX_JSON_DEPTH


def _depth(rest: bytes) -> int:
    """How deep arrays and objects nest in JSON whose strings were cut out, found without recursion: the parser would
    exhaust the stack.
    """
    brackets = left = rest.translate(_FOLDED, _NO_BRACKETS)
    # Without the innermost pairs, again and again, nothing is left where all have their ends and nest as they may.
    for depth in range(MAX_JSON_DEPTH + 1):
        if not left:
            return depth
        left = left.replace(b"[]", b"")
    opens = np.frombuffer(brackets, dtype=np.uint8) == ord("[")
    return int(np.cumsum(np.where(opens, 1, -1)).max(initial=0))
