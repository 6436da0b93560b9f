"""Hosts and connections in memory: bytes take their time, and may be held back, cut or altered.

A connection is two `End`s, each the transport of a protocol. What an end writes waits in its
buffer, crosses the network in pieces when there is room at the other end, in order, and waits there
if that end has paused. Producers are paused and resumed as by Twisted's own transports, whose
rules these follow, but with smaller buffers, so that small jobs fill them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pytxmr.net.connections import PROBE_SECONDS, PROBES, SILENT_SECONDS
from pytxmr.simulation.clock import VirtualClock

if TYPE_CHECKING:
    from pytxmr.simulation.machine import Machine

#: What fits between two ends that nobody has read yet, and what an end keeps before its producer
#: is told to pause. Twisted's and the system's are larger; spills here are a few KiB.
WINDOW_BYTES = 2048
HIGH_WATER_BYTES = 1024
#: A packet that asks for a connection and is not answered is sent again after so long.
_ASK_AGAIN_SECONDS = 1.0
#: When a kept-alive connection ends whose other end is gone without a word.
KEPT_SECONDS = float(SILENT_SECONDS + PROBES * PROBE_SECONDS)
#: The jobtracker's port.
CONTROL_PORT = 9000
#: The port of a tracker's store; connections to it carry checked data.
SHUFFLE_PORT = 8993

#: In place of how many bytes pass before a flip: those up to the end of a line.
LINE_END = -1

#: Of a store that trickles: as many as the head of an answer, which is waited for less patiently.
AT_ONCE_BYTES = 40

_FIN = b"the end"
_RST = b"a reset"
_log = Logger()


class Network:
    """Who can reach whom, and how long that takes."""

    def __init__(self, clock: VirtualClock, rng: Random, latency: tuple[float, float]) -> None:
        self.clock = clock
        self.machines: dict[str, Machine] = {}
        self.connections: dict[int, tuple[End, End]] = {}
        #: How many faults hold back what one host sends to another, or to ``*``, any.
        self._blocked: dict[tuple[str, str], int] = {}
        self.delay: dict[str, float] = {}
        #: By host, flips that wait for shuffle bytes that it sends: how many pass first (or
        #: `LINE_END`), and the mask, which is 0 once it was done.
        self.flips: dict[str, list[list[int]]] = {}
        #: How many seconds the store of a host takes over a byte, on each connection that it has or
        #: gets meanwhile, until that ends; the first `AT_ONCE_BYTES` come as ever.
        self.trickles: dict[str, float] = {}
        self.told: Callable[[str], None] = lambda text: None
        #: Hosts that do not belong to the cluster. What is random about their connections is drawn
        #: apart, so that without them all others run as they do with them.
        self.strange: dict[str, Random] = {}
        self._rng = rng
        self._latency = latency
        self._made = 0

    def blocked(self, source: str, target: str) -> bool:
        blocked = self._blocked
        return bool(blocked) and any(
            pair in blocked for pair in ((source, target), (source, "*"), ("*", target))
        )

    def block(self, source: str, target: str) -> None:
        """Hold back what ``source`` sends to ``target``; ``*`` stands for all hosts."""
        self._blocked[source, target] = self._blocked.get((source, target), 0) + 1

    def unblock(self, source: str, target: str) -> None:
        left = self._blocked[source, target] - 1
        if left:
            self._blocked[source, target] = left
        else:
            del self._blocked[source, target]
        for ends in list(self.connections.values()):
            for end in ends:
                end.send_held()

    def seconds(self, source: str, target: str) -> float:
        """How long a piece takes."""
        slow = max(
            (m.slow for m in (self.machines.get(source), self.machines.get(target)) if m),
            default=1.0,
        )
        more = self.delay.get(source, 0.0) + self.delay.get(target, 0.0)
        rng = self.draws(source, target)
        return rng.uniform(*self._latency) * slow + more * rng.random()

    def draws(self, source: str, target: str) -> Random:
        """Where to draw what is random about a piece that one sends to the other."""
        return self.strange.get(source) or self.strange.get(target) or self._rng

    @staticmethod
    def split(data: bytes, rng: Random) -> list[bytes]:
        """The data in one piece, mostly, or in two, cut anywhere."""
        if len(data) > 1 and rng.random() < 0.2:
            at = rng.randrange(1, len(data))
            return [data[:at], data[at:]]
        return [data]

    def altered(self, host: str, data: bytes) -> bytes:
        """The data as they arrive, if a flip waits for what the host sends."""
        for flip in self.flips.get(host, ()):
            if flip[1] and flip[0] == LINE_END and b"\n" in data:
                flip[0] = data.index(b"\n")
            if flip[1] and LINE_END < flip[0] < len(data):
                at = flip[0]
                self.told(f"{host}: byte {at} of {len(data)} altered on the wire")
                data = data[:at] + bytes([data[at] ^ flip[1]]) + data[at + 1 :]
                flip[1] = 0
            elif flip[0] > LINE_END:
                flip[0] -= len(data)
        return data

    def connect(self, client: Machine, server: Machine, port: Port) -> tuple[End, End]:
        self._made += 1
        number = self._made
        shuffle = port.number == SHUFFLE_PORT and client.host not in self.strange
        here = IPv4Address("TCP", client.host, 20_000 + number)
        ends = (
            End(self, number, client, here, shuffle),
            End(self, number, server, port.address, shuffle),
        )
        ends[0].other, ends[1].other = ends[1], ends[0]
        self.connections[number] = ends
        return ends


@implementer(IListeningPort)
class Port:
    """A listening port of a machine."""

    def __init__(self, machine: Machine, number: int, factory: Any) -> None:
        self.number = number
        self.address = IPv4Address("TCP", machine.host, number)
        self.factory = factory
        self._machine = machine
        self.startListening()

    def startListening(self) -> None:
        self._machine.ports[self.number] = self
        self.factory.doStart()

    def stopListening(self) -> None:
        if self._machine.ports.pop(self.number, None) is not None:
            self.factory.doStop()

    def getHost(self) -> IPv4Address:
        return self.address


class Connecting:
    """A connection that is to be made: what Twisted calls a connector."""

    def __init__(
        self, network: Network, machine: Machine, host: str, port: int, factory: Any, timeout: float
    ) -> None:
        self._network = network
        self._machine = machine
        self._to = (host, port)
        self._factory = factory
        self._ended = False
        self._end: End | None = None
        factory.doStart()
        factory.startedConnecting(self)
        self._timeout = machine.callLater(timeout, self._fail, TimeoutError())
        self._ask()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", *self._to)

    def stopConnecting(self) -> None:
        self._fail(UserError())

    def disconnect(self) -> None:
        if self._end is not None:
            self._end.loseConnection()
        else:
            self.stopConnecting()

    def _ask(self) -> None:
        here, there = self._machine.host, self._to[0]
        seconds = self._network.seconds(here, there)
        self._machine.callLater(seconds, self._arrived)

    def _arrived(self) -> None:
        if self._ended:
            return
        here, (host, number) = self._machine.host, self._to
        server = self._network.machines.get(host)
        blocked = self._network.blocked(here, host) or self._network.blocked(host, here)
        if server is None or blocked:
            self._machine.callLater(_ASK_AGAIN_SECONDS, self._arrived)
            return
        port = server.ports.get(number)
        if port is None:
            self._fail(ConnectionRefusedError())
            return
        self._ended = True
        self._timeout.cancel()
        ours, theirs = self._network.connect(self._machine, server, port)
        ours.connector, self._end = self, ours
        ours.factory, theirs.factory = self._factory, port.factory
        ours.begin(self._factory.buildProtocol(theirs.address))
        server.callLater(0, theirs.accept, port)

    def _fail(self, error: Exception) -> None:
        if not self._ended:
            self._ended = True
            if self._timeout.active():
                self._timeout.cancel()
            self._factory.clientConnectionFailed(self, Failure(error))
            self._factory.doStop()

    def lost(self, reason: Failure) -> None:
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()


class _Handle:
    def setsockopt(self, *option: int) -> None:
        """The system's keepalive is simulated as the product sets it."""


@implementer(ITCPTransport, IConsumer, IPushProducer)
class End:
    """One end of a connection; the transport of its protocol."""

    bufferSize = 65536

    def __init__(
        self, network: Network, number: int, machine: Machine, address: IPv4Address, shuffle: bool
    ) -> None:
        self.network = network
        self.number = number
        self.machine = machine
        self.address = address
        self.shuffle = shuffle
        self.other: End
        self.factory: Any = None
        self.connector: Connecting | None = None
        self.protocol: Any = None
        self.lost = False
        self.disconnecting = False
        self.kept_alive = False
        #: Bytes that the protocol was given.
        self.taken = 0
        self._unsent = bytearray()
        self._unread = 0  # of what we sent
        self._came: deque[bytes] = deque()
        self._held: deque[bytes | int] = deque()
        self._arrives = 0.0
        self._paused = False
        self._draining = False
        self._drain_later = False
        self._flush_later = False
        self._closed = False
        self._cut_after: int | None = None
        self._byte_seconds = 0.0
        self._at_once = AT_ONCE_BYTES
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        machine.ends[self] = None

    def begin(self, protocol: Any) -> None:
        if protocol is None:
            self.abortConnection()
            return
        self.protocol = protocol
        protocol.makeConnection(self)

    def accept(self, port: Port) -> None:
        if not self.lost:
            self.begin(port.factory.buildProtocol(self.other.address))
            self._drain()

    @property
    def strange(self) -> bool:
        """Is this an end of a stranger's connection?"""
        strange = self.network.strange
        return self.machine.host in strange or self.other.machine.host in strange

    # ---- what a protocol asks of its transport

    def getPeer(self) -> IPv4Address:
        return self.other.address

    def getHost(self) -> IPv4Address:
        return self.address

    def getHandle(self) -> _Handle:
        return _Handle()

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.kept_alive = enabled

    def getTcpKeepAlive(self) -> bool:
        return self.kept_alive

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Everything is sent at once here."""

    def getTcpNoDelay(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        if self.lost or self._closed or not data:
            return
        self._unsent += data
        if self._streaming and not self._producer_paused and len(self._unsent) > HIGH_WATER_BYTES:
            self._producer_paused = True
            self._producer.pauseProducing()
        self._flush_soon()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.lost and not self.disconnecting:
            self.disconnecting = True
            self._flush_soon()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def abortConnection(self) -> None:
        if not self.lost and not self._closed:
            self._closed = self.disconnecting = True
            self._unsent.clear()
            self._send(_RST)
            self.machine.callLater(0, self._lose, ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"{producer} cannot be registered beside {self._producer}")
        if self.lost:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer, self._streaming = None, False
        if self.disconnecting:
            self._flush_soon()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        if self._paused and not self.lost:
            self._paused = False
            self._drain_soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    # ---- out

    def _flush_soon(self) -> None:
        if not self._flush_later:
            self._flush_later = True
            self.machine.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_later = False
        if self.lost or self._closed:
            return
        if self.shuffle and self.address.port == SHUFFLE_PORT and not self._byte_seconds:
            self._byte_seconds = self.network.trickles.get(self.machine.host, 0.0)
        room = WINDOW_BYTES - self._unread
        if self._unsent and room > 0:
            if self._byte_seconds:
                room = min(room, max(1, self._at_once))
            data = bytes(self._unsent[:room])
            del self._unsent[:room]
            self._unread += len(data)
            self._send(data)
            if self._byte_seconds:
                self._at_once -= len(data)
                self._flush_later = True
                self.machine.callLater(self._byte_seconds, self._flush)
                return
        if self._unsent or self.lost:
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting and self._producer is None:
            self._closed = True
            self._send(_FIN)
            self._lose(ConnectionDone())

    def cut_after(self, count: int) -> None:
        """Reset the connection when so many more bytes were sent from here."""
        self._cut_after = count

    def _send(self, data: bytes) -> None:
        if self.shuffle and data is not _FIN and data is not _RST:
            data = self.network.altered(self.machine.host, data)
        if self._cut_after is not None and data is not _FIN and data is not _RST:
            if len(data) >= self._cut_after:
                data, self._cut_after = data[: self._cut_after], None
                self.network.told(f"connection {self.number} cut")
                if data:
                    self._transmit(data)
                self._transmit(_RST)
                self._closed = True
                self.machine.callLater(0, self._lose, ConnectionLost())
                return
            self._cut_after -= len(data)
        self._transmit(data)

    def _transmit(self, data: bytes) -> None:
        source, target = self.machine.host, self.other.machine.host
        if self._held or self.network.blocked(source, target):
            if not self._held:
                self.network.clock.call_at(
                    self.network.clock.now + KEPT_SECONDS, self.machine, self._not_heard
                )
            self._held.append(data)
            return
        clock = self.network.clock
        self._arrives = max(self._arrives, clock.now + self.network.seconds(source, target))
        clock.call_at(self._arrives, None, self.other.arrive, data)

    def _not_heard(self) -> None:
        if self._held and self.kept_alive:
            self._lose(TimeoutError())

    def send_held(self) -> None:
        """The way is free again, if it is: what was held back goes on."""
        if self._held and not self.network.blocked(self.machine.host, self.other.machine.host):
            held, self._held = self._held, deque()
            for data in held:
                if isinstance(data, int):
                    self.other.was_read(data)
                else:
                    self._transmit(data)

    # ---- in

    def arrive(self, data: bytes) -> None:
        if self.machine.gone:
            # Whoever has its address now knows nothing of the connection.
            if not self.other.machine.gone and self.machine.host in self.network.machines:
                self.other.arrive(_RST)
        elif data is _RST and not self.machine.stopped:
            self._lose(ConnectionLost())
        elif not self.lost:
            if data is _FIN or data is _RST:
                self._came.append(data)
            else:
                rng = self.network.draws(self.machine.host, self.other.machine.host)
                self._came += self.network.split(data, rng)
            if self.machine.stopped:
                self._drain_soon()
            else:
                self._drain()

    def _drain_soon(self) -> None:
        if not self._drain_later:
            self._drain_later = True
            self.machine.callLater(0, self._drain)

    def _drain(self) -> None:
        self._drain_later = False
        if self._draining or self.protocol is None:
            return
        self._draining = True
        try:
            while self._came and not self._paused and not self.lost and not self._closed:
                self._take(self._came.popleft())
        finally:
            self._draining = False

    def _take(self, data: bytes) -> None:
        if data is _RST:
            self._lose(ConnectionLost())
        elif data is _FIN:
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self._guarded(self.protocol.readConnectionLost)
            else:
                self._lose(ConnectionDone())
        else:
            if not self.other.machine.gone:
                self._acknowledge(len(data))
            self.taken += len(data)
            self._guarded(self.protocol.dataReceived, data)

    def _acknowledge(self, count: int) -> None:
        if self._held or self.network.blocked(self.machine.host, self.other.machine.host):
            self._held.append(count)
        else:
            self.other.was_read(count)

    def was_read(self, count: int) -> None:
        """So many bytes of ours were read."""
        self._unread -= count
        if self._unsent and not self.lost and not self.machine.gone:
            self._flush_soon()

    def _guarded(self, function: Callable[..., Any], *args: Any) -> None:
        """As a reactor calls: what raises ends the connection, and is an error in the log."""
        try:
            with self.machine.disk():
                function(*args)
        except Exception as error:
            _log.failure("a protocol raised", Failure())
            self._lose(error)

    # ---- the end

    def vanish(self, silent: bool) -> None:
        """The process is gone; its protocol is not called again."""
        self.lost = self._closed = True
        self.protocol = self._producer = None
        self._came.clear()
        if not silent:
            self._transmit(_RST)
        elif self.other.kept_alive:
            clock, other = self.network.clock, self.other
            clock.call_at(clock.now + KEPT_SECONDS, other.machine, other._lose, TimeoutError())
        if self.other.lost:
            self.network.connections.pop(self.number, None)

    def _lose(self, error: Exception) -> None:
        if self.lost:
            return
        if not self._closed:
            self._closed = True
            self._send(_RST)
        self.lost = True
        self.machine.ends.pop(self, None)
        if self.other.lost:
            self.network.connections.pop(self.number, None)
        producer, self._producer = self._producer, None
        reason = Failure(error)
        if producer is not None:
            self._guarded(producer.stopProducing)
        if self.protocol is not None:
            self._guarded(self.protocol.connectionLost, reason)
        if self.connector is not None:
            self.connector.lost(reason)
