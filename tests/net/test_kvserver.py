"""The inspection and shuffle port: what may be asked is answered, what may not is refused."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from asking import FAR, KEY, MORE_WORDS, NEAR, TOKEN, WORDS, Connection, fetch, head, shown
from twisted.internet.address import IPv6Address, UNIXAddress
from wires import Stock, attempt, open_files

from pytxmr.net import kvserver
from pytxmr.net.kvserver import CHUNK_BYTES


@pytest.fixture
def stock(tmp_path) -> Stock:
    made = Stock(tmp_path)
    made.add([WORDS, [], MORE_WORDS])
    return made


@pytest.fixture
def connection(stock) -> Connection:
    return Connection(stock)


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
