"""The process in which a cluster is simulated, changed for as long as that runs.

What the product takes from its process, such as secrets, limits and the log, it has to find in
this one as the scenario says; afterwards all is as it was.
"""

from __future__ import annotations

import gc
import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

from twisted.logger import globalLogPublisher

from pytxmr import loggedplan, segments
from pytxmr.net import kvserver, login, remote

#: Limits of the product that are lower here, and still such that only strangers reach them.
LIMITS: tuple[tuple[Any, str, int], ...] = (
    (remote, "MESSAGE_BYTES", 128 * 1024),  # less than is read of a log
    (login, "MOST_STRANGERS", 40),
    (kvserver, "MOST_CONNECTIONS", 50),
)


@contextmanager
def observing(observer: Callable[[Any], None]) -> Iterator[None]:
    """Tell of every event that is logged."""
    globalLogPublisher.addObserver(observer)  # type: ignore[arg-type]
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)  # type: ignore[arg-type]


@contextmanager
def linking(observer: Callable[[str], None]) -> Iterator[None]:
    """Tell of every link that is made, and where."""
    link = os.link

    def told(source: str, target: str) -> None:
        link(source, target)
        observer(target)

    os.link = told  # type: ignore[assignment]
    try:
        yield
    finally:
        os.link = link


@contextmanager
def limiting() -> Iterator[None]:
    """Have `LIMITS` in place of those of the product."""
    before = [getattr(module, name) for module, name, _ in LIMITS]
    for module, name, limit in LIMITS:
        setattr(module, name, limit)
    try:
        yield
    finally:
        for (module, name, _), value in zip(LIMITS, before, strict=True):
            setattr(module, name, value)


@contextmanager
def determined(seed: int, long_log: int) -> Iterator[None]:
    """Let keys, and Perspective Broker's challenges, be drawn from the seed, too, and what counts
    all there is of something in the process begin anew; and logs be long from so many events on."""
    rng = Random(f"secrets {seed}")
    state, token_bytes, token_hex = random.getstate(), secrets.token_bytes, secrets.token_hex
    numbers, segments._numbers = segments._numbers, count()
    usual, loggedplan.LONG_LOG = loggedplan.LONG_LOG, long_log
    random.seed(seed)
    secrets.token_bytes = lambda nbytes=None: rng.randbytes(nbytes or 32)
    secrets.token_hex = lambda nbytes=None: rng.randbytes(nbytes or 32).hex()
    collecting = gc.isenabled()
    gc.disable()  # so that what is collected is not finalised at another moment each time
    try:
        yield
    finally:
        random.setstate(state)
        segments._numbers = numbers
        loggedplan.LONG_LOG = usual
        secrets.token_bytes, secrets.token_hex = token_bytes, token_hex
        if collecting:
            gc.enable()
