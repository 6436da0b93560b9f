"""The inspection and shuffle port: what is asked is answered, in order; no reader can hurt it."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from wires import Scripted, Stock, attempt, open_files, serve, soon, turns

from pytxmr.errors import SpillDamaged
from pytxmr.net import kvserver
from pytxmr.net.kvserver import (
    CHUNK_BYTES,
    IDLE_SECONDS,
    REQUESTS_PER_TURN,
    STALL_SECONDS,
    STRANGER_SECONDS,
    KeyValueFactory,
)
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


@pytest.fixture
def stock(tmp_path) -> Stock:
    made = Stock(tmp_path)
    made.add([WORDS, [], MORE_WORDS])
    return made


@pytest.fixture
def connection(stock) -> Connection:
    return Connection(stock)


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
    return kvserver.answer_head(request.rstrip(b"\n"), lengths) + b"\n"


# ---- for people


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_partition_is_shown_in_order_of_keys_with_its_sums(connection, stock, end):
    length = len(stock.stored(attempt(0), 0))
    assert connection.ask(b"Job001@Map001@0" + end) == shown(WORDS, length)


def test_a_request_is_understood_whatever_pieces_it_arrives_in(connection, stock):
    expected = connection.ask(b"Job001@Map001@0\r\n")
    for byte in b"Job001@Map001@0\r":
        assert connection.ask(bytes([byte])) == b""
    assert connection.ask(b"\n") == expected


def test_an_empty_partition_shows_its_sums(connection):
    assert connection.ask(b"Job001@Map001@1\n") == b"# 0 pairs, 0 keys, 0 bytes\n"


def test_help_tells_what_can_be_asked(connection):
    answer = connection.ask(b"help\n").decode()
    for word in ("Job001@Map001@0", "jobs", "auth TOKEN", "quit"):
        assert word in answer


def test_jobs_lists_what_is_held(connection, stock):
    stock.add([WORDS], map_index=10)
    stock.add([WORDS], job="Job002")
    size = os.path.getsize(stock.store.spill_path("Job001", attempt(0)))
    lines = connection.ask(b"jobs\n").decode().splitlines()
    assert lines[0] == "Job001  2 maps"
    assert lines[1] == f"Job001@Map001  partitions 0 to 2, {size} bytes"
    assert lines[2].startswith("Job001@Map011  partitions 0 to 0, ")
    assert lines[3] == "Job002  1 maps"


def test_without_jobs_the_answer_says_so(tmp_path):
    assert Connection(Stock(tmp_path / "empty")).ask(b"jobs\n") == b"no jobs here\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_quit_ends_the_connection(connection, end):
    assert connection.ask(b"quit" + end) == b""
    assert connection.transport.disconnecting


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"   \n", b"\n\n\r\n"])
def test_an_empty_line_is_passed_over(connection, line):
    assert connection.ask(line) == b""
    assert not connection.transport.disconnecting


def test_the_latest_attempt_of_a_map_is_shown(connection, stock):
    made = stock.add([[("z", [26])]], number=1)
    expected = shown([("z", [26])], len(stock.stored(made, 0)))
    assert connection.ask(b"Job001@Map001@0\n") == expected


ODD_VALUES: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    ((1, (2, "x")), '[1, [2, "x"]]'),
    ([], "[]"),
    ('ü\n\t"', '"ü\\n\\t\\""'),
    (b"text", '"text"'),
    (b"\xff\x00a", '"\\\\xff\\u0000a"'),
    ({"a": 1}, '{"a": 1}'),
    ({1: {"b": None}}, '{"1": {"b": null}}'),
    ({(1, "x"): 1, b"b": [b"\xff"]}, '{"[1, \'x\']": 1, "\'b\'": ["\\\\xff"]}'),
    ({2, 1}, "[1, 2]"),
    (frozenset({"a"}), '["a"]'),
    ([{(1,): {b"x"}}], '[{"[1]": ["x"]}]'),
    (2**100, str(2**100)),
    (2**20_000, f'"{2**20_000:#x}"'),
]


@pytest.mark.parametrize(("value", "text"), ODD_VALUES, ids=[text[:30] for _, text in ODD_VALUES])
def test_every_value_that_can_be_carried_is_shown_as_json(tmp_path, value, text):
    stock = Stock(tmp_path)
    stock.add([[("k", [value])]])
    first, second = Connection(stock).ask(b"Job001@Map001@0\n").decode().splitlines()
    assert first == f'["k", {text}]'
    assert second.startswith("# 1 pairs, 1 keys, ")
    json.loads(first)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, b"null"),
        ((1, ("x", b"\xfe")), b'[1, ["x", "\\\\xfe"]]'),
        (b"\xff", b'"\\\\xff"'),
        ("caf\udce9", b'"caf\xe9"'),
        ("\ud800", b'"?"'),
    ],
    ids=str,
)
def test_every_key_is_shown_and_text_that_was_not_utf_8_as_it_was(tmp_path, key, text):
    stock = Stock(tmp_path)
    stock.add([[(key, [1])]])
    first = Connection(stock).ask(b"Job001@Map001@0\n").splitlines()[0]
    assert first == b"[" + text + b", 1]"


def test_a_key_that_goes_on_in_the_next_block_counts_once(tmp_path):
    stock = Stock(tmp_path)
    many = [("k", [f"{n:01000d}" for n in range(1000)]), ("l", ["x"])]
    made = stock.add([many])
    lines = Connection(stock).ask(b"Job001@Map001@0\n").decode().splitlines()
    assert [json.loads(line)[1] for line in lines[:-1]] == [*many[0][1], "x"]
    assert lines[-1] == f"# 1001 pairs, 2 keys, {len(stock.stored(made, 0))} bytes"


# ---- what cannot be answered


UNANSWERABLE = {
    "another job": b"Job002@Map001@0",
    "another map": b"Job001@Map002@0",
    "another partition": b"Job001@Map001@3",
    "huge partition": b"Job001@Map001@999999999",
    "too many digits": b"Job001@Map001@1000000000",
    "negative": b"Job001@Map001@-1",
    "a reduce": b"Job001@Reduce000@0",
    "map 0": b"Job001@Map000@0",
    "no partition": b"Job001@Map001@",
    "too short": b"Job001@Map001",
    "too long": b"Job001@Map001@0@0",
    "not the written form": b"job001@map001@0",
    "short number": b"Job1@Map1@0",
    "a path": b"../../../etc/passwd@Map001@0",
    "a path as map": b"Job001@../Map001@0",
    "a path as partition": b"Job001@Map001@../0",
    "NUL": b"Job001@Map001@0\x00",
    "an attempt": b"Job001@Map001.0@0",
    "Unicode digits": "Job٠٠١@Map001@0".encode(),
    "Unicode digits of a map": "Job001@Map٠٠١@0".encode(),
    "Unicode digits of a partition": "Job001@Map001@٠".encode(),
    "superscript": "Job001@Map001@²".encode(),
    "not text": b"\xff\xfe@\x80@0",
    "no request": b"frobnicate",
    "HTTP": b"GET / HTTP/1.1",
    "only signs": b"@@",
}


@pytest.mark.parametrize("kind", UNANSWERABLE)
def test_what_cannot_be_answered_gets_one_line_that_says_why(connection, kind):
    expected = connection.ask(b"Job001@Map001@0\n")
    answer = connection.ask(UNANSWERABLE[kind] + b"\n")
    assert answer.startswith(b"! not-found: ")
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1
    assert len(answer) < 400
    assert connection.ask(b"Job001@Map001@0\n") == expected, "the connection stays usable"


def test_the_output_of_a_map_that_ran_elsewhere_is_told_where(connection, stock):
    stock.store.note_elsewhere("Job001", 6, ("192.0.2.9", 8993))
    assert b"telnet 192.0.2.9 8993" in connection.ask(b"Job001@Map007@0\n")


def test_a_spill_that_is_gone_is_damaged_and_the_connection_stays_usable(connection, stock):
    os.unlink(stock.store.spill_path("Job001", attempt(0)))
    assert connection.ask(b"Job001@Map001@0\n").startswith(b"! spill-damaged: ")
    assert connection.ask(b"jobs\n").startswith(b"Job001  1 maps\n")


@pytest.mark.parametrize("gone", ["", ".index"])
def test_jobs_can_be_listed_even_if_a_file_is_gone(connection, stock, gone):
    os.unlink(stock.store.spill_path("Job001", attempt(0)) + gone)
    assert connection.ask(b"jobs\n").startswith(b"Job001  1 maps\nJob001@Map001  ")


def test_damage_inside_a_partition_is_said_after_what_was_whole(tmp_path):
    stock = Stock(tmp_path)
    many = [(n, ["x" * 1000]) for n in range(5000)]
    made = stock.add([many])
    part = stock.ranges["Job001", made][0]
    with open(stock.store.spill_path("Job001", made), "r+b") as file:
        file.seek(part.offset + part.length - 100)
        file.write(b"!")
    connection = Connection(stock)
    lines = connection.ask(b"Job001@Map001@0\n").decode().splitlines()
    assert len(lines) > 100
    assert [json.loads(line)[0] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert lines[-1] == "! spill-damaged: a block does not match its checksum"
    assert connection.ask(b"jobs\n").startswith(b"Job001")
    assert stock.store.spill_path("Job001", made) not in open_files()


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_giant_line_is_refused_and_ends_the_connection(connection, end):
    answer = connection.ask(b"x" * 70_000 + end)
    assert answer == b"! not-found: a request has at most 65536 bytes\n"
    assert connection.transport.disconnecting


# ---- from other machines


@pytest.mark.parametrize("peer", [FAR, IPv6Address("TCP", "2001:db8::7", 4711)])
@pytest.mark.parametrize("request_line", [b"Job001@Map001@0", b"jobs", b"help", b"nonsense"])
def test_from_another_machine_nothing_is_shown_before_auth(stock, peer, request_line):
    connection = Connection(stock, peer)
    answer = connection.ask(request_line + b"\n")
    assert answer.startswith(b"! refused: say auth TOKEN first")
    assert answer.count(b"\n") == 1
    assert connection.ask(f"auth {TOKEN}\r\n".encode()) == b"# welcome; type help\n"
    assert not connection.ask(request_line + b"\n").startswith(b"! refused")


@pytest.mark.parametrize("token", ["", "7e", TOKEN.upper(), TOKEN + "7e", "ü" * 32])
def test_a_wrong_token_hangs_up(stock, token):
    connection = Connection(stock, FAR)
    assert connection.ask(f"auth {token}\n".encode()) == b"! refused: wrong token\n"
    assert connection.transport.disconnecting


@pytest.mark.parametrize(
    "peer", [NEAR, IPv6Address("TCP", "::1", 1), IPv6Address("TCP", "::ffff:127.0.0.1", 1)]
)
def test_from_this_machine_no_token_is_needed(stock, peer):
    assert Connection(stock, peer).ask(b"jobs\n").startswith(b"Job001")


def test_over_a_unix_socket_a_token_is_needed(stock):
    assert Connection(stock, UNIXAddress(None)).ask(b"jobs\n").startswith(b"! refused")


# ---- segments, for trackers


@pytest.mark.parametrize("peer", [NEAR, FAR])
def test_signed_segments_are_sent_as_they_lie_on_disk(stock, peer):
    connection = Connection(stock, peer)
    first, third = stock.stored(attempt(0), 0), stock.stored(attempt(0), 2)
    request = fetch(partitions="2,1,0")
    line = head(request, len(third), 0, len(first))
    assert re.fullmatch(rb"= [0-9]+ 0 [0-9]+ [0-9a-f]{16}\n", line)
    assert connection.ask(request) == line + third + first
    assert connection.ask(fetch(partitions="1")) == head(fetch(partitions="1"), 0)


def test_the_named_attempt_is_sent_and_not_the_latest(connection, stock):
    stock.add([MORE_WORDS], number=1)
    for number in (0, 1):
        data = stock.stored(attempt(0, number), 0)
        assert connection.ask(fetch(f"Map001.{number}")).partition(b"\n")[2] == data


def test_many_small_partitions_are_sent_in_large_chunks(tmp_path):
    stock = Stock(tmp_path)
    count = 700
    groups = [[(n, [os.urandom(1000)])] for n in range(count)]
    made = stock.add(groups)
    partitions = list(range(0, count, 2))
    fd, ranges = stock.store.open_attempt("Job001", made)
    chunks = list(kvserver.stored_blocks(fd, [ranges[n] for n in partitions]))
    assert b"".join(chunks) == b"".join(stock.stored(made, n) for n in partitions)
    assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1)
    assert len(chunks) == 3


def test_a_large_partition_is_sent_byte_by_byte_as_it_is(tmp_path):
    stock = Stock(tmp_path)
    made = stock.add([[(n, [os.urandom(1000)]) for n in range(1000)]])
    data = stock.stored(made, 0)
    assert len(data) > 4 * CHUNK_BYTES
    connection = Connection(stock)
    assert connection.ask(fetch()) == head(fetch(), len(data)) + data


@pytest.mark.parametrize(
    "line",
    [
        fetch(key=b"another key"),
        fetch(key=b""),
        fetch(key=TOKEN.encode()),
        fetch(job="Job002", key=KEY),
        fetch(job="Job003", key=KEY),
        fetch(job="Job003", key=b""),
        fetch()[:-2] + b"\n",
        fetch().replace(b" 0 ", b" 1 "),
        fetch().replace(b"Map001.0", b"Map001.1"),
        b"fetch Job001 Map001.0 0 " + b"0" * 64 + b"\n",
        b"fetch Job001 Map001.0 0 \xff\n",
    ],
)
def test_a_request_that_is_not_signed_with_the_job_s_key_is_refused(stock, line):
    stock.add([WORDS], job="Job002", key=b"the key of the second job")
    connection = Connection(stock)
    refused = connection.ask(fetch(job="Job999"))
    assert refused.startswith(b"! refused: ")
    assert connection.ask(line) == refused, "nobody learns which jobs there are"
    assert connection.ask(fetch()).startswith(b"= ")


@pytest.mark.parametrize(
    "line",
    [
        fetch("Map002.0"),
        fetch("Map001.1"),
        fetch(partitions="3"),
        fetch(partitions="0,3"),
        fetch(partitions=""),
        fetch(partitions="0,"),
        fetch(partitions="-1"),
        fetch(partitions="0,,1"),
        fetch(partitions="٠"),
        fetch(partitions=",".join(["0"] * 4001)),
        fetch("Map001"),
        fetch("../Map001.0"),
        fetch("Reduce000.0"),
        b"fetch\n",
        b"fetch Job001 Map001.0 0\n",
        b"fetch Job001 Map001.0 0 \n",
        b"fetch Job001  Map001.0 0 x\n",
        b"fetch ../etc Map001.0 0 x\n",
    ],
)
def test_a_signed_request_for_what_is_not_there_is_not_found(connection, line, stock):
    assert connection.ask(line).startswith((b"! not-found: ", b"! refused: "))
    assert connection.ask(fetch()).startswith(b"= ")
    assert stock.store.spill_path("Job001", attempt(0)) not in open_files()


def test_a_spill_that_becomes_shorter_while_it_is_sent_cuts_the_connection(tmp_path, logged):
    stock = Stock(tmp_path)
    made = stock.add([[(n, ["x" * 1000]) for n in range(1000)]])
    connection = Connection(stock)
    connection.transport.room = 1
    connection.say(fetch())
    os.truncate(stock.store.spill_path("Job001", made), 300_000)
    for _ in range(20):
        connection.transport.drain()
    assert connection.transport.disconnected
    assert stock.store.spill_path("Job001", made) not in open_files()
    assert ["cannot be sent" in text for text in logged.flush()] == [True]


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
    real = kvserver._line

    def counted(key: Any, value: Any) -> str:
        nonlocal made
        made += 1
        return real(key, value)

    monkeypatch.setattr(kvserver, "_line", counted)
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
