"""Sets of sequence numbers as sorted, disjoint, inclusive ranges ``(first, last)``; pure arithmetic.

A stream may have 2**53 numbers, so nothing here walks over single ones. Used where numbers received, lost and missing
are told apart: ingest, retention and queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def union(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, disjoint ranges of the same numbers; adjacent ones become one."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def of_numbers(numbers: Iterable[int]) -> list[Range]:
    """The ranges of single numbers."""
    return union((number, number) for number in numbers)


def subtract(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """Numbers of ``ranges`` that are not in ``taken``; both sorted and disjoint."""
    left: list[Range] = []
    at = 0
    for first, last in ranges:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        scan = at
        while scan < len(taken) and taken[scan][0] <= last:
            if taken[scan][0] > first:
                left.append((first, taken[scan][0] - 1))
            first = taken[scan][1] + 1
            scan += 1
        if first <= last:
            left.append((first, last))
    return left


def count(ranges: Iterable[Range]) -> int:
    """How many numbers they hold."""
    return sum(last - first + 1 for first, last in ranges)
