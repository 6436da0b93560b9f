"""`pytxmr.testing.run_inline`: a job in the test's own process, by the worker's code."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pytxmr
from pytxmr import folds, pipeline, readers, writers
from pytxmr.errors import AttemptFailed, BadInput, BadJob, Uncarryable
from pytxmr.testing import run_inline

IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent


class Words(pytxmr.MapReduce):
    params = {"least": 1, "raises": ""}

    def map(self, key: Any, value: Any) -> Any:
        pytxmr.counter("lines")
        for word in value.split():
            if word == self.params["raises"]:
                raise LookupError(word)
            yield word, 1

    def reduce(self, key: Any, values: Any) -> Any:
        total = sum(values)
        if total >= self.params["least"]:
            yield key, total


class Opaque:
    def __init__(self, n: int) -> None:
        self.n = n


def module(**members: Any) -> ModuleType:
    made = ModuleType("a_job")
    vars(made).update(members)
    return made


def words(key: Any, value: Any) -> Any:
    for word in value.split():
        yield word, 1


def added(key: Any, values: Any) -> Any:
    yield key, sum(values)


# ---- what comes of it


def test_a_class_on_lines_gives_its_pairs_in_key_order_and_its_counters() -> None:
    result = run_inline(Words, ["b a", "a"])
    assert list(result) == result.pairs == [("a", 2), ("b", 1)]
    assert result.counters == {"lines": 2}
    assert result.totals["map output records"] == 3
    assert result.files == [b"a\t2\nb\t1\n"]
    assert result.bad_records == []


def test_a_module_and_a_path_are_jobs_too(tmp_path: Path) -> None:
    assert run_inline(module(mapper=words, reducer=added), ["a a"]).pairs == [("a", 2)]
    source = "def mapper(k, v): yield v, 1\ndef reducer(k, vs): yield k, sum(vs)\n"
    source += "class Upper:\n def map(self, k, v): yield v.upper(), 1\n"
    source += " def reduce(self, k, vs): yield k, sum(vs)\n"
    (tmp_path / "job.py").write_text(source)
    assert run_inline(tmp_path / "job.py", ["a"]).pairs == [("a", 1)]
    assert run_inline(f"{tmp_path}/job.py:Upper", ["a"]).pairs == [("A", 1)]


def test_a_class_may_be_defined_in_the_test() -> None:
    class Lengths:
        def map(self, key: Any, value: Any) -> Any:
            yield len(value), value

        def reduce(self, key: Any, values: Any) -> Any:
            yield key, sorted(values)

    assert run_inline(Lengths, ["b", "a", "cc"]).pairs == [(1, ["a", "b"]), (2, ["cc"])]


def test_pairs_come_out_as_they_were_yielded_and_files_as_they_are_written() -> None:
    def mapper(key: Any, value: Any) -> Any:
        yield (1, value), {"at": key, "b": b"\xff"}

    def writer(pairs: Any) -> Any:
        for key, value in pairs:
            yield f"{key[1]}={value['at']};"

    result = run_inline(module(mapper=mapper, reducer=pytxmr.identity, writer=writer), ["x", "y"])
    assert result.pairs == [
        ((1, "x"), {"at": 0, "b": b"\xff"}),
        ((1, "y"), {"at": 2, "b": b"\xff"}),
    ]
    assert result.files == [b"x=0;y=2;"]


def test_the_partitioner_says_which_reducer_a_key_goes_to() -> None:
    job = module(mapper=words, reducer=added, partitioner=lambda key, n: len(key) % n)
    assert run_inline(job, ["a bb ccc"], reducers=2).parts == [[("bb", 1)], [("a", 1), ("ccc", 1)]]


def test_the_ranges_of_a_range_partitioner_come_from_the_records() -> None:
    job = module(mapper=words, reducer=pytxmr.identity, partitioner=pytxmr.RangePartitioner())
    result = run_inline(job, ["d c", "b a"], reducers=2, splits=2)
    assert [[key for key, _ in part] for part in result.parts] == [["a", "b"], ["c", "d"]]


def test_each_split_is_combined_by_itself() -> None:
    seen = []

    def combiner(key: Any, values: Any) -> Any:
        values = list(values)
        seen.append((key, values))
        yield key, sum(values)

    job = module(mapper=words, reducer=added, combiner=combiner)
    result = run_inline(job, ["a a", "a a"], splits=2)
    assert result.pairs == [("a", 4)]
    assert seen == [("a", [1, 1]), ("a", [1, 1])]
    assert result.totals["spilled records"] == 2


def test_parameters_are_typed_by_their_defaults_where_they_are_text() -> None:
    assert run_inline(Words, ["a b a"], params={"least": 2}).pairs == [("a", 2)]
    assert run_inline(Words, ["a b a"], params={"least": "2"}).pairs == [("a", 2)]


def test_the_jobs_parameters_and_counters_end_with_it() -> None:
    pytxmr.params.clear()  # other tests may have made jobs here
    pytxmr.params["mine"] = 1
    pytxmr.counter("mine")
    try:
        assert run_inline(Words, ["a"]).counters == {"lines": 1}
        assert pytxmr.params == {"mine": 1}
    finally:
        pytxmr.params.clear()


def test_side_files_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "stop.txt").write_text("a")

    def mapper(key: Any, value: Any) -> Any:
        if value not in Path(pytxmr.side_file("stop words")).read_text():
            yield value, 1

    job = module(mapper=mapper)
    found = run_inline(job, ["a", "b"], side_files={"stop words": tmp_path / "stop.txt"})
    assert found.pairs == [("b", 1)]
    with pytest.raises(FileNotFoundError):
        run_inline(job, ["a"])
    with pytest.raises(BadJob, match=r"there is no .*gone, which is to be x"):
        run_inline(job, ["a"], side_files={"x": tmp_path / "gone"})


def test_other_functions_can_be_named() -> None:
    job = module(other=words, reducer=added)
    assert run_inline(job, ["a"], names={"mapper": "other"}).pairs == [("a", 1)]


@pytest.mark.parametrize("reducers", [0, 1])
def test_without_a_reducer_what_each_split_puts_out_is_a_part(reducers: int) -> None:
    job = module(mapper=words)
    result = run_inline(job, ["b a", "a"], splits=2, reducers=reducers)
    assert result.parts == [[("b", 1), ("a", 1)], [("a", 1)]]
    assert result.files == [b"b\t1\na\t1\n", b"a\t1\n"]


def test_without_reducers_bad_records_leave_nothing_in_the_part() -> None:
    def mapper(key: Any, value: Any) -> Any:
        yield value, 1
        if value == "bad":
            raise LookupError(value)

    result = run_inline(module(mapper=mapper), ["a", "bad", "b"], skip_bad_records=1)
    assert result.pairs == [("a", 1), ("b", 1)]
    assert result.files == [b"a\t1\nb\t1\n"]
    assert [bad.record for bad in result.bad_records] == ["bad"]


def test_hooks_of_a_class_see_an_instance_of_their_attempt_and_pairs_are_kept() -> None:
    class Totals(pytxmr.MapReduce):
        def map_init(self) -> None:
            self.total = 0

        def map(self, key: Any, value: Any) -> Any:
            self.total += int(value)
            return ()

        def map_final(self) -> Any:
            yield "total", self.total

        def reduce(self, key: Any, values: Any) -> Any:
            yield key, sorted(values)

    assert run_inline(Totals, ["1", "2", "30"], splits=2).pairs == [("total", [3, 30])]


def test_ready_made_readers_and_writers_are_used_and_pairs_are_kept() -> None:
    def mapper(key: Any, value: Any) -> Any:
        yield value["name"], value["n"]

    job = module(
        mapper=mapper,
        reducer=added,
        reader=readers.json,
        writer=writers.json,
    )
    result = run_inline(job, ['{"name": "a", "n": 1}', '{"name": "a", "n": 2}'])
    assert result.pairs == [("a", 3)]
    assert result.files == [b'["a", 3]\n']


def test_values_are_carried_as_the_job_says_and_for_no_other_job() -> None:
    def mapper(key: Any, value: Any) -> Any:
        yield value, Opaque(2)

    def reducer(key: Any, values: Any) -> Any:
        yield key, [value.n for value in values]

    job = module(mapper=mapper, reducer=reducer, serializer="pickle")
    assert run_inline(job, ["a"]).pairs == [("a", [2])]
    with pytest.raises(Uncarryable):
        run_inline(module(mapper=mapper, reducer=reducer), ["a"])


def test_a_path_finds_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helping.py").write_text("def cut(line): return line.split('-')\n")
    source = "import helping\ndef mapper(k, v):\n    for w in helping.cut(v): yield w, 1\n"
    (tmp_path / "job.py").write_text(source)
    assert run_inline(tmp_path / "job.py", ["a-b"]).pairs == [("a", 1), ("b", 1)]


def test_a_combiner_that_yields_nothing_is_told_what_it_lacks() -> None:
    job = module(mapper=words, reducer=added, combiner=lambda key, values: None)
    with pytest.raises(AttemptFailed, match="the combiner returned no pairs .* lack a yield"):
        run_inline(job, ["a a"])
    job = module(mapper=words, reducer=added, combiner=lambda key, values: [(key, len(None))])
    with pytest.raises(TypeError, match="NoneType"):
        run_inline(job, ["a a"])


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda lines: [1], "the reader yielded 1: not a pair (key, value)"),
        (lambda lines: [(1, 2, 3)], "the reader yielded (1, 2, 3): not a pair (key, value)"),
        (lambda lines: None, "the reader yielded no pairs (key, value)"),
    ],
)
def test_a_reader_whose_records_are_no_pairs_is_told_so(read: Any, said: str) -> None:
    with pytest.raises(AttemptFailed, match=re.escape(said)):
        run_inline(module(mapper=words, reducer=added, reader=read), ["a"])


def test_a_counter_that_no_cluster_could_add_up_is_the_jobs_error() -> None:
    def counting(key: Any, value: Any) -> Any:
        pytxmr.counter("bytes", 1 << 63)
        yield value, 1

    with pytest.raises(AttemptFailed, match="the counter 'bytes' is too large for 64 bits"):
        run_inline(module(mapper=counting), ["a"])


# ---- what it is given


def test_files_and_directories_are_read_as_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "_left_out").write_text("no\n")
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.txt").write_text("b\n")
    assert run_inline(Words, tmp_path).pairs == [("a", 1), ("b", 1)]
    assert run_inline(Words, [tmp_path / "b.txt"]).pairs == [("b", 1)]
    with pytest.raises(BadInput, match=r"gone: No such file"):
        run_inline(Words, tmp_path / "gone")


def test_bytes_that_are_no_text_arrive_as_from_a_file() -> None:
    assert run_inline(Words, [b"caf\xe9"]).files == [b"caf\xe9\t1\n"]


def test_a_reader_of_the_jobs_own_gets_the_lines() -> None:
    def reader(lines: Any) -> Any:
        for offset, line in lines:
            yield offset, line.split(b",")

    def mapper(key: Any, value: Any) -> Any:
        yield value[0], value[1]

    job = module(mapper=mapper, reducer=pytxmr.identity, reader=reader)
    assert run_inline(job, ["a,b"]).pairs == [(b"a", b"b")]


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_pairs_reach_the_mapper_as_they_are(splits: int) -> None:
    records = [("x", {"n": 1}), ("y", [2]), ("z", None)]

    def mapper(key: Any, value: Any) -> Any:
        yield key, repr(value)

    result = run_inline(module(mapper=mapper, reducer=pytxmr.identity), records, splits=splits)
    assert result.pairs == [("x", "{'n': 1}"), ("y", "[2]"), ("z", "None")]
    assert result.totals["map input records"] == 3


def test_no_records_give_no_pairs() -> None:
    assert run_inline(Words, []).files == [b""]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ("a b", "a list of lines is wanted"),
        (["a\nb"], "has a line end within"),
        (["a", ("b", 1)], "neither a line"),
        ([1], "neither a line"),
    ],
)
def test_records_that_cannot_be_given_are_refused(records: Any, said: str) -> None:
    with pytest.raises(BadJob, match=said):
        run_inline(Words, records)


def test_what_is_misspelt_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadJob, match="no such parameter; did you mean least"):
        run_inline(Words, ["a"], params={"leest": 2})
    with pytest.raises(BadJob, match="no maper; did you mean mapper"):
        run_inline(Words, ["a"], names={"maper": "words"})
    with pytest.raises(BadJob, match="has no mapper"):
        run_inline(module(maper=words, reducer=added), ["a"])
    with pytest.raises(BadJob, match="is no job"):
        run_inline(words, ["a"])


def test_a_batch_mapper_is_not_given_pairs() -> None:
    @pytxmr.batch
    def mapper(offset: Any, lines: Any) -> Any:
        for line in lines:
            yield line, 1

    job = module(mapper=mapper, reducer=pytxmr.folds.sum)
    assert run_inline(job, ["a", "a"]).pairs == [("a", 2)]
    with pytest.raises(BadJob, match="a batch mapper reads lines"):
        run_inline(job, [("a", 1)])


# ---- what goes wrong


def test_the_users_exception_comes_as_it_is_and_shows_their_line_and_the_record() -> None:
    with pytest.raises(LookupError) as caught:
        run_inline(Words, ["a", "b x"], params={"raises": "x"})
    assert caught.value.args == ("x",)
    assert caught.value.__notes__ == ["at records, offset 2, record 'b x'"]
    frames = traceback.extract_tb(caught.value.__traceback__)
    # This test's, that of `run_inline`, and nothing of ours between that and the user's.
    assert [frame.name for frame in frames][1:] == ["run_inline", "map"]
    shown = "".join(traceback.format_exception(caught.value))
    assert "During handling" not in shown


def test_an_exception_of_the_reducer_names_the_key() -> None:
    def reducer(key: Any, values: Any) -> Any:
        yield key, 1 // 0

    with pytest.raises(ZeroDivisionError) as caught:
        run_inline(module(mapper=words, reducer=reducer), ["a"])
    assert caught.value.__notes__ == ["at key 'a'"]


def test_what_cannot_be_carried_is_shown_at_its_yield() -> None:
    def mapper(key: Any, value: Any) -> Any:
        yield value, open

    with pytest.raises(Uncarryable, match="cannot be carried") as caught:
        run_inline(module(mapper=mapper, reducer=added), ["a"])
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "yield value, open"


def test_a_mapper_without_a_yield_is_told_so() -> None:
    with pytest.raises(AttemptFailed, match="does it lack a yield"):
        run_inline(module(mapper=lambda key, value: None, reducer=added), ["a"])


def test_bad_records_are_given_with_their_place_and_what_they_counted_is_not() -> None:
    records = ["a", "b x", "c"]
    result = run_inline(Words, records, params={"raises": "x"}, skip_bad_records=1)
    assert result.pairs == [("a", 1), ("c", 1)]
    assert result.counters == {"lines": 2}
    (bad,) = result.bad_records
    assert (bad.file, bad.offset, bad.record, bad.task) == ("records", 2, "b x", "Map001")
    assert bad.traceback.endswith("LookupError: x\n")


def test_more_bad_records_than_may_be_skipped_are_an_error_over_all_splits() -> None:
    for splits in (1, 2):
        with pytest.raises(AttemptFailed, match="2 bad records are more than the 1"):
            run_inline(Words, ["x", "x"], params={"raises": "x"}, skip_bad_records=1, splits=splits)


@pytest.mark.parametrize("skip", [0, 5])
def test_ctrl_c_ends_it_at_once(skip: int) -> None:
    calls = []

    def mapper(key: Any, value: Any) -> Any:
        calls.append(value)
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        run_inline(module(mapper=mapper, reducer=added), ["a", "b"], skip_bad_records=skip)
    assert calls == ["a"]


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    run_inline(Words, ["a x"], params={"raises": "x"}, skip_bad_records=1)
    with pytest.raises(LookupError):
        run_inline(Words, ["a x"], params={"raises": "x"})
    assert list(tmp_path.iterdir()) == []


def test_it_imports_no_twisted() -> None:
    code = """
import sys
from pytxmr.testing import run_inline
class Job:
    def map(self, key, value):
        yield value, 1
    def reduce(self, key, values):
        yield key, sum(values)
assert run_inline(Job, ["a"]).pairs == [("a", 1)]
print([name for name in sys.modules if name.partition(".")[0] == "twisted"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize("example", ["wordcount_batch", "sort_batch"])
def test_a_batch_example_runs_inline(example: str) -> None:
    if not all(map(importlib.util.find_spec, ("numpy", "pyarrow"))):
        pytest.skip("the extra batch is not installed")
    path = Path(__file__).resolve().parent.parent / "examples" / f"{example}.py"
    result = run_inline(path, ["b", "a", "a"], splits=2)
    assert b"".join(result.files) in (b"a\t2\nb\t1\n", b"a\na\nb\n")


# ---- several steps


class Lengths(pytxmr.MapReduce):
    params = {"least": 1}

    def words(self, key: Any, line: str) -> Any:
        for word in line.split():
            pytxmr.counter("words")
            yield word, 1

    def by_length(self, word: str, times: int) -> Any:
        pytxmr.counter("different words")
        if times >= self.params["least"]:
            yield len(word), (word, times)

    def steps(self) -> Any:
        return [
            pytxmr.Step(mapper=self.words, reducer=pytxmr.folds.sum),
            pytxmr.Step(mapper=self.by_length, reducer=pytxmr.folds.max),
        ]


def test_the_steps_of_a_class_run_and_the_counters_are_of_all() -> None:
    result = run_inline(Lengths, ["a bb cc", "a cc"], splits=2, reducers=2)
    assert sorted(result.pairs) == [(1, ("a", 2)), (2, ("cc", 2))]
    assert len(result.parts) == len(result.files) == 2
    assert result.counters == {"words": 5, "different words": 3}
    assert result.totals["map input records"] == 2 + 3
    assert run_inline(Lengths, ["a bb bb"], params={"least": 2}).pairs == [(2, ("bb", 2))]


JOINED = """\
import pytxmr
from pytxmr import pipeline

params = {"how": "inner"}

def named(line):
    name, value = line.split()
    return name, value

ages = pipeline.input("ages").map(named)
towns = pipeline.input("towns", "towns.t?t").map(named)
output = pipeline.input().map(named).join(ages, how=pytxmr.params["how"]).join(towns)
"""


def test_views_have_several_inputs_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text(JOINED)
    (tmp_path / "towns.txt").write_text("ann york\nbob hull\n")
    given = {None: ["ann x", "bob y"], "ages": [(0, "ann 7")]}
    found = run_inline("job.py", given)
    assert found.pairs == [("ann", (("x", "7"), "york"))]
    assert found.files == [b'ann\t[["x", "7"], "york"]\n']
    both = run_inline("job.py", given | {"towns": Path("towns.txt")}, params={"how": "left"})
    assert [key for key, _ in both] == ["ann", "bob"]
    for records, message in (
        (["ann x"], r"nothing is given for input\('ages'\): give a dict with 'ages' in it"),
        (given | {"town": []}, "no input 'town'; did you mean towns?"),
        ({"ages": []}, r"nothing is given for input\(\): give a dict with None in it"),
    ):
        with pytest.raises(BadJob, match=message):
            run_inline("job.py", records)
    with pytest.raises(ValueError, match="unpack") as caught:
        run_inline("job.py", given | {"ages": ["ann 7", "bob"]})
    assert caught.value.__notes__ == ["at records['ages'], offset 6, record 'bob'"]


def test_views_of_an_imported_module_are_a_job_too() -> None:
    words = pipeline.input("words").flat_map(str.split)
    numbered = words.map(lambda word: 10 // len(word) if word != "bad" else int(word)).count()
    job = module(output=numbered.filter(lambda pair: pair[1] > 1).distinct())
    result = run_inline(job, {"words": ["a bb", "bb", "bad"]}, skip_bad_records=1)
    assert result.pairs == [(5, 2)]
    assert [(bad.file, bad.record) for bad in result.bad_records] == [("records['words']", "bad")]
    with pytest.raises(BadJob, match="give a dict, by the names of the inputs: words"):
        run_inline(job, ["a"])
    with pytest.raises(BadJob, match="reducers=0: the job has steps that shuffle"):
        run_inline(job, {"words": []}, reducers=0)


@pytest.mark.parametrize("hooks", [False, True])
def test_the_steps_of_a_class_may_each_have_ranges_of_keys(tmp_path: Path, hooks: bool) -> None:
    class Ordered(pytxmr.MapReduce):
        def __init__(self) -> None:
            self.partition = pytxmr.RangePartitioner()

        def begin(self) -> None:
            self.sign = -1

        def words(self, key: Any, line: str) -> Any:
            yield from ((word, 1) for word in line.split())

        def turned(self, word: str, times: int) -> Any:
            yield times * (self.sign if hooks else -1), word

        def steps(self) -> Any:
            return [
                pytxmr.Step(mapper=self.words, reducer=folds.sum),
                pytxmr.Step(
                    mapper=self.turned,
                    reducer=pytxmr.identity,
                    map_init=self.begin if hooks else None,
                ),
            ]

    result = run_inline(Ordered, ["a b c d a b c a b a"], reducers=2)
    assert result.parts == [[(-4, "a"), (-3, "b")], [(-2, "c"), (-1, "d")]]


def test_views_are_looked_up_in_and_sorted() -> None:
    names = pipeline.input("names").map(lambda line: tuple(line.split("=")))
    found = pipeline.input().flat_map(str.split).key_by(str).join(names, broadcast=True)
    job = module(output=found.values().count().sort_by(lambda pair: pair[1], reverse=True))
    records = {None: ["a b c", "b a a"], "names": ["a=A", "b=B"]}
    result = run_inline(job, records, reducers=2)
    assert result.parts == [[(("a", "A"), 3)], [(("b", "B"), 2)]]
    assert run_inline(job, {**records, "names": ["c=C"]}).pairs == [(("c", "C"), 1)]


def test_views_that_shuffle_nothing_are_put_out_by_the_maps() -> None:
    job = module(output=pipeline.input().map(int))
    assert run_inline(job, ["3", "1"], splits=2).parts == [[(3, None)], [(1, None)]]
    assert run_inline(job, ["3", "1"], reducers=0).files == [b"3\n1\n"]
