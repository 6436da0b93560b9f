"""The benchmark compares what it says it does, and its page hides nothing.

What it measures is not tested here: that takes peers, and time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE_TREE = Path(__file__).resolve().parent.parent
# At the end, so that pytxmr is still the one that is installed.
sys.path.append(str(SOURCE_TREE))

import benchmarks.__main__  # noqa: E402
from benchmarks import measure  # noqa: E402
from benchmarks.bench import Bench  # noqa: E402
from benchmarks.environments import Environments, Unavailable  # noqa: E402
from benchmarks.inputs import Inputs  # noqa: E402
from benchmarks.measure import (  # noqa: E402
    Command,
    CommandFailed,
    Failed,
    Measured,
    Runner,
    any_order,
    in_order,
)
from benchmarks.page import page  # noqa: E402
from benchmarks.results import Result, Results  # noqa: E402
from benchmarks.rows import ROWS, Row  # noqa: E402


@pytest.fixture
def runner(tmp_path: Path):
    runner = Runner(tmp_path / "run")
    yield runner
    runner.close()


def writes(runner: Runner, name: str, text: str) -> Command:
    """A command that writes ``text`` into a file."""
    output = runner.path(name)
    program = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    return Command([sys.executable, "-c", program, output, text], output)


def fails(message: str) -> Command:
    return Command([sys.executable, "-c", f"raise SystemExit({message!r})"])


class TestRace:
    def test_runs_both_sides_as_often_as_told(self, runner: Runner) -> None:
        ours, theirs = writes(runner, "a", "x\ny\n"), writes(runner, "b", "y\nx\n")
        measured = measure.race(runner, ours, theirs, 3, any_order)
        assert len(measured.ours) == len(measured.reference) == 3
        assert measured.figure == measure.ratio(measured.ours, measured.reference)

    def test_outputs_that_differ_are_a_failure(self, runner: Runner) -> None:
        ours, theirs = writes(runner, "a", "x\ny\n"), writes(runner, "b", "x\nz\n")
        with pytest.raises(Failed, match="the outputs differ"):
            measure.race(runner, ours, theirs, 1, any_order)

    def test_a_failing_command_of_ours_is_a_failure_with_its_last_words(
        self, runner: Runner
    ) -> None:
        with pytest.raises(Failed, match="pytxmr fails: exit status 1: too bad"):
            measure.race(runner, fails("too bad"), writes(runner, "b", ""), 1, None)

    def test_a_failing_reference_is_unavailable(self, runner: Runner) -> None:
        with pytest.raises(Unavailable, match="too old for this Python"):
            measure.race(runner, writes(runner, "a", ""), fails("too old for this Python"), 1, None)

    def test_the_ratio_is_the_median_of_the_pairs_own_ratios(self) -> None:
        assert measure.ratio([1.0, 6.0, 9.0], [2.0, 2.0, 10.0]) == 0.9


def test_an_output_of_an_earlier_run_is_not_taken_for_the_new_one(runner: Runner) -> None:
    output = writes(runner, "a", "old").output
    assert output is not None
    output.write_text("old")
    with pytest.raises(CommandFailed):
        runner.timed(Command(fails("").words + ["x"], output))
    assert not output.exists()


def test_sorts_agree_only_in_order_and_counts_in_any(tmp_path: Path) -> None:
    for name, texts in {
        "a": ["x\ny\n", "z\n"],
        "b": ["x\n", "y\nz\n"],
        "c": ["z\n", "x\ny\n"],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "_SUCCESS").write_text(name)
        for number, text in enumerate(texts):
            (tmp_path / name / f"part-{number:05}").write_text(text)
    ordered, any_way = (
        [digest(tmp_path / name) for name in "abc"] for digest in (in_order, any_order)
    )
    assert ordered[0] == ordered[1] != ordered[2]
    assert len(set(any_way)) == 1


def test_inputs_are_the_same_every_time_and_made_once(tmp_path: Path) -> None:
    one, other = (Inputs(tmp_path / name, scale=0.001) for name in "ab")
    assert one.text(200).read_bytes() == other.text(200).read_bytes()
    assert one.lines(1000).read_bytes() == other.lines(1000).read_bytes()
    lines = one.lines(2_000_000).read_bytes().splitlines(keepends=True)
    assert {len(line) for line in lines} == {100}
    assert len(lines) == 2000
    before = one.text(200).stat()
    assert one.text(200).stat() == before
    assert one.text(2000).read_bytes() == one.text(200).read_bytes() * 10
    files, joined = one.small_files()
    assert joined.read_bytes() == b"".join(file.read_bytes() for file in sorted(files.iterdir()))


def test_a_peer_that_cannot_be_installed_gives_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules["benchmarks.environments"].NEEDS, "pyspark", ("no-such-command", "-version")
    )
    with pytest.raises(Unavailable, match="there is no no-such-command"):
        Environments(tmp_path).python("pyspark")


def test_results_of_one_row_leave_the_others_as_they_were(tmp_path: Path) -> None:
    order = ["a", "b"]
    results = Results(tmp_path / "results.json")
    results.add(Result("b", 1.0, [2.0], [2.0]), order)
    results.add(Result("a", 0.5, [1.0], [2.0]), order)
    again = Results(tmp_path / "results.json")
    again.add(Result("b", 3.0, [6.0], [2.0]), order)
    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["name"], row["figure"], row["ours"]) for row in kept] == [
        ("a", 0.5, [1.0]),
        ("b", 3.0, [6.0]),
    ]


def test_the_page_says_which_targets_are_missed_and_which_rows_have_no_result() -> None:
    first, second, third = [row for row in ROWS if row.target is not None][:3]
    assert first.target is not None
    assert second.target is not None
    explains = next(row for row in ROWS if row.target is None)
    results = {
        first.name: Result(first.name, first.target / 2, [1.0], [2.0], measured="2026-01-01 00:00"),
        second.name: Result(second.name, second.target * 2, [4.0], [1.0], measured="2026-01-01"),
        third.name: Result(third.name, None, error="cannot be installed", measured="2026-01-01"),
        explains.name: Result(explains.name, 9.0, [9.0], [1.0], measured="2026-01-01"),
    }
    lines = page(ROWS, results, plotted=False).splitlines()
    cells = {line.split(" | ")[0][2:]: line for line in lines if line.startswith("| ")}
    assert cells[first.name].endswith("| yes |")
    assert cells[second.name].endswith("| **no** |")
    assert cells[third.name].endswith("| no result: cannot be installed |")
    assert cells[explains.name].endswith("| 9 |  |  |")


def counted(name: str, seconds: float, reference: float, **rest: Any) -> Result:
    return Result(name, seconds / reference, [seconds], [reference], measured="2026-01-01", **rest)


def test_the_page_says_of_a_missed_word_count_where_the_time_goes_and_what_bounds_it() -> None:
    together = {"mapper": 80.0, "loop": 200.0, "gathered": 180.0, "attempt": 240.0}
    results = {
        result.name: result
        for result in (
            counted("wordcount-loop", 4.0, 5.0),
            counted("wordcount-dampr", 4.0, 8.0),
            counted("wordcount-mrjob", 4.0, 15.0),
            counted("wordcount-pyspark", 4.0, 16.0),
            counted("small-job", 0.25, 0.2),
            counted("word-cost", 2.4e-7, 2e-7, raw={"together": together}),
        )
    }
    text = page(ROWS, results, plotted=False)
    section = text[text.index("## Rows that were missed, and why") : text.index("## Method")]
    lines = {line.split("*")[1]: line for line in section.splitlines() if line.startswith("- *")}
    assert list(lines) == ["wordcount-loop", "wordcount-dampr", "wordcount-mrjob"]
    assert "reached 0.5, wanted 0.45" in lines["wordcount-dampr"]
    # The mapper 1 s, and 0.2 s to start, of 8 s.
    assert "pytxmr takes 0.35 beyond that, and may take 0.3." in lines["wordcount-dampr"]
    assert "two processors cannot reach the target" in lines["wordcount-mrjob"]
    parts = [line.split(" | ")[1:] for line in section.splitlines() if line.startswith("| ")][1:]
    # 12.5 M words of each worker: 80, 100 and 60 ns each; 0.25 s; and what is left of 4 s.
    assert [float(seconds) for seconds, _ in parts] == [1.0, 1.25, 0.75, 0.25, 0.75]
    assert [share for _, share in parts] == ["25 % |", "31 % |", "19 % |", "6 % |", "19 % |"]


def test_the_page_has_no_reasons_where_nothing_was_missed() -> None:
    met = {"wordcount-loop": counted("wordcount-loop", 1.0, 5.0)}
    assert "missed" not in page(ROWS, met, plotted=False).split("## Method")[0]


def test_a_row_that_nothing_bounds_is_said_to_be_missed_all_the_same() -> None:
    results = {"empty-maps": Result("empty-maps", 100.0, [20.0], measured="2026-01-01")}
    results["join-pyspark"] = counted("join-pyspark", 2.0, 1.0)
    text = page(ROWS, results, plotted=False)
    assert "- *empty-maps*: reached 100 tasks/s, wanted 400 tasks/s.\n" in text
    assert "- *join-pyspark*: reached 2, wanted 0.33.\n" in text


def test_at_least_and_at_most_are_not_mixed_up() -> None:
    met = {row.name: row.met(row.target * 2) for row in ROWS if row.target is not None}
    assert {name for name in met if met[name]} == {"empty-maps"}


def test_what_is_published_does_not_name_the_checkout_or_the_home_directory() -> None:
    text = f"{SOURCE_TREE}/benchmarks/jobs/x.py and {Path.home()}/.cache"
    assert str(SOURCE_TREE) not in measure.anonymous(text)
    assert str(Path.home()) not in measure.anonymous(text)


def test_rows_can_be_listed_without_anything_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--rows", "list"],
        cwd=SOURCE_TREE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[0] for line in done.stdout.splitlines()] == [row.name for row in ROWS]


def test_a_row_that_there_is_not_is_named_and_nothing_is_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--rows", "small-job,no-such,neither", "--runs", "0"],
        cwd=SOURCE_TREE, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "no row is named no-such, neither; --rows list names the rows\n"


class TestMain:
    """Rows of these tests in the place of the real ones."""

    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        main = benchmarks.__main__

        def run(*rows: Row) -> tuple[int, str]:
            monkeypatch.setattr(main, "ROWS", rows)
            monkeypatch.setattr(main, "BUILD", tmp_path)
            monkeypatch.setattr(main, "_plot", lambda bench, path, results: False)
            monkeypatch.setattr(main, "_versions", lambda bench, row: {})
            monkeypatch.setattr(Environments, "_make", lambda self, name: Path(sys.executable))
            monkeypatch.setattr(sys, "argv", ["benchmarks", "--scale", "0.1"])
            return main.main(), (tmp_path / "trial" / "benchmarks.md").read_text()

        return run

    def test_a_peer_that_cannot_be_had_is_reported_and_the_next_row_is_run(self, run, capsys):
        def unavailable(bench: Bench, runs: int) -> Measured:
            raise Unavailable("cannot be installed: no such index")

        peer = Row("with-peer", "work", "a peer", unavailable, 0.5, peer="dask")
        other = Row("other", "work", "", lambda bench, runs: Measured(1.0, [1.0]), 2.0)
        status, page = run(peer, other)
        assert status == 0
        assert "| no result: cannot be installed: no such index |" in page
        assert "| other | work |  | 1 | 1 s |  | 1 | ≤ 2 | yes |" in page
        assert "without a result: with-peer\n" in capsys.readouterr().err

    def test_outputs_that_differ_fail_the_benchmark_and_the_next_row_is_run(self, run):
        def different(bench: Bench, runs: int) -> Measured:
            raise Failed("the outputs differ")

        other = Row("other", "work", "", lambda bench, runs: Measured(1.0, [1.0]), 2.0)
        status, page = run(Row("different", "work", "a peer", different, 0.5), other)
        assert status == 1
        assert "| no result: the outputs differ |" in page
        assert "| other |" in page
