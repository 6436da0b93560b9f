"""A map attempt: from a split to a spill (see `attempt`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, Uncarryable
from pytxmr.model import BAD_RECORDS, InputSplit, JobFunctions
from pytxmr.records.attempt import (
    Files,
    Outcome,
    Problem,
    Progress,
    Watch,
    pair_problem,
    shape_problem,
    unwatched,
)
from pytxmr.records.batch import as_columns, pairs_of
from pytxmr.records.codec import check_key
from pytxmr.records.columns import Groups
from pytxmr.records.combine import is_pair
from pytxmr.records.folds import Fold
from pytxmr.records.mapcalls import MAPPER, MapCalls
from pytxmr.records.quarantine import Quarantine, checked
from pytxmr.records.sortbuffer import SortBuffer
from pytxmr.records.usercode import in_user_code, not_there
from pytxmr.records.writers import WRITER, Chunk, encoded


def sample_keys(functions: JobFunctions, split: InputSplit, most: int) -> list[Any]:
    """The first ``most`` keys at the most that the mapper yields for a split, up to an error.

    An error is not this function's to tell: the job will run into it, and say where.
    """
    keys: list[Any] = []
    try:
        for pair in islice(_pairs(MapCalls(split, functions.fresh())), most):
            if is_pair(pair):
                check_key(pair[0])
                keys.append(pair[0])
    except (Exception, SystemExit):
        pass
    return keys


def _pairs(records: MapCalls) -> Iterator[Any]:
    """What the mapper yields, pair by pair, also if it is a batch mapper."""
    if records.form is None:
        return records.mapped()
    found = as_columns(records.mapped(), MAPPER)
    return chain.from_iterable(columns.pairs() for columns in found)


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
    rest = (functions, split, output_path, compress, progress, watch)
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
    records = MapCalls(split, functions, bad)
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
    output_path: str,
    compress: str,
    progress: Progress,
    watch: Watch,
    bad: Quarantine | None,
) -> Outcome:
    functions = functions.fresh()
    files = Files(functions, output_path, compress)
    records = MapCalls(split, functions, bad, shape_problem)
    pairs = 0
    total = max(1, split.size_bytes)

    def counted() -> Iterator[Chunk]:
        nonlocal pairs
        records.at_work = MAPPER
        for chunk in records.chunks():
            chunk = files.rest_of(chunk)
            pairs += len(chunk)
            progress(min(1.0, records.bytes_done / total))
            mapping, records.at_work = records.at_work, WRITER
            yield chunk
            records.at_work = mapping
        records.at_work = WRITER

    watch(lambda: (*records.signs(), pairs, files.signs()))
    records.at_work = WRITER  # it pulls what the mapper makes
    pieces = encoded(counted(), functions.writer)
    try:
        files.write(pieces)
    except BaseException as error:
        careful = _Careful(replace(functions, combiner=None), split, bad, shape_problem)
        _tell(error, records, careful, output_path)
        raise
    return files.outcome(
        {
            "map input records": records.count,
            "map input bytes": records.bytes_done,
            "map output records": pairs,
            "map output bytes": files.part.size_bytes,
        }
    )


def _tell(error: BaseException, records: MapCalls, careful: _Careful, path: str) -> None:
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
        if problem := records.misread(error):
            raise AttemptFailed(problem, where=where, final=True) from error
        if who != WRITER:
            careful.explain()
        if isinstance(error, TypeError) and (who == WRITER or records.form is not None):
            made = "text" if who == WRITER else "pairs"
            raise AttemptFailed(
                f"{who} cannot be called, or returned no {made} ({error}); does it lack a yield?",
                where=where,
                final=True,
            ) from error
    message = f"{who} raised {type(error).__name__}: {error}{not_there(error)}"
    raise AttemptFailed(message, where=where) from error


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
        self._records: MapCalls
        self._partials: dict[Any, Any] = {}

    def explain(self) -> None:
        """Raise `Uncarryable` naming record, key and type, or `AttemptFailed` if it is the job's
        fold that cannot take a value; return if nothing is found.

        The user's code may raise this time: then that is the `AttemptFailed` raised.
        """
        if self._bad is not None:
            self._bad.begin()
        functions = self._functions.fresh()
        self._records = records = MapCalls(self._split, functions, self._bad, self._pair_problem)
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

    def _explain_batches(self, records: MapCalls) -> None:
        try:
            # Batch by batch: those after the one at fault must not be read before it is found.
            for result in records.results():
                for columns in as_columns(result, records.at_work, named=True):
                    for pair in pairs_of(columns):
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
