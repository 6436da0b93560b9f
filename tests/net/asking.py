"""The inspection and shuffle port, asked in memory: what tests of its two ends share."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from wires import Stock

from pytxmr.net import kvserver
from pytxmr.net.kvserver import KeyValueFactory
from pytxmr.net.secret import sign

TOKEN = "7e" * 16
KEY = b"the key of the first job"
NEAR = IPv4Address("TCP", "127.0.0.1", 4711)
FAR = IPv4Address("TCP", "192.0.2.7", 4711)

WORDS = [("a", [1, 2]), ("b", [3]), ("c", [4, 5, 6])]
MORE_WORDS = [("d", [7])]


class Transport(StringTransport):
    """Takes what is written; with ``room`` it pauses the producer from within the write."""

    room: int | None = None
    is_lost = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.room is not None and self.producer and len(self.value()) > self.room:
            self.producer.pauseProducing()

    def drain(self) -> bytes:
        """Take out what is there, and let the producer go on."""
        data = self.value()
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return data


class Connection:
    """A `KeyValueProtocol` on a transport in memory."""

    def __init__(self, stock: Stock, peer: Any = NEAR, factory: Any = None) -> None:
        self.clock = factory.clock if factory else Clock()
        self.factory = factory or KeyValueFactory(stock.store, TOKEN, self.clock)
        self.protocol = self.factory.buildProtocol(peer)
        self.transport = Transport(peerAddress=peer)
        self.protocol.makeConnection(self.transport)

    def say(self, data: bytes) -> None:
        """Let data arrive, and the server do what it put off."""
        self.protocol.dataReceived(data)
        for _ in range(50):
            self.clock.advance(0)

    def ask(self, data: bytes) -> bytes:
        self.transport.clear()
        self.say(data)
        return self.transport.value()

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends: what a real transport does, in its order."""
        if self.transport.producer is not None:
            self.transport.producer.stopProducing()
        self.protocol.connectionLost(Failure(reason or error.ConnectionDone()))


def shown(groups: Any, length: int) -> bytes:
    """What a person should see of a partition."""
    pairs = [[key, value] for key, values in groups for value in values]
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs]
    lines.append(f"# {len(pairs)} pairs, {len(groups)} keys, {length} bytes\n")
    return "\n".join(lines).encode()


def fetch(
    attempt: Any = "Map001.0", partitions: str = "0", job: str = "Job001", key: bytes = KEY
) -> bytes:
    text = f"{job} {attempt} {partitions}"
    return f"fetch {text} {sign(key, text)}\n".encode()


def head(request: bytes, *lengths: int) -> bytes:
    """The line before partitions of these lengths, in answer to that request."""
    return kvserver.answer_head(request.rstrip(b"\n"), lengths) + b"\n"


def content(segment: Any) -> bytes:
    """What has arrived of a partition."""
    with open(segment.path, "rb") as file:
        file.seek(segment.offset)
        return file.read(segment.length)
