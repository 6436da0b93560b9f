"""Which running attempts are so slow that a second attempt elsewhere is likely to end first.

The method is Hadoop's speculative execution as LATE improved it (M. Zaharia, A. Konwinski, A. D.
Joseph, R. Katz, I. Stoica, "Improving MapReduce Performance in Heterogeneous Environments", OSDI
2008): of a phase that nears its end, the attempt whose estimated time left is longest gets a
backup first. The time left is ``(1 - fraction) / rate``, with ``rate = fraction / time run``, so
that an attempt which has shown no progress at all counts as one that never ends.

An attempt is an outlier if its time left is well above what attempts that succeeded took in all,
their median, since that is what a backup will take. A reduce that does not even begin, since what
it reads does not arrive, is compared by how long the others took from then on until they were done.
LATE's bound on backups at a time is not needed: they get only workers for which nothing else is
left to do.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from pytxmr.model import AttemptId

#: How many medians an attempt must have left, or a partition must have waited. A backup repeats
#: all of the work, and a healthy attempt on a large split has up to one median left.
SLOW = 1.5
#: An attempt younger than this is not judged: it may have shown no progress only because
#: heartbeats, which carry it, come once a second.
YOUNGEST_SECONDS = 2.0
#: The part of a phase's tasks that must be done before its stragglers are looked for.
DONE = 0.5


@dataclass(slots=True)
class Run:
    """An attempt that runs, from when on, and how much of it is done."""

    began: float
    fraction: float = 0.0

    def seconds_left(self, now: float) -> float:
        if self.fraction <= 0.0:
            return float("inf")
        return (1.0 - self.fraction) * (now - self.began) / self.fraction


class Pace:
    """How fast the attempts of one phase go. Times are seconds of the caller's clock.

    ``unjudged``: for how many medians an attempt may run before it is judged.
    """

    def __init__(self, unjudged: float = 1.0) -> None:
        self._unjudged = unjudged
        self._runs: dict[AttemptId, Run] = {}
        self._seconds: list[float] = []

    def began(self, attempt: AttemptId, now: float) -> None:
        self._runs[attempt] = Run(now)

    def progressed(self, attempt: AttemptId, fraction: float) -> None:
        """``fraction``: how much of its work a running attempt has done, from 0 to 1."""
        run = self._runs.get(attempt)
        if run is not None:
            # Never less than before: heartbeats may be late.
            run.fraction = max(run.fraction, min(1.0, fraction))

    def succeeded(self, attempt: AttemptId, now: float) -> None:
        insort(self._seconds, now - self._runs[attempt].began)

    def ended(self, attempt: AttemptId) -> None:
        del self._runs[attempt]

    def clear(self) -> None:
        self._runs.clear()

    def outliers(self, now: float) -> list[AttemptId]:
        """The attempts that a backup may outrun, the slowest first; none before one succeeded."""
        if not self._seconds:
            return []
        median = self._seconds[len(self._seconds) // 2]
        found = [
            (-left, attempt)
            for attempt, run in self._runs.items()
            if now - run.began >= max(YOUNGEST_SECONDS, self._unjudged * median)
            and (left := run.seconds_left(now)) > SLOW * median
        ]
        return [attempt for _, attempt in sorted(found)]


class Gathering:
    """How long partitions take from when all that they read is there until they are reduced."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._seconds: list[float] = []

    def begins(self, now: float) -> None:
        """All maps are done, or a partition has moved: none has had longer since."""
        self._began = now

    def reduced(self, now: float) -> None:
        """A partition is reduced."""
        insort(self._seconds, now - self._began)

    def is_slow(self, now: float) -> bool:
        """Do those that wait still take much longer than the others took?"""
        took = self._seconds
        return bool(took) and now - self._began > max(YOUNGEST_SECONDS, SLOW * took[len(took) // 2])
