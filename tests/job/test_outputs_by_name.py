"""Outputs by name: what a job declares of them, what is refused, and what comes of `run_inline`."""

from __future__ import annotations

import json
from textwrap import dedent
from types import ModuleType

import pytest

import pytxmr
from pytxmr import writers
from pytxmr.client import JobOptions, make_specs
from pytxmr.errors import BadJob
from pytxmr.job import context
from pytxmr.job.loading import load
from pytxmr.model import JobCode
from pytxmr.result import Result
from pytxmr.storage.inputs import list_inputs
from pytxmr.testing import run_inline

JOB = """
import pytxmr
from pytxmr import writers

outputs = ("errors", "late")

def mapper(key, line):
    yield tuple(line.split())

def reducer(key, values):
    for value in values:
        yield (key, value) if value.isdigit() else pytxmr.to("errors", key, value)
"""


@pytest.fixture(autouse=True)
def _nothing_stays():
    yield
    context.begin_outputs(None)


def bound(source, class_name=None, step=None):
    return load(JobCode("job.py", dedent(source).encode(), class_name), {}, step)


@pytest.fixture
def refused(tmp_path):
    """What is said of a job before anything runs."""

    def said(source, class_name="", **options):
        path = tmp_path / "job.py"
        path.write_text(dedent(source))
        job = f"{path}:{class_name}" if class_name else str(path)
        (tmp_path / "in.txt").touch()
        with pytest.raises(BadJob) as caught:
            make_specs(
                JobOptions(job, [str(tmp_path / "in.txt")], str(tmp_path / "out"), **options)
            )
        return caught.value

    return said


# ---- what is declared


def test_a_module_declares_names_or_names_and_writers():
    assert bound(JOB).outputs == {"errors": None, "late": None}
    named = JOB.replace('("errors", "late")', '{"errors": writers.json, "late": None}')
    named += "\nwriter = writers.values\n"
    assert bound(named).outputs == {"errors": writers.json, "late": writers.values}


def test_a_writer_that_is_the_default_is_so_beside_another_of_the_job():
    named = JOB.replace('("errors", "late")', '{"errors": writers.text}')
    assert bound(named + "\nwriter = writers.json\n").outputs == {"errors": None}


def test_a_class_declares_them_as_it_does_its_reducers():
    source = """
        import pytxmr

        class Job(pytxmr.MapReduce):
            outputs = ["errors"]

            def map(self, key, value):
                yield key, value
    """
    assert bound(source, "Job").outputs == {"errors": None}


def test_what_is_imported_by_that_name_declares_nothing(tmp_path, monkeypatch):
    (tmp_path / "outputs.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert bound("import outputs\n" + JOB.replace("outputs =", "others =")).outputs == {}


STEPS = """
    import pytxmr

    class Job(pytxmr.MapReduce):
        outputs = ["errors"]

        def steps(self):
            return [pytxmr.Step(self.words, reducer=self.count), pytxmr.Step(reducer=self.count)]

        def words(self, key, value):
            yield value, 1

        def count(self, key, values):
            yield pytxmr.to("errors", key, 1)
"""


def test_the_last_of_several_steps_has_them_and_no_other():
    assert bound(STEPS, "Job", 1).outputs == {}
    with pytest.raises(pytxmr.PytxmrError, match="there is no output 'errors'; the job's last"):
        pytxmr.to("errors", 1)
    assert bound(STEPS, "Job", 2).outputs == {"errors": None}


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("'errors'", "outputs is str, not a tuple of names, or a dict of names and writers"),
        ("('a/b',)", "'a/b' is no name for an output"),
        ("('_bad',)", "'_bad' is no name for an output"),
        ("('part-00000',)", "'part-00000' is no name for an output"),
        ("(7,)", "7 is no name for an output"),
        ("('errors', 'errors')", "'errors' is there twice"),
        ("{'errors': 'json'}", "the writer of 'errors' is str"),
        ("{'errors': pytxmr.readers.json}", "readers.json is no writer"),
        ("[str(n) for n in range(101)]", "101 outputs are more than 100"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(refused, said, wanted):
    source = JOB.replace('("errors", "late")', said).replace('pytxmr.to("errors", ', "(")
    assert wanted in refused("import pytxmr.readers\n" + source).message


def test_views_leave_no_place_for_them(refused):
    source = """
        from pytxmr import pipeline

        outputs = ("errors",)
        output = pipeline.input().count()
    """
    assert "views leave no place for outputs by name" in refused(source).message


def test_to_compress_what_an_output_compresses_itself_is_refused(refused):
    pytest.importorskip("pyarrow")
    source = JOB.replace('("errors", "late")', '{"errors": writers.parquet}')
    assert "compresses by itself" in refused(source, compress="gzip").message


# ---- what is misspelt


@pytest.mark.parametrize("call", ["pytxmr.to", "to", "into"])
def test_a_name_that_is_written_and_not_declared_is_refused_with_the_nearest(refused, call):
    source = JOB.replace('pytxmr.to("errors"', f'{call}("eror"')
    if call != "pytxmr.to":
        source = f"from pytxmr import to{' as into' if call == 'into' else ''}\n" + source
    error = refused(source)
    assert error.message.endswith("there is no output 'eror'; did you mean errors?")
    assert f'{call}("eror", key, value)' in error.details["traceback"]


def test_that_nothing_is_declared_is_said(refused):
    error = refused(JOB.replace("outputs =", "output ="))
    assert error.message.endswith("no output 'errors'; outputs = (...) declares them")


def test_functions_of_ones_own_that_are_called_so_are_not_looked_at(tmp_path):
    path = tmp_path / "job.py"
    path.write_text(JOB + "\ndef to(name):\n    pass\n\nto('eror')\n")
    make_specs(JobOptions(str(path), [str(path)], str(tmp_path / "out")))


# ---- what comes of it


def test_run_inline_gives_the_pairs_of_each_output():
    def reducer(key, values):
        for value in values:
            yield (key, value) if value else pytxmr.to("errors", key, (value,))

    job = ModuleType("a_job")
    vars(job).update(
        mapper=lambda key, value: [(value, len(value))], reducer=reducer, outputs=("errors", "late")
    )
    done = run_inline(job, ["a", "", "bc", ""], reducers=2)
    assert sorted(done) == [("a", 1), ("bc", 2)]
    assert done.outputs == {"errors": [("", (0,)), ("", (0,))], "late": []}
    assert done.totals["output records of errors"] == 2


def test_a_result_has_the_parts_lines_and_pairs_of_each_output(tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "part-00000").write_text("a\t1\nb\n")
    listed = {"parts": [], "outputs": {"errors": [{"name": "errors/part-00000", "bytes": 6}]}}
    (tmp_path / "_SUCCESS").write_text(json.dumps(listed))
    result = Result(str(tmp_path), {}, {}, 0.0)
    assert list(result) == []
    errors = result.outputs["errors"]
    assert list(errors) == [("a", "1"), ("b", None)]
    assert list(errors.lines()) == ["a\t1", "b"]
    assert errors.parts == [str(tmp_path / "errors" / "part-00000")]


def test_the_output_of_a_job_as_input_is_its_parts_and_each_other_output_by_itself(tmp_path):
    for name in ("part-00000", "errors/part-00000", "more/part-00000"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(path):
        return [file.path.removeprefix(f"{tmp_path}/") for file in list_inputs([str(path)])]

    (tmp_path / "_SUCCESS").write_text(json.dumps({"outputs": {"errors": []}}))
    assert names(tmp_path) == ["more/part-00000", "part-00000"]
    assert names(tmp_path / "errors") == ["errors/part-00000"]
    for theirs in ("", "[]", '{"parts": []}', "null"):
        (tmp_path / "_SUCCESS").write_text(theirs)
        assert names(tmp_path) == ["errors/part-00000", "more/part-00000", "part-00000"]
