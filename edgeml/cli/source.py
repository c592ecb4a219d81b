"""Where rows come from: which format a data file has, and its bytes, plain, packed by gzip or from stdin.

In comes a path as a person gives it; out go the format's suffix and an open stream that knows how much of the file it
has read. Used by data.py, batches.py and results.py.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgeml.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
JSON_LINES = (".jsonl", ".ndjson")
FORMATS = (*SEPARATORS, *PARQUET, *JSON_LINES)
STDIN = Path("-")
_PACKED = ".gz"

# The part of the bytes that has been read, from 0 to 1; None where nobody can say, as for a pipe.
Done = Callable[[], float | None]


def file_format(path: Path) -> str:
    """The suffix that says what a data file holds. Raises InputError for one that is not known."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: a data file ends in {', '.join(FORMATS)}, this one in {suffix or 'nothing'}",
            "convert or rename it",
        )
    return suffix


def input_format(path: Path) -> str:
    """``file_format`` of a file to read, which may be packed (``.csv.gz``) or ``-`` for CSV from stdin."""
    if path == STDIN:
        return ".csv"
    if not _packed(path):
        return file_format(path)
    suffix = file_format(path.with_suffix(""))
    if suffix in PARQUET:
        raise InputError(f"{path}: Parquet is read from any place in the file, which gzip does not allow", "unpack it")
    return suffix


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[BinaryIO, Done]]:
    """The unpacked bytes of ``path``, and how much of them has been read. Raises InputError for a damaged gzip file."""
    if path == STDIN:
        yield _stdin(), lambda: None
        return
    with path.open("rb") as raw:
        total = path.stat().st_size if raw.seekable() else 0

        def done() -> float | None:
            return min(raw.tell() / total, 1.0) if total else None

        if not _packed(path):
            yield raw, done
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked, done  # type: ignore[misc]  # a GzipFile reads as any binary file does
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be unpacked: {error}", "check that it is complete") from None


class Joined(io.RawIOBase):
    """Bytes that were read already, and then the stream they came from: a text reader can start from there."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = memoryview(first)
        # Whatever is there, so that a slow pipe's rows do not wait for a full buffer.
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece: bytes | memoryview = self._first[: len(buffer)]
        if piece:
            self._first = self._first[len(piece) :]
        else:
            piece = self._read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _packed(path: Path) -> bool:
    return path.suffix.lower() == _PACKED


def _stdin() -> BinaryIO:
    """Bytes of stdin through a buffer of our own.

    Python finalises ``sys.stdin`` at exit and dies when a thread is still reading it, as after Ctrl-C.
    """
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError):  # no file, as where a program has replaced sys.stdin
        return sys.stdin.buffer
