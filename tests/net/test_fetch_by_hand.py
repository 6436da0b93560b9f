"""Fetching over one connection in memory, by the clock: no answer is believed that is not whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from asking import KEY, content, head
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from wires import attempt, result_of

from pytxmr.errors import NotFound, PeerBroke, PytxmrError, SpillDamaged, Unreachable
from pytxmr.net import fetch
from pytxmr.net.fetch import SLOWEST_BYTES, STALL_SECONDS, Fetcher, FetchProtocol
from pytxmr.net.secret import sign
from pytxmr.records.spill import pack_block

BLOCK = pack_block(["k"], None, [1])
LINE = b"fetch ..."


class Line:
    """A `FetchProtocol` on a transport in memory."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        self.clock = Clock()
        self.ready = 0
        self.protocol = FetchProtocol(self.clock, self._ready)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.receive: Callable[[bytes], None] = self.protocol.dataReceived

    def _ready(self) -> None:
        self.ready += 1

    def ask(self, name: str = "segment", partitions: tuple[int, ...] = (0,)) -> Deferred[Any]:
        request = fetch._Request(LINE, partitions, str(self.directory / name))
        self.protocol.ask(request)
        return request.answer

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def line(tmp_path) -> Line:
    return Line(tmp_path)


ANSWER = head(LINE, len(BLOCK)) + BLOCK
SHORT = ANSWER[:-1]


def test_an_answer_is_understood_whatever_pieces_it_arrives_in(line, tmp_path):
    first, second, third = line.ask("1"), line.ask("2"), line.ask("3")
    for number in range(2 * len(ANSWER) + len(head(LINE, 0))):
        line.receive((ANSWER + head(LINE, 0) + ANSWER)[number : number + 1])
    assert [result_of(answer)[0].length for answer in (first, second, third)] == [
        len(BLOCK),
        0,
        len(BLOCK),
    ]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes() == BLOCK
    assert line.clock.getDelayedCalls() == []


def test_answers_that_arrive_together_are_told_apart(line, tmp_path):
    answers = [line.ask(str(n)) for n in range(4)]
    line.receive(ANSWER + b"! not-found: no such map\n" + head(LINE, 0) + ANSWER)
    assert content(result_of(answers[0])[0]) == BLOCK
    with pytest.raises(NotFound, match="^no such map$"):
        result_of(answers[1])
    assert result_of(answers[2])[0].length == 0
    assert content(result_of(answers[3])[0]) == BLOCK


@pytest.mark.parametrize("heard", [b"", b"= ", head(LINE, len(BLOCK)) + BLOCK[:5], SHORT])
def test_a_source_that_stops_sending_has_failed_in_time(line, tmp_path, heard):
    first, second = line.ask("1"), line.ask("2")
    line.clock.advance(STALL_SECONDS - 1)
    line.receive(heard)
    line.clock.advance(1)
    assert line.transport.disconnected == (b"\n" not in heard)
    line.clock.advance(STALL_SECONDS - 1)
    assert line.transport.disconnected
    line.lose()
    with pytest.raises(Unreachable, match="nothing arrived for 60 s"):
        result_of(first)
    with pytest.raises(Unreachable):
        result_of(second)
    assert os.listdir(tmp_path) == []
    assert line.clock.getDelayedCalls() == []


def test_a_source_that_sends_slowly_has_not_failed(line):
    answer = line.ask()
    pause = STALL_SECONDS / (len(ANSWER) + 1)
    for byte in ANSWER:
        line.clock.advance(pause)
        line.receive(bytes([byte]))
    assert result_of(answer)[0].length == len(BLOCK)


@pytest.mark.parametrize("blocks", [2, 2000])
def test_a_source_that_trickles_has_failed_by_a_time_that_follows_from_the_size(
    line, tmp_path, blocks
):
    first, second = line.ask("1"), line.ask("2")
    size = blocks * len(BLOCK)
    line.receive(head(LINE, size))
    allowed = STALL_SECONDS + size / SLOWEST_BYTES
    data = BLOCK * blocks
    for number in range(4):
        line.receive(data[number : number + 1])
        assert not line.transport.disconnected
        line.clock.advance(allowed / 4 if allowed / 4 < STALL_SECONDS else STALL_SECONDS - 1)
    while line.clock.seconds() <= allowed:
        number += 1
        line.receive(data[number : number + 1])
        line.clock.advance(STALL_SECONDS / 2)
    assert not line.transport.disconnected
    line.receive(b"x")
    assert line.transport.disconnected
    line.lose()
    with pytest.raises(Unreachable, match="bytes a second"):
        result_of(first)
    with pytest.raises(Unreachable):
        result_of(second)
    assert os.listdir(tmp_path) == []
    assert line.clock.getDelayedCalls() == []


def test_a_connection_without_requests_has_no_deadline(line):
    answer = line.ask()
    line.receive(ANSWER)
    result_of(answer)
    assert line.clock.getDelayedCalls() == []
    assert not line.transport.disconnected
    line.lose()
    assert not line.protocol.alive


def test_a_source_that_answers_what_nobody_asked_is_dropped(line, tmp_path):
    answer = line.ask()
    line.receive(ANSWER + ANSWER)
    assert content(result_of(answer)[0]) == BLOCK
    assert line.transport.disconnected
    assert not line.protocol.alive
    line.lose()
    assert os.listdir(tmp_path) == ["segment"]
    assert line.clock.getDelayedCalls() == []


def test_after_nonsense_nothing_more_is_believed(line, tmp_path):
    first, second = line.ask("1"), line.ask("2")
    line.receive(b"nonsense\n" + ANSWER + ANSWER)
    line.receive(ANSWER)
    assert not first.called
    assert not second.called
    line.lose()
    with pytest.raises(PeerBroke):
        result_of(first)
    with pytest.raises(Unreachable):
        result_of(second)
    assert os.listdir(tmp_path) == []
    assert line.clock.getDelayedCalls() == []


@pytest.mark.parametrize("at", range(len(BLOCK)))
def test_whichever_byte_of_an_answer_is_damaged_its_request_fails_alone(line, tmp_path, at):
    damaged = bytearray(2 * BLOCK)
    damaged[at] ^= 1
    answers = [line.ask(str(n)) for n in range(3)]
    line.receive(head(LINE, len(damaged)) + bytes(damaged) + ANSWER)
    with pytest.raises(SpillDamaged):
        result_of(answers[0])
    assert content(result_of(answers[1])[0]) == BLOCK
    line.receive(head(LINE, len(damaged)) + bytes(damaged))
    with pytest.raises(SpillDamaged):
        result_of(answers[2])
    assert os.listdir(tmp_path) == ["1"]
    assert not line.transport.disconnected
    assert line.clock.getDelayedCalls() == []


def test_damage_ends_its_file_at_once_and_the_rest_of_the_answer_is_passed_over(line, tmp_path):
    first, second = line.ask("1"), line.ask("2")
    data = b"\xff" * 1000
    line.receive(head(LINE, 1000) + data[:100])
    with pytest.raises(SpillDamaged):
        result_of(first)
    assert os.listdir(tmp_path) == []
    line.receive(data[100:])
    line.receive(ANSWER)
    assert content(result_of(second)[0]) == BLOCK


def test_a_source_that_has_lost_its_place_after_damage_is_dropped(line, tmp_path):
    answers = [line.ask(str(n)) for n in range(3)]
    line.receive(head(LINE, len(BLOCK) - 1) + BLOCK + b"\n" + ANSWER)
    line.receive(ANSWER)
    line.lose()
    for answer, error in zip(answers, (SpillDamaged, PeerBroke, Unreachable), strict=True):
        with pytest.raises(error):
            result_of(answer)
    assert os.listdir(tmp_path) == []


def test_a_length_that_cuts_a_block_is_damage(line, tmp_path):
    answer = line.ask()
    line.receive(head(LINE, len(BLOCK) - 1) + BLOCK)
    line.lose()
    with pytest.raises(SpillDamaged, match="cut short"):
        result_of(answer)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_fails_the_request_and_not_those_behind_it(line, tmp_path, monkeypatch):
    class Full:
        """Takes a few bytes, as a raw file does, and then none."""

        def __init__(self, file: Any) -> None:
            self._file = file
            self._room = 10

        def write(self, data: Any) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self._room = min(self._room, len(data)), 0
            return self._file.write(data[:taken])

        def close(self) -> None:
            self._file.close()

    def open_full(path: str, *args: Any, **more: Any) -> Any:
        return Full(open(path, *args, **more))

    first, second = line.ask("1"), line.ask("2")
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "open", open_full, raising=False)
        line.receive(ANSWER[:-1])
    line.receive(ANSWER[-1:])
    with pytest.raises(PytxmrError, match="cannot write .*No space left on device"):
        result_of(first)
    assert os.listdir(tmp_path) == []
    line.receive(ANSWER)
    assert content(result_of(second)[0]) == BLOCK


@pytest.mark.parametrize(("sources", "share"), [(1, 64), (4, 64), (16, 16), (100, 4)])
def test_the_more_sources_the_fewer_requests_are_under_way_at_each(sources, share):
    reactor = MemoryReactorClock()
    fetcher = Fetcher(reactor)
    answers = [
        fetcher.fetch((f"192.0.2.{n}", 1), KEY, "Job001", attempt(m), (0,), "/none")
        for n in range(sources)
        for m in range(100)
    ]
    reactor.advance(0)
    asked = []
    protocols = []
    for _, _, factory, *_ in reactor.tcpClients:
        transport = StringTransport()
        protocols.append(factory.buildProtocol(None))
        protocols[-1].makeConnection(transport)
        asked.append(transport.value().count(b"\n"))
    assert asked == [share] * sources
    fetcher.close()
    for protocol in protocols:
        protocol.connectionLost(Failure(ConnectionDone()))
    for answer in answers:
        with pytest.raises(Unreachable):
            result_of(answer)


def test_a_request_is_signed_for_what_it_asks():
    reactor = MemoryReactorClock()
    answer = Fetcher(reactor).fetch(
        ("192.0.2.1", 1), KEY, "Job001", attempt(4), (3, 0, 17), "/none"
    )
    reactor.advance(0)
    protocol = reactor.tcpClients[0][2].buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    text = "Job001 Map005.0 3,0,17"
    assert transport.value() == f"fetch {text} {sign(KEY, text)}\n".encode()
    protocol.connectionLost(Failure(ConnectionDone()))
    with pytest.raises(Unreachable):
        result_of(answer)
