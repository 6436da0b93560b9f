"""On Spark a job puts out, to the byte, what it puts out everywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sparkjobs
from processes import EXAMPLES, QUICK_JAVA
from processes import WORDCOUNT as WORDS
from sparkjobs import BAD_LINES, ON_SPARK, left_in, on_spark, specs_of

from pytxmr.errors import AttemptFailed, JobFailed, PytxmrError, WorkerDied
from pytxmr.model import AttemptId, FileRange, InputSplit, TaskId
from pytxmr.runners import inline, spark, sparktasks
from pytxmr.runners.sparkapart import call_apart
from pytxmr.runners.sparktasks import SparkJob

sparkjobs.need_spark()

# The first test starts Java, on a machine that may be busy.
pytestmark = pytest.mark.timeout(300)
DATA = EXAMPLES / "data"
MEMORY_BYTES = 64 << 20


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Iterator[Any]:
    """One application for all tests: to start Java takes seconds."""
    place = tmp_path_factory.mktemp("spark")
    (spec,) = specs_of(WORDS, [DATA / "documents.tsv"], place / "out", memory_bytes=MEMORY_BYTES)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK_JAVA.items():
            patch.setenv(name, value)
        with spark.application(spec, str(place / "log"), "local[2]", []) as made:
            yield made


@pytest.mark.parametrize("name", ON_SPARK)
def test_a_feature_leaves_on_spark_what_it_leaves_in_this_process(name, context, in_this_process):
    in_this_process.assert_left_on_spark(name, context)


# ---- what a job may say

KITCHEN = """
import os
from dataclasses import dataclass

import pytxmr
from besides import doubled

@dataclass
class Seen:
    word: str
    offset: int

codecs = [Seen]
params = {"least": 1}

def partitioner(key, partitions):
    return len(key) % partitions

def map_init():
    with open(pytxmr.side_file("stop")) as file:
        map_init.stop = set(file.read().split())

def mapper(key, value):
    for word in value.split():
        if word in map_init.stop:
            pytxmr.counter("stopped")
        else:
            yield word, Seen(word, doubled(key))

def reducer(key, values):
    values = list(values)
    if len(values) >= pytxmr.params["least"]:
        yield key, [seen.offset for seen in values]

def reduce_init():
    pass

def reduce_final():
    pytxmr.counter("finals")
    yield "~", sorted(os.listdir(pytxmr.side_file("more")))
"""

MAP_ONLY = """
import pytxmr

def mapper(key, value):
    pytxmr.counter("lines")
    yield value.upper(), None
"""

ONCE = """
import os
import pytxmr

def mapper(key, value):
    pytxmr.counter("lines")
    print("mapping", value)
    try:
        os.close(os.open("{place}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        yield value, 1
    else:
        {fault}

def reducer(key, values):
    yield key, sum(values)
"""

#: Of two maps each gives one key half as much again as the planned memory.
LARGE = """
import os
import pytxmr

params = {"bytes": 0}

def mapper(key, value):
    pytxmr.counter(f"process {os.getpid()}")
    for n in range(3 * pytxmr.params["bytes"] // 20_000):
        yield "all", b"%010d" % n * 1000

def reducer(key, values):
    pytxmr.counter(f"process {os.getpid()}")
    yield key, sum(map(len, values))
"""


def peak_bytes(pid: str) -> int:
    """The most that a living process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.M)[1]) << 10


def test_neither_a_maps_pairs_nor_a_partition_nor_a_keys_values_need_fit_into_memory(
    context, tmp_path, monkeypatch
):
    # With another environment Spark starts other processes, with no peaks of earlier jobs.
    monkeypatch.setitem(context.environment, "PYTXMR_TEST_OF", "memory")
    (tmp_path / "job.py").write_text(LARGE)
    (tmp_path / "in.txt").write_text("x\ny\n")
    specs = specs_of(
        tmp_path / "job.py",
        [tmp_path / "in.txt"],
        tmp_path / "out",
        reducers=1,
        split_bytes=2,
        codec="none",
        memory_bytes=MEMORY_BYTES,
        params={"bytes": str(MEMORY_BYTES)},
    )
    status = on_spark(context, specs)
    assert status["maps"] == 2
    assert status["counters"]["map output bytes"] >= 3 * MEMORY_BYTES
    pids = [name.split()[-1] for name in status["counters"] if name.startswith("job: process ")]
    assert max(map(peak_bytes, pids)) < 2 * MEMORY_BYTES


def test_all_that_goes_with_a_job_reaches_its_tasks(context, tmp_path):
    (tmp_path / "besides.py").write_text("def doubled(n):\n    return 2 * n\n")
    (tmp_path / "stop.txt").write_text("the a\n")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("one", "1")
        archive.writestr("two", "2")
    (tmp_path / "job.py").write_text(KITCHEN)
    (tmp_path / "in.txt").write_text("the ship a ship\nand a ship\nthe end\n" * 50)
    found = []
    for place, run in (("inline", inline.run_all), ("spark", lambda s: on_spark(context, s))):
        specs = specs_of(
            tmp_path / "job.py",
            [tmp_path / "in.txt"],
            tmp_path / place,
            params={"least": "60"},
            split_bytes=900,
            files=(f"{tmp_path}/stop.txt#stop",),
            archives=(f"{tmp_path}/more.zip#more",),
            codec="zstd",
            compress="gzip",
            memory_bytes=32 << 20,
        )
        status = run(specs)
        assert status["counters"]["job: stopped"] == 200
        assert status["counters"]["job: finals"] == 3
        found.append(left_in(tmp_path / place))
    assert found[0] == found[1]
    assert "part-00002.gz" in found[0]


@pytest.mark.parametrize("text", ["one\ntwo\nthree\n", ""])
def test_a_job_without_a_reducer_writes_a_part_for_each_split(text, context, tmp_path):
    (tmp_path / "job.py").write_text(MAP_ONLY)
    (tmp_path / "in.txt").write_text(text)
    found = []
    for place, run in (("inline", inline.run_all), ("spark", lambda s: on_spark(context, s))):
        run(
            specs_of(
                tmp_path / "job.py",
                [tmp_path / "in.txt"],
                tmp_path / place,
                reducers=0,
                split_bytes=4,
            )
        )
        found.append(left_in(tmp_path / place))
    assert found[0] == found[1]


def test_bad_records_are_set_aside_and_those_that_kill_are_passed_over(context, tmp_path):
    (tmp_path / "job.py").write_text(BAD_LINES)
    (tmp_path / "in.txt").write_text("1\n2\nthree\n4\n13\n6\n")
    specs = specs_of(
        tmp_path / "job.py", [tmp_path / "in.txt"], tmp_path / "out", skip_bad_records=2
    )
    status = on_spark(context, specs)
    left = left_in(tmp_path / "out")
    lines = b"".join(left[f"part-0000{n}"] for n in range(3)).splitlines()
    assert sorted(lines) == [b"0\t6", b"1\t5", b"2\t2"]
    bad = [json.loads(line) for line in left["_bad/Map001.jsonl"].splitlines()]
    assert [one["record"] for one in bad] == ["three", "13"]
    assert status["counters"]["bad records"] == 2
    assert status["counters"]["job: seen"] == 4


def test_more_bad_records_than_allowed_fail_the_job(context, tmp_path):
    (tmp_path / "job.py").write_text(BAD_LINES)
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    specs = specs_of(
        tmp_path / "job.py",
        [tmp_path / "in.txt"],
        tmp_path / "out",
        split_bytes=4,
        skip_bad_records=1,
    )
    with pytest.raises(JobFailed, match="2 bad records are more than the 1 that may be skipped"):
        on_spark(context, specs)
    assert not (tmp_path / "out").exists()


# ---- what goes wrong


def once(tmp_path: Path, fault: str, **options: Any) -> Any:
    (tmp_path / "job.py").write_text(ONCE.format(place=tmp_path / "first", fault=fault))
    (tmp_path / "in.txt").write_text("a\nb\na\n")
    return specs_of(tmp_path / "job.py", [tmp_path / "in.txt"], tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("raise ValueError(value)", {}),
        ("os._exit(1)", {}),
        ("import time; time.sleep(600)", {"task_timeout": 1}),
    ],
    ids=["raises", "dies", "hangs"],
)
def test_a_task_that_fails_once_is_tried_again_and_counts_once(fault, options, context, tmp_path):
    status = on_spark(context, once(tmp_path, fault, **options))
    assert status["counters"]["job: lines"] == 3
    assert status["counters"]["map input records"] == 3
    found = left_in(tmp_path / "out")
    parts = b"".join(data for name, data in found.items() if name.startswith("part-"))
    assert sorted(parts.splitlines()) == [b"a\t2", b"b\t1"]
    assert status["failures"] == 1


#: The first that reduces takes away what Spark has shuffled, so that Spark maps again for the rest.
LOSING = """
import glob
import os
import tempfile
import pytxmr

def mapper(key, value):
    pytxmr.counter("again" if os.path.exists("{place}/lost") else "at first")
    with tempfile.NamedTemporaryFile(dir="{place}", prefix="mapped", delete=False):
        yield value, 1

def reducer(key, values):
    try:
        os.close(os.open("{place}/lost", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        for path in glob.glob(os.environ["SPARK_LOCAL_DIRS"] + "/*/shuffle_*"):
            os.unlink(path)
    yield key, sum(values)
"""


def test_maps_that_spark_runs_again_as_their_output_is_lost_count_once(context, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "job.py").write_text(LOSING.format(place=place))
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(10, 40)))
    specs = specs_of(
        tmp_path / "job.py", [tmp_path / "in.txt"], tmp_path / "out", split_bytes=18, reducers=4
    )
    counters = on_spark(context, specs)["counters"]
    mapped = len(list(place.glob("mapped*")))
    assert mapped > 30
    # Of what some reduces read at first and others again, each map counts as one of them read it.
    assert counters.pop("job: at first") + counters.pop("job: again") == 30
    parts = {file: data for file, data in left_in(tmp_path / "out").items() if "part-" in file}
    there = inline.run_all([replace(specs[0], output=str(tmp_path / "inline"))])["counters"]
    assert there.pop("job: again") == 30
    assert counters == there
    assert parts.items() <= left_in(tmp_path / "inline").items()


def test_a_job_that_fails_shows_the_users_own_error_and_leaves_nothing(context, tmp_path):
    specs = once(tmp_path, f"os.unlink('{tmp_path}/first'); raise ValueError(value)")
    with pytest.raises(JobFailed) as raised:
        on_spark(context, specs)
    details = raised.value.details
    assert raised.value.message == "Job001: Map001 failed 4 times: the mapper raised ValueError: a"
    assert details["task"] == "Map001"
    assert details["split"] == f"{tmp_path}/in.txt, bytes 0 to 6"
    assert details["where"] == f"{tmp_path}/in.txt, offset 0, record 'a'"
    assert details["traceback"].splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/job.py", line 13, in mapper',
    ]
    assert details["log"] == "mapping a\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "job.py"]


def test_what_no_other_try_can_mend_is_not_tried_again(context, tmp_path):
    specs = once(tmp_path, "yield value, object()")
    with pytest.raises(JobFailed, match="^Job001: Map001 failed once: .*a object cannot"):
        on_spark(context, specs)


def test_a_job_whose_process_dies_again_and_again_names_the_record(context, tmp_path):
    specs = once(tmp_path, f"os.unlink('{tmp_path}/first'); os._exit(1)")
    with pytest.raises(JobFailed) as raised:
        on_spark(context, specs)
    assert raised.value.message == (
        "Job001: Map001 failed 4 times: the worker process exited with status 1"
    )
    assert raised.value.details["where"] == f"{tmp_path}/in.txt, offset 0, record 'a'"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (signal.SIGSEGV, "the worker process was killed by signal 11 (SIGSEGV)"),
        (3, "the worker process exited with status 3"),
        (0, "the worker process exited with status 0 in the middle of the attempt"),
    ],
)
def test_how_a_process_of_its_own_has_died_is_told(status, said, tmp_path):
    end = (signal.raise_signal,) if isinstance(status, signal.Signals) else (os._exit,)
    with pytest.raises(WorkerDied) as raised:
        call_apart(str(tmp_path / "result"), {}, *end, int(status))
    assert raised.value.message == said


def test_a_process_of_its_own_gives_what_its_function_does(tmp_path):
    assert call_apart(str(tmp_path / "result"), {}, divmod, 7, 3) == (2, 1)


def test_a_record_that_is_passed_over_is_not_blamed_again(tmp_path, monkeypatch):
    (spec,) = once(tmp_path, "pass", skip_bad_records=5)
    note, tried = tmp_path / "note", []
    split = InputSplit((FileRange(f"{tmp_path}/in.txt", 0, 6),))
    job = SparkJob(spec, "owner", 1).to_plain()
    mapping = sparktasks._Mapping(job, split, AttemptId(TaskId("map", 0), 7), "", str(note))

    def die(result: str, env: Any, function: Any, mapping: Any) -> None:
        tried.append((mapping.careful, mapping.skip))
        note.write_bytes(struct.pack("<QI", 3, 5) + b"there")
        raise WorkerDied("the worker process died")

    monkeypatch.setattr(sparktasks, "call_apart", die)
    with pytest.raises(WorkerDied) as raised:
        sparktasks._map_apart(mapping, str(tmp_path))
    assert tried == [(False, ()), (True, (3,))]
    assert raised.value.details["where"] == "there"


def test_an_executor_that_does_not_see_the_output_says_so(tmp_path):
    job = SparkJob(specs_of(WORDS, [DATA / "documents.tsv"], tmp_path / "out")[0], "owner", 1)
    with pytest.raises(AttemptFailed, match="executors must see the output directory") as raised:
        sparktasks.check_place(job)
    assert raised.value.details["final"]
    job.output.reserve()
    sparktasks.check_place(job)


def test_reduces_that_have_read_different_runs_of_a_map_fail_the_job(tmp_path):
    """Which Spark may do if an executor is lost, and a mapper gives now this and now that."""
    (spec,) = once(tmp_path, "pass")
    done = {"attempt": "Reduce000.1", "size_bytes": 0, "digest": "", "maps": {}, "outputs": ()}
    same = [done | {"runs": {0: "x", 1: "y"}}, done | {"runs": {1: "y"}}]
    told: dict[str, dict[str, int]] = {"Reduce000.1": {}}
    assert len(spark.counted(same, told, spec, 2)[0]) == 2
    with pytest.raises(PytxmrError, match=r"put out something else than before.*\(Map002\)"):
        spark.counted([*same, done | {"runs": {1: "z"}}], told, spec, 3)


def test_counters_are_those_of_the_attempts_that_results_name(tmp_path):
    """Not of maps that ran again, or twice; and one that is missing fails the job."""
    (spec,) = once(tmp_path, "pass")
    done = {"size_bytes": 0, "digest": "", "outputs": (), "runs": {}}
    results = [
        done | {"attempt": "Reduce000.5", "maps": {1: {"attempt": "Map002.4", "first_bad": {}}}},
        done | {"attempt": "Reduce001.9", "maps": {0: {"attempt": "Map001.1", "first_bad": {}}}},
    ]
    told = {name: {"lines": n} for n, name in enumerate(("Map001.1", "Map002.2", "Map002.4"), 1)}
    told |= {"Reduce000.5": {"keys": 10}, "Reduce001.9": {"keys": 20}, "Reduce001.8": {"keys": 40}}
    assert spark.counted(results, told, spec, 2)[2] == {"lines": 4, "keys": 30}
    del told["Map001.1"]
    with pytest.raises(PytxmrError, match=r"Spark has lost what Map001\.1 has counted"):
        spark.counted(results, told, spec, 2)


def test_progress_is_told_as_of_other_runners(context, tmp_path):
    told: list[dict[str, Any]] = []
    specs = specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], tmp_path / "out")
    last = on_spark(context, specs, lambda status: told.append(dict(status)))
    phases = list(dict.fromkeys(status["phase"] for status in told))
    assert phases[0] == "mapping"
    assert phases[-2:] == ["committing", "ended"]
    assert last == told[-1]
    assert last["outcome"] == "succeeded"
    assert (last["maps_done"], last["reduces_done"]) == (last["maps"], last["reduces"])
    here = []
    inline.run_all(
        specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], tmp_path / "in"), here.append
    )
    assert here[-1].keys() == last.keys()
