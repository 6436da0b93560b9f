"""Perspective Broker and its enemies: bombs are cut before they go off, before a login and after.

A bomb is written byte by byte here: what sends ours would not write it.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.spread import pb
from twisted.spread.banana import SIZE_LIMIT
from wires import MemoryEndpoint, Mute, Scripted, result_of, serve, soon, until

from pytxmr.net import login
from pytxmr.net.broker import (
    EXPRESSION_BYTES,
    LOGIN_BYTES,
    MOST_ITEMS,
    MOST_NESTED,
    STALL_SECONDS,
)
from pytxmr.net.connections import SILENT_SECONDS
from pytxmr.net.kvserver import KeyValueFactory
from pytxmr.net.login import LoginFactory, log_in
from pytxmr.net.remote import MESSAGE_BYTES, Peer, answering
from pytxmr.simulation.strangers.pieces import integer, list_of, message, number, text

SECRET = b"5e" * 32


class Avatar(pb.Avatar):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    @answering
    def perspective_size(self, value: bytes) -> int:
        return len(value)

    @answering
    def perspective_fill(self, size: int) -> bytes:
        return bytes(size)


class Mind(pb.Referenceable):
    pass


class Server:
    """A server of logins in memory, and what it was sent."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.avatars: list[Avatar] = []
        self.factory: Any = LoginFactory(SECRET, {b"client": self._avatar}, self.clock)

    def _avatar(self, peer: Peer) -> Avatar:
        self.avatars.append(Avatar(peer))
        return self.avatars[-1]

    def connect(self) -> MemoryEndpoint:
        """A stranger."""
        endpoint = MemoryEndpoint(self.factory)
        result_of(endpoint.connect(Factory.forProtocol(Mute)))
        endpoint.flush()
        return endpoint

    def log_in(self) -> tuple[MemoryEndpoint, Peer]:
        endpoint = MemoryEndpoint(self.factory)
        coming = log_in(endpoint, "client", SECRET, Mind(), self.clock, "the server")
        peer = Deferred.fromCoroutine(coming)
        endpoint.flush()
        return endpoint, result_of(peer)

    def works(self) -> bool:
        endpoint, peer = self.log_in()
        answer = peer.call("size", b"12345")
        endpoint.flush()
        peer.disconnect()
        endpoint.flush()
        return result_of(answer) == 5


@pytest.fixture
def server() -> Server:
    return Server()


LARGEST = SIZE_LIMIT
COLLIDING = [n * (2**61 - 1) for n in range(1, 3000)]
BOMBS = {
    "a giant total": list_of(LARGEST),
    "an impossible total": list_of(2**400),
    "giant totals in one another": list_of(LARGEST) * 20,
    "nested 200,000 deep": list_of(1) * 200_000,
    "nested 200,000 deep, and closed": list_of(1) * 200_000 + list_of(0),
    "nested 200,000 deep in a call": message(list_of(2) + text(b"list"))
    + (list_of(2) + text(b"list")) * 200_000,
    "a million empty lists": list_of(LARGEST) + list_of(0) * 1_000_000,
    "strings without end": list_of(LARGEST) + text(b"x" * LARGEST) * 150,
    "strings of nothing without end": list_of(LARGEST) + text(b"") * LARGEST,
    "ints that collide in a set": message(
        list_of(len(COLLIDING) + 1) + text(b"set") + b"".join(map(integer, COLLIDING))
    ),
    "a giant string": number(LARGEST + 1) + b"\x82",
    "a number without end": b"\x01" * 100_000,
}


def throw(endpoint: MemoryEndpoint, data: bytes) -> int:
    """Send data in pieces, as a socket gives them, until hung up on; how much was taken."""
    for start in range(0, len(data), 65_536):
        if endpoint.server_transport.disconnected or endpoint.server_transport.disconnecting:
            return start
        endpoint.client_transport.write(data[start : start + 65_536])
        endpoint.flush()
    return len(data)


def is_cut(endpoint: MemoryEndpoint) -> bool:
    endpoint.flush()
    return bool(endpoint.client_transport.disconnected)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_before_the_login_is_cut_at_the_budget_of_a_login(server, kind):
    endpoint = server.connect()
    taken = throw(endpoint, text(b"pb") + BOMBS[kind])
    if len(BOMBS[kind]) > LOGIN_BYTES:
        assert is_cut(endpoint)
    server.clock.advance(login.LOGIN_SECONDS)
    assert is_cut(endpoint)
    assert taken <= LOGIN_BYTES + 65_536
    assert server.works()
    assert server.clock.getDelayedCalls() == []


def test_what_is_read_before_a_login_is_little_although_a_message_may_be_large(server):
    harmless = list_of(2) + text(bytes(LOGIN_BYTES))
    stranger = server.connect()
    throw(stranger, text(b"pb") + harmless)
    assert is_cut(stranger)
    friend, peer = server.log_in()
    throw(friend, harmless)
    assert not is_cut(friend)
    peer.disconnect()


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_after_the_login_is_cut_at_the_budget_of_a_message(server, kind):
    endpoint, _ = server.log_in()
    throw(endpoint, BOMBS[kind])
    assert is_cut(endpoint)
    assert endpoint.server.buffer == b""
    assert endpoint.server.listStack == []
    assert server.works()
    assert server.clock.getDelayedCalls() == []


@pytest.mark.parametrize("kind", ["nested", "items", "bytes"])
def test_the_budget_of_a_message_is_what_it_says(server, kind):
    within, beyond = {
        "nested": (
            list_of(1) * (MOST_NESTED - 1) + list_of(0),
            list_of(1) * MOST_NESTED + list_of(0),
        ),
        "items": (
            list_of(2) + list_of(MOST_ITEMS) + integer(1) * (MOST_ITEMS - 2) + list_of(0),
            list_of(2) + list_of(MOST_ITEMS) + integer(1) * MOST_ITEMS + integer(1),
        ),
        "bytes": (
            list_of(200) + text(bytes(LARGEST)) * (EXPRESSION_BYTES // LARGEST),
            list_of(200) + text(bytes(LARGEST)) * (EXPRESSION_BYTES // LARGEST + 1),
        ),
    }[kind]
    endpoint, _ = server.log_in()
    endpoint.server.expressionReceived = lambda expression: None
    throw(endpoint, within)
    assert not is_cut(endpoint)
    endpoint.server.transport.abortConnection()
    endpoint.flush()
    endpoint, _ = server.log_in()
    endpoint.server.expressionReceived = lambda expression: None
    throw(endpoint, beyond)
    assert is_cut(endpoint)


@pytest.mark.parametrize("kind", ["set", "frozenset", "decimal", "datetime", "module", "function"])
def test_types_that_are_not_ours_are_not_made(server, kind, logged):
    endpoint = server.connect()
    argument = list_of(3) + text(kind.encode()) + integer(1) + integer(2)
    throw(endpoint, text(b"pb") + message(argument))
    assert b"InsecureJelly" in endpoint.client.heard
    logged.flush()


def test_the_largest_message_that_may_be_sent_arrives(server):
    endpoint, peer = server.log_in()
    answer = peer.call("size", bytes(MESSAGE_BYTES - 100))
    endpoint.flush()
    assert result_of(answer) == MESSAGE_BYTES - 100
    answer = peer.call("fill", MESSAGE_BYTES - 100)
    endpoint.flush()
    assert len(result_of(answer)) == MESSAGE_BYTES - 100


def test_a_server_that_bombs_its_clients_is_cut_off(server):
    endpoint, peer = server.log_in()
    endpoint.server_transport.write(BOMBS["nested 200,000 deep"])
    endpoint.flush()
    assert endpoint.server_transport.disconnected
    answer = peer.call("size", b"")
    assert type(result_of(answer.addErrback(lambda failure: failure.value))).__name__ == (
        "Unreachable"
    )


def test_of_too_many_strangers_the_oldest_is_cut_off_and_who_has_the_secret_gets_in(
    server, monkeypatch
):
    monkeypatch.setattr(login, "MOST_STRANGERS", 3)
    _, friend = server.log_in()
    strangers = [server.connect() for _ in range(10)]
    assert [is_cut(stranger) for stranger in strangers] == [True] * 7 + [False] * 3
    assert server.works()
    server.clock.advance(login.LOGIN_SECONDS)
    assert all(map(is_cut, strangers))
    friend.disconnect()
    assert server.factory.strangers == {}


def test_connections_above_the_limit_are_closed(server, monkeypatch):
    monkeypatch.setattr(login, "MOST_CONNECTIONS", 2)
    endpoints = [server.log_in()[0] for _ in range(2)]
    assert server.factory.buildProtocol(None) is None
    endpoints[0].client.transport.abortConnection()
    endpoints[0].flush()
    assert server.works()


def test_whoever_does_not_read_its_answers_is_cut_off_in_time(server):
    endpoint, _ = server.log_in()
    broker = endpoint.server
    broker.pauseProducing()  # as the transport does once 64 KiB wait to be sent
    server.clock.advance(STALL_SECONDS - 1)
    broker.resumeProducing()
    broker.pauseProducing()
    broker.pauseProducing()
    server.clock.advance(STALL_SECONDS - 1)
    assert not is_cut(endpoint)
    server.clock.advance(1)
    assert is_cut(endpoint)
    assert server.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_of_a_peer_that_asks_and_does_not_read_the_transport_tells_the_broker(reactor):
    server = Server()
    server.clock = reactor
    server.factory.clock = reactor
    port = await serve(server.factory)
    try:
        where = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        peer = await soon(log_in(where, "client", SECRET, Mind(), reactor, "the server"))
        there = peer._reference.broker.transport
        there.pauseProducing()
        asked = peer.call("fill", 32 << 20)
        asked.addErrback(lambda failure: None)
        broker = server.avatars[0].peer._reference.broker
        await soon(until(lambda: broker._stall is not None))
        there.resumeProducing()
        assert len(await soon(asked)) == 32 << 20
        await soon(until(lambda: broker._stall is None))
        peer.disconnect()
        await soon(until(lambda: not broker.transport.connected))
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_every_connection_is_probed_when_it_is_silent(reactor, tmp_path):
    server = Server()
    server.factory.clock = reactor
    ports = [await serve(server.factory), await serve(KeyValueFactory(None, "token", reactor))]  # type: ignore[arg-type]
    seen: list[Any] = []
    for port in ports:
        build = port.factory.buildProtocol
        port.factory.buildProtocol = lambda at, build=build: (seen.append(build(at)), seen[-1])[1]
    try:
        where = [clientFromString(reactor, f"tcp:127.0.0.1:{p.getHost().port}") for p in ports]
        peer = await soon(log_in(where[0], "client", SECRET, Mind(), reactor, "the server"))
        stranger = await soon(where[1].connect(Factory.forProtocol(Scripted)))
        await soon(until(lambda: len(seen) == 2 and seen[1].connected))
        for end in (peer._reference.broker, *seen):
            handle = end.transport.getHandle()
            assert end.transport.getTcpKeepAlive()
            idle = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert idle == SILENT_SECONDS
        peer.disconnect()
        stranger.transport.abortConnection()
        await soon(until(lambda: not any(one.transport.connected for one in seen)))
    finally:
        for port in ports:
            await port.stopListening()
