"""Daemons that are killed at places that matter: jobs give what a serial run gives, once."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from faulty import Faulty, Work, killed_at_each_passing
from processes import Site

pytestmark = pytest.mark.daemons


@pytest.mark.parametrize("point", ["map-started", "map-spilled"])
def test_maps_of_a_tracker_that_is_killed_amid_them_run_elsewhere(site: Site, point: str) -> None:
    cluster, work = Faulty(site), Work(site)
    cluster.start(one=f"{point}:1:kill", two="")
    running = work.start(maps=8)
    cluster.was_killed("one")
    cluster.lost("one")
    work.is_done(running)
    cluster.close()


def test_maps_that_were_done_on_a_tracker_that_is_killed_run_again(site: Site) -> None:
    cluster, work = Faulty(site), Work(site)
    cluster.start(one="map-started:4:kill")
    running = work.start(maps=8)
    cluster.was_killed("one")
    cluster.start_tracker("two")
    work.is_done(running)
    cluster.close()


def test_reducers_that_pull_from_a_tracker_that_is_killed_are_not_blamed(site: Site) -> None:
    cluster = Faulty(site)
    # A map puts out 1 MB for each of two reducers, which is eight pieces.
    work = Work(site, lines=8000, width=1000)
    cluster.start(one="fetch-sending:4:kill", two="")
    running = work.start(maps=4)
    cluster.was_killed("one")
    work.is_done(running)
    cluster.close()


NOTED = """\
def mapper(key, value):
    word, _, text = value.partition(" ")
    yield word, text

def reducer(key, values):
    with open({noted!r}, "a") as file:
        file.write(f"{{key}}\\n")
    yield key, " ".join(sorted(values))
"""


@pytest.mark.parametrize(
    ("point", "times"), [("reduce-started", 1), ("reduce-written", 2)], ids=["amid", "unreported"]
)
def test_of_a_tracker_that_is_killed_only_its_reduce_runs_again(
    site: Site, point: str, times: int
) -> None:
    noted = site.directory / "noted"
    cluster, work = Faulty(site), Work(site, source=NOTED.format(noted=str(noted)))
    cluster.start(one=f"{point}:1:kill", two="")
    running = work.start(maps=4)
    cluster.was_killed("one")
    work.is_done(running)
    begun = Counter(noted.read_text().splitlines())
    again = {key for key, count in begun.items() if count == times}
    parts = [{line.split(b"\t")[0].decode() for line in part.splitlines()} for part in site.parts()]
    assert begun.keys() == parts[0] | parts[1]
    assert set(begun.values()) <= {1, times}
    assert again in parts or times == 1
    cluster.close()


def test_a_job_goes_on_wherever_its_jobtracker_is_killed(site: Site) -> None:
    # What is in the log before something is written is what was there after the last time: so every
    # second passing, before and after, is every state of the log.
    points = {"log-writing": 2, "log-written": 2, "commit-renamed": 1}
    points |= {"commit-before-success": 1, "commit-after-success": 1}
    kills, before = killed_at_each_passing(Work(site, lines=200), points)
    assert kills >= Counter(dict.fromkeys(points, 1) | {"commit-renamed": 2})
    assert kills >= Counter({"log-writing": 6, "log-written": 6})
    assert before <= 4


def test_a_tracker_that_comes_back_with_an_empty_disk_owns_nothing(site: Site) -> None:
    cluster, work = Faulty(site), Work(site)
    cluster.start(one="reduce-started:1:kill")
    running = work.start(maps=4)
    cluster.was_killed("one")
    shutil.rmtree(cluster.work_dir("one"))
    cluster.start_tracker("one")
    cluster.came_back("one")
    work.is_done(running)
    cluster.close()
