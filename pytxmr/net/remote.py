"""Calls over Perspective Broker that always end, and always fail in the same few ways.

What Perspective Broker does by itself, and what stands here instead:

- No deadline, and a stopped peer keeps its connection open for ever: every call has a deadline.
- A string over 640 KiB, or an int over 448 bits, makes ``callRemote`` raise at once and leak a
  pending answer; one in an answer is never sent at all: both sides check sizes first (`TooLarge`).
- A dead broker raises ``DeadReferenceError`` at once, a lost connection fails the Deferred: both
  become `Unreachable`.
- A remote exception arrives as a name and a text: methods under `answering` return
  ``["ok", value]`` or ``["error", plain error]``, so that our own errors arrive as themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.banana import SIZE_LIMIT

from pytxmr.errors import InternalError, PytxmrError, TooLarge, Unreachable, from_plain, to_plain

CALL_SECONDS = 30.0
#: The largest int that Perspective Broker sends: 64 digits of 7 bits.
INT_BITS = 448
#: Characters of an error's texts that are sent.
MOST_TEXT = 100_000

_log = Logger()


class Peer:
    """The other end of a logged-in connection."""

    def __init__(self, reference: pb.RemoteReference, clock: IReactorTime, name: str) -> None:
        self._reference = reference
        self._clock = clock
        self.name = name

    def call(self, verb: str, *args: Any, seconds: float = CALL_SECONDS) -> Deferred[Any]:
        """Call ``verb``; the Deferred fires with its answer within ``seconds``, or fails.

        It fails with the `PytxmrError` that the peer answered, with `TooLarge` before anything is
        sent, or with `Unreachable`; then the peer may or may not have acted on the call.
        """
        try:
            check_size(args)
            answer: Deferred[Any] = self._reference.callRemote(verb, *args)
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

    def disconnect(self) -> None:
        """Drop the connection, without waiting for what is under way."""
        transport = self._reference.broker.transport
        if transport is not None:
            transport.abortConnection()


def _open_answer(answer: Any) -> Any:
    match answer:
        case ["ok", value]:
            return value
        case ["error", dict(plain)]:
            raise from_plain(plain)
    raise InternalError(f"an answer is neither ok nor error: {answer!r:.100}")


def answering(method: Callable[..., Any]) -> Callable[..., Deferred[list[Any]]]:
    """Make a ``remote_`` or ``perspective_`` method answer in the form that `Peer.call` opens."""

    @wraps(method)
    def answer(self: Any, *args: Any) -> Deferred[list[Any]]:
        result = maybeDeferred(lambda: _as_deferred(method(self, *args)))
        result.addCallback(_checked_answer)
        result.addErrback(_error_answer, method.__name__)
        return result

    return answer


def _as_deferred(value: Any) -> Any:
    return Deferred.fromCoroutine(value) if hasattr(value, "send") else value


def _checked_answer(value: Any) -> list[Any]:
    check_size(value)
    return ["ok", value]


def _error_answer(failure: Failure, name: str) -> list[Any]:
    error: Any = failure.value
    if not isinstance(error, PytxmrError) or isinstance(error, InternalError):
        _log.failure("a call of {name} failed", failure, name=name)
    return ["error", sendable_error(error)]


def sendable_error(error: BaseException) -> dict[str, Any]:
    """The error as plain values (`to_plain`), cut to what Perspective Broker can send."""
    plain = to_plain(error)
    plain["message"] = plain["message"][:MOST_TEXT]
    plain["details"] = {
        key: value[-MOST_TEXT:] if isinstance(value, str) else value
        for key, value in plain["details"].items()
    }
    try:
        check_size(plain)
    except TooLarge:
        plain["details"] = {}
    return plain


def check_size(value: Any) -> None:
    """Raise `TooLarge` for a string, list or int that Perspective Broker would refuse."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str | bytes):
            # A character takes up to four bytes; ASCII, nearly all there is, takes one.
            long = len(item) > SIZE_LIMIT // 4
            if long and len(item if isinstance(item, bytes) else item.encode()) > SIZE_LIMIT:
                raise TooLarge(
                    f"a string of {len(item)} is too long to be sent ({SIZE_LIMIT} bytes)"
                )
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            if len(item) > SIZE_LIMIT:
                raise TooLarge(f"a list of {len(item)} items is too long to be sent")
            stack.extend(item)
        elif isinstance(item, int) and item.bit_length() > INT_BITS:
            raise TooLarge(f"an int of {item.bit_length()} bits is too large to be sent")
