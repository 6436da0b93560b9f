"""The batch form of mappers and reducers: called with many records at a time.

::

    @pytxmr.batch("lines")
    def mapper(offset, lines):           # lines: list of str; offset: where the first begins
        yield Counter(" ".join(lines).split())

    @pytxmr.batch
    def reducer(groups):                 # groups: pytxmr.Groups, whole ones
        yield pytxmr.columns(groups.keys, map(len, groups.lists()))

A batch mapper is marked with what it wants of the input: ``"lines"``, lists of str; ``"bytes"``,
lists of bytes, without line ends; or ``"buffer"``, whole lines as they lie in the file, in one
bytes object: all of a split that is not larger than `BUFFER_BYTES`. It is called as
``mapper(offset, records)``. Marked with ``"records"``, it gets what the job's reader makes of the
input, as ``mapper(keys, values)``, two lists of one length. A batch reducer is called with `Groups`
that are complete, so each of its groups has to fit in memory.

Both yield pairs, whole mappings (every item is a pair), or ``pytxmr.columns(keys, values)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pytxmr.errors import Uncarryable
from pytxmr.records.columns import Columns
from pytxmr.records.combine import is_pair
from pytxmr.records.named import To

#: With these, the mapper reads the input itself; with this one, a reader does.
LINES = ("lines", "bytes", "buffer")
RECORDS = "records"
FORMS = (*LINES, RECORDS)
#: The most that a mapper of the form "buffer" gets at once, but for a line that is longer.
BUFFER_BYTES = 32 << 20
#: Single pairs are handed on in columns of so many.
_PAIRS = 4096

_MARK = "pytxmr_batch"


def batch(form: Any = "lines") -> Any:
    """Mark a mapper or a reducer as one that takes many records at a time.

    Used as ``@pytxmr.batch``, or with what a mapper gets: ``"lines"`` (offset, list of str),
    ``"bytes"`` (offset, list of bytes) or ``"buffer"`` (offset, whole lines as one bytes object).
    A reducer gets `Groups`. Both yield pairs, mappings or `columns`. Raises `ValueError` for an
    unknown form. For example::

        @pytxmr.batch("lines")
        def mapper(offset, lines):
            yield pytxmr.columns(" ".join(lines).split())
    """
    if callable(form):
        return batch()(form)
    if form not in FORMS:
        raise ValueError(f"batch({form!r}): it takes one of {', '.join(map(repr, FORMS))}")

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _MARK, form)
        return function

    return mark


def batch_form(function: Any) -> str | None:
    """The form that a function was marked with; None if it takes one record at a time."""
    return getattr(function, _MARK, None)


def pairs_of(found: Any) -> Iterable[Any]:
    """The pairs of what `as_columns` gives, and each `To` as it is."""
    return (found,) if type(found) is To else found.pairs()


def as_columns(items: Iterable[Any], who: str, named: bool = False) -> Iterator[Any]:
    """What a batch function, ``who``, yields, as `Columns`; what goes to an output by name as `To`,
    if ``named``. Raises `Uncarryable` for other things."""
    keys: list[Any] = []
    values: list[Any] = []
    for item in items:
        if is_pair(item):
            keys.append(item[0])
            values.append(item[1])
            if len(keys) < _PAIRS:
                continue
        elif named and type(item) is To:
            yield item
            continue
        if keys:
            yield Columns(keys, values)
            keys, values = [], []
        if isinstance(item, Columns):
            yield item
        elif isinstance(item, Mapping):
            yield Columns(list(item), list(item.values()))
        elif not is_pair(item):
            raise Uncarryable(
                f"{who} yielded {item!r:.200}: not a pair (key, value), a mapping or "
                f"pytxmr.columns(keys, values)",
                final=True,
            )
    if keys:
        yield Columns(keys, values)
