"""What a simulated cluster is like, and what befalls it, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pytxmr import loggedplan
from pytxmr.simulation import faults as faults_
from pytxmr.simulation import strangers
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.jobs import JobKind


@dataclass(frozen=True)
class Scenario:
    """What a seed comes to: two that are equal run alike."""

    seed: int
    workers: tuple[int, ...]
    jobs: tuple[JobKind, ...]
    submitted_at: tuple[float, ...]
    latency: tuple[float, float]
    attempt_seconds: tuple[float, float]
    faults: tuple[Fault, ...]
    #: When the client kills each job, if it does.
    killed_at: tuple[float | None, ...]
    #: From how many events on the log of a job is made compact.
    long_log: int
    #: Where a store trickles, jobs go without backups: these would end most of them as well.
    speculate: bool = True

    @classmethod
    def of(cls, seed: int) -> Scenario:
        rng, more = Random(f"scenario {seed}"), Random(f"more {seed}")
        strange, rare = Random(f"strange {seed}"), Random(f"rare {seed}")
        trackers = rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 9, 12))
        jobs = rng.choice((1, 1, 1, 1, 2, 2, 3))
        long_log = more.choice((5, 10, 20, 50, loggedplan.LONG_LOG))
        killed_at = tuple(
            round(more.uniform(0.0, 15.0), 3) if more.random() < 0.1 else None for _ in range(jobs)
        )
        workers = tuple(rng.randint(1, 3) for _ in range(trackers))
        kinds = [JobKind.drawn(rng, more).or_strange(strange) for _ in range(jobs)]
        more_faults = faults_.rare(rare, trackers)
        return cls(
            seed,
            workers,
            tuple(kind.or_deadly(rare) for kind in kinds),
            tuple(round(rng.uniform(0.0, 3.0), 3) for _ in range(jobs)),
            rng.choice(((0.0005, 0.002), (0.001, 0.05))),
            rng.choice(((0.3, 2.0), (1.0, 5.0))),
            (
                *faults_.drawn(rng, trackers),
                *strangers.drawn(strange, trackers),
                *more_faults,
            ),
            killed_at,
            long_log,
            speculate=all(fault.kind != "trickle" for fault in more_faults),
        )
