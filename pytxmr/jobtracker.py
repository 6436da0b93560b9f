"""The jobtracker: takes jobs, knows the trackers, feeds the plan, carries out what it says.

This is the service, which is made of four parts. `LoggedPlan` takes events, logs them and what is
decided, and only then has it done. `Roster` knows the trackers that are connected. `JobBook` has
all jobs, each with a `JobLife` that carries out what is decided about it. `avatars` has what
trackers and clients may call. None of them decides anything: that is for `plan` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IListeningPort

from pytxmr.avatars import ClientAvatar, TrackerAvatar
from pytxmr.jobbook import JobBook
from pytxmr.loggedplan import LoggedPlan
from pytxmr.net.listening import described, listen
from pytxmr.net.login import LoginFactory
from pytxmr.plan.cluster import LEASE_SECONDS, ClusterState
from pytxmr.roster import Roster
from pytxmr.state import MemoryState, State, StateStore

HEARTBEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class JobTrackerConfig:
    """``listen`` is an endpoint description; ``state_dir`` None keeps the state in memory."""

    listen: str
    secret: bytes = field(repr=False)
    state_dir: str | None = None
    lease_seconds: float = LEASE_SECONDS
    heartbeat_seconds: float = HEARTBEAT_SECONDS


class JobTracker(Service):
    """One cluster's jobtracker."""

    def __init__(self, reactor: Any, config: JobTrackerConfig) -> None:
        self._reactor = reactor
        self._config = config
        self.cluster = ClusterState(config.lease_seconds)
        self.epoch = 0
        self.port: IListeningPort | None = None

    async def open(self) -> None:
        """Open the state and the port; take up the jobs of the life before. Raises
        `BadConfiguration`."""
        directory = self._config.state_dir
        self._state: State = MemoryState() if directory is None else StateStore(directory)
        try:
            self.epoch = self._state.next_number("epoch")
            self._wire()
            await self._restore()
            avatars: Any = {
                b"tasktracker": lambda peer: TrackerAvatar(self.roster, self.book, peer),
                b"client": lambda peer: ClientAvatar(self.roster, self.book),
            }
            factory = LoginFactory(self._config.secret, avatars, self._reactor)
            self.port = await listen(self._reactor, self._config.listen, factory)
        except BaseException:
            self._state.close()
            raise

    def _wire(self) -> None:
        reactor, state = self._reactor, self._state
        self.plan = LoggedPlan(reactor, state, self.cluster)
        self.roster = Roster(reactor, self.plan, state, self.epoch, self._config.heartbeat_seconds)
        self.book = JobBook(reactor, self.plan, self.roster, state)
        self.plan.wire(self.book.lives, self.roster.drop)

    async def _restore(self) -> None:
        await self.book.discard_reserved()
        logs = self._state.logs()
        self.plan.restore_clock(logs)
        await self.book.restore(logs)
        self.roster.restore(logs)

    @property
    def address(self) -> str:
        """Where it listens, as an endpoint description for clients."""
        return described(self.port)

    def startService(self) -> None:
        super().startService()
        self.plan.start()
        self.book.start()

    async def stopService(self) -> None:  # type: ignore[override]
        """Close the port. If the state is kept, jobs that run go on when it is opened again; else
        they end first, cleanly.
        """
        super().stopService()
        await self.book.stop()
        self.plan.stop()
        if self.port is not None:
            stopped = self.port.stopListening()
            if stopped is not None:
                await stopped
        self.roster.disconnect()
        self.plan.close()
        self._state.close()
