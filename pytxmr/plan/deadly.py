"""Which record of a split kills its workers: what is tried, and what follows from that.

A careful attempt notes each record before the mapper is given it, so the next one knows which was
at hand as its worker died. That need not be the one at fault: what a native library was given may
kill the process some records later, while pairs are sorted or combined, or in `map_final`. So a
record that was noted is tried alone before it is skipped; and where a task would fail since its
workers die, whatever was noted, the records at fault are searched for. Each step is a *probe*: an
attempt whose mapper is given the records of a window only, in a worker of its own, and whose output
is thrown away. To be given more records, it is assumed, cures nothing::

    noted ── is it the record that was noted, by itself?
    none ─── is it any record at all? says how many there are, too
    prefix ─ the fewest first records of which it dies, by halves: the last of them takes part in it
    alone ── does it do so by itself?
    again ── does the worker die of those first records indeed? or else the search was in vain
    suffix ─ if not of the last by itself: the most that can be left out from the beginning
    sure ─── and of what is left, indeed?
    look ─── where is the first of these?

So a search takes at most 2 log2(records) + 7 probes. None of them counts against the task. Workers
that die now and then, of no record, would have to do so twice, at the right moments, to mislead it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pytxmr.errors import PytxmrError, WorkerDied
from pytxmr.model import AttemptId

#: Probes that may end otherwise than by an answer, such as by a full disk or at a limit.
MOST_SPOILT = 4


class Step(StrEnum):
    NOTED = "noted"
    NONE = "none"
    PREFIX = "prefix"
    ALONE = "alone"
    AGAIN = "again"
    SUFFIX = "suffix"
    SURE = "sure"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Culprits:
    """Records ``first`` to ``last`` kill workers, counted from 1 over the split: one by itself, or
    the first of them, as it shows at the last; 0: it is no record. ``where``: the first of them.
    """

    first: int
    last: int
    where: str = ""

    def __str__(self) -> str:
        if not self.last:
            return "it dies also if the mapper is given no record"
        if self.first == self.last:
            return f"it dies of record {self.last:,} of the split"
        return (
            f"it dies of records {self.first:,} to {self.last:,} of the split together, and lives "
            "without the first or the last of them"
        )


class InVain(Exception):
    """A search has ended, and has found nothing."""


@dataclass(slots=True)
class Search:
    """Begun since ``attempt`` died of ``error``; ``probe`` is the number of the attempt at hand."""

    attempt: AttemptId
    error: PytxmrError = field(compare=False)
    step: Step
    #: Of *prefix* and *suffix*: so many first records are known to be too few, or to be one too
    #: many; of `look`, so many come before.
    low: int = 0
    high: int = 0
    #: The record that is tried alone, or the last of the fewest of which workers die.
    last: int = 0
    probe: int = -1
    spoilt: int = 0
    where: str = ""
    #: How the last ended that was tried alone.
    alone: str = ""

    @classmethod
    def begun(cls, attempt: AttemptId, error: PytxmrError, noted: int) -> Search:
        """``noted``: the record that was at hand; 0 if that is not known."""
        return cls(attempt, error, Step.NOTED if noted else Step.NONE, last=noted)

    @property
    def window(self) -> tuple[int, int]:
        """Of which records the next probe is: those after the first so many, up to that one."""
        middle = (self.low + self.high) // 2
        match self.step:
            case Step.NONE:
                return 0, 0
            case Step.PREFIX:
                return 0, middle
            case Step.AGAIN:
                return 0, self.last
            case Step.SUFFIX:
                return middle, self.last
            case Step.SURE:
                return self.low, self.last
            case Step.LOOK:
                return self.low, self.low + 1
        return self.last - 1, self.last

    def ended(self, error: PytxmrError) -> Culprits | None:
        """The probe has ended so. None: there is another to be made. Raises `InVain`."""
        died, told = isinstance(error, WorkerDied), error.details
        if not died and not told.get("survived"):
            self.spoilt += 1
            if self.spoilt == MOST_SPOILT:
                raise InVain
            return None
        raised, where = bool(told.get("raised")), str(told.get("where", ""))
        middle = (self.low + self.high) // 2
        match self.step:
            case Step.NOTED:
                if died:
                    return Culprits(self.last, self.last, where)
                self.step = Step.NONE
            case Step.NONE:
                records = told.get("records")
                if died:
                    return Culprits(0, 0)
                if not isinstance(records, int) or records < 1:
                    raise InVain
                self.step, self.low, self.high = Step.PREFIX, 0, records
            case Step.PREFIX:
                self.low, self.high = (self.low, middle) if died else (middle, self.high)
            case Step.ALONE:
                self.step, self.where = Step.AGAIN, where
                self.alone = "died" if died else "raised" if raised else ""
            case Step.AGAIN:
                if not died or (self.last == 1 and not self.alone):
                    raise InVain
                if self.alone:
                    return Culprits(self.last, self.last, self.where)
                self.step, self.low, self.high = Step.SUFFIX, 0, self.last - 1
            case Step.SUFFIX:
                if raised:  # it needs what comes before it, which says nothing against that
                    return Culprits(self.last, self.last, self.where)
                self.low, self.high = (middle, self.high) if died else (self.low, middle)
            case Step.SURE:
                if not died:
                    raise InVain
                self.step = Step.LOOK
            case Step.LOOK:
                return Culprits(self.low + 1, self.last, where)
        if self.high - self.low == 1 and self.step is Step.PREFIX:
            self.step, self.last = Step.ALONE, self.high
        elif self.high - self.low == 1 and self.step is Step.SUFFIX:
            self.step = Step.SURE
        return None
