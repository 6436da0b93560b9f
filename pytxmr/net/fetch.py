"""Getting segments from other trackers' KeyValueStores.

One connection per source, opened when there is something to ask and kept until the source ends
it; requests are pipelined on it and answered in order. What arrives goes to a file at once, block
checksums checked on the way, so memory holds one read of the socket per connection.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from pytxmr.errors import (
    DiskFailed,
    PeerBroke,
    PytxmrError,
    SpillDamaged,
    Unreachable,
    from_plain,
)
from pytxmr.failpoints import fail_point
from pytxmr.model import AttemptId, Segment
from pytxmr.net.connections import keep_alive
from pytxmr.net.kvserver import answer_head
from pytxmr.net.secret import sign
from pytxmr.records.spill import BlockChecker

CONNECT_SECONDS = 10.0
#: A source that sends nothing for so long has failed.
STALL_SECONDS = 60.0
#: An answer that arrives more slowly than so many bytes a second, on the whole, has failed too: a
#: source could else keep a reducer waiting for ever with a byte a minute.
SLOWEST_BYTES = 16 * 1024
#: Requests under way on a connection; more wait. With 16 small ones the two ends take turns, with
#: 64 both have always something to do; beyond that nothing is gained, and all of them fail with
#: their connection.
PIPELINED = 64
#: Requests under way on all connections, but for a few on each. A small answer costs about 0.1 ms,
#: and all that are under way may arrive in one turn of the reactor.
ALL_PIPELINED = 256
FEWEST_PIPELINED = 4
#: Bytes read from a connection in one turn of the reactor. Over loopback 256 KiB take three
#: quarters of the processor time of Twisted's 64 KiB. Twice as much saves less than a tenth more,
#: and makes turns twice as long. If a hundred connections have it ready, a turn reads 26 MB, which
#: by the processor time of one connection is some 20 ms.
READ_BYTES = 256 * 1024

_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


def _unwritable(path: str, error: OSError) -> PytxmrError:
    return DiskFailed(f"cannot write {path}: {error.strerror}")


@dataclass(slots=True, eq=False)
class _Request:
    line: bytes
    partitions: tuple[int, ...]
    path: str
    answer: Deferred[dict[int, Segment]] = field(default_factory=Deferred)

    def fail(self, error: PytxmrError) -> None:
        if not self.answer.called:
            self.answer.errback(error)


class FetchProtocol(LineReceiver):
    """The asking end of a connection to a KeyValueStore."""

    delimiter = b"\n"
    MAX_LENGTH = 256 * 1024

    def __init__(self, clock: Any, on_ready: Callable[[], None]) -> None:
        self._clock = clock
        self._on_ready = on_ready
        self._asked: deque[_Request] = deque()
        self._file: BinaryIO | None = None
        self._checker = BlockChecker()
        self._lengths: list[int] = []
        self._left = 0
        self._too_late = 0.0
        self._deadline: Any = None
        self._broken: PytxmrError | None = None
        self.alive = True

    @property
    def under_way(self) -> int:
        return len(self._asked)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.bufferSize = READ_BYTES
        keep_alive(transport)

    def ask(self, request: _Request) -> None:
        self._asked.append(request)
        self.sendLine(request.line)
        self._extend_deadline()

    def lineReceived(self, line: bytes) -> None:
        if not self.alive:
            return
        self._extend_deadline()
        if not self._asked:
            return self._break(PeerBroke("an answer came without a request"))
        text = line.decode("utf-8", "replace")
        request = self._asked[0]
        if text.startswith("! "):
            code, _, message = text[2:].partition(": ")
            self._asked.popleft()
            request.fail(from_plain({"code": code, "message": message}))
            return self._answered()
        lengths = text.split(" ")[1:-1]
        if (
            len(lengths) != len(request.partitions)
            or not all(map(_LENGTH.fullmatch, lengths))
            or line != answer_head(request.line, map(int, lengths))
        ):
            return self._break(PeerBroke(f"{text!r:.80} is no answer to fetch"))
        self._lengths = [int(length) for length in lengths]
        self._left = sum(self._lengths)
        self._too_late = self._clock.seconds() + STALL_SECONDS + self._left / SLOWEST_BYTES
        self._checker = BlockChecker()
        try:
            self._file = open(request.path, "wb", buffering=0)
        except OSError as error:
            self._give_up(_unwritable(request.path, error))
        if self._left:
            self.setRawMode()
        else:
            self._whole()

    def rawDataReceived(self, data: bytes) -> None:
        if not self.alive:
            return
        if self._clock.seconds() > self._too_late:
            return self._break(Unreachable(f"less than {SLOWEST_BYTES} bytes a second arrived"))
        self._extend_deadline()
        part, rest = data[: self._left], data[self._left :]
        self._left -= len(part)
        if self._file is not None:
            self._keep(self._file, part)
        if self._left == 0:
            self._whole()
            self.setLineMode(rest)

    def _keep(self, file: BinaryIO, part: bytes) -> None:
        """Check and write the next bytes of the answer at hand."""
        try:
            fail_point("fetch-receiving")
            self._checker.feed(part)
            if self._left == 0:
                self._checker.finish()
            view = memoryview(part)
            while view:
                view = view[file.write(view) :]
        except SpillDamaged as error:
            self._give_up(error)
        except OSError as error:
            self._give_up(_unwritable(self._asked[0].path, error))

    def _give_up(self, error: PytxmrError) -> None:
        """Fail the request at hand; its bytes are passed over, for the sake of those behind it.

        To drop the connection instead would fail them all, and as they are tried again together,
        one damaged spill would have its source's others reported as lost. Those are checked as
        well, and of a source that has lost its place in the stream no line is an answer.
        """
        request = self._asked[0]
        self._close_file()
        request.fail(error)

    def _whole(self) -> None:
        request = self._asked.popleft()
        if self._file is not None:
            self._file.close()
            self._file = None
            found: dict[int, Segment] = {}
            offset = 0
            for partition, length in zip(request.partitions, self._lengths, strict=True):
                found[partition] = Segment(request.path, offset, length)
                offset += length
            request.answer.callback(found)
        self._answered()

    def _answered(self) -> None:
        if not self._asked and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._on_ready()

    def _extend_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self._clock.callLater(STALL_SECONDS, self._stalled)
        else:
            self._deadline.reset(STALL_SECONDS)

    def _stalled(self) -> None:
        self._deadline = None
        self._break(Unreachable(f"nothing arrived for {STALL_SECONDS:.0f} s"))

    def _break(self, error: PytxmrError) -> None:
        """Fail the request at hand with ``error``; those behind it fail as the connection ends."""
        self._broken = error
        self.alive = False
        self._close_file()
        self.abort()

    def abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            try:
                os.unlink(self._asked[0].path)
            except FileNotFoundError:
                pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.alive = False
        self._close_file()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        failed, self._asked = self._asked, deque()
        for number, request in enumerate(failed):
            if number == 0 and self._broken is not None:
                request.fail(self._broken)
            else:
                request.fail(Unreachable(f"connection lost: {reason.getErrorMessage()}"))
        self._on_ready()


class _Source:
    """The connection to one tracker, and what is to be asked of it."""

    def __init__(
        self, reactor: Any, address: tuple[str, int], pipelined: Callable[[], int]
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._pipelined = pipelined
        self._waiting: deque[_Request] = deque()
        self._connecting: Deferred[Any] | None = None
        self._protocol: FetchProtocol | None = None

    def ask(self, request: _Request) -> None:
        self._waiting.append(request)
        self._go_on()

    def _go_on(self) -> None:
        protocol = self._protocol
        if protocol is not None and not protocol.alive:
            protocol = self._protocol = None
        if protocol is None:
            if self._waiting and self._connecting is None:
                self._connect()
            return
        while self._waiting and protocol.under_way < self._pipelined():
            protocol.ask(self._waiting.popleft())

    def _connect(self) -> None:
        host, port = self._address
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_SECONDS)
        factory = Factory.forProtocol(lambda: FetchProtocol(self._reactor, self._go_on))
        factory.noisy = False
        self._connecting = endpoint.connect(factory)
        self._connecting.addCallbacks(self._connected, self._failed)

    def _connected(self, protocol: FetchProtocol) -> None:
        self._connecting = None
        self._protocol = protocol
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        self._fail_waiting(f"cannot connect to {self._address}: {failure.getErrorMessage()}")

    def _fail_waiting(self, message: str) -> None:
        failed, self._waiting = self._waiting, deque()
        for request in failed:
            request.fail(Unreachable(message))

    def close(self) -> None:
        self._fail_waiting("the tasktracker stopped")
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None and self._protocol.alive:
            self._protocol.abort()


class Fetcher:
    """Fetches segments for one tracker; one `_Source` per tracker that it fetches from."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sources: dict[tuple[str, int], _Source] = {}
        self._closed = False

    def fetch(
        self,
        address: tuple[str, int],
        key: bytes,
        job: str,
        attempt: AttemptId,
        partitions: tuple[int, ...],
        path: str,
    ) -> Deferred[dict[int, Segment]]:
        """Get the partitions of a map attempt into the file ``path``.

        Fires with the segment of each partition. Fails with `Unreachable`, `SpillDamaged`,
        `NotFound`, `Refused`, `PeerBroke` or `DiskFailed`; then there is no file.
        """
        text = f"{job} {attempt} {','.join(map(str, partitions))}"
        line = f"fetch {text} {sign(key, text)}".encode()
        request = _Request(line, partitions, path)
        if self._closed:
            request.fail(Unreachable("the tasktracker stopped"))
            return request.answer
        source = self._sources.get(address)
        if source is None:
            source = _Source(self._reactor, address, self._pipelined)
            self._sources[address] = source
        source.ask(request)
        return request.answer

    def _pipelined(self) -> int:
        """How many requests one source may have under way."""
        share = ALL_PIPELINED // len(self._sources)
        return min(PIPELINED, max(FEWEST_PIPELINED, share))

    def close(self) -> None:
        """Fail what is under way, and whatever is asked from now on."""
        self._closed = True
        for source in self._sources.values():
            source.close()
        self._sources.clear()
