"""Jobs on Spark, in an application that a file of tests shares, and what they leave."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import features
import pytest
from processes import EXAMPLES, Gate, word_counts

from pytxmr.client import JobOptions, make_specs
from pytxmr.model import MAPS_REUSED, REDUCES_REUSED
from pytxmr.runners import inline, spark
from pytxmr.steps import remove_stored

#: To start Java, and Spark in it, takes seconds.
SPARK_SECONDS = 150.0
#: Spark's tasks run the worker's code: what only that heeds, and what `test_spark` looks at by
#: itself, is left out.
ON_SPARK = (
    *features.OF_EXAMPLES,
    "class, its attributes, and hooks",
    "partitioner",
    "fold, and compressed spills",
    "identity, in ranges of keys",
    "batch of records",
    "outputs by name of a job without a reducer",
    "counters and status",
    "pickle",
    "modules, side file and archive",
    "results that are kept",
    "kept results of another run",
    "compressed input and output",
    "empty input",
    "parquet",
    "steps of a class",
    "views",
)

#: Each process that reduces waits once, when all is mapped.
_MAPPED = """
waited = []

def mapper(key, value):
    for word in value.lower().split():
        yield word, 1

def reducer(key, values):
    if not waited:
        waited.append(True)
        gate({gate!r})
    yield key, sum(values)
"""

#: Each record waits to be let on.
GATED = """
def mapper(key, value):
    gate({gate!r})
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""

#: Of lines that are numbers. What is none is a bad record, and so is 13, at which processes die.
BAD_LINES = """
import os
import pytxmr

def mapper(key, value):
    pytxmr.counter("seen")
    number = int(value)
    if number == 13:
        os._exit(1)
    yield number % 3, number

def reducer(key, values):
    yield key, sum(values)
"""


def need_spark() -> None:
    """Skip a file of tests where there is no Spark. Where changes are checked before they are
    taken, there has to be."""
    if os.environ.get("CI") != "true" and not (find_spec("pyspark") and shutil.which("java")):
        pytest.skip(
            "tests on Spark need Java 17 and PySpark: pip install 'pytxmr[spark]'",
            allow_module_level=True,
        )


def specs_of(job: Any, inputs: list[Any], output: Path, **options: Any):
    options.setdefault("reducers", 3)
    return make_specs(JobOptions(str(job), tuple(map(str, inputs)), str(output), **options))


def on_spark(context: Any, specs: Any, told: Any = lambda status: None) -> dict[str, Any]:
    return inline.run_all(
        specs, told, lambda spec, told, number: spark.run(context, spec, told, number)
    )


def left_in(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def assert_outlived(context: Any, directory: Path, kill: Callable[[], None]) -> None:
    """Of a job's two reducers, one's executor is killed, with what that has mapped, while both
    reduce."""
    gate = Gate(directory / "gate")
    text = (EXAMPLES / "data" / "documents.tsv").read_bytes()
    (directory / "in.txt").write_bytes(text)
    job = directory / "job.py"
    job.write_text(Gate.SOURCE + _MAPPED.format(gate=str(gate.directory)))
    specs = specs_of(job, [directory / "in.txt"], directory / "out", reducers=2, split_bytes=400)

    def kill_when_mapped() -> None:
        for _ in range(2):
            gate.reached(SPARK_SECONDS)
        kill()
        for _ in range(4):
            gate.open()

    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(kill_when_mapped)
        status = on_spark(context, specs)
    killing.result()
    # What ran again counts once, and is told.
    assert status["counters"]["map input records"] == text.count(b"\n")
    assert status["failures"] > 0
    assert sum(status["phase_seconds"].values()) == pytest.approx(status["seconds"])
    parts = [(directory / "out" / f"part-0000{n}").read_bytes() for n in range(2)]
    assert word_counts(parts) == Counter(text.decode().lower().split())
    gate.close()


class Features:
    """Features in a directory with their inputs, and what each leaves when run in this process."""

    def left(self, name: str) -> dict[str, bytes]:
        output = Path("inline") / name
        if not output.exists():
            specs = features.specs_of(name, "inline", str(EXAMPLES))
            inline.run_all(specs)
            _remove_stored(specs)
        found = left_in(output)
        assert any(data for file, data in found.items() if file.startswith("part-")) or (
            name == "empty input"
        )
        return found

    def assert_left_on_spark(self, name: str, context: Any) -> None:
        there = self.left(name)
        specs = features.specs_of(name, "spark", str(EXAMPLES))
        on_spark(context, specs)
        _remove_stored(specs)
        left = left_in(Path("spark") / name)
        if left != there:  # but for what is reused of the run in this process, if it is kept
            assert {MAPS_REUSED, REDUCES_REUSED} & json.loads(left["_SUCCESS"])["counters"].keys()
            assert _without_reused(left) == _without_reused(there)


@contextmanager
def in_directory(directory: Path) -> Iterator[Features]:
    """Features, with that as the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        features.write_inputs(Path())
        yield Features()


def _remove_stored(specs: Any) -> None:
    if len(specs) > 1:
        remove_stored(specs)


def _without_reused(found: dict[str, bytes]) -> dict[str, Any]:
    """The same without the counters of what was done before."""
    manifest = json.loads(found["_SUCCESS"])
    for name in (MAPS_REUSED, REDUCES_REUSED):
        manifest["counters"].pop(name, None)
    return found | {"_SUCCESS": manifest}
