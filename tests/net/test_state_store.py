"""The jobtracker's memory: no number is given twice, and it has one owner."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytxmr
from pytxmr.errors import BadConfiguration, PytxmrError
from pytxmr.plan import events as ev
from pytxmr.plan.eventlog import pack, stored_format
from pytxmr.plan.jobstate import JobState
from pytxmr.state import MOST_JOBS, MemoryState, StateStore


def numbers(directory: str | None, *names: str) -> list[int]:
    store = MemoryState() if directory is None else StateStore(directory)
    try:
        return [store.next_number(name) for name in names]
    finally:
        store.close()


def test_numbers_begin_at_one_and_each_name_has_its_own(tmp_path):
    assert numbers(str(tmp_path), "epoch", "job", "job", "epoch", "job") == [1, 1, 2, 2, 3]


def test_numbers_go_on_after_a_restart(tmp_path):
    directory = str(tmp_path / "new" / "directory")
    assert numbers(directory, "epoch", "job", "job") == [1, 1, 2]
    assert numbers(directory, "epoch", "job") == [2, 3]
    assert numbers(directory, "epoch") == [3]
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700


def test_a_number_that_was_seen_outlives_a_kill(tmp_path):
    program = (
        "import os, sys; from pytxmr.state import StateStore\n"
        "print(StateStore(sys.argv[1]).next_number('job'), flush=True); os.kill(os.getpid(), 9)\n"
    )
    where = str(Path(pytxmr.__file__).parent.parent)
    for number in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": where},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (-9, f"{number}\n"), done.stderr


def test_what_is_written_is_synced_before_it_counts(tmp_path):
    store = StateStore(str(tmp_path))
    asked = [
        store._db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
    ]
    store.close()
    assert asked == [("wal",), (2,)], "2 is FULL"


def test_in_memory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert numbers(None, "epoch", "job", "job") == [1, 1, 2]
    assert numbers(None, "job") == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_second_owner_is_refused_until_the_first_has_gone(tmp_path):
    first = StateStore(str(tmp_path))
    with pytest.raises(BadConfiguration, match="does another jobtracker"):
        StateStore(str(tmp_path))
    assert first.next_number("job") == 1, "the first is not disturbed"
    first.close()
    assert numbers(str(tmp_path), "job") == [2]


def test_a_directory_that_cannot_be_used_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadConfiguration, match="cannot use the state directory"):
            StateStore(str(path))


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "jobtracker.sqlite"
    path.write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(BadConfiguration, match="not a database"):
        StateStore(str(tmp_path))
    assert path.read_bytes().startswith(b"something else")


def test_the_newest_record_of_each_job_is_remembered_and_the_oldest_jobs_are_forgotten(tmp_path):
    store = StateStore(str(tmp_path))
    store.append([("Job001", ev.JobStarted("Job001", 1), 1.0), ("Job003", JOINED, 1.0)])
    for number in (1, 2, 3):
        store.remember(number, {"number": number, "name": "caf\udce9.py", "big": 2**70})
    store.remember(1, {"number": 1, "outcome": "failed"}, over="Job001")
    store.close()
    store = StateStore(str(tmp_path))
    whole = {"name": "caf\udce9.py", "big": 2**70}
    assert store.remembered() == [
        {"number": 1, "outcome": "failed"},
        {"number": 2} | whole,
        {"number": 3} | whole,
    ]
    assert list(store.logs()) == ["Job003"], "of what is over there is no log"
    store.remember(3 + MOST_JOBS, {"number": 3 + MOST_JOBS}, over="Job1003")
    left = [record["number"] for record in store.remembered()]
    assert left == [3, 3 + MOST_JOBS], "what has a log has not ended, however old it is"
    store.forget(3)
    assert [record["number"] for record in store.remembered()] == [3 + MOST_JOBS]
    store.close()


# ---- the log


JOINED = ev.TrackerJoined("one.1", "one", 2, ("127.0.0.1", 8993))


def test_each_log_has_its_events_in_order_until_its_tracker_is_lost(tmp_path):
    store = StateStore(str(tmp_path))
    lost = ev.TrackerLost("one.1", "its lease expired")
    store.append([("one.1", JOINED, 1.0), ("Job001", JOINED, 1.0)])
    store.append([("Job001", ev.JobStarted("Job001", 2), 2.5)])
    assert store.logs() == {
        "one.1": [(JOINED, 1.0)],
        "Job001": [(JOINED, 1.0), (ev.JobStarted("Job001", 2), 2.5)],
    }
    store.append([("one.1", lost, 3.0), ("Job001", lost, 3.0)])
    store.close()
    store = StateStore(str(tmp_path))
    assert list(store.logs()) == ["Job001"]
    assert store.logs()["Job001"][-1] == (lost, 3.0)
    store.close()


def test_what_is_appended_together_is_there_whole_or_not_at_all(tmp_path):
    store = StateStore(str(tmp_path))
    store.append([("Job001", JOINED, 1.0)])
    with pytest.raises(TypeError):
        store.append([("Job001", JOINED, 2.0), ("Job001", ev.KillJob("Job001", object()), 2.0)])
    store._db.execute("PRAGMA query_only=ON")
    with pytest.raises(PytxmrError, match="cannot write its state"):
        store.append([("Job001", JOINED, 2.0)])
    store._db.execute("PRAGMA query_only=OFF")
    assert store.logs() == {"Job001": [(JOINED, 1.0)]}
    store.append([("Job001", JOINED, 3.0)])
    assert len(store.logs()["Job001"]) == 2
    store.close()


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory on no disk, where there is a place for that: to sync costs nothing there."""
    place = "/dev/shm"
    usable = os.access(place, os.W_OK | os.X_OK)
    with tempfile.TemporaryDirectory(dir=place if usable else None) as directory:
        yield Path(directory)


def test_a_log_whose_tail_is_cut_at_any_byte_opens_at_its_last_whole_record(in_memory):
    whole, cut = in_memory / "whole", in_memory / "cut"
    for directory in (whole, cut):
        directory.mkdir()
    # Small pages make a short journal, of which each length can be tried.
    small = sqlite3.connect(whole / "jobtracker.sqlite")
    small.execute("PRAGMA page_size=512")
    small.execute("VACUUM")
    small.close()
    store = StateStore(str(whole))
    journal = whole / "jobtracker.sqlite-wal"
    ends = []
    for number in range(3):
        store.append([("Job001", ev.JobStarted("Job001", number), float(number))] * 2)
        ends.append(journal.stat().st_size)
    # As a crash leaves it: not closed, which would empty the journal.
    data, database = journal.read_bytes(), (whole / "jobtracker.sqlite").read_bytes()
    store.close()
    for size in range(ends[1], len(data) + 1):
        (cut / "jobtracker.sqlite").write_bytes(database)
        (cut / "jobtracker.sqlite-wal").write_bytes(data[:size])
        opened = StateStore(str(cut))
        found = [event.workers for event, _ in opened.logs()["Job001"]]
        opened.close()
        written = sum(end <= size for end in ends)
        assert found == [number for number in range(written) for _ in range(2)], size


def test_a_damaged_tail_is_not_read(tmp_path):
    store = StateStore(str(tmp_path))
    for number in range(3):
        store.append([("Job001", ev.JobStarted("Job001", number), float(number))])
    journal = tmp_path / "jobtracker.sqlite-wal"
    data = bytearray(journal.read_bytes())
    database = (tmp_path / "jobtracker.sqlite").read_bytes()
    store.close()
    data[-100] ^= 1
    journal.write_bytes(data)
    (tmp_path / "jobtracker.sqlite").write_bytes(database)
    store = StateStore(str(tmp_path))
    assert [event.workers for event, _ in store.logs()["Job001"]] == [0, 1]
    store.close()


def test_what_a_job_has_become_takes_the_place_of_its_log(tmp_path):
    store = StateStore(str(tmp_path))
    job = JobState(ev.JobSubmitted("Job001", 3, 1), 1.0)
    store.append([("Job001", ev.JobSubmitted("Job001", 3, 1), 1.0), ("Job002", JOINED, 1.0)])
    store.compact(2.0, job)
    store.append([("Job001", ev.JobStarted("Job001", 2), 3.0)])
    logs = store.logs()
    (become, at), (event, then) = logs["Job001"]
    assert (len(become.maps), at, event.workers, then) == (3, 2.0, 2, 3.0)
    assert logs["Job002"] == [(JOINED, 1.0)]
    store.close()


# ---- what another version has written


def another(tmp_path, *names):
    """A state directory of another format, with logs of these, and jobs."""
    store = StateStore(str(tmp_path))
    store.next_number("job")
    for number, name in enumerate(names):
        store.append([(name, JOINED, 1.0)])
        if name.startswith("Job"):
            store.remember(number, {"number": number})
    store.remember(9, {"number": 9})
    store._db.execute("PRAGMA user_version = 1")
    store.close()


def test_where_another_version_has_jobs_under_way_they_are_named_and_nothing_is_changed(tmp_path):
    another(tmp_path, "one.1", "Job001", "Job002")
    for _ in range(2):
        with pytest.raises(BadConfiguration) as caught:
            StateStore(str(tmp_path))
        assert caught.value.message == (
            f"the state directory {tmp_path} was written by another version of pytxmr (format "
            f"00000001, and here {stored_format():08x}), whose jobs are under way: Job001, Job002; "
            "let that version go on with them, or give another --state-dir, where they are not "
            "known"
        )


def test_where_it_has_none_history_and_numbers_are_kept(tmp_path):
    another(tmp_path, "one.1")
    store = StateStore(str(tmp_path))
    assert store.logs() == {}, "its trackers register anew"
    assert store.next_number("job") == 2
    assert store.remembered() == [{"number": 9}]
    store.append([("Job002", JOINED, 1.0)])
    store.close()
    assert list(StateStore(str(tmp_path)).logs()) == ["Job002"]


# ---- what cannot be read


def test_what_cannot_be_read_is_explained(tmp_path):
    store = StateStore(str(tmp_path))
    store._db.execute("INSERT INTO log (name, record) VALUES ('Job001', x'c1')")
    store._db.execute("INSERT INTO jobs VALUES (1, x'c1')")
    for read in (store.logs, store.remembered):
        with pytest.raises(BadConfiguration, match="damaged, or of another version"):
            read()
    store._db.execute("DROP TABLE reserved")
    with pytest.raises(BadConfiguration, match="no such table: reserved"):
        store.reserved()
    store.close()


def test_an_event_of_another_version_is_explained(tmp_path):
    store = StateStore(str(tmp_path))
    record = pack([1.0, "TrackerDanced", "one.1"])
    store._db.execute("INSERT INTO log (name, record) VALUES ('Job001', ?)", (record,))
    with pytest.raises(BadConfiguration, match="'TrackerDanced' is no event"):
        store.logs()
    store.close()


def test_a_page_that_was_overwritten_is_explained(tmp_path):
    store = StateStore(str(tmp_path))
    store.append([("Job001", ev.JobStarted("Job001", n), 1.0) for n in range(2000)])
    store.close()
    path = tmp_path / "jobtracker.sqlite"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(BadConfiguration, match="malformed"):
        StateStore(str(tmp_path)).logs()
