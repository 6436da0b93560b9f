"""Running seeds: in a scratch directory, one after the other, and only some of their faults."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pytxmr.simulation.scenario import Scenario
from pytxmr.simulation.world import World

#: Memory, where there is such a directory: files are made by the hundred, and synced.
_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Result:
    """What became of a seed. ``violations`` is empty if every promise was kept; ``faults`` counts
    those that were begun, by kind, and ``outcomes`` the jobs, by what became of them."""

    seed: int
    violations: list[str]
    virtual_seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


class Runs:
    """Runs seeds in ``directory``; make one by `scratch`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._inputs = os.path.join(directory, "inputs")
        os.mkdir(self._inputs)
        # What is here now stays; to look at it after every run would take as long as the run.
        gc.collect()
        gc.freeze()

    def run(
        self,
        seed: int,
        only: Collection[int] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> Result:
        """Run the seed, with those of its faults only whose numbers are given, or with all."""
        scenario = Scenario.of(seed)
        if only is not None:
            kept = tuple(scenario.faults[number] for number in sorted(only))
            scenario = replace(scenario, faults=kept)
        directory = os.path.join(self._directory, "world")
        os.mkdir(directory)
        opened = _descriptors()
        try:
            world = World(scenario, directory, self._inputs, trace)
            violations = world.run()
            result = Result(
                seed,
                list(violations),
                world.clock.now,
                Counter(fault.kind for fault in world.begun),
                Counter(str(job.status.get("outcome")) for job in world.submissions),
            )
            del world
            gc.collect()
            left = _descriptors() - opened
            if left and not violations:
                result.violations.append(f"files are open still: {sorted(left)}")
            return result
        finally:
            shutil.rmtree(directory)


def _descriptors() -> set[str]:
    """The files that are open; the reactor's own descriptors are none."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("/") and not target.startswith("/proc/"):
            found.add(f"{name} {target}")
    return found


@contextmanager
def scratch() -> Iterator[Runs]:
    """A place for runs, which is removed at the end. Its path always has the same length, as it is
    part of messages, which may be cut at any byte."""
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pytxmr-simulation-", dir=parent) as directory:
        yield Runs(directory)
        gc.unfreeze()
