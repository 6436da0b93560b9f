"""What a worker process may take of its machine, and how it is seen what it takes.

``--memory`` M is what a worker plans by: its sort buffer fills half of it. What the user's code and
its libraries hold comes on top and is not planned, so more than M is let pass::

    M ──── planned ──── M + max(M, 512 MiB) ──── 2 GiB more
                        the tracker, which looks    the system refuses: MemoryError
                        every second, kills         (RLIMIT_DATA, of each process)

A library for arrays takes 100 to 200 MiB as soon as it is used: hence the fixed part. Who has a
gigabyte to look up in says ``--memory 1GiB``, and has as much for that as for the plan: hence the
doubling. The system's limit is further off since it counts what a process has reserved, used or
not, such as the stacks of threads and the arenas of allocators.

Pages count that are a process's own or in shared memory, whether in memory or swapped out; pages
of files do not, as the system can drop them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from pytxmr.net.spawn import COOKIE

#: What a worker process plans by, where nothing else is said.
DEFAULT_MEMORY_BYTES = 256 << 20
#: How much more than planned is let pass, at the least.
SPARE_BYTES = 512 << 20
#: How much more than that a process may reserve. Some allocators reserve a gigabyte at a time.
RESERVED_BYTES = 2 << 30

NO_COOKIE = "-"
_COOKIE = re.compile(rf"(?:^|\0){COOKIE}=([0-9a-f]+)".encode())
_USED = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap):\s+([0-9]+) kB$", re.M)
_SHARE = re.compile(rb"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+([0-9]+) kB$", re.M)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a job's workers. ``silent_seconds``: how long an attempt may go on without a sign that it
    gets on. ``memory_bytes``: what ``--memory`` says. 0: as long, as much, as they like.
    """

    silent_seconds: int = 0
    memory_bytes: int = 0

    @property
    def most_bytes(self) -> int:
        """Of a worker with all that it started; 0: no limit."""
        return self.memory_bytes and self.memory_bytes + max(self.memory_bytes, SPARE_BYTES)

    @property
    def data_bytes(self) -> int:
        """What a process may reserve."""
        return self.most_bytes and self.most_bytes + RESERVED_BYTES

    def silence(self) -> str:
        """Why an attempt is ended that was silent for too long."""
        return f"no progress for {self.silent_seconds} s; --task-timeout sets the limit"

    def excess(self, used_bytes: int) -> str:
        """Why a worker is ended that took too much."""
        return (
            f"its worker process used {used_bytes >> 20} MiB of memory, the limit is "
            f"{self.most_bytes >> 20} MiB; --memory, here {self.memory_bytes >> 20} MiB, sets it"
        )


UNLIMITED = Limits()


class Families:
    """Which processes belong to which worker: those with its cookie in their environment.

    Each process is looked into once, since its environment stays what it was when it began. One
    that is just about to begin has none yet.
    """

    def __init__(self) -> None:
        self._cookies: dict[str, str | None] = {}

    def found(self) -> dict[str, list[str]]:
        """The processes that there are now, as ids, by cookie. Empty where there is no /proc."""
        try:
            pids = [name for name in os.listdir("/proc") if name.isdecimal()]
        except OSError:
            return {}
        known = self._cookies
        self._cookies = {}
        families: dict[str, list[str]] = defaultdict(list)
        for pid in pids:
            cookie = self._cookies[pid] = known.get(pid) or _cookie(pid)
            families[cookie or NO_COOKIE].append(pid)
        families.pop(NO_COOKIE, None)
        return families


def _cookie(pid: str) -> str | None:
    """The cookie, or `NO_COOKIE`; None if the process has no environment."""
    environment = _read(f"/proc/{pid}/environ")
    match = _COOKIE.search(environment)
    return match[1].decode() if match else NO_COOKIE if environment else None


def used_bytes(pids: Collection[str], limit_bytes: int) -> int:
    """What the processes take together. Up to the limit it may be told too high.

    Pages that processes share after a fork would count for each. To share them out costs the
    system a walk through all of them, so that is done only if it decides.
    """
    used = sum(_sum(f"/proc/{pid}/status", _USED) for pid in pids)
    if used > limit_bytes and len(pids) > 1:
        return sum(_sum(f"/proc/{pid}/smaps_rollup", _SHARE) for pid in pids) or used
    return used


def _sum(path: str, fields: re.Pattern[bytes]) -> int:
    return sum(int(kib) << 10 for kib in fields.findall(_read(path)))


def _read(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
