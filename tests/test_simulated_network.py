"""The simulated network carries bytes as TCP does, and fails as it is told to."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import AlreadyCalled, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from pytxmr.simulation.clock import VirtualClock
from pytxmr.simulation.machine import Machine
from pytxmr.simulation.network import HIGH_WATER_BYTES, KEPT_SECONDS, WINDOW_BYTES, Network


class Heard(Protocol):
    """Keeps what it hears, and how its connection ended."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = ""

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason.type.__name__


class Lan:
    """Two machines, one of which listens."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.network = Network(self.clock, Random(1), (0.01, 0.02))
        self.a = self.machine("10.0.0.1")
        self.b = self.machine("10.0.0.2")
        self.accepted: list[Heard] = []
        self.listen(self.b)

    def machine(self, host: str) -> Machine:
        return Machine(self.clock, self.network, host, Random(2))

    def listen(self, machine: Machine) -> None:
        def made() -> Heard:
            self.accepted.append(Heard())
            return self.accepted[-1]

        factory = Factory.forProtocol(made)
        factory.noisy = False
        TCP4ServerEndpoint(machine, 9, interface=machine.host).listen(factory)

    def connect(self, timeout: float = 30.0) -> list[Any]:
        found: list[Any] = []
        factory = Factory.forProtocol(Heard)
        factory.noisy = False
        endpoint = TCP4ClientEndpoint(self.a, self.b.host, 9, timeout)
        endpoint.connect(factory).addBoth(found.append)
        return found

    def pass_time(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.clock.call_at(until, None, lambda: None)
        while self.clock.now < until:
            self.clock.step()

    def connected(self) -> tuple[Any, Any]:
        found = self.connect()
        self.pass_time(1)
        found[0].transport.setTcpKeepAlive(True)
        return found[0], self.accepted[-1]


@pytest.fixture
def lan() -> Lan:
    return Lan()


def test_calls_are_made_in_the_order_of_their_times_and_then_of_their_making() -> None:
    clock, made = VirtualClock(), []
    for name, at in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0)):
        clock.call_at(at, None, made.append, name)
    moved = clock.call_at(0.5, None, made.append, "moved")
    moved.reset(3.0)
    clock.call_at(0.1, None, made.append, "cancelled").cancel()
    while clock.step():
        pass
    assert made == ["a", "b", "c", "d", "moved"]
    assert clock.now == 3.0
    with pytest.raises(AlreadyCalled):
        moved.cancel()


def test_bytes_arrive_whole_and_in_order_however_many_they_are(lan: Lan) -> None:
    ours, theirs = lan.connected()
    data = bytes(range(256)) * 100
    ours.transport.write(data[:7])
    ours.transport.write(data[7:])
    ours.transport.loseConnection()
    lan.pass_time(60)
    assert theirs.data == data
    assert (ours.lost, theirs.lost) == ("ConnectionDone", "ConnectionDone")
    assert not lan.network.connections


def test_a_producer_is_paused_while_the_other_end_does_not_read(lan: Lan) -> None:
    ours, theirs = lan.connected()

    class Producer:
        paused = False
        count = 0

        def resumeProducing(self) -> None:
            self.paused = False
            while not self.paused and self.count < 100:
                self.count += 1
                ours.transport.write(b"x" * 500)
            if self.count == 100:
                ours.transport.unregisterProducer()

        def pauseProducing(self) -> None:
            self.paused = True

        def stopProducing(self) -> None:
            pass

    producer = Producer()
    theirs.transport.pauseProducing()
    ours.transport.registerProducer(producer, True)
    producer.resumeProducing()
    lan.pass_time(10)
    assert theirs.data == b""
    assert producer.count * 500 <= WINDOW_BYTES + 2 * HIGH_WATER_BYTES
    theirs.transport.resumeProducing()
    lan.pass_time(10)
    assert theirs.data == b"x" * 50_000


def test_where_nobody_listens_a_connection_is_refused_and_where_nobody_is_it_times_out(
    lan: Lan,
) -> None:
    lan.b.ports.clear()
    refused = lan.connect()
    lan.pass_time(1)
    assert refused[0].check(ConnectionRefusedError)
    lan.b.crash(silent=True)
    late = lan.connect(timeout=5.0)
    lan.pass_time(4)
    assert late == []
    lan.pass_time(2)
    assert late[0].check(TimeoutError)


def test_what_a_partition_holds_back_arrives_when_it_heals(lan: Lan) -> None:
    ours, theirs = lan.connected()
    lan.network.block(lan.a.host, lan.b.host)
    ours.transport.write(b"one way")
    theirs.transport.write(b"the other")
    lan.pass_time(5)
    assert (ours.data, theirs.data) == (b"the other", b"")
    lan.network.unblock(lan.a.host, lan.b.host)
    lan.pass_time(1)
    assert theirs.data == b"one way"


def test_a_partition_that_lasts_ends_a_kept_alive_connection_that_has_something_to_say(
    lan: Lan,
) -> None:
    ours, _ = lan.connected()
    lan.network.block(lan.a.host, "*")
    ours.transport.write(b"hello?")
    lan.pass_time(KEPT_SECONDS - 1)
    assert not ours.lost
    lan.pass_time(2)
    assert ours.lost == "TimeoutError"


def test_the_peers_of_a_process_that_crashes_are_told_and_those_of_a_machine_in_time(
    lan: Lan,
) -> None:
    ours, theirs = lan.connected()
    lan.b.crash(silent=False)
    lan.pass_time(1)
    assert ours.lost == "ConnectionLost"
    assert not theirs.lost, "nothing of a process that is gone is called"
    lan.b = lan.machine(lan.b.host)
    lan.listen(lan.b)
    ours, _ = lan.connected()
    lan.b.crash(silent=True)
    lan.pass_time(KEPT_SECONDS - 1)
    assert not ours.lost
    lan.pass_time(2)
    assert ours.lost == "TimeoutError"


def test_a_connection_is_cut_at_the_byte_that_was_said(lan: Lan) -> None:
    ours, theirs = lan.connected()
    ours.transport.cut_after(5)
    ours.transport.write(b"0123")
    lan.pass_time(1)
    ours.transport.write(b"456789")
    lan.pass_time(1)
    assert theirs.data == b"01234"
    assert (ours.lost, theirs.lost) == ("ConnectionLost", "ConnectionLost")


def test_a_machine_that_is_stopped_does_everything_later_in_order(lan: Lan) -> None:
    ours, theirs = lan.connected()
    done: list[str] = []
    lan.b.callLater(1, done.append, "first")
    lan.b.callLater(2, done.append, "second")
    lan.b.stop()
    ours.transport.write(b"are you there?")
    lan.pass_time(10)
    assert (done, theirs.data) == ([], b"")
    lan.b.go_on()
    lan.pass_time(1)
    assert (done, theirs.data) == (["first", "second"], b"are you there?")


def test_what_a_crashed_machine_was_about_to_do_is_not_done(lan: Lan) -> None:
    done: list[str] = []
    lan.a.callLater(1, done.append, "never")
    deferToThreadPool(lan.a, lan.a.getThreadPool(), done.append, "neither")
    lan.a.crash(silent=True)
    lan.pass_time(5)
    assert done == []
    assert lan.clock.pending() == []


def test_threads_do_what_they_are_given_and_answer_later(lan: Lan) -> None:
    answers: list[Any] = []
    for function in (lambda: 7, lambda: 1 / 0):
        answer: Deferred[Any] = deferToThreadPool(lan.a, lan.a.getThreadPool(), function)
        answer.addBoth(answers.append)
    assert answers == []
    lan.pass_time(1)
    assert 7 in answers
    assert any(getattr(answer, "type", None) is ZeroDivisionError for answer in answers)


def test_names_are_resolved_as_endpoints_want_it(lan: Lan) -> None:
    found: list[Any] = []
    factory = Factory.forProtocol(Heard)
    factory.noisy = False
    HostnameEndpoint(lan.a, lan.b.host, 9).connect(factory).addBoth(found.append)
    lan.pass_time(1)
    assert isinstance(found[0], Heard)


def test_where_a_disk_is_full_writing_fails_and_elsewhere_it_does_not(
    lan: Lan, tmp_path: Any
) -> None:
    lan.a.disk_bytes = 10
    with open(tmp_path / "file", "wb", 0) as file, lan.a.disk():
        file.write(b"x" * 10)
        with pytest.raises(OSError):
            file.write(b"y")
    with lan.b.disk():
        (tmp_path / "file").write_bytes(b"x" * 100)
