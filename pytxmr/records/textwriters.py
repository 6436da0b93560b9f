"""Ready-made writers of text: JSON lines, CSV, values only."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytxmr.records.formats import Pair, Writer
from pytxmr.records.writers import encode, text, to_json


class Text(Writer):
    """A line ``key<TAB>value`` a pair, which is what a job without a writer puts out; None on
    either side leaves out itself and the tab.

    Text is written as it is, bytes as they are, lists, tuples, dicts and sets as JSON, anything
    else as ``str`` shows it.
    """

    name = "writers.text"
    is_default = True


class Values(Writer):
    """A value a line, as the default writer shows it, without its key."""

    name = "writers.values"

    def made_of(self, pairs: list[Pair]) -> bytes:
        return encode("".join([f"{text(value)}\n" for _, value in pairs]))


class Json(Writer):
    """A line of JSON a pair: ``[key, value]``; of a key that is None, the value alone."""

    name = "writers.json"

    def made_of(self, pairs: list[Pair]) -> bytes:
        lines = [to_json(pair[1] if pair[0] is None else pair) for pair in pairs]
        return encode("\n".join([*lines, ""]))


@dataclass(frozen=True)
class Csv(Writer):
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

    def head(self) -> bytes:
        return self._rows([self.header] if self.header else [])

    def made_of(self, pairs: list[Pair]) -> bytes:
        return self._rows([self._row(key, value) for key, value in pairs])

    def _rows(self, rows: Iterable[Sequence[Any]]) -> bytes:
        written: list[str] = []
        # With CRLF, unlike with LF, all of Python's versions put quotes around either in a field.
        csv.writer(
            _Sink(written.append),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_NONNUMERIC if self.quote_all else csv.QUOTE_MINIMAL,
            lineterminator="\r\n",
        ).writerows(rows)
        return encode("".join([f"{row[:-2]}\n" for row in written]))

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
