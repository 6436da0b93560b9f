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
_LOOP, _TWO_LOOPS = "wordcount-loop", "wordcount-two-loops"
_WORD_COST, _SMALL_JOB = "word-cost", "small-job"
#: Rows whose side of ours is the word count that `_WORD_COST` takes apart, and that is raced
#: against two bare loops.
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
    two_loops = results.get(_TWO_LOOPS)
    if _counts_words(row) and two_loops is not None and two_loops.figure is not None:
        assert row.target is not None
        bound = figure / two_loops.figure
        text += f" Two bare loops are at {bound:.2g} of it: "
        if bound > row.target:
            text += "with this mapper, two processors cannot reach the target at all."
        else:
            beyond, allowed = figure - bound, row.target - bound
            text += f"pytxmr takes {beyond:.2g} beyond that, and may take {allowed:.2g}."
    return text


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
    each = costs.raw["together"]
    seconds = {name: _WORDS / 2 * each[name] / 1e9 for name in each}
    total, start = median(whole.ours), median(small.ours)
    mapper, loop, attempt = (seconds[name] for name in ("mapper", "loop", "attempt"))
    parts = {
        "the user's mapper, a generator, resumed for each word": mapper,
        "a dict entry looked up and stored for each word, as in the loop": loop - mapper,
        "what a map attempt takes beyond the loop: split, buffer, sort, spill": attempt - loop,
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
    least = loop + start
    text += (
        f"\nThe first two are the user's own work, {100 * loop / total:.0f} % of the whole: two "
        f"processes at once cannot do it faster, whatever runs them. With the start of a job they "
        f"are {least:.2f} s; if all else took no time, pytxmr would be at "
        f"{least / median(whole.reference):.2f} of the loop in one process. A mapper that takes "
        f"many records a call (*wordcount-batch*) does without both.\n"
    )
    return text
