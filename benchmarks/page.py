"""The page that people read: table, method, machine, versions, and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from benchmarks.inputs import SEED
from benchmarks.missed import missed
from benchmarks.results import Result
from benchmarks.rows import Row

PLOT = "benchmarks.svg"

_HEAD = """\
# Benchmarks

What pytxmr takes, beside what people would otherwise use. `make bench` writes this page, and
[benchmarks.json](benchmarks.json) with the raw figures of every run.

"""

_METHOD = """\
## Method

- Whole commands: start-up, reading, work, and the output written, from the command's start to its
  end, unless the row says otherwise. pytxmr runs on two worker processes; every other side on two
  processes or threads, but for the loops, which have one.
- Both sides run by turns, the reference first. *ratio* is the median of the ratios of each turn's
  pair, so that what slows the machine down for a while slows both; seconds are medians.
- After every run the outputs of both sides are compared: line by line after sorting, of sorts the
  parts one after the other, byte by byte. A difference fails the benchmark.
- Inputs come from the seed {seed}. Text is words of a vocabulary of 50,000 by Zipf's law (s=1.07),
  twelve a line, eight bytes a word with its space, so 25 M words in 200 MB; what is larger is those
  200 MB over and over. Lines to sort have 100 random bytes; a sort's output is globally ordered.
  The index has, for each word, the offset of every line that the word is in; nothing is combined.
  Of the join's rows nine in ten match one row. All input is in the page cache before a row begins.
- The jobs are in [benchmarks/jobs](../benchmarks/jobs), the others' programs in
  [benchmarks/peers](../benchmarks/peers), each in the best form that we know for it; of word count,
  with the generator that is pytxmr's mapper. Each peer has a virtual environment of its own.
  Spark's driver has 4 GB; mrjob encodes with ujson.
- *wordcount-uncompiled*, *wordcount-two-loops*, *word-cost* and *wordcount-dask-frequencies* have
  no target. The first is what one gets where there is no C compiler when pytxmr is installed: pairs
  are gathered in a dict. The second is what two processes can do with that dict at best. The third
  says where the time of word count goes.
- *codec-lz4* and *codec-zstd* say why maps' output is stored as it is by default, and what a codec
  or checksum costs; *shuffle-sizes* says why the shuffle has the sizes that it has, socket buffers
  being the system's own. They have no target. *install-size* is read from a new virtual
  environment.
- The rows named *faults* run on clusters of real daemons on loopback: a jobtracker with its log,
  and three trackers of one worker. Each run has a cluster of its own, whose start and end are not
  timed; of each pair the first is undisturbed. A tracker or the jobtracker is killed by SIGKILL
  when half of the pair's undisturbed time has passed; the jobtracker is started again at once, the
  tracker is not. A tracker that is slowed tenfold is stopped, with its worker, for nine tenths of
  the time. *faults-no-backups* says what backups save, and has no target. *faults-cost* and
  *faults-cost-cluster* are undisturbed runs against pytxmr as it was at the commit before the work
  on faults began; of these there are two pairs for each run that is asked for.

## Repeat it

    make bench                           # all rows, five runs of most; over an hour
    make bench ROWS=list                 # the names of the rows
    make bench ROWS=wordcount RUNS=3     # those whose names contain this, three runs each

Rows that are measured replace those on this page; the others stay, each with its own date. A peer
that cannot be installed is in the table with the reason. The exit status is 1 if outputs differ or
pytxmr fails; a missed target only shows in the table. `make bench-micro` compares codec, checksums,
compression, folds, sort buffer and merge with plain loops, and fails if one takes too many times as
long.
"""


def page(rows: Iterable[Row], results: dict[str, Result], plotted: bool) -> str:
    """The page as Markdown, of the rows that have results."""
    done = [(row, results[row.name]) for row in rows if row.name in results]
    text = _HEAD + _table(done) + "\n"
    text += f"![ratio by row, and where it must stand]({PLOT})\n\n" if plotted else ""
    notes = [f"- *{row.name}*: {note}" for row, result in done for note in result.notes]
    if notes:
        text += "## Notes\n\n" + "\n".join(notes) + "\n\n"
    text += missed(done)
    return text + _METHOD.format(seed=SEED) + "\n" + _where(result for _, result in done)


def _table(done: list[tuple[Row, Result]]) -> str:
    lines = [
        "| row | work | against | runs | pytxmr | reference | ratio | wanted | met |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row, result in done:
        wanted = met = ""
        if row.target is not None:
            wanted = f"{'≥' if row.at_least else '≤'} {row.target:g}" + _unit(row)
        if result.figure is None:
            cells = ["", "", "", "", wanted, f"no result: {result.error}"]
        else:
            if row.target is not None:
                met = "yes" if row.met(result.figure) else "**no**"
            figure = f"{result.figure:.3g}" if abs(result.figure) < 100 else f"{result.figure:.0f}"
            cells = [str(len(result.ours)), _seconds(result.ours), _seconds(result.reference)]
            cells += [figure + _unit(row), wanted, met]
        texts = [row.name, row.work, row.against, *cells]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    return "\n".join(lines) + "\n"


def _unit(row: Row) -> str:
    return "" if row.unit == "ratio" else f" {row.unit}"


def _seconds(seconds: list[float]) -> str:
    """The median, in the unit in which it reads best."""
    if not seconds:
        return ""
    middle = median(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if middle >= size / 10 or unit == "ns":
            break
    return f"{middle / size:.3g} {unit}"


def _where(results: Iterable[Result]) -> str:
    """Machines and versions; a paragraph for each set of rows that share them."""
    alike: dict[str, list[Result]] = {}
    for result in results:
        alike.setdefault(repr(result.machine), []).append(result)
    text = "## Machine and versions\n"
    for some in alike.values():
        if len(alike) > 1:
            text += f"\nRows {', '.join(result.name for result in some)}:\n"
        text += "\n" + "\n".join(f"- {name}: {value}" for name, value in some[0].machine.items())
        text += "\n"
    text += "\n| measured | rows | versions |\n|---|---|---|\n"
    together: dict[tuple[str, str], list[str]] = {}
    for some in alike.values():
        for result in some:
            versions = ", ".join(f"{name} {which}" for name, which in result.versions.items())
            together.setdefault((result.measured.split()[0], versions), []).append(result.name)
    for (day, versions), names in together.items():
        text += f"| {day} | {', '.join(names)} | {versions} |\n"
    return text
