"""Ready-made readers and writers as roles of a job."""

from __future__ import annotations

import pytest
from sources import MODULE, code, refused

from pytxmr import readers, writers
from pytxmr.errors import BadJob
from pytxmr.job.loading import load
from pytxmr.model import JobCode


def named(reader, writer=None):
    names = {"reader": reader, "writer": writer}
    return JobCode("jobs/words.py", MODULE.encode(), None, {k: v for k, v in names.items() if v})


def test_a_reader_or_writer_is_the_jobs_own_or_a_ready_made_one():
    job = load(named("json", "csv"), {})
    assert (job.reader, job.writer) == (readers.json, writers.csv)
    job = load(named("csv(header=['a', 'b'], lists=True)", "csv(header=['n'])"), {})
    assert job.reader == readers.csv(header=["a", "b"], lists=True)
    assert job.writer == writers.csv(header=["n"])
    assert load(named(r"delimited(b'\0')"), {}).reader == readers.delimited(b"\0")
    own = MODULE + "def json(lines): ...\n"
    assert load(
        JobCode("words.py", own.encode(), None, {"reader": "json"}), {}
    ).reader.__name__ == ("json")


def test_a_module_that_the_job_imports_does_not_hide_the_reader_of_its_name():
    source = MODULE + "import json\n"
    code = JobCode("words.py", source.encode(), None, {"reader": "json"})
    assert load(code, {}).reader is readers.json


def test_a_class_may_have_ready_made_ones():
    source = """
    import pytxmr
    from pytxmr import readers, writers

    class Rows(pytxmr.MapReduce):
        read = readers.csv(header=True)
        write = writers.json
        def map(self, key, value): ...
        def reduce(self, key, values): ...
    """
    job = load(code(source, "Rows"), {})
    assert (job.reader, job.writer) == (readers.csv(header=True), writers.json)
    source = code(source, "Rows").source
    job = load(JobCode("words.py", source, "Rows", {"reader": "tsv"}), {})
    assert job.reader is readers.tsv


def test_the_default_by_its_name_is_the_default():
    job = load(named("text", "text"), {})
    assert (job.reader, job.writer) == (None, None)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        ("jsn", "jobs/words.py has no jsn(); did you mean json?"),
        (
            "csv(headr=True)",
            "--reader csv(headr=True): there is no option headr; did you mean header?",
        ),
        ("csv(header=open('x'))", "malformed node or string"),
        ("csv(", "jobs/words.py has no csv(()"),
        ("fixed(0)", "--reader fixed(0): readers.fixed(0): a record has one byte at least"),
        ("fixed", "jobs/words.py: readers.fixed needs to know the bytes of a record"),
        ("json(1)", "--reader json(1): readers.json has no options"),
    ],
)
def test_a_reader_that_is_misspelt_is_refused_with_the_nearest(reader, text):
    with pytest.raises(BadJob) as caught:
        load(named(reader), {})
    assert text in caught.value.message


def test_a_ready_made_one_may_be_named_with_its_module():
    for name in ("readers.json", "pytxmr.readers.json"):
        assert load(named(name), {}).reader is readers.json
    assert load(named("readers.csv(header=True)", "writers.json"), {}).writer is writers.json
    with pytest.raises(BadJob, match="has no writers.json"):
        load(named("writers.json"), {})


def test_a_writer_that_is_misspelt_is_refused_with_the_nearest_also_for_a_class():
    with pytest.raises(BadJob, match="did you mean values"):
        load(named("json", "value"), {})
    source = (
        "import pytxmr\nclass Words(pytxmr.MapReduce):\n def map(self, k, v): ...\n reduce = map\n"
    )
    with pytest.raises(BadJob, match="class Words has no method jsn; did you mean json"):
        load(JobCode("words.py", source.encode(), "Words", {"writer": "jsn"}), {})


def test_a_writer_as_reader_is_refused():
    source = MODULE + "from pytxmr import writers\nreader = writers.json\n"
    assert refused(source).message == "jobs/words.py: writers.json is no reader"
