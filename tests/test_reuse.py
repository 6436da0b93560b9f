"""`--reuse`: what a kept run has done is not done again, and what comes out is the same."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytxmr
from pytxmr.client import JobOptions, make_specs
from pytxmr.errors import BadInput, BadJob
from pytxmr.runners import inline
from pytxmr.storage.kept import UNUSED_SECONDS

IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent

JOB = """\
import pytxmr
from tools import cleaned

params = {"least": 1}

def helped(word):
    return word.lower()

def mapper(key, value):
    for word in value.split():
        pytxmr.counter("words")
        pytxmr.counter((7, "seven"))
        yield cleaned(helped(word)), 1

def combiner(key, values):
    yield key, sum(values)

def reducer(key, values):
    pytxmr.counter("keys")
    total = sum(values)
    if total >= pytxmr.params["least"]:
        yield key, total
"""
TOOLS = "def cleaned(word):\n    return word.strip('.')\n"


@dataclass
class Done:
    """A run: how many tasks' results were reused, its parts, and what it counted beside that."""

    maps: str
    reduces: str
    parts: list[bytes]
    counters: dict[str, int]


class Desk:
    """A directory with a job, its input and the outputs of its runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runs = 0
        self.write("job.py", JOB)
        self.write("tools.py", TOOLS)
        for name, text in {"a.txt": "B a.\nc\n", "b.txt": "a b b\n", "c.txt": "c\n"}.items():
            self.write(f"in/{name}", text)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.directory / name).read_text()
        assert text.count(old) == 1
        self.write(name, text.replace(old, new))

    def run(self, **options: Any) -> Done:
        """Run it with ``--reuse``, and without; they have to give the same."""
        done = self.run_once(**{"reuse": True} | options)
        again = self.run_once(**options | {"reuse": False, "reuse_dir": None})
        if not options.get("split_bytes"):  # else its splits are others
            shown = [
                {n: c for n, c in one.counters.items() if "job:" in n} for one in (done, again)
            ]
            assert shown[0] == shown[1]
        if not options.get("split_bytes") and options.get("compress") is None:
            assert sorted(b"".join(done.parts)) == sorted(b"".join(again.parts))
        if options.get("reducers") != 0:
            assert done.parts == again.parts
        return done

    def run_once(self, job: str = "job.py", inputs: str = "in", **options: Any) -> Done:
        self.runs += 1
        output = os.fspath(self.directory / f"out{self.runs}")
        paths = tuple(os.fspath(self.directory / name) for name in inputs.split())
        options = {"reducers": 2} | options
        specs = make_specs(JobOptions(os.fspath(self.directory / job), paths, output, **options))
        status = inline.run_all(specs)
        if len(specs) > 1:
            shutil.rmtree(f"{output}.steps")
        counters = status["counters"]
        steps = status.get("steps", [status])
        every = {what: sum(step[what] for step in steps) for what in ("maps", "reduces")}
        return Done(
            f"{counters.pop('maps reused', 'none')} of {every['maps']}",
            f"{counters.pop('reduces reused', 'none')} of {every['reduces']}",
            [path.read_bytes() for path in sorted(Path(output).glob("**/part-*"))],
            counters,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def kept(desk: Desk) -> Desk:
    """One where the job has run."""
    done = desk.run()
    assert (done.maps, done.reduces) == ("0 of 3", "0 of 2")
    return desk


def test_a_job_that_is_run_again_as_it_was_runs_nothing(kept: Desk) -> None:
    done, full = kept.run(), kept.run_once()
    assert (done.maps, done.reduces) == ("3 of 3", "2 of 2")
    assert (full.maps, full.reduces) == ("none of 1", "none of 2")
    assert done.counters["job: words"] == 7
    assert done.counters["job: (7, 'seven')"] == 7
    assert done.counters["job: keys"] == 3
    assert done.counters["map input records"] == full.counters["map input records"] == 4


def test_a_file_that_is_added_is_the_only_one_mapped(kept: Desk) -> None:
    kept.write("in/aa.txt", "d\n")
    assert kept.run().maps == "3 of 4"


def test_of_a_file_that_grows_only_what_is_new_is_mapped(desk: Desk) -> None:
    lines = [f"word{n} and more\n" for n in range(40)]
    for size, maps in ((20, "0 of 4"), (30, "3 of 5"), (30, "5 of 5"), (40, "4 of 7")):
        desk.write("in/a.txt", "".join(lines[:size]))
        done = desk.run(inputs="in/a.txt", split_bytes=100)
        assert done.maps == maps
        assert done.counters["map input records"] == size


def test_an_edited_reducer_maps_nothing(kept: Desk) -> None:
    kept.edit("job.py", "total = sum(values)", "total = 1 + sum(values)")
    done = kept.run()
    assert (done.maps, done.reduces) == ("3 of 3", "0 of 2")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("job.py", "value.split()", "value.split()[:1]"),
        ("job.py", "word.lower()", "word.upper()"),
        ("tools.py", "strip('.')", "strip('!')"),
        ("job.py", 'counter("words")', 'counter("words seen")'),
        ("job.py", "    yield key, sum(values)", "    yield key, len(list(values))"),
    ],
)
def test_an_edit_of_what_the_mapper_can_reach_maps_everything(
    kept: Desk, name: str, old: str, new: str
) -> None:
    kept.edit(name, old, new)
    assert kept.run().maps == "0 of 3"


def test_results_of_other_edits_are_still_there(kept: Desk) -> None:
    kept.edit("job.py", "word.lower()", "word.upper()")
    assert kept.run().maps == "0 of 3"
    kept.edit("job.py", "word.upper()", "word.lower()")
    assert (kept.run().maps, kept.run().reduces) == ("3 of 3", "2 of 2")


def test_options_count_where_they_show(kept: Desk) -> None:
    other = kept.run(params={"least": "2"})
    assert (other.maps, other.reduces) == ("0 of 3", "0 of 2")
    packed = kept.run(compress="gzip")
    assert (packed.maps, packed.reduces) == ("3 of 3", "0 of 2")
    assert kept.run(reducers=3).maps == "0 of 3"
    assert kept.run(memory_bytes=40 << 20).maps == "0 of 3"
    assert kept.run(names={"writer": "json"}).maps == "3 of 3"
    assert kept.run().reduces == "2 of 2"


def test_a_side_file_counts_by_its_content(kept: Desk) -> None:
    def run() -> str:
        return kept.run(files=(os.fspath(path),)).maps

    path = kept.write("stop.txt", "the\n")
    assert (run(), run()) == ("0 of 3", "3 of 3")
    kept.write("stop.txt", "thy\n")
    assert run() == "0 of 3"


def test_neither_time_nor_name_of_a_file_counts_but_what_is_in_it(kept: Desk) -> None:
    first, second = kept.directory / "in" / "a.txt", kept.directory / "in" / "b.txt"
    os.utime(first, (1, 1))
    first.rename(first.with_name("z.txt"))
    assert kept.run().maps == "3 of 3"
    before = second.stat()
    second.write_bytes(second.read_bytes().replace(b"a", b"x"))
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert second.stat().st_size == before.st_size
    assert kept.run().maps == "2 of 3"


def test_what_is_damaged_is_done_again(kept: Desk) -> None:
    files = list(kept.directory.glob(".pytxmr-kept/*/*/result0"))
    assert len(files) == 5
    for path in files:
        data = path.read_bytes()
        path.write_bytes(edited(data, len(data) // 2) if data else b"a")
    done = kept.run()
    assert (done.maps, done.reduces) == ("0 of 3", "0 of 2")
    assert kept.run().maps == "3 of 3"


def test_all_that_is_kept_may_be_removed_at_any_time(kept: Desk) -> None:
    shutil.rmtree(kept.directory / ".pytxmr-kept")
    assert kept.run().maps == "0 of 3"


def test_a_result_that_cannot_be_kept_is_no_failure(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(256):
        desk.write(f".pytxmr-kept/{number:02x}", "in the way")
    assert desk.run().maps == "0 of 3"
    assert capsys.readouterr().err.count("the result is not kept: ") == 5


def test_what_no_run_has_used_for_a_month_goes_when_one_succeeds(kept: Desk) -> None:
    for path in kept.directory.glob(".pytxmr-kept/*/*/answer"):
        os.utime(path, (0, path.stat().st_mtime - UNUSED_SECONDS - 1))
    kept.run(inputs="in/a.txt in/b.txt")
    # Two maps are used, and two reduces are new.
    assert len(list(kept.directory.glob(".pytxmr-kept/*/*"))) == 4


def test_it_is_kept_where_it_is_said(desk: Desk) -> None:
    place = os.fspath(desk.directory / "elsewhere")
    assert desk.run(reuse_dir=place).maps == "0 of 3"
    assert desk.run(reuse_dir=place).maps == "3 of 3"
    assert not (desk.directory / ".pytxmr-kept").exists()


def test_the_manifest_says_what_was_reused(kept: Desk) -> None:
    kept.run_once(reuse=True)
    manifest = json.loads((kept.directory / f"out{kept.runs}" / "_SUCCESS").read_text())
    assert manifest["counters"]["maps reused"] == 3
    assert manifest["counters"]["reduces reused"] == 2


# ---- what is not kept


def test_a_map_that_set_records_aside_is_not_kept(desk: Desk) -> None:
    desk.edit("job.py", "value.split():", 'value.split():\n        assert word != "c"')
    for maps in ("0 of 3", "1 of 3"):
        done = desk.run(skip_bad_records=5)
        assert done.maps == maps
        assert done.counters["bad records"] == 2


def test_a_map_whose_input_is_altered_meanwhile_is_not_kept(desk: Desk) -> None:
    path = desk.write("in.txt", "a b\n")
    source = "def mapper(key, value):\n"
    source += f"    with open({os.fspath(path)!r}, 'r+') as file: file.write('x')\n"
    desk.write("altering.py", source + "    yield value, 1\ndef reducer(k, vs): yield k, 1\n")
    assert desk.run_once("altering.py", "in.txt", reuse=True).maps == "0 of 1"
    desk.write("in.txt", "a b\n")
    assert desk.run_once("altering.py", "in.txt", reuse=True).maps == "0 of 1"
    # It has an "x" at its beginning, before and after.
    assert desk.run_once("altering.py", "in.txt", reuse=True).maps == "0 of 1"
    assert desk.run_once("altering.py", "in.txt", reuse=True).maps == "1 of 1"


# ---- forms of jobs


def test_a_job_without_a_reducer_has_its_parts_kept(desk: Desk) -> None:
    desk.write("job.py", "def mapper(key, value):\n    yield key, value\n")
    assert desk.run(reducers=0).maps == "0 of 3"
    assert desk.run(reducers=0).maps == "3 of 3"
    assert desk.run(reducers=0, compress="gzip").maps == "0 of 3"


def test_the_steps_of_a_job_are_reused_each_for_itself(desk: Desk) -> None:
    source = """\
from pytxmr import pipeline
words = pipeline.input().flat_map(str.split)
sizes = words.count().map(lambda pair: (len(pair[0]), pair[1]))
output = sizes.reduce_by_key(max)
"""
    desk.write("job.py", source)
    first = desk.run(reducers=1)
    assert (first.maps, first.reduces) == ("0 of 4", "0 of 2")
    again = desk.run(reducers=1)
    assert (again.maps, again.reduces) == ("4 of 4", "2 of 2")
    desk.edit("job.py", "(max)", "(min)")
    last = desk.run(reducers=1)
    assert (last.maps, last.reduces) == ("3 of 4", "1 of 2")
    # A first step that comes to the same leaves the second as it was.
    desk.edit("job.py", "str.split", "lambda line: line.strip().split()")
    same = desk.run(reducers=1)
    assert (same.maps, same.reduces) == ("1 of 4", "2 of 2")


def test_what_a_join_looks_up_in_counts_by_its_content(desk: Desk) -> None:
    source = """\
from pytxmr import pipeline
table = pipeline.input("table", "TABLE").map(lambda line: tuple(line.split("=")))
words = pipeline.input().flat_map(str.split).key_by(str.lower)
output = words.join(table, broadcast=True).values().count()
"""
    desk.write("job.py", source.replace("TABLE", f"{desk.directory}/table"))
    for text, maps, reduces in (
        ("a=1\nb=2\n", "0 of 4", "0 of 2"),
        ("a=1\nb=2\n", "4 of 4", "2 of 2"),
        ("a=1\nb=3\n", "0 of 4", "0 of 2"),
    ):
        desk.write("table", text)
        desk.runs = 0  # what is looked up in lies where the one before did
        shutil.rmtree(desk.directory / "out1", ignore_errors=True)
        done = desk.run(reducers=2)
        shutil.rmtree(desk.directory / "out2")
        assert (done.maps, done.reduces) == (maps, reduces)


def test_sources_are_told_apart_where_all_of_the_code_counts(desk: Desk) -> None:
    source = """\
import threading
from pytxmr import pipeline
lock = threading.Lock()  # which cannot be taken apart
def locked(line):
    with lock: return line
lines = {name: pipeline.input(name).map(locked) for name in "xy"}
left = lines["x"].map(lambda line: (line, 1))
output = left.join(lines["y"].map(lambda line: (line, 2)))
"""
    desk.write("job.py", source)
    names = tuple(f"{name}={desk.directory}/in" for name in "xy")

    def run(output: str) -> dict[str, Any]:
        options = JobOptions(f"{desk.directory}/job.py", names, f"{desk.directory}/{output}")
        (spec,) = make_specs(replace(options, reuse=True, reducers=1))
        return inline.run(spec)["counters"]

    assert (run("one")["maps reused"], run("two")["maps reused"]) == (0, 6)
    parts = [(desk.directory / name / "part-00000").read_text() for name in ("one", "two")]
    assert parts[0] == parts[1] == "B a.\t[1, 2]\na b b\t[1, 2]\n" + 4 * "c\t[1, 2]\n"


def test_a_class_with_hooks_is_reused(desk: Desk) -> None:
    source = """\
class Job:
    def map_init(self): self.seen = 0
    def map(self, key, value): self.seen += 1; yield value, 1
    def map_final(self): yield "c", self.seen
    def reduce(self, key, values): yield key, sum(values)
"""
    desk.write("job.py", source)
    assert desk.run(job="job.py:Job", reducers=1).maps == "0 of 3"
    desk.edit("job.py", "sum(values)", "-sum(values)")
    again = desk.run(job="job.py:Job", reducers=1)
    assert (again.maps, again.reduces) == ("3 of 3", "0 of 1")


@pytest.mark.parametrize("serializer", ["msgpack", "pickle"])
def test_the_ranges_of_a_range_partitioner_count(desk: Desk, serializer: str) -> None:
    source = "import pytxmr\npartitioner = pytxmr.RangePartitioner()\n"
    source += f"serializer = {serializer!r}\n"
    desk.write("job.py", source + "def mapper(k, v): yield v, 1\nreducer = pytxmr.identity\n")
    assert desk.run().maps == "0 of 3"
    assert desk.run().maps == "3 of 3"
    desk.write("in/d.txt", "A\n")
    assert desk.run().maps == "0 of 4"


# ---- readers: what the records depend on, and nothing that they do not depend on

ECHO = "def mapper(key, value): yield (str(key), str(value)), 1\n"
ECHO += "def reducer(k, vs): yield k, sum(vs)\n"
ROWS = "".join(f"{n},value {n}\n" for n in range(10, 40))


def edited(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("reader", "mapped"),
    [
        ("text", 1),
        ("bytes", 1),
        ("pairs", 1),
        ("csv", 1),
        ("delimited('e')", 4),
        ("fixed(12)", 4),
        ("csv(multiline=True)", 1),
    ],
)
def test_an_altered_byte_has_mapped_again_what_can_depend_on_it(
    desk: Desk, reader: str, mapped: int
) -> None:
    desk.write("job.py", ECHO)
    data = ROWS.encode()
    pieces = 1 if "multiline" in reader else 4

    def run(data: bytes) -> str:
        desk.write("in.csv", data)
        names = {"reader": reader}
        return desk.run(inputs="in.csv", names=names, split_bytes=100).maps

    assert run(data) == f"0 of {pieces}"
    assert run(data) == f"{pieces} of {pieces}"
    at = data.index(b"value 30") + 6  # in the middle of a piece
    assert run(edited(data, at)) == f"{pieces - mapped} of {pieces}"
    # A record that begins in one piece and ends in the next is of the first alone.
    border = data[:100].rindex(b"\n") + 1
    assert border < 100
    found = run(edited(data, 101))
    assert found in (f"{pieces - mapped} of {pieces}", f"{pieces - 1} of {pieces}")


def test_the_header_of_a_csv_file_counts_for_all_of_its_pieces(desk: Desk) -> None:
    desk.write("job.py", ECHO)

    def run(head: str) -> str:
        desk.write("in.csv", head + ROWS)
        names = {"reader": "csv(header=True)"}
        return desk.run(inputs="in.csv", names=names, split_bytes=100).maps

    assert (run("n,text\n"), run("n,text\n"), run("m,text\n")) == ("0 of 4", "4 of 4", "0 of 4")


def test_a_reader_that_gives_the_path_has_it_count(desk: Desk) -> None:
    desk.write("job.py", ECHO)
    assert desk.run(names={"reader": "whole"}).maps == "0 of 3"
    assert desk.run(names={"reader": "whole"}).maps == "3 of 3"
    (desk.directory / "in" / "a.txt").rename(desk.directory / "in" / "z.txt")
    assert desk.run(names={"reader": "whole"}).maps == "2 of 3"


def test_a_reader_of_the_jobs_own_counts_as_its_mapper_does(desk: Desk) -> None:
    source = ECHO + "def reader(lines):\n    for at, line in lines: yield at, line[1:]\n"
    desk.write("job.py", source)
    assert desk.run(inputs="in/a.txt").maps == "0 of 1"
    assert desk.run(inputs="in/a.txt").maps == "1 of 1"
    desk.edit("job.py", "line[1:]", "line[2:]")
    assert desk.run(inputs="in/a.txt").maps == "0 of 1"


def test_compressed_files_count_by_what_is_in_them(desk: Desk) -> None:
    import bz2

    desk.write("job.py", ECHO)
    random_bytes = random.Random(1).randbytes
    rows = "".join(f"{random_bytes(500).hex()}\n" for _ in range(400))
    desk.write("in.bz2", bz2.compress(rows.encode(), 1))

    def run(name: str) -> str:
        return desk.run_once(inputs=name, split_bytes=50_000, reuse=True).maps

    assert (run("in.bz2"), run("in.bz2")) == ("0 of 5", "5 of 5")
    desk.write("in.gz", gzip.compress(b"a\nb\n", mtime=0))
    assert (desk.run(inputs="in.gz").maps, desk.run(inputs="in.gz").maps) == ("0 of 1", "1 of 1")
    desk.write("in.gz", gzip.compress(b"a\nc\n", mtime=0))
    assert desk.run(inputs="in.gz").maps == "0 of 1"


def test_edited_data_of_a_package_count_as_code(desk: Desk) -> None:
    desk.write("pkg/__init__.py", "")
    desk.write("pkg/list.txt", "a")
    desk.edit(
        "job.py",
        "def helped(word):",
        "import pkgutil, pkg\n\ndef helped(word):\n"
        "    word += str(pkgutil.get_data('pkg', 'list.txt'))",
    )
    assert [desk.run().maps, desk.run().maps] == ["0 of 3", "3 of 3"]
    desk.write("pkg/list.txt", "b")
    assert desk.run().maps == "0 of 3"


BY_NAME = """\
import pytxmr
from pytxmr import writers

outputs = {"short": None, "long": writers.json}

def mapper(key, value):
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
    yield pytxmr.to("long" if len(key) > 2 else "short", key, 1)
"""


def test_outputs_by_name_are_kept_with_the_parts(desk: Desk) -> None:
    desk.write("job.py", BY_NAME)
    done, again = desk.run(), desk.run()
    assert (done.reduces, again.reduces) == ("0 of 2", "2 of 2")
    assert len(again.parts) == 6
    assert again.parts == done.parts
    assert again.counters["output records of long"] == 2
    desk.edit("job.py", "writers.json", "writers.values")
    done = desk.run()
    assert (done.maps, done.reduces) == ("3 of 3", "0 of 2")
    desk.edit("job.py", '{"short"', '{"more": None, "short"')
    assert desk.run().reduces == "0 of 2"


def test_outputs_by_name_are_kept_of_a_job_without_a_reducer(desk: Desk) -> None:
    desk.write("job.py", BY_NAME.replace("def mapper", "def other").replace("reducer", "mapper"))
    desk.edit("job.py", "sum(values)", "values")
    desk.edit("job.py", "len(key)", "len(values)")
    done, again = desk.run(reducers=0), desk.run(reducers=0)
    assert (done.maps, again.maps) == ("0 of 3", "3 of 3")
    assert again.parts == done.parts
    assert len(done.parts) == 9


# ---- what is refused, and what it costs those who do not want it


def test_what_cannot_be_supported_is_refused_before_anything_runs(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="--reuse-dir s3://bucket/kept: .* not a URL"):
        desk.run_once(reuse_dir="s3://bucket/kept")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "loose_words.py").write_text("def cut(line): return line.split()\n")
    monkeypatch.syspath_prepend(tmp_path / "path")
    desk.write("job.py", "from loose_words import cut\n" + ECHO.replace("str(key)", "cut(key)"))
    with pytest.raises(BadJob, match="whether loose_words has changed.*--py-files"):
        desk.run_once(reuse=True)
    desk.write("in.txt", "")
    desk.write("job.py", ECHO)
    with pytest.raises(BadInput, match="cannot make .*in.txt/kept"):
        desk.run_once(reuse_dir=os.fspath(desk.directory / "in.txt" / "kept"))
    assert not list(desk.directory.glob("out*"))


def test_without_it_nothing_of_it_is_imported(desk: Desk) -> None:
    code = """\
import sys
import pytxmr
pytxmr.run("job.py", "in", "out", runner="inline")
import pytxmr.worker, pytxmr.jobwork, pytxmr.joblife
print([name for name in sys.modules if name in {
    "pytxmr.reuse", "pytxmr.job.reach", "pytxmr.job.codedigest", "pytxmr.storage.kept"}])
"""
    env = os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk.directory, env=env, capture_output=True, timeout=60
    )
    assert (desk.directory / "out" / "_SUCCESS").exists(), done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == "[]"


# ---- whatever changes, in whatever order

EDITED_JOBS = [
    ("word.lower()", "word.upper()"),
    ("strip('.')", "strip('b')"),
    ("total = sum(values)", "total = 1 + sum(values)"),
    ("    yield key, sum(values)", "    yield key, -sum(values)"),
]
edits = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 3), st.text("ab .\n", min_size=1, max_size=9)),
    st.tuples(st.just("alter"), st.integers(0, 3), st.integers(0, 40)),
    st.tuples(st.just("remove"), st.integers(0, 3), st.none()),
    st.tuples(st.just("rename"), st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("job"), st.sampled_from(EDITED_JOBS), st.none()),
    st.tuples(st.just("damage"), st.integers(0, 1 << 20), st.none()),
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(edits, min_size=4, max_size=8))
def test_after_any_edits_the_output_is_that_of_a_full_run(changes: list[Any]) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(os, "fsync", lambda fd: None)
        desk = Desk(Path(directory))
        files = desk.directory / "in"
        for what, which, how in changes:
            path = files / f"{which}.txt"
            match what:
                case "append":
                    path.write_text((path.read_text() if path.exists() else "") + how)
                case "alter" if path.exists() and path.stat().st_size:
                    data = path.read_bytes()
                    at = how % len(data)
                    path.write_bytes(data[:at] + b"c" + data[at + 1 :])
                case "remove":
                    path.unlink(missing_ok=True)
                case "rename" if path.exists():
                    path.rename(files / f"{how}.txt")
                case "job":
                    for name in ("job.py", "tools.py"):
                        source = (desk.directory / name).read_text()
                        old, new = which if which[0] in source else which[::-1]
                        desk.write(name, source.replace(old, new))
                case "damage":
                    kept = sorted(desk.directory.glob(".pytxmr-kept/*/*/*"))
                    if kept:
                        damaged = kept[which % len(kept)]
                        data = damaged.read_bytes()
                        damaged.write_bytes(data[:-1] + b"?" if data else b"?")
            desk.run(split_bytes=8)
