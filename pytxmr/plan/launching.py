"""Which attempt of a job is to start next, and where. To ask changes nothing.

`plan.cluster` asks while workers are free, and tells the job what it was answered, as an event: so
a job that is made again of its log starts what it did, and need not choose again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pytxmr.model import MAP, REDUCE
from pytxmr.plan import events as ev
from pytxmr.plan.blame import Blame
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.plan.policy import choose_tracker
from pytxmr.plan.speculation import DONE
from pytxmr.plan.tasks import Task


def next_launch(
    job: JobState, free: Mapping[str, int], last: Collection[str], blame: Blame, now: float
) -> ev.Launched | None:
    """The next attempt to start, given each tracker's free workers, the trackers to use ``last``,
    and what other jobs blame on them; None if there is none."""
    if not job.active:
        return None
    return next_map(job, free, last, blame, now) or _next_reduce(job, free, now)


def next_map(
    job: JobState, free: Mapping[str, int], last: Collection[str], blame: Blame, now: float
) -> ev.Launched | None:
    """The same, but of a map. The job is active."""
    able = job.able(blame, now)
    found = job.tasks.next_map(lambda avoid: choose_tracker(free, avoid, able, last), now)
    if found is None:
        return None
    task, tracker = found
    return ev.Launched(job.job, tracker, task.next_attempt)


def _next_reduce(job: JobState, free: Mapping[str, int], now: float) -> ev.Launched | None:
    for partition in sorted(job.shuffle.whole):
        task = job.reduces[partition]
        home = job.shuffle.home[partition]
        if home in task.failed_on and now < task.rests_until:
            continue
        if task.pending and home is not None and free.get(home, 0) > 0:
            return ev.Launched(job.job, home, task.next_attempt)
    return None


# ---- backups


def next_backup(
    job: JobState, free: Mapping[str, int], last: Collection[str], blame: Blame, now: float
) -> ev.Launched | ev.BackupHome | None:
    """The next backup attempt to start, of the slowest map or reduce that has none (see
    `plan.speculation`); of a reduce, the home that it needs first. Neither goes to the tracker that
    is slow, to one on which the task has failed, or to those to use ``last`` or to avoid.
    """
    if not job.speculate or not job.active:
        return None
    shunned = job.blame.avoided(now) | blame.avoided(now) | set(last)
    return _backup_of_map(job, free, shunned, now) or _backup_of_reduce(job, free, shunned, now)


def _backup_of_map(
    job: JobState, free: Mapping[str, int], shunned: set[str], now: float
) -> ev.Launched | None:
    for task, where in job.tasks.stragglers(MAP, job.maps_done, now):
        tracker = _elsewhere(job, task, where, free, shunned)
        if tracker is not None:
            return ev.Launched(job.job, tracker, task.next_attempt)
    return None


def _backup_of_reduce(
    job: JobState, free: Mapping[str, int], shunned: set[str], now: float
) -> ev.Launched | ev.BackupHome | None:
    for partition, tracker in job.shuffle.whole_at_second():
        task = job.reduces[partition]
        if tracker not in task.running.values() and free.get(tracker, 0) > 0:
            return ev.Launched(job.job, tracker, task.next_attempt)
    if job.phase is not Phase.REDUCING or not job.can_move:
        return None
    for task, where in job.tasks.stragglers(REDUCE, job.reduces_done, now):
        another = _elsewhere(job, task, where, free, shunned)
        if another is not None:
            return ev.BackupHome(job.job, another, task.id.index)
    for task in _lagging(job, now):
        another = _elsewhere(job, task, job.shuffle.home[task.id.index], free, shunned)
        if another is not None:
            return ev.BackupHome(job.job, another, task.id.index)
    return None


def _lagging(job: JobState, now: float) -> list[Task]:
    """The reduces whose home has still not got all that they read, long after others ended."""
    if job.reduces_done < DONE * len(job.reduces) or not job.gathering.is_slow(now):
        return []
    return [
        task
        for task in job.reduces
        if task.pending and not task.backed_up and task.id.index not in job.shuffle.whole
    ]


def _elsewhere(
    job: JobState, task: Task, where: str | None, free: Mapping[str, int], shunned: set[str]
) -> str | None:
    avoid = {where, *task.failed_on, *shunned}
    able = [tracker for tracker in job.trackers if tracker not in avoid]
    return choose_tracker(free, (), able)
