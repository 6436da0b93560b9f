"""Wires in memory, stocked stores, sockets with a mind of their own: what the tests here share."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.test import iosim
from zope.interface import implementer

from pytxmr.model import MAP, AttemptId, TaskId
from pytxmr.records.columns import groups_of
from pytxmr.records.spill import PartitionRange, SpillWriter
from pytxmr.store import KeyValueStore

reactor: Any = installed_reactor

LOOPBACK = "tcp:0:interface=127.0.0.1"


# ---- Deferreds


def result_of(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with; raises what it failed with. It must have fired already."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "the Deferred has not fired"
    if isinstance(found[0], pb.CopiedFailure):  # its value is a text
        raise pb.RemoteError(found[0].type, found[0].value, found[0].traceback)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def soon(awaitable: Any, seconds: float = 15.0) -> Deferred[Any]:
    """The Deferred, or coroutine, with a deadline by the real clock."""
    deferred = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
    return deferred.addTimeout(seconds, reactor)


def until(condition: Callable[[], Any], seconds: float = 15.0, what: str = "") -> Deferred[Any]:
    """Fires, with the condition's value, at the first turn of the reactor at which it is true."""
    done: Deferred[Any] = Deferred()
    deadline = reactor.seconds() + seconds

    def look() -> None:
        value = condition()
        if value:
            done.callback(value)
        elif reactor.seconds() > deadline:
            done.errback(AssertionError(f"not within {seconds} s: {what or condition}"))
        else:
            reactor.callLater(0.005, look)

    look()
    return done


def turns(count: int = 3) -> Deferred[None]:
    """Fires after so many turns of the reactor."""
    done: Deferred[None] = Deferred()

    def turn(left: int) -> None:
        if left:
            reactor.callLater(0, turn, left - 1)
        else:
            done.callback(None)

    turn(count)
    return done


# ---- connections in memory


class Transport(iosim.FakeTransport):
    """Gives what is written in pieces, as a socket does."""

    PIECE = 262_144

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), self.PIECE):
            super().write(data[start : start + self.PIECE])

    def getOutBuffer(self) -> bytes | None:
        return self.stream.pop(0) if self.stream else None


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to a server's factory in memory; `flush` moves the bytes."""

    def __init__(self, server: Factory) -> None:
        self._server = server
        self.client: Any = None
        self.server: Any = None
        self.pump: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        self.client = factory.buildProtocol(None)
        self.server = self._server.buildProtocol(None)
        self.client_transport = Transport(self.client, False)
        self.server_transport = Transport(self.server, True)
        self.pump = iosim.connect(
            self.server,
            self.server_transport,
            self.client,
            self.client_transport,
            greet=False,
        )
        return succeed(self.client)

    def flush(self) -> None:
        self.pump.flush()


class Mute(Protocol):
    """Says nothing, whatever it hears."""

    heard = b""
    lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = True


class Scripted(Protocol):
    """Sends what it is told to, and remembers what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.made: Deferred[Scripted] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost.callback(None)


async def serve(factory: Any) -> Any:
    """Listen on loopback; the port is to be closed by `stopListening`."""
    factory.noisy = False
    return await serverFromString(reactor, LOOPBACK).listen(factory)


# ---- spills


def attempt(map_index: int, number: int = 0) -> AttemptId:
    return AttemptId(TaskId(MAP, map_index), number)


Groups = list[tuple[Any, list[Any]]]


@dataclass
class Stock:
    """A store with spills in it."""

    directory: Path
    store: KeyValueStore = field(init=False)
    ranges: dict[tuple[str, AttemptId], list[PartitionRange]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = KeyValueStore(str(self.directory))

    def add(
        self,
        partitions: list[Groups],
        map_index: int = 0,
        number: int = 0,
        job: str = "Job001",
        key: bytes = b"the key of the first job",
    ) -> AttemptId:
        """Store the output of a map attempt: for each partition its groups, in order of keys."""
        self.store.add_job(job, key)
        made = attempt(map_index, number)
        writer = SpillWriter(self.store.spill_path(job, made), len(partitions))
        for partition, groups in enumerate(partitions):
            writer.write(partition, groups_of([k for k, _ in groups], [v for _, v in groups]))
        self.ranges[job, made] = writer.close()
        self.store.add_spill(job, made)
        return made

    def stored(self, made: AttemptId, partition: int, job: str = "Job001") -> bytes:
        """The bytes of a partition as they lie on disk."""
        part = self.ranges[job, made][partition]
        with open(self.store.spill_path(job, made), "rb") as file:
            file.seek(part.offset)
            return file.read(part.length)


def open_files() -> set[str]:
    """What the file descriptors of this process point to, sockets and pipes left out."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("/"):
            found.add(target)
    return found


# ---- processes


def is_alive(pid: int) -> bool:
    """Does the process run? One that has ended, but is not yet waited for, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def await_death(pid: int, seconds: float = 10.0) -> bool:
    """Wait for the end of any process, not only of a child; False if it outlives the wait."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(fd):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
