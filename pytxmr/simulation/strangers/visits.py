"""A visit of a stranger: connections and conversations that have to be over in time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.spread import pb

from pytxmr.errors import NotFound, Refused, SpillDamaged
from pytxmr.net import login
from pytxmr.net.remote import Peer, answering
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.network import CONTROL_PORT, SHUFFLE_PORT, WINDOW_BYTES, End

if TYPE_CHECKING:
    from pytxmr.simulation.machine import Machine
    from pytxmr.simulation.world import Site, World

#: What a deadline is checked with: what a connection, or a few pieces of data, take at most.
SPARE_SECONDS = 2.0
#: What somebody takes to be refused, or cut off, who sends some hundred KiB.
SOON_SECONDS = 15.0
#: Bytes that are on their way when a connection is cut.
ON_THE_WAY = 2 * WINDOW_BYTES


class Visit:
    """``parts`` connections or conversations of a stranger, all of which have to be over in
    ``seconds``."""

    def __init__(self, world: World, fault: Fault, seconds: float, parts: int = 1) -> None:
        self.kind = fault.kind
        self.rng = Random(f"visit {fault.number}")
        self._world = world
        self._seconds = seconds
        self._began = self._since = world.clock.now
        self._parts = parts
        self._callers: list[Caller | HungUp] = []
        self._timer = world.clock.call_at(self._since + seconds, None, self._due)
        world.visits[self] = None

    @property
    def disturbed(self) -> bool:
        """May a fault have spoilt what it hears?"""
        return self._world.disturbed_since(self._began)

    def violate(self, text: str) -> None:
        self._world.oracle.violate(f"a stranger ({self.kind}) {text}")

    def add(self, caller: Caller | HungUp) -> None:
        self._callers.append(caller)

    def part_over(self) -> None:
        self._parts -= 1
        if not self._parts:
            if self._timer.active():
                self._timer.cancel()
            self._world.tell(f"the stranger ({self.kind}) is gone")
            del self._world.visits[self]

    def _due(self) -> None:
        for caller in self._callers:
            caller.look()
        if not self._parts:
            return
        if not self._world.disturbed_since(self._since):
            self.violate(f"is still there after {self._seconds} s")
        self._since = self._world.clock.now
        self._timer = self._world.clock.call_at(self._since + self._seconds, None, self._due)


# ---- those who speak for themselves


class Caller(Protocol):
    """Says something, at once or byte by byte, and is to be hung up on."""

    transport: Any

    def __init__(self, visit: Visit, said: bytes, pause: float, most: int | None) -> None:
        self.heard = b""
        self._visit = visit
        self._said = said
        self._pause = pause
        self._most = most
        self._server: End | None = None
        self.over: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self._server = self.transport.other
        if self._pause:
            self._say_on(0)
        else:
            self.transport.write(self._said)

    def _say_on(self, at: int) -> None:
        if not self.over.called and at < len(self._said):
            self.transport.write(self._said[at : at + 1])
            self.transport.machine.callLater(self._pause, self._say_on, at + 1)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.look()

    def failed(self) -> None:
        """There is nobody to talk to."""
        if not self.over.called:
            self.over.callback(b"")

    def look(self) -> None:
        """Is the server's end of the connection gone?"""
        server = self._server
        if self.over.called or (server is not None and not (server.lost or server.machine.gone)):
            return
        if server is not None:
            if self._most is not None and server.taken > self._most:
                self._visit.violate(f"was read {server.taken} bytes")
            self.transport.abortConnection()
        self.over.callback(self.heard)


class HungUp:
    """``over`` fires when the jobtracker has ended a connection to it, or has itself ended."""

    def __init__(self, visit: Visit, peer: Peer) -> None:
        self.over: Deferred[None] = Deferred()
        self._server: End = peer._reference.broker.transport.other
        peer.when_lost(self._end)
        visit.add(self)

    def look(self) -> None:
        if self._server.lost or self._server.machine.gone:
            self._end()

    def _end(self) -> None:
        if not self.over.called:
            self.over.callback(None)


class _CallerFactory(ClientFactory):
    noisy = False

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._caller

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._caller.failed()


def call(
    visit: Visit,
    machine: Machine,
    to: tuple[str, int],
    said: bytes = b"",
    pause: float = 0.0,
    most: int | None = None,
) -> Caller:
    caller = Caller(visit, said, pause, most)
    visit.add(caller)
    machine.connectTCP(*to, _CallerFactory(caller))
    return caller


Begin = Callable[["World", "Site", Fault], None]
KINDS: dict[str, Begin] = {}
#: Those that take a minute of virtual time.
SLOW_KINDS: list[str] = []


def stranger(port: int, slow: bool = False) -> Callable[[Begin], Begin]:
    """A kind of strangers, who call at a port of the jobtracker or of a tracker, if it is open."""

    def named(begin: Begin) -> Begin:
        def begun(world: World, site: Site, fault: Fault) -> None:
            site = site if port == SHUFFLE_PORT else world.sites[0]
            if site.machine is not None and port in site.machine.ports:
                begin(world, site, fault)

        KINDS[begin.__name__.strip("_").replace("_", " ")] = begun
        if slow:
            SLOW_KINDS.append(begin.__name__.strip("_").replace("_", " "))
        return begin

    return named


def at(site: Site) -> tuple[str, int]:
    return (site.host, SHUFFLE_PORT if site.index else CONTROL_PORT)


def once(
    world: World,
    site: Site,
    fault: Fault,
    seconds: float,
    said: bytes = b"",
    *,
    beside: bool = False,
    pause: float = 0.0,
    most: int | None = None,
    judge: Callable[[Visit, bytes], None] | None = None,
) -> None:
    """One connection, and what has to be heard on it, if nothing else disturbs it."""
    visit = Visit(world, fault, seconds)
    machine = world.beside if beside else world.outside

    def over(heard: bytes) -> None:
        if judge is not None and not visit.disturbed:
            judge(visit, heard)
        visit.part_over()

    call(visit, machine, at(site), said, pause, most).over.addCallback(over)


def lines_of(heard: bytes) -> list[bytes]:
    return heard.split(b"\n")[:-1]


REFUSALS = tuple(f"! {kind.code}: ".encode() for kind in (NotFound, Refused, SpillDamaged))


def only_refusals(visit: Visit, heard: bytes) -> None:
    for line in lines_of(heard):
        if not line.startswith(REFUSALS):
            visit.violate(f"is answered {line[:200]!r}")


class _Mind(pb.Referenceable):
    @answering
    def remote_ping(self) -> str:
        return "pong"


async def log_in(world: World, role: bytes, secret: bytes | None = None) -> Peer:
    site = world.sites[0]
    where = TCP4ClientEndpoint(world.outside, *at(site))
    own = world.secret if secret is None else secret
    return await login.log_in(where, role.decode(), own, _Mind(), world.outside, "the jobtracker")
