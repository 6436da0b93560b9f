"""Ready-made writers of text: JSON lines, CSV, values only."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.records.columns import Columns
from pytxmr.records.formats import Writer
from pytxmr.records.writers import Chunk, encode, text, to_json

Pair = tuple[Any, Any]


class Text(Writer):
    """``key<TAB>value`` lines, which is what a job without a writer puts out: bound as none."""

    name = "writers.text"
    is_default = True


class _Lines(Writer):
    """Writes text pair by pair; ``lines`` makes the text of some pairs."""

    def pieces(self, chunks: Iterable[Chunk]) -> Iterator[bytes]:
        head = self.head()
        if head:
            yield encode(head)
        for chunk in chunks:
            pairs = list(chunk.pairs()) if isinstance(chunk, Columns) else chunk
            try:
                lines = self.lines(pairs)
            except Exception:
                self._find(pairs)
                raise
            yield encode(lines)

    def head(self) -> str:
        """What every file begins with."""
        return ""

    def lines(self, pairs: list[Pair]) -> str:
        raise NotImplementedError

    def _find(self, pairs: list[Pair]) -> None:
        """Raise `AttemptFailed` for the pair that cannot be written."""
        for pair in pairs:
            try:
                self.lines([pair])
            except Exception as error:
                raise AttemptFailed(
                    f"{self.name} cannot write the value {pair[1]!r:.200}: {error}",
                    where=f"key {pair[0]!r:.400}",
                    traceback="",
                    final=True,
                ) from error


class Values(_Lines):
    """A value a line, as the default writer shows it, without its key."""

    name = "writers.values"

    def lines(self, pairs: list[Pair]) -> str:
        return "".join([f"{text(value)}\n" for _, value in pairs])


class Json(_Lines):
    """A line of JSON a pair: ``[key, value]``; of a key that is None, the value alone."""

    name = "writers.json"

    def lines(self, pairs: list[Pair]) -> str:
        return "".join(
            [
                to_json(value if key is None else pair) + "\n"
                for pair in pairs
                for key, value in (pair,)
            ]
        )


@dataclass(frozen=True)
class Csv(_Lines):
    """Rows: the columns of the key, then those of the value.

    A tuple or a list is as many columns as it has items; None none, and anything else one, as the
    default writer shows it. The values of a dict stand in the order of ``header``, whose first
    names are the key's. ``header`` is the first row of every file. ``quote_all`` puts quotes around
    all that is text, which otherwise has them where it must.
    """

    header: tuple[str, ...] = ()
    delimiter: str = ","
    quote_all: bool = False
    name: str = "writers.csv"

    def __call__(
        self,
        *,
        header: Sequence[str] = (),
        delimiter: str | None = None,
        quote_all: bool = False,
    ) -> Csv:
        """The writer with these options. Raises `ValueError` for one that makes no sense."""
        if isinstance(header, str | bool):
            raise ValueError(f"header={header!r}: it is a list of names")
        made = replace(
            self,
            header=tuple(header),
            delimiter=self.delimiter if delimiter is None else delimiter,
            quote_all=quote_all,
        )
        try:
            made.head()
        except TypeError as error:
            raise ValueError(str(error)) from None
        return made

    def head(self) -> str:
        return self._rows([self.header] if self.header else [])

    def lines(self, pairs: list[Pair]) -> str:
        return self._rows([self._row(key, value) for key, value in pairs])

    def _rows(self, rows: Iterable[Sequence[Any]]) -> str:
        written: list[str] = []
        # With CRLF, unlike with LF, all of Python's versions put quotes around either in a field.
        csv.writer(
            _Sink(written.append),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_NONNUMERIC if self.quote_all else csv.QUOTE_MINIMAL,
            lineterminator="\r\n",
        ).writerows(rows)
        return "".join([f"{row[:-2]}\n" for row in written])

    def _row(self, key: Any, value: Any) -> list[Any]:
        row = _columns(key)
        if type(value) is dict:
            names = self.header[len(row) :]
            if value.keys() - set(names):
                unknown = next(name for name in value if name not in names)
                raise ValueError(f"the header has no name {unknown!r} for it")
            return row + [_cell(value.get(name)) for name in names]
        return row + _columns(value)


@dataclass(slots=True)
class _Sink:
    """What `csv.writer` calls for each row."""

    write: Callable[[str], object]


def _columns(value: Any) -> list[Any]:
    kind = type(value)
    if kind is tuple or kind is list:
        return list(map(_cell, value))
    return [] if value is None else [_cell(value)]


def _cell(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is float:
        return value
    return "" if value is None else text(value)
