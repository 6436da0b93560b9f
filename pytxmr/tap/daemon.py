"""What the two daemons have in common: how they start, and how they say why they cannot."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import usage

from pytxmr.errors import BadConfiguration
from pytxmr.net.clock import use_monotonic_clock
from pytxmr.net.listening import check_listen
from pytxmr.net.secret import read_secret

_log = Logger()


class Daemon(Service):
    """Opens a service when the reactor runs; if it cannot be opened, says so and ends twistd.

    The service has ``open()``, which may raise `BadConfiguration`, an ``address`` from then on, and
    the two methods of `Service`.
    """

    def __init__(self, reactor: Any, inner: Any, name: str) -> None:
        self._reactor = reactor
        self._inner = inner
        self._name = name
        self._opened = False

    def privilegedStartService(self) -> None:
        use_monotonic_clock(self._reactor)

    def startService(self) -> None:
        super().startService()
        opening = Deferred.fromCoroutine(self._open())
        opening.addErrback(self._cannot_start)

    async def _open(self) -> None:
        await self._inner.open()
        self._opened = True
        if self.running:
            self._inner.startService()
            _log.info("{name} is ready at {at}", name=self._name, at=self._inner.address)

    def give_up(self, error: BadConfiguration) -> None:
        """Say why it cannot go on, and end twistd with status 1."""
        print(f"{self._name}: {error}", file=sys.__stderr__)
        _log.error("{name}: {error}", name=self._name, error=error)
        self._end_with_failure()

    def _cannot_start(self, failure: Any) -> None:
        if failure.check(BadConfiguration):
            self.give_up(failure.value)
        else:
            _log.failure("{name} cannot start", failure, name=self._name)
            self._end_with_failure()

    def _end_with_failure(self) -> None:
        # twistd ends with status 0 however its services fared. Late in the interpreter's end, when
        # twistd has removed its pid file, the status is put right.
        atexit.register(_exit_with_failure)
        self._reactor.callWhenRunning(self._stop_reactor)

    def _stop_reactor(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Deferred[Any] | None:
        super().stopService()
        if self._opened:
            return Deferred.fromCoroutine(self._inner.stopService())
        return None


def _exit_with_failure() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class DaemonOptions(usage.Options):
    """Options that both daemons take."""

    def checked_secret(self) -> bytes:
        """The secret of ``--secret-file``; ends the command with a usage error without one."""
        if not self["secret-file"]:
            raise usage.UsageError("--secret-file FILE is needed; `pytxmr secret FILE` makes one")
        try:
            return read_secret(self["secret-file"])
        except BadConfiguration as error:
            raise usage.UsageError(error.message) from error

    def check_listen(self, option: str) -> str:
        """The endpoint of that option, if it may be listened on."""
        try:
            check_listen(self[option], bool(self["insecure"]))
        except BadConfiguration as error:
            raise usage.UsageError(error.message) from error
        return str(self[option])
