"""Receives what send_spills.py sends: receive_spills.py spills|bare PORT DIRECTORY
[NAME=BYTES].

Prints as JSON how many bytes arrived in files, and the seconds from before the connection until
the last of them was written. Sizes are as in send_spills.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from spills import JOB, KEY, MAPS, attempt, resize
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from pytxmr.net.fetch import Fetcher


class BareReceiver(Protocol):
    """Writes what arrives to a file."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0)
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._file.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self._file.close()
        self.done.callback(None)


async def receive_bare(reactor: Any, port: int, directory: str) -> list[str]:
    path = os.path.join(directory, "received")
    factory = Factory.forProtocol(lambda: BareReceiver(path))
    receiver: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
    await receiver.done
    return [path]


async def receive_spills(reactor: Any, port: int, directory: str) -> list[str]:
    fetcher = Fetcher(reactor)
    paths = [os.path.join(directory, f"received{number}") for number in range(MAPS)]
    await gatherResults(
        [
            fetcher.fetch(("127.0.0.1", port), KEY, JOB, attempt(number), (0,), path)
            for number, path in enumerate(paths)
        ]
    )
    fetcher.close()
    return paths


async def measure(reactor: Any, kind: str, port: str, directory: str, *sizes: str) -> None:
    resize(sizes)
    receive = {"spills": receive_spills, "bare": receive_bare}[kind]
    began = time.perf_counter()
    paths = await receive(reactor, int(port), directory)
    seconds = time.perf_counter() - began
    size = sum(map(os.path.getsize, paths))
    print(json.dumps({"seconds": seconds, "bytes": size}))
    for path in paths:
        os.unlink(path)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor, *sys.argv[1:])))
