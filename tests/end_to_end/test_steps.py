"""Jobs of several steps, run as users run them."""

from __future__ import annotations

import gzip
import re
import signal
import sys
from pathlib import Path

import pytest
from in_process import inline, typed
from processes import PYTXMR, Cluster, Gate, Site

TEXT = "a b\nbb a\nccc bb a\n"

#: Three steps: two counts, and a join of an input with the second of them.
JOB = """\
import pytxmr
from pytxmr import pipeline

params = {"least": 1, "gate": ""}

def named(line):
    if pytxmr.params["gate"]:
        gate(pytxmr.params["gate"])
    pytxmr.counter("lengths")
    length, name = line.split()
    return int(length), name

words = pipeline.input().flat_map(str.split)
times = words.count().filter(lambda pair: pair[1] >= pytxmr.params["least"])
lengths = times.map(lambda pair: len(pair[0])).count()
names = pipeline.input("names").map(named)
output = lengths.join(names, how="left")
unused = words.distinct()
"""
NAMES = "1 one\n2 two\n"


@pytest.fixture
def job(site: Site) -> Path:
    site.write("in.txt", TEXT)
    site.write("names.txt", NAMES)
    return site.write("job.py", Gate.SOURCE + JOB)


def lines(site: Site, output: str = "out") -> list[str]:
    return sorted(b"".join(site.parts(output)).decode().splitlines())


RESULT = ['1\t[2, "one"]', '2\t[1, "two"]', "3\t[1, null]"]


def test_steps_run_one_after_the_other_and_leave_only_the_result(site: Site, job: Path) -> None:
    before = site.listing()
    done = site.run(job, "in.txt", "names=names.txt", "--reducers", 2)
    assert done.status == 0, done.err
    assert lines(site) == RESULT
    made = {"out", "out/_SUCCESS", "out/part-00000", "out/part-00001"}
    assert site.listing() - before == made
    assert re.fullmatch(r"(step (\d) of 3: Job00\2 .*\n)*", done.err)
    assert done.out.startswith("3 steps succeeded in ")
    table = re.findall(r"^ +(\d) +Job00\1 +[\d.]+ +\d +2 +(\d+) +(\d+) +(\d+)$", done.out, re.M)
    assert [row[1] for row in table] == ["3", "4", "5"]
    assert [row[3] for row in table] == ["4", "3", "3"]
    assert re.search(r"^  counter +lengths: 2$", done.out, re.M)
    assert done.out.endswith(f"  result    {site.directory}/out\n")


def test_what_steps_leave_for_each_other_stays_if_asked_for(site: Site, job: Path) -> None:
    done = inline(site, job, "in.txt", "names=names.txt", "--keep-steps", "-D", "least=2")
    assert done.status == 0, done.err
    assert lines(site) == ['1\t[1, "one"]', '2\t[1, "two"]']
    kept = sorted(path.name for path in (site.directory / "out.steps").iterdir())
    assert kept == ["1", "2"]
    assert (site.directory / "out.steps" / "2" / "_SUCCESS").exists()
    again = inline(site, job, "in.txt", "names=names.txt", output="out/")
    assert again.status == 2
    (site.directory / "out").rename(site.directory / "moved")
    again = inline(site, job, "in.txt", "names=names.txt")
    assert again.status == 2
    assert "out.steps, where the steps' results go, exists already" in again.err


def test_a_job_whose_steps_are_kept_goes_on_with_the_one_that_failed(site: Site, job: Path) -> None:
    site.write("names.txt", "1 one\n2\n")
    done = inline(site, job, "in.txt", "names=names.txt", "--keep-steps", "-D", "least=2")
    assert done.status == 1
    assert done.err.endswith("; --from 3 goes on with what the steps before it have stored\n")
    assert not (site.directory / "out").exists()
    site.write("names.txt", NAMES)
    program = site.write(
        "program.py",
        """\
import pytxmr

pytxmr.run("job.py", "names=names.txt", "out", from_=3, params={"least": 2})
""",
    )
    assert site.start(sys.executable, program).ended(60) == 0
    assert lines(site) == ['1\t[1, "one"]', '2\t[1, "two"]']
    done = inline(site, job, "in.txt", "--steps", "out.steps", "--only", "lengths", output="other")
    assert done.status == 0, done.err
    assert "  result    " + str(site.directory / "out.steps" / "2") in done.out
    assert sorted(path.name for path in (site.directory / "out.steps").iterdir()) == ["1", "2"]


def test_a_first_step_that_fails_leaves_nothing_also_if_steps_are_kept(
    site: Site, job: Path
) -> None:
    source = "from pytxmr import pipeline\noutput = pipeline.input().map(int).count().count()\n"
    job = site.write("bad.py", source)
    before = site.listing()
    done = inline(site, job, "in.txt", "--keep-steps")
    assert done.status != 0
    assert "--from" not in done.err
    assert site.listing() == before


def test_a_step_that_fails_ends_the_job_and_leaves_nothing(site: Site, job: Path) -> None:
    site.write("names.txt", "1 one\n2\n")
    before = site.listing()
    done = site.run(job, "in.txt", "names=names.txt")
    assert done.status == 1
    assert "    length, name = line.split()\n" in done.err
    assert f"at {site.directory}/names.txt, offset 6, record '2'\n" in done.err
    assert "pytxmr: step 3 of 3: Job003: Map00" in done.err
    assert "/pytxmr/" not in done.err
    assert done.out == ""
    assert site.listing() == before


def test_bad_records_that_a_step_has_set_aside_stay(site: Site, job: Path) -> None:
    site.write("in.txt", TEXT)
    site.write("names.txt", NAMES)
    job = site.write(
        "bad.py",
        """\
from pytxmr import pipeline

names = pipeline.input().map(lambda line: int(line.split()[0]))
output = names.count().map(str).distinct()
""",
    )
    words = [job, "names.txt", "in.txt"]
    assert inline(site, *words).status == 1
    done = inline(site, *words, "--skip-bad-records", 5)
    assert done.status == 0, done.err
    assert lines(site) == ["(1, 1)", "(2, 1)"]
    place = site.directory / "out.steps" / "1"
    assert f"  set aside 3 bad records, in {place / '_bad'}\n" in done.out
    assert [path.name for path in place.iterdir()] == ["_bad"]


def test_an_interrupt_in_a_later_step_ends_the_job_and_leaves_nothing(
    site: Site, job: Path, gate: Gate
) -> None:
    before = site.listing()
    words = ["run", job, "in.txt", "names=names.txt", "-o", "out", "--workers", 1]
    process = site.start(*PYTXMR, *words, "-D", f"gate={gate.directory}")
    gate.reached()
    process.send(signal.SIGINT)
    assert process.ended(10) == 130
    assert process.err.endswith("pytxmr: Job003 was killed: interrupted\n")
    assert site.listing() == before


def test_a_class_has_steps_that_hand_on_pairs(site: Site) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        """\
import pytxmr
from pytxmr import folds

class Lengths(pytxmr.MapReduce):
    params = {"shout": False}

    def words(self, key, line):
        for word in line.split():
            yield word.upper() if self.params["shout"] else word, 1

    def by_length(self, word, times):
        yield len(word), (word, times)

    def listed(self, length, words):
        yield length, sorted(words)

    def steps(self):
        return [
            pytxmr.Step(mapper=self.words, reducer=folds.sum),
            pytxmr.Step(mapper=self.by_length, reducer=self.listed),
        ]
""",
    )
    done = inline(site, f"{job}:Lengths", "in.txt", "--reducers", 1, "-D", "shout=yes")
    assert done.status == 2
    done = inline(site, f"{job}:Lengths", "in.txt", "--reducers", 1, "-D", "shout=true")
    assert done.status == 0, done.err
    assert lines(site) == ['1\t[["A", 3], ["B", 1]]', '2\t[["BB", 2]]', '3\t[["CCC", 1]]']
    planned = typed(site, "plan", f"{job}:Lengths", "in.txt")
    assert planned.out == (
        "step 1 of 2\n"
        "  reads     in.txt: 1 file, 18 bytes\n"
        "  maps      words\n"
        "  shuffles  by key; folds.sum beside the mapper\n"
        "  reduces   folds.sum\n"
        "  writes    pairs, for step 2\n"
        "step 2 of 2\n"
        "  reads     pairs, which step 1 has written\n"
        "  maps      by_length\n"
        "  shuffles  by key\n"
        "  reduces   listed\n"
        "  writes    pairs, the result, as text\n"
    )


PRICES = """\
item,price
rope,4
tar,7
rope,5
"""


def test_the_first_step_reads_and_the_last_writes_as_the_options_say(site: Site) -> None:
    site.write("prices.csv", PRICES)
    job = site.write(
        "job.py",
        """\
from pytxmr import folds, pipeline

rows = pipeline.input()
dearest = rows.map(lambda row: (row["item"], int(row["price"]))).reduce_by_key(folds.max)
output = dearest.map(lambda pair: (pair[1] // 7, pair[0])).group()
""",
    )
    words = ["--reader", "csv(header=True)", "--writer", "json", "--compress", "gzip"]
    done = inline(site, job, "prices.csv", "--reducers", 1, "--keep-steps", *words)
    assert done.status == 0, done.err
    part = site.directory / "out" / "part-00000.gz"
    assert gzip.decompress(part.read_bytes()) == b'[0, ["rope"]]\n[1, ["tar"]]\n'
    assert (site.directory / "out.steps" / "1" / "part-00000").exists()
    done = inline(site, job, "prices.csv", "--reader", "cvs", output="other")
    assert done.status == 2
    assert "has no cvs(); did you mean csv?" in done.err


def test_all_steps_have_the_job_s_modules_side_files_and_types(site: Site) -> None:
    site.write("in.txt", TEXT)
    site.write("short.txt", "a\n")
    site.write("money.py", "class Money:\n    def __init__(self, n):\n        self.n = n\n")
    job = site.write(
        "job.py",
        """\
import pytxmr
from money import Money
from pytxmr import pipeline

codecs = {Money: (lambda money: money.n, Money)}

def stop():
    with open(pytxmr.side_file("short.txt")) as file:
        return file.read().split()

words = pipeline.input().flat_map(str.split)
paid = words.map(lambda word: (word, Money(len(word)))).group().filter(lambda p: p[0] not in stop())
most = paid.map(lambda pair: (pair[1][0].n, pair[1][0])).group()
output = most.map(lambda pair: (pair[0], [money.n for money in pair[1]], "a" in stop()))
""",
    )
    done = inline(site, job, "in.txt", "--file", "short.txt", "--reducers", 1)
    assert done.status == 0, done.err
    assert lines(site) == ["[1, [1], true]", "[2, [2], true]", "[3, [3], true]"]


def test_a_job_that_pickles_its_values_does_so_between_steps(site: Site) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        """\
import re
from pytxmr import pipeline

serializer = "pickle"
words = pipeline.input().flat_map(str.split)
patterns = words.map(lambda word: (word, re.compile(word))).group()
output = patterns.map(lambda pair: (len(pair[0]), pair[1])).group(
    lambda size, lists: [(size, [pattern.pattern for some in lists for pattern in some])]
)
""",
    )
    done = inline(site, job, "in.txt", "--reducers", 1)
    assert done.status == 0, done.err
    assert lines(site) == ['1\t["a", "a", "a", "b"]', '2\t["bb", "bb"]', '3\t["ccc"]']


def test_a_view_without_a_shuffle_is_written_by_the_maps_in_the_order_of_the_input(
    site: Site,
) -> None:
    site.write("in.txt", TEXT)
    source = "from pytxmr import pipeline\noutput = pipeline.input().flat_map(str.split)\n"
    job = site.write("job.py", source)
    done = inline(site, job, "in.txt")
    assert done.status == 0, done.err
    assert b"".join(site.parts()) == b"a\nb\nbb\na\nccc\nbb\na\n"
    planned = typed(site, "plan", job, "in.txt").out
    assert "shuffles" not in planned
    for option, message in (
        (["--reducers", 2], "--reducers 2: "),
        (["--keep"], "a job that shuffles nothing has no spills"),
    ):
        done = site.run(job, "in.txt", *option, output="other")
        assert done.status == 2
        assert message in done.err


HOOKS = """\
import pytxmr
from pytxmr import folds

class Counts(pytxmr.MapReduce):
    def begin(self):
        self.counted = {}

    def count(self, key, line):
        for word in line.split():
            self.counted[word] = self.counted.get(word, 0) + 1
        return ()

    def counts(self):
        yield from self.counted.items()

    def shout(self, word, times):
        yield word.upper(), times

    def steps(self):
        return [
            pytxmr.Step(
                mapper=self.count, map_init=self.begin, map_final=self.counts, reducer=folds.sum
            ),
            pytxmr.Step(mapper=self.shout),
        ]
"""


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_steps_of_a_class_have_hooks_and_need_no_reducer(site: Site, runner: str) -> None:
    site.write("in.txt", TEXT * 9)
    job = site.write("job.py", HOOKS)
    words = ["--runner", runner, "--split-size", 30]
    done = site.pytxmr("run", f"{job}:Counts", "in.txt", "-o", "out", "--reducers", 1, *words)
    assert done.status == 0, done.err
    assert b"".join(site.parts()) == b"A\t27\nB\t9\nBB\t18\nCCC\t9\n"
    assert re.search(r"^ +2 +Job002 +[\d.]+ +\d+ +0 +4 +0 +4$", done.out, re.M)
    assert not (site.directory / "out.steps").exists()


def test_a_step_that_fails_inline_is_named_and_leaves_nothing(site: Site, job: Path) -> None:
    site.write("names.txt", "1 one\n2\n")
    before = site.listing()
    words = [job, "in.txt", "names=names.txt"]
    done = inline(site, *words)
    assert done.status == 1
    assert "    length, name = line.split()\n" in done.err
    assert "pytxmr: step 3 of 3: Job003: Map00" in done.err
    assert site.listing() == before


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_a_program_runs_steps_as_one_job(site: Site, job: Path, runner: str) -> None:
    program = site.write(
        "program.py",
        f"""\
import pytxmr

told = []
result = pytxmr.run(
    "job.py", ["in.txt", "names=names.txt"], "out", runner={runner!r}, reducers=1,
    progress=told.append,
)
steps = [step["job"] for step in told[-1]["steps"]]
print(result.counters, result.totals["spilled records"], steps)
print(dict(result))
""",
    )
    done = site.start(sys.executable, program)
    assert done.ended(60) == 0, done.err
    assert done.out == (
        "{'lengths': 2} 12 ['Job001', 'Job002', 'Job003']\n"
        "{'1': '[2, \"one\"]', '2': '[1, \"two\"]', '3': '[1, null]'}\n"
    )
    assert not (site.directory / "out.steps").exists()


def test_the_plan_shows_views_and_what_each_step_reads_shuffles_and_writes(
    site: Site, job: Path
) -> None:
    planned = typed(site, "plan", job, "in.txt", "names=names.txt")
    assert planned.status == 0, planned.err
    at = {name: JOB[: JOB.index(f"\n{name} =")].count("\n") + 2 for name in ("times", "lengths")}
    first = Gate.SOURCE.count("\n")
    shown = planned.out
    for name, line in at.items():
        shown = shown.replace(f"lambda in line {first + line}", f"lambda of {name}")
    assert shown == (
        "words    =  pipeline.input().flat_map(split)\n"
        "times    =  words.count().filter(lambda of times)\n"
        "lengths  =  times.map(lambda of lengths).count()\n"
        "names    =  pipeline.input('names').map(named)\n"
        "output   =  lengths.join(names, how='left')\n"
        "not used: unused\n"
        "\n"
        "step 1 of 3\n"
        "  reads     in.txt: 1 file, 18 bytes\n"
        "  maps      flat_map(split)\n"
        "  shuffles  by element; folds.count beside the mapper\n"
        "  reduces   count() → filter(lambda of times) → map(lambda of lengths)\n"
        "  writes    times.map(lambda of lengths), for step 2\n"
        "step 2 of 3\n"
        "  reads     times.map(lambda of lengths), which step 1 has written\n"
        "  shuffles  by element; folds.count beside the mapper\n"
        "  reduces   count()\n"
        "  writes    lengths, for step 3\n"
        "step 3 of 3\n"
        "  reads     lengths, which step 2 has written\n"
        "  reads     names=names.txt: 1 file, 12 bytes\n"
        "  maps      map(named) = names\n"
        "  shuffles  by key\n"
        "  reduces   join(how='left')\n"
        "  writes    output, the result, as text\n"
    )
    assert not (site.directory / "out").exists()


def test_views_may_be_made_by_parameters(site: Site) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        """\
import pytxmr
from pytxmr import pipeline

params = {"n": 1}

def shouting(pairs):
    for word, times in pairs:
        yield f"{word}={times}!\\n"

words = pipeline.input().flat_map(str.split)
output = words.count().top(pytxmr.params["n"])
""",
    )
    done = inline(site, job, "in.txt", "-D", "n=2", "--writer", "shouting")
    assert done.status == 0, done.err
    assert site.parts() == [b"a=3!\nbb=2!\n"]


def test_inputs_have_names_defaults_and_readers_of_their_own(site: Site) -> None:
    for name in ("one", "two", "three", "four"):
        site.write(f"{name}.txt", f"{name}\n")
    job = site.write(
        "job.py",
        """\
from pytxmr import pipeline

def reader(lines):
    for offset, line in lines:
        yield "left out", ("job", line)

def own(lines):
    for offset, line in lines:
        yield "left out", ("own", line)

plain = pipeline.input()
named = pipeline.input("named", reader=own)
usual = pipeline.input("usual", "four.t?t")
output = plain.union(named, usual).map(repr).distinct()
""",
    )
    done = inline(site, job, "one.txt", "named=two.txt", "named=thr*.txt", "--reducers", 1)
    assert done.status == 0, done.err
    assert lines(site) == [
        "('job', b'four')",
        "('job', b'one')",
        "('own', b'three')",
        "('own', b'two')",
    ]
    done = inline(site, job, "one.txt", "named=two.txt", "usual=three.txt", output="other")
    assert done.status == 0, done.err
    assert lines(site, "other") == ["('job', b'one')", "('job', b'three')", "('own', b'two')"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.txt"], "nothing is given for input('names'): add names=PATTERN"),
        (["names=names.txt"], "nothing is given for input(): add INPUT"),
        (["in.txt", "names=gone.txt"], "gone.txt: No such file or directory"),
        (["in.txt", "nams=names.txt"], "the job has no such input; did you mean names?"),
        (["in.txt", "names=names.txt", "--mapper", "words"], "has views, which leave no place"),
        (["in.txt", "names=names.txt", "--reducers", 0], "job.py has steps that shuffle"),
        (["in.txt", "names=names.txt", "--writer", "word"], "has no word()"),
        (["in.txt", "names=names.txt", "-D", "leats=2"], "did you mean least?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    site: Site, job: Path, words: list[str], message: str
) -> None:
    before = site.listing()
    done = inline(site, job, *words)
    assert done.status == 2
    assert message in done.err
    assert "step 1" not in done.err
    assert site.listing() == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lines = pipeline.input()\noutptu = lines.count()", "; did you mean outptu?"),
        ("lines = pipeline.input()", "has no view output, the job's result; its views are lines"),
        ("output = pipeline.input().cuont()", "a view has no cuont; did you mean count?"),
        ("output = pipeline.input('one').count()", "no such input; its inputs are one="),
        ("output = pipeline.input().count()\npartitioner = max", "no place for a partitioner"),
        ("output = pipeline.input().count()\ndef map_init(): ...", "no place for a map_init"),
        (
            "from pytxmr import writers\noutput = pipeline.input(reader=writers.csv).count()",
            "writers.csv is no reader",
        ),
    ],
)
def test_a_module_whose_views_are_wrong_is_refused(site: Site, source: str, message: str) -> None:
    site.write("in.txt", TEXT)
    job = site.write("job.py", f"from pytxmr import pipeline\n{source}\n")
    done = inline(site, job, "in.txt")
    assert done.status == 2
    assert message in done.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("return [self.words]", "is no pytxmr.Step"),
        ("return []", "Job.steps() is no list of pytxmr.Step"),
        (
            "return [pytxmr.Step(mapper='words')]",
            "steps() raised TypeError: Step(mapper=...) is str",
        ),
        (
            "return [pytxmr.Step(), pytxmr.Step(mapper=self.lines)]",
            "a batch mapper reads the input",
        ),
        (
            "self.map_final = self.words\n        return [pytxmr.Step(self.words)]",
            "has map_final(), which is of no step; say Step(..., map_final=self.map_final)",
        ),
        (
            "return [pytxmr.Step(mapper=self.words, map_init=self.words)]",
            "map_init() is called without arguments",
        ),
        ("return [pytxmr.Step(reduce_init=self.words)]", "a step without a reducer has no reduce_"),
    ],
)
def test_a_class_whose_steps_are_wrong_is_refused(site: Site, source: str, message: str) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        f"""\
import pytxmr

class Job(pytxmr.MapReduce):
    def words(self, key, line): ...

    @pytxmr.batch
    def lines(self, offset, lines): ...

    def steps(self):
        {source}
""",
    )
    done = inline(site, f"{job}:Job", "in.txt")
    assert done.status == 2
    assert message in done.err


@pytest.mark.daemons
def test_a_cluster_runs_the_steps_without_the_client(
    site: Site, job: Path, cluster: Cluster, gate: Gate
) -> None:
    site.env |= cluster.client_env
    words = ["in.txt", "names=names.txt", "--output", "out", "--no-speculation"]
    queued = site.pytxmr("submit", job, *words, "-D", f"gate={gate.directory}")
    assert re.fullmatch(r"Job\d+\n", queued.out)
    whole = queued.out.strip()
    gate.reached()
    steps = re.findall(
        r"^(Job\d+) +(\w+) .* job\.py, step (\d) of 3 ", site.pytxmr("jobs").out, re.M
    )
    states = [(state, step) for _, state, step in steps]
    assert states == [("succeeded", "1"), ("succeeded", "2"), ("mapping", "3")]
    assert steps[-1][0] == whole
    done = site.pytxmr("wait", steps[0][0])
    assert done.out.startswith(f"{steps[0][0]} succeeded in ")
    assert done.out.endswith(f"  steps     this was 1 of 3; for all of them: pytxmr wait {whole}\n")
    gate.open()
    gate.reached()
    gate.open()
    done = site.pytxmr("wait", whole)
    assert done.status == 0, done.err
    assert done.out.startswith("3 steps succeeded in ")
    assert lines(site) == RESULT
    assert "out.steps" not in site.listing()
    assert "lengths\t2\n" in site.pytxmr("counters", whole).out


@pytest.mark.daemons
def test_steps_that_are_queued_can_be_looked_at_and_killed(
    site: Site, cluster: Cluster, gate: Gate
) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", TEXT)
    source = """\
from pytxmr import pipeline

def stop(line):
    gate(DIRECTORY)
    return line

output = pipeline.input().map(stop).count().map(repr).count()
"""
    text = source.replace("DIRECTORY", repr(str(gate.directory)))
    job = site.write("job.py", Gate.SOURCE + text)
    before = site.listing()
    running = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out")
    gate.reached()
    shown = site.pytxmr("jobs").out
    first, last = re.findall(
        r"^(Job\d+) +(?:mapping|waiting) .*job\.py, step \d of 2 ", shown, re.M
    )
    logs = site.pytxmr("logs", last)
    assert (logs.status, logs.out) == (0, "")
    assert logs.err.endswith(f"which has logs of its own: pytxmr logs {first}\n")
    status = site.pytxmr("status", last).out
    assert status.startswith(
        f"{last} waiting  job.py, step 2 of 2\n  step 1 of 2: {first} mapping: "
    )
    killed = site.pytxmr("kill", last).out
    assert killed.startswith(f"{last} killed  job.py, step 2 of 2\n")
    assert site.pytxmr("destroy", last).status == 0
    assert running.ended() == 1
    assert running.err.endswith(f"pytxmr: {first} was killed: by `pytxmr kill`\n")
    assert site.listing() == before


@pytest.mark.daemons
def test_a_view_of_one_step_is_submitted_as_any_job(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", TEXT)
    source = "from pytxmr import pipeline\noutput = pipeline.input().flat_map(str.split).count()\n"
    job = site.write("job.py", source)
    done = site.pytxmr("submit", job, "in.txt", "--output", "out")
    assert done.status == 0, done.err
    assert site.pytxmr("wait", done.out.strip()).status == 0
    assert lines(site) == ["a\t3", "b\t1", "bb\t2", "ccc\t1"]


#: A join with a small view in a mapper, and one in a reducer.
LOOKING_UP = """\
import pytxmr
from pytxmr import pipeline

def named(line):
    pytxmr.counter("lengths")
    length, name = line.split()
    return int(length), name

names = pipeline.input("names").map(named)
words = pipeline.input().flat_map(str.split).key_by(len)
named = words.join(names, how="left", broadcast=True)
output = named.values().map(lambda both: len(both[0])).count().join(names, broadcast=True)
"""


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_a_small_view_is_looked_up_in_by_mappers_and_reducers(site: Site, runner: str) -> None:
    site.write("in.txt", TEXT)
    site.write("names.txt", NAMES)
    job = site.write("job.py", LOOKING_UP)
    before = site.listing()
    words = ["names=names.txt", "--output", "out", "--reducers", 2]
    done = site.pytxmr("run", job, "in.txt", *words, "--runner", runner)
    assert done.status == 0, done.err
    assert lines(site) == ['1\t[4, "one"]', '2\t[2, "two"]']
    assert re.search(r"^  counter +lengths: 2$", done.out, re.M)
    assert not any(path.startswith("out.steps") for path in site.listing() - before)


#: A sort of what a step has stored, by keys that have no order among themselves in Python.
SORTING = """\
from pytxmr import pipeline

def rank(pair):
    word, times = pair
    return times, None if word == "a" else word

output = pipeline.input().flat_map(str.split).count().sort_by(rank, reverse=True).keys()
"""


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_what_a_step_has_stored_is_sorted_over_all_parts(site: Site, runner: str) -> None:
    words = [f"{n:03}" for n in range(200)]
    site.write("in.txt", "a a a b b\n" + "".join(f"{word}\n" for word in words))
    job = site.write("job.py", SORTING)
    options = ["--output", "out", "--reducers", 3, "--runner", runner]
    done = site.pytxmr("run", job, "in.txt", *options)
    assert done.status == 0, done.err
    parts = [part.decode().split() for part in site.parts("out")]
    assert sum(parts, []) == ["a", "b", *reversed(words)]
    assert len(parts) == 3
    assert max(map(len, parts)) < 100
    planned = typed(site, "plan", job, "in.txt").out
    assert "  shuffles  by rank, largest first, in ranges\n" in planned
    assert "  reduces   sort_by(rank, reverse=True) → keys()\n" in planned


def test_the_plan_shows_what_is_looked_up_in_and_where_counters_count(site: Site) -> None:
    site.write("in.txt", TEXT)
    site.write("names.txt", NAMES)
    job = site.write(
        "job.py",
        """\
from pytxmr import pipeline

def pair(line):
    return len(line), line

names = pipeline.input("names").key_by(len)
pairs = pipeline.input().map(pair)
found = pairs.join(names, broadcast=True).map_values(str)
output = pairs.keys().count().join(found)
""",
    )
    planned = typed(site, "plan", job, "in.txt", "names=names.txt")
    assert planned.status == 0, planned.err
    assert planned.out.partition("\n\n")[2] == (
        "step 1 of 3\n"
        "  reads     in.txt: 1 file, 18 bytes\n"
        "  maps      map(pair) → keys()\n"
        "  shuffles  by element; folds.count beside the mapper\n"
        "  reduces   count()\n"
        "  writes    pairs.keys().count(), for step 3\n"
        "step 2 of 3\n"
        "  reads     names=names.txt: 1 file, 12 bytes\n"
        "  maps      key_by(len)\n"
        "  writes    names, for step 3\n"
        "step 3 of 3\n"
        "  reads     pairs.keys().count(), which step 1 has written\n"
        "  reads     in.txt: 1 file, 18 bytes\n"
        "  maps      map(pair) → join(broadcast=True) → map_values(str) = found; "
        "map(pair) counts in step 1\n"
        "  reads     all of names, which step 2 has written, in each worker\n"
        "  shuffles  by key\n"
        "  reduces   join()\n"
        "  writes    output, the result, as text\n"
    )


def test_a_view_that_is_too_large_to_be_looked_up_in_fails_the_job(site: Site) -> None:
    site.write("in.txt", "1 a\n")
    site.write("names.txt", "".join(f"{n} {n:090}\n" for n in range(20_000)))
    job = site.write("job.py", LOOKING_UP)
    before = site.listing()
    done = site.run(job, "in.txt", "names=names.txt", "--memory", "4MiB")
    assert done.status == 1
    assert re.search(
        r"step 2 of 2: Job002: Map001 failed once: names is too large for join\(broadcast=True\): "
        r"it needs about \d MiB in each worker, and may take 2 MiB, half of "
        r"--memory; give more, or leave out broadcast=True",
        done.err,
    ), done.err
    assert "Traceback" not in done.err
    assert site.listing() == before


@pytest.mark.daemons
def test_a_cluster_looks_up_in_small_views_and_sorts_over_all_parts(
    site: Site, cluster: Cluster
) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", TEXT)
    site.write("names.txt", NAMES)
    source = LOOKING_UP + "output = output.sort_by(lambda pair: pair[1][1], reverse=True)\n"
    job = site.write("job.py", source)
    words = ["in.txt", "names=names.txt", "--output", "out", "--reducers", 2]
    queued = site.pytxmr("submit", job, *words)
    done = site.pytxmr("wait", queued.out.strip())
    assert done.status == 0, done.err
    found = b"".join(site.parts("out")).decode().splitlines()
    assert found == ['2\t[2, "two"]', '1\t[4, "one"]']
    assert re.search(r"^  counter +lengths: 2$", done.out, re.M)
    first = site.write(
        "first.py", "from pytxmr import pipeline\noutput = pipeline.input().sort_by(len)\n"
    )
    done = site.pytxmr("submit", first, "in.txt", "--output", "sorted", "--reducers", 2)
    assert done.status == 0, done.err
    assert site.pytxmr("wait", done.out.strip()).status == 0
    assert b"".join(site.parts("sorted")).decode().splitlines() == ["a b", "bb a", "ccc bb a"]
