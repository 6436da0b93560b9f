"""What attempts have printed, by job and attempt: files that stay when the job has ended."""

from __future__ import annotations

import os
import shutil

#: Of a log, what is read for a person, and what goes with the report of an attempt that failed.
LOG_READ_BYTES = 512 * 1024
LOG_TAIL_BYTES = 32 * 1024


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

    def drop(self, job: str) -> None:
        shutil.rmtree(self._of(job), ignore_errors=True)

    def _of(self, job: str) -> str:
        return os.path.join(self._directory, job)
