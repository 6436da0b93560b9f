"""The reactor of one simulated process.

Each process has its own over the shared clock and network, so that a crash is easy: whatever was
scheduled, listened or connected through it is no more, and no object of it is called again.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pytxmr.simulation.clock import Call, VirtualClock
from pytxmr.simulation.network import Connecting, End, Network, Port


class _Names:
    """Resolves the numeric addresses that there are here."""

    @staticmethod
    def resolveHostName(receiver: Any, hostName: str, portNumber: int = 0, *_: Any) -> Any:
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        receiver.resolutionComplete()
        return receiver


class _Threads:
    """Runs what is given to threads, a moment later, in one go."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        def run() -> None:
            try:
                answer = function(*args, **kw)
            except Exception:
                told(False, Failure())
            else:
                told(True, answer)

        self._machine.callLater(self._machine.rng.uniform(0.001, 0.01), run)


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class Machine:
    """``host`` is an address of its own; a host that comes back has a new `Machine`.

    ``slow`` multiplies what the machine does and sends; ``disk_bytes``, if not None, is where its
    disk is full: no file grows beyond so many bytes.
    """

    nameResolver = _Names()

    def __init__(self, clock: VirtualClock, network: Network, host: str, rng: Random) -> None:
        self.clock = clock
        self.host = host
        self.rng = rng
        self.gone = False
        self.stopped = False
        self.parked: list[Call] = []
        self.slow = 1.0
        self.disk_bytes: int | None = None
        self.ports: dict[int, Port] = {}
        self.ends: dict[End, None] = {}
        self._network = network
        self._threads = _Threads(self)
        network.machines[host] = self

    # ---- what the services ask of their reactor

    def seconds(self) -> float:
        return self.clock.now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Call:
        return self.clock.call_at(self.clock.now + delay, self, callable, *args, **kw)

    def getDelayedCalls(self) -> list[Call]:
        return self.clock.pending(self)

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callLater(0, function, *args, **kw)

    def getThreadPool(self) -> _Threads:
        return self._threads

    def installNameResolver(self, resolver: Any) -> Any:
        """There is no other."""
        raise NotImplementedError

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        return Port(self, port, factory)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        return Connecting(self._network, self, host, port, factory, timeout)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """Write to its disk: where that is full, files grow no further, and writing fails."""
        if self.disk_bytes is None:
            yield
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.disk_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    # ---- what happens to it

    def crash(self, silent: bool) -> None:
        """The process ends, now. With ``silent`` the whole machine does: nobody is told."""
        self.gone = True
        self.ports.clear()
        for end in list(self.ends):
            end.vanish(silent)
        self.ends.clear()
        if silent:
            self._network.machines.pop(self.host, None)

    def stop(self) -> None:
        """As by SIGSTOP: it does nothing until `go_on`, but its connections stay."""
        self.stopped = True

    def go_on(self) -> None:
        if self.stopped:
            self.stopped = False
            parked, self.parked = self.parked, []
            self.clock.unpark(parked)
