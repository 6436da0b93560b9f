"""Of rows that miss their target: what was reached, where the time goes, and what bounds it.

All figures are those of the results at hand, so that the text stays true when rows are measured
anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from benchmarks.results import Result
from benchmarks.rows import Row

_WORDS = 25e6
_LOOP, _WORD_COST, _SMALL_JOB = "wordcount-loop", "word-cost", "small-job"
#: Rows whose side of ours is the word count that `_WORD_COST` takes apart.
_COUNTING = ("loop", "pyspark", "dampr", "dask", "mrjob")

#: What references took, in seconds, on the machine by which the targets were set.
_SET_AT: dict[str, float] = {
    "wordcount-loop": 5.5,
    "wordcount-pyspark": 10.2,
    "wordcount-dampr": 7.5,
    "wordcount-dask": 26.0,
    "wordcount-mrjob": 65.0,
    "wordcount-own-combiner": 5.5,
    "wordcount-batch": 0.72,
    "sort-python": 1.75,
    "sort-pyspark": 12.2,
    "sort-batch": 0.64,
    "index-loop": 3.0,
    "index-pyspark": 7.0,
}


def missed(done: list[tuple[Row, Result]]) -> str:
    """The section as Markdown; empty if every row with a result meets its target."""
    results = {row.name: result for row, result in done}
    late = [
        (row, result, result.figure)
        for row, result in done
        if result.figure is not None and not row.met(result.figure)
    ]
    if not late:
        return ""
    text = "## Rows that were missed, and why\n\n"
    text += "".join(f"- {_reached(row, result, figure, results)}\n" for row, result, figure in late)
    if any(_counts_words(row) for row, _, _ in late):
        text += _word_count(results)
    return text + "\n"


def _counts_words(row: Row) -> bool:
    return row.name in {f"wordcount-{name}" for name in _COUNTING}


def _reached(row: Row, result: Result, figure: float, results: Mapping[str, Result]) -> str:
    unit = "" if row.unit == "ratio" else f" {row.unit}"
    text = f"*{row.name}*: reached {figure:.3g}{unit}, wanted {row.target:g}{unit}."
    if row.unit != "ratio":
        return text
    set_at = _SET_AT.get(row.name)
    if set_at is not None:
        reference = median(result.reference)
        text += (
            f" The reference takes {reference:.3g} s, and took {set_at:g} s where the target was"
        )
        text += f" set{_in_loops(row, reference, set_at, results)}."
    costs, small = results.get(_WORD_COST), results.get(_SMALL_JOB)
    if _counts_words(row) and costs and costs.raw and small and small.reference:
        assert row.target is not None
        mapper, start = _seconds(costs)["mapper"], median(small.reference)
        bound = (mapper + start) / median(result.reference)
        text += (
            f" The mapper alone, in two processes at once, takes {mapper:.2f} s, and Python with "
            f"Twisted {start:.2f} s to start, together {bound:.2g} of it: "
        )
        if bound > row.target:
            text += "with this mapper, two processors cannot reach the target at all."
        else:
            beyond, allowed = figure - bound, row.target - bound
            text += f"pytxmr takes {beyond:.2g} beyond that, and may take {allowed:.2g}."
    return text


def _seconds(costs: Result) -> dict[str, float]:
    """Of each step of `_WORD_COST`, with two processes at once and half of the words for each."""
    return {name: _WORDS / 2 * each / 1e9 for name, each in costs.raw["together"].items()}


def _in_loops(row: Row, reference: float, set_at: float, results: Mapping[str, Result]) -> str:
    """The same for a word count, in times of the loop: so machines of any speed compare."""
    loop = results.get(_LOOP)
    if not _counts_words(row) or row.name == _LOOP or loop is None or loop.figure is None:
        return ""
    now, then = reference / median(loop.reference), set_at / _SET_AT[_LOOP]
    return (
        f": {now:.2f} times the loop now, {then:.2f} times then, by which pytxmr, at "
        f"{loop.figure:.2f} of the loop, would be at {loop.figure / then:.2g}"
    )


def _word_count(results: Mapping[str, Result]) -> str:
    """Where the seconds of word count go, by `_WORD_COST`."""
    costs, small, whole = (results.get(name) for name in (_WORD_COST, _SMALL_JOB, _LOOP))
    if not (costs and costs.raw and small and small.ours and whole and whole.ours):
        return ""
    seconds = _seconds(costs)
    total, start = median(whole.ours), median(small.ours)
    mapper, loop, gathered = (seconds[name] for name in ("mapper", "loop", "gathered"))
    attempt = seconds["attempt"]
    parts = {
        "the user's mapper, a generator, resumed for each word": mapper,
        "words hashed, found in a table and counted": gathered - mapper,
        "what else a map attempt takes: reading, steps, sort, spill": attempt - gathered,
        "start and end of a job, as of 1 KB": start,
        "the rest: merge, reduce, output, and waiting for the other": total - start - attempt,
    }
    text = (
        f"\nWhere the {total:.3g} s of word count go, by the costs of *{_WORD_COST}*, for the "
        f"{_WORDS / 2e6:g} M words of each of two workers, measured by themselves; "
        "the last part is what is left:\n\n"
        "| part | seconds | of the whole |\n|---|--:|--:|\n"
    )
    for name, part in parts.items():
        text += f"| {name} | {part:.2f} | {100 * part / total:.0f} % |\n"
    text += (
        f"\nThe first is the user's own work: two processes at once cannot do it faster, whatever "
        f"runs them. The dict of a loop takes {loop - mapper:.2f} s where the table takes "
        f"{gathered - mapper:.2f} s. A mapper that takes many records a call (*wordcount-batch*) "
        f"does without both.\n"
    )
    return text
