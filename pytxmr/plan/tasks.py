"""A job's tasks and their attempts: what runs where, which attempt won, whose counters count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, WorkerDied
from pytxmr.model import BAD_RECORDS, MAP, REDUCE, AttemptId, TaskId
from pytxmr.plan.deadly import InVain, Search, Step
from pytxmr.plan.pending import PendingTasks
from pytxmr.plan.speculation import DONE, SLOW, Pace


@dataclass(slots=True)
class Task:
    """The work and its tries. ``winner`` is set while the task is done; ``backed_up`` once a
    backup attempt of it was started, or a second home found for one, until it has to run again;
    of a reduce that waits, once it was given another home since its first was slow."""

    id: TaskId
    running: dict[AttemptId, str] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    lost_outputs: int = 0
    failed_on: set[str] = field(default_factory=set)
    #: Until then, after a failure, no attempt starts where one has failed.
    rests_until: float = 0.0
    winner: AttemptId | None = None
    backed_up: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    #: Of what the task has put out, as others read it.
    digest: str = ""
    #: What it has written for outputs by name: name, bytes, SHA-256.
    outputs: tuple[tuple[str, int, str], ...] = ()
    #: Of a map: how often it put out something else when it ran again; and the number of the first
    #: attempt whose output may be read since.
    changes: int = 0
    oldest: int = 0
    #: A worker died over it: from then on each record is noted. ``skip``: those found to be deadly.
    careful: bool = False
    skip: tuple[tuple[int, str], ...] = ()
    #: For the record that kills workers. ``stretch``: the last of the records of which the first
    #: was skipped, as together they did; ``in_vain``: one was made already, and came to nothing.
    search: Search | None = None
    stretch: int = 0
    in_vain: bool = False
    #: The attempt whose counters count, if it has set records aside; and the first of these.
    bad_attempt: AttemptId | None = None
    first_bad: dict[str, Any] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        return self.winner is None and not self.running

    @property
    def next_attempt(self) -> AttemptId:
        return AttemptId(self.id, self.attempts)

    # ---- of a map: records that kill workers (see `plan.deadly`)

    def probes(self, attempt: AttemptId) -> bool:
        return self.search is not None and self.search.probe == attempt.number

    def window_of(self, attempt: AttemptId) -> tuple[int, int] | None:
        """The records that the attempt is a probe of; None if it is none."""
        search = self.search
        return search.window if search is not None and search.probe == attempt.number else None

    def suspects(self, error: PytxmrError, attempt: AttemptId, most: int) -> bool:
        """An attempt ended so. Does it name a record that may kill workers, which could be skipped,
        as ``most`` may be? Then that is tried alone next, and what has ended does not count against
        the task.
        """
        if not isinstance(error, WorkerDied) or self.id.kind != MAP:
            return False
        self.careful = True
        noted = self._noted(error)
        if not noted or self.search is not None or len(self.skip) >= most:
            return False
        self.search = Search.begun(attempt, error, noted)
        return True

    def searches(self, error: PytxmrError, attempt: AttemptId) -> bool:
        """It has failed too often, at last so. Is it being found out which record kills workers?"""
        dies = isinstance(error, WorkerDied) and self.id.kind == MAP
        if dies and self.search is None and not self.in_vain:
            self.search = Search.begun(attempt, error, self._noted(error))
        return self.search is not None

    def _noted(self, error: PytxmrError) -> int:
        number = error.details.get("record_number")
        skipped = any(number == known for known, _ in self.skip)
        return number if isinstance(number, int) and number > 0 and not skipped else 0

    def probed(
        self, ended: PytxmrError, most: int, max_attempts: int
    ) -> tuple[PytxmrError, AttemptId] | None:
        """A probe has ended so. Returns what the task fails of, if that is settled now, and the
        attempt that did; None if it goes on, with another probe or without."""
        search = self.search
        assert search is not None
        noted = search.step is Step.NOTED
        try:
            found = search.ended(ended)
        except InVain:
            # What killed its workers is over, it seems: it is tried as a whole once more.
            self.search, again = None, not self.in_vain
            self.in_vain = True
            return None if again else (search.error, search.attempt)
        if found is None:
            if noted and search.step is not Step.NOTED and self.failures < max_attempts:
                self.failures += 1
                if self.failures < max_attempts:
                    self.search = None
            return None
        self.search = None
        together = found.first < found.last
        if found.first and len(self.skip) < most and not (together and found.first <= self.stretch):
            more = f"; {found}" if together else ""
            self.skip += ((found.first, search.error.message + more),)
            self.stretch = max(self.stretch, found.last if together else 0)
            return None
        error = WorkerDied(f"{search.error.message}; {found}")
        error.details = search.error.details | {"where": found.where}
        return error, search.attempt


class Tasks:
    """``running_on`` counts the running attempts by tracker."""

    def __init__(self, maps: int) -> None:
        self.maps = [Task(TaskId(MAP, i)) for i in range(maps)]
        self.reduces: list[Task] = []
        self.running_on: Counter[str] = Counter()
        self.counters: dict[str, int] = {}
        # Reduces do not say how far they are before their first output, which may be their last.
        self.paces = {MAP: Pace(), REDUCE: Pace(unjudged=SLOW)}
        self._pending_maps = PendingTasks()
        for task in self.maps:
            self._pending_maps.add(task.id.index)

    def add_reduces(self, partitions: int) -> None:
        self.reduces = [Task(TaskId(REDUCE, i)) for i in range(partitions)]

    def __iter__(self) -> Iterator[Task]:
        yield from self.maps
        yield from self.reduces

    def of(self, attempt: AttemptId) -> Task | None:
        """The task of an attempt, if the job has such a task."""
        tasks = self.maps if attempt.task.kind == MAP else self.reduces
        return tasks[attempt.task.index] if attempt.task.index < len(tasks) else None

    def running(self, attempt: AttemptId, tracker: str) -> Task | None:
        """The task of an attempt that runs on that tracker; None if it no longer does."""
        task = self.of(attempt)
        return task if task is not None and task.running.get(attempt) == tracker else None

    # ---- what becomes of attempts

    def launch(self, task: Task, tracker: str, now: float) -> None:
        """The task's next attempt runs there: its first, another try, or a backup."""
        attempt = task.next_attempt
        task.backed_up = bool(task.running)
        if not task.running and task.id.kind == MAP:
            self._pending_maps.remove(task.id.index)
        task.attempts += 1
        task.running[attempt] = tracker
        if task.search is not None:
            task.search.probe = attempt.number
        self.running_on[tracker] += 1
        self.paces[task.id.kind].began(attempt, now)

    def win(
        self, task: Task, attempt: AttemptId, counters: dict[str, int], now: float
    ) -> list[tuple[AttemptId, str]]:
        """The attempt counts, and its counters do instead of those of the one before. Returns the
        attempts that it outran, which have ended, and where they ran."""
        for name, count in task.counters.items():
            self.counters[name] -= count
        for name, count in counters.items():
            self.counters[name] = self.counters.get(name, 0) + count
        task.winner, task.counters, task.search = attempt, counters, None
        self.paces[task.id.kind].succeeded(attempt, now)
        self.stop(task, attempt)
        outrun = list(task.running.items())
        for other, _ in outrun:
            self.stop(task, other)
        return outrun

    def stop(self, task: Task, attempt: AttemptId) -> None:
        """The attempt has ended; a map that none of its attempts has won waits for another one."""
        self.running_on[task.running.pop(attempt)] -= 1
        self.paces[task.id.kind].ended(attempt)
        if task.pending:
            task.backed_up = False
            if task.id.kind == MAP:
                self._wait(task)

    def stop_all(self) -> None:
        for task in self:
            task.running.clear()
        self.running_on.clear()
        for pace in self.paces.values():
            pace.clear()

    def too_many_bad(self, most: int) -> tuple[AttemptFailed, AttemptId]:
        """Why a job fails whose maps have set aside more records than the ``most`` that it may; and
        the attempt that was the first to."""
        task = next(task for task in self.maps if task.bad_attempt is not None)
        assert task.bad_attempt is not None
        error = AttemptFailed(
            f"{self.counters[BAD_RECORDS]:,} bad records are more than the {most:,} that may be "
            f"skipped; the first: {task.first_bad.get('message', 'unknown')}"
        )
        error.details = {k: v for k, v in task.first_bad.items() if k in ("where", "traceback")}
        return error, task.bad_attempt

    # ---- maps that wait

    @property
    def maps_waiting(self) -> int:
        """How many maps no attempt runs of, and none has won."""
        return len(self._pending_maps)

    def map_again(self, task: Task) -> None:
        """What the map put out is gone. Its counters stay until others take their place: a late
        arrival may do without."""
        task.winner = None
        self._wait(task)

    def _wait(self, task: Task) -> None:
        self._pending_maps.add(task.id.index, task.failed_on, task.rests_until)

    def next_map(
        self, choose: Callable[[frozenset[str]], str | None], now: float
    ) -> tuple[Task, str] | None:
        """The first map that waits for which ``choose(trackers to avoid)`` gives a tracker."""
        found = self._pending_maps.first(choose, now)
        return None if found is None else (self.maps[found[0]], found[1])

    # ---- what another worker may end sooner

    def stragglers(self, kind: str, done: int, now: float) -> Iterator[tuple[Task, str]]:
        """The maps or reduces to back up, and where each runs; the slowest first. None while too
        few of them are ``done``."""
        tasks = self.maps if kind == MAP else self.reduces
        if done < DONE * len(tasks):
            return
        for attempt in self.paces[kind].outliers(now):
            task = tasks[attempt.task.index]
            if not task.backed_up and task.search is None:
                yield task, task.running[attempt]
