"""The plan, and a log before whatever it says is done.

Every fact, whether a report, a registration, a failed call or the passing of time, goes through
`LoggedPlan.feed`; every decision comes out of `plan.cluster.ClusterState`. Both are logged before
anything is done about them, and before anybody is told that they are known: so a jobtracker that is
killed goes on, when it is started again, where it was. While the log cannot be written everything
waits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pytxmr.errors import BadConfiguration, PytxmrError
from pytxmr.joblife import JobLife
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import ClusterState
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.state import Logs, State

TICK_SECONDS = 1.0
#: The pause before it is tried again to write what could not be logged.
LOG_PAUSE_SECONDS = 1.0
#: Events in the log of a job from which on it is made compact; again each time it has doubled, as
#: that takes longer the more there is.
LONG_LOG = 20_000

_log = Logger()


class LoggedPlan:
    """``wire`` comes first, then what is restored, then `start`."""

    def __init__(self, reactor: Any, state: State, cluster: ClusterState) -> None:
        self.cluster = cluster
        self._reactor = reactor
        self._state = state
        self._lives: Mapping[str, JobLife] = {}
        self._stopped = self._closed = False
        self._ticks_ahead: dict[IDelayedCall, None] = {}
        self._ticks = LoopingCall(self.feed, ev.Tick())
        self._ticks.clock = reactor
        # What is on its way through `feed`: events that the plan has yet to take, what has become
        # of those that it took and is not logged yet, and what is to be done once it is.
        self._events: deque[ev.Event] = deque()
        self._feeding = False
        self._unlogged: list[tuple[str, ev.Event, float]] = []
        self._held: list[ev.Instruction] = []
        self._lost: list[str] = []
        self._logged: Deferred[None] = Deferred()
        self._log_again: IDelayedCall | None = None
        self._log_lengths: Counter[str] = Counter()
        #: What counts as long, for those that were long before.
        self._long_logs: dict[str, int] = {}
        #: The plan's clock goes on where that of the life before has ended.
        self._clock_ahead = 0.0

    def wire(self, lives: Mapping[str, JobLife], lose: Callable[[str], None]) -> None:
        """``lives`` carry out what is decided of jobs; ``lose`` gets the ids of lost trackers."""
        self._lives, self._lose = lives, lose

    # ---- life

    def restore_clock(self, logs: Logs) -> None:
        """Let the time go on from the last that is logged."""
        last = max((now for log in logs.values() for _, now in log), default=0.0)
        self._clock_ahead = last - self._reactor.seconds()

    def restore_job(self, job: str, log: list[tuple[ev.Event | JobState, float]]) -> None:
        """Make a job what an earlier life has told it. Raises `BadConfiguration`."""
        try:
            for event, now in log:
                self.cluster.restore_job(job, event, now)
        except Exception as error:
            raise BadConfiguration(
                f"the log of {job} makes no sense to this version of pytxmr: {error!r}"
            ) from error
        self._log_lengths[job] = len(log)

    def start(self) -> None:
        """Let the plan know from now on that time passes."""
        self._ticks.start(TICK_SECONDS, now=False).addErrback(
            lambda failure: _log.failure("time stands still for the plan", failure)
        )

    def stop(self) -> None:
        """Do nothing more that nobody asks for."""
        self._stopped = True
        if self._ticks.running:
            self._ticks.stop()
        while self._ticks_ahead:
            self._ticks_ahead.popitem()[0].cancel()
        if self._log_again is not None:
            self._log_again.cancel()

    def close(self) -> None:
        """The state is about to be closed: whatever comes now comes too late."""
        self._closed = True

    def now(self) -> float:
        """The time as the plan and the log have it."""
        return float(self._reactor.seconds()) + self._clock_ahead

    def tick_after(self, seconds: float) -> None:
        """Let the plan look at the time then, and not only when the next second is over."""
        if self._stopped:
            return

        def tick() -> None:
            del self._ticks_ahead[ahead]
            self.feed(ev.Tick())

        ahead = self._reactor.callLater(seconds, tick)
        self._ticks_ahead[ahead] = None

    # ---- events in, instructions out

    def feed(self, *events: ev.Event) -> None:
        """Let the plan take the events, log what becomes of them, then carry out what it says. May
        be called from within. Once the state is closed it is as if they had come too late.
        """
        if self._closed:
            return
        self._events.extend(events)
        if self._feeding:
            return
        self._feeding = True
        busy: dict[str, JobLife] = {}
        try:
            while self._events or self._unlogged or self._held:
                while self._events:
                    self._take(self._events.popleft())
                # Not a set, whose order is another in each process: who waits is answered in it.
                touched = dict.fromkeys(n for n, _, _ in self._unlogged if n in self._lives)
                if not self._write_log():
                    break
                lost, self._lost = self._lost, []
                for tracker in lost:
                    self._lose(tracker)
                held, self._held = self._held, []
                for instruction in held:
                    life = busy[instruction.job] = self._lives[instruction.job]
                    life.carry_out(instruction)
                for name in touched:
                    self._lives[name].notice_phase()
        finally:
            self._feeding = False
        for life in busy.values():
            life.send()
        self._compact_logs()

    def _take(self, event: ev.Event) -> None:
        before = list(self.cluster.trackers)
        now = self.now()
        self._held += self.cluster.handle(event, now)
        self._unlogged += [(name, told, now) for name, told in self.cluster.take_history()]
        if isinstance(event, ev.AttemptEndedBadly) and event.job in self.cluster.jobs:
            rests_until = self.cluster.jobs[event.job].rests_until(event.attempt)
            if rests_until > now:
                # Without it the next tick would be waited for, up to a second. It may not be early.
                self.tick_after(rests_until - now + 0.001)
        for tracker in before:
            if tracker not in self.cluster.trackers:
                _log.warn("lost {tracker}: {event}", tracker=tracker, event=type(event).__name__)
                self._lost.append(tracker)

    # ---- the log

    @property
    def unlogged(self) -> bool:
        """Has the plan decided what could not be logged yet?"""
        return bool(self._unlogged)

    def when_logged(self) -> Deferred[None]:
        """Fires when whatever was fed until now cannot be forgotten any more."""
        return once(self._logged) if self._unlogged or self._events else succeed(None)

    def _write_log(self) -> bool:
        """Log what has happened. False if that must wait, and with it all that comes of it."""
        if self._log_again is not None:
            return False
        try:
            if self._unlogged:
                self._state.append(self._unlogged)
        except PytxmrError as error:
            _log.error("everything waits: {error}", error=error)
            self._log_again = self._reactor.callLater(LOG_PAUSE_SECONDS, self._write_log_again)
            return False
        self._log_lengths.update(name for name, _, _ in self._unlogged if name in self._lives)
        self._unlogged.clear()
        logged, self._logged = self._logged, Deferred()
        logged.callback(None)
        return True

    def _write_log_again(self) -> None:
        self._log_again = None
        self.feed()

    def _compact_logs(self) -> None:
        if self._unlogged:
            return  # The jobs have become what no log says yet.
        for job, length in self._log_lengths.items():
            if length < self._long_logs.get(job, LONG_LOG):
                continue
            state = self.cluster.jobs[job]
            if state.phase is Phase.ENDED:
                continue
            try:
                self._state.compact(self.now(), state)
            except PytxmrError as error:
                _log.warn("the log of {job} stays long: {error}", job=job, error=error)
            self._long_logs[job] = 2 * length

    def end_log(self, job: str) -> None:
        """The job has ended: its log grows no more."""
        del self._log_lengths[job]
        self._long_logs.pop(job, None)


def once(shared: Deferred[None]) -> Deferred[None]:
    """A Deferred of its own for one who waits for a shared one; cancelling it harms nobody."""
    if shared.called:
        return succeed(None)
    mine: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        if not mine.called:
            mine.callback(None)
        return result

    shared.addBoth(fire)
    return mine
