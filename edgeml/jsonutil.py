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
    if _depth(data) > MAX_JSON_DEPTH:
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

    try:
        return json.loads(
            str(data, "utf-8"),
            parse_int=integer,
            parse_float=real,
            parse_constant=constant,
            object_pairs_hook=unique,
        )
    except (ValueError, RecursionError) as error:
        raise JSONError(f"{what}: not JSON: {error}") from None


def _depth(data: bytes | memoryview) -> int:
    """How deep arrays and objects nest, found without recursion: the parser would exhaust the stack."""
    codes = np.frombuffer(_STRING.sub(b"", data), dtype=np.uint8)
    # "[" and "{", "]" and "}" differ in bit 5 only.
    folded = codes | 0x20
    step = (folded == ord("{")).astype(np.int8) - (folded == ord("}")).astype(np.int8)
    return int(np.cumsum(step, dtype=np.int64).max(initial=0))
