"""The calls of a mapper for all records of a split, and which record is at hand.

They are made by `map` and `chain`, so nothing of ours runs per record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import chain, islice, starmap
from operator import length_hint
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.model import InputSplit, JobFunctions
from pytxmr.records.attempt import Problem, pair_problem
from pytxmr.records.batch import BUFFER_BYTES, LINES, RECORDS, as_columns, batch_form
from pytxmr.records.combine import is_pair
from pytxmr.records.formats import Block, Reader, as_they_are, blocks_of, decoded, decoded_record
from pytxmr.records.named import To
from pytxmr.records.quarantine import Quarantine
from pytxmr.records.readers import TEXT_CHUNK_BYTES, Reading, line_blocks, split_lines, split_text
from pytxmr.records.writers import Chunk

MAPPER = "the mapper"
#: Pairs that go to a writer are handed on so many at a time.
_CHUNK_PAIRS = 1024
#: Records of the job's own reader that a batch mapper gets at once.
_RECORDS = 4096


def _of_one(mapper: Callable[[list[Any], list[Any]], Any]) -> Callable[[Any, Any], Any]:
    """A batch mapper of records as one that takes a single record."""
    return lambda key, value: mapper([key], [value])


class MapCalls:
    """What a mapper makes of a split, with what its hooks yield before and after."""

    def __init__(
        self,
        split: InputSplit,
        functions: JobFunctions,
        bad: Quarantine | None = None,
        problem: Problem = pair_problem,
    ) -> None:
        self._split = split
        self._bad = bad
        self._reader = functions.reader
        self._mapper = functions.mapper
        self._ready: Reader | None = None
        self._block = Block((), [], 0, as_they_are)
        self._one_by_one = bad is not None
        self.form = batch_form(functions.mapper)
        if self.form == RECORDS and self._one_by_one:
            self._mapper = _of_one(self._mapper)
        self._init, self._final = functions.map_init, functions.map_final
        self._named = bool(functions.outputs)
        if isinstance(self._reader, Reader):
            self._ready, self._reader = self._reader, None
            if self._one_by_one:
                self._mapper = self._decoding(self._mapper)
        self._part = split.ranges[0]
        self._line_by_line = False
        if bad is not None:
            self._mapper = bad.mapper(
                self._mapper, self.form, self._reader is not None, lambda: self._part.shown, problem
            )
            self._reader = self._reader and bad.reader(self._reader)
            self._line_by_line = True
        self._offset = 0
        self._data = b""
        self._lines: list[Any] = []
        self._rest: Iterator[Any] = iter(())
        self._record: tuple[Any, Any] | None = None
        self._ended = False
        self.reading = Reading()
        self.bytes_done = 0
        self.count = 0
        self._chunk: list[Any] = []
        #: Whose code is running, as messages name it: the mapper, one of its hooks, the writer.
        self.at_work = MAPPER

    def mapped(self) -> Iterator[Any]:
        """What the mapper yields for all records, one after the other."""
        return chain.from_iterable(self.results())

    def chunks(self) -> Iterator[Chunk]:
        """What it yields, for a writer. Raises `TypeError` for what is not a pair."""
        stream = self.mapped()
        if self.form is not None:
            yield from as_columns(stream, MAPPER, self._named)
            return
        while True:
            # The list grows while the mapper yields, so that it shows how far that is.
            chunk = self._chunk = []
            chunk += islice(stream, _CHUNK_PAIRS)
            if not chunk:
                return
            if (set(map(type, chunk)) != {tuple} or set(map(len, chunk)) != {2}) and not all(
                is_pair(item) or (self._named and type(item) is To) for item in chunk
            ):
                raise TypeError("something in the stream is not a pair")
            yield chunk

    def results(self) -> Iterator[Any]:
        """What each call of the mapper returns, and before and after them those of its hooks."""
        if self.form in LINES:
            results = self._batch_results()
        elif self.form == RECORDS and not self._one_by_one:
            results = self._records_results()
        else:
            results = chain.from_iterable(self._batches())
        if self._init is None and self._final is None:
            return results
        first = self._result_of("map_init()", self._init)
        return chain(first, results, self._result_of("map_final()", self._final))

    def _batches(self) -> Iterator[Iterator[Any]]:
        if self._ready is not None:
            return self._ready_batches(self._ready)
        return self._read_batches() if self._reader else self._text_batches()

    def _result_of(self, name: str, hook: Callable[[], Any] | None) -> Iterator[Any]:
        if hook is None:
            return
        if self._bad is not None:
            self._bad.none_at_hand()
        self.at_work = name
        result = hook()
        if result is not None:
            yield result
        self.at_work = MAPPER

    def _batch_results(self) -> Iterator[Any]:
        if self._line_by_line:
            yield from self._line_results()
            return
        size = BUFFER_BYTES if self.form == "buffer" else 0
        for part in self._split.ranges:
            self._part = part
            for offset, data in line_blocks(part, size, self.reading):
                self._offset = offset
                if self.form == "buffer":
                    self.count += data.count(b"\n") + (not data.endswith(b"\n"))
                    yield self._mapper(offset, data)
                else:
                    split = split_text if self.form == "lines" else split_lines
                    lines = split(offset, data)[1]
                    self.count += len(lines)
                    yield self._mapper(offset, lines)
                self.bytes_done += len(data)

    def _records_results(self) -> Iterator[Any]:
        """What a batch mapper makes of a reader's records: as many at a time as that decodes, or
        as text has in one piece; of the job's own reader `_RECORDS`."""
        for part in self._split.ranges:
            self._part = part
            if self._ready is not None:
                for block in blocks_of(self._ready, part, self.reading):
                    self._block = block
                    keys, values = decoded(self._ready, part, block)
                    yield self._mapper(list(keys), values)
                    self.count += len(values)
                    self.bytes_done += block.size
            elif self._reader is not None:
                records = self._remembered(self._reader(self._raw_lines()))
                while some := list(islice(records, _RECORDS)):
                    yield self._mapper([key for key, _ in some], [value for _, value in some])
            else:
                for offset, data in line_blocks(part, 0, self.reading):
                    self._offset = offset
                    offsets, lines = split_text(offset, data)
                    yield self._mapper(list(islice(offsets, len(lines))), lines)
                    self.count += len(lines)
                    self.bytes_done += len(data)

    def _line_results(self) -> Iterator[Iterable[Any]]:
        """What a batch mapper makes of single lines."""
        split = split_text if self.form == "lines" else split_lines
        records: Iterable[Any]
        for part in self._split.ranges:
            self._part = part
            for offset, data in line_blocks(part, 0, self.reading):
                offsets, lines = split(offset, data)
                records = ([line] for line in lines)
                if self.form == "buffer":
                    records = BytesIO(data)
                for self._offset, record in zip(offsets, records, strict=False):
                    yield self._mapper(self._offset, record)
                self.count += len(lines)
                self.bytes_done += len(data)

    def _text_batches(self) -> Iterator[Iterator[Iterable[Any]]]:
        for part in self._split.ranges:
            self._part = part
            for offset, data in line_blocks(part, TEXT_CHUNK_BYTES, self.reading):
                self._offset, self._data = offset, data
                offsets, self._lines = split_text(offset, data)
                self._rest = iter(self._lines)
                yield map(self._mapper, offsets, self._rest)
                # There is an offset more than lines, and `map` takes the offset first.
                if next(offsets, None) is not None:
                    raise self._stopped()
                self.count += len(self._lines)
                self.bytes_done += len(data)

    def _ready_batches(self, reader: Reader) -> Iterator[Iterator[Iterable[Any]]]:
        for part in self._split.ranges:
            self._part = part
            for block in blocks_of(reader, part, self.reading):
                self._block = block
                keys, values = block.places, block.raw
                self._rest = iter(())
                if not self._one_by_one:
                    keys, values = decoded(reader, part, block)
                self._rest = iter(values)
                # There is a key more than values, as there is with lines.
                more = chain(keys, (None,))
                yield map(self._mapper, more, self._rest)
                if next(more, self) is not self:
                    raise self._stopped()
                self.count += len(block.raw)
                self.bytes_done += block.size

    def _decoding(self, mapper: Any) -> Any:
        """The mapper as one that takes records as they lie in the file."""

        def decode_and_map(place: int, raw: Any) -> Any:
            assert self._ready is not None
            record = decoded_record(self._ready, self._part, self._block, place, raw)
            return mapper(*record)

        return decode_and_map

    def _read_batches(self) -> Iterator[Iterator[Iterable[Any]]]:
        assert self._reader is not None
        for part in self._split.ranges:
            self._part = part
            self._ended = False
            yield starmap(self._mapper, self._remembered(self._reader(self._raw_lines())))
            if not self._ended:
                raise self._stopped()

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        for offset, data in line_blocks(self._part, 0, self.reading):
            self._offset = offset
            yield from zip(*split_lines(offset, data), strict=False)
            self.bytes_done += len(data)

    def _remembered(self, records: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for record in records:
            self._record = record
            self.count += 1
            yield record
        self._ended = True

    def misread(self, error: BaseException) -> str:
        """What is wrong with what the job's reader gives, if that is why the error came up."""
        if self._reader is None or not isinstance(error, TypeError) or is_pair(self._record):
            return ""
        if self._record is None:
            return f"the reader yielded no pairs (key, value) ({error}); does it lack a yield?"
        return f"the reader yielded {self._record!r:.200}: not a pair (key, value)"

    def signs(self) -> tuple[int, ...]:
        """Differs whenever one more record, or batch of them, has been read."""
        return (self.bytes_done, self.count, length_hint(self._rest), len(self._chunk))

    def _stopped(self) -> AttemptFailed:
        """`map` takes a StopIteration out of the mapper for the end of its input; it is not."""
        return AttemptFailed("the mapper raised StopIteration", where=self.where())

    def where(self) -> str:
        """File, offset and content of the record that the mapper was last called with; nothing if
        one of its hooks is at work."""
        if self.at_work != MAPPER:
            return ""
        if self.form == RECORDS and not self._one_by_one:
            return self._where_in_batch()
        if self._record is not None:
            return f"{self._part.shown}, record {self._record!r:.400}"
        if self._ready is not None:
            block = self._block
            at = max(0, len(block.raw) - length_hint(self._rest) - 1)
            if not block.raw:
                return self._part.shown
            return self._ready.where(self._part, block.places[at], block.raw[at])
        at = len(self._lines) - length_hint(self._rest) - 1
        if at < 0:
            return f"{self._part.shown}, offset {self._offset}"
        offset = next(islice(split_text(self._offset, self._data)[0], at, None))
        return f"{self._part.shown}, offset {offset}, record {self._lines[at]!r:.400}"

    def _where_in_batch(self) -> str:
        """The file, and from where to where the records at hand are."""
        if self._record is not None:
            return f"{self._part.shown}, up to the record {self._record!r:.400}"
        if self._ready is not None:
            places, unit = self._block.places, self._ready.unit
            at = f", {unit}s {places[0]} to {places[-1]}" if len(places) else ""
            return f"{self._part.shown}{at}"
        return f"{self._part.shown}, lines from offset {self._offset} on"
