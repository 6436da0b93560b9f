"""Places at which a test can have a process die, stop, fail or say that it is there.

``PYTXMR_FAILPOINT=NAME:N:ACTION``, several separated by commas: as a process passes the place NAME
for the N-th time, it writes the line ``failpoint NAME N`` to the standard error that it was started
with, and then does ACTION:

- ``announce``: nothing more
- ``kill``, ``stop``: send itself SIGKILL, SIGSTOP
- ``exit``: end at once, with status 1
- ``error``: raise `OSError` as if the disk were full

Processes inherit the variable, so each place is passed by one kind of process only: `POINTS` says
by which. It is for tests; where it is not set a place costs a call of a function that does nothing,
and even so none is passed for each record.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock

VARIABLE = "PYTXMR_FAILPOINT"

#: Every place, and which process passes it.
POINTS = {
    # as it is about to begin an attempt
    "map-started": "tasktracker",
    "reduce-started": "tasktracker",
    # a worker has answered; nothing is reported yet
    "map-spilled": "tasktracker",
    "reduce-written": "tasktracker",
    # between two pieces of segments, of 128 KiB
    "fetch-sending": "tasktracker",
    # with some bytes of a segment that are not written yet
    "fetch-receiving": "tasktracker",
    "job-destroying": "tasktracker",
    # the same as of the tasktracker, where the user's code runs
    "worker-map-started": "worker",
    "worker-reduce-started": "worker",
    # the file is whole and, if it is output, synced; the tasktracker does not know it
    "worker-map-spilled": "worker",
    "worker-reduce-written": "worker",
    # around each transaction of the state: what it says is not done yet
    "log-writing": "jobtracker",
    "log-written": "jobtracker",
    # after each part's rename; then around the link that makes _SUCCESS
    "commit-renamed": "jobtracker",
    "commit-before-success": "jobtracker",
    "commit-after-success": "jobtracker",
}


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_ACTIONS: dict[str, Callable[[], None]] = {
    "announce": lambda: None,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(1),
    "error": _no_space,
}


def parse(text: str) -> dict[tuple[str, int], str]:
    """The actions by place and passing. Raises `ValueError`, which says what is wrong."""
    planned: dict[tuple[str, int], str] = {}
    for item in filter(None, text.split(",")):
        name, number, action = (item.split(":") + ["", ""])[:3]
        if item.count(":") != 2:
            raise ValueError(f"{item!r} is not NAME:N:ACTION")
        if name not in POINTS:
            raise ValueError(f"there is no fail point {name!r}; there are {_listed(POINTS)}")
        if not number.isascii() or not number.isdecimal() or int(number) < 1:
            raise ValueError(f"{number!r} in {item!r} is no number of a passing: 1, 2, ...")
        if action not in _ACTIONS:
            raise ValueError(f"there is no action {action!r}; there are {_listed(_ACTIONS)}")
        planned[name, int(number)] = action
    return planned


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


class FailPoints:
    """The places of one process. ``announce_fd``: where its lines go."""

    def __init__(self, planned: dict[tuple[str, int], str], announce_fd: int) -> None:
        self._planned = planned
        self._announce_fd = announce_fd
        self._passed: Counter[str] = Counter()
        self._lock = Lock()

    def passed(self, name: str) -> None:
        """A place has been reached; any thread may say so."""
        with self._lock:
            self._passed[name] += 1
            number = self._passed[name]
        action = self._planned.get((name, number))
        if action is not None:
            os.write(self._announce_fd, f"failpoint {name} {number}\n".encode())
            _ACTIONS[action]()


def _from_environment() -> Callable[[str], None]:
    try:
        planned = parse(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        raise SystemExit(f"{VARIABLE}: {error}") from None
    if not planned:
        return lambda name: None
    # Its own descriptor, since during an attempt a worker's standard error is the attempt's log.
    return FailPoints(planned, os.dup(2)).passed


#: ``fail_point(NAME)``: this place is passed now.
fail_point = _from_environment()
