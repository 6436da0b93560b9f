"""A job of several steps, as the command line shows it."""

from __future__ import annotations

import os
from typing import Any

from pytxmr.cli.report import map_only, reused_text
from pytxmr.model import BAD_RECORDS, CHANGED_MAPS, MAPS_REUSED
from pytxmr.storage.output import BAD


def show_steps(whole: dict[str, Any]) -> None:
    """What a job that has succeeded did, step by step, and its counters over all of them."""
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
        print(f"  reused    {reused_text(steps)}")
    bad = [status for status in steps if status["counters"].get(BAD_RECORDS)]
    if bad:
        where = ", ".join(os.path.join(status["output"], BAD) for status in bad)
        print(f"  set aside {counters[BAD_RECORDS]:,} bad records, in {where}")
    if counters.get(CHANGED_MAPS):
        print(f"  note      {counters[CHANGED_MAPS]:,} {CHANGED_MAPS}")
    for name, value in sorted(counters.items()):
        if name.startswith("job: "):
            print(f"  counter   {name.removeprefix('job: ')}: {value:,}")
    print(f"  result    {whole['output']}")
    if whole.get("log"):
        print(f"  log       {whole['log']}")
