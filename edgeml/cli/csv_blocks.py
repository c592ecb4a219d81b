"""Cuts a stream of CSV bytes into blocks of whole rows, so that each can be read without the others.

In comes a binary stream behind its header; out go bytes that end where a row ends, even with line feeds inside of
quotes. Where quotes stand that a strict reader might take otherwise, the rest of the stream goes out uncut, for
Python's csv module to say what is wrong. Used by batches.py.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_QUOTE, _FEED, _RETURN = 34, 10, 13


@dataclass(frozen=True)
class Rest:
    """Bytes that no row end could be found in, in front of what the stream still holds."""

    data: bytes


def blocks(stream: BinaryIO, start: bytes, size: int, separator: str) -> Iterator[bytes | Rest]:
    """Blocks of about ``size`` bytes from ``start`` and then the stream."""
    rest = start
    while True:
        wanted = max(size - len(rest), 1)
        piece = read_full(stream, wanted)
        text = rest + piece if rest else piece
        last = len(piece) < wanted
        end = len(text) if last else _last_row_end(text)
        block = text if last else text[:end]
        if (not end and text) or not _well_quoted(block, separator):
            yield Rest(text)
            return
        if block:
            yield block
        if last:
            return
        rest = text[end:]


def read_full(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end of the stream; one ``read`` may give what is there."""
    pieces = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def header_end(text: bytes) -> int:
    """The number of bytes of the first row with its line feed; 0 where there is none."""
    end = text.find(b"\n") + 1
    while end and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end) + 1
    return end


def lines_of(block: bytes) -> tuple[int, int]:
    """The number of lines in a block, and the length of the longest in bytes."""
    feeds = np.flatnonzero(np.frombuffer(block, np.uint8) == _FEED)
    ends = feeds if block.endswith(b"\n") else np.append(feeds, len(block) - 1)
    return len(ends), int(np.diff(ends, prepend=-1).max(initial=0))


def is_plain(block: bytes, longest: int) -> bool:
    """Whether Arrow's reader finds the rows and cells in a block that Python's csv module finds.

    They differ on carriage returns of their own, on bytes that are not UTF-8, and on cells over the csv module's limit.
    """
    if longest > csv.field_size_limit():
        return False
    if block.startswith(codecs.BOM_UTF8):  # Arrow would leave it out, at the start of any block
        return False
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return False
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return False
    return True


def _last_row_end(text: bytes) -> int:
    """The end of the last whole row: behind a line feed that has an even number of quotes in front of it."""
    end = text.rfind(b"\n") + 1
    if b'"' not in text:
        return end
    quotes = np.flatnonzero(_bytes(text) == _QUOTE)
    while end:
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            break
        end = text.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end


def _well_quoted(block: bytes, separator: str) -> bool:
    """Whether each quote opens a cell at its start, closes it at its end, or is doubled within.

    Then the parity of quotes says what is inside, as the csv module's states do, and Arrow's reader agrees.
    """
    if b'"' not in block:
        return True
    text = _bytes(block)
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = text[opening - 1]  # of a first byte, the last one: put right below
    after = text[np.minimum(closing + 1, len(text) - 1)]
    if opening[0] == 0:
        before[0] = _FEED
    if closing[-1] == len(text) - 1:
        after[-1] = _FEED
    mark = ord(separator)
    starts = (before == mark) | (before == _FEED) | (before == _QUOTE)
    ends = (after == mark) | (after == _FEED) | (after == _RETURN) | (after == _QUOTE)
    return bool(starts.all() and ends.all())


def _bytes(text: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(text, np.uint8)
