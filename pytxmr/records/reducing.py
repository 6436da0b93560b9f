"""A reduce attempt: from segments to a part file (see `attempt`).

There are four ways from merged groups to output, by what the reducer is: a function, called by
`map` group by group; a fold; the identity; a function that takes batches. What comes out are
chunks, lists of pairs or `Columns`, which the writer takes as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import length_hint
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, Uncarryable
from pytxmr.model import JobFunctions, Segment
from pytxmr.records.attempt import Files, Outcome, Progress, Watch, unwatched
from pytxmr.records.batch import as_columns, batch_form
from pytxmr.records.columns import Columns, Groups, WithoutParts, whole
from pytxmr.records.combine import is_pair
from pytxmr.records.folds import Fold, Identity
from pytxmr.records.merge import SegmentMerge
from pytxmr.records.named import To
from pytxmr.records.usercode import in_user_code, not_there
from pytxmr.records.writers import WRITER, Chunk, encoded

_REDUCER = "the reducer"
#: Pairs that a reducer yields are handed on so many at a time.
_CHUNK_PAIRS = 1024
#: Partials of one key, from one batch each, are merged when there are so many.
_MOST_PARTIALS = 64


def run_reduce(
    functions: JobFunctions,
    segments: list[Segment],
    output_path: str,
    scratch: str,
    progress: Progress,
    watch: Watch = unwatched,
    compress: str = "none",
) -> Outcome:
    """Merge the segments of one partition, reduce each group, write and fsync ``output_path``,
    compressed if ``compress`` says so (see `compressed`).

    Raises `AttemptFailed` with ``where`` naming the key, or `SpillDamaged`; then no file is left.
    """
    functions = functions.fresh()
    merged = SegmentMerge(segments, scratch)
    reducing = _reducing(functions, merged)
    files = Files(functions, output_path, compress)
    named = files.has_outputs
    pairs = 0
    at_work = WRITER  # it pulls what the reducer makes

    def counted() -> Iterator[Chunk]:
        nonlocal pairs, at_work
        for who, chunks in (
            ("reduce_init()", _hook_chunks("reduce_init()", functions.reduce_init, named)),
            (_REDUCER, reducing.chunks()),
            ("reduce_final()", _hook_chunks("reduce_final()", functions.reduce_final, named)),
        ):
            at_work = who
            for chunk in chunks:
                chunk = files.rest_of(chunk)
                pairs += len(chunk)
                progress(0.5)
                at_work = WRITER
                yield chunk
                at_work = who
        at_work = WRITER

    watch(lambda: (merged.batches, files.signs(), *reducing.signs()))
    pieces = encoded(counted(), functions.writer)
    try:
        files.write(pieces)
    except BaseException as error:
        details = {"where": reducing.where()} if at_work == _REDUCER else {}
        if isinstance(error, Uncarryable) and at_work == _REDUCER:
            error.details.setdefault("where", reducing.where())
        if isinstance(error, PytxmrError):
            raise
        if isinstance(error, OSError) and not in_user_code(error):
            raise AttemptFailed(f"{output_path}: {error.strerror}") from error
        if isinstance(error, TypeError) and not in_user_code(error):
            made = "text" if at_work == WRITER else "pairs"
            raise AttemptFailed(
                f"{at_work} cannot be called, or returned no {made} ({error}); does it lack a "
                f"yield?",
                final=True,
                **details,
            ) from error
        message = f"{at_work} raised {type(error).__name__}: {error}{not_there(error)}"
        raise AttemptFailed(message, **details) from error
    finally:
        merged.close()
    return files.outcome(
        {
            "reduce input groups": reducing.groups_in,
            "reduce output records": pairs,
            "reduce output bytes": files.part.size_bytes,
        }
    )


def _hook_chunks(name: str, hook: Callable[[], Any] | None, named: bool) -> Iterator[Chunk]:
    """What a hook yields, if there is one and it yields anything."""
    result = hook() if hook is not None else None
    if result is not None:
        yield from as_columns(result, name, named)


def _reducing(functions: JobFunctions, merged: Iterable[Groups]) -> _Reducing:
    reducer = functions.reducer
    if functions.by_part:
        merged = WithoutParts(merged)
    if isinstance(reducer, Identity):
        return _Identical(merged)
    if isinstance(reducer, Fold):
        return _Folded(merged, reducer, are_partials=functions.combiner == reducer)
    if batch_form(reducer) is not None:
        return _Batched(merged, reducer, bool(functions.outputs))
    return Calls(merged, reducer, bool(functions.outputs))


class _Reducing:
    """Groups in, chunks out. ``groups_in`` counts the groups that were begun."""

    def __init__(self, merged: Iterable[Groups]) -> None:
        self._merged = merged
        self.groups_in = 0

    def chunks(self) -> Iterator[Chunk]:
        raise NotImplementedError

    def signs(self) -> tuple[int, ...]:
        """Differs whenever one more group has been begun, where that can be seen."""
        return (self.groups_in,)

    def where(self) -> str:
        """The key at hand."""
        return "before the first key"


class _Identical(_Reducing):
    def chunks(self) -> Iterator[Chunk]:
        last: list[Any] = []
        for groups in self._merged:
            self.groups_in += len(groups)
            if groups.keys[:1] == last:  # it goes on under the key that it began with
                self.groups_in -= 1
                groups.keys[:1] = last
            last = groups.keys[-1:]
            yield groups.columns()


class _Folded(_Reducing):
    def __init__(self, merged: Iterable[Groups], fold: Fold, are_partials: bool) -> None:
        super().__init__(merged)
        self._fold = fold
        self._partials = fold.merged if are_partials else fold.partials

    def chunks(self) -> Iterator[Chunk]:
        # The last group of a batch may go on in the next: its partials, one a batch, are held.
        key: list[Any] = []
        held: list[Any] = []
        for groups in self._merged:
            partials = self._each(self._partials, groups)
            keys = groups.keys
            self.groups_in += len(keys)
            if keys[:1] == key:
                self.groups_in -= 1
                held.append(partials[0])
                keys, partials = keys[1:], partials[1:]
                if not keys:
                    if len(held) == _MOST_PARTIALS:
                        held = self._merged_partials(key, held)
                    continue
            if held:
                yield self._finished(key, self._merged_partials(key, held))
            key, held = keys[-1:], partials[-1:]
            if len(keys) > 1:
                yield self._finished(keys[:-1], partials[:-1])
        if held:
            yield self._finished(key, self._merged_partials(key, held))

    def _merged_partials(self, key: list[Any], held: list[Any]) -> list[Any]:
        return self._each(self._fold.merged, Groups(key, [len(held)], held))

    def _finished(self, keys: list[Any], partials: list[Any]) -> Columns:
        finish = self._fold.finished
        groups = Groups(keys, None, partials)
        return Columns(keys, self._each(lambda some: finish(some.values), groups))

    def _each(self, function: Callable[[Groups], list[Any]], groups: Groups) -> list[Any]:
        """What the function makes of each group; `AttemptFailed` names one that it cannot take."""
        try:
            return function(groups)
        except Exception as error:
            for key, values in groups:
                try:
                    function(Groups([key], [len(values)], values))
                except Exception as found:
                    raise AttemptFailed(
                        f"folds.{self._fold.name} cannot take the values: "
                        f"{type(found).__name__}: {found}",
                        where=f"key {key!r:.400}",
                        final=True,
                    ) from found
            raise error


class _Batched(_Reducing):
    def __init__(self, merged: Iterable[Groups], reducer: Any, named: bool) -> None:
        super().__init__(merged)
        self._reducer = reducer
        self._named = named
        self._keys: list[Any] = []

    def chunks(self) -> Iterator[Chunk]:
        return as_columns(chain.from_iterable(self._results()), _REDUCER, self._named)

    def _results(self) -> Iterator[Iterable[Any]]:
        for groups in whole(self._merged):
            self._keys = groups.keys
            self.groups_in += len(groups)
            yield self._reducer(groups)

    def where(self) -> str:
        if not self._keys:
            return super().where()
        return f"keys {self._keys[0]!r:.200} to {self._keys[-1]!r:.200}"


class Calls(_Reducing):
    """``reducer(key, values)`` for each group; ``values`` is an iterator that is read once.

    A group may be larger than memory: the values of a batch's last key pull the next batches as
    they are read. Values that the reducer leaves unread are skipped. If ``named``, it may yield
    `To` as well as pairs.
    """

    def __init__(self, merged: Iterable[Groups], reducer: Any, named: bool = False) -> None:
        super().__init__(merged)
        self._reducer = reducer
        self._named = named
        self._keys: list[Any] = []
        self._rest: Iterator[Any] = iter(())
        self._batches: Iterator[Groups] = iter(())
        self._next: Groups | None = None
        self._chunk: list[Any] = []
        self._values: Iterator[Any] = iter(())
        self._failure: BaseException | None = None

    def chunks(self) -> Iterator[Chunk]:
        stream = self.pairs()
        while chunk := self._next_chunk(stream):
            if set(map(type, chunk)) != {tuple} or set(map(len, chunk)) != {2}:
                self._check(chunk)
            yield chunk

    def _next_chunk(self, stream: Iterator[Any]) -> list[Any]:
        chunk = self._chunk = []
        chunk += islice(stream, _CHUNK_PAIRS)
        return chunk

    def signs(self) -> tuple[int, ...]:
        """Differs also whenever a pair has been yielded, or a long group's value been read."""
        at = (length_hint(self._rest), length_hint(self._values), len(self._chunk))
        return (self.groups_in, *at)

    def pairs(self) -> Iterator[Any]:
        """What the reducer yields for all groups, one after the other."""
        return chain.from_iterable(chain.from_iterable(self._results()))

    def _check(self, chunk: list[Any]) -> None:
        for pair in chunk:
            if not self._fits(pair):
                raise AttemptFailed(
                    f"the reducer yielded {pair!r:.200}: not a pair (key, value)",
                    where=self._where_again() or self.where(),
                    final=True,
                )

    def _fits(self, pair: Any) -> bool:
        return is_pair(pair) or (self._named and type(pair) is To)

    def _where_again(self) -> str:
        """At which key the first thing came that is no pair: found by reducing once more."""
        again = Calls(self._merged, self._reducer)
        try:
            for pair in again.pairs():
                if not self._fits(pair):
                    return again.where()
        except Exception:
            pass
        return ""

    def _results(self) -> Iterator[Iterable[Iterable[Any]]]:
        self._batches = iter(self._merged)
        self._next = next(self._batches, None)
        while self._next is not None:
            groups = self._next
            last = len(groups) - 1
            if last:
                # There is a key more than groups of values, and `map` takes the key first.
                self._keys, self._rest = groups.keys, iter(groups.keys)
                yield map(self._reducer, self._rest, groups.part(0, last).iterators())
                if length_hint(self._rest):
                    raise self._stopped()
                self.groups_in += last
            yield from self._last_group(groups.part(last, last + 1))

    def _last_group(self, group: Groups) -> Iterator[Iterable[Iterable[Any]]]:
        self._keys, self._rest = group.keys, iter(())
        self.groups_in += 1
        values = self._to_the_end(group)
        try:
            result = self._reducer(group.keys[0], values)
        except StopIteration:
            raise self._stopped() from None
        yield (result,)
        for _ in values:
            pass
        if self._failure is not None:
            raise self._failure

    def _to_the_end(self, group: Groups) -> Iterator[Any]:
        """The group's values, and after them those that it has in the next batches."""
        key = group.keys
        while True:
            self._values = iter(group.values)
            yield from self._values
            try:
                following = self._next = next(self._batches, None)
            except BaseException as error:
                # A reducer may swallow it, but must not go on as if this were the end.
                self._failure = error
                raise
            # Comparing lists, not keys: identity counts first, so that NaN equals itself.
            if following is None or following.keys[:1] != key:
                return
            group = following.part(0, 1)
            if len(following) > 1:
                self._next = following.part(1, len(following))
                yield from group.values
                return

    def _stopped(self) -> AttemptFailed:
        """`map` takes a StopIteration out of the reducer for the end of the groups; it is not."""
        return AttemptFailed("the reducer raised StopIteration", where=self.where())

    def where(self) -> str:
        if not self._keys:
            return super().where()
        at = len(self._keys) - length_hint(self._rest) - 1
        return f"key {self._keys[at]!r:.400}"
