"""The jobtracker's memory: no number is given twice, and it has one owner."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import pytxmr
from pytxmr.errors import BadConfiguration
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
    store.remember(1, {"job": "Job001"})
    store.remember(2, {"job": "Job002", "name": "caf\udce9.py"})
    store.remember(1, {"job": "Job001", "outcome": "failed"})
    store.close()
    store = StateStore(str(tmp_path))
    one, two = {"job": "Job001", "outcome": "failed"}, {"job": "Job002", "name": "caf\udce9.py"}
    assert store.remembered() == [one, two]
    store.remember(1 + MOST_JOBS, {"job": "Job1001"})
    assert store.remembered() == [two, {"job": "Job1001"}]
    store.close()
