"""All jobs that the jobtracker knows, those of its earlier lives included, and what clients may do
with them: submit, look, wait, kill, destroy.

A job of this life has a `JobLife`; of one that ended in an earlier life there is its last status.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.errors import NotFound, PeerBroke, PytxmrError, Stale, TrackerLost, Unreachable
from pytxmr.followers import Followers
from pytxmr.joblife import JobLife
from pytxmr.loggedplan import LoggedPlan, once
from pytxmr.model import JobSpec, TaskId, checked_job_id
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import JobState, Outcome, Phase
from pytxmr.roster import RETURN_SECONDS, Roster
from pytxmr.state import Logs, State
from pytxmr.storage.places import output_at
from pytxmr.submission import Chain, Submission, Turn, plan_job, with_differences

#: Ended jobs that are still listed; older ones are forgotten.
MOST_ENDED_JOBS = 200
#: The longest that `wait` holds its answer back.
MOST_WAIT_SECONDS = 20.0
#: What jobs are given to end, when the jobtracker stops for good.
END_SECONDS = 5.0
#: Jobs that may follow one.
MOST_STEPS = 1000
#: Logs of attempts that one answer has.
MOST_LOGS = 20
#: Until it is looked again whether a tracker is back.
_LOOK_AGAIN_SECONDS = 0.1

_OWNER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_log = Logger()


class JobBook:
    """``lives`` are in the order in which the jobs were submitted."""

    def __init__(self, reactor: Any, plan: LoggedPlan, roster: Roster, state: State) -> None:
        self.lives: dict[str, JobLife] = {}
        self._reactor = reactor
        self._plan = plan
        self._roster = roster
        self._state = state
        self._running = False
        self._history: dict[str, dict[str, Any]] = {}
        #: For each job those who wait for its end.
        self._waiting: dict[str, dict[Deferred[None], None]] = {}
        #: The job of each owner that is known; and those whose submission is under way.
        self._jobs_of: dict[str, str] = {}
        self._submitting: dict[str, Deferred[None]] = {}
        self._followers = Followers(
            reactor, state, self.lives, self._plan_turn, self._answer_waiting
        )
        #: The numbers of the jobs of which there was a record when this life began.
        self._remembered: set[int] = set()

    # ---- jobs of earlier lives

    async def discard_reserved(self) -> None:
        """Remove the outputs of submissions that were cut off."""
        for owner, path in self._state.reserved().items():
            await self._in_thread(output_at(path, owner).discard)
            self._state.release(owner)

    async def restore(self, logs: Logs) -> None:
        """Take up the jobs that are remembered; their logs are taken out of ``logs``."""
        records = self._state.remembered()
        self._remembered = {record["number"] for record in records}
        for record in records:
            if "status" in record:
                await self._restore_ended(record)
            elif "turn" in record:
                self._restore_turn(Turn.from_plain(record))
            else:
                submission = Submission.from_plain(record)
                await self._restore_job(submission, logs.pop(submission.job, []))

    async def _restore_ended(self, record: dict[str, Any]) -> None:
        status = record["status"]
        if not status["outcome"]:  # written by a version that did not go on with its jobs
            await self._in_thread(_settle, status, record["owner"])
            self._state.remember(record["number"], record)
        self._history[status["job"]] = status
        self._jobs_of[record["owner"]] = status["job"]

    async def _restore_job(
        self, submission: Submission, log: list[tuple[ev.Event | JobState, float]]
    ) -> None:
        if not log:
            output = output_at(submission.spec.output, submission.owner)
            await self._in_thread(output.discard)
            if submission.number in submission.chain.numbers[1:]:
                self._restore_turn(submission.turn)
            else:  # its submission was cut off, and nobody was told of it
                self._state.forget(submission.number)
            return
        life = self.begin(submission)
        self._plan.restore_job(life.job, log)
        life.notice_phase()
        _log.info("{job} goes on: {phase}", job=life.job, phase=life.state.phase.value)

    def _restore_turn(self, turn: Turn) -> None:
        self._jobs_of[turn.owner] = turn.job
        self._followers.restore(turn)

    def start(self) -> None:
        """Take submissions; do again what the jobtracker itself was about to do."""
        self._running = True
        self._followers.start(self._history)
        for life in self.lives.values():
            for order in life.state.own_orders():
                life.carry_out(order)

    async def stop(self) -> None:
        """Take no more submissions. If the state is kept, jobs that run go on in the next life;
        else they end first, cleanly."""
        self._running = False
        self._followers.stop()
        if not self._state.durable:
            await self._end_jobs()
        for job in list(self._waiting):
            self._answer_waiting(job)

    async def _end_jobs(self) -> None:
        running = [life for life in self.lives.values() if life.state.phase is not Phase.ENDED]
        for life in running:
            self._plan.feed(ev.KillJob(life.job, "the jobtracker stopped"))
        waiting = DeferredList([once(life.ended) for life in running])
        waiting.addTimeout(END_SECONDS, self._reactor, onTimeoutCancel=lambda *_: None)
        await waiting

    # ---- jobs begin

    async def submit(self, plain: dict[str, Any], owner: Any, later: Any = ()) -> str:
        """Plan the input, reserve the output, queue the job. Raises `BadInput`, `PeerBroke`.

        ``owner`` is 32 hexadecimal digits, which the client has drawn: repeated with the same, the
        answer is the same job. ``later``: in what those differ from it that are to follow it, one
        behind the other. The answer is the last of them.
        """
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            raise PeerBroke("a job's owner is not 32 hexadecimal digits")
        if not isinstance(later, list | tuple) or len(later) > MOST_STEPS:
            raise PeerBroke("the jobs that follow are no list of some")
        specs = [JobSpec.from_plain(plain), *with_differences(plain, list(later))]
        while owner in self._submitting:
            await once(self._submitting[owner])
        if owner not in self._jobs_of:
            done: Deferred[None] = Deferred()
            self._submitting[owner] = done
            try:
                await self._submit(specs, owner)
            finally:
                del self._submitting[owner]
                done.callback(None)
        job = self._jobs_of[owner]
        return str((self.status(job).get("chain") or [job])[-1])

    async def _submit(self, specs: list[JobSpec], owner: str) -> None:
        first, *later = specs

        def numbered() -> Turn:
            numbers = tuple(self._state.next_number("job") for _ in specs)
            chain = Chain(numbers, tuple(later)) if later else Chain()
            return Turn(numbers[0], first, owner, time.time(), chain)

        await self._queue(first, owner, numbered)
        self._forget_old_jobs()
        await self._plan.when_logged()

    async def _plan_turn(self, turn: Turn) -> None:
        def still() -> Turn:
            if not self._followers.is_turn(turn.job):
                raise Stale(f"{turn.job} was killed")
            return turn

        await self._queue(turn.spec, turn.owner, still)

    async def _queue(self, spec: JobSpec, owner: str, numbered: Callable[[], Turn]) -> None:
        """Plan a job, and tell the plan of it. ``numbered`` gives it its number, or raises."""
        output = output_at(spec.output, owner)
        trackers = self._plan.cluster.trackers.values()
        workers = sum(tracker.workers for tracker in trackers)
        self._state.reserve(owner, spec.output)
        try:
            splits, uncut = await self._in_thread(plan_job, spec, output, workers, len(trackers))
        except Exception:
            if self._running:
                self._state.release(owner)
            raise
        try:
            if not self._running:
                raise Stale("the jobtracker is stopping")
            turn = numbered()
            submission = Submission(
                turn.number,
                spec,
                splits,
                owner,
                secrets.token_bytes(32),
                turn.submitted_at,
                uncut,
                turn.chain,
            )
            self._state.remember(turn.number, submission.to_plain(), owner=owner)
        except PytxmrError:
            await self._in_thread(output.discard)
            if self._running:
                with suppress(PytxmrError):  # Else the next life does it.
                    self._state.release(owner)
            raise
        life = self.begin(submission)
        _log.info("{job} is {name}, {maps} maps", job=life.job, name=spec.name, maps=len(splits))
        self._plan.feed(submission.event())

    def begin(self, submission: Submission) -> JobLife:
        """The life of a job that the plan is to be told of next."""
        plan = self._plan
        life = JobLife(
            submission, plan.cluster.jobs, self._roster.call, plan.feed, self._reactor, plan.now
        )
        self.lives[life.job] = life
        self._jobs_of[submission.owner] = life.job
        self._followers.begun(submission)
        ended = once(life.ended)
        ended.addCallback(lambda _: Deferred.fromCoroutine(self._ended(life)))
        ended.addErrback(lambda failure: _log.failure("{job} has ended", failure, job=life.job))
        ended.addCallback(lambda _: self._answer_waiting(life.job))
        return life

    # ---- jobs end

    async def _ended(self, life: JobLife) -> None:
        self._plan.end_log(life.job)
        await self._followers.job_ended(
            life, lambda job: int(job.removeprefix("Job")) in self._remembered
        )
        try:
            self._remember_end(life.job, life.owner)
        except PytxmrError as error:
            # Its log says the same, and stays until the next life has read it.
            _log.warn("the end of {job} is not recorded: {error}", job=life.job, error=error)
        self._followers.go_on()

    def _remember_end(self, job: str, owner: str) -> None:
        """Put a summary of an ended job in the place of its log."""
        number = int(job.removeprefix("Job"))
        record = {"number": number, "owner": owner, "status": self.status(job)}
        self._state.remember(number, record, over=job)

    def _forget_old_jobs(self) -> None:
        ended = [job for job, life in self.lives.items() if life.ended.called]
        for job in ended[:-MOST_ENDED_JOBS]:
            del self._jobs_of[self.lives[job].owner], self.lives[job], self._plan.cluster.jobs[job]

    def over(self, jobs: list[Any]) -> dict[str, bool]:
        """Those of the jobs that have ended, and whether what they put out is kept."""
        lives = {job: self.lives.get(checked_job_id(job)) for job in jobs}
        return {
            job: bool(self._history.get(job, {}).get("kept")) if life is None else life.state.keeps
            for job, life in lives.items()
            if life is None or life.state.phase in (Phase.ENDING, Phase.ENDED)
        }

    # ---- how far they are

    def progressed(self, tracker: str, progress: list[Any]) -> None:
        """What runs on a tracker, and what it says of it; of what no longer runs there nothing."""
        seen: dict[str, dict[str, tuple[float, str]]] = {}
        for job, attempt, fraction, status in progress:
            seen.setdefault(job, {})[attempt] = (float(fraction), str(status)[:200])
        for life in self.lives.values():
            if life.state.active:
                prefix = {k: v for k, v in life.progress.items() if not _of(tracker, k)}
                life.progress = prefix | {
                    f"{name}@{tracker}": value for name, value in seen.get(life.job, {}).items()
                }

    def jobs(self, every: bool) -> list[dict[str, Any]]:
        """The statuses of this life's jobs; of ``every`` one, also those of earlier lives."""
        statuses = list(self._history.values()) if every else []
        statuses += [life.status() for life in self.lives.values()]
        # Those that follow others have their numbers before their turn comes.
        return sorted(statuses + self._followers.statuses(), key=_number)

    def status(self, job: Any) -> dict[str, Any]:
        past = self._history.get(checked_job_id(job)) or self._followers.given_up.get(job)
        if past is None and self._followers.is_ahead(job):
            return self._followers.status(job)
        return past or self._life(job).status()

    def _life(self, job: Any) -> JobLife:
        found = self.lives.get(checked_job_id(job))
        if found is None:
            raise NotFound(f"there is no {job}; `pytxmr jobs` lists them")
        return found

    async def wait(self, job: Any, seconds: float) -> dict[str, Any]:
        """The job's status, as soon as it has ended or ``seconds`` have passed."""
        if not self._is_over(job):
            # Not by `once`: what that leaves at the job's own adds up, with one who asks for days.
            ended: Deferred[None] = Deferred()
            ended.addTimeout(
                min(max(0.0, seconds), MOST_WAIT_SECONDS),
                self._reactor,
                onTimeoutCancel=lambda *_: None,
            )
            # In the order in which they asked: not a set, whose order is another in each process.
            waiting = self._waiting.setdefault(job, {})
            waiting[ended] = None
            await ended
            waiting.pop(ended, None)
        return self.status(job)

    def _is_over(self, job: Any) -> bool:
        """Raises `NotFound`."""
        if checked_job_id(job) in self._history or job in self._followers.given_up:
            return True
        return not self._followers.is_ahead(job) and self._life(job).ended.called

    def _answer_waiting(self, job: str) -> None:
        for waiting in list(self._waiting.pop(job, ())):
            if not waiting.called:
                waiting.callback(None)

    # ---- what is left of them

    async def kill(self, job: Any, reason: str) -> dict[str, Any]:
        """End the job, with all that were submitted with it; answers when nothing of it is left."""
        chain = self.status(job).get("chain") or [job]
        for one in chain:
            if one in self.lives:
                self._plan.feed(ev.KillJob(one, reason))
        await self._followers.kill(chain, reason)
        return await self.wait(job, MOST_WAIT_SECONDS)

    async def destroy(self, job: Any) -> None:
        """Drop what is kept of an ended job: spills and logs at the trackers. Raises `PytxmrError`
        if one of them did not say that it has; may be repeated.
        """
        status = self.status(job)
        if not status["outcome"]:
            raise PytxmrError(f"{job} is {status['phase']}; `pytxmr kill {job}` ends it")
        await self._plan.when_logged()  # else what is logged of the job would outlive its record
        self._keep_no_longer(job)
        failed: dict[str, str] = {}

        def note(failure: Failure, tracker: str) -> None:
            failed[tracker] = str(failure.value)

        for verb, args in (("destroyJob", (False,)), ("dropLogs", ())):
            trackers = dict.fromkeys([*self._plan.cluster.trackers, *self._roster.connected])
            await DeferredList(
                [
                    self._roster.call(tracker, verb, job, *args).addErrback(note, tracker)
                    for tracker in trackers
                ]
            )
        if failed:
            tracker, error = next(iter(failed.items()))
            raise PytxmrError(
                f"{job} may still have files at {tracker} ({error}); repeat `pytxmr destroy {job}`"
            )

    def _keep_no_longer(self, job: str) -> None:
        """A tracker that is away is told so when it registers."""
        if job in self.lives:
            self.lives[job].state.keep = False
        else:
            self.status(job)["kept"] = False
        owner = next((owner for owner, its in self._jobs_of.items() if its == job), None)
        if owner is not None:  # of a job that never began nothing is kept
            self._remember_end(job, owner)

    async def logs(self, job: Any, task: Any, failed_only: bool) -> list[dict[str, str]]:
        """The logs of a job's attempts, at most `MOST_LOGS` of them, oldest attempt first."""
        self.status(job)
        wanted = None if task is None else str(TaskId.parse(task))
        winners = self._winners(job) if failed_only else set()
        found: list[dict[str, str]] = []
        for tracker in self._roster.connected:
            for attempt in await self._roster.call(tracker, "listLogs", job):
                if wanted is not None and attempt.rpartition(".")[0] != wanted:
                    continue
                if attempt in winners:
                    continue
                text = await self._roster.call(tracker, "readLog", job, attempt)
                if text:
                    found.append({"tracker": tracker, "attempt": attempt, "text": text})
                if len(found) == MOST_LOGS:
                    return found
        return found

    async def follow_logs(
        self, job: Any, task: Any, seen: dict[str, int], is_over: bool
    ) -> list[tuple[str, str, str, int]]:
        """What attempts have printed since, beginning with the tracker of each (see
        `AttemptLogs.following`). A tracker that does not answer is left for the next time or, if
        the job ``is_over``, so that there is none, waited for while it is believed to be alive, for
        `RETURN_SECONDS` at the most.
        """
        self.status(job)
        wanted = None if task is None else str(TaskId.parse(task))
        found: list[tuple[str, str, str, int]] = []
        asked: set[str] = set()
        gives_up_at = self._reactor.seconds() + RETURN_SECONDS
        while True:
            for tracker in self._roster.connected:
                if tracker in asked:
                    continue
                try:
                    more = await self._roster.call(
                        tracker, "followLogs", job, wanted, seen, is_over
                    )
                except (Unreachable, TrackerLost):
                    continue
                except PytxmrError:
                    more = []
                found += [(tracker, attempt, text, end) for attempt, text, end in more]
                asked.add(tracker)
            gone = self._plan.cluster.trackers.keys() - asked
            late = self._reactor.seconds() >= gives_up_at or not self._running
            if late or not (is_over and gone):
                return found
            await deferLater(self._reactor, _LOOK_AGAIN_SECONDS)

    def _winners(self, job: str) -> set[str]:
        if job in self._history:
            raise NotFound(f"which attempts of {job} failed is forgotten; leave out --failed")
        return {str(task.winner) for task in self._life(job).state.tasks if task.winner}

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


def _settle(status: dict[str, Any], owner: str) -> None:
    """End a job of which there is no log: its output is whole, or goes."""
    output = output_at(status["output"], owner)
    whole = output.manifest().get("job") == status["job"]
    if not whole:
        output.discard()
        message = (
            f"the jobtracker ended while {status['job']} was {status['phase']}; submit it again"
        )
        status["error"] = {"message": message}
    outcome = Outcome.SUCCEEDED if whole else Outcome.FAILED
    status |= {"phase": Phase.ENDED.value, "outcome": outcome.value, "running": 0}


def _number(status: dict[str, Any]) -> int:
    return int(status["job"].removeprefix("Job"))


def _of(tracker: str, name: str) -> bool:
    return name.partition("@")[2] == tracker
