"""What people see: progress, summary, errors, tables."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, Protocol, TextIO

from pytxmr.errors import PytxmrError
from pytxmr.model import BAD_RECORDS, CHANGED_MAPS, MAPS_REUSED, REDUCES_REUSED, step_label
from pytxmr.records.named import BYTES, RECORDS

_LINE_SECONDS = 10.0
UNCUT = "large files cannot be cut, as they are compressed: one map each"


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
        if "steps" in status:
            from pytxmr.cli.steps import show_steps

            show_steps(status)
        else:
            show_summary(status)

    def error(self, error: PytxmrError) -> None:
        show_error(error)


class ProgressShown:
    """A bar on a terminal; elsewhere a line per phase, and one every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._phase = ("", "")
        self._told = 0.0

    def show(self, status: dict[str, Any]) -> None:
        if self._bar:
            self._draw(status)
            return
        now = time.monotonic()
        phase = (status["job"], status["phase"])
        if phase != self._phase or now - self._told > _LINE_SECONDS:
            self._phase, self._told = phase, now
            self._stream.write(f"{step_label(status)}{status['job']} {_progress_text(status)}\n")
            self._stream.flush()

    def _draw(self, status: dict[str, Any]) -> None:
        columns = shutil.get_terminal_size().columns
        text = f"{step_label(status)}{status['job']} {_progress_text(status)}"
        text += f" {status['seconds']:.0f} s"
        width = max(10, min(40, columns - len(text) - 4))
        done = round(width * fraction_done(status))
        bar = "█" * done + "░" * (width - done)
        self._stream.write(f"\r\x1b[K{f'{bar} {text}'[: columns - 1]}")
        self._stream.flush()

    def close(self) -> None:
        if self._bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def fraction_done(status: dict[str, Any]) -> float:
    """How much of the job is done: maps count for two thirds, reduces for one."""
    if status["outcome"]:
        return 1.0
    maps = status["maps_done"] + status["fraction_running"]
    reduces = status["reduces_done"] + status["fraction_reducing"]
    mapped = min(1.0, maps / status["maps"]) if status["maps"] else 1.0
    reduced = min(1.0, reduces / status["reduces"]) if status["reduces"] else 0.0
    if map_only(status):
        return mapped
    return float(2 * mapped + reduced) / 3


def map_only(status: dict[str, Any]) -> bool:
    """Is it a job without reduces? Until it starts, that is not known of any."""
    return not status["reduces"] and status["phase"] != "queued"


def _progress_text(status: dict[str, Any]) -> str:
    text = f"{status['phase']}: map {status['maps_done']}/{status['maps']}"
    if not map_only(status):
        text += f", reduce {status['reduces_done']}/{status['reduces']}"
    return text + (f", {status['failures']} failed" if status["failures"] else "")


def show_status(status: dict[str, Any], stream: TextIO | None = None) -> None:
    """A job as `pytxmr status` shows it."""
    out = stream or sys.stdout
    print(f"{status['job']} {status['outcome'] or status['phase']}  {status['name']}", file=out)
    current = status.get("current")
    if current:
        text = f"{step_label(current)}{current['job']} {_progress_text(current)}"
        print(f"  {text}, {current['running']} running", file=out)
    elif status["phase"] != "waiting":
        print(f"  {_progress_text(status)}, {status['running']} running", file=out)
    if MAPS_REUSED in status["counters"]:
        print(f"  reused {reused_text([status])}", file=out)
    for text in status["doing"]:
        print(f"  {text}", file=out)
    if status["error"]:
        print(f"  {status['error']['message']}", file=out)


def show_summary(status: dict[str, Any], stream: TextIO | None = None) -> None:
    """What an ended job did: records, bytes, time per phase, counters."""
    out = stream or sys.stdout
    count = status["counters"].get
    direct = map_only(status)
    print(
        f"{status['job']} {status['outcome']} in {status['seconds']:.2f} s: {status['maps']} maps"
        + ("" if direct else f", {status['reduces']} reduces")
        + (f", {status['failures']} attempts failed" if status["failures"] else ""),
        file=out,
    )
    rows = [
        ("input", "map input records", "map input bytes"),
        ("mapped", "map output records", None),
        ("spilled", "spilled records", "map output bytes"),
        ("output", "reduce output records", "reduce output bytes"),
    ]
    if direct:
        rows = [rows[0], ("output", "map output records", "map output bytes")]
    of = f"{RECORDS} of "
    rows += [
        (f"to {name}", f"{of}{name}", f"{BYTES} of {name}")
        for name in (key.removeprefix(of) for key in status["counters"] if key.startswith(of))
    ]
    for name, records, octets in rows:
        text = f"  {name:<9} {count(records, 0):>14,} records"
        print(text + (f" {count(octets, 0):>16,} bytes" if octets else ""), file=out)
    phases = ("mapping", "committing") if direct else ("mapping", "reducing", "committing")
    times = [f"{name} {status['phase_seconds'].get(name, 0.0):.2f} s" for name in phases]
    print(f"  time      {', '.join(times)}", file=out)
    if MAPS_REUSED in status["counters"]:
        print(f"  reused    {reused_text([status])}", file=out)
    if status.get("uncut"):  # a jobtracker may know of jobs from before it was counted
        print(f"  note      {status['uncut']:>14,} {UNCUT}", file=out)
    if count(BAD_RECORDS):
        place = os.path.join(status["output"], "_bad")
        print(f"  set aside {count(BAD_RECORDS):>14,} bad records, in {place}", file=out)
    if count(CHANGED_MAPS):
        print(f"  note      {count(CHANGED_MAPS):>14,} {CHANGED_MAPS}", file=out)
    for name, value in sorted(status["counters"].items()):
        if name.startswith("job: "):
            print(f"  counter   {name.removeprefix('job: ')}: {value:,}", file=out)
    if status["outcome"] == "succeeded":
        print(f"  result    {status['output']}", file=out)
    if status.get("log"):
        print(f"  log       {status['log']}", file=out)


def reused_text(statuses: list[dict[str, Any]]) -> str:
    """Of how many tasks the results were kept from before, in all of the jobs."""
    told = []
    for name, what in ((MAPS_REUSED, "maps"), (REDUCES_REUSED, "reduces")):
        every = sum(status[what] for status in statuses)
        if every:
            reused = sum(status["counters"].get(name, 0) for status in statuses)
            told.append(f"{reused:,} of {every:,} {what}")
    return ", ".join(told)


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
