"""Ready-made readers and writers, as a user names them, in real processes."""

from __future__ import annotations

import pytest
from processes import Cluster, Site

COUNT = """\
def mapper(key, value):
    yield str(value), 1

def reducer(key, values):
    yield key, sum(values)
"""


def test_damaged_line_fails_the_job_at_once_and_is_named(site: Site) -> None:
    data = site.write("in.jsonl", '{"a": 1}\n{"a": \n')
    done = site.run(site.write("job.py", COUNT), "in.jsonl", "--reader", "json")
    assert done.status == 1
    assert f"at {data}, offset 9, record '{{\"a\": '" in done.err
    assert "Map001 failed once: readers.json cannot read a record: Expecting value" in done.err
    assert "Traceback" not in done.err


def test_misspelt_reader_and_one_that_lacks_its_option_are_refused(site: Site) -> None:
    job = site.write("job.py", COUNT)
    site.write("in.txt", "a\n")
    for reader, said in (
        ("jsn", "has no jsn(); did you mean json?\n"),
        ("csv(delimeter=';')", "there is no option delimeter; did you mean delimiter?\n"),
        ("fixed", "readers.fixed needs to know the bytes of a record: readers.fixed(64)\n"),
    ):
        done = site.run(job, "in.txt", "--reader", reader)
        assert done.status == 2
        assert done.err.endswith(said)
        assert not (site.directory / "out").exists()


def test_file_that_can_only_be_read_whole_is_one_map_task(site: Site) -> None:
    site.write("one.csv", '"a\nb"\nc\n' * 50)
    site.write("two.csv", "c\n" * 50)
    words = ["one.csv", "two.csv", "--split-size", 40, "--reducers", 1]
    job = site.write("job.py", COUNT)
    done = site.run(job, *words, "--reader", "csv(multiline=True)")
    assert " 2 maps, " in done.out, done.err
    assert site.parts() == [b"['a\\nb']\t50\n['c']\t100\n"]


@pytest.mark.daemons
def test_cluster_reads_and_writes_them_as_well(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    site.write("in.csv", "a,b\n" + "1,x\n" * 20)
    words = ["in.csv", "--output", "out", "--reducers", 1, "--split-size", 10]
    words += ["--reader", "csv(header=True)", "--writer", "json"]
    done = site.pytxmr("run", site.write("job.py", COUNT), *words)
    assert done.status == 0, done.err
    assert site.parts() == [b"[\"{'a': '1', 'b': 'x'}\", 20]\n"]
