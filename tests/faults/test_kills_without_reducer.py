"""Jobs without a reducer, as daemons are killed: each part is what a serial run gives, once."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from faulty import Faulty, Work, killed_at_each_passing
from processes import Process, Site

pytestmark = pytest.mark.daemons

JOB = """\
def mapper(key, value):
    word, _, text = value.partition(" ")
    if word.endswith("7"):
        yield word, text
"""


class Filter(Work):
    """A job that keeps some lines, in their order."""

    def __init__(self, site: Site, lines: int = 4000) -> None:
        super().__init__(site, lines=lines, source=JOB)

    def start(self, maps: int, reducers: int = 0, output: str = "out") -> Process:
        return super().start(maps, reducers, output)

    def is_done(self, running: Process, failed: bool = False, output: str = "out") -> None:
        assert running.ended() == 0, running.err
        assert "attempts failed" not in running.out
        kept = [f"{k}\t{v}\n".encode() for k, v in self._pairs if k.endswith("7")]
        assert b"".join(self.site.parts(output)) == b"".join(kept)
        manifest = json.loads((self.site.directory / output / "_SUCCESS").read_text())
        counters = manifest["counters"]
        assert counters["map input records"] == len(self._pairs)
        assert counters["map output records"] == len(kept)


@pytest.mark.parametrize("point", ["map-started", "map-spilled"], ids=["amid", "unreported"])
def test_maps_of_a_tracker_that_is_killed_run_elsewhere(site: Site, point: str) -> None:
    cluster, work = Faulty(site), Filter(site)
    cluster.start(one=f"{point}:2:kill", two="")
    running = work.start(maps=8)
    cluster.was_killed("one")
    work.is_done(running)
    assert len(site.parts()) == 8
    cluster.close()


def test_maps_that_were_done_on_a_tracker_that_is_killed_do_not_run_again(site: Site) -> None:
    cluster, work = Faulty(site), Filter(site)
    cluster.start(one="map-started:4:kill")
    running = work.start(maps=8)
    cluster.was_killed("one")
    cluster.start_tracker("two")
    work.is_done(running)
    done = site.pytxmr("logs", "Job001").out
    assert done.count("===") <= 8 - 3 + 1
    cluster.close()


def test_a_job_goes_on_wherever_its_jobtracker_is_killed(site: Site) -> None:
    points = ("log-written", "commit-renamed", "commit-before-success", "commit-after-success")
    kills, _ = killed_at_each_passing(Filter(site, lines=200), dict.fromkeys(points, 1))
    least = {"log-written": 6, "commit-renamed": 2}
    assert kills >= Counter(dict.fromkeys(points, 1) | least)
