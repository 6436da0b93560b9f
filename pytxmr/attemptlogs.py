"""What attempts have printed, by job and attempt: files that stay when the job has ended."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

#: Of a log, what is read for a person, and what goes with the report of an attempt that failed.
LOG_READ_BYTES = 512 * 1024
LOG_TAIL_BYTES = 32 * 1024
#: Of what follows in the logs of a job, what is read of one at a time, and of all together.
_MOST_FOLLOWING_BYTES = 64 * 1024
_MOST_FOLLOWING_TOGETHER = 1 << 20


class AttemptLogs:
    """The logs of a tasktracker, in ``directory``."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def begin(self, job: str) -> None:
        """Make room for the logs of a job; those of an earlier one of that id go."""
        self.drop(job)
        os.makedirs(self._of(job))

    def path(self, job: str, attempt: str) -> str:
        return os.path.join(self._of(job), f"{attempt}.log")

    def attempts(self, job: str) -> list[str]:
        """The attempts of which there is a log here."""
        try:
            return sorted(name.removesuffix(".log") for name in os.listdir(self._of(job)))
        except FileNotFoundError:
            return []

    def read(self, job: str, attempt: str, most: int = LOG_READ_BYTES) -> str:
        """The end of an attempt's log, ``most`` bytes at the most; empty if there is none."""
        try:
            with open(self.path(job, attempt), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most))
                return file.read().decode("utf-8", "backslashreplace")
        except FileNotFoundError:
            return ""

    def following(
        self, job: str, task: str | None, seen: dict[str, int], is_over: bool
    ) -> list[tuple[str, str, int]]:
        """What attempts, of one task or of all, have printed since: attempt, text, and how far its
        log was read, which is what is ``seen`` the next time. Whole lines, unless one is very long
        or the job ``is_over``. It may not be all: to be asked for until there is no more.
        """
        found: list[tuple[str, str, int]] = []
        left = _MOST_FOLLOWING_TOGETHER
        for attempt in self.attempts(job):
            if left <= 0:
                break
            if task is not None and attempt.rpartition(".")[0] != task:
                continue
            start = seen.get(attempt, 0)
            with suppress(FileNotFoundError), open(self.path(job, attempt), "rb") as file:
                file.seek(start)
                data = file.read(_MOST_FOLLOWING_BYTES)
                is_all = len(data) < _MOST_FOLLOWING_BYTES
                end = data.rfind(b"\n") + 1
                if is_over and is_all or not end and not is_all:
                    end = len(data)
                data = data[:end]
                if data:
                    text = data.decode("utf-8", "backslashreplace")
                    found.append((attempt, text, start + len(data)))
                    left -= len(data)
        return found

    def drop(self, job: str) -> None:
        shutil.rmtree(self._of(job), ignore_errors=True)

    def _of(self, job: str) -> str:
        return os.path.join(self._directory, job)
