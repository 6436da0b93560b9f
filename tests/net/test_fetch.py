"""Fetching: what arrives is what was stored, or there is an error in time and no file."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import pytest_twisted
from asking import KEY, content, head
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from wires import Scripted, Stock, attempt, open_files, result_of, serve, soon, turns, until

from pytxmr.errors import (
    DiskFailed,
    NotFound,
    PeerBroke,
    PytxmrError,
    Refused,
    SpillDamaged,
    Unreachable,
)
from pytxmr.net.fetch import CONNECT_SECONDS, PIPELINED, READ_BYTES, Fetcher, FetchProtocol
from pytxmr.net.kvserver import CHUNK_BYTES, KeyValueFactory
from pytxmr.net.secret import sign
from pytxmr.records.spill import pack_block, read_blocks


class Counting(KeyValueFactory):
    """Counts the connections ever made."""

    made = 0

    def buildProtocol(self, address: Any) -> Any:
        self.made += 1
        return super().buildProtocol(address)


class Site:
    """A store served on loopback, and a `Fetcher` that fetches from it into a directory."""

    def __init__(self, reactor: Any, directory: Any) -> None:
        self.reactor = reactor
        self.stock = Stock(directory / "there")
        self.server = Counting(self.stock.store, "token", reactor)
        self.here = directory / "here"
        self.here.mkdir()
        self.fetcher = Fetcher(reactor)
        self.port: Any = None
        self.address = ("127.0.0.1", 0)

    async def open(self, factory: Any = None) -> None:
        self.port = await soon(serve(factory or self.server))
        self.address = ("127.0.0.1", self.port.getHost().port)

    def fetch(
        self, made: Any, partitions: Any = (0,), name: str | None = None, **more: Any
    ) -> Deferred[Any]:
        path = str(self.here / (name or f"{made}.{partitions[0]}"))
        wanted = {"key": KEY, "job": "Job001"} | more
        return soon(
            self.fetcher.fetch(
                self.address, wanted["key"], wanted["job"], made, tuple(partitions), path
            )
        )

    def files(self) -> list[str]:
        return sorted(os.listdir(self.here))

    async def close(self) -> None:
        self.fetcher.close()
        if self.port is not None:
            await soon(self.port.stopListening())


@pytest.fixture
def site(reactor, tmp_path) -> Any:
    made = Site(reactor, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))
    here = str(made.here)
    assert [path for path in open_files() if path.startswith(here)] == []


def words(count: int, start: int = 0) -> list[tuple[Any, list[Any]]]:
    return [(f"{start + n:08d}", [n, os.urandom(50)]) for n in range(count)]


@pytest_twisted.ensureDeferred
async def test_segments_arrive_as_they_were_stored(site):
    groups = [words(5000), [], words(3), words(20_000)]
    made = site.stock.add(groups)
    await site.open()
    found = await site.fetch(made, (3, 1, 0))
    assert list(found) == [3, 1, 0]
    for partition, segment in found.items():
        assert content(segment) == site.stock.stored(made, partition)
    with open(found[3].path, "rb") as file:
        part = found[3]
        blocks = list(read_blocks(file.fileno(), part.offset, part.length))
    assert [key for block in blocks for key in block.keys] == [key for key, _ in groups[3]]


@pytest_twisted.ensureDeferred
async def test_partitions_without_pairs_are_segments_of_no_bytes(site):
    made = site.stock.add([[], [], []])
    await site.open()
    found = await site.fetch(made, (0, 2))
    assert [(partition, part.length) for partition, part in found.items()] == [(0, 0), (2, 0)]


@pytest_twisted.ensureDeferred
async def test_many_attempts_come_over_one_connection(site):
    count = 5 * PIPELINED
    for index in range(count):
        site.stock.add([words(200, index), words(3)], map_index=index)
    await site.open()
    answers = [site.fetch(attempt(index), (0, 1)) for index in range(count)]
    for index, answer in enumerate(answers):
        found = await answer
        for partition in (0, 1):
            assert content(found[partition]) == site.stock.stored(attempt(index), partition)
    assert site.server.made == 1
    assert content((await site.fetch(attempt(7), name="again"))[0]) == site.stock.stored(
        attempt(7), 0
    )
    assert site.server.made == 1, "the connection is kept"


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_answered_fails_alone(site):
    made = site.stock.add([words(10)])
    await site.open()
    answers = {
        "missing": site.fetch(attempt(7)),
        "good": site.fetch(made),
        "unsigned": site.fetch(made, name="x", key=b"another key"),
        "partition": site.fetch(made, (0, 9), name="y"),
        "job": site.fetch(made, name="z", job="Job002"),
        "good too": site.fetch(made, name="last"),
    }
    for name, kind in {
        "missing": NotFound,
        "unsigned": Refused,
        "partition": NotFound,
        "job": Refused,
    }.items():
        with pytest.raises(kind):
            await answers[name]
    for name in ("good", "good too"):
        assert content((await answers[name])[0]) == site.stock.stored(made, 0)
    assert site.files() == ["Map001.0.0", "last"]
    assert site.server.made == 1


@pytest_twisted.ensureDeferred
async def test_a_damaged_block_fails_its_request_and_leaves_no_file(site):
    good = site.stock.add([words(10)])
    bad = site.stock.add([words(5000), words(5000)], map_index=1)
    part = site.stock.ranges["Job001", bad][0]
    with open(site.stock.store.spill_path("Job001", bad), "r+b") as file:
        file.seek(part.offset + part.length // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    await site.open()
    with pytest.raises(SpillDamaged):
        await site.fetch(bad, (0, 1))
    assert site.files() == []
    found = await site.fetch(good)
    assert content(found[0]) == site.stock.stored(good, 0)
    found = await site.fetch(bad, (1,))
    assert content(found[1]) == site.stock.stored(bad, 1)
    assert site.server.made == 1


@pytest_twisted.ensureDeferred
async def test_a_damaged_map_output_harms_none_of_those_asked_for_with_it(site):
    bad = site.stock.add([words(20_000)], map_index=1)
    part = site.stock.ranges["Job001", bad][0]
    with open(site.stock.store.spill_path("Job001", bad), "r+b") as file:
        file.seek(part.offset)
        file.write(b"\xff" * 4)
    good = site.stock.add([words(10)])
    await site.open()
    before = [site.fetch(good, name=f"{n}") for n in range(2)]
    damaged = site.fetch(bad)
    behind = [site.fetch(good, name=f"{n}") for n in range(2, PIPELINED + 4)]
    with pytest.raises(SpillDamaged):
        await damaged
    for other in before + behind:
        assert content((await other)[0]) == site.stock.stored(good, 0)
    assert len(site.files()) == PIPELINED + 4
    assert site.server.made == 1


class Failing(Scripted):
    """A server that answers the first requests as it is told to, and then closes."""

    answers: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        while b"\n" in self.heard:
            self.heard = self.heard.partition(b"\n")[2]
            if not self.answers:
                self.transport.loseConnection()
                return
            answer = self.answers.pop(0)
            self.transport.write(answer)
            if not answer:
                self.transport.abortConnection()


def failing(*answers: bytes) -> Factory:
    class Told(Failing):
        pass

    Told.answers = list(answers)
    return Factory.forProtocol(Told)


BLOCK = pack_block(["k"], None, [1])


def first_head(length: int) -> bytes:
    text = "Job001 Map001.0 0"
    return head(f"fetch {text} {sign(KEY, text)}".encode(), length)


@pytest.mark.parametrize(
    "answer",
    [
        first_head(len(BLOCK)) + BLOCK[:-1],
        first_head(len(BLOCK)),
        first_head(2 * len(BLOCK)) + BLOCK,
        b"= 1",
        b"",
    ],
    ids=["in a block", "before the first", "between two", "in the line", "at once"],
)
@pytest_twisted.ensureDeferred
async def test_a_source_that_closes_in_the_middle_is_unreachable_and_leaves_no_file(site, answer):
    await site.open(failing(answer))
    first, second = site.fetch(attempt(0)), site.fetch(attempt(1))
    for request in (first, second):
        with pytest.raises(Unreachable, match="connection lost"):
            await request
    assert site.files() == []


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"= \n",
        b"= x\n",
        b"= -1\n",
        b"= 1 2\n",
        "= ٣\n".encode(),
        b"= 1e3\n",
        b"=\n",
        b"hello\n",
        b"= 9999999999999999999999\n",
        b"\xff\xff\n",
        b"hello\n= 0\n= 0\n",
        b"= x\n= 0\n",
        first_head(80).replace(b"80", b"00"),
        first_head(80).replace(b" 80", b" 8"),
        head(b"fetch another", 0),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_source_that_speaks_nonsense_broke_the_protocol(site, answer):
    await site.open(failing(answer))
    with pytest.raises(PeerBroke, match="is no answer to fetch"):
        await site.fetch(attempt(0))
    assert site.files() == []


@pytest_twisted.ensureDeferred
async def test_an_endless_line_is_not_collected(site):
    await site.open(failing(b"x" * 300_000))
    with pytest.raises(Unreachable):
        await site.fetch(attempt(0))


@pytest_twisted.ensureDeferred
async def test_a_source_that_is_not_there_is_unreachable_at_once_and_one_that_returns_is_used(
    site, reactor
):
    made = site.stock.add([words(3)])
    await site.open()
    host, number = site.address
    await soon(site.port.stopListening())
    with pytest.raises(Unreachable, match="cannot connect to .*refused"):
        await site.fetch(made)
    assert site.files() == []
    site.port = reactor.listenTCP(number, site.server, interface=host)
    assert content((await site.fetch(made))[0]) == site.stock.stored(made, 0)


def test_a_source_that_does_not_answer_the_connection_is_unreachable_in_time():
    reactor = MemoryReactorClock()
    answer = Fetcher(reactor).fetch(("192.0.2.1", 8993), KEY, "Job001", attempt(0), (0,), "/none")
    reactor.advance(0)
    (_, port, _, timeout, _) = reactor.tcpClients[0]
    assert (port, timeout) == (8993, CONNECT_SECONDS)
    assert not answer.called
    reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(TimeoutError()))
    reactor.advance(1)
    with pytest.raises(Unreachable):
        result_of(answer)


@pytest_twisted.ensureDeferred
async def test_where_a_file_cannot_be_written_its_request_fails_and_the_others_do_not(site):
    made = site.stock.add([words(5000)])
    await site.open()
    lost = site.fetch(made, name="no/such/directory")
    good = site.fetch(made, name="good")
    with pytest.raises(PytxmrError, match="cannot write .*No such file or directory") as caught:
        await lost
    assert type(caught.value) is DiskFailed
    assert content((await good)[0]) == site.stock.stored(made, 0)
    assert site.server.made == 1


@pytest_twisted.ensureDeferred
async def test_a_file_whose_directory_goes_meanwhile_harms_nobody(site, monkeypatch):
    bad = site.stock.add([words(20_000)])
    good = site.stock.add([words(10)], map_index=1)
    await site.open()
    (site.here / "job").mkdir()
    real = FetchProtocol.rawDataReceived

    def remove_then(self: Any, data: bytes) -> None:
        real(self, data)
        for path in (site.here / "job").glob("*"):
            path.unlink()

    monkeypatch.setattr(FetchProtocol, "rawDataReceived", remove_then)
    first = site.fetch(bad, name="job/bad")
    second = site.fetch(good, name="good")
    await first
    assert content((await second)[0]) == site.stock.stored(good, 0)


@pytest_twisted.ensureDeferred
async def test_a_closed_fetcher_fails_what_is_under_way_and_connects_no_more(site):
    silent: list[Any] = []

    def build() -> Scripted:
        silent.append(Scripted())
        return silent[-1]

    await site.open(Factory.forProtocol(build))
    answers = [site.fetch(attempt(n)) for n in range(3 * PIPELINED)]
    await soon(until(lambda: silent and silent[0].heard.count(b"\n") == PIPELINED))
    site.fetcher.close()
    answers.append(site.fetch(attempt(99)))
    for answer in answers:
        with pytest.raises(Unreachable):
            await answer
    await soon(silent[0].lost)
    assert len(silent) == 1
    assert site.files() == []


@pytest_twisted.ensureDeferred
async def test_a_fetcher_closed_while_it_connects_fails_what_waits(site):
    await site.open()
    answer = site.fetch(attempt(0))
    site.fetcher.close()
    with pytest.raises(Unreachable):
        await answer


@pytest_twisted.ensureDeferred
async def test_a_turn_of_the_reactor_handles_little_of_a_transfer(site, reactor, monkeypatch):
    """What a heartbeat waits for is a turn: a chunk sent and a read taken on each connection."""
    turn = 0
    handled: Counter[tuple[int, str, Any]] = Counter()

    def counting(what: str, target: Any, name: str) -> None:
        real = getattr(target, name)

        def counted(who: Any, data: Any, *more: Any) -> Any:
            handled[turn, what, who] += len(data)
            return real(who, data, *more)

        monkeypatch.setattr(target, name, counted)

    counting("written", tcp.Connection, "write")
    counting("received", FetchProtocol, "dataReceived")
    value = os.urandom(1 << 16)
    transfers = 3
    for index in range(transfers):
        site.stock.add([[(n, [value]) for n in range(160)]], map_index=index)
    await site.open()
    fetchers = [Fetcher(reactor) for _ in range(transfers)]
    answers = [
        soon(
            fetcher.fetch(
                site.address, KEY, "Job001", attempt(index), (0,), str(site.here / f"{index}")
            )
        )
        for index, fetcher in enumerate(fetchers)
    ]
    while not all(answer.called for answer in answers):
        await turns(1)
        turn += 1
    for answer in answers:
        await answer
    for fetcher in fetchers:
        fetcher.close()
    most = {
        what: max(n for (_, kind, _), n in handled.items() if kind == what)
        for what in ("written", "received")
    }
    assert CHUNK_BYTES <= most["written"] < 2 * CHUNK_BYTES
    assert most["received"] <= READ_BYTES
    readers = {who for _, kind, who in handled if kind == "received"}
    assert len(readers) == transfers
    assert {who.transport.bufferSize for who in readers} == {READ_BYTES}
