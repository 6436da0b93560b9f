"""Every example, and each thing that the pages say a job may do, as jobs that run in a second.

As a program, `features.py DIRECTORY EXAMPLES`, it runs all of them in its own process, and then on
the cluster that the environment names; the examples on an embedded cluster as well. What they put
out is in ``DIRECTORY/inline/NAME``, ``DIRECTORY/daemons/NAME`` and ``DIRECTORY/embedded/NAME``, and
their own counters are in ``DIRECTORY/counters.json``.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Of every feature: the job, its inputs, and what else `JobOptions` has.
Feature = dict[str, Any]


def example(name: str, *inputs: str, **options: Any) -> Feature:
    paths = tuple(f"EXAMPLES/data/{path}" for path in inputs)
    return {"job": f"EXAMPLES/{name}.py", "inputs": paths, **options}


def own(source: str, *inputs: str, class_name: str = "", **options: Any) -> Feature:
    """A job whose source stands here; it reads ``words.txt`` unless other inputs are named."""
    return {
        "source": source,
        "class": class_name,
        "inputs": inputs or ("words.txt",),
        **options,
    }


WORDS = """
def mapper(key, value):
    for word in value.split():
        yield word, 1
"""
COUNT = f"""{WORDS}
def reducer(key, values):
    yield key, sum(values)
"""
PAIRS = """
def mapper(key, value):
    yield key, value
"""
KINDS = """
import datetime, decimal, uuid
from dataclasses import dataclass

@dataclass(frozen=True)
class Point:
    x: int
    y: tuple

codecs = [Point]

def mapper(key, value):
    day = datetime.date(2024, 2, 29)
    for word in value.split():
        yield (word, None), 2**100
        yield b"bytes", {1, 2}
        yield day, [Point(1, (2, "x")), decimal.Decimal("1.50"), 1j]
        yield -(2**80), uuid.UUID(int=7)
        yield "\\udcff", {"a": (None, True)}

def reducer(key, values):
    for value in values:
        yield repr(key), repr(value)
"""

FEATURES: dict[str, Feature] = {
    # every example
    "by frequency": example("by_frequency", "notices.txt"),
    "grep": example("grep", "access.log", params={"pattern": "GET"}),
    "harbour": example("harbour", "ships.tsv", "calls.tsv"),
    "inverted index": example("inverted_index", "documents.tsv"),
    "join": example("join", "ships.tsv", "calls.tsv"),
    "a round of kmeans": example(
        "kmeans", "points.csv", class_name="Round", params={"centres": "[[0, 0], [5, 5]]"}
    ),
    "log join": example("log_join", "access.log", "errors.log"),
    "near duplicates": example("near_duplicates", "notices.txt"),
    "ngrams": example("ngrams", "notices.txt", params={"least": "2"}),
    "the first round of pagerank": example("pagerank", "graph.tsv", class_name="Graph"),
    "reverse links": example("reverse_links", "links.tsv"),
    "sessions": example("sessions", "access.log"),
    "sort": example("sort", "unsorted.txt"),
    "sort batch": example("sort_batch", "unsorted.txt"),
    "term vector": example("term_vector", "pages.tsv"),
    "tf idf": example("tf_idf", "documents.tsv", split_bytes=None),
    "top words": example("top_words", "notices.txt"),
    "traffic": {
        **example("traffic", "access.log"),
        "inputs": ("EXAMPLES/data/access.log", "hosts=EXAMPLES/data/hosts.tsv"),
    },
    "url frequency": example("url_frequency", "access.log"),
    "wordcount": example("wordcount", "notices.txt"),
    "wordcount batch": example("wordcount_batch", "notices.txt"),
    # ways to write a job
    "class, its attributes, and hooks": own(
        """
from collections import Counter
import pytxmr

class Job(pytxmr.MapReduce):
    params = {"least": 1}
    reducers = 3

    def map_init(self):
        self.counts = Counter()

    def map(self, key, value):
        self.counts.update(value.split())
        return ()

    def map_final(self):
        yield from self.counts.items()

    def reduce_init(self):
        self.keys = 0

    def reduce(self, key, values):
        self.keys += 1
        total = sum(values)
        if total >= self.params["least"]:
            yield key, total

    def reduce_final(self):
        yield "~", self.keys
""",
        class_name="Job",
        reducers=None,
        params={"least": "3"},
    ),
    "partitioner": own(f"{COUNT}\ndef partitioner(key, n): return len(key) % n\n"),
    "reader and writer": own(
        """
def mapper(key, value):
    yield value, key

def reader(lines):
    for number, (offset, line) in enumerate(lines):
        yield offset, line[::-1]

def writer(pairs):
    for key, value in pairs:
        yield key + b"|%d;" % value
""",
        reducers=0,
    ),
    "other names, and what is printed": own(
        "import logging\nprint('at the top', end='')\nlogging.error('x')\n"
        + COUNT.replace("mapper", "words").replace("reducer", "total"),
        names={"mapper": "words", "reducer": "total", "combiner": "total"},
        reducers=2,
    ),
    "fold, and compressed spills": own(
        f"from pytxmr import folds\n{WORDS}\nreducer = folds.sum\n", codec="lz4"
    ),
    "top of a fold, in little memory": own(
        "from pytxmr import folds\n"
        "def mapper(key, value):\n    yield len(value), value\nreducer = folds.top(2)\n",
        memory_bytes=8 << 20,
    ),
    "identity, in ranges of keys": own(
        f"import pytxmr\n{WORDS}\nreducer = pytxmr.identity\n"
        "partitioner = pytxmr.RangePartitioner()\n"
    ),
    "batch": own(
        """
import pytxmr

@pytxmr.batch("lines")
def mapper(offset, lines):
    yield pytxmr.columns(" ".join(lines).split())

@pytxmr.batch
def reducer(groups):
    yield pytxmr.columns(groups.keys, list(map(len, groups.lists())))
"""
    ),
    "batch of records": own(
        """
import pytxmr
from pytxmr import folds, readers, writers

reader = readers.csv(delimiter=" ")
outputs = {"short": writers.json}

@pytxmr.batch("records")
def mapper(keys, rows):
    for row in rows:
        yield pytxmr.columns(row, [1] * len(row))

@pytxmr.batch
def reducer(groups):
    for key, values in groups:
        yield (key, sum(values)) if len(key) > 3 else pytxmr.to("short", key, sum(values))
"""
    ),
    "outputs by name of a job without a reducer": own(
        """
import pytxmr

class Sorted(pytxmr.MapReduce):
    outputs = ("even", "odd")

    def map(self, key, value):
        yield pytxmr.to("odd" if len(value) % 2 else "even", None, value)
        yield key, len(value)
""",
        class_name="Sorted",
        reducers=0,
        compress="gzip",
    ),
    "parameters": own(
        "import pytxmr\n"
        "params = {'n': 1, 'f': 0.5, 'b': False, 'l': [1], 't': (1, 2), 'd': {'a': 1}, 'x': None}\n"
        "def mapper(key, value):\n    yield key, repr(sorted(pytxmr.params.items()))\n",
        params={"n": "7", "b": "true", "t": "(3,)", "x": "text"},
    ),
    "counters and status": own(
        f"import pytxmr\n{COUNT}\n"
        "def combiner(key, values):\n    pytxmr.status(key)\n    yield key, sum(values)\n"
        "def reader(lines):\n    for line in lines:\n        pytxmr.counter('read')\n"
        "        yield line[0], line[1].decode()\n"
    ),
    "values of many kinds": own(KINDS),
    "pickle": own(
        "serializer = 'pickle'\n"
        "class Thing:\n    def __init__(self, n):\n        self.n = n\n"
        "def mapper(key, value):\n    yield value, Thing(len(value))\n"
        "def reducer(key, values):\n    yield key, [thing.n for thing in values]\n"
    ),
    # what travels with it
    "modules, side file and archive": own(
        """
import given
import pytxmr
from beside import cut
from package.inner import one

def mapper(key, value):
    with open(pytxmr.side_file("stop")) as file:
        stop = file.read().split()
    with open(pytxmr.side_file("lists") + "/more.txt") as file:
        stop += file.read().split()
    for word in cut(value):
        if word not in stop:
            yield word + given.NAME, one()

def reducer(key, values):
    yield key, sum(values)
""",
        py_files=("elsewhere/given.py",),
        files=("stop.txt#stop",),
        archives=("lists.zip#lists",),
    ),
    # what is read and written
    "results that are kept": own(COUNT, reuse=True),
    "kept results of another run": own(COUNT, reuse_dir="kept"),
    "compressed input and output": own(COUNT, "words.gz", "words.bz2", "words.xz", compress="gzip"),
    "directory, glob and names in a file": own(COUNT, "in", "i*/*.txt", "@names.txt"),
    "empty input": own(COUNT, "empty.txt"),
    "json": own(PAIRS, "rows.json", names={"reader": "json", "writer": "json"}),
    "csv": own(PAIRS, "plain.csv", names={"reader": "csv(header=True)", "writer": "json"}),
    "csv of fields with line ends": own(
        PAIRS,
        "rows.csv",
        names={"reader": "csv(header=True, lists=True, multiline=True)", "writer": "csv"},
    ),
    "tsv to values": own(PAIRS, "pairs.tsv", names={"reader": "tsv", "writer": "values"}),
    "pairs to tsv": own(PAIRS, "pairs.tsv", names={"reader": "pairs", "writer": "tsv"}),
    "bytes": own(PAIRS, "bytes.txt", names={"reader": "bytes"}),
    "delimited": own(PAIRS, names={"reader": "delimited(' ')"}),
    "fixed": own(PAIRS, "bytes.txt", names={"reader": "fixed(4)"}),
    "whole files": own(
        "import os\ndef mapper(key, value):\n    yield os.path.basename(key), len(value)\n",
        "in",
        names={"reader": "whole"},
    ),
    "msgpack": own(COUNT, names={"writer": "msgpack"}),
    "parquet": own(
        "def mapper(key, value):\n    yield None, {'n': len(value), 'text': value}\n",
        names={"writer": "parquet"},
    ),
    "bad records": own(
        "def mapper(key, value):\n    yield value.split()[2], 1\n", skip_bad_records=50
    ),
    # several steps
    "steps of a class": own(
        """
import pytxmr
from pytxmr import Step

class Job(pytxmr.MapReduce):
    def steps(self):
        return [
            Step(mapper=self.words, reducer=self.add),
            Step(mapper=self.by_count, reducer=self.listed),
        ]

    def words(self, key, value):
        for word in value.split():
            yield word, 1

    def add(self, key, values):
        yield key, sum(values)

    def by_count(self, word, count):
        yield count, word

    def listed(self, count, words):
        yield count, sorted(words)
""",
        class_name="Job",
    ),
    "views": own(
        """
from pytxmr import folds, pipeline

lines = pipeline.input("lines")
other = pipeline.input("other")
words = lines.flat_map(str.split).filter(str.isalpha)
counts = words.count()
longest = words.key_by(len).group(sort_by=str)
far = words.distinct().sample(0.5, seed=3).key_by(len).map_values(str.upper)
seen = other.flat_map(str.split).map(lambda word: (word, len(word))).reduce_by_key(folds.max)
joined = counts.join(seen, how="outer").union(counts.cogroup(seen))
output = joined.union(far, longest.stored()).map(repr).top(500)
""",
        "lines=words.txt",
        "other=in",
    ),
}

OF_EXAMPLES = [name for name, feature in FEATURES.items() if "source" not in feature]


def write_inputs(directory: Path) -> None:
    """All that the features read."""
    text = "".join(
        f"w{n % 7} word{n % 11} é{n % 3}\n" if n % 9 else f"lone{n}\n" for n in range(300)
    )
    files: dict[str, str | bytes] = {
        "words.txt": text,
        "words.gz": gzip.compress(text.encode(), mtime=0),
        "words.bz2": bz2.compress(text.encode()),
        "words.xz": lzma.compress(text.encode()),
        "bytes.txt": b"\xff\xfe\r\nb\r\n\r\nend",
        "empty.txt": "",
        "names.txt": "# names\nin/a.txt\n\nwords.txt\n",
        "in/a.txt": "a b\n",
        "in/b.txt": "b c",
        "in/_not.txt": "not this\n",
        "rows.json": '{"a": 1}\n[1, "é", null]\n"x"\n',
        "plain.csv": "name,n\nada,1\nbob,2\n",
        "rows.csv": 'name,n\nada,1\n"b, ""c""",2\n',
        "pairs.tsv": "a\t1\nb\t2\tx\n",
        "stop.txt": "w1 w2\n",
        "elsewhere/given.py": "NAME = 'given'\n",
        "beside.py": "def cut(text):\n    return text.split()\n",
        "package/__init__.py": "",
        "package/inner.py": "from . import other\ndef one():\n    return other.ONE\n",
        "package/other.py": "ONE = 1\n",
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with zipfile.ZipFile(directory / "lists.zip", "w") as archive:
        archive.writestr("more.txt", "w3\n")
    for number, feature in enumerate(FEATURES.values()):
        if "source" in feature:
            (directory / f"job{number}.py").write_text(feature["source"])


def specs_of(name: str, where: str, examples: str) -> list[Any]:
    """The jobs of a feature, one for each step."""
    from pytxmr.client import JobOptions, make_specs

    feature = dict(FEATURES[name])
    number = list(FEATURES).index(name)
    job = f"job{number}.py" if feature.pop("source", "") else feature.pop("job")
    class_name = feature.pop("class", "") or feature.pop("class_name", "")
    inputs = tuple(path.replace("EXAMPLES", examples) for path in feature.pop("inputs"))
    has_reducer = "reducer" in FEATURES[name].get("source", "reducer") or class_name
    # A worker process for each is most of what this takes: few need several.
    source = FEATURES[name].get("source", "")
    few = bool(source) and "artitioner" not in source
    several = None if few else 2500
    reducers = (1 if few else 2) if has_reducer else None
    plain: dict[str, Any] = {"reducers": reducers, "split_bytes": several}
    path = job.replace("EXAMPLES", examples) + (f":{class_name}" if class_name else "")
    return make_specs(JobOptions(path, inputs, f"{where}/{name}", **(plain | feature)))


def run_inline(examples: str) -> dict[str, Any]:
    """Run everything here; the jobs' own counters, by feature."""
    from pytxmr.runners import inline
    from pytxmr.steps import remove_stored

    found = {}
    for name in FEATURES:
        specs = specs_of(name, "inline", examples)
        totals = inline.run_all(specs)["counters"]
        found[name] = {key: n for key, n in totals.items() if key.startswith("job: ")}
        if len(specs) > 1:
            remove_stored(specs)
    return found


async def run_by(client: Any, where: str, names: Iterable[str], examples: str) -> dict[str, Any]:
    """The same on a cluster, all at once, but for the steps of a job."""
    from twisted.internet.defer import Deferred, gatherResults

    from pytxmr.steps import remove_stored

    async def run(name: str, specs: list[Any]) -> tuple[str, dict[str, int]]:
        counters: Counter[str] = Counter()
        for spec in specs:
            counters.update((await client.run(spec)).counters)
        if len(specs) > 1:
            remove_stored(specs)
        return name, {f"job: {key}": n for key, n in counters.items()}

    jobs = [(name, specs_of(name, where, examples)) for name in names]
    return dict(await gatherResults([Deferred.fromCoroutine(run(*job)) for job in jobs]))


async def run_on_daemons(reactor: Any, examples: str) -> dict[str, Any]:
    """On the cluster that the environment names."""
    from pytxmr.client import Client
    from pytxmr.net.secret import read_secret

    secret = read_secret(os.environ["PYTXMR_SECRET_FILE"])
    client = await Client.connect(reactor, os.environ["PYTXMR_JOBTRACKER"], secret)
    found = await run_by(client, "daemons", FEATURES, examples)
    client.disconnect()
    return found


async def run_embedded(reactor: Any, examples: str) -> dict[str, Any]:
    """The examples, on a cluster in this process."""
    from pytxmr.runners.local import LocalCluster

    async with LocalCluster(reactor, 2) as client:
        return await run_by(client, "embedded", OF_EXAMPLES, examples)


async def main(reactor: Any, examples: str) -> None:
    counters = {
        "inline": run_inline(examples),
        "daemons": await run_on_daemons(reactor, examples),
        "embedded": await run_embedded(reactor, examples),
    }
    Path("counters.json").write_text(json.dumps(counters))


if __name__ == "__main__":
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    os.chdir(sys.argv[1])
    write_inputs(Path())
    react(lambda reactor: ensureDeferred(main(reactor, sys.argv[2])))
