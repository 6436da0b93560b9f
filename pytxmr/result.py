"""What a job that has succeeded has left: its output, its counters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Self, TypeVar

from pytxmr.errors import JobFailed, PytxmrError
from pytxmr.model import FileRange, step_label
from pytxmr.records.pairfile import pairs_in
from pytxmr.records.readers import line_blocks

Failure = TypeVar("Failure", bound=PytxmrError)

_USER_COUNTER = "job: "


@dataclass(frozen=True, slots=True)
class Output:
    """The part files of an output, in order, and what is in them: iterate over it for pairs."""

    parts: list[str]

    def lines(self) -> Iterator[str]:
        """The lines of all parts, in order, without their ends."""
        return chain.from_iterable(map(_lines_of, self.parts))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for path in self.parts:
            pairs = pairs_in(path)
            if pairs is not None:
                yield from pairs
                continue
            for line in _lines_of(path):
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
        return self._paths(self._manifest()["parts"])

    @property
    def outputs(self) -> dict[str, Output]:
        """The outputs that the job declares by name; each has ``parts``, ``lines()`` and pairs."""
        listed = self._manifest().get("outputs", {})
        return {name: Output(self._paths(parts)) for name, parts in listed.items()}

    def _manifest(self) -> dict[str, Any]:
        with open(os.path.join(self.output, "_SUCCESS"), encoding="utf-8") as file:
            return dict(json.load(file))

    def _paths(self, listed: list[dict[str, Any]]) -> list[str]:
        return [os.path.join(self.output, part["name"]) for part in listed]

    def lines(self) -> Iterator[str]:
        """The lines of all parts, in order, without their ends."""
        return Output(self.parts).lines()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Key and value of each pair: as they were if `writers.msgpack` wrote them; as text if it
        was the default writer, where a line without a tab gives the line and None."""
        return iter(Output(self.parts))


def _lines_of(path: str) -> Iterator[str]:
    for _, data in line_blocks(FileRange(path, 0, os.path.getsize(path))):
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
