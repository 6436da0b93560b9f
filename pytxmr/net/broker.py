"""One connection of Perspective Broker, which a hostile peer can make neither large nor busy.

Perspective Broker takes values apart before it looks at what they are for, so also before a login;
the login alone guards nothing. What Banana accepts by itself: lists in lists without end, lists of
655,360 of them, and for each of their items it copies all the bytes that are still to be read. So:

- Before the login no more than `LOGIN_BYTES` are read at all.
- No expression is nested deeper than `MOST_NESTED`, has more than `MOST_ITEMS` items or more than
  `EXPRESSION_BYTES` in its strings. Ours are few strings, however large (see `remote`).
- Of the types that can be written only those are taken that ours are made of.
- A peer that does not read what it is sent, for `STALL_SECONDS`, is cut off.

Whoever exceeds that, or breaks the protocol, loses the connection, and the log gets one line.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.banana import BananaError
from twisted.spread.jelly import SecurityOptions
from zope.interface import implementer

from pytxmr.net.connections import keep_alive, send_at_once
from pytxmr.net.remote import MESSAGE_BYTES

#: A login takes some 700.
LOGIN_BYTES = 16 * 1024
MOST_NESTED = 32
#: A message of the largest size is some hundred strings.
MOST_ITEMS = 1000
EXPRESSION_BYTES = MESSAGE_BYTES + 64 * 1024
STALL_SECONDS = 60.0

_log = Logger()


def _types() -> SecurityOptions:
    """What may be written: without sets, whose items a peer could choose to collide, and dates."""
    options = SecurityOptions()
    options.allowedTypes = dict.fromkeys(
        [b"None", b"NoneType", b"boolean", b"unicode", b"list", b"tuple", b"dictionary"], 1
    )
    options.allowTypes("reference", "dereference", "remote", "local")
    return options


SECURITY = _types()


class _Unfinished(list[tuple[int, list[Any]]]):
    """Banana's stack of lists that have begun; it does not let them be deep or long."""

    def append(self, begun: tuple[int, list[Any]]) -> None:
        if begun[0] > MOST_ITEMS:
            raise BananaError(f"a list of {begun[0]} items")
        if len(self) >= MOST_NESTED:
            raise BananaError(f"lists nested deeper than {MOST_NESTED}")
        super().append(begun)


@implementer(IPushProducer)
class Broker(pb.Broker):
    """Either end of a connection. The factory has a ``clock``."""

    factory: Any
    transport: Any

    def __init__(self, isClient: bool = True, security: SecurityOptions = SECURITY) -> None:
        super().__init__(isClient, security)
        self.listStack = _Unfinished()
        self._is_logged_in = False
        self._read = self._items = self._bytes = 0
        self._stall: Any = None

    def logged_in(self) -> None:
        """From now on the peer may send more than a login takes."""
        self._is_logged_in = True

    def connectionMade(self) -> None:
        send_at_once(self.transport)
        keep_alive(self.transport)
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def dataReceived(self, chunk: bytes) -> None:
        try:
            if not self._is_logged_in:
                self._read += len(chunk)
                if self._read > LOGIN_BYTES:
                    raise BananaError(f"more than {LOGIN_BYTES} bytes before the login")
            super().dataReceived(chunk)
        except Exception as error:
            _log.warn(
                "{peer} broke the protocol and is cut off: {error}",
                peer=self.transport.getPeer(),
                error=f"{type(error).__name__}: {error}"[:200],
            )
            self.buffer = b""
            self.listStack.clear()
            self.transport.abortConnection()

    def gotItem(self, item: Any) -> None:
        self._items += 1
        if isinstance(item, bytes):
            self._bytes += len(item)
        if self._items > MOST_ITEMS:
            raise BananaError(f"an expression of more than {MOST_ITEMS} items")
        if self._bytes > EXPRESSION_BYTES:
            raise BananaError(f"an expression of more than {EXPRESSION_BYTES} bytes")
        if not self.listStack:
            self._items = self._bytes = 0
        super().gotItem(item)

    # ---- as the producer of what is sent: it cannot wait, but it sees who does not read

    def pauseProducing(self) -> None:
        if self._stall is None:
            self._stall = self.factory.clock.callLater(STALL_SECONDS, self._stalled)

    def resumeProducing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def stopProducing(self) -> None:
        self.resumeProducing()

    def _stalled(self) -> None:
        self._stall = None
        _log.warn("{peer} does not read and is cut off", peer=self.transport.getPeer())
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.resumeProducing()
        super().connectionLost(reason)
