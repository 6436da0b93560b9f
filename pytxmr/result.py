"""What a job that has succeeded has left: its output, its counters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Self, TypeVar

from pytxmr.errors import BadInput, JobFailed, PytxmrError
from pytxmr.model import FileRange, step_label
from pytxmr.records.pairfile import pairs_in
from pytxmr.records.readers import line_blocks
from pytxmr.storage.places import output_at

Failure = TypeVar("Failure", bound=PytxmrError)

_USER_COUNTER = "job: "


@dataclass(frozen=True, slots=True)
class Output:
    """The part files of an output, in order, and what is in them: iterate over it for pairs."""

    _files: list[FileRange]

    @property
    def parts(self) -> list[str]:
        """Their paths."""
        return [file.path for file in self._files]

    def lines(self) -> Iterator[str]:
        """The lines of all parts, in order, without their ends."""
        return chain.from_iterable(map(_lines_of, self._files))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for file in self._files:
            pairs = pairs_in(file)
            if pairs is not None:
                yield from pairs
                continue
            for line in _lines_of(file):
                key, tab, value = line.partition("\t")
                yield key, value if tab else None


@dataclass(frozen=True, slots=True)
class Result:
    """A job's output, pair by pair: iterate over it, as often as you like.

    ``output``: the directory; ``counters``: the job's own, by name; ``totals``: those of pytxmr,
    such as ``map output records``; ``seconds``: from its submission to its end.
    """

    output: str
    counters: dict[str, int]
    totals: dict[str, int] = field(repr=False)
    seconds: float

    @classmethod
    def of(cls, status: dict[str, Any]) -> Self:
        """From the last status of a job. Raises `JobFailed` if it has not succeeded."""
        if status["outcome"] != "succeeded":
            raise with_notes(failure_of(status))
        counters = status["counters"].items()
        return cls(
            status["output"],
            {
                name.removeprefix(_USER_COUNTER): n
                for name, n in counters
                if name.startswith(_USER_COUNTER)
            },
            {name: n for name, n in counters if not name.startswith(_USER_COUNTER)},
            status["seconds"],
        )

    @property
    def parts(self) -> list[str]:
        """The paths of the part files, in order, as ``_SUCCESS`` lists them."""
        return self._main().parts

    @property
    def outputs(self) -> dict[str, Output]:
        """The outputs that the job declares by name; each has ``parts``, ``lines()`` and pairs."""
        listed = self._manifest().get("outputs", {})
        return {name: self._of(parts) for name, parts in listed.items()}

    def _manifest(self) -> dict[str, Any]:
        found = output_at(self.output, "").manifest()
        if "parts" not in found:
            raise BadInput(f"{self.output} has no _SUCCESS that can be read")
        return found

    def _main(self) -> Output:
        return self._of(self._manifest()["parts"])

    def _of(self, listed: list[dict[str, Any]]) -> Output:
        places = ((os.path.join(self.output, part["name"]), part["bytes"]) for part in listed)
        return Output([FileRange(path, 0, size) for path, size in places])

    def lines(self) -> Iterator[str]:
        """The lines of all parts, in order, without their ends."""
        return self._main().lines()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Key and value of each pair: as they were if `writers.msgpack` wrote them; as text if it
        was the default writer, where a line without a tab gives the line and None."""
        return iter(self._main())


def _lines_of(file: FileRange) -> Iterator[str]:
    for _, data in line_blocks(file):
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        if not lines[-1]:
            lines.pop()
        yield from lines


def failure_of(status: dict[str, Any]) -> JobFailed:
    """Why a job, by its last status, has not succeeded."""
    error = dict(status["error"] or {})
    message = error.pop("message", "it did not succeed")
    if status["outcome"] == "failed":
        message = f"{step_label(status)}{status['job']}: {message}"
    return JobFailed(message, **error)


def with_notes(error: Failure) -> Failure:
    """The error with what people want to know of it: shown below it where nobody catches it, the
    user's exception above it if it is the cause."""
    details = error.details
    if details.get("traceback") and error.__cause__ is None:
        error.add_note(str(details["traceback"]).rstrip("\n"))
    if details.get("where"):
        error.add_note(f"at {details['where']}")
    if details.get("log"):
        error.add_note(f"--- log of {details.get('attempt', 'the attempt')}\n{details['log']}---")
    return error
