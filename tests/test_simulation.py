"""The simulation keeps every promise, runs each seed the same again, and can be cut down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

import pytxmr
from pytxmr.errors import PytxmrError
from pytxmr.model import JobCode
from pytxmr.simulation.runs import Runs, scratch
from pytxmr.simulation.shrink import fewest
from pytxmr.tasktracker import TaskTracker, TrackerConfig

SEEDS = 300
CHUNK = 20


@pytest.fixture
def runs() -> Iterator[Runs]:
    with scratch() as made:
        yield made


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_jobs_end_as_a_serial_run_does_whatever_goes_wrong(runs: Runs, first: int) -> None:
    failed = {
        seed: result.violations
        for seed in range(first, first + CHUNK)
        if (result := runs.run(seed)).violations
    }
    assert failed == {}, f"python -m pytxmr.simulation --seed {min(failed)} shows more"


def test_a_job_that_cannot_be_prepared_leaves_nothing_at_its_tracker(tmp_path: Path) -> None:
    endpoint: Any = None
    config = TrackerConfig("one", str(tmp_path), 1, "tcp:0", b"secret")
    tracker = TaskTracker(Clock(), config, endpoint)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "Job001").write_text("where a directory should be")
    code = JobCode("job.py", b"").to_plain()
    with pytest.raises(PytxmrError, match="cannot prepare Job001"):
        tracker.init_job("Job001", {"code": code, "key": b"key", "files": []})
    assert list((tmp_path / "jobs").iterdir()) == []


def simulation(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command on the pytxmr that this process has imported."""
    imported_from = Path(pytxmr.__file__).resolve().parent.parent
    more = {"PYTHONPATH": os.fspath(imported_from), "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [sys.executable, "-m", "pytxmr.simulation", *arguments],
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("seed", [1, 11, 12, 470])
def test_a_seed_runs_the_same_in_another_process_with_other_hashes(seed: int) -> None:
    first, second = (simulation("--seed", str(seed), "--trace", hash_seed=n) for n in (1, 4))
    assert first.returncode == 0
    assert "FAULT 0 begins" in first.stdout
    assert first.stdout == second.stdout


def test_a_seed_runs_the_same_whatever_ran_before_it(runs: Runs) -> None:
    first: list[str] = []
    again: list[str] = []
    runs.run(470, trace=first.append)
    for seed in range(8):
        runs.run(seed)
    runs.run(470, trace=again.append)
    assert first == again


def test_the_command_runs_many_seeds_and_says_what_became_of_them() -> None:
    done = simulation("--seeds", "0:26", "--jobs", "2")
    assert done.returncode == 0, done.stdout
    assert "26 seeds, 0 failed" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [(), ("--seeds", "5"), ("--seeds", "0:9", "--trace"), ("--seed", "1", "--faults", "99")],
)
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...]) -> None:
    assert simulation(*arguments).returncode == 2


def test_without_its_faults_a_seed_is_undisturbed(runs: Runs) -> None:
    result = runs.run(11, only=[])
    assert not result.violations
    assert not result.faults


@pytest.mark.parametrize("cause", [[], [3], [0, 7], [1, 4, 5], list(range(8))])
def test_of_a_schedule_the_fewest_faults_that_fail_are_found(cause: list[int]) -> None:
    asked: list[list[int]] = []

    def fails(some: list[int]) -> bool:
        asked.append(some)
        return set(cause) <= set(some)

    assert fewest(range(8), fails) == cause
    assert len(asked) < 64
