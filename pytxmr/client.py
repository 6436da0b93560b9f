"""A jobtracker as its clients see it: connect, submit, watch, kill.

What a program needs to say which job it wants is here as well; `specs` has it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.spread import pb

from pytxmr.errors import BadConfiguration, NotFound, PytxmrError, Unreachable
from pytxmr.model import JobSpec
from pytxmr.net.login import log_in
from pytxmr.net.remote import CALL_SECONDS, Peer, answering
from pytxmr.specs import JobOptions as JobOptions
from pytxmr.specs import make_spec as make_spec
from pytxmr.specs import make_specs as make_specs
from pytxmr.submission import differences

if TYPE_CHECKING:
    from pytxmr.result import Result

#: How long a jobtracker that is gone is waited for, and the pause before each try to reach it.
PATIENCE_SECONDS = 60.0
#: A jobtracker may look at very many files before it answers.
SUBMIT_SECONDS = 120.0
RETRY_SECONDS = 0.25

#: How often a job's status is asked for while it is waited for.
_WAIT_SECONDS = 0.5


#: Called with a job's status.
Progress = Callable[[dict[str, Any]], object]

_log = Logger()


def _untold(status: dict[str, Any]) -> None:
    """Nobody wants to know."""


class _Client(pb.Referenceable):
    """What a client shows the jobtracker; it can only be asked whether it is there."""

    @answering
    def remote_ping(self) -> str:
        return "pong"


async def connect(
    reactor: Any, endpoint: str, secret: bytes, on_lost: Callable[[], None] | None = None
) -> Peer:
    """Log in at the jobtracker behind an endpoint description.

    Raises `BadConfiguration` for a bad description, `Refused`, or `Unreachable` within a deadline.
    """
    try:
        place = clientFromString(reactor, endpoint)
    except (ValueError, TypeError) as error:
        raise BadConfiguration(
            f"{endpoint!r} is no endpoint; they look like tcp:127.0.0.1:9000 ({error})"
        ) from error
    name = f"the jobtracker at {endpoint}"
    return await log_in(place, "client", secret, _Client(), reactor, name, on_lost)


def new_owner() -> str:
    """What a submission is known by, to the client and to the jobtracker."""
    return secrets.token_hex(16)


#: A job, or its steps in their order.
Steps = JobSpec | Sequence[JobSpec]


def submit(jobtracker: Peer, job: Steps, owner: str | None = None) -> Deferred[str]:
    """Queue the job; fires with its id, fails with `BadInput` for what only the cluster can see.
    Of several steps each has an id; that of the last stands for the whole.

    May be repeated with the same ``owner``: it is one job.
    """
    words = _submitted(job, owner or new_owner())
    return jobtracker.call("submit", *words, seconds=SUBMIT_SECONDS)


def _submitted(job: Steps, owner: str) -> list[Any]:
    first, *later = job if isinstance(job, Sequence) else [job]
    plain = first.to_plain()
    return [plain, owner, differences(plain, later)] if later else [plain, owner]


async def as_a_whole(ask: Callable[..., Any], status: dict[str, Any]) -> dict[str, Any]:
    """What stands for the whole job, of which this is the last status, or the last step's: all
    steps together, or the one that has not succeeded. ``ask`` gives None if it is to be repeated.
    """
    chain = status.get("chain") or [status["job"]]
    if status["job"] != chain[-1] or len(chain) == 1:
        return status
    steps = []
    for job in chain[:-1]:
        found = None
        with suppress(NotFound):  # it has been forgotten since
            while found is None:
                found = await ask("status", job)
        if found is None:
            continue
        if found["outcome"] not in ("", "succeeded"):
            return dict(found)
        steps.append(found)
    if status["outcome"] not in ("", "succeeded"):
        return status
    from pytxmr.steps import of_steps

    return of_steps([*steps, status])


class Patient:
    """A jobtracker that may be gone for a while, as when it is started anew; its jobs go on.

    ``connect`` connects again; ``told`` is called each time it is found to be gone. ``meanwhile``
    runs what is done until it is back, and may give that up by raising.
    """

    def __init__(
        self,
        peer: Peer,
        clock: Any,
        connect: Callable[[], Coroutine[Any, Any, Peer]],
        told: Callable[[PytxmrError], None],
        meanwhile: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]],
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._connect = connect
        self._told = told
        self._meanwhile = meanwhile
        self._gone_since: float | None = None

    async def submit(self, job: Steps) -> str:
        """Queue the job, once, also if the jobtracker is gone before it has answered."""
        words = _submitted(job, new_owner())
        while True:
            queued = await self.ask("submit", *words, seconds=SUBMIT_SECONDS)
            if queued is not None:
                return str(queued)

    async def ask(self, verb: str, *args: Any, seconds: float = CALL_SECONDS) -> Any:
        """The answer to a call that may be repeated; None, after a moment, if the jobtracker is
        gone at present. Raises `Unreachable` when that has lasted for `PATIENCE_SECONDS`.
        """
        try:
            if self._gone_since is not None:
                self._peer = await self._meanwhile(self._connect())
                self._gone_since = None
            return await self._peer.call(verb, *args, seconds=seconds)
        except Unreachable as error:
            self._peer.disconnect()
            now = self._clock.seconds()
            if self._gone_since is None:
                self._gone_since = now
                self._told(error)
            if now - self._gone_since >= PATIENCE_SECONDS:
                raise
        await self._meanwhile(self._pause())
        return None

    async def _pause(self) -> None:
        await deferLater(self._clock, RETRY_SECONDS)

    def disconnect(self) -> None:
        self._peer.disconnect()


class Client:
    """A jobtracker, for Twisted programs: `Client.connect` gives one, or a `LocalCluster`.

    Each method may be called while others wait. A jobtracker that is gone is waited for up to
    `PATIENCE_SECONDS`, as when it is started anew; then they fail with `Unreachable`. To cancel
    what one returns ends the waiting, not the job.
    """

    def __init__(self, reactor: Any, peer: Peer, endpoint: str, secret: bytes) -> None:
        self._patient = Patient(
            peer,
            reactor,
            lambda: connect(reactor, endpoint, secret),
            lambda error: _log.warn("{error}; waiting for it to come back", error=error),
            _to_its_end,
        )

    @classmethod
    def connect(cls, reactor: Any, endpoint: str, secret: bytes) -> Deferred[Self]:
        """Fires with a client that is logged in at the jobtracker behind an endpoint description,
        as ``"tcp:127.0.0.1:9000"``; fails with `BadConfiguration` for a bad one, with `Refused`
        for another secret, or with `Unreachable` within a deadline."""

        async def connected() -> Self:
            return cls(reactor, await connect(reactor, endpoint, secret), endpoint, secret)

        return Deferred.fromCoroutine(connected())

    def submit(self, job: Steps) -> Deferred[str]:
        """Queue the job; fires with its id, fails with `BadInput`. Of several steps, as
        `make_specs` gives them, each has an id; that of the last stands for the whole."""
        return Deferred.fromCoroutine(self._patient.submit(job))

    def status(self, job: str) -> Deferred[dict[str, Any]]:
        """Fires with how far the job is, fails with `NotFound`. It is a dict: ``phase``,
        ``outcome`` (``""`` until the end, then ``"succeeded"``, ``"failed"`` or ``"killed"``),
        ``maps`` and ``maps_done``, ``reduces`` and ``reduces_done``, ``running``, ``failures``,
        ``counters``, ``seconds``, ``error`` and what else `pytxmr status` shows."""
        return Deferred.fromCoroutine(self._ask("status", job))

    def kill(self, job: str, reason: str = "by its client") -> Deferred[dict[str, Any]]:
        """End the job; fires with its status. `result` then fails."""
        return Deferred.fromCoroutine(self._ask("kill", job, reason))

    def result(self, job: str, progress: Progress = _untold) -> Deferred[Result]:
        """Fires with what the job has left when it has succeeded, fails with `JobFailed` when it
        has not. ``progress`` is called with its status, now and then and at its end."""
        return Deferred.fromCoroutine(self._result(job, progress))

    def run(self, job: Steps, progress: Progress = _untold) -> Deferred[Result]:
        """`submit`, and then `result`."""

        async def submitted() -> Result:
            return await self._result(await self._patient.submit(job), progress)

        return Deferred.fromCoroutine(submitted())

    def disconnect(self) -> None:
        """Drop the connection. Jobs go on."""
        self._patient.disconnect()

    async def _result(self, job: str, progress: Progress) -> Result:
        from pytxmr.result import Result

        while True:
            status = await self._ask("wait", job, _WAIT_SECONDS)
            if status["outcome"]:
                status = await as_a_whole(self._patient.ask, status)
            progress(status.get("current") or status)
            if status["outcome"]:
                return Result.of(status)

    async def _ask(self, verb: str, *args: Any) -> dict[str, Any]:
        while True:
            answer: dict[str, Any] | None = await self._patient.ask(verb, *args)
            if answer is not None:
                return answer


async def _to_its_end(doing: Coroutine[Any, Any, Any]) -> Any:
    return await doing
