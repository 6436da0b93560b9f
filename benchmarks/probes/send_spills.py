"""Serves spills twice: send_spills.py DIRECTORY BYTES [NAME=BYTES].

Prints two ports: that of a KeyValueStore with spills of that many bytes together, as trackers have
it, and that of a bare push producer which sends the same files to whoever connects, and hangs up.
A size may be named that the store's port is to have instead of its own (see `spills.resize`).
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from spills import CHUNK_BYTES, JOB, KEY, MAPS, attempt, resize
from twisted.internet import reactor as imported_reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from pytxmr.net.kvserver import KeyValueFactory
from pytxmr.records.sortbuffer import SortBuffer
from pytxmr.store import KeyValueStore

VALUE_BYTES = 250


@implementer(IPushProducer)
class BareSender(Protocol):
    """Sends files, and hangs up."""

    transport: Any

    def __init__(self, paths: list[str]) -> None:
        self._paths = list(paths)
        self._file: Any = None
        self._paused = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused:
            if self._file is None:
                if not self._paths:
                    self._paused = True
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()
                    return
                self._file = open(self._paths.pop(0), "rb", buffering=0)
            data = self._file.read(CHUNK_BYTES)
            if data:
                self.transport.write(data)
            else:
                self._file.close()
                self._file = None

    def stopProducing(self) -> None:
        self._paused = True


def make_store(directory: str, size: int) -> tuple[KeyValueStore, list[str]]:
    store = KeyValueStore(directory)
    store.add_job(JOB, KEY)
    chance = random.Random(1)
    paths = []
    for number in range(MAPS):
        path = store.spill_path(JOB, attempt(number))
        buffer = SortBuffer(path, 1, 2 * size)
        pairs = ((key, chance.randbytes(VALUE_BYTES)) for key in range(size // MAPS // VALUE_BYTES))
        while buffer.fill(pairs):
            pass
        buffer.finish()
        store.add_spill(JOB, attempt(number))
        paths.append(path)
    return store, paths


def main() -> None:
    reactor: Any = imported_reactor
    directory, size, *sizes = sys.argv[1:]
    resize(sizes)
    store, paths = make_store(directory, int(size))
    spills = KeyValueFactory(store, "no token", reactor)
    bare = Factory.forProtocol(lambda: BareSender(paths))
    ports = []
    for factory in (spills, bare):
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port)
    print(*ports, flush=True)
    os.close(sys.stdout.fileno())
    reactor.run()


if __name__ == "__main__":
    main()
