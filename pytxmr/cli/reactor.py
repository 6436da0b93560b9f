"""Running the reactor for the length of one command."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from pytxmr.net.clock import use_monotonic_clock

_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Interrupts:
    """Remembers that the user wants to stop. ``status``: the exit status for it, 0 until then."""

    def __init__(self) -> None:
        self.status = 0

    def install(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        self.status = self.status or _SIGNALS[signal.Signals(number)]


def run_in_reactor(command: Callable[[Any, Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run ``command(reactor, interrupts)`` to its end; its result, or its error, is ours."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    interrupts = Interrupts()
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
    if errors:
        raise errors[0]
    return results[0] if results else 1
