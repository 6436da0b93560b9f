"""Whoever has no business with a cluster is refused or cut off, and its jobs go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytxmr.simulation import strangers
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.jobs import JobKind
from pytxmr.simulation.scenario import Scenario
from pytxmr.simulation.world import World

#: Two trackers, and nothing that fails.
QUIET = replace(
    Scenario.of(11),
    workers=(2, 1),
    jobs=(JobKind("count", 0, 4, 2),),
    submitted_at=(0.5,),
    killed_at=(None,),
    faults=(),
)
CALLS = 12


def run(scenario: Scenario, directory: Path) -> World:
    """A world that has run to its end, with nothing that should not have been."""
    for name in ("world", "inputs"):
        (directory / name).mkdir()
    world = World(scenario, str(directory / "world"), str(directory / "inputs"))
    assert world.run() == []
    return world


@pytest.mark.parametrize("kind", strangers.KINDS)
def test_a_stranger_is_refused_or_cut_off_and_jobs_go_on(kind: str, tmp_path: Path) -> None:
    faults = [Fault(kind, 1.0 + n / 4, 1 + n % 2, 0, 0.0, 12345 * n) for n in range(CALLS)]
    world = run(replace(QUIET, faults=tuple(faults)), tmp_path)
    assert [fault.kind for fault in world.begun] == [kind] * CALLS
    assert [job.status["outcome"] for job in world.submissions] == ["succeeded"]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (JobKind("raw", 1, 4, 2), "succeeded"),
        (JobKind("uncarryable", 1, 4, 2), "succeeded"),
        (JobKind("uncarryable", 1, 4, 2, short=1), "failed"),
        (JobKind("uncarryable", 1, 4, 2, strict=True), "failed"),
        (JobKind("unpaired", 1, 4, 2), "failed"),
    ],
    ids=str,
)
def test_a_job_of_strange_input_or_output_ends_as_a_serial_run_does(
    kind: JobKind, outcome: str, tmp_path: Path
) -> None:
    world = run(replace(QUIET, jobs=(kind,)), tmp_path)
    assert [job.status["outcome"] for job in world.submissions] == [outcome]
