"""What the rows are measured with: inputs, environments, and pytxmr's own command lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import Environments
from benchmarks.inputs import Inputs
from benchmarks.measure import Command, Runner

HERE = Path(__file__).resolve().parent
JOBS = HERE / "jobs"
PEERS = HERE / "peers"
EXAMPLES = HERE.parent / "examples"
PROBES = HERE / "probes"

#: Every row runs on two processes or threads, on either side.
WORKERS = 2


@dataclass(frozen=True)
class Bench:
    """``scale`` makes inputs smaller than the rows say, to try things out. ``ours`` names the
    environment that pytxmr is run from."""

    inputs: Inputs
    environments: Environments
    runner: Runner
    scale: float = 1.0
    ours: str = "pytxmr"

    @property
    def python(self) -> Path:
        """The interpreter that has pytxmr."""
        return self.environments.python(self.ours)

    @property
    def twistd(self) -> Path:
        return self.python.with_name("twistd")

    def pytxmr(self, job: str, *words: str | Path, output: str = "ours") -> Command:
        """``pytxmr run``, embedded, of a job of the benchmark's or of an example.

        ``words`` are its input and options.
        """
        path = self.runner.path(output)
        run = self.run_words(job, *words, "--workers", str(WORKERS), "--output", path)
        return Command(run, path)

    def run_words(self, job: str, *words: str | Path) -> list[str | Path]:
        own = JOBS / f"{job}.py"
        path = own if own.exists() else EXAMPLES / own.name
        return [self.python.with_name("pytxmr"), "run", path, *words]

    def loop(self, work: str, source: Path) -> Command:
        """A loop written by hand, on the same Python."""
        path = self.runner.path("reference")
        return Command([self.python, PEERS / "loops.py", work, source, path], path)

    def probe(self, name: str, *words: str | Path) -> Command:
        """A program of the benchmark's that uses pytxmr as a library."""
        return Command([self.python, PROBES / f"{name}.py", *words])
