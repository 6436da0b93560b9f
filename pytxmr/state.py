"""What the jobtracker must not forget: which life this is, which job numbers are used up, and what
became of each job.

SQLite in WAL mode with ``synchronous=FULL``: a number that was handed out is on disk before anybody
sees it, so after a crash no two jobs have one id and no two lives one epoch.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import msgpack

from pytxmr.errors import BadConfiguration, PytxmrError

#: Jobs that are remembered; of more, the oldest are forgotten.
MOST_JOBS = 1000


class MemoryState:
    """Numbers that only grow, while the process lives."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()

    def next_number(self, name: str) -> int:
        """The next number of that name, from 1 on."""
        self._numbers[name] += 1
        return self._numbers[name]

    def remember(self, number: int, record: dict[str, Any]) -> None:
        """There is no later life that would ask."""

    def remembered(self) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        pass


class StateStore:
    """Numbers that only grow, kept in ``directory``, which must be usable (`BadConfiguration`)."""

    def __init__(self, directory: str) -> None:
        import sqlite3  # an embedded cluster does without

        self._database_error = sqlite3.Error
        path = os.path.join(directory, "jobtracker.sqlite")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            # Exclusive: a second jobtracker on the same directory is refused, not corrupted.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, record BLOB NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise BadConfiguration(
                f"cannot use the state directory {directory}: {error}; does another jobtracker?"
            ) from error

    def next_number(self, name: str) -> int:
        """The next number of that name, from 1 on; durable before this returns."""
        row = self._db.execute(
            "INSERT INTO numbers VALUES (?, 1) "
            "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            (name,),
        ).fetchall()
        return int(row[0][0])

    def remember(self, number: int, record: dict[str, Any]) -> None:
        """Keep a record, of plain values, of the job with that number, instead of an older one;
        durable before this returns. Raises `PytxmrError`.
        """
        data = msgpack.packb(record, unicode_errors="surrogatepass")
        try:
            with self._db:  # both or none
                self._db.execute("BEGIN")
                self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (number, data))
                self._db.execute("DELETE FROM jobs WHERE number <= ?", (number - MOST_JOBS,))
        except self._database_error as error:
            raise PytxmrError(f"the jobtracker cannot write its state: {error}") from error

    def remembered(self) -> list[dict[str, Any]]:
        """The newest record of each job, in order of their numbers."""
        rows = self._db.execute("SELECT record FROM jobs ORDER BY number").fetchall()
        return [msgpack.unpackb(data, unicode_errors="surrogatepass") for (data,) in rows]

    def close(self) -> None:
        self._db.close()
