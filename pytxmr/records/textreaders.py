"""Ready-made readers of what lies in lines: bytes, pairs, JSON, CSV.

The lines are those of `readers`, some hundreds a block, and each block is decoded by C code: no
Python runs per record. Text is UTF-8, and bytes that are not come through as lone surrogates. A
byte order mark at the beginning of a file is passed over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain, compress, islice, repeat
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records.formats import Block, Decode, Reader, as_they_are, whole_file
from pytxmr.records.readers import TEXT_CHUNK_BYTES, Reading, line_blocks, split_lines, split_text

#: Bytes that are decoded at a time. The objects that they become, ten times as large, should still
#: be in a processor's cache when they are mapped (measured: up to a quarter less time than with
#: 128 KiB).
BLOCK_BYTES = 1 << 15
#: Of a CSV file's field; Python's own limit, 128 KiB, is below what real files have.
_MOST_FIELD_BYTES = 256 << 20
#: Rows in a block, where lines do not tell how many there are.
_ROWS = 1024
_BOM = "\ufeff"


class Text(Reader):
    """Lines as str, without their ends, which is what a job without a reader gets. Bytes that are
    not UTF-8 come as lone surrogates; a mark of byte order at a file's beginning stays."""

    name = "readers.text"
    is_default = True


class Lines(Reader):
    """Lines as bytes, without their ends (LF, or CR LF)."""

    name = "readers.bytes"

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        for offset, data in line_blocks(part, TEXT_CHUNK_BYTES, reading):
            offsets, lines = split_lines(offset, data)
            yield Block(list(islice(offsets, len(lines))), lines, len(data), as_they_are)


class Pairs(Reader):
    """What the default writer writes: ``key<TAB>value``, or a key alone, whose value is None."""

    name = "readers.pairs"

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        return _text_blocks(part, reading, _split_at_tab, lambda line: True)


def _split_at_tab(places: Sequence[int], lines: list[str]) -> tuple[Sequence[Any], list[Any]]:
    pairs = [line.partition("\t") for line in lines]
    return (
        [key for key, _, _ in pairs],
        [value if tab else None for _, tab, value in pairs],
    )


class Json(Reader):
    """A JSON text a line; lines of blanks are passed over."""

    name = "readers.json"

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        return _text_blocks(part, reading, _loads, str.strip)


_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _loads(places: Sequence[int], lines: list[str]) -> tuple[Sequence[int], list[Any]]:
    # A StopIteration, which means that there is no JSON, ends the list; so it is too short then.
    found = list(map(_scan, lines, repeat(0)))
    if len(found) == len(lines) and [end for _, end in found] == list(map(len, lines)):
        return places, [value for value, _ in found]
    # There are blanks before or after, or there is more than one value.
    return places, list(map(json.loads, lines))


def _text_blocks(
    part: FileRange,
    reading: Reading | None,
    decode: Decode,
    is_record: Callable[[str], Any] = str,
    chunk_bytes: int = 0,
) -> Iterator[Block]:
    """Lines of text, but for those of which ``is_record`` gives something false."""
    for offset, data in line_blocks(part, chunk_bytes or BLOCK_BYTES, reading):
        offsets, lines = split_text(offset, data)
        if offset == 0:
            lines[0] = lines[0].removeprefix(_BOM)
        places = list(islice(offsets, len(lines)))
        marks = list(map(is_record, lines))
        if not all(marks):
            places, lines = list(compress(places, marks)), list(compress(lines, marks))
        yield Block(places, lines, len(data), decode)


@dataclass(frozen=True)
class Csv(Reader):
    """Rows of CSV, or of anything else with a delimiter; blank lines are passed over.

    ``header``: False, rows are lists; True, the first row of each file names the columns, and rows
    are dicts; a tuple of names, the files have no such row, and rows are dicts. ``lists`` makes
    them lists again. ``quote`` is None if no character quotes. ``multiline``: a quoted field may
    have line ends in it.
    """

    header: bool | tuple[str, ...] = False
    lists: bool = False
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    multiline: bool = False
    name: str = "readers.csv"

    def __call__(
        self,
        *,
        header: bool | Sequence[str] = False,
        lists: bool = False,
        delimiter: str | None = None,
        quote: str | None = '"',
        escape: str | None = None,
        multiline: bool = False,
    ) -> Csv:
        """The reader with these options. Raises `ValueError` for one that makes no sense."""
        if isinstance(header, str):
            raise ValueError(f"header={header!r}: it is True, or a list of names")
        made = replace(
            self,
            header=header if isinstance(header, bool) else tuple(header),
            lists=lists,
            delimiter=self.delimiter if delimiter is None else delimiter,
            quote=quote,
            escape=escape,
            multiline=multiline,
        )
        try:
            made._reader([])
        except TypeError as error:
            raise ValueError(str(error)) from None
        return made

    @property
    def whole_files(self) -> bool:
        return self.multiline

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        csv.field_size_limit(_MOST_FIELD_BYTES)
        return self._rows(part, reading) if self.multiline else self._lines(part, reading)

    def _reader(self, lines: Any) -> Any:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
        )

    # ---- a row a line

    def _lines(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        names, begin = self.names_of(part)
        decode = self._decode(names)
        for block in _text_blocks(part, reading, decode):
            if block.places and block.places[0] < begin:
                block.places, block.raw = block.places[1:], block.raw[1:]
            yield block

    def names_of(self, part: FileRange) -> tuple[tuple[str, ...] | None, int]:
        """The names of a file's columns, and from which offset on the records are."""
        if self.header is not True:
            return self.header or None, 0
        first = FileRange(part.path, 0, part.end)
        for block in _text_blocks(first, None, as_they_are, chunk_bytes=1):
            for place, line in zip(block.places, block.raw, strict=True):
                try:
                    return self._checked(self._parsed([line])[0]), place + 1
                except (csv.Error, ValueError) as error:
                    raise self._bad_header(part, place, error) from error
        return None, 0

    def _bad_header(self, part: FileRange, offset: int, error: Exception) -> AttemptFailed:
        return AttemptFailed(
            f"{self.name} cannot read the header: {error}",
            where=f"{part.shown}, offset {offset}",
            traceback="",
            final=True,
        )

    @staticmethod
    def _checked(names: list[str]) -> tuple[str, ...]:
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two columns are called {twice[0]!r}")
        return tuple(names)

    def _decode(self, names: tuple[str, ...] | None) -> Decode:
        named = _named(names, self.lists)
        return lambda places, lines: (places, named(self._parsed(lines)))

    def _parsed(self, lines: list[str]) -> list[list[str]]:
        # An empty line after the last becomes a row of its own, unless a quoted field is open.
        rows = list(self._reader(chain(lines, ("",))))
        if len(rows) != len(lines) + 1:
            raise ValueError(
                "a quoted field does not end where its line ends; multiline=True allows for that"
            )
        rows.pop()
        return rows

    # ---- rows that may go over several lines

    def _rows(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        whole = whole_file(part)
        if whole is None:
            return
        lines = _Fed(whole, reading)
        reader = self._reader(lines)
        header = () if self.header is True else self.header
        names = header or None
        decode = _rows_decoder(_named(names, self.lists))
        places: list[int] = []
        rows: list[Any] = []
        sent = 0
        while True:
            try:
                row = next(reader, None)
                if row and lines.ended:
                    raise ValueError("a quoted field is still open where the file ends")
            except (csv.Error, ValueError) as error:
                raise AttemptFailed(
                    f"{self.name} cannot read a record: {error}",
                    where=f"{part.shown}, offset {lines.begin}",
                    traceback="",
                    final=True,
                ) from error
            if row and header == ():
                try:
                    header = self._checked(row)
                except ValueError as error:
                    raise self._bad_header(part, lines.begin, error) from error
                decode = _rows_decoder(_named(header, self.lists))
            elif row:
                places.append(lines.begin)
                rows.append(tuple(row))
            lines.begin = lines.end
            if row is None or len(rows) == _ROWS:
                yield Block(places, rows, lines.end - sent, decode)
                places, rows, sent = [], [], lines.end
            if row is None:
                return


class _Fed:
    """The lines of a file, with their ends, and after the last an empty one.

    ``begin`` and ``end`` are where the lines begin and end of which a row is being made.
    """

    def __init__(self, part: FileRange, reading: Reading) -> None:
        self.begin = self.end = 0
        self.ended = False
        self._lines = chain.from_iterable(
            BytesIO(data) for _, data in line_blocks(part, 0, reading)
        )

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            text = line.decode("utf-8", "surrogateescape")
            if self.end == 0:
                text = text.removeprefix(_BOM)
            self.end += len(line)
            yield text
        self.ended = True
        yield ""


def _named(names: tuple[str, ...] | None, lists: bool) -> Callable[[list[list[str]]], list[Any]]:
    """What makes values of rows; it raises `ValueError` for a row of another length."""
    if names is None:
        return lambda rows: rows

    def named(rows: list[list[str]]) -> list[Any]:
        wrong = set(map(len, rows)) - {len(names)}
        if wrong:
            raise ValueError(f"a row of {wrong.pop()} fields under {len(names)} names")
        return rows if lists else list(map(dict, map(zip, repeat(names), rows)))

    return named


def _rows_decoder(named: Callable[[list[list[str]]], list[Any]]) -> Decode:
    return lambda places, rows: (places, named(list(map(list, rows))))
