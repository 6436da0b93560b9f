"""Ready-made readers of bytes: records of a fixed length, or with a delimiter, and whole files."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from operator import add
from typing import Any

from pytxmr.errors import AttemptFailed, BadJob
from pytxmr.model import FileRange
from pytxmr.records.formats import (
    Block,
    Decode,
    Reader,
    as_they_are,
    open_counted,
    told,
    whole_file,
)
from pytxmr.records.readers import CHUNK_BYTES, TEXT_CHUNK_BYTES, RangeFile, Reading, open_range

_LEAST_READ = 1 << 16


def read_fully(file: RangeFile, size: int) -> bytes:
    """So many bytes, or all until the end of the file."""
    pieces: list[bytes] = []
    while size and (data := file.read(size)):
        pieces.append(data)
        size -= len(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(frozen=True)
class Fixed(Reader):
    """Records of ``size`` bytes each."""

    size: int = 0
    name = "readers.fixed"

    def __call__(self, size: int) -> Fixed:
        """The reader for records of this size. Raises `ValueError` if it is not positive."""
        if size < 1:
            raise ValueError(f"{self.name}({size}): a record has one byte at least")
        return Fixed(size)

    def check(self) -> None:
        if not self.size:
            raise BadJob(f"{self.name} needs to know the bytes of a record: {self.name}(64)")

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        with open_counted(part) as file:
            if file is not None:
                yield from told(self._blocks(part.shown, file), file, part, reading)

    def _blocks(self, path: str, file: RangeFile) -> Iterator[Block]:
        size = self.size
        most = max(1, TEXT_CHUNK_BYTES // size)
        begin = file.start
        at = -(-begin // size) * size
        file.seek(at)
        while at < file.end:
            records = min(most, -(-(file.end - at) // size))
            data = read_fully(file, records * size)
            if len(data) % size:
                raise AttemptFailed(
                    f"{self.name}: the file ends within a record of {size} bytes",
                    where=f"{path}, offset {at + len(data) // size * size}",
                    traceback="",
                    final=True,
                )
            if not data:
                return
            places = range(at, at + len(data), size)
            at += len(data)
            raw = [data[start : start + size] for start in range(0, len(data), size)]
            yield Block(places, raw, at - begin, as_they_are)
            begin = at


@dataclass(frozen=True)
class Delimited(Reader):
    """Records that end in a delimiter, which the last one may lack; they come without it.

    The delimiter is bytes, and so are the records, or str, and they are decoded as lines are.
    """

    delimiter: bytes = b""
    as_text: bool = False
    name = "readers.delimited"

    def __call__(self, delimiter: bytes | str) -> Delimited:
        """The reader for this delimiter. Raises `ValueError` if it is empty."""
        if not delimiter:
            raise ValueError(f"{self.name}({delimiter!r}): a delimiter has one byte at least")
        if isinstance(delimiter, str):
            return Delimited(delimiter.encode("utf-8", "surrogateescape"), True)
        return Delimited(bytes(delimiter))

    def check(self) -> None:
        if not self.delimiter:
            raise BadJob(f"{self.name} needs to know the delimiter: {self.name}(b'\\0')")

    @property
    def whole_files(self) -> bool:
        # If it can overlap itself, as two line ends can, where it is depends on all before it.
        end = self.delimiter
        return any(end[:size] == end[-size:] for size in range(1, len(end)))

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        if self.whole_files:
            whole = whole_file(part)
            if whole is None:
                return
            part = whole
        # A cut inside a compressed file may cut a delimiter, if that is longer than a byte.
        opened = open_range if len(self.delimiter) == 1 else open_counted
        with opened(part) as file:
            if file is not None:
                yield from told(self._blocks(file), file, part, reading)

    def _blocks(self, file: RangeFile) -> Iterator[Block]:
        decode: Decode = _as_text if self.as_text else as_they_are
        width = len(self.delimiter)
        begin = file.start
        at = self._first(file, begin)
        file.seek(at)
        rest = b""
        least = 0
        while at < file.end:
            wanted = min(TEXT_CHUNK_BYTES, max(file.end - at - len(rest), _LEAST_READ))
            data = file.read(max(wanted, least))
            raw = (rest + data).split(self.delimiter)
            rest = raw.pop()
            if not raw and data:
                least = len(rest)  # so that a long record is not put together bit by bit
                continue
            least = 0
            if not data and rest:
                raw = [rest]
            starts = list(map(add, accumulate(map(len, raw), initial=at), count(0, width)))
            owned = bisect_left(starts, file.end, 0, len(raw))
            at = starts[owned]
            if owned:
                places = starts[:owned]
                if file.key_base:
                    places = [file.key_base + place for place in places]
                yield Block(places, raw[:owned], at - begin, decode)
            begin = at
            if not data:
                return

    def _first(self, file: RangeFile, start: int) -> int:
        """Where the first record begins at or after ``start``."""
        if not start:
            return 0
        at = max(0, start - len(self.delimiter))
        file.seek(at)
        rest = b""
        while data := file.read(_LEAST_READ):
            data = rest + data
            found = data.find(self.delimiter)
            if found >= 0:
                return at + found + len(self.delimiter)
            rest = data[max(0, len(data) - len(self.delimiter) + 1) :]
            at += len(data) - len(rest)
        return at + len(rest)


def _as_text(places: Sequence[int], raw: list[Any]) -> tuple[Sequence[int], list[Any]]:
    return places, [record.decode("utf-8", "surrogateescape") for record in raw]


@dataclass(frozen=True)
class Whole(Reader):
    """Files as one record each: their path, and all that is in them, as bytes or as str."""

    as_text: bool = True
    name: str = "readers.whole"

    @property
    def whole_files(self) -> bool:
        return True

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        whole = whole_file(part)
        if whole is None:
            return
        with open_range(whole) as file:
            data = b"".join(iter(lambda: file.read(CHUNK_BYTES), b""))

        def decode(places: Sequence[int], raw: list[Any]) -> tuple[Sequence[Any], list[Any]]:
            return [part.shown], _as_text(places, raw)[1] if self.as_text else raw

        reading.done += part.end
        yield Block([0], [data], len(data), decode)

    def where(self, part: FileRange, place: int, raw: Any) -> str:
        return part.shown
