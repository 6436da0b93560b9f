"""From the byte ranges of a split to records.

A text record is a line: its key the byte offset in the file, its value the line without its end,
decoded as UTF-8. Bytes that are not UTF-8 become lone surrogates (PEP 383) and are written out
again as the bytes they were.

A range [start, end) owns the lines that *begin* in it: the reader skips to the first line that
begins at or after ``start`` and reads the last one to its end, beyond ``end`` if need be. So any
cut of a file into ranges gives every line exactly once.

A compressed file (see `compressed`) is read as what is in it. Its keys are offsets in that if one
range reads all of it; else see `KEY_BITS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO, UnsupportedOperation
from itertools import accumulate, count
from operator import add
from typing import Any, Protocol

from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records.compressed import MAGIC_BYTES, format_of, pieces_of
from pytxmr.records.remote import RemoteFile, is_remote

#: Bytes read at a time. Large enough that the work per chunk vanishes beside that per line; what is
#: read to be mapped line by line should leave a processor's own cache to the mapper and to what it
#: gathers (measured: of two processes that count words each takes 6 % less time with 32 KiB than
#: with 128 KiB, which take 3 to 5 % less than a MiB; medians of 14 turns, a MiB of cache each).
CHUNK_BYTES = 1 << 20
TEXT_CHUNK_BYTES = 1 << 15
#: In a file that is cut inside its compression, nobody knows how many bytes there are before a
#: range. A key is its first compressed byte's offset, shifted by so many bits, plus the position:
#: unique, and in order, as nothing shrinks to less than 2**-24 of itself.
KEY_BITS = 24


class RangeFile(Protocol):
    """What is in a `FileRange`, decompressed: a binary file, and which of its records to read.

    Records that begin at a position in [``start``, ``end``) belong to the range, the last one to
    its end, beyond ``end`` if need be. As long as ``end`` is not known it is `sys.maxsize`: look
    at it anew after each ``read``. To the position of a record, ``key_base`` is added for its key.
    """

    start: int
    end: int
    key_base: int

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, not beyond ``end`` if they begin before it; none at the end."""

    def seek(self, position: int, /) -> int:
        """In a compressed file, only back into what the last ``read`` gave."""

    def stored_at(self) -> int:
        """How far in the file, as it is stored, it has been read."""


@contextmanager
def open_range(part: FileRange) -> Iterator[RangeFile]:
    """The file of a range. Of a compressed one that cannot be cut, the range that begins at 0 has
    all records. Raises `AttemptFailed` naming the file, here and for what fails while it is open.
    """
    try:
        with open_stored(part) as file:
            kind = format_of(part.path, file.head(MAGIC_BYTES))
            yield file if kind is None else _Compressed(kind, file, part)
    except OSError as error:
        reason = error.strerror or error
        raise AttemptFailed(f"{part.shown}: {reason}", where=part.shown) from error


def open_stored(part: FileRange) -> Any:
    """The file of a range as it is stored, compressed or not. Raises `OSError`."""
    return RemoteFile(part) if is_remote(part.path) else _Plain(part)


class _Plain(FileIO):
    """A local file as it is. A descendant, so that a read costs nothing more."""

    key_base = 0

    def __init__(self, part: FileRange) -> None:
        super().__init__(part.path)
        self.start, self.end = part.start, part.end

    stored_at = FileIO.tell

    def head(self, size: int) -> bytes:
        return os.pread(self.fileno(), size, 0)

    def size(self) -> int:
        return os.fstat(self.fileno()).st_size


class _Compressed:
    """A range of a compressed file.

    Positions count from what begins first in the range. Whether a line begins right there does not
    show, as the byte before is not known. So it belongs to the range before: ``start`` is 1 but at
    the beginning of the file, and ``end`` one behind the first byte of the next range.
    """

    def __init__(self, kind: str, file: Any, part: FileRange) -> None:
        self._pieces = pieces_of(kind, file, part.shown, part.start, part.end, file.size())
        self.stored_at = file.stored_at
        self.start = min(part.start, 1)
        self.end = sys.maxsize
        self.key_base = part.start << KEY_BITS
        self._position = 0
        self._rest = memoryview(b"")
        self._last = b""
        self._again = b""

    def read(self, size: int) -> bytes:
        if self._position < self.end:
            size = min(size, self.end - self._position)
        pieces = [self._again[:size]]
        self._again = self._again[size:]
        size -= len(pieces[0])
        while size:
            if not self._rest:
                piece = next(self._pieces, b"")
                if piece is None:
                    self.end = self._position + sum(map(len, pieces)) + 1
                    size = min(size, 1)
                    if any(pieces):
                        break
                    continue
                if not piece:
                    break
                self._rest = memoryview(piece)
            pieces.append(bytes(self._rest[:size]))
            self._rest = self._rest[size:]
            size -= len(pieces[-1])
        self._last = b"".join(pieces)
        self._position += len(self._last)
        return self._last

    def seek(self, position: int) -> int:
        back = self._position - position
        if not 0 <= back <= len(self._last):
            raise UnsupportedOperation("a compressed file can only be read forward")
        if back:
            self._again = self._last[-back:] + self._again
            self._last = self._last[:-back]
            self._position = position
        return position


class Reading:
    """How far the reading of a split is: bytes of its ranges, as they are stored."""

    def __init__(self) -> None:
        self.done = 0


def line_blocks(
    part: FileRange, chunk_bytes: int = 0, reading: Reading | None = None
) -> Iterator[tuple[int, bytes]]:
    """``(key, whole lines)`` of a range, about ``chunk_bytes``, or `CHUNK_BYTES`, at a time. The
    key is the first line's; those of the others follow from it by their lengths."""
    with open_range(part) as file:
        before = reading.done if reading else 0
        for block in _line_blocks(file, chunk_bytes or CHUNK_BYTES):
            if reading:
                reading.done = before + max(0, min(file.stored_at(), part.end) - part.start)
            yield block


def _line_blocks(file: RangeFile, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    offset = file.start
    if offset:
        # A line begins at `start` only if the byte before is a line end.
        file.seek(offset - 1)
        offset = _skip_line(file, offset - 1)
    while offset < file.end:
        file.seek(offset)
        data = file.read(min(chunk_bytes, file.end - offset))
        if not data:
            return
        pieces = [data]
        if offset + len(data) >= file.end or b"\n" not in data:
            # The last line, or one longer than a chunk: read on to its end.
            while not pieces[-1].endswith(b"\n"):
                more = file.read(1 << 16)
                if not more:
                    break
                end = more.find(b"\n") + 1
                pieces.append(more[:end] if end else more)
            data = b"".join(pieces)
        else:
            data = data[: data.rindex(b"\n") + 1]
        yield file.key_base + offset, data
        offset += len(data)


def _skip_line(file: RangeFile, offset: int) -> int:
    """Where the next line begins, reading from ``offset`` on."""
    while data := file.read(1 << 16):
        end = data.find(b"\n") + 1
        if end:
            return offset + int(end)
        offset += len(data)
    return offset


def split_lines(offset: int, data: bytes) -> tuple[Iterator[int], list[bytes]]:
    """The lines in ``data``, without their ends, and the offset at which each begins."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    starts = map(add, accumulate(map(len, lines), initial=offset), count())
    if b"\r\n" in data:
        ended = data.endswith(b"\n")
        last = len(lines) - 1
        lines = [
            line[:-1] if line.endswith(b"\r") and (at < last or ended) else line
            for at, line in enumerate(lines)
        ]
    return starts, lines


def split_text(offset: int, data: bytes) -> tuple[Iterator[int], list[str]]:
    """`split_lines`, decoded."""
    if data.isascii() and b"\r" not in data:
        lines = data.decode("ascii").split("\n")
        if not lines[-1]:
            lines.pop()
        return map(add, accumulate(map(len, lines), initial=offset), count()), lines
    starts, raw = split_lines(offset, data)
    return starts, [line.decode("utf-8", "surrogateescape") for line in raw]
