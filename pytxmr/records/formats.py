"""What a ready-made reader or writer is to the attempts that use it.

A user's ``reader(lines)`` makes records one by one, so Python code runs for each. A ready-made
`Reader` hands over *blocks*: many records as they lie in the file, and a function that decodes them
all at once. What it cannot decode is found by decoding record by record, which is also how it is
read when bad records may be set aside; so a reader never looks for errors itself.

A range [start, end) of a file owns the records that begin in it, as with lines. A reader that
cannot tell where a record begins, unless it has read all before it, is one of ``whole_files``: the
range that begins at 0 owns all records of the file, any other none, and a plan makes one range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, Undecodable
from pytxmr.model import FileRange
from pytxmr.records.columns import Columns
from pytxmr.records.readers import RangeFile, Reading, open_range

#: Takes where some records begin and what they are as they lie in the file; gives as many keys and
#: values. Raises any exception if it cannot.
Decode = Callable[[Sequence[int], list[Any]], tuple[Sequence[Any], list[Any]]]


Pair = tuple[Any, Any]

#: Behind the end of any file.
_END = 1 << 62


@dataclass(slots=True)
class Block:
    """Records of a file: where each begins, and each as it lies there.

    ``size`` is how many bytes of the range they, and what was skipped before them, take.
    """

    places: Sequence[int]
    raw: list[Any]
    size: int
    decode: Decode


class Reader:
    """The base of ready-made readers. Readers are frozen: a worker uses one for all its maps."""

    #: How a job calls it.
    name: str
    #: What the places of records are.
    unit = "offset"
    #: Does it do what is done without one?
    is_default = False

    @property
    def whole_files(self) -> bool:
        """Can a file only be read from its beginning to its end?"""
        return False

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        """The records of a range. Raises `AttemptFailed` for a file that cannot be read.

        ``reading`` is told how far that is.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Raise `BadJob` if it cannot be used as it is, or not here."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The same: ``readers.json()`` is ``readers.json``. Those with options give another."""
        return _unchanged(self, args, options)

    def where(self, part: FileRange, place: int, raw: Any) -> str:
        """File, offset and content of a record."""
        return f"{part.shown}, {self.unit} {place}, record {raw!r:.400}"


class Writer:
    """The base of ready-made writers. Writers are frozen: a worker uses one for all its reduces."""

    #: How a job calls it.
    name: str
    #: Does it do what is done without one?
    is_default = False
    #: Does the format compress by itself, so that a compressed file would not be one of it?
    compresses = False

    def pieces(self, chunks: Iterable[Columns | list[Pair]]) -> Iterator[bytes]:
        """The bytes of a part file. Raises `AttemptFailed` for a pair that cannot be written."""
        if head := self.head():
            yield head
        for chunk in chunks:
            pairs = list(chunk.pairs()) if isinstance(chunk, Columns) else chunk
            try:
                made = self.made_of(pairs)
            except Exception:
                self._find(pairs)
                raise
            yield made
        if tail := self.tail():
            yield tail

    def head(self) -> bytes:
        """What every file begins with."""
        return b""

    def made_of(self, pairs: list[Pair]) -> bytes:
        """What is written of some pairs. Raises any exception if one of them cannot be."""
        raise NotImplementedError

    def tail(self) -> bytes:
        """What every file ends with."""
        return b""

    def _find(self, pairs: list[Pair]) -> None:
        """Raise `AttemptFailed` for the pair that cannot be written."""
        for pair in pairs:
            try:
                self.made_of([pair])
            except Exception as error:
                raise AttemptFailed(
                    f"{self.name} cannot write the value {pair[1]!r:.200}: {error}",
                    where=f"key {pair[0]!r:.400}",
                    traceback="",
                    final=True,
                ) from error

    def check(self) -> None:
        """Raise `BadJob` if it cannot be used as it is, or not here."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The same: ``writers.json()`` is ``writers.json``. Those with options give another."""
        return _unchanged(self, args, options)


def _unchanged(format: Reader | Writer, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if args or options:
        raise TypeError(f"{format.name} has no options")
    return format


@contextmanager
def open_counted(part: FileRange) -> Iterator[RangeFile | None]:
    """The file of a range, for who must know how far from the beginning of the file it is.

    Of a compressed file, where only the range that begins at 0 knows that, it is all of the file
    for that range, and None for any other.
    """
    with open_range(part) as file:
        if file.end == part.end:
            yield file
            return
    whole = whole_file(part)
    if whole is None:
        yield None
        return
    with open_range(whole) as file:
        yield file


def told(
    blocks: Iterator[Block], file: RangeFile, part: FileRange, reading: Reading
) -> Iterator[Block]:
    """The blocks of a file, ``reading`` being told at each how far that has been read."""
    before = reading.done
    for block in blocks:
        reading.done = before + max(0, min(file.stored_at(), part.end) - part.start)
        yield block


def whole_file(part: FileRange) -> FileRange | None:
    """All of the file, for the range that owns all records of it; None for another."""
    return None if part.start else FileRange(part.path, 0, _END)


def as_they_are(places: Sequence[int], raw: list[Any]) -> tuple[Sequence[int], list[Any]]:
    """Records that need no decoding; their keys are where they begin."""
    return places, raw


def blocks_of(reader: Reader, part: FileRange, reading: Reading) -> Iterator[Block]:
    """Its blocks. What goes wrong in the reader is not taken for an error of the mapper."""
    try:
        yield from reader.blocks(part, reading)
    except PytxmrError:
        raise
    except Exception as error:
        message = f"{reader.name} raised {type(error).__name__}: {error}"
        raise AttemptFailed(message, where=part.shown) from error


def decoded(reader: Reader, part: FileRange, block: Block) -> tuple[Sequence[Any], list[Any]]:
    """The keys and values of a block. Raises `Undecodable` naming the record that is none."""
    try:
        return block.decode(block.places, block.raw)
    except Exception:
        for place, raw in zip(block.places, block.raw, strict=True):
            decoded_record(reader, part, block, place, raw)
        raise


def decoded_record(
    reader: Reader, part: FileRange, block: Block, place: int, raw: Any
) -> tuple[Any, Any]:
    """The key and value of one record of a block. Raises `Undecodable`."""
    try:
        keys, values = block.decode([place], [raw])
    except Exception as error:
        # The user's code has no part in it, so there is no traceback to show.
        raise Undecodable(
            f"{reader.name} cannot read a record: {error}",
            where=reader.where(part, place, raw),
            traceback="",
            final=True,
        ) from error
    return keys[0], values[0]
