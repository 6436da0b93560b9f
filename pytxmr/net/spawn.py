"""How a worker process comes to be: without Twisted, so that it can be before Twisted is imported.

By `posix_spawn`, since a fork would copy the page tables of a process that has imported Twisted.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from contextlib import suppress

#: Set in a worker's environment, so that whatever it started can be found again (Linux: /proc).
COOKIE = "PYTXMR_WORKER"

#: What a worker runs. It finds pytxmr where we did: `python -m pytxmr` in a checkout looks in the
#: working directory, which a worker does not. What it imports is never garbage.
_BOOT = f"""\
import gc, sys
gc.disable()
where = {os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))!r}
if where not in sys.path:
    sys.path.insert(0, where)
from pytxmr.worker import main
main()
"""
#: The ends of pipes are moved from here on, out of the way of the descriptors that a worker knows.
_OUT_OF_THE_WAY = 10


class Spawned:
    """A worker process, and our ends of its pipes. It leads a process group of its own."""

    def __init__(self, pid: int, control_fd: int, answer_fd: int, cookie: str) -> None:
        self.pid = pid
        self.control_fd = control_fd
        self.answer_fd = answer_fd
        self.cookie = cookie

    def keep_off(self, cores: set[int]) -> None:
        """Have it run on other cores than these, if there are others."""
        self._run_on(os.sched_getaffinity(0) - cores or cores)

    def use_all_cores(self) -> None:
        """Have it run on whatever cores this process may use."""
        self._run_on(os.sched_getaffinity(0))

    def _run_on(self, cores: set[int]) -> None:
        with suppress(OSError):  # it has ended, which is found out by whoever takes it over
            os.sched_setaffinity(self.pid, cores)

    def end(self) -> None:
        """Kill it and wait for its end: for a process that nobody has taken over."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.control_fd)
        os.close(self.answer_fd)


def spawn_worker() -> Spawned:
    """Start a worker process, which gets ready while other things are done. Raises `OSError`."""
    cookie = os.urandom(16).hex()
    theirs: list[int] = []
    ours: list[int] = []
    try:
        for our_end in (1, 0):
            pipe = os.pipe()
            ours.append(pipe[our_end])
            theirs.append(fcntl.fcntl(pipe[1 - our_end], fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY))
            os.close(pipe[1 - our_end])
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _BOOT],
            os.environ | {COOKIE: cookie},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, 2, 1),
                (os.POSIX_SPAWN_DUP2, theirs[0], 3),
                (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            ],
            setsid=True,
            # What is ignored would stay so, in whatever the job starts as well: see nohup(1).
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return Spawned(pid, ours[0], ours[1], cookie)
