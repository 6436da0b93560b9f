"""What map and reduce attempts have in common.

Attempts are what a worker process does: from input to a finished file. They are pure and
synchronous: nothing here knows of pipes, trackers or Twisted. The user's functions are driven by C
iterators (`chain.from_iterable` over `map`), chunk by chunk, so that the Python work of ours is per
chunk. What is lost by that, the record at hand when something goes wrong, is found again: from an
iterator's length hint if the user's code raised, and by doing the work once more, record by
record, if what it yielded cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytxmr.errors import Uncarryable
from pytxmr.model import JobFunctions
from pytxmr.records.codec import check_key, check_value
from pytxmr.records.combine import is_pair
from pytxmr.records.named import To
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.spill import PartitionRange
from pytxmr.records.writers import Chunk, PartFile

if TYPE_CHECKING:
    from pytxmr.records.outputs import Outputs

#: Called now and then with the fraction done, from 0 to 1.
Progress = Callable[[float], None]
#: Gives a value that changes whenever the attempt has got on.
Signs = Callable[[], Hashable]
#: Called once with an attempt's signs. They may be asked for by another thread, at any time.
Watch = Callable[[Signs], None]


def unwatched(signs: Signs) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Outcome:
    """What a finished attempt reports. ``counters`` are pytxmr's own, by name; ``first_bad`` is the
    first record that a map has set aside: ``where``, ``message``, ``traceback``. ``digest`` is of
    what it wrote: a map's spill (see `SpillWriter`), or a reduce's file, SHA-256; ``outputs`` are
    its files of outputs by name: name, bytes, SHA-256."""

    counters: dict[str, int] = field(default_factory=dict)
    ranges: list[PartitionRange] = field(default_factory=list)
    size_bytes: int = 0
    digest: str = ""
    first_bad: dict[str, str] = field(default_factory=dict)
    outputs: tuple[tuple[str, int, str], ...] = ()


def bind_sample(functions: JobFunctions, sample: list[Any]) -> None:
    """Give the job's `RangePartitioner`, if it has one, the keys of a sample of the input."""
    if isinstance(functions.partitioner, RangePartitioner):
        functions.partitioner.bind(sample)


class Files:
    """What an attempt writes that a writer makes of pairs: a file at ``path``, for its part of the
    output, and beside it one for each of the job's outputs by name."""

    def __init__(self, functions: JobFunctions, path: str, compress: str) -> None:
        self.part = PartFile(path, compress)
        self._outputs: Outputs | None = None
        if functions.outputs:
            from pytxmr.records.outputs import Outputs  # few jobs have any

            self._outputs = Outputs(functions.outputs, path, compress)

    @property
    def has_outputs(self) -> bool:
        """Are there outputs by name?"""
        return self._outputs is not None

    def rest_of(self, chunk: Chunk) -> Chunk:
        """What of a chunk goes to the part; the rest is written where it goes by name. Raises
        `AttemptFailed`."""
        return chunk if self._outputs is None else self._outputs.rest_of(chunk)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write the part, and complete and fsync all. No file is left if that fails."""
        try:
            self.part.write(pieces if self._outputs is None else self._outputs.beside(pieces))
        except BaseException:
            if self._outputs is not None:
                self._outputs.abort()
            raise

    def signs(self) -> Hashable:
        """A value that changes whenever something has been written."""
        part = self.part
        return part.size_bytes, part.sent_bytes, self._outputs and self._outputs.signs

    def outcome(self, counters: dict[str, int]) -> Outcome:
        """What the attempt reports when all is written."""
        outputs = self._outputs
        return Outcome(
            counters=counters if outputs is None else counters | outputs.counters(),
            size_bytes=self.part.size_bytes,
            digest=self.part.digest,
            outputs=() if outputs is None else outputs.written,
        )


#: What is wrong with something that somebody, as "the mapper", yielded, if anything.
Problem = Callable[[Any, str], Uncarryable | None]


def shape_problem(pair: Any, who: str) -> Uncarryable | None:
    """It must be a pair, for whatever output."""
    if is_pair(pair) or type(pair) is To:
        return None
    return Uncarryable(f"{who} yielded {pair!r:.200}: not a pair (key, value)", final=True)


def pair_problem(pair: Any, who: str) -> Uncarryable | None:
    """It must be a pair, of a key and a value that can be carried to a reducer."""
    if type(pair) is To:
        return Uncarryable(
            f"{who} yielded {pair!r:.200}, and a reducer follows: only that can write to an output "
            f"by name",
            final=True,
        )
    if not is_pair(pair):
        return shape_problem(pair, who)
    key, value = pair
    try:
        check_key(key)
        check_value(value)
    except Uncarryable as error:
        return Uncarryable(f"for the key {key!r:.200}: {error.message}", final=True)
    return None
