"""Outputs by name, as a user has them: on the embedded cluster, on daemons, and in one process."""

from __future__ import annotations

import json
import re

import pytest
from processes import Cluster, Site

LINES = "".join(f"{n % 7} {n if n % 5 else 'x'}\n" for n in range(500))
JOB = """\
import pytxmr
from pytxmr import writers

class Calls(pytxmr.MapReduce):
    outputs = {"errors": writers.json, "late": None}

    def map(self, key, line):
        ship, number = line.split()
        yield int(ship), number

    def reduce(self, ship, numbers):
        for number in numbers:
            if number == "x":
                yield pytxmr.to("errors", ship, number)
            elif int(number) > 400:
                yield pytxmr.to("late", ship, int(number))
            else:
                yield ship, int(number)
"""


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", LINES)
    site.write("job.py", JOB)


def check(site: Site, output: str) -> None:
    """All lines are there once, each where it belongs."""
    directory = site.directory / output
    assert {path.name for path in directory.iterdir()} == {
        "_SUCCESS",
        "errors",
        "late",
        *(f"part-{number:05}" for number in range(3)),
    }
    manifest = json.loads((directory / "_SUCCESS").read_text())
    found = {
        name: "".join((directory / part["name"]).read_text() for part in parts)
        for name, parts in ({"": manifest["parts"]} | manifest["outputs"]).items()
    }
    errors = [json.loads(line) for line in found["errors"].splitlines()]
    assert sorted(errors) == sorted([n % 7, "x"] for n in range(0, 500, 5))
    late, rest = (
        sorted(int(line.split("\t")[1]) for line in found[name].splitlines())
        for name in ("late", "")
    )
    assert late == [n for n in range(401, 500) if n % 5]
    assert rest == [n for n in range(401) if n % 5]
    assert manifest["counters"]["output records of errors"] == len(errors) == 100


def test_on_the_embedded_cluster_and_in_one_process(site: Site) -> None:
    done = site.run(site.directory / "job.py:Calls", "in.txt", "--reducers", 3)
    assert done.status == 0, done.err
    check(site, "out")
    assert re.search(r"^  to errors +100 records +\d+ bytes$", done.out, re.M)
    inline = site.pytxmr(
        "run", "job.py:Calls", "in.txt", "--reducers", 3, "--output", "one", "--runner", "inline"
    )
    assert inline.status == 0, inline.err
    check(site, "one")


def test_on_daemons_what_a_failed_attempt_has_written_does_not_count(
    site: Site, cluster: Cluster
) -> None:
    fail_once = f"""
    def reduce_final(self):
        try:
            open({str(site.directory / "failed")!r}, "x").close()
        except FileExistsError:
            return
        raise LookupError("this once")
"""
    site.write("job.py", JOB + fail_once)
    site.env |= cluster.client_env
    done = site.pytxmr("run", "job.py:Calls", "in.txt", "--reducers", 3, "--output", "out")
    assert done.status == 0, done.err
    assert "1 attempts failed" in done.out
    check(site, "out")


def test_a_job_that_fails_leaves_no_output(site: Site) -> None:
    site.write("job.py", JOB.replace("int(number) > 400", "number > 400"))
    before = site.listing()
    done = site.run(site.directory / "job.py:Calls", "in.txt", "--reducers", 3)
    assert done.status == 1
    assert "TypeError" in done.err
    assert site.listing() == before
