"""With ``--skip-bad-records`` a job ends well without them, and says which they were."""

from __future__ import annotations

import json

import pytest
from processes import Cluster, Site

LINES = "a b\nbad line\nc a\n"
RAISES = """\
def mapper(key, value):
    for word in value.split():
        yield word, 1
    assert "bad" not in value

def reducer(key, values):
    yield key, sum(values)
"""
KILLS = """\
import os, signal

def mapper(key, value):
    if "bad" in value:
        os.kill(os.getpid(), signal.SIGSEGV)
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", LINES)


def output_of(site: Site) -> list[str]:
    parts = sorted((site.directory / "out").glob("part-*"))
    return sorted(line for part in parts for line in part.read_text().splitlines())


def set_aside(site: Site, name: str = "Map001.jsonl") -> list[dict[str, object]]:
    text = (site.directory / "out" / "_bad" / name).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_record_that_the_mapper_raises_on_is_set_aside_and_the_job_ends_well(site: Site) -> None:
    done = site.run(site.write("job.py", RAISES), "in.txt", "--skip-bad-records", 1)
    assert done.status == 0, done.err
    assert output_of(site) == ["a\t2", "b\t1", "c\t1"]
    (record,) = set_aside(site)
    assert record["file"] == f"{site.directory}/in.txt"
    assert (record["offset"], record["record"], record["task"]) == (4, "bad line", "Map001")
    assert f'File "{site.directory}/job.py", line 4, in mapper' in str(record["traceback"])
    assert f"1 bad records, in {site.directory}/out/_bad" in done.out
    manifest = json.loads((site.directory / "out" / "_SUCCESS").read_text())
    size = (site.directory / "out" / "_bad" / "Map001.jsonl").stat().st_size
    assert manifest["bad"] == [{"name": "_bad/Map001.jsonl", "bytes": size}]
    assert manifest["counters"]["bad records"] == 1
    assert not (site.directory / "out" / "_temporary").exists()


def test_record_that_kills_the_worker_is_found_and_set_aside(site: Site) -> None:
    done = site.run(site.write("job.py", KILLS), "in.txt", "--skip-bad-records", 1)
    assert done.status == 0, done.err
    assert output_of(site) == ["a\t2", "b\t1", "c\t1"]
    (record,) = set_aside(site)
    assert (record["offset"], record["record"]) == (4, "bad line")
    assert record["traceback"] == "the worker process was killed by signal 11 (SIGSEGV)"
    assert "2 attempts failed" in done.out


def test_without_the_option_the_error_names_the_record_that_kills_the_worker(site: Site) -> None:
    job = site.write("job.py", KILLS)
    before = site.listing()
    done = site.run(job, "in.txt")
    assert done.status == 1
    assert f"at {site.directory}/in.txt, offset 4, record 'bad line'" in done.err
    assert "Map001 failed 4 times: the worker process was killed by signal 11" in done.err
    assert site.listing() == before


def test_more_bad_records_than_may_be_skipped_fail_the_job_and_leave_nothing(site: Site) -> None:
    site.write("in.txt", LINES * 2)
    job = site.write("job.py", RAISES)
    before = site.listing()
    # A line each, and so a bad record in each of two maps.
    done = site.run(job, "in.txt", "--skip-bad-records", 1, "--split-size", len(LINES))
    assert done.status == 1
    assert "2 bad records are more than the 1 that may be skipped" in done.err
    assert ", record 'bad line'" in done.err
    assert site.listing() == before


def test_a_cluster_sets_aside_by_map(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", LINES * 2)
    job = site.write("job.py", RAISES)
    words = ("--skip-bad-records", 2, "--split-size", len(LINES), "--output", "out")
    done = site.pytxmr("run", job, "in.txt", *words)
    assert done.status == 0, done.err
    names = sorted(path.name for path in (site.directory / "out" / "_bad").iterdir())
    offsets = [record["offset"] for name in names for record in set_aside(site, name)]
    assert names == ["Map001.jsonl", "Map002.jsonl"]
    assert offsets == [4, 4 + len(LINES)]
