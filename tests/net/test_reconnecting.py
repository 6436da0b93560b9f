"""When a tasktracker that cannot reach its jobtracker tries again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from pytxmr.tasktracker import RECONNECT_SECONDS, TaskTracker, TrackerConfig


class Nobody:
    """An endpoint at which nobody listens: remembers when it was tried."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tries: list[float] = []

    def connect(self, factory: object) -> Deferred[Any]:
        self.tries.append(self._clock.seconds())
        return fail(ConnectionRefusedError())


class NoWorkers:
    def start(self) -> None:
        pass


def tries(name: str, place: Path) -> list[float]:
    """The times of the first 9 tries of a tracker of that name."""
    clock: Any = Clock()
    nobody: Any = Nobody(clock)
    pool: Any = NoWorkers()
    config = TrackerConfig(name, str(place), 1, "tcp:0", b"secret")
    tracker = TaskTracker(clock, config, nobody, pool)
    tracker.startService()
    while len(nobody.tries) < 9:
        clock.advance(0.001)
    tracker.running = False
    clock.advance(RECONNECT_SECONDS[1])
    return nobody.tries


def test_pauses_double_up_to_the_longest_and_differ_from_tracker_to_tracker(tmp_path: Path) -> None:
    of_one, of_two = tries("one", tmp_path), tries("two", tmp_path)
    for found in (of_one, of_two):
        pauses = [later - earlier for earlier, later in zip(found, found[1:], strict=False)]
        whole = [0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5]
        for pause, most in zip(pauses, whole, strict=True):
            assert most / 2 - 0.01 <= pause <= most + 0.01
    assert abs(of_one[-1] - of_two[-1]) > 0.02
