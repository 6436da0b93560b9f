"""The inspection and shuffle port: however much is asked, however slowly read, it bears it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import pytest_twisted
from asking import FAR, MORE_WORDS, TOKEN, WORDS, Connection, fetch, head
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from wires import Scripted, Stock, attempt, open_files, serve, soon, turns

from pytxmr.errors import SpillDamaged
from pytxmr.net import inspection, kvserver
from pytxmr.net.kvserver import (
    CHUNK_BYTES,
    IDLE_SECONDS,
    REQUESTS_PER_TURN,
    STALL_SECONDS,
    STRANGER_SECONDS,
    KeyValueFactory,
)


@pytest.fixture
def stock(tmp_path) -> Stock:
    made = Stock(tmp_path)
    made.add([WORDS, [], MORE_WORDS])
    return made


@pytest.fixture
def connection(stock) -> Connection:
    return Connection(stock)


# ---- many requests, slow readers


def test_pipelined_requests_are_answered_one_after_the_other_in_order(connection, stock):
    lines = [
        b"Job001@Map001@0\n",
        b"nonsense\n",
        fetch(partitions="0,2"),
        b"jobs\r\n",
        b"\n",
        b"help\n",
    ]
    expected = b"".join(connection.ask(line) for line in lines)
    assert connection.ask(b"".join(lines)) == expected
    assert connection.ask(b"".join(lines) * 5) == expected * 5


def test_while_one_request_is_answered_the_next_ones_wait(connection, stock):
    expected = connection.ask(b"Job001@Map001@0\n")
    connection.transport.clear()
    connection.transport.room = 0
    connection.say(b"Job001@Map001@0\nnonsense\n")
    assert connection.transport.producerState == "paused", "nothing more is read"
    assert b"!" not in connection.transport.value()
    connection.transport.room = None
    found = connection.transport.drain()
    connection.say(b"")
    assert connection.transport.producerState == "producing"
    found += connection.transport.value()
    assert found == expected + connection.ask(b"nonsense\n")


FLOOD = {
    "garbage": b"x",
    "lists": b"jobs",
    "help": b"help",
    "unsigned": b"fetch Job001 Map001.0 0 " + b"0" * 64,
    "pairs": b"Job001@Map001@0",
    "segments": fetch().rstrip(),
}


@pytest.mark.parametrize("kind", FLOOD)
def test_whoever_asks_and_does_not_read_costs_little_memory(connection, kind):
    connection.transport.room = 64 * 1024
    for _ in range(20_000):
        if connection.transport.producerState == "paused" and connection.transport.producer:
            break  # a real transport reads no more
        connection.say(FLOOD[kind] + b"\n")
    assert connection.transport.producerState == "paused"
    assert len(connection.transport.value()) <= 64 * 1024 + CHUNK_BYTES
    connection.protocol.transport.abortConnection()
    connection.lose(error.ConnectionAborted())
    assert connection.clock.getDelayedCalls() == []


@pytest.mark.parametrize("line", [b"x\n", fetch(partitions="1")])
def test_in_a_turn_of_the_reactor_few_requests_are_answered(connection, line):
    put_off: list[Any] = []
    connection.clock.callLater = lambda seconds, call: put_off.append((seconds, call))
    connection.protocol.dataReceived(line * 100)
    answered = [connection.transport.value().count(b"\n")]
    while put_off:
        assert [seconds for seconds, _ in put_off] == [0]
        put_off.pop()[1]()
        answered.append(connection.transport.value().count(b"\n"))
    assert answered == [*range(REQUESTS_PER_TURN, 100, REQUESTS_PER_TURN), 100]


def test_a_block_of_many_pairs_is_shown_piece_by_piece(tmp_path, monkeypatch):
    stock = Stock(tmp_path)
    stock.add([[(n, [1]) for n in range(10_000)]])
    made = 0
    real = inspection._line

    def counted(key: Any, value: Any) -> str:
        nonlocal made
        made += 1
        return real(key, value)

    monkeypatch.setattr(inspection, "_line", counted)
    connection = Connection(stock)
    connection.transport.room = 0
    connection.say(b"Job001@Map001@0\n")
    assert made == 1000
    connection.lose()


def test_a_list_of_many_map_outputs_is_made_line_by_line(stock):
    for index in range(1, 50):
        stock.add([[]], map_index=index)
    connection = Connection(stock)
    connection.transport.room = 0
    connection.say(b"jobs\n")
    lines = [connection.transport.drain()]
    stock.store.drop_job("Job001")
    while connection.transport.producer is not None:
        lines.append(connection.transport.drain())
    assert [line.count(b"\n") for line in lines] == [1] * 51
    assert lines[50].startswith(b"Job001@Map050  ")


def test_a_thousand_requests_at_once_do_not_recurse(connection, stock):
    connection.protocol.dataReceived(b"Job001@Map001@1\n" * 1000)
    for _ in range(1000):
        connection.clock.advance(0)
    assert connection.transport.value() == b"# 0 pairs, 0 keys, 0 bytes\n" * 1000


@pytest.fixture
def large(tmp_path) -> Stock:
    stock = Stock(tmp_path)
    stock.add([[(n, [os.urandom(1000)]) for n in range(1000)]])
    return stock


def test_a_transport_that_pauses_inside_a_write_gets_a_piece_at_a_time(large):
    connection = Connection(large)
    connection.transport.room = 64 * 1024
    data = large.stored(attempt(0), 0)
    connection.say(fetch())
    found = b""
    for _ in range(100):
        assert len(connection.transport.value()) <= CHUNK_BYTES + 100
        found += connection.transport.drain()
        if connection.transport.producer is None:
            break
    found += connection.transport.value()
    assert found == head(fetch(), len(data)) + data
    connection.say(b"")
    assert connection.ask(b"jobs\n").startswith(b"Job001"), "and the connection stays usable"


@pytest.mark.parametrize("line", [fetch(), b"Job001@Map001@0\n"])
def test_a_reader_that_goes_leaves_no_file_open(large, line):
    path = large.store.spill_path("Job001", attempt(0))
    connection = Connection(large)
    connection.transport.room = 1
    connection.say(line)
    assert path in open_files()
    connection.lose()
    assert path not in open_files()
    assert connection.clock.getDelayedCalls() == []
    assert connection.factory.connections == 0


@pytest.mark.parametrize("line", [fetch(), b"Job001@Map001@0\n"])
def test_a_reader_that_stops_reading_is_dropped_in_time_and_leaves_no_file_open(large, line):
    path = large.store.spill_path("Job001", attempt(0))
    connection = Connection(large)
    connection.transport.room = 1
    connection.say(line)
    connection.clock.advance(STALL_SECONDS - 1)
    connection.transport.drain()
    connection.clock.advance(STALL_SECONDS - 1)
    assert not connection.transport.disconnected, "it had read something"
    connection.clock.advance(1)
    assert connection.transport.disconnected
    connection.lose(error.ConnectionAborted())
    assert path not in open_files()
    assert connection.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"", STRANGER_SECONDS),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", STRANGER_SECONDS),
        (b"GET / HTTP/1.1\r\nHost: tracker\r\n\r\nAccept: all\r\n", STRANGER_SECONDS),
        (fetch(key=b"another key"), STRANGER_SECONDS),
        (b"jobs\n", IDLE_SECONDS),
        (fetch(), IDLE_SECONDS),
        (b"jobs\njob", IDLE_SECONDS),
    ],
)
def test_a_connection_on_which_nothing_is_asked_is_dropped_in_time(connection, said, seconds):
    connection.clock.advance(STRANGER_SECONDS - 1)
    if b"\n" in said:
        connection.say(said)
        connection.clock.advance(seconds - 1)
    else:
        connection.say(said)
    assert not connection.transport.disconnected
    connection.clock.advance(1)
    assert connection.transport.disconnected
    connection.lose(error.ConnectionAborted())
    assert connection.clock.getDelayedCalls() == []


def test_a_slow_reader_is_not_idle(large):
    connection = Connection(large)
    connection.transport.room = 1
    connection.say(fetch())
    for _ in range(4):
        connection.clock.pump([STALL_SECONDS / 2] * 1)
        connection.transport.drain()
    connection.clock.advance(STALL_SECONDS - 1)
    assert not connection.transport.disconnected
    connection.lose()


def test_a_connection_that_ends_just_after_its_answer_is_not_read_on(connection):
    connection.protocol.dataReceived(b"Job001@Map001@0\nJob001@Map001@0\n")
    connection.transport.clear()
    connection.lose()
    connection.clock.advance(0)
    assert connection.transport.value() == b""
    assert connection.clock.getDelayedCalls() == []


def test_connections_above_the_limit_are_refused_and_others_go_on(stock, monkeypatch):
    monkeypatch.setattr(kvserver, "MOST_CONNECTIONS", 2)
    first = Connection(stock)
    second = Connection(stock, factory=first.factory)
    for proven in (first, second):
        assert proven.ask(fetch()).startswith(b"= ")
    third = Connection(stock, factory=first.factory)
    assert third.transport.value() == b"! refused: too many connections; try again later\n"
    assert third.transport.disconnecting
    third.lose()
    assert second.ask(b"jobs\n").startswith(b"Job001")
    second.lose()
    assert not Connection(stock, factory=first.factory).transport.disconnecting


@pytest.mark.parametrize("proof", [fetch(), f"auth {TOKEN}\n".encode()])
def test_of_too_many_connections_the_oldest_that_proved_nothing_makes_room(
    stock, monkeypatch, proof
):
    monkeypatch.setattr(kvserver, "MOST_CONNECTIONS", 3)
    proven = Connection(stock, FAR)
    assert not proven.ask(proof).startswith(b"!")
    strangers = [Connection(stock, FAR, proven.factory) for _ in range(10)]
    strangers[-1].say(fetch(key=b"another key"))
    assert [stranger.transport.disconnected for stranger in strangers] == [True] * 8 + [False] * 2
    assert not proven.transport.disconnected
    for connection in (proven, *strangers):
        connection.lose()
    assert proven.factory.connections == 0
    assert proven.factory.strangers == {}


@pytest.mark.parametrize("line", [fetch(), b"Job001@Map001@0\n"])
def test_without_a_free_file_descriptor_a_spill_is_unreachable_and_not_damaged(
    connection, monkeypatch, line
):
    def no_more(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    expected = connection.ask(line)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_more)
        assert connection.ask(line).startswith(b"! unreachable: ")
    assert connection.ask(line) == expected


def test_an_unexpected_error_while_sending_leaves_no_file_open(connection, stock, monkeypatch):
    def broken(fd: int, *_: Any) -> Any:
        try:
            yield b"a"
            raise RuntimeError("a bug")
        finally:
            os.close(fd)

    monkeypatch.setattr(kvserver, "stored_blocks", broken)
    with pytest.raises(RuntimeError):  # which makes a real transport end the connection
        connection.protocol.dataReceived(fetch())
    connection.lose(RuntimeError())
    assert stock.store.spill_path("Job001", attempt(0)) not in open_files()
    assert connection.clock.getDelayedCalls() == []


# ---- over real connections


@pytest_twisted.ensureDeferred
async def test_whoever_closes_its_half_still_gets_all_answers(reactor, large):
    port = await soon(serve(KeyValueFactory(large.store, TOKEN, reactor)))
    try:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        client = await soon(endpoint.connect(Factory.forProtocol(Scripted)))
        client.transport.write(b"jobs\nJob001@Map001@0\nhelp")
        client.transport.write(b"\n")
        client.transport.loseWriteConnection()
        await soon(client.lost)
        lines = client.heard.splitlines()
        assert lines[0] == b"Job001  1 maps"
        assert lines[1002].startswith(b"# 1000 pairs, 1000 keys, ")
        assert b"quit" in lines[-1]
    finally:
        await soon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_however_large_a_partition_and_slow_its_reader_little_is_in_memory(
    reactor, tmp_path, monkeypatch
):
    stock = Stock(tmp_path)
    value = os.urandom(1 << 16)
    made = stock.add([[(n, [value]) for n in range(960)]])
    size = stock.ranges["Job001", made][0].length
    assert size > 60_000_000
    pulled = 0
    real = kvserver.stored_blocks

    def counted(*args: Any) -> Any:
        nonlocal pulled
        source = real(*args)
        try:
            for piece in source:
                pulled += len(piece)
                yield piece
        finally:
            source.close()

    monkeypatch.setattr(kvserver, "stored_blocks", counted)
    servers: list[Any] = []

    class Remembered(KeyValueFactory):
        def buildProtocol(self, address: Any) -> Any:
            servers.append(super().buildProtocol(address))
            return servers[-1]

    class Slow(Scripted):
        """Reads what is there when it is told to, and nothing else."""

        count = 0
        has_read: Deferred[None] = Deferred()

        def dataReceived(self, data: bytes) -> None:
            self.count += len(data)
            self.transport.pauseProducing()
            self.has_read.callback(None)

        def read(self) -> Deferred[None]:
            self.has_read = Deferred()
            self.transport.resumeProducing()
            return soon(self.has_read)

    port = await soon(serve(Remembered(stock.store, TOKEN, reactor)))
    try:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        reader = await soon(endpoint.connect(Factory.forProtocol(Slow)))
        reader.transport.write(fetch())
        await soon(reader.has_read)
        transport = servers[0].transport
        # Nothing is read until the buffers of the system are full, and nothing more is pulled.
        before = -1
        while before != pulled:
            before = pulled
            await soon(turns(20))
        assert pulled - reader.count < 20_000_000
        total = size + len(head(fetch(), size))
        buffered = 0
        while reader.count < total:
            await reader.read()
            buffered = max(buffered, len(transport.dataBuffer) + transport._tempDataLen)
        assert pulled == size
        assert buffered <= 64 * 1024 + CHUNK_BYTES
        reader.transport.resumeProducing()
        reader.transport.write(b"quit\n")
        await soon(reader.lost)
    finally:
        await soon(port.stopListening())


def test_the_pieces_of_a_cut_spill_end_in_an_error(stock):
    fd, ranges = stock.store.open_attempt("Job001", attempt(0))
    os.truncate(stock.store.spill_path("Job001", attempt(0)), ranges[0].offset + 3)
    with pytest.raises(SpillDamaged):
        list(kvserver.stored_blocks(fd, ranges))
    assert stock.store.spill_path("Job001", attempt(0)) not in open_files()
