"""Kernels that code strings where they lie: in Arrow's buffers, behind a dictionary, or as the objects of an array.

A column of strings is described by a few numbers, see ``Field`` and ``Head``, and by addresses behind the ports of a
plan; ``load_text`` writes its codes into scratch like any other load, block by block, so that threads share the work
and no array of codes is made. ``text_table`` puts a vocabulary into a hash table, ``intern`` numbers the different
objects of an array. native_text.py describes columns and calls; the bytes decide, a hash alone never does.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from edgeml.runtimes.kernels.move import chunk_of
from edgeml.runtimes.kernels.registry import kernel


class Head(IntEnum):
    """Cells at the beginning of a column's description."""

    CHUNKS = 0
    TABLE = 1  # port of the vocabulary's slots, int64
    POOL = 2  # port of its bytes
    MASK = 3  # slots - 1, a power of two
    LONGEST = 4  # bytes of the longest string of the vocabulary
    UNKNOWN = 5  # code of what is not in it
    NULL = 6  # code of a missing cell


class Field(IntEnum):
    """Cells of each chunk; the chunks follow the head in the order of their rows."""

    END = 0  # row of the call behind the chunk's last
    SHIFT = 1  # element of the chunk's buffers that belongs to row 0 of the call, so possibly negative
    KIND = 2
    VALID = 3  # port of the validity bitmap, -1 without
    FIRST = 4  # port of offsets, views or indices; of the codes themselves
    BYTES = 5  # port of the bytes, of the first buffer of views, or of the codes of a dictionary
    LIMIT = 6  # bytes that may be read, or entries of the dictionary


class Kind(IntEnum):
    """What a chunk's elements are."""

    CODES = 0  # int64 codes
    OFFSETS32 = 1
    OFFSETS64 = 2
    VIEWS = 3  # Arrow's string_view: 16 bytes, short strings within
    INDEX8 = 4  # into the codes of a dictionary; an index outside of it is missing
    INDEX16 = 5
    INDEX32 = 6


# Numba takes plain integers.
HEAD, FIELDS = len(Head), len(Field)
CHUNKS, TABLE, POOL, MASK, LONGEST, UNKNOWN, NULL = (int(x) for x in Head)
END, SHIFT, KIND, VALID, FIRST, BYTES, LIMIT = (int(x) for x in Field)
CODES, OFFSETS32, OFFSETS64, VIEWS, INDEX8, INDEX16, INDEX32 = (int(x) for x in Kind)
# A slot of the table: the first and the last eight bytes of a string (the last ones only when there are more than
# eight), its length below its code, and where its bytes begin in the pool. The third cell is EMPTY in a free slot.
SLOT = 4
EMPTY = -1
LOW = 0xFFFFFFFF
INLINE = 12  # bytes of the longest string within a view
# Odd numbers below 2**63 with bits well mixed (the golden ratio's, and two of xxHash's).
MIX_1, MIX_2, MIX_3 = 0x1E3779B97F4A7C15, 0x42B2AE3D27D4EB4F, 0x165667B19E3779F9


# --- strings as words ---------------------------------------------------------------------------------------
def word(b: Any, at: Any) -> Any:
    """Eight bytes as one integer, the first lowest: LLVM makes one load of it."""
    low = (b[at] & 255) | ((b[at + 1] & 255) << 8) | ((b[at + 2] & 255) << 16) | ((b[at + 3] & 255) << 24)
    high = (b[at + 4] & 255) | ((b[at + 5] & 255) << 8) | ((b[at + 6] & 255) << 16) | ((b[at + 7] & 255) << 24)
    return low | (high << 32)


def head_word(b: Any, at: Any, length: Any, limit: Any) -> Any:
    """The first eight bytes, zeros behind a shorter string; nothing at or behind ``limit`` is read."""
    if length >= 8:
        return word(b, at)
    if at + 8 <= limit:
        # One load and no loop: its end would be mispredicted for every other string.
        return word(b, at) & ((1 << (length << 3)) - 1)
    result = 0
    for k in range(length):
        result |= (b[at + k] & 255) << (k << 3)
    return result


def hash_of(b: Any, at: Any, length: Any, first: Any, last: Any) -> Any:
    h = (first ^ (last * MIX_2) ^ (length * MIX_3)) * MIX_1
    if length > 16:
        for k in range(at + 8, at + length - 8, 8):
            h = ((h ^ (h >> 29)) ^ word(b, k)) * MIX_1
    return h ^ (h >> 32)


def same_middle(b: Any, at: Any, pool: Any, start: Any, length: Any) -> Any:
    """Whether two strings of one length, above 16, agree between their first and last eight bytes."""
    for k in range(8, length - 8, 8):  # noqa: SIM110  # Numba has no all()
        if word(b, at + k) != word(pool, start + k):
            return False
    return True


def code_of(b: Any, at: Any, length: Any, limit: Any, table: Any, pool: Any, mask: Any, longest: Any, none: Any) -> Any:
    """The code of the string of ``length`` bytes at ``at``; ``none`` when the vocabulary has no such string."""
    if length < 0 or length > longest:
        return none
    first = head_word(b, at, length, limit)
    last = word(b, at + length - 8) if length > 8 else 0
    slot = hash_of(b, at, length, first, last) & mask
    while table[slot * SLOT + 2] != EMPTY:
        found = table[slot * SLOT + 2]
        ends = table[slot * SLOT] == first and table[slot * SLOT + 1] == last and (found & LOW) == length
        if ends and (length <= 16 or same_middle(b, at, pool, table[slot * SLOT + 3], length)):
            return found >> 32
        slot = (slot + 1) & mask
    return none


@kernel("text_table", "words p64 p8 first n")
def text_table(words: Any, p64: Any, p8: Any, first: Any, n: Any) -> None:
    """Puts strings into free slots. Words: port of their offsets, of the pool, of their codes, of the slots; mask."""
    offsets, pool, codes, table, mask = p64[words[0]], p8[words[1]], p64[words[2]], p64[words[3]], words[4]
    for r in range(first, first + n):
        at = offsets[r]
        length = offsets[r + 1] - at
        head = head_word(pool, at, length, at + 8)  # the pool has spare bytes at its end
        last = word(pool, at + length - 8) if length > 8 else 0
        slot = hash_of(pool, at, length, head, last) & mask
        while table[slot * SLOT + 2] != EMPTY:
            slot = (slot + 1) & mask
        table[slot * SLOT] = head
        table[slot * SLOT + 1] = last
        table[slot * SLOT + 2] = length | (codes[r] << 32)
        table[slot * SLOT + 3] = at


# --- columns ------------------------------------------------------------------------------------------------
@kernel("load_text", "words i p64 p8 pi first n")
def load_text(words: Any, i: Any, p64: Any, p8: Any, pi: Any, first: Any, n: Any) -> None:
    """Codes of rows. Words: port of the column's description, place in scratch."""
    d, o = p64[words[0]], words[1]
    table, pool, mask, longest = p64[d[TABLE]], p8[d[POOL]], d[MASK], d[LONGEST]
    none, null = d[UNKNOWN], d[NULL]
    row, end, chunk = first, first + n, chunk_of(d, HEAD, FIELDS, first)
    while row < end:
        stop = min(end, d[chunk + END])
        shift, kind, valid, a, b, limit = (
            d[chunk + SHIFT],
            d[chunk + KIND],
            d[chunk + VALID],
            d[chunk + FIRST],
            d[chunk + BYTES],
            d[chunk + LIMIT],
        )
        to = o - first
        if kind == OFFSETS32:
            offsets32, data = pi[a], p8[b]
            for r in range(row, stop):
                at = offsets32[r + shift]
                i[to + r] = code_of(data, at, offsets32[r + shift + 1] - at, limit, table, pool, mask, longest, none)
        elif kind == OFFSETS64:
            offsets64, data = p64[a], p8[b]
            for r in range(row, stop):
                at = offsets64[r + shift]
                i[to + r] = code_of(data, at, offsets64[r + shift + 1] - at, limit, table, pool, mask, longest, none)
        elif kind == VIEWS:
            views, inside = pi[a], p8[a]
            nulls = p8[valid if valid >= 0 else a]
            for r in range(row, stop):
                k = r + shift
                length = views[4 * k]
                if valid >= 0 and (nulls[k >> 3] >> (k & 7)) & 1 == 0:
                    i[to + r] = null  # such a view may say anything
                elif length <= INLINE:
                    i[to + r] = code_of(inside, 16 * k + 4, length, 16 * k + 16, table, pool, mask, longest, none)
                elif length > longest:
                    i[to + r] = none  # its buffer is not even looked for
                else:
                    at = views[4 * k + 3]
                    i[to + r] = code_of(
                        p8[b + views[4 * k + 2]], at, length, at + length, table, pool, mask, longest, none
                    )
        elif kind == CODES:
            codes = p64[a]
            for r in range(row, stop):
                i[to + r] = codes[r + shift]
        elif kind == INDEX8:
            bytes_, codes = p8[a], p64[b]
            for r in range(row, stop):
                at = bytes_[r + shift] & 255
                i[to + r] = codes[at] if at < limit else null
        elif kind == INDEX16:
            bytes_, codes = p8[a], p64[b]
            for r in range(row, stop):
                k = 2 * (r + shift)
                at = (bytes_[k] & 255) | ((bytes_[k + 1] & 255) << 8)
                i[to + r] = codes[at] if at < limit else null
        else:
            indices, codes = pi[a], p64[b]
            for r in range(row, stop):
                at = indices[r + shift]
                i[to + r] = codes[at] if at >= 0 and at < limit else null
        if valid >= 0:
            # Behind the codes, in a loop of its own: offsets are legal under a null too, and indices are checked.
            bits = p8[valid]
            for r in range(row, stop):
                k = r + shift
                if (bits[k >> 3] >> (k & 7)) & 1 == 0:
                    i[to + r] = null
        row = stop
        chunk += FIELDS


# --- objects ------------------------------------------------------------------------------------------------
@kernel("intern", "words p64 pi first n")
def intern(words: Any, p64: Any, pi: Any, first: Any, n: Any) -> Any:
    """Numbers the different objects of an array by their addresses, which are all it reads, in order of appearance.

    Words: port of the array, of its numbers, of the rows where an object appears first, of the slots (address,
    number), mask, most objects, port of how many there are. Refuses the row with one object too many.
    """
    objects, numbers, rows, table = p64[words[0]], pi[words[1]], p64[words[2]], p64[words[3]]
    mask, most, counter = words[4], words[5], p64[words[6]]
    count = counter[0]
    for r in range(first, first + n):
        x = objects[r]
        if x == 0:
            return 1 + r - first  # NumPy's way to say None without an object
        h = (x >> 4) * MIX_1
        slot = (h ^ (h >> 32)) & mask
        while table[2 * slot] != x and table[2 * slot] != 0:
            slot = (slot + 1) & mask
        if table[2 * slot] == 0:
            if count == most:
                return 1 + r - first
            table[2 * slot] = x
            table[2 * slot + 1] = count
            rows[count] = r
            count += 1
        numbers[r] = table[2 * slot + 1]
    counter[0] = count
    return 0
