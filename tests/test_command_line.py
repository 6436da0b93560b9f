"""What the words of a command line mean."""

from __future__ import annotations

import argparse
import io

import pytest

from pytxmr.cli.options import build_parser, build_program_parser, parse
from pytxmr.cli.progress import ProgressShown


@pytest.mark.parametrize(
    "words",
    [
        "JOB a.txt b.txt -o out",
        "JOB -o out a.txt b.txt",
        "JOB a.txt -o out b.txt",
        "-o out JOB a.txt b.txt",
        "-o out JOB a.txt --keep b.txt",
        "JOB --keep -o out -- a.txt b.txt",
        "JOB a.txt -o out -- b.txt",
        "JOB -o out a.txt -- b.txt",
    ],
)
def test_inputs_may_stand_before_and_after_options(words):
    options = parse(build_parser(), ["run", *words.replace("JOB", "job.py").split()])
    assert (options.job, options.inputs, options.output) == ("job.py", ["a.txt", "b.txt"], "out")
    named = argparse.Namespace(command="run", job="words.py:Words")
    words = words.replace("JOB ", "")
    options = parse(build_program_parser("words.py", ""), words.split(), named)
    assert (options.command, options.job) == ("run", "words.py:Words")
    assert (options.inputs, options.output) == (["a.txt", "b.txt"], "out")


@pytest.mark.parametrize("words", ["", "-o out", "--keep --reducers 0"])
def test_inputs_may_be_left_out(words):
    assert parse(build_parser(), ["run", "job.py", *words.split()]).inputs == []


@pytest.mark.parametrize("name", ["-", "./-x"])
def test_a_name_may_begin_with_a_dash_where_it_is_no_option(name):
    assert parse(build_parser(), ["run", "job.py", "-o", "out", name]).inputs == [name]
    assert parse(build_parser(), ["run", "job.py", "-o", "out", "--", "-x"]).inputs == ["-x"]


@pytest.mark.parametrize(
    "words",
    [
        "run job.py a.txt --bogus",
        "run job.py --bogus a.txt",
        "run job.py -o out a.txt --bogus=3",
        "run job.py -o out -x -- a.txt",
        "status Job001 Job002",
        "jobs more",
    ],
)
def test_what_is_not_known_is_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(build_parser(), words.split())
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"usage: pytxmr {words.split()[0]} " in said
    assert f"pytxmr {words.split()[0]}: error: unrecognized arguments: " in said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run job.py a.txt --redusers 3", "; did you mean --reducers?"),
        ("submit job.py a.txt --split_size=1MiB", "; did you mean --split-size?"),
        ("logs Job001 --folow", "; did you mean --follow?"),
        ("run job.py --zzz", "--zzz"),
    ],
)
def test_an_option_that_is_misspelt_is_answered_with_the_nearest_of_its_command(
    words, hint, capsys
):
    with pytest.raises(SystemExit):
        parse(build_parser(), words.split())
    assert capsys.readouterr().err.endswith(f"{hint}\n")


def test_progress_of_a_step_says_which_it_is():
    shown = io.StringIO()
    progress = ProgressShown(shown)
    status = {"phase": "mapping", "maps": 2, "maps_done": 1, "reduces": 1, "reduces_done": 0}
    for job, step in (("Job002", [2, 3]), ("Job002", [2, 3]), ("Job003", [3, 3])):
        progress.show(status | {"job": job, "step": step, "failures": 0})
    assert shown.getvalue() == (
        "step 2 of 3: Job002 mapping: map 1/2, reduce 0/1\n"
        "step 3 of 3: Job003 mapping: map 1/2, reduce 0/1\n"
    )
