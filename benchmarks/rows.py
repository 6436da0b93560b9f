"""The table: what is measured, against what, and where it must stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import faults, figures
from benchmarks.bench import PEERS, WORKERS, Bench
from benchmarks.environments import ALONE, BEFORE_FAULTS, ON_SPARK, UNCOMPILED
from benchmarks.inputs import Inputs, warm
from benchmarks.measure import Command, Digest, Measured, any_order, in_order, race

MANY_LINES = 2_000_000
WORDS = "word count of 200 MB"
SORT = "sort of 2 M lines"
INDEX = "inverted index of 50 MB"
ON_THREE = f"{WORDS} on three trackers of one worker"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``target`` is what the figure may be at most; at least, if ``at_least``; None where the row is
    there to explain others. ``peer`` names the
    environment whose versions belong to the row, ``program`` a reference that comes with the
    system. No row is run more often than its ``most_runs``.
    """

    name: str
    work: str
    against: str
    measure: Callable[[Bench, int], Measured]
    target: float | None
    unit: str = "ratio"
    at_least: bool = False
    peer: str | None = None
    program: str | None = None
    most_runs: int | None = None

    def met(self, figure: float) -> bool:
        if self.target is None:
            return True
        return figure >= self.target if self.at_least else figure <= self.target


Side = Callable[[Bench], Command]


def racing(
    ours: Side, reference: Side, digest: Digest | None = any_order
) -> Callable[[Bench, int], Measured]:
    """Both sides by turns; whole commands, from start to written output."""

    def measure(bench: Bench, runs: int) -> Measured:
        sides = ours(bench), reference(bench)
        return race(bench.runner, *sides, runs, digest)

    return measure


# ---- our side


def wordcount(job: str) -> Side:
    def side(bench: Bench) -> Command:
        text = bench.inputs.text(200)
        warm(text)
        return bench.pytxmr(job, text)

    return side


def uncompiled(bench: Bench) -> Command:
    return wordcount("wordcount")(replace(bench, ours=UNCOMPILED))


def sort(job: str) -> Side:
    def side(bench: Bench) -> Command:
        lines = bench.inputs.lines(MANY_LINES)
        warm(lines)
        return bench.pytxmr(job, lines)

    return side


def index(bench: Bench) -> Command:
    text = bench.inputs.text(50)
    warm(text)
    return bench.pytxmr("index", text)


def join(bench: Bench) -> Command:
    relations = bench.inputs.relations()
    for relation in relations:
        warm(relation)
    return bench.pytxmr("join", *relations)


def small_job(bench: Bench) -> Command:
    return bench.pytxmr("wordcount", bench.inputs.small_text())


def small_files(bench: Bench) -> Command:
    files, _ = bench.inputs.small_files()
    warm(files)
    return bench.pytxmr("wordcount", files)


# ---- the others


def wordcount_loop(bench: Bench) -> Command:
    return bench.loop("wordcount", bench.inputs.text(200))


def wordcount_two_loops(bench: Bench) -> Command:
    return bench.loop("wordcount-twice", bench.inputs.text(200))


def sort_loop(bench: Bench) -> Command:
    return bench.loop("sort", bench.inputs.lines(MANY_LINES))


def index_loop(bench: Bench) -> Command:
    return bench.loop("index", bench.inputs.text(50))


def coreutils(bench: Bench) -> Command:
    output = bench.runner.path("reference")
    lines = bench.inputs.lines(MANY_LINES)
    words: list[str | Path] = ["sort", f"--parallel={WORKERS}", "-o", output, lines]
    return Command(words, output, {"LC_ALL": "C"})


PYSPARK_INPUTS: dict[str, Callable[[Inputs], tuple[Path, ...]]] = {
    "wordcount": lambda inputs: (inputs.text(200),),
    "sort": lambda inputs: (inputs.lines(MANY_LINES),),
    "index": lambda inputs: (inputs.text(50),),
    "join": lambda inputs: inputs.relations(),
}


def pyspark(work: str) -> Side:
    def side(bench: Bench) -> Command:
        python = bench.environments.python("pyspark")
        output = bench.runner.path("reference")
        sources = PYSPARK_INPUTS[work](bench.inputs)
        environment = {
            "PYSPARK_PYTHON": str(python),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(bench.runner.directory / "tmp"),
        }
        words: list[str | Path] = [python, PEERS / "with_pyspark.py", work, *sources, output]
        return Command(words, output, environment)

    return side


def on_spark(work: str) -> Side:
    """Our job of that name by the Spark runner, with all that `pyspark` has."""

    def side(bench: Bench) -> Command:
        python = bench.environments.python(ON_SPARK)
        sources = PYSPARK_INPUTS[work](bench.inputs)
        for source in sources:
            warm(source)
        output = bench.runner.path("ours")
        _, *words = bench.run_words(work, *sources, "--output", output, "--runner", "spark")
        words += ["--master", f"local[{WORKERS}]", "--reducers", str(WORKERS)]
        words += ["--spark-conf", "spark.driver.memory=4g"]
        environment = {"SPARK_LOCAL_DIRS": str(bench.runner.directory / "tmp")}
        return Command([python.with_name("pytxmr"), *words], output, environment)

    return side


def dampr(bench: Bench) -> Command:
    python = bench.environments.python("dampr")
    output = bench.runner.path("reference")
    scratch = bench.runner.directory / "tmp" / "dampr"
    words = [python, PEERS / "wordcount_dampr.py", bench.inputs.text(200), output, scratch]
    return Command(words, output)


def dask(work: str) -> Side:
    def side(bench: Bench) -> Command:
        python = bench.environments.python("dask")
        output = bench.runner.path("reference")
        source = bench.inputs.text(200)
        return Command([python, PEERS / "wordcount_dask.py", work, source, output], output)

    return side


def mrjob(bench: Bench) -> Command:
    python = bench.environments.python("mrjob")
    output = bench.runner.path("reference")
    program = PEERS / "wordcount_mrjob.py"
    words: list[str | Path] = [python, program, "-r", "local", "--num-cores", str(WORKERS)]
    return Command([*words, "--output-dir", output, bench.inputs.text(200)], output)


def polars(bench: Bench) -> Command:
    python = bench.environments.python("polars")
    output = bench.runner.path("reference")
    words = [python, PEERS / "wordcount_polars.py", bench.inputs.text(200), output]
    return Command(words, output, {"POLARS_MAX_THREADS": str(WORKERS)})


def bare_reactor(bench: Bench) -> Command:
    return Command([bench.python, "-c", "import twisted.internet.reactor"])


def one_file(bench: Bench) -> Command:
    _, file = bench.inputs.small_files()
    warm(file)
    return bench.pytxmr("wordcount", file, output="reference")


ROWS: tuple[Row, ...] = (
    Row(
        "wordcount-loop",
        f"{WORDS}: generator mapper, summing combiner",
        "the same mapper in a hand-written dict loop, one process",
        racing(wordcount("wordcount"), wordcount_loop),
        0.60,
    ),
    Row(
        "wordcount-uncompiled",
        "the same, pytxmr installed without a C compiler",
        "the same",
        racing(uncompiled, wordcount_loop),
        None,
        peer=UNCOMPILED,
    ),
    Row(
        "wordcount-two-loops",
        WORDS,
        "the same loop in two processes, half of the file each, and their dicts merged",
        racing(wordcount("wordcount"), wordcount_two_loops),
        None,
    ),
    Row(
        "word-cost",
        "a map attempt of word count, two at once, per word",
        "the loop, two at once, per word",
        figures.word_cost,
        None,
        most_runs=3,
    ),
    Row(
        "wordcount-pyspark",
        WORDS,
        "PySpark RDD `local[2]`: flatMap, reduceByKey, saveAsTextFile",
        racing(wordcount("wordcount"), pyspark("wordcount")),
        0.33,
        peer="pyspark",
    ),
    Row(
        "wordcount-dampr",
        WORDS,
        "Dampr, 2 processes: the same mapper, reduce",
        racing(wordcount("wordcount"), dampr),
        0.45,
        peer="dampr",
    ),
    Row(
        "wordcount-dask",
        WORDS,
        "Dask bag, 2 processes: the same mapper, flatten, foldby",
        racing(wordcount("wordcount"), dask("mapper")),
        0.13,
        peer="dask",
    ),
    Row(
        "wordcount-dask-frequencies",
        WORDS,
        "Dask bag, 2 processes: frequencies, which has no mapper and counts in C",
        racing(wordcount("wordcount"), dask("frequencies")),
        None,
        peer="dask",
    ),
    Row(
        "wordcount-mrjob",
        WORDS,
        "mrjob, local runner, 2 processes",
        racing(wordcount("wordcount"), mrjob),
        0.06,
        peer="mrjob",
    ),
    Row(
        "wordcount-own-combiner",
        f"{WORDS}, the combiner a user's generator",
        "hand-written dict loop",
        racing(wordcount("wordcount_own_combiner"), wordcount_loop),
        0.85,
    ),
    Row(
        "wordcount-batch",
        f"{WORDS} by a batch mapper",
        "Polars streaming, 2 threads",
        racing(wordcount("wordcount_batch"), polars),
        2.0,
        peer="polars",
    ),
    Row(
        "sort-python",
        SORT,
        "Python `readlines`, `sort`, `writelines`",
        racing(sort("sort"), sort_loop, in_order),
        1.6,
    ),
    Row(
        "sort-pyspark",
        SORT,
        "PySpark `sortByKey`",
        racing(sort("sort"), pyspark("sort"), in_order),
        0.25,
        peer="pyspark",
    ),
    Row(
        "sort-batch",
        f"{SORT} by the batch path",
        "`LC_ALL=C sort --parallel=2`",
        racing(sort("sort_batch"), coreutils, in_order),
        2.5,
        program="sort",
    ),
    Row(
        "index-loop",
        INDEX,
        "hand-written dict of lists",
        racing(index, index_loop),
        0.80,
    ),
    Row(
        "index-pyspark",
        INDEX,
        "PySpark `groupByKey`",
        racing(index, pyspark("index")),
        0.35,
        peer="pyspark",
    ),
    Row(
        "codec-lz4",
        f"{INDEX} with `--codec lz4`",
        "the same with `--codec none`",
        figures.codec("lz4"),
        None,
    ),
    Row(
        "codec-zstd",
        f"{INDEX} with `--codec zstd`",
        "the same with `--codec none`",
        figures.codec("zstd"),
        None,
    ),
    Row(
        "join-pyspark",
        "join of two 100 MB relations on a key",
        "PySpark `join`",
        racing(join, pyspark("join")),
        0.33,
        peer="pyspark",
    ),
    Row(
        "on-spark-wordcount",
        f"{WORDS} by the Spark runner",
        "PySpark by hand: flatMap, reduceByKey",
        racing(on_spark("wordcount"), pyspark("wordcount")),
        1.15,
        peer="pyspark",
    ),
    Row(
        "on-spark-sort",
        f"{SORT} by the Spark runner",
        "PySpark by hand: `sortByKey`",
        racing(on_spark("sort"), pyspark("sort"), in_order),
        1.15,
        peer="pyspark",
    ),
    Row(
        "on-spark-index",
        f"{INDEX} by the Spark runner",
        "PySpark by hand: `groupByKey`",
        racing(on_spark("index"), pyspark("index")),
        1.15,
        peer="pyspark",
    ),
    Row(
        "on-spark-join",
        "join of two 100 MB relations by the Spark runner",
        "PySpark by hand: `join`",
        racing(on_spark("join"), pyspark("join")),
        1.15,
        peer="pyspark",
    ),
    Row(
        "small-job",
        "a 1 KB job, whole command",
        '`python -c "import twisted.internet.reactor"`',
        racing(small_job, bare_reactor, None),
        4,
    ),
    Row(
        "standing-cluster",
        "a 1 KB job on a standing cluster, submit to result",
        "one round trip of `ping`",
        figures.standing_cluster,
        0.15,
        unit="s",
    ),
    Row(
        "empty-maps",
        "2,000 empty map tasks on the embedded cluster",
        "",
        figures.empty_maps,
        400,
        unit="tasks/s",
        at_least=True,
    ),
    Row(
        "small-files",
        "word count of 10,000 files of 1 KB",
        "one file of 10 MB",
        racing(small_files, one_file),
        2.0,
    ),
    Row(
        "shuffle",
        "shuffle between two trackers over loopback, per byte",
        "a bare Twisted producer sending the same file",
        figures.shuffle,
        1.4,
    ),
    Row(
        "shuffle-sizes",
        "the same with its own sizes of chunks, reads and socket buffers",
        "the best of other sizes, each changed alone",
        figures.shuffle_sizes,
        None,
    ),
    Row(
        "flat-cost",
        "word count of 400 MB and 2 GB: cost per record",
        "that at 100 MB",
        figures.flat_cost,
        15,
        unit="% more",
        most_runs=1,
    ),
    Row(
        "memory-2gb",
        "sort of 2 GB on two trackers, half of it fetched, `--memory 128M`: largest process",
        "",
        figures.memory_of_shuffle,
        256,
        unit="MiB",
        most_runs=1,
    ),
    Row(
        "tracker-answers",
        "the same sort: slowest answer of a tracker that serves, fetches, and has attempts running",
        "",
        figures.answers_of_trackers,
        100,
        unit="ms",
        most_runs=1,
    ),
    Row(
        "memory-one-key",
        "one key with 20 M values, `--memory 128M`: largest process",
        "",
        figures.memory_of_one_key,
        256,
        unit="MiB",
        most_runs=1,
    ),
    Row(
        "install-size",
        "what `pip install` of pytxmr brings, without extras",
        "",
        figures.installed_size,
        60,
        unit="MB",
        peer=ALONE,
        most_runs=1,
    ),
    Row(
        "faults-killed-tracker",
        f"{ON_THREE}, one killed when half of the time has passed",
        "the same undisturbed",
        faults.disturbed(faults.killed_tracker),
        1.6,
    ),
    Row(
        "faults-jobtracker",
        f"{ON_THREE}, the jobtracker killed at half, and started again",
        "the same undisturbed",
        faults.disturbed(faults.restarted_jobtracker),
        1.2,
    ),
    Row(
        "faults-straggler",
        f"{ON_THREE}, one slowed tenfold",
        "the same undisturbed",
        faults.disturbed(faults.slow_tracker),
        1.4,
    ),
    Row(
        "faults-no-backups",
        f"{ON_THREE}, one slowed tenfold, with `--no-speculation`",
        "the same undisturbed",
        faults.disturbed(faults.slow_tracker, "--no-speculation"),
        None,
    ),
    Row(
        "faults-cost-cluster",
        f"{ON_THREE}, undisturbed",
        "pytxmr before it survived faults",
        faults.undisturbed(on_cluster=True),
        1.03,
        peer=BEFORE_FAULTS,
    ),
    Row(
        "faults-cost",
        f"{WORDS}, undisturbed",
        "pytxmr before it survived faults",
        faults.undisturbed(on_cluster=False),
        1.03,
        peer=BEFORE_FAULTS,
    ),
)
