"""The class form of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

Pair = tuple[Any, Any]


class MapReduce:
    """A job as a class: define ``map`` and ``reduce``, and ``combine`` if it helps.

    ``params`` of the class declares the parameters with their defaults; ``self.params`` has the
    values of this run. ``combine(self, key, values)``, ``partition(self, key, partitions)``,
    ``read(self, lines)`` and ``write(self, pairs)`` may be left undefined; they are what
    ``combiner``, ``partitioner``, ``reader`` and ``writer`` are to the module form. ``input`` (a
    path, or several), ``output`` (a directory) and ``reducers`` (a number) are what counts where
    the command line names none; relative paths are those of whoever types it. ``codecs`` and
    ``serializer`` say how values of one's own classes are carried.

    One instance is made per worker process; of a class with hooks (``map_init``, ``map_final``,
    ``reduce_init``, ``reduce_final``) one per attempt, so that what an attempt keeps in ``self``
    is its own.
    """

    params: dict[str, Any] = {}
    input: str | Sequence[str] = ()
    output: str = ""
    reducers: int | None = None
    #: Outputs by name, to which ``reduce`` writes by ``pytxmr.to``; of a dict, the writer of each.
    outputs: Sequence[str] | Mapping[str, Any] = ()

    @classmethod
    def run(cls, argv: Sequence[str] | None = None) -> NoReturn:
        """Be a program, with the command line and the exit statuses of ``pytxmr run``, but for the
        job, which is this class; it ends the process. At the end of the module::

            if __name__ == "__main__":
                WordCount.run()
        """
        # By its name: the command line is a face, and no floor below it imports one.
        end_as_program: Callable[..., NoReturn] = import_module("pytxmr.cli.program").end_as_program
        end_as_program(cls, argv)

    def map(self, key: Any, value: Any) -> Iterable[Pair]:
        """Yield pairs for one record: ``key`` is its byte offset, ``value`` its line (str)."""
        raise NotImplementedError(f"{type(self).__name__} defines no map(self, key, value)")

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Pair]:
        """Yield pairs for one key; ``values`` is an iterator that can be read once."""
        raise NotImplementedError(f"{type(self).__name__} defines no reduce(self, key, values)")

    def map_init(self) -> Iterable[Pair] | None:
        """Called once before an attempt's first record. May yield pairs, as ``map`` does."""

    def map_final(self) -> Iterable[Pair] | None:
        """Called once after an attempt's last record. May yield pairs, as ``map`` does."""

    def reduce_init(self) -> Iterable[Pair] | None:
        """Called once before an attempt's first key. May yield pairs, as ``reduce`` does."""

    def reduce_final(self) -> Iterable[Pair] | None:
        """Called once after an attempt's last key. May yield pairs, as ``reduce`` does."""
