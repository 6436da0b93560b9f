"""`--from` and `--only`: some of a job's steps, on what an earlier run has kept of the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pytxmr.client import JobOptions, make_specs
from pytxmr.errors import BadInput, BadJob
from pytxmr.runners.inline import run_all

#: Steps 1 and 2 read the input, 3 both of them, 4 the third.
JOB = """\
import pytxmr
from pytxmr import pipeline

params = {"least": 1}
words = pipeline.input().flat_map(str.split)
times = words.count()
lengths = words.map(len).count()
both = times.map(lambda pair: (len(pair[0]), pair)).join(lengths)
named = pipeline.input("names").map(lambda line: (len(line), line))
output = both.join(named)
"""


class Desk:
    """A directory with a job of four steps, run with all its steps kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.job = directory / "job.py"
        self.job.write_text(JOB)
        (directory / "in.txt").write_text("a b\nbb a\n")
        (directory / "names.txt").write_text("x\nyy\n")

    def specs(self, *inputs: str, **options: Any) -> Any:
        given = inputs or ("in.txt", "names=names.txt")
        output = options.pop("output", "out")
        return make_specs(JobOptions("job.py", given, output, reducers=1, **options))

    def run(self, *inputs: str, **options: Any) -> dict[str, Any]:
        return run_all(self.specs(*inputs, **options))

    def lines(self, output: str = "out") -> list[str]:
        return (self.directory / output / "part-00000").read_text().splitlines()

    def kept(self, place: str = "out.steps") -> list[str]:
        return sorted(os.listdir(self.directory / place))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path)
    desk.run()
    return desk


RESULT = [
    '1\t[[["a", 2], 3], "x"]',
    '1\t[[["b", 1], 3], "x"]',
    '2\t[[["bb", 1], 1], "yy"]',
]


def test_from_a_step_on_the_results_before_it_are_those_of_the_earlier_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.lines() == RESULT
    (desk.directory / "in.txt").write_text("other words\n")
    desk.job.write_text(JOB.replace("both.join(named)", 'both.join(named, how="left")'))
    (desk.directory / "names.txt").write_text("x\n")
    whole = desk.run(from_="4", output="new", steps="out.steps")
    assert [status["step"] for status in whole["steps"]] == [[4, 4]]
    assert desk.lines("new") == [*RESULT[:2], '2\t[[["bb", 1], 1], null]']
    made = "step 3 of 4: its result is in out.steps/3, made by a different job.py\n"
    assert made in capsys.readouterr().err
    assert desk.kept() == ["1", "2", "3"]


def test_a_step_may_be_named_by_the_view_that_it_stores(desk: Desk) -> None:
    chosen = desk.specs(from_="both", output="new", steps="out.steps")
    assert [spec.step for spec in chosen] == [3, 4]
    (only,) = desk.specs(only="lengths")
    assert only.output == f"{desk.directory}/out.steps/2"


def test_only_the_last_step_makes_the_output(desk: Desk) -> None:
    with pytest.raises(BadInput, match=r"exists already; .* \(--output OTHER --steps out.steps\)"):
        desk.specs(only="4")
    (only,) = desk.specs(only="output", output="new", steps="out.steps")
    assert only.output == f"{desk.directory}/new"
    desk.specs(only="3")


def test_what_was_made_of_the_older_result_of_a_step_goes_and_nothing_else(desk: Desk) -> None:
    (desk.directory / "in.txt").write_text("c\n")
    desk.run(only="1")
    assert desk.kept() == ["1", "2"]
    with pytest.raises(BadInput, match="but it is not in .*/out.steps/3; --from 3 runs that step"):
        desk.specs(only="4", output="new", steps="out.steps")
    with pytest.raises(BadInput, match="not in .*/new.steps/1; --steps DIR says where it is, or "):
        desk.specs(from_="3", output="new")
    desk.run(only="2")
    desk.run(from_="3", output="new", steps="out.steps")
    assert desk.lines("new") == ['1\t[[["c", 1], 1], "x"]']
    assert desk.kept() == ["1", "2", "3"]


def test_nothing_is_removed_before_the_step_is_known_to_have_its_input(desk: Desk) -> None:
    with pytest.raises(BadInput, match=r"gone.txt"):
        desk.run("gone.txt", only="1")
    assert desk.kept() == ["1", "2", "3"]


def test_what_no_step_that_runs_reads_need_not_be_given(desk: Desk) -> None:
    desk.specs("names=names.txt", from_="3", output="new", steps="out.steps")
    with pytest.raises(BadInput, match="nothing is given for input"):
        desk.specs("names=names.txt", from_="2", output="new", steps="out.steps")


def test_parameters_that_have_changed_since_are_mentioned(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.specs(only="3", params={"least": "2"})
    assert capsys.readouterr().err.count("made with other parameters\n") == 2
    desk.specs(only="3", params={"least": "1"})
    assert "made" not in capsys.readouterr().err


def test_a_result_of_another_job_or_with_a_piece_missing_is_not_taken(desk: Desk) -> None:
    part = desk.directory / "out.steps" / "1" / "part-00000"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match="out.steps/1 lacks part-00000, or a piece of it; --from 1"):
        desk.specs(only="3")
    part.write_bytes(whole)
    desk.job.write_text(JOB.replace("both.join(named)", "both.join(named).distinct()"))
    with pytest.raises(BadInput, match=r"is of job.py, step 1 of 4, not of job.py, step 1 of 5"):
        desk.specs(only="3")
    (desk.directory / "out.steps" / "1" / "_SUCCESS").unlink()
    with pytest.raises(BadInput, match="out.steps/1 is not complete"):
        desk.specs(only="3")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"from_": "lenghts"}, "--from lenghts: the job has no such step; did you mean lengths?"),
        ({"only": "5"}, r"--only 5: .*; its steps are 1, 2 \(lengths\), 3 .*, 4 "),
        ({"only": "words"}, "words is a view that no step stores; its steps are 1, 2 "),
    ],
)
def test_a_step_that_there_is_not_is_refused(
    desk: Desk, chosen: dict[str, str], message: str
) -> None:
    with pytest.raises(BadJob, match=message):
        desk.specs(**chosen)


def test_a_whole_run_beside_kept_results_is_told_from_where_it_may_go_on(desk: Desk) -> None:
    with pytest.raises(BadInput, match="out exists already"):
        desk.specs()
    (desk.directory / "out").rename("moved")
    with pytest.raises(BadInput, match="out.steps, where .*, or go on with --from 4"):
        desk.specs()
    (desk.directory / "out.steps" / "2" / "_SUCCESS").unlink()
    with pytest.raises(BadInput, match="or go on with --from 2"):
        desk.specs()
    with pytest.raises(BadInput, match="--steps out/s: it lies in the output"):
        desk.specs(steps="out/s")


def test_a_job_of_one_step_has_none_to_choose(desk: Desk) -> None:
    desk.job.write_text("def mapper(key, value): yield value, 1\nreducer = sum\n")
    for option in ("from_", "only", "steps"):
        with pytest.raises(BadJob, match=f"--{option.rstrip('_')}: job.py has one step"):
            desk.specs("in.txt", output="new", **{option: "1"})
