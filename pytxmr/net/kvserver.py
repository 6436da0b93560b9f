"""The port of the KeyValueStore: segments for reducers, partitions for people.

Requests are lines, ended by LF or CRLF, answered in order; while one is being answered no further
one is read. Every answer goes through a producer, so a peer that asks and does not read costs one
piece and a transport's buffer, whatever it asks. For trackers::

    fetch Job001 Map001.0 0,3,5 SIGNATURE     →  = 4096 0 1200 CHECKSUM
                                                  bytes of each partition, a checksum of request
                                                  and answer, and the blocks as they lie on disk

For people, on loopback or after ``auth TOKEN``::

    Job001@Map001@0    →  a JSON array [key, value] a line, then # pairs, keys, bytes
    jobs, help, quit

What cannot be answered gets one line that begins with ``!``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from xxhash import xxh3_64_hexdigest
from zope.interface import implementer

from pytxmr.errors import NotFound, PytxmrError, Refused, SpillDamaged
from pytxmr.failpoints import fail_point
from pytxmr.interfaces import ISpillSource
from pytxmr.model import MAP, AttemptId, TaskId, checked_job_id
from pytxmr.net.connections import keep_alive
from pytxmr.net.inspection import inspected_lines
from pytxmr.net.listening import is_loopback
from pytxmr.net.secret import same, sign
from pytxmr.records.spill import PartitionRange

#: Bytes read from disk and given to the transport at a time. Twice as much sends no faster, and a
#: slow reader keeps one in memory. Socket buffers are left to the system, which grows them with
#: use: sizes set from here, 1 to 4 MiB on either side, made no difference over loopback (see ``make
#: bench ROWS=shuffle-sizes``).
CHUNK_BYTES = 128 * 1024
#: After so many requests in a row a connection lets others have their turn of the reactor. Each
#: costs about 0.05 ms; 16 in a row are hardly faster.
REQUESTS_PER_TURN = 8
#: A request may name this many partitions; a tracker that wants more asks several times.
MOST_PARTITIONS = 4000
#: A connection that neither asks nor reads for so long is dropped.
IDLE_SECONDS = 600.0
#: For one that has asked nothing yet, or last asked what cannot be answered: nobody may be there.
STRANGER_SECONDS = 60.0
STALL_SECONDS = 60.0
#: Of more connections than this, the oldest that has proved nothing (by a signature or a token) is
#: dropped; the newest is refused if there is none such.
MOST_CONNECTIONS = 512

HELP = [
    "Job001@Map001@0   the pairs of partition 0 of what map 1 of job 1 put out, in key order",
    "jobs              the jobs and map outputs that this tracker holds",
    "auth TOKEN        needed from other machines; `pytxmr token --secret-file FILE` prints it",
    "quit              end the connection",
]

_PARTITION = re.compile(r"[0-9]{1,9}", re.ASCII)
_log = Logger()


@implementer(IPushProducer)
class SpillProducer:
    """Pushes pieces of bytes to a transport, as fast as it takes them and no faster.

    ``pieces`` is read one at a time while the transport wants more, so that memory holds one piece
    and the transport's own buffer (64 KiB), however slow the reader. ``done`` is called at the end,
    ``failed`` with a `PytxmrError` that a piece raised.
    """

    def __init__(
        self,
        transport: Any,
        pieces: Iterator[bytes],
        done: Callable[[], None],
        failed: Callable[[PytxmrError], None],
        clock: IReactorTime,
    ) -> None:
        self._transport = transport
        self._pieces = pieces
        self._done = done
        self._failed = failed
        self._clock = clock
        self._paused = False
        self._running = False
        self._stall: Any = None

    def start(self) -> None:
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True
        if self._stall is None:
            self._stall = self._clock.callLater(STALL_SECONDS, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        _log.warn("{peer} does not read and is cut off", peer=self._transport.getPeer())
        self._transport.abortConnection()

    def resumeProducing(self) -> None:
        self._paused = False
        self._cancel_stall()
        if self._running:
            return
        self._running = True
        try:
            while not self._paused:
                piece = next(self._pieces, None)
                if piece is None:
                    self._finish()
                    self._done()
                    return
                self._transport.write(piece)
        except PytxmrError as error:
            self._finish()
            self._failed(error)
        finally:
            self._running = False

    def stopProducing(self) -> None:
        self._paused = True
        self._cancel_stall()
        self._pieces.close()  # type: ignore[attr-defined]

    def _finish(self) -> None:
        self._paused = True
        self._transport.unregisterProducer()

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


@implementer(IHalfCloseableProtocol)
class KeyValueProtocol(LineReceiver):
    """One connection, of a tracker or of a person."""

    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024
    factory: KeyValueFactory
    transport: Any

    def connectionMade(self) -> None:
        self._alive = True
        self._requests = 0
        self._trusted = is_loopback(getattr(self.transport.getPeer(), "host", ""))
        self._answering: SpillProducer | None = None
        self._idle = self.factory.clock.callLater(STRANGER_SECONDS, self.transport.abortConnection)
        keep_alive(self.transport)
        if not self.factory.takes(self):
            self._refuse(Refused("too many connections; try again later"))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._alive = False
        self.factory.left(self)
        if self._idle.active():
            self._idle.cancel()

    def readConnectionLost(self) -> None:
        # ``echo jobs | nc`` closes its half at once; it wants the answer all the same.
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse(NotFound(f"a request has at most {self.MAX_LENGTH} bytes"))
        self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        self._idle.reset(IDLE_SECONDS)
        self._requests += 1
        try:
            self._line = line
            self._request(line.rstrip(b"\r").decode("ascii", "replace").strip())
        except PytxmrError as error:
            self._idle.reset(STRANGER_SECONDS)
            self._say([_refusal(error)])
        if self._answering is not None:
            self.pauseProducing()
            self._idle.reset(IDLE_SECONDS * 100)
        elif self._requests >= REQUESTS_PER_TURN:
            self.pauseProducing()
            self._read_on_later()

    def _request(self, request: str) -> None:
        word, _, rest = request.partition(" ")
        if word == "fetch":
            self._fetch(rest)
        elif word == "quit":
            self.transport.loseConnection()
        elif word == "auth":
            self._auth(rest.strip())
        elif request and not self._trusted:
            raise Refused("say auth TOKEN first; `pytxmr token` prints the token of a secret file")
        elif word == "help":
            self._say(HELP)
        elif word == "jobs":
            self._say(self.factory.store.describe())
        elif "@" in request:
            self._inspect(request)
        elif request:
            raise NotFound(f"{request!r:.80} is no request; type help")

    def _say(self, lines: Iterable[str]) -> None:
        self._push(
            (line.encode("utf-8", "backslashreplace") + self.delimiter for line in lines),
            on_damage=self._refuse,
        )

    def _refuse(self, error: PytxmrError) -> None:
        """Say so at once; for what ends an answer or the connection, and so cannot pile up."""
        self.sendLine(_refusal(error).encode("utf-8", "backslashreplace"))

    def _auth(self, token: str) -> None:
        if not same(self.factory.token, token):
            self._refuse(Refused("wrong token"))
            self.transport.loseConnection()
            return
        self._trusted = True
        self.factory.strangers.pop(self, None)
        self._say(["# welcome; type help"])

    # ---- segments, for reducers

    def _fetch(self, rest: str) -> None:
        text, _, signature = rest.rpartition(" ")
        fields = text.split(" ")
        if len(fields) != 3:
            raise NotFound("fetch wants a job, an attempt, partitions and a signature")
        store = self.factory.store
        job = checked_job_id(fields[0])
        # One answer for an unknown job and a wrong key: a stranger learns nothing of jobs.
        try:
            key = store.shuffle_key(job)
        except NotFound:
            key = b""
        if not key or not same(sign(key, text), signature):
            raise Refused("the request is not signed with a key of a job that is known here")
        self.factory.strangers.pop(self, None)
        attempt = AttemptId.parse(fields[1])
        partitions = fields[2].split(",")
        if len(partitions) > MOST_PARTITIONS or not all(map(_PARTITION.fullmatch, partitions)):
            raise NotFound(f"{fields[2]!r:.80} are no partitions")
        fd, ranges = store.open_attempt(job, attempt)
        try:
            wanted = [_range(ranges, int(partition)) for partition in partitions]
        except NotFound:
            os.close(fd)
            raise
        self.sendLine(answer_head(self._line, [part.length for part in wanted]))
        self._push(stored_blocks(fd, wanted), on_damage=self._cut_off)

    # ---- partitions, for people

    def _inspect(self, request: str) -> None:
        job, task, partition = (request.split("@") + ["", ""])[:3]
        store = self.factory.store
        number = TaskId.parse(task)
        if request.count("@") != 2 or not _PARTITION.fullmatch(partition) or number.kind != MAP:
            raise NotFound(f"{request!r:.80} is no address; they look like Job001@Map001@0")
        fd, ranges = store.open_map(checked_job_id(job), number.index)
        try:
            part = _range(ranges, int(partition))
        except NotFound:
            os.close(fd)
            raise
        self._push(inspected_lines(fd, part), on_damage=self._refuse)

    # ---- both

    def _push(self, pieces: Iterator[bytes], on_damage: Callable[[PytxmrError], None]) -> None:
        """Answer with these pieces; read no further request until they are all sent.

        What the transport takes without a pause is sent on return; then nothing has to wait.
        """

        def failed(error: PytxmrError) -> None:
            on_damage(error)
            self._answered()

        self._answering = SpillProducer(
            self.transport, pieces, self._answered, failed, self.factory.clock
        )
        self._answering.start()

    def _answered(self) -> None:
        self._answering = None
        if self.paused:
            self._idle.reset(IDLE_SECONDS)
            self._read_on_later()

    def _read_on_later(self) -> None:
        # Not at once: a flood of tiny requests must neither recurse nor keep others waiting.
        self.factory.clock.callLater(0, self._read_on)

    def _read_on(self) -> None:
        self._requests = 0
        if self._alive and self._answering is None:
            self.resumeProducing()

    def _cut_off(self, error: PytxmrError) -> None:
        """A segment turned out short half-way: the reader must not take the rest for blocks."""
        _log.error("a segment cannot be sent: {error}", error=error)
        self.transport.abortConnection()


def _range(ranges: list[PartitionRange], partition: int) -> PartitionRange:
    if partition >= len(ranges):
        raise NotFound(f"there are partitions 0 to {len(ranges) - 1}, and no {partition}")
    return ranges[partition]


def _refusal(error: PytxmrError) -> str:
    return f"! {error.code}: {' '.join(error.message.split())}"


def answer_head(request: bytes, lengths: Iterable[int]) -> bytes:
    """The first line of the answer to a fetch, without its end.

    Answers come in the order of the requests, and name none of them. A byte that is altered on the
    way could join two requests into one, whose answers then are one too few, or make a length 0:
    blocks have checksums, but which they are, and how many, only this line says.
    """
    text = "= " + " ".join(map(str, lengths))
    return f"{text} {xxh3_64_hexdigest(request + text.encode())}".encode()


def stored_blocks(fd: int, ranges: list[PartitionRange]) -> Iterator[bytes]:
    """The bytes of the ranges, as they lie on disk, in chunks; closes ``fd`` at the end."""
    try:
        pieces = []
        room = CHUNK_BYTES
        for part in ranges:
            offset, end = part.offset, part.offset + part.length
            while offset < end:
                data = os.pread(fd, min(room, end - offset), offset)
                if not data:
                    raise SpillDamaged("a spill became shorter while it was sent")
                offset += len(data)
                room -= len(data)
                pieces.append(data)
                if not room:
                    yield b"".join(pieces)
                    fail_point("fetch-sending")
                    pieces.clear()
                    room = CHUNK_BYTES
        if pieces:
            yield b"".join(pieces)
    finally:
        os.close(fd)


class KeyValueFactory(ServerFactory):
    """Serves a store; ``token`` is what ``auth`` wants."""

    protocol: Any = KeyValueProtocol
    noisy = False

    def __init__(self, store: ISpillSource, token: str, clock: Any) -> None:
        self.store: Any = store
        self.token = token
        self.clock = clock
        self._connections: set[KeyValueProtocol] = set()
        #: The connections that have proved nothing, oldest first.
        self.strangers: dict[KeyValueProtocol, None] = {}

    @property
    def connections(self) -> int:
        return len(self._connections)

    def takes(self, connection: KeyValueProtocol) -> bool:
        """Count a new connection; False if there is no room for it."""
        self._connections.add(connection)
        if self.connections > MOST_CONNECTIONS:
            if not self.strangers:
                return False
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            oldest.transport.abortConnection()
        self.strangers[connection] = None
        return True

    def left(self, connection: KeyValueProtocol) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self.strangers.pop(connection, None)

    def close(self) -> None:
        """End every connection, at once."""
        for connection in list(self._connections):
            connection.transport.abortConnection()
