"""What a dead worker left behind, and how it is found.

A process group does not hold a daemon that made a session of its own; its environment does: each
process that a worker has started has the worker's cookie there (see `spawn`). On Linux, /proc shows
it, but not of a process that is just about to begin another program (execve): that has no
environment, for as long as the kernel takes to set it up. So such a process is looked at again.
"""

from __future__ import annotations

import os
import signal
import time

from pytxmr.net.spawn import COOKIE

_PROC = "/proc"
#: How long it is waited, at most, for programs to begin: usually microseconds.
_BEGIN_SECONDS = 0.2
#: Where ``stat`` has, behind the name, where in memory the environment begins: 0 if nowhere yet.
_ENVIRONMENT = 47


def kill_strays(cookie: str) -> None:
    """Kill every process that has the cookie, and what these start meanwhile."""
    needle = f"{COOKIE}={cookie}".encode()
    killed: set[str] = set()
    until = time.monotonic() + _BEGIN_SECONDS
    while True:
        found, beginning = _look(needle)
        for pid in found - killed:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass
        if (found <= killed and not beginning) or time.monotonic() > until:
            return
        killed |= found
        os.sched_yield()


def _look(needle: bytes) -> tuple[set[str], bool]:
    """The processes that have it in their environment; and whether any is about to begin."""
    found: set[str] = set()
    beginning = False
    try:
        pids = [name for name in os.listdir(_PROC) if name.isdecimal()]
    except OSError:
        pids = []
    for pid in pids:
        try:
            with open(f"{_PROC}/{pid}/environ", "rb") as file:
                environment = file.read()
            if needle in environment:
                found.add(pid)
            beginning = beginning or (not environment and _is_beginning(pid))
        except OSError:
            pass
    return found, beginning


def _is_beginning(pid: str) -> bool:
    """Has this process, whose environment is empty, none yet? Raises `OSError`."""
    os.readlink(f"{_PROC}/{pid}/exe")  # the kernel's own, and what has ended, have no program
    with open(f"{_PROC}/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[_ENVIRONMENT] == b"0"
