"""A map attempt: from a split to a spill (see `attempt`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import chain, islice, starmap
from operator import length_hint
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, Uncarryable
from pytxmr.model import BAD_RECORDS, InputSplit, JobFunctions
from pytxmr.records.attempt import (
    Outcome,
    Problem,
    Progress,
    Watch,
    in_user_code,
    pair_problem,
    shape_problem,
    unwatched,
)
from pytxmr.records.batch import BUFFER_BYTES, as_columns, batch_form
from pytxmr.records.codec import check_key
from pytxmr.records.columns import Groups
from pytxmr.records.combine import is_pair
from pytxmr.records.folds import Fold
from pytxmr.records.formats import Block, Reader, as_they_are, blocks_of, decoded, decoded_record
from pytxmr.records.quarantine import Quarantine, checked
from pytxmr.records.readers import TEXT_CHUNK_BYTES, Reading, line_blocks, split_lines, split_text
from pytxmr.records.sortbuffer import SortBuffer
from pytxmr.records.writers import WRITER, Chunk, PartFile, encoded

MAPPER = "the mapper"
#: Pairs that go to a writer are handed on so many at a time.
_CHUNK_PAIRS = 1024


def sample_keys(functions: JobFunctions, split: InputSplit, most: int) -> list[Any]:
    """The first ``most`` keys at the most that the mapper yields for a split, up to an error.

    An error is not this function's to tell: the job will run into it, and say where.
    """
    keys: list[Any] = []
    try:
        for pair in islice(_pairs(_Records(split, functions.fresh())), most):
            if is_pair(pair):
                check_key(pair[0])
                keys.append(pair[0])
    except (Exception, SystemExit):
        pass
    return keys


def _pairs(records: _Records) -> Iterator[Any]:
    """What the mapper yields, pair by pair, also if it is a batch mapper."""
    if records.form is None:
        return records.mapped()
    found = as_columns(records.mapped(), MAPPER)
    return chain.from_iterable(columns.pairs() for columns in found)


class _Records:
    """The records of a split, as batches for `map`, remembering which one is at hand."""

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
        if isinstance(self._reader, Reader):
            self._ready, self._reader = self._reader, None
            if self._one_by_one:
                self._mapper = self._decoding(self._mapper)
        self._init, self._final = functions.map_init, functions.map_final
        self.form = batch_form(functions.mapper)
        self._part = split.ranges[0]
        self._line_by_line = False
        if bad is not None:
            self._mapper = bad.mapper(
                self._mapper, self.form, self._reader is not None, lambda: self._part.path, problem
            )
            self._reader = self._reader and bad.reader(self._reader)
            self._line_by_line = bad.most > 0
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
            yield from as_columns(stream, MAPPER)
            return
        while True:
            # The list grows while the mapper yields, so that it shows how far that is.
            chunk = self._chunk = []
            chunk += islice(stream, _CHUNK_PAIRS)
            if not chunk:
                return
            if (set(map(type, chunk)) != {tuple} or set(map(len, chunk)) != {2}) and not all(
                map(is_pair, chunk)
            ):
                raise TypeError("something in the stream is not a pair")
            yield chunk

    def results(self) -> Iterator[Any]:
        """What each call of the mapper returns, and before and after them those of its hooks."""
        if self.form is not None:
            results = self._batch_results()
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
        if self._record is not None:
            return f"{self._part.path}, record {self._record!r:.400}"
        if self._ready is not None:
            block = self._block
            at = max(0, len(block.raw) - length_hint(self._rest) - 1)
            if not block.raw:
                return self._part.path
            return self._ready.where(self._part, block.places[at], block.raw[at])
        at = len(self._lines) - length_hint(self._rest) - 1
        if at < 0:
            return f"{self._part.path}, offset {self._offset}"
        offset = next(islice(split_text(self._offset, self._data)[0], at, None))
        return f"{self._part.path}, offset {offset}, record {self._lines[at]!r:.400}"


def run_map(
    functions: JobFunctions,
    split: InputSplit,
    spill_path: str,
    partitions: int,
    buffer_bytes: int,
    progress: Progress,
    codec: str = "none",
    bad: Quarantine | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Map a split into one spill at ``spill_path``.

    Raises `AttemptFailed` with the user's error as its cause and ``where`` naming the record, or
    `Uncarryable`, which has the user's ``yield`` in its own traceback; then no file is left. With
    ``bad``, records at which the mapper raises are set aside there, as long as they are few enough.
    """
    rest = (functions, split, spill_path, partitions, buffer_bytes, progress, codec, watch)
    return _setting_aside(lambda bad: _run_map(*rest, bad), bad)


def map_to_part(
    functions: JobFunctions,
    split: InputSplit,
    output_path: str,
    progress: Progress,
    bad: Quarantine | None = None,
    watch: Watch = unwatched,
    compress: str = "none",
) -> Outcome:
    """Map a split into a part file, which is fsynced, at ``output_path``: no reducer follows.
    ``compress``: see `compressed`.

    What the mapper yields goes to the writer in the order in which it comes, and need not be what
    can be carried. Raises as `run_map` does, and ``bad`` is what it is there.
    """
    rest = (functions, split, PartFile(output_path, compress), progress, watch)
    return _setting_aside(lambda bad: _map_to_part(*rest, bad), bad)


def _setting_aside(run: Callable[[Quarantine | None], Outcome], bad: Quarantine | None) -> Outcome:
    if bad is None:
        return run(None)
    if not bad.careful:
        try:
            return run(None)
        except AttemptFailed:
            pass  # Which record it was, or that it was none, shows when it comes again.
    try:
        bad.begin()
        outcome = run(bad)
        bad.finish()
    except OSError as error:
        bad.discard()
        raise AttemptFailed(f"cannot set records aside: {error}") from error
    except BaseException:
        bad.discard()
        raise
    if bad.count:
        outcome.counters[BAD_RECORDS] = bad.count
        outcome.first_bad = bad.first
    return outcome


def _run_map(
    functions: JobFunctions,
    split: InputSplit,
    spill_path: str,
    partitions: int,
    buffer_bytes: int,
    progress: Progress,
    codec: str,
    watch: Watch,
    bad: Quarantine | None,
) -> Outcome:
    functions = functions.fresh()
    combiner = functions.combiner
    buffer = SortBuffer(
        spill_path, partitions, buffer_bytes, functions.partitioner, combiner, codec
    )
    records = _Records(split, functions, bad)
    watch(lambda: (*records.signs(), *buffer.signs()))
    total = max(1, split.size_bytes)
    try:
        if records.form is None:
            stream = records.mapped()
            while buffer.fill(stream):
                progress(min(1.0, records.reading.done / total))
        else:
            for columns in as_columns(records.mapped(), MAPPER):
                buffer.add(columns.keys, columns.values)
                progress(min(1.0, records.reading.done / total))
        ranges = buffer.finish()
    except BaseException as error:
        buffer.abort()
        _tell(error, records, _Careful(functions, split, bad), spill_path)
        raise
    return Outcome(
        counters={
            "map input records": records.count,
            "map input bytes": records.bytes_done,
            "map output records": buffer.pairs_in,
            "spilled records": buffer.spilled_pairs,
            "map output bytes": sum(part.length for part in ranges),
        },
        ranges=ranges,
        digest=buffer.digest,
    )


def _map_to_part(
    functions: JobFunctions,
    split: InputSplit,
    part: PartFile,
    progress: Progress,
    watch: Watch,
    bad: Quarantine | None,
) -> Outcome:
    functions = functions.fresh()
    records = _Records(split, functions, bad, shape_problem)
    pairs = 0
    total = max(1, split.size_bytes)

    def counted() -> Iterator[Chunk]:
        nonlocal pairs
        records.at_work = MAPPER
        for chunk in records.chunks():
            pairs += len(chunk)
            progress(min(1.0, records.bytes_done / total))
            mapping, records.at_work = records.at_work, WRITER
            yield chunk
            records.at_work = mapping
        records.at_work = WRITER

    watch(lambda: (*records.signs(), pairs, part.size_bytes))
    records.at_work = WRITER  # it pulls what the mapper makes
    try:
        part.write(encoded(counted(), functions.writer))
    except BaseException as error:
        careful = _Careful(replace(functions, combiner=None), split, bad, shape_problem)
        _tell(error, records, careful, part.path)
        raise
    return Outcome(
        counters={
            "map input records": records.count,
            "map input bytes": records.bytes_done,
            "map output records": pairs,
            "map output bytes": part.size_bytes,
        },
        size_bytes=part.size_bytes,
        digest=part.digest,
    )


def _tell(error: BaseException, records: _Records, careful: _Careful, path: str) -> None:
    """Raise what says more of an error that came up while a map was writing to ``path``; return
    if the error itself says all."""
    who, where = records.at_work, records.where()
    if isinstance(error, PytxmrError):
        if isinstance(error, Uncarryable):
            careful.explain()
            error.details.setdefault("where", where)
        return
    if not in_user_code(error):
        if isinstance(error, KeyboardInterrupt):
            return
        if isinstance(error, OSError):
            raise AttemptFailed(f"{path}: {error.strerror}") from error
        if who != WRITER:
            careful.explain()
        if isinstance(error, TypeError) and (who == WRITER or records.form is not None):
            made = "text" if who == WRITER else "pairs"
            raise AttemptFailed(
                f"{who} cannot be called, or returned no {made} ({error}); lacks it a yield?",
                where=where,
                final=True,
            ) from error
    raise AttemptFailed(f"{who} raised {type(error).__name__}: {error}", where=where) from error


class _Careful:
    """Reads a split record by record to find the one that yields what cannot be used."""

    def __init__(
        self,
        functions: JobFunctions,
        split: InputSplit,
        bad: Quarantine | None,
        problem: Problem = pair_problem,
    ) -> None:
        self._functions = functions
        self._combiner = functions.combiner
        self._split = split
        self._bad = bad
        self._pair_problem = problem
        self._records: _Records
        self._partials: dict[Any, Any] = {}

    def explain(self) -> None:
        """Raise `Uncarryable` naming record, key and type, or `AttemptFailed` if it is the job's
        fold that cannot take a value; return if nothing is found.

        The user's code may raise this time: then that is the `AttemptFailed` raised.
        """
        if self._bad is not None:
            self._bad.begin()
        functions = self._functions.fresh()
        self._records = records = _Records(self._split, functions, self._bad, self._pair_problem)
        if records.form is not None:
            return self._explain_batches(records)
        try:
            for result in records.results():
                for _ in checked(result, self._problem, records.at_work):
                    pass
        except AttemptFailed as error:
            error.details.setdefault("where", records.where())
            raise error from None
        except PytxmrError:
            raise
        except BaseException as error:
            message = f"{records.at_work} raised {type(error).__name__}: {error}"
            raise AttemptFailed(message, where=records.where()) from error

    def _explain_batches(self, records: _Records) -> None:
        try:
            # Batch by batch: those after the one at fault must not be read before it is found.
            for result in records.results():
                for columns in as_columns(result, records.at_work):
                    for pair in columns.pairs():
                        problem = self._problem(pair)
                        if problem is not None:
                            raise problem
        except AttemptFailed as error:
            error.details.setdefault("where", records.where())
            raise error from None
        except Exception:
            return  # the first run's error is the one to tell

    def _problem(self, pair: Any) -> AttemptFailed | None:
        found = self._pair_problem(pair, self._records.at_work)
        return found or self._fold_problem(*pair)

    def _fold_problem(self, key: Any, value: Any) -> AttemptFailed | None:
        """Can the job's fold, if it has one, take this value, too?"""
        fold = self._combiner
        if not isinstance(fold, Fold):
            return None
        try:
            (partial,) = fold.partials(Groups([key], None, [value]))
            if key in self._partials:
                (partial,) = fold.merged(Groups([key], [2], [self._partials[key], partial]))
        except Exception as error:
            return AttemptFailed(
                f"folds.{fold.name} cannot take the value {value!r:.200}: "
                f"{type(error).__name__}: {error}",
                final=True,
            )
        if not isinstance(partial, set):  # sets take in what is hashable, and cost much to merge
            self._partials[key] = partial
        return None
