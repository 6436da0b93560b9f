"""Calls over Perspective Broker that always end, and always fail in the same few ways.

What Perspective Broker does by itself, and what stands here instead:

- It walks every value in Python, item by item and, as it reads, byte by byte: for a call with a
  thousand small values that is milliseconds. So arguments, and answers, travel packed by msgpack,
  in strings that Perspective Broker passes on whole.
- A string over 640 KiB makes ``callRemote`` raise at once and leak a pending answer; one in an
  answer is never sent at all: what is packed goes in pieces, up to `MESSAGE_BYTES` (`TooLarge`).
- No deadline, and a stopped peer keeps its connection open for ever: every call has a deadline.
- A dead broker raises ``DeadReferenceError`` at once, a lost connection fails the Deferred: both
  become `Unreachable`.
- A remote exception arrives as a name and a text: methods under `answering` return
  ``["ok", value]`` or ``["error", plain error]``, so that our own errors arrive as themselves.

Values are plain: None, bool, int, float, str, bytes, lists and dicts. A tuple arrives as a list.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgpack
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.banana import SIZE_LIMIT

from pytxmr import bigint
from pytxmr.errors import (
    InternalError,
    PeerBroke,
    PytxmrError,
    TooLarge,
    Unreachable,
    from_plain,
    to_plain,
)

CALL_SECONDS = 30.0
#: The most that the arguments of a call, or its answer, may take, packed.
MESSAGE_BYTES = 64 << 20
#: Characters of an error's texts that are sent.
MOST_TEXT = 100_000

_log = Logger()


class Peer:
    """The other end of a logged-in connection."""

    def __init__(self, reference: pb.RemoteReference, clock: IReactorTime, name: str) -> None:
        self._reference = reference
        self._clock = clock
        self._since = clock.seconds()
        self.name = name

    @property
    def connected(self) -> bool:
        return not self._reference.broker.disconnected

    @property
    def connected_seconds(self) -> float:
        """How long ago it has logged in."""
        return float(self._clock.seconds() - self._since)

    def call(self, verb: str, *args: Any, seconds: float = CALL_SECONDS) -> Deferred[Any]:
        """Call ``verb``; the Deferred fires with its answer within ``seconds``, or fails.

        It fails with the `PytxmrError` that the peer answered, with `TooLarge` (or another, for
        what is not plain) before anything is sent, or with `Unreachable`; then the peer may or may
        not have acted on the call.
        """
        try:
            answer: Deferred[Any] = self._reference.callRemote(verb, *pack(args))
        except Exception:
            return Deferred.fromCoroutine(self._fail(verb, Failure()))
        answer.addTimeout(seconds, self._clock)
        answer.addCallbacks(_open_answer, lambda failure: self._translate(verb, failure))
        return answer

    async def _fail(self, verb: str, failure: Failure) -> None:
        self._translate(verb, failure)

    def _translate(self, verb: str, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, PytxmrError):
            raise error
        if isinstance(error, TimeoutError):
            raise Unreachable(f"{self.name} did not answer {verb} in time")
        if isinstance(error, ConnectionClosed | CancelledError | pb.PBConnectionLost):
            raise Unreachable(f"the connection to {self.name} was lost during {verb}")
        if isinstance(error, pb.DeadReferenceError):
            raise Unreachable(f"{self.name} is not connected")
        raise InternalError(f"{verb} at {self.name} failed: {failure.getErrorMessage()}")

    def when_lost(self, told: Callable[[], None]) -> None:
        """Call ``told`` when the connection ends, however it ends."""
        self._reference.broker.notifyOnDisconnect(told)

    def disconnect(self) -> None:
        """Drop the connection, without waiting for what is under way."""
        transport = self._reference.broker.transport
        if transport is not None:
            transport.abortConnection()


def _open_answer(answer: Any) -> Any:
    match unpack(answer):
        case ["ok", value]:
            return value
        case ["error", dict(plain)]:
            raise from_plain(plain)
    raise PeerBroke("an answer is neither ok nor error")


def answering(method: Callable[..., Any]) -> Callable[..., Deferred[list[bytes]]]:
    """Make a ``remote_`` or ``perspective_`` method one that `Peer.call` can call."""

    @wraps(method)
    def answer(self: Any, *packed: Any) -> Deferred[list[bytes]]:
        result = maybeDeferred(lambda: _as_deferred(method(self, *unpack(packed))))
        result.addCallback(lambda value: pack(["ok", value]))
        result.addErrback(_error_answer, method.__name__)
        return result

    return answer


def _as_deferred(value: Any) -> Any:
    return Deferred.fromCoroutine(value) if hasattr(value, "send") else value


def _error_answer(failure: Failure, name: str) -> list[bytes]:
    error: Any = failure.value
    if not isinstance(error, PytxmrError) or isinstance(error, InternalError):
        _log.failure("a call of {name} failed", failure, name=name)
    return pack(["error", sendable_error(error)])


def pack(values: Any) -> list[bytes]:
    """A list or tuple of plain values, in pieces that Perspective Broker can send.

    Raises `TooLarge`, or `PytxmrError` for what is not plain.
    """
    try:
        data = msgpack.packb(values, default=_as_extension)
    except (TypeError, ValueError, OverflowError) as error:
        raise PytxmrError(f"a value cannot be sent: {error}") from error
    if len(data) > MESSAGE_BYTES:
        raise TooLarge(f"{len(data)} bytes are too many for one message ({MESSAGE_BYTES})")
    return [data[start : start + SIZE_LIMIT] for start in range(0, len(data), SIZE_LIMIT)]


def unpack(pieces: Any) -> list[Any]:
    """The inverse of `pack`. Raises `PeerBroke`."""
    try:
        values = msgpack.unpackb(b"".join(pieces), ext_hook=_restored, strict_map_key=False)
    except (TypeError, ValueError) as error:
        raise PeerBroke(f"a message does not decode: {error}") from error
    if not isinstance(values, list):
        raise PeerBroke(f"a message is {type(values).__name__}, not a list")
    return values


def _as_extension(value: Any) -> msgpack.ExtType:
    """What msgpack itself does not pack: of plain values, an int over 64 bits."""
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} is not plain")
    return bigint.packed(_INT, value)


def _restored(code: int, data: bytes) -> int:
    if code != _INT:
        raise ValueError(f"unknown extension type {code}")
    return bigint.unpacked(data)


_INT = 1


def sendable_error(error: BaseException) -> dict[str, Any]:
    """The error as plain values (`to_plain`), its texts cut, and without what cannot be sent."""
    plain = to_plain(error)
    # Names of files that are not UTF-8 have lone surrogates, which cannot be sent.
    plain["message"] = plain["message"][:MOST_TEXT].encode("utf-8", "backslashreplace").decode()
    plain["details"] = {
        key: value[-MOST_TEXT:] if isinstance(value, str) else value
        for key, value in plain["details"].items()
    }
    try:
        pack([plain])
    except PytxmrError:
        plain["details"] = {}
    return plain
