"""Running the reactor for the length of one command, and being interrupted with or without it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from pytxmr.net.clock import use_monotonic_clock

_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_Result = TypeVar("_Result")


class Interrupted(Exception):
    """The user wants to stop. ``status``: the exit status for it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Interrupts:
    """Remembers that the user wants to stop. ``status``: the exit status for it, 0 until then."""

    def __init__(self, reactor: Any) -> None:
        self.status = 0
        self._pending = False
        self._reactor = reactor
        self._waiting: Deferred[Any] | None = None

    def install(self) -> None:
        """Take over the signals, but for those that are to be ignored (see nohup(1))."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        self.status = self.status or _SIGNALS[signal.Signals(number)]
        self._pending = True
        self._reactor.callFromThread(self._give_up)

    def _give_up(self) -> None:
        # A signal that came while Python ran is seen by `unless` before this is called: what is
        # waited for by now may be what was begun for its sake.
        if self._pending and self._waiting is not None:
            self._waiting.cancel()

    async def unless(self, doing: Coroutine[Any, Any, _Result]) -> _Result:
        """Do that to its end, but no longer than until a signal comes. Raises `Interrupted`. May be
        used within what it does."""
        if self._pending:
            doing.close()
            raise Interrupted(self.status)
        outer = self._waiting
        self._waiting = waiting = Deferred.fromCoroutine(doing)
        try:
            result: _Result = await waiting
        except Exception:
            if self._pending:
                raise Interrupted(self.status) from None
            raise
        finally:
            self._waiting = outer
        return result

    def begin_anew(self) -> None:
        """The signal was taken care of: `unless` waits for the next one."""
        self._pending = False


class Signalled(KeyboardInterrupt):
    """A signal that means the same as Ctrl-C. ``status``: the exit status for it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Without a reactor: let every signal that ends a job raise `KeyboardInterrupt`."""

    def interrupt(number: int, frame: object) -> None:
        raise Signalled(_SIGNALS[signal.Signals(number)])

    before = {
        number: signal.signal(number, interrupt)
        for number in _SIGNALS
        if signal.getsignal(number) is signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_in_reactor(command: Callable[[Any, Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run ``command(reactor, interrupts)`` to its end; its result, or its error, is ours."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    interrupts = Interrupts(reactor)
    results: list[int] = []
    errors: list[BaseException] = []

    def begin() -> None:
        # Twisted has installed its own handlers by now; it keeps the one for SIGCHLD.
        interrupts.install()
        running = Deferred.fromCoroutine(command(reactor, interrupts))
        running.addCallbacks(results.append, lambda failure: errors.append(failure.value))
        running.addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]

    reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    match errors:
        case [Interrupted() as interrupted]:
            return interrupted.status
        case [error]:
            raise error
    return results[0] if results else 1
