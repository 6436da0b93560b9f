"""Who is told what becomes of a job, such as a person at a terminal; errors; tables."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from pytxmr.cli.progress import ProgressShown
from pytxmr.errors import PytxmrError


class Face(Protocol):
    """Where it is told what becomes of a job."""

    def progress(self, status: dict[str, Any]) -> None:
        """How far it is: called several times a second, until it has ended."""

    def close(self) -> None:
        """There is no more progress."""

    def summary(self, status: dict[str, Any]) -> None:
        """It has succeeded."""

    def error(self, error: PytxmrError) -> None:
        """It, or the command, has failed."""


class Terminal:
    """Tells people: progress and errors on stderr, the summary on stdout."""

    def __init__(self) -> None:
        self._shown = ProgressShown()

    def progress(self, status: dict[str, Any]) -> None:
        self._shown.show(status)

    def close(self) -> None:
        self._shown.close()

    def summary(self, status: dict[str, Any]) -> None:
        # Not at the top, for what it imports: worker processes are started before that.
        from pytxmr.cli.summary import show_summary

        show_summary(status)

    def error(self, error: PytxmrError) -> None:
        show_error(error)


def show_error(error: PytxmrError) -> None:
    """An error on stderr: the user's traceback first, ours never; then where, log and cause."""
    out = sys.stderr
    details = error.details
    if details.get("traceback"):
        print(str(details["traceback"]).rstrip("\n"), file=out)
    if details.get("log"):
        print(f"--- log of {details.get('attempt', 'the attempt')}", file=out)
        print(str(details["log"]).rstrip("\n"), file=out)
        print("---", file=out)
    if details.get("where"):
        print(f"at {details['where']}", file=out)
    if details.get("split"):
        print(f"in the split {details['split']}", file=out)
    print(f"pytxmr: {error.message}", file=out)


def show_table(rows: list[list[str]]) -> None:
    """Left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
