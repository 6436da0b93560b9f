"""A job as ``pytxmr status`` shows it, and what one that has succeeded did."""

from __future__ import annotations

import os
from typing import Any

from pytxmr.cli.progress import map_only, progress_text
from pytxmr.model import BAD_RECORDS, CHANGED_MAPS, MAPS_REUSED, REDUCES_REUSED, step_label
from pytxmr.records.named import BYTES, RECORDS
from pytxmr.storage.output import BAD

_UNCUT = "large files cannot be cut, as they are compressed: one map each"


def show_status(status: dict[str, Any]) -> None:
    """A job as `pytxmr status` shows it."""
    print(f"{status['job']} {status['outcome'] or status['phase']}  {status['name']}")
    current = status.get("current")
    if current:
        text = f"{step_label(current)}{current['job']} {progress_text(current)}"
        print(f"  {text}, {current['running']} running")
    elif status["phase"] != "waiting":
        print(f"  {progress_text(status)}, {status['running']} running")
    if MAPS_REUSED in status["counters"]:
        print(f"  reused {_reused_text([status])}")
    for text in status["doing"]:
        print(f"  {text}")
    if status["error"]:
        print(f"  {status['error']['message']}")


def show_summary(status: dict[str, Any]) -> None:
    """What a job that has succeeded did: records, bytes, time per phase, counters. Of one with
    steps it is told of each, and the counters are those of all."""
    if "steps" in status:
        _show_steps(status)
    else:
        _show_job(status)
    for name, value in sorted(status["counters"].items()):
        if name.startswith("job: "):
            print(f"  counter   {name.removeprefix('job: ')}: {value:,}")
    print(f"  result    {status['output']}")
    chain = status.get("chain") or []
    if status["job"] in chain[:-1]:
        step, steps = status["step"]
        whole = f"for all of them: pytxmr wait {chain[-1]}"
        print(f"  steps     this was {step} of {steps}; {whole}")
    if status.get("log"):
        print(f"  log       {status['log']}")


def _show_job(status: dict[str, Any]) -> None:
    count = status["counters"].get
    direct = map_only(status)
    print(
        f"{status['job']} {status['outcome']} in {status['seconds']:.2f} s: {status['maps']} maps"
        + ("" if direct else f", {status['reduces']} reduces")
        + (f", {status['failures']} attempts failed" if status["failures"] else "")
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
        print(text + (f" {count(octets, 0):>16,} bytes" if octets else ""))
    phases = ("mapping", "committing") if direct else ("mapping", "reducing", "committing")
    times = [f"{name} {status['phase_seconds'].get(name, 0.0):.2f} s" for name in phases]
    print(f"  time      {', '.join(times)}")
    if MAPS_REUSED in status["counters"]:
        print(f"  reused    {_reused_text([status])}")
    if status.get("uncut"):  # a jobtracker may know of jobs from before it was counted
        print(f"  note      {status['uncut']:>14,} {_UNCUT}")
    if count(BAD_RECORDS):
        place = os.path.join(status["output"], BAD)
        print(f"  set aside {count(BAD_RECORDS):>14,} bad records, in {place}")
    if count(CHANGED_MAPS):
        print(f"  note      {count(CHANGED_MAPS):>14,} {CHANGED_MAPS}")


def _show_steps(whole: dict[str, Any]) -> None:
    steps = whole["steps"]
    count = f"{len(steps)} steps" if len(steps) > 1 else "1 step"
    print(
        f"{count} succeeded in {whole['seconds']:.2f} s"
        + (f", {whole['failures']} attempts failed" if whole["failures"] else "")
    )
    rows = [["STEP", "JOB", "SECONDS", "MAPS", "REDUCES", "READ", "SHUFFLED", "WRITTEN"]]
    for status in steps:
        written = "map output records" if map_only(status) else "reduce output records"
        row = [str(status["step"][0]), status["job"], f"{status['seconds']:.2f}"]
        row += [str(status["maps"]), str(status["reduces"])]
        counted = ("map input records", "spilled records", written)
        rows.append(row + [f"{status['counters'].get(name, 0):,}" for name in counted])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {'  '.join(cells)}")
    counters = whole["counters"]
    if MAPS_REUSED in counters:
        print(f"  reused    {_reused_text(steps)}")
    bad = [status for status in steps if status["counters"].get(BAD_RECORDS)]
    if bad:
        where = ", ".join(os.path.join(status["output"], BAD) for status in bad)
        print(f"  set aside {counters[BAD_RECORDS]:,} bad records, in {where}")
    if counters.get(CHANGED_MAPS):
        print(f"  note      {counters[CHANGED_MAPS]:,} {CHANGED_MAPS}")


def _reused_text(statuses: list[dict[str, Any]]) -> str:
    """Of how many tasks the results were kept from before, in all of the jobs."""
    told = []
    for name, what in ((MAPS_REUSED, "maps"), (REDUCES_REUSED, "reduces")):
        every = sum(status[what] for status in statuses)
        if every:
            reused = sum(status["counters"].get(name, 0) for status in statuses)
            told.append(f"{reused:,} of {every:,} {what}")
    return ", ".join(told)
