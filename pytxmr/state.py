"""What the jobtracker must not forget: which life this is, which numbers are used up, the jobs, and
the log of what became of each tracker and job.

SQLite in WAL mode with ``synchronous=FULL``: what a method here was given is on disk before it
returns, whole or not at all. A log is kept for as long as its tracker or job matters. Of a job that
has ended a summary takes its place, and of a tracker that is lost there is nothing to know.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pytxmr.errors import BadConfiguration, PytxmrError
from pytxmr.failpoints import fail_point
from pytxmr.plan import events as ev
from pytxmr.plan.eventlog import (
    from_record,
    pack,
    snapshot_record,
    stored_format,
    to_record,
    unpack,
)
from pytxmr.plan.jobstate import JobState

#: Jobs that are remembered; of more, the oldest that have ended are forgotten.
MOST_JOBS = 1000

Logs = dict[str, list[tuple[ev.Event | JobState, float]]]

#: The id of the tracker or job in whose log an event is, the event, and when it was handled.
History = Iterable[tuple[str, ev.Event, float]]

_TABLES = """
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reserved (owner TEXT PRIMARY KEY, path BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS log_names ON log (name);
"""


class MemoryState:
    """Numbers that only grow, while the process lives. There is no later life that would ask for
    anything else."""

    durable = False

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()

    def next_number(self, name: str) -> int:
        """The next number of that name, from 1 on."""
        self._numbers[name] += 1
        return self._numbers[name]

    def append(self, history: History) -> None:
        pass

    def compact(self, now: float, job: JobState) -> None:
        pass

    def logs(self) -> Logs:
        return {}

    def reserve(self, owner: str, path: str) -> None:
        pass

    def release(self, owner: str) -> None:
        pass

    def reserved(self) -> dict[str, str]:
        return {}

    def remember(
        self, number: int, record: dict[str, Any], over: str = "", owner: str | None = None
    ) -> None:
        pass

    def forget(self, number: int) -> None:
        pass

    def remembered(self) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        pass


class StateStore:
    """The same, kept in ``directory``, which must be usable (`BadConfiguration`).

    Whatever cannot be written raises `PytxmrError`, and has changed nothing; whatever cannot be
    read `BadConfiguration`.
    """

    durable = True

    def __init__(self, directory: str) -> None:
        import sqlite3  # an embedded cluster does without

        self._directory = directory
        self._database_error = sqlite3.Error
        path = os.path.join(directory, "jobtracker.sqlite")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            # Exclusive: a second jobtracker on the same directory is refused, not corrupted.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._check_format()
        except (OSError, sqlite3.Error) as error:
            raise BadConfiguration(
                f"cannot use the state directory {directory}: {error}; does another jobtracker?"
            ) from error

    def _check_format(self) -> None:
        """What another version of pytxmr has written can be used if no job was under way: history
        and numbers are kept, and trackers register anew."""
        (written,) = self._db.execute("PRAGMA user_version").fetchone()
        ours = stored_format()
        if written == ours:
            return
        under_way = self._db.execute(
            "SELECT printf('Job%03d', number) AS job FROM jobs WHERE job IN (SELECT name FROM log) "
            "ORDER BY number"
        ).fetchall()
        if under_way:
            self._db.close()
            jobs = ", ".join(job for (job,) in under_way)
            raise BadConfiguration(
                f"the state directory {self._directory} was written by another version of pytxmr "
                f"(format {written:08x}, and here {ours:08x}), whose jobs are under way: {jobs}; "
                "let that version go on with them, or give another --state-dir, where they are "
                "not known"
            )
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM log")
        self._db.execute(f"PRAGMA user_version = {ours}")
        self._db.execute("COMMIT")

    # ---- numbers

    def next_number(self, name: str) -> int:
        """The next number of that name, from 1 on; no life gets it again."""
        found: list[int] = []

        def count() -> None:
            row = self._db.execute(
                "INSERT INTO numbers VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (name,),
            ).fetchall()
            found.append(int(row[0][0]))

        self._write(count)
        return found[0]

    # ---- logs

    def append(self, history: History) -> None:
        """Add what was handled to the logs named; the log of a lost tracker goes."""

        def add() -> None:
            for name, event, now in history:
                if isinstance(event, ev.TrackerLost) and event.tracker == name:
                    self._db.execute("DELETE FROM log WHERE name = ?", (name,))
                else:
                    self._db.execute(
                        "INSERT INTO log (name, record) VALUES (?, ?)",
                        (name, to_record(event, now)),
                    )

        self._write(add)

    def compact(self, now: float, job: JobState) -> None:
        """Put what the job has become in the place of its log."""
        record = snapshot_record(job, now)

        def replace() -> None:
            self._db.execute("DELETE FROM log WHERE name = ?", (job.job,))
            self._db.execute("INSERT INTO log (name, record) VALUES (?, ?)", (job.job, record))

        self._write(replace)

    def logs(self) -> Logs:
        """Each log by its name: its events, and the times at which they were handled, in order. If
        it was made compact, what its job had become comes first."""
        found: Logs = {}
        with self._reading():
            for name, record in self._db.execute("SELECT name, record FROM log ORDER BY seq"):
                found.setdefault(name, []).append(from_record(record))
        return found

    # ---- outputs that are reserved, for jobs that are not there yet

    def reserve(self, owner: str, path: str) -> None:
        """Somebody is about to create an output directory; again, if it came to nothing before."""
        insert = "INSERT OR REPLACE INTO reserved VALUES (?, ?)"
        values = (owner, os.fsencode(path))
        self._write(lambda: self._db.execute(insert, values))

    def release(self, owner: str) -> None:
        """The output is not there."""
        self._write(lambda: self._db.execute("DELETE FROM reserved WHERE owner = ?", (owner,)))

    def reserved(self) -> dict[str, str]:
        """The paths that were reserved, and not released, by their owners."""
        with self._reading():
            rows = self._db.execute("SELECT owner, path FROM reserved").fetchall()
        return {owner: os.fsdecode(path) for owner, path in rows}

    # ---- jobs

    def remember(
        self, number: int, record: dict[str, Any], over: str = "", owner: str | None = None
    ) -> None:
        """Keep a record, of plain values, of the job with that number, instead of an older one;
        the log named ``over`` goes, and to the job belongs what was reserved by ``owner``."""
        data = pack(record)

        def replace() -> None:
            self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (number, data))
            self._db.execute("DELETE FROM reserved WHERE owner = ?", (owner,))
            self._db.execute("DELETE FROM log WHERE name = ?", (over,))
            if over:
                self._db.execute(
                    "DELETE FROM jobs WHERE number <= ? "
                    "AND printf('Job%03d', number) NOT IN (SELECT name FROM log)",
                    (number - MOST_JOBS,),
                )

        self._write(replace)

    def forget(self, number: int) -> None:
        """There is no job with that number."""
        self._write(lambda: self._db.execute("DELETE FROM jobs WHERE number = ?", (number,)))

    def remembered(self) -> list[dict[str, Any]]:
        """The newest record of each job, in order of their numbers."""
        with self._reading():
            rows = self._db.execute("SELECT record FROM jobs ORDER BY number").fetchall()
            return [unpack(data, use_list=True) for (data,) in rows]

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What cannot be read, of whatever kind, raises `BadConfiguration`."""
        try:
            yield
        except Exception as error:
            raise BadConfiguration(
                f"cannot read the state directory {self._directory}: {error}; it is damaged, or of "
                "another version of pytxmr; with another --state-dir its jobs are not known"
            ) from error

    def _write(self, change: Callable[[], Any]) -> None:
        """Make a change, in one transaction."""
        fail_point("log-writing")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                change()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except self._database_error as error:
            raise PytxmrError(f"the jobtracker cannot write its state: {error}") from error
        fail_point("log-written")


State = MemoryState | StateStore
