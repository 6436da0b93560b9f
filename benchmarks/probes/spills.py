"""What the sending and the receiving probe have in common."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from pytxmr.model import MAP, AttemptId, TaskId
from pytxmr.net import fetch, kvserver

JOB = "Job001"
KEY = b"a key that signs requests"
#: Map outputs that are fetched; a partition of each.
MAPS = 8
CHUNK_BYTES = 1 << 17


def attempt(number: int) -> AttemptId:
    return AttemptId(TaskId(MAP, number), 0)


def resize(sizes: Iterable[str]) -> None:
    """Give this process other sizes, each ``NAME=BYTES``: ``chunk``, what is written to a socket at
    once; ``read``, what is read from it at once; ``socket``, both buffers of the kernel, which are
    otherwise as large as it finds good."""
    for name, _, size in (one.partition("=") for one in sizes):
        if name == "chunk":
            kvserver.CHUNK_BYTES = int(size)
        elif name == "read":
            fetch.READ_BYTES = int(size)
        else:
            kvserver.keep_alive = fetch.keep_alive = _buffered(int(size))


def _buffered(size: int) -> Any:
    def set_buffers(transport: Any) -> None:
        for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            transport.getHandle().setsockopt(socket.SOL_SOCKET, which, size)

    return set_buffers
