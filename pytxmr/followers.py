"""Jobs that follow others: the steps of a job that was submitted as a whole.

Each of them has its number from the submission on, and begins when the one before has succeeded::

    ahead ──the one before has succeeded──▶ its turn ──planned, output reserved──▶ a job as any
      └──────the one before has not─────────────┴────it cannot be planned──▶ given up

That it is somebody's turn is remembered before the end of the job before is; so whenever the
jobtracker is killed, its next life knows of one or the other. Those further behind are remembered
with the job that they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from pytxmr.errors import PytxmrError, Stale
from pytxmr.joblife import JobLife, of_several
from pytxmr.loggedplan import LOG_PAUSE_SECONDS, once
from pytxmr.model import JobSpec
from pytxmr.plan.jobstate import Outcome, Phase
from pytxmr.state import State
from pytxmr.storage.stepresults import remove_results
from pytxmr.submission import Submission, Turn

#: The phase of those whose turn is yet to come.
WAITING = "waiting"
#: Those that were given up, and are still listed; older ones are forgotten.
MOST_GIVEN_UP = 200

_log = Logger()


class Followers:
    """``plan`` makes a job of one whose turn has come; ``ended`` is called with the ids of those
    that are given up. ``given_up`` has their statuses."""

    def __init__(
        self,
        reactor: Any,
        state: State,
        lives: Mapping[str, JobLife],
        plan: Callable[[Turn], Coroutine[Any, Any, None]],
        ended: Callable[[str], None],
    ) -> None:
        self.given_up: dict[str, dict[str, Any]] = {}
        self._reactor = reactor
        self._state = state
        self._lives = lives
        self._plan = plan
        self._ended = ended
        self._running = False
        #: For each job, and each whose turn it is, the one behind it.
        self._next: dict[str, Turn | None] = {}
        self._turns: dict[str, Turn] = {}
        self._planning: dict[str, Deferred[None]] = {}
        #: Those that are yet to begin, their turn or not: what the job says of itself by then.
        self._ahead: dict[str, dict[str, Any]] = {}

    # ---- what an earlier life has left

    def restore(self, turn: Turn) -> None:
        """It was its turn when that life ended."""
        self._take(turn)
        self._turns[turn.job] = turn

    def start(self, ended: Iterable[str]) -> None:
        """``ended``: the jobs of earlier lives."""
        for job in ended:
            self._ahead.pop(job, None)
        self._running = True
        self.go_on()

    def stop(self) -> None:
        self._running = False

    # ---- from job to job

    def begun(self, submission: Submission) -> None:
        """There is a job, which others may follow."""
        if submission.chain.numbers:
            self._take(submission.turn)
            del self._ahead[submission.job]
            self._turns.pop(submission.job, None)

    def _take(self, turn: Turn) -> None:
        self._next[turn.job] = turn.next()
        self._ahead[turn.job] = _status(turn.spec, turn)
        for job, spec in turn.chain.ahead.items():
            self._ahead[job] = _status(spec, turn) | {"job": job}

    async def job_ended(self, life: JobLife, known: Callable[[str], bool]) -> None:
        """See to it that what follows a job, if anything does, is not forgotten with it: fires when
        its end may be recorded. ``known``: is there a record of a job?"""
        turn = self._next.pop(life.job, None)
        if turn is None:
            return
        outcome = life.state.outcome
        if outcome is not Outcome.SUCCEEDED:
            why = f"{life.job}, the step before it, has not succeeded"
            await self._give_up(turn, outcome or Outcome.FAILED, why)
        elif not known(turn.job):
            await self._write(lambda: self._state.remember(turn.number, turn.to_plain()))
            self._turns[turn.job] = turn

    def go_on(self) -> None:
        """Plan those whose turn it is."""
        for job, turn in list(self._turns.items()):
            if self._running and job not in self._planning:
                planned: Deferred[None] = Deferred()
                self._planning[job] = planned
                Deferred.fromCoroutine(self._begin(turn)).addErrback(
                    lambda failure: _log.failure("after a step", failure)
                ).chainDeferred(planned)
                planned.addCallback(self._planned, job)

    def _planned(self, result: None, job: str) -> None:
        del self._planning[job]

    async def _begin(self, turn: Turn) -> None:
        while self._running and turn.job in self._turns:
            try:
                return await self._plan(turn)
            except Stale:
                return  # the jobtracker is stopping, or it was killed
            except Exception as error:
                if type(error) is PytxmrError:  # the state cannot be written now
                    _log.error("{job} waits: {error}", job=turn.job, error=error)
                    await self._pause()
                elif turn.job in self._turns:
                    if not isinstance(error, PytxmrError):
                        _log.failure("{job} cannot be planned", job=turn.job)
                    await self._clear(turn.spec)
                    await self._give_up(turn, Outcome.FAILED, f"it cannot begin: {error}")

    async def _give_up(self, turn: Turn, outcome: Outcome, why: str) -> None:
        """It will not begin, and none of those behind it."""
        following: Turn | None = turn
        while following is not None:
            await self._give_up_one(following, outcome, why)
            following = following.next()

    async def _give_up_one(self, turn: Turn, outcome: Outcome, why: str) -> None:
        ended = {"phase": Phase.ENDED.value, "outcome": outcome.value}
        status = _status(turn.spec, turn) | ended | {"error": {"message": why}}
        record = {"number": turn.number, "owner": turn.owner, "status": status}
        await self._write(lambda: self._state.remember(turn.number, record))
        for known in (self._next, self._turns, self._ahead):
            known.pop(turn.job, None)  # type: ignore[attr-defined]
        self.given_up[turn.job] = status
        if len(self.given_up) > MOST_GIVEN_UP:
            del self.given_up[next(iter(self.given_up))]
        self._ended(turn.job)

    def _clear(self, spec: JobSpec) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, remove_results, spec)

    async def _write(self, write: Callable[[], None]) -> None:
        while True:
            try:
                return write()
            except PytxmrError as error:
                _log.error("a step waits: {error}", error=error)
            await self._pause()

    async def _pause(self) -> None:
        await deferLater(self._reactor, LOG_PAUSE_SECONDS)

    # ---- what clients ask

    def statuses(self) -> list[dict[str, Any]]:
        """Of those that are yet to begin, and those that never will."""
        return [*map(self.status, self._ahead), *self.given_up.values()]

    def is_ahead(self, job: str) -> bool:
        return job in self._ahead

    def status(self, job: str) -> dict[str, Any]:
        """Of one that is yet to begin; ``current``: that of the job of its chain that runs."""
        status = self._ahead[job]
        lives = [self._lives[one] for one in status["chain"] if one in self._lives]
        return status | {"current": lives[-1].status() if lives else None}

    async def kill(self, chain: list[str], reason: str) -> None:
        """Let none of them have its turn."""
        for job in chain:
            if job in self._turns:
                turn = self._turns.pop(job)
                if job in self._planning:
                    await once(self._planning[job])  # what it has made is gone then
                await self._clear(turn.spec)
                await self._give_up(turn, Outcome.KILLED, reason)

    def is_turn(self, job: str) -> bool:
        return job in self._turns


def _status(spec: JobSpec, turn: Turn) -> dict[str, Any]:
    """As that of a `JobLife`."""
    counts = ("uncut", "maps", "maps_done", "reduces", "reduces_done", "running", "failures")
    return {
        "job": turn.job,
        "name": spec.name,
        "phase": WAITING,
        "outcome": "",
        "output": spec.output,
        "submitted_at": turn.submitted_at,
        "seconds": 0.0,
        "phase_seconds": {},
        **dict.fromkeys(counts, 0),
        "fraction_running": 0.0,
        "fraction_reducing": 0.0,
        "doing": [],
        "kept": False,
        "counters": {},
        "error": None,
        **of_several(spec, turn.chain.jobs),
    }
