"""Workers that stop amid an attempt: a backup runs elsewhere, and nobody waits for the first."""

from __future__ import annotations

import pytest
from faulty import Faulty, Work
from processes import Site

pytestmark = pytest.mark.daemons

#: Where the first worker of a tracker stops, for good.
POINTS = ["worker-map-started", "worker-reduce-started"]


@pytest.mark.parametrize("point", POINTS)
def test_a_job_ends_while_an_attempt_of_it_is_stopped(site: Site, point: str) -> None:
    # Its end by the task timeout would be an attempt that failed.
    cluster, work = Faulty(site), Work(site, options=())
    cluster.start(one=f"{point}:1:stop", two="")
    running = work.start(maps=4, reducers=4)
    cluster.trackers["one"].saw(f"failpoint {point} 1")
    work.is_done(running)
    cluster.close()


@pytest.mark.parametrize("point", POINTS)
def test_without_speculation_it_waits_until_that_attempt_is_given_up(
    site: Site, point: str
) -> None:
    cluster = Faulty(site)
    work = Work(site, options=("--no-speculation", "--task-timeout", 3))
    cluster.start(one=f"{point}:1:stop", two="")
    running = work.start(maps=4, reducers=2)
    work.is_done(running, failed=True)
    cluster.close()
